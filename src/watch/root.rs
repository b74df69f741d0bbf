//! [`Root`]: whether the root is there, and whether what is there is the root.
//!
//! A directory at the root's path is the root, also a new one in the place of one that was removed. But once the root
//! lay on a file system mounted at some point, a directory at the same path is the root again only when something is
//! mounted at that point, or when it was the root before that file system was mounted: the bare mount point that an
//! unmount leaves is empty, and must never be taken for a tree whose files were all removed.

use super::disk::Identity;
use super::engine::{Engine, wall_time, with_slack};
use super::rescan::WallTime;
use super::walk::{Mode, Step};
use super::{Hint, Report};
use crate::file_system::Shape;
use crate::filter::EntryKind;
use crate::mounts;
use crate::path::RelPath;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a missing root is looked for.
const SEEK: Duration = Duration::from_millis(500);
/// How often a quiet root is looked at: nothing tells when a directory above it is renamed, or when something is
/// unmounted lazily.
const REASSURE: Duration = Duration::from_secs(5);
/// The same after events.
const REASSURE_BUSY: Duration = Duration::from_secs(1);

/// What is known of the root.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    present: Option<Identity>,
    /// Why it is missing, as last reported.
    missing: Option<String>,
    was_missing: bool,
    was_ready: bool,
    /// When its events were last complete before it was lost.
    lost_at: WallTime,
    /// What the root lay on when it was last there.
    mount_point: Option<PathBuf>,
    mounts_below: BTreeMap<RelPath, u64>,
    /// Directories that were the root, the last one first.
    former: VecDeque<Identity>,
    /// The file systems as last reported.
    shape: Option<Shape>,
    next_look: Instant,
}

/// Maximum number of directories that are remembered to have been the root.
const FORMER_AT_MOST: usize = 16;

/// A root that is there.
struct Seen {
    identity: Identity,
    mount_point: Option<PathBuf>,
    mounts_below: BTreeMap<RelPath, u64>,
}

impl Root {
    /// Not looked at yet.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            present: None,
            missing: None,
            was_missing: false,
            was_ready: false,
            lost_at: 0,
            mount_point: None,
            mounts_below: BTreeMap::new(),
            former: VecDeque::new(),
            shape: None,
            next_look: Instant::now(),
        }
    }

    /// Whether it was there when last looked at.
    pub fn is_present(&self) -> bool {
        self.present.is_some()
    }

    /// Whether it is there and all of it was walked.
    pub fn is_watched(&self) -> bool {
        self.present.is_some() && self.was_ready && !self.was_missing
    }

    /// When to look at it again.
    pub fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Look at it at once.
    pub fn look_now(&mut self, now: Instant) {
        self.next_look = now;
    }

    /// Something happened: look at it soon.
    pub fn look_soon(&mut self, now: Instant) {
        self.next_look = self.next_look.min(now + REASSURE_BUSY);
    }

    /// Which directory the root's path leads to, or why to none.
    fn identity(&self) -> Result<Identity, String> {
        let shown = self.path.display();
        match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => Ok((metadata.dev(), metadata.ino())),
            Ok(_) => Err(format!("{shown} is not a directory")),
            Err(error) => Err(format!("{shown}: {error}")),
        }
    }

    fn seek(&self) -> Result<Seen, String> {
        let identity = self.identity()?;
        let (mount_point, mounts_below) = self.mounts().map_err(|error| format!("{}: {error}", mounts::MOUNTINFO))?;
        if let Some(before) = &self.mount_point
            && mount_point.as_deref().is_some_and(|now| is_above(now, before))
            && !self.former.contains(&identity)
        {
            return Err(format!(
                "the file system of {} is not mounted at {}; if it will not be again, restart the agent: it deletes \
                 nothing then without `sersyncctl accept`",
                self.path.display(),
                before.display()
            ));
        }
        Ok(Seen { identity, mount_point, mounts_below })
    }

    /// What the root lies on, and what is mounted below it; without /proc neither is known. That no descriptor is left
    /// to read it with does not mean that nothing is mounted.
    fn mounts(&self) -> io::Result<(Option<PathBuf>, BTreeMap<RelPath, u64>)> {
        let Ok(path) = self.path.canonicalize() else { return Ok(Default::default()) };
        let text = mountinfo()?;
        Ok((mounts::covering(&text, &path), mounts::below(&text, &path)))
    }
}

