//! [`MountGuard`]: keeps a source accident from emptying a remote.
//!
//! A file that is missing here may have been removed, or it is on a file system that is not mounted. So:
//!
//! 1. For each remote the agent remembers which file systems the root was made of when the remote was last equal to it
//!    (`mirrored`), over restarts too (`memory`). Where another file system is, or none, nothing is deleted on the remote,
//!    neither by comparison nor by name.
//! 2. A comparison that follows from no change that was seen (at start, after an overflow, by the clock, of a root that
//!    is another directory, on request) counts what it would delete. Few deletions are made by a second run; too many
//!    ([`Excess`]) are withheld.
//! 3. Paths that were seen to be removed are removed on the remote, up to the limit that the config may set.
//!
//! New and changed files are always sent. Withheld deletions are made when a caller accepts them, and are forgotten when
//! a comparison finds nothing to delete.

use super::engine::Engine;
use super::memory::Remembered;
use crate::file_system::Shape;
use crate::human;
use crate::message_ids;
use crate::path::RelPath;
use crate::pending::{Kind, Purge};
use crate::time;
use crate::transport::{Excess, Outcome, SAMPLE, Spared};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Period in which the config limits the number of removed paths.
const PERIOD: Duration = Duration::from_secs(60);

/// A run that was granted deletions may make this number in any case: what it finds may have changed a little.
const GRANTED_AT_LEAST: u64 = 1_000;

/// Maximum number of comparisons whose withheld deletions are remembered one by one.
const RECORDS_AT_MOST: usize = 1_000;

/// Why deletions are withheld.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// This directory is on another file system than the remote mirrors.
    NotMounted(RelPath),
    /// Nothing that the remote has is here.
    Everything,
    /// They are this percentage of what the remote has.
    Percent(u64),
    /// The config allows only this number of removed paths in a minute.
    OverLimit(u64),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotMounted(point) if point.is_root() => f.write_str("the root is another file system"),
            Self::NotMounted(point) => write!(f, "the file system of {} is not mounted", point.display()),
            Self::Everything => f.write_str("would delete everything"),
            Self::Percent(percent) => write!(f, "would delete {percent} % of what it has"),
            Self::OverLimit(most) => write!(f, "more than {most} paths were removed within a minute"),
        }
    }
}

/// Deletions that one comparison left out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    count: u64,
    why: Why,
    sample: Vec<RelPath>,
}

/// What becomes of a comparison that left deletions out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is complete.
    Complete,
    /// It is to be made again with these deletions allowed.
    Again(Purge),
    /// It is complete but for deletions that are withheld.
    Withheld,
}

/// Keeps a source accident from emptying one remote.
#[derive(Debug, Default)]
pub struct MountGuard {
    /// The file systems that the remote mirrors.
    mirrored: Option<Shape>,
    /// The file systems of the root now.
    present: Option<Shape>,
    /// Directories that are on another file system than the remote mirrors.
    keep: Vec<RelPath>,
    /// Mount points that are mirrored as they are now, with their devices.
    mounts: Arc<BTreeMap<RelPath, u64>>,
    /// Number of entries that the remote has.
    entries: Option<u64>,
    /// Maximum number of deletions in a run that makes those which an earlier one has counted.
    granted: u64,
    /// By the directory that was compared.
    records: BTreeMap<RelPath, Record>,
    /// Removed paths that were spared.
    spared: Option<Record>,
    /// Numbers of paths that were removed or spared in the last minute, and when.
    removed: VecDeque<(Instant, u64)>,
    /// An earlier process has left deletions out.
    was_withholding: bool,
    /// The file systems were not known yet in the life of this process.
    is_new: bool,
    /// What is to be remembered may have changed.
    is_changed: bool,
}

impl MountGuard {
    /// With what an earlier process remembered.
    pub fn new(remembered: Option<Remembered>) -> Self {
        let remembered = remembered.unwrap_or_default();
        Self {
            mirrored: remembered.shape,
            entries: remembered.entries,
            was_withholding: remembered.is_withholding,
            is_new: true,
            is_changed: true,
            ..Self::default()
        }
    }

    /// Whether what is to be remembered may have changed since the last call.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// The root is not there.
    pub fn root_lost(&mut self) {
        self.present = None;
    }

