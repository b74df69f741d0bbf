//! One watched root while the agent runs: its watch thread, and what is wrong with it.

use super::keeper::Keeper;
use super::machine::{Machine, Watching};
use crate::config::Config;
use crate::file_system::Shape;
use crate::human::shortened;
use crate::path::RelPath;
use crate::repeats::Repeats;
use crate::transport::{RootIdentity, root_identity};
use crate::watch::{self, Kept, Report, TooLong};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// The problem of a directory that contains one with too long a path. The numbers are those of
/// [`crate::path::LONGEST_DIRECTORY`] and [`crate::path::DEEPEST_DIRECTORY`].
const TOO_LONG: &str = "a directory in it is not mirrored: the path is longer than 3,837 bytes or has more than \
                            1,023 components, and rsync cannot take what is in it; move it to a shorter path";

/// Maximum length of a path in that problem, in bytes.
const LONGEST_PATH: usize = 200;

/// A root that is missing for this time keeps no caller waiting any more. One that is replaced, as by a deployment, is back
/// earlier.
const AWAY: Duration = Duration::from_secs(10);

/// Tells the watches of the agent's life apart: a root that is watched anew gets a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub u32);

/// Whether a root is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Its watches are being set.
    Starting,
    /// It is watched.
    Ready,
    /// It is waited for; the text says why.
    Missing(String),
}

/// One watched root while the agent runs.
#[derive(Debug)]
pub struct Root {
    /// Where it is.
    pub path: PathBuf,
    /// Its watch's number.
    pub id: WatchId,
    /// Whether it is there.
    pub condition: Condition,
    /// Which directory it is; a run in any other is refused.
    pub identity: Option<RootIdentity>,
    /// The file systems that it is made of; `None` until its watch has seen it.
    pub shape: Option<Shape>,
    /// Since when it is not there.
    pub missing_since: Option<Instant>,
    /// Directories that are not watched, and why.
    pub unwatched: BTreeMap<RelPath, String>,
    /// Directories that are not mirrored because of the length of their paths.
    pub too_long: TooLong,
    /// How often the journal tells of overflows.
    pub overflows_told: Repeats,
    watch: Box<dyn Watching>,
    /// Reports of this watch that were taken in.
    reports_taken: u64,
    /// A watch of before was taken up, if [`Report::RootReady`] confirms it.
    pub may_be_resumed: bool,
    /// When the watch was asked to say that it has told all that happened before, if it has not answered yet.
    marked_at: Option<Instant>,
    /// The times of the marks whose answer lacks what was held back.
    marked_held: VecDeque<Instant>,
    /// It has to be asked once more.
    mark_again: bool,
    /// The watch that this one replaces, kept until this one is ready; what it tells meanwhile counts.
    replaced: Option<(WatchId, Box<dyn Watching>)>,
}