/// The kernel's list of mounts; empty without /proc.
fn mountinfo() -> io::Result<Vec<u8>> {
    match std::fs::read(mounts::MOUNTINFO) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn is_above(point: &Path, other: &Path) -> bool {
    point != other && other.starts_with(point)
}

impl Engine {
    /// Finds out whether the root came, went, or is another one.
    pub(super) fn look_at_root(&mut self, now: Instant) {
        if let Some(present) = self.root.present {
            self.root.next_look = now + REASSURE;
            match self.root.identity() {
                Ok(identity) if identity == present => return,
                _ => self.root_is_gone(),
            }
        }
        self.root.next_look = now + SEEK;
        match self.root.seek() {
            Ok(seen) => self.take_root(seen, now),
            Err(reason) => self.report_missing(reason),
        }
    }

    /// The directory that was watched as the root is not there any more: it was removed, moved, or unmounted.
    pub(super) fn root_is_gone(&mut self) {
        let replaced = || format!("{} was replaced by another directory", self.root.path.display());
        let reason = self.root.seek().map_or_else(|reason| reason, |_| replaced());
        self.lose_root(reason);
    }

    /// The root is not there any more, or cannot be watched.
    pub(super) fn lose_root(&mut self, reason: String) {
        let root = self.tree.root();
        let watches = self.tree.remove(root);
        self.unwatch(watches);
        let detached: Vec<_> = self.limbo.drain().flat_map(|(_, nodes)| nodes).collect();
        for limbo in detached {
            self.drop_node(limbo.node);
        }
        self.overlooked.clear();
        self.ended.clear();
        self.steps.clear();
        self.holds.clear();
        self.open_files.clear();
        self.unclosed.clear();
        self.rescans.forget();
        if self.root.present.take().is_some() {
            self.root.lost_at = self.caught_up;
        }
        self.disk.set_identity(None);
        self.root.next_look = Instant::now() + SEEK;
        self.report_missing(reason);
    }

    fn report_missing(&mut self, reason: String) {
        self.root.was_missing = true;
        if self.settling.resuming {
            self.not_resumed();
        }
        if self.root.missing.as_ref() != Some(&reason) {
            self.root.missing = Some(reason.clone());
            self.send(Report::RootMissing(reason));
        }
    }

    fn take_root(&mut self, seen: Seen, now: Instant) {
        self.root.present = Some(seen.identity);
        self.root.mount_point = seen.mount_point;
        self.root.mounts_below = seen.mounts_below;
        self.root.next_look = now + REASSURE;
        self.root.former.retain(|former| *former != seen.identity);
        self.root.former.push_front(seen.identity);
        self.root.former.truncate(FORMER_AT_MOST);
        self.root.shape = None;
        if !self.report_shape() {
            self.mounts_changed = true;
        }
        self.disk.set_identity(Some(seen.identity));
        let since = match self.root.was_ready {
            true => Some(with_slack(self.root.lost_at)),
            false if self.settling.resuming => None,
            false => self.spec.changed_since.map(wall_time),
        };
        let root = self.tree.root();
        self.steps.push(Step::Ready);
        if self.root.was_missing {
            self.steps.push(Step::Report(root, Hint::Rescan));
        }
        self.steps.push(Step::Walk(root, Mode::First(since)));
    }

    /// The walk of a root that came is complete.
    pub(super) fn root_ready(&mut self) {
        let returned = std::mem::take(&mut self.root.was_missing);
        self.root.missing = None;
        self.root.was_ready = true;
        let resumed = self.resume();
        let root = self.tree.root();
        if let Some(key) = self.tree.watch_key(root) {
            self.descriptor.spool.set_root(key);
        }
        self.count_directories();
        self.send(Report::RootReady { returned, resumed });
    }

    /// Reports the file systems of the root, if they are others than those reported last. False, if it could not find
    /// out.
    fn report_shape(&mut self) -> bool {
        // Whether it is still that directory is found out by the look that follows.
        let Some(identity) = self.root.present.filter(|present| self.root.identity().as_ref() == Ok(present)) else {
            return true;
        };
        let (filter, points) = (&self.spec.filter, self.root.mounts_below.keys());
        let points = points.filter(|point| !filter.excludes(point, EntryKind::Directory));
        let shape = mountinfo().and_then(|text| Shape::of(&text, &self.root.path, identity, points));
        let Ok(shape) = shape else { return false };
        if self.root.shape.as_ref() != Some(&shape) {
            self.root.shape = Some(shape.clone());
            self.send(Report::Mounted(shape));
        }
        true
    }

    /// Something was mounted or unmounted somewhere. What came is as if it had been moved here. What went uncovers
    /// what lay under it: that is watched and reported; what lay on it may be missing, though an unmount removes no file.
    ///
    /// False, if it could not find out.
    pub(super) fn look_at_mounts(&mut self) -> bool {
        if !self.root.is_present() {
            return true;
        }
        let Ok((_, now)) = self.root.mounts() else { return false };
        let before = std::mem::replace(&mut self.root.mounts_below, now.clone());
        // First, so that nothing that is reported now is taken for a removal.
        let is_reported = self.report_shape();
        for point in before.keys().filter(|point| !now.contains_key(*point)) {
            if let Some(node) = self.tree.find(point) {
                self.settling.owes_walk = true;
                self.steps.push(Step::Report(node, Hint::Missed));
                self.uncovered(node);
            }
        }
        for point in now.iter().filter(|(point, number)| before.get(*point) != Some(number)).map(|(point, _)| point) {
            if let Some(node) = self.tree.find(point) {
                self.settling.owes_walk = true;
                self.steps.push(Step::Report(node, Hint::Arrived));
                self.steps.push(Step::Walk(node, Mode::Silent));
            }
        }
        is_reported
    }
}