    /// Whether the root is another directory than before.
    fn is_another(&self, shape: &Shape) -> bool {
        let same = |present: &Shape| {
            present.inode == shape.inode && present.file_system.device() == shape.file_system.device()
        };
        !self.present.as_ref().is_some_and(same)
    }

    /// What the next process has to know.
    pub fn to_remember(&self) -> Remembered {
        let is_withholding = self.was_withholding || self.is_withholding();
        Remembered { shape: self.mirrored.clone(), entries: self.entries, is_withholding }
    }

    /// The root is made of these file systems now. Returns whether it has to be compared, since deletions may be due that
    /// were withheld by an earlier process.
    pub fn mounted(&mut self, shape: &Shape) -> bool {
        self.present = Some(shape.clone());
        self.is_changed = true;
        match &mut self.mirrored {
            None => self.mirrored = Some(shape.clone()),
            Some(mirrored) if mirrored.file_system.is(&shape.file_system) => {
                // What was not mounted before is mirrored from now on.
                for (point, file_system) in &shape.below {
                    mirrored.below.entry(point.clone()).or_insert_with(|| file_system.clone());
                }
            }
            Some(_) => {}
        }
        self.review();
        std::mem::take(&mut self.is_new) && (self.was_withholding || !self.keep.is_empty())
    }

    fn review(&mut self) {
        let (Some(present), Some(mirrored)) = (&self.present, &self.mirrored) else { return };
        self.keep = present.differs_at(mirrored);
        let is_kept = |point: &RelPath| self.keep.iter().any(|kept| kept.is_root() || kept == point);
        let mounts = present.below.iter().filter(|(point, _)| mirrored.below.contains_key(*point) && !is_kept(point));
        self.mounts = Arc::new(mounts.map(|(point, found)| (point.clone(), found.device())).collect());
    }

    /// Directories of which nothing is deleted.
    pub fn keep(&self) -> &[RelPath] {
        &self.keep
    }

    /// Mount points and the devices that have to be there.
    pub fn mounts(&self) -> Arc<BTreeMap<RelPath, u64>> {
        self.mounts.clone()
    }

    /// Number of entries that the remote has.
    pub fn entries(&self) -> Option<u64> {
        self.entries
    }

    /// Maximum number of entries that a comparison may delete which was reported with `purge`.
    pub fn compared_at_most(&self, purge: Purge) -> Option<u64> {
        match purge {
            Purge::Seen | Purge::Accepted => None,
            Purge::Granted => Some(self.granted),
            Purge::Counted => Some(0),
        }
    }

    /// Number of paths that may still be removed within this minute, if `limit` is the maximum for one.
    pub fn missing_at_most(&mut self, limit: u64, now: Instant) -> u64 {
        while self.removed.front().is_some_and(|(at, _)| now.duration_since(*at) > PERIOD) {
            self.removed.pop_front();
        }
        limit.saturating_sub(self.removed.iter().map(|(_, count)| count).sum())
    }

    /// Takes in what a run spared; `limit` is that of the config.
    fn note_spared(&mut self, spared: &Spared, limit: Option<u64>, now: Instant) -> Option<Why> {
        // Spared ones count too: the removal of their directory may come in a batch of its own.
        let removed = spared.deleted.saturating_add(spared.over_limit);
        if removed > 0 {
            self.removed.push_back((now, removed));
        }
        let why = match (spared.not_mounted, spared.over_limit) {
            (0, 0) => return None,
            (0, _) => Why::OverLimit(limit.unwrap_or(0)),
            _ => Why::NotMounted(self.kept_among(&spared.sample)),
        };
        self.is_changed = true;
        let empty = || Record { count: 0, why: why.clone(), sample: Vec::new() };
        let record = self.spared.get_or_insert_with(empty);
        let is_news = record.count == 0;
        record.count = record.count.saturating_add(spared.not_mounted).saturating_add(spared.over_limit);
        record.sample.extend(spared.sample.iter().cloned());
        record.sample.truncate(SAMPLE);
        is_news.then_some(why)
    }

    /// The directory for which something of `paths` is kept.
    fn kept_among(&self, paths: &[RelPath]) -> RelPath {
        let meets = |kept: &&RelPath| {
            kept.is_root()
                || paths
                    .iter()
                    .any(|path| path.is_root() || path == *kept || path.is_inside(kept) || kept.is_inside(path))
        };
        self.keep.iter().find(meets).or(paths.first()).cloned().unwrap_or_else(RelPath::root)
    }