impl Root {
    /// Starts to watch `path` as `config` says, under the number `id`, or takes up the watch that `keeper` has of it.
    pub fn start(
        machine: &dyn Machine,
        path: PathBuf,
        id: WatchId,
        config: &Config,
        changed_since: Option<SystemTime>,
        keeper: Option<&mut (dyn Keeper + 'static)>,
        reports: &mpsc::UnboundedSender<(WatchId, Report)>,
    ) -> io::Result<Self> {
        let kept = keeper.map(|keeper| left_or_new(keeper, &path)).transpose()?;
        let watch = start_watch(machine, &path, id, config, changed_since, kept, reports)?;
        let identity = root_identity(&path);
        let condition = Condition::Starting;
        let (unwatched, may_be_resumed) = (BTreeMap::new(), watch.may_be_resumed());
        Ok(Self {
            path,
            id,
            condition,
            identity,
            shape: None,
            missing_since: None,
            unwatched,
            too_long: TooLong::default(),
            overflows_told: Repeats::default(),
            watch,
            reports_taken: 0,
            may_be_resumed,
            marked_at: None,
            marked_held: VecDeque::new(),
            mark_again: false,
            replaced: None,
        })
    }

    /// Watches the same root in another way from now on. The old watch goes on until the new one is ready.
    pub fn replace_watch(&mut self, id: WatchId, watch: Box<dyn Watching>) {
        let old = (self.id, std::mem::replace(&mut self.watch, watch));
        // One that was not ready yet itself has nothing to add to the one that it was to replace.
        self.replaced.get_or_insert(old);
        self.id = id;
        (self.marked_at, self.mark_again) = (None, false);
        self.marked_held.clear();
        self.reports_taken = 0;
        self.unwatched.clear();
        self.too_long = TooLong::default();
        if self.condition == Condition::Ready {
            self.condition = Condition::Starting;
        }
    }

    /// Whether `watch` is the one that is being replaced.
    pub fn is_replacing(&self, watch: WatchId) -> bool {
        self.replaced.as_ref().is_some_and(|(id, _)| *id == watch)
    }

    /// All of it is watched from now on. Returns whether another watch did that before: what it had not told yet when
    /// this one took over nobody will tell.
    pub fn ready(&mut self) -> bool {
        self.condition = Condition::Ready;
        self.missing_since = None;
        self.identity = root_identity(&self.path);
        self.replaced.take().is_some()
    }

    /// It is not there.
    pub fn missing(&mut self, why: String, now: Instant) {
        self.replaced = None;
        self.shape = None;
        self.missing_since.get_or_insert(now);
        self.condition = Condition::Missing(why);
        self.identity = None;
        self.unwatched.clear();
        self.too_long = TooLong::default();
    }

    /// The problem of `holder`, which contains a directory with too long a path.
    pub fn too_long_problem(&self, holder: &RelPath) -> String {
        let path = holder.under(&self.path).display().to_string();
        format!("{}: {TOO_LONG}", shortened(path, LONGEST_PATH))
    }

    /// Whether there is a directory.
    pub fn is_there(&self) -> bool {
        self.identity.is_some() && !matches!(self.condition, Condition::Missing(_))
    }

    /// The reason why it is not there, if that has been so for long.
    pub fn away(&self, now: Instant) -> Option<(PathBuf, String)> {
        match &self.condition {
            Condition::Missing(why) if self.away_at().is_some_and(|at| at <= now) => {
                Some((self.path.clone(), format!("the watched directory is not there: {why}")))
            }
            _ => None,
        }
    }

    /// When it has been missing for so long that callers get an answer.
    pub fn away_at(&self) -> Option<Instant> {
        self.missing_since.map(|since| since + AWAY)
    }

    /// Whether runs may read it: it is there, and it is known on which file system.
    pub fn may_be_read(&self) -> bool {
        self.is_there() && self.shape.is_some()
    }

    /// Has the watch say when it has told all that happened before now.
    pub fn mark(&mut self, now: Instant) {
        match self.marked_at {
            Some(_) => self.mark_again = true,
            None => {
                self.marked_at = Some(now);
                self.watch.mark();
            }
        }
    }

    /// The watch has told all that happened before the time returned.
    pub fn marked(&mut self, now: Instant) -> Option<Instant> {
        let told = self.marked_at.take();
        self.marked_held.extend(told);
        if std::mem::take(&mut self.mark_again) {
            self.mark(now);
        }
        told
    }

    /// The watch has told all that happened before the time returned, and holds nothing of it back any more.
    pub fn marked_held(&mut self) -> Option<Instant> {
        self.marked_held.pop_front()
    }

    /// A report of this watch was taken in.
    pub fn report_taken(&mut self) {
        self.reports_taken += 1;
    }

    /// All that was taken in is written down.
    pub fn written_down(&mut self) {
        self.watch.written_down(self.reports_taken);
    }

    /// The watch.
    pub fn watch(&self) -> &dyn Watching {
        &*self.watch
    }
}

/// What the watch of `root` left, or something new, which is kept from now on.
fn left_or_new(keeper: &mut dyn Keeper, root: &Path) -> io::Result<Kept> {
    if let Some(left) = keeper.left(root).filter(Kept::is_usable) {
        return Ok(left);
    }
    let kept = Kept::new()?;
    keeper.keep(root, &kept);
    Ok(kept)
}

/// Starts a watch of `path` as `config` says, under the number `id`.
pub(super) fn start_watch(
    machine: &dyn Machine,
    path: &Path,
    id: WatchId,
    config: &Config,
    changed_since: Option<SystemTime>,
    kept: Option<Kept>,
    reports: &mpsc::UnboundedSender<(WatchId, Report)>,
) -> io::Result<Box<dyn Watching>> {
    let spec = watch::Spec {
        root: path.to_path_buf(),
        events: config.events,
        filter: config.filter.clone(),
        temporary_names: config.agent.temporary_names,
        changed_since,
        // Sent in another way, what was sent before may differ.
        about: config.rsync.params.join("\0").into_bytes(),
        raw: false,
    };
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let watch = machine.watch(spec, kept, sender)?;
    let reports = reports.clone();
    tokio::spawn(async move {
        while let Some(report) = receiver.recv().await {
            if reports.send((id, report)).is_err() {
                break;
            }
        }
    });
    Ok(watch)
}