    /// A comparison of `paths` found nothing to delete: what the remote has there is what is here.
    fn agrees(&mut self, paths: &[RelPath], entries: Option<u64>) {
        self.entries = entries.or(self.entries);
        self.is_changed = true;
        self.forget(paths);
        let (Some(mirrored), Some(present)) = (&mut self.mirrored, &self.present) else { return };
        if paths.iter().any(RelPath::is_root) {
            *mirrored = present.clone();
        } else if mirrored.file_system.is(&present.file_system) {
            let is_compared = |point: &RelPath| paths.iter().any(|path| path == point || point.is_inside(path));
            mirrored.below.retain(|point, _| present.below.contains_key(point) || !is_compared(point));
            let compared = present.below.iter().filter(|(point, _)| is_compared(point));
            mirrored.below.extend(compared.map(|(point, found)| (point.clone(), found.clone())));
        }
        self.review();
    }

    fn forget(&mut self, paths: &[RelPath]) {
        if paths.iter().any(RelPath::is_root) {
            self.spared = None;
            self.was_withholding = false;
        }
        let is_compared = |at: &RelPath| paths.iter().any(|path| path.is_root() || path == at || at.is_inside(path));
        self.records.retain(|at, _| !is_compared(at));
    }

    fn withhold(&mut self, paths: &[RelPath], record: Record) {
        self.forget(paths);
        self.is_changed = true;
        let at = match paths.first() {
            Some(path) if self.records.len() < RECORDS_AT_MOST => path.clone(),
            _ => RelPath::root(),
        };
        self.records.insert(at, record);
    }

    fn all(&self) -> impl Iterator<Item = &Record> {
        self.records.values().chain(&self.spared)
    }

    /// Whether deletions are withheld.
    pub fn is_withholding(&self) -> bool {
        self.all().next().is_some()
    }

    /// Number of deletions that are withheld.
    pub fn withheld(&self) -> u64 {
        self.all().fold(0, |sum, record| sum.saturating_add(record.count))
    }

    /// Why they are; empty if none are.
    pub fn reason(&self) -> String {
        let mut reasons: Vec<String> = Vec::new();
        for reason in self.all().map(|record| record.why.to_string()) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons.truncate(3);
        reasons.join(", ")
    }

    /// Some of the paths.
    pub fn sample(&self) -> Vec<RelPath> {
        self.all().flat_map(|record| &record.sample).take(SAMPLE).cloned().collect()
    }

    /// A caller accepts the withheld deletions, and that the root is what it is now. Returns the directories to compare.
    fn accept(&mut self) -> Vec<RelPath> {
        self.is_changed = true;
        if let Some(present) = &self.present {
            self.mirrored = Some(present.clone());
            self.review();
        }
        match &self.spared {
            Some(_) => vec![RelPath::root()],
            None => self.records.keys().cloned().collect(),
        }
    }
}

impl Engine {
    /// The root `at` is made of these file systems now.
    pub(super) fn root_mounted(&mut self, at: usize, shape: Shape) {
        let (now, wall, path) = (time::now(), time::wall(), self.roots[at].path.clone());
        let seq = self.next_seq();
        for remote in self.remotes.iter_mut().filter(|remote| remote.root == path) {
            if remote.mount_guard.is_another(&shape) && !remote.mount_guard.is_new {
                remote.set.doubt();
            }
            if remote.mount_guard.mounted(&shape) {
                remote.report(RelPath::root(), Kind::Tree, seq, now, wall, false);
            }
            remote.changed(now);
        }
        self.roots[at].shape = Some(shape);
    }

    /// A run of the remote `at` ended well. `paths` are those of its batch, `purge` what they were allowed to delete;
    /// `compared`: it was a comparison.
    pub(super) fn review_deletions(
        &mut self,
        at: usize,
        outcome: &Outcome,
        paths: &[RelPath],
        purge: Purge,
        compared: bool,
    ) -> Verdict {
        let limit = self.config.delete_limit;
        let guard = &mut self.remotes[at].mount_guard;
        let mut news = guard.note_spared(&outcome.spared, limit, time::now());
        let verdict = match outcome.excess {
            _ if !compared => Verdict::Complete,
            None if outcome.withheld == 0 => {
                if outcome.failed.is_empty() && outcome.again.is_empty() {
                    guard.agrees(paths, outcome.entries);
                }
                Verdict::Complete
            }
            Some(excess) if excess == Excess::NotMounted || matches!(purge, Purge::Counted | Purge::Granted) => {
                let why = match excess {
                    Excess::NotMounted => Why::NotMounted(guard.kept_among(paths)),
                    Excess::Everything => Why::Everything,
                    Excess::Percent(percent) => Why::Percent(percent),
                };
                let known = paths.first().and_then(|path| guard.records.get(path)).map(|record| record.why.clone());
                let sample = outcome.withheld_paths.iter().take(SAMPLE).cloned().collect();
                guard.withhold(paths, Record { count: outcome.withheld, why: why.clone(), sample });
                news = news.or(Some(why).filter(|why| known.as_ref() != Some(why)));
                Verdict::Withheld
            }
            _ => Verdict::Again(match purge {
                Purge::Counted => {
                    guard.granted = GRANTED_AT_LEAST.max(outcome.withheld.saturating_mul(2));
                    Purge::Granted
                }
                // More than was counted: what was there meanwhile is missing now.
                Purge::Granted => Purge::Counted,
                other => other,
            }),
        };
        if let Some(why) = news {
            let remote = &self.remotes[at];
            let count = human::plural(remote.mount_guard.withheld(), "deletion", "deletions");
            tracing::error!(
                message_id = message_ids::DELETIONS_WITHHELD,
                sersync_remote = remote.name,
                sersync_paths = remote.mount_guard.withheld(),
                "{count} withheld on {}: {why}; `sersyncctl accept {}` carries them out",
                remote.name,
                self.instance
            );
        }
        verdict
    }

    /// Carries out the deletions that are withheld on the remotes `chosen`. Returns their number.
    pub(super) fn accept_deletions(&mut self, chosen: &[usize]) -> u64 {
        let (now, wall) = (time::now(), time::wall());
        let seq = self.next_seq();
        let mut accepted: u64 = 0;
        for at in chosen {
            let remote = &mut self.remotes[*at];
            let count = remote.mount_guard.withheld();
            if count == 0 && remote.mount_guard.keep.is_empty() {
                continue;
            }
            accepted = accepted.saturating_add(count);
            for path in remote.mount_guard.accept() {
                remote.set.accept(path, seq, wall);
            }
            remote.backoff.cut_short();
            remote.changed(now);
            tracing::info!(
                sersync_remote = remote.name,
                sersync_paths = count,
                "{}: {} accepted",
                remote.name,
                human::plural(count, "withheld deletion", "withheld deletions")
            );
        }
        accepted
    }

    /// Has the remote `at` compared with all deletions that the comparison finds.
    pub(super) fn accept_comparison(&mut self, at: usize, now: Instant, wall: SystemTime) {
        let seq = self.next_seq();
        let remote = &mut self.remotes[at];
        remote.mount_guard.accept();
        remote.set.accept(RelPath::root(), seq, wall);
        remote.changed(now);
    }

    /// Deletions that are withheld, a sentence for each remote.
    pub(super) fn mount_problems(&self) -> impl Iterator<Item = String> {
        self.remotes.iter().filter(|remote| remote.mount_guard.is_withholding()).map(|remote| {
            let guard = &remote.mount_guard;
            let count = human::plural(guard.withheld(), "deletion", "deletions");
            format!("{count} withheld on {}: {}", remote.name, guard.reason())
        })
    }

    /// Full syncs that wait for a root that is not there, and callers that wait for the remotes, get an answer: nobody
    /// knows when it comes back.
    pub(super) fn give_up_on_missing_roots(&mut self, now: Instant) {
        let away: Vec<(PathBuf, String)> = self.roots.iter().filter_map(|root| root.away(now)).collect();
        let Some((_, why)) = away.first() else { return };
        self.barriers.give_up(why);
        let names: Vec<String> = (self.remotes.iter())
            .filter(|remote| away.iter().any(|(root, _)| *root == remote.root))
            .map(|remote| remote.name.clone())
            .collect();
        for name in names {
            let ended = self.jobs.given_up(&name, why, time::wall());
            self.tell_jobs(&ended);
        }
    }
}
