//! The world of a simulation: the source, the remotes, the watch that outlives a process, and what has been promised.

use super::inbox::{Inbox, Item};
use super::tree::{Body, Deed, Node, Source, Tree};
use crate::file_system::Shape;
use crate::path::RelPath;
use crate::time;
use crate::watch::{Change, Hint};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// How a remote answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Up,
    /// It accepts connections and says nothing.
    Hung,
    Refused,
}

#[derive(Debug)]
pub struct RemoteState {
    pub tree: Tree,
    pub health: Health,
    /// Time for one entry.
    pub pace: Duration,
    /// Since when it is up.
    pub up_since: Instant,
    /// Runs that were started.
    pub runs: u64,
    /// Full syncs that came to their end.
    pub full_syncs: u64,
    /// Runs that were started since it went down.
    pub tries: u64,
}

/// The state that only the simulation knows.
pub struct World {
    pub rng: fastrand::Rng,
    pub root: PathBuf,
    pub source: Source,
    /// Whether the root is there.
    pub root_there: bool,
    pub remotes: BTreeMap<String, RemoteState>,
    /// A remote is in another state of health than before.
    pub health_changed: Arc<Notify>,
    /// Files that rsync cannot read.
    pub unreadable: BTreeSet<RelPath>,
    /// Files that a writer has open.
    pub open: BTreeSet<RelPath>,
    /// The deeds that opened new files.
    pub opened: BTreeMap<RelPath, u64>,
    /// By path, what has been there, with the number of the deed that led to it.
    pub history: BTreeMap<RelPath, Vec<(u64, Option<Node>)>>,
    pub deeds: u64,
    next_content: u64,
    /// The watch of the process that runs, or what the last one left.
    pub inbox: Option<Arc<Inbox>>,
    /// Watches that it replaces.
    pub replaced: Vec<Arc<Inbox>>,
    /// The next process may take up what the watch of the one before left.
    pub resumable: bool,
    /// Times that a change was delivered lately; the engine takes it in within the same tick of the clock.
    pub delivered: Vec<(Instant, Change)>,
    /// Since when something may be missing that happened before the root went away.
    pub lost_at: Option<SystemTime>,
    mountinfo: Vec<u8>,
}

/// The world, shared by the tasks of a simulation.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("nothing panics that holds the world")
    }
}

impl World {
    pub fn new(rng: fastrand::Rng, root: &Path, remotes: &[String]) -> Self {
        let state = || RemoteState {
            tree: Tree::default(),
            health: Health::Up,
            pace: Duration::from_millis(2),
            up_since: time::now(),
            runs: 0,
            full_syncs: 0,
            tries: 0,
        };
        Self {
            rng,
            root: root.to_path_buf(),
            source: Source::default(),
            root_there: true,
            remotes: remotes.iter().map(|name| (name.clone(), state())).collect(),
            health_changed: Arc::default(),
            unreadable: BTreeSet::new(),
            open: BTreeSet::new(),
            opened: BTreeMap::new(),
            history: BTreeMap::new(),
            deeds: 0,
            next_content: 0,
            inbox: None,
            replaced: Vec::new(),
            resumable: false,
            delivered: Vec::new(),
            lost_at: None,
            mountinfo: std::fs::read("/proc/self/mountinfo").unwrap_or_default(),
        }
    }

    /// The file systems of the root.
    pub fn shape(&self) -> Option<Shape> {
        use std::os::unix::fs::MetadataExt;
        let metadata = self.root.metadata().ok()?;
        Shape::of(&self.mountinfo, &self.root, (metadata.dev(), metadata.ino()), []).ok()
    }

    /// A content that was nowhere before, with a stamp of its own or that of what is at `path`.
    pub fn content(&mut self, path: &RelPath, same_stamp: bool) -> Body {
        self.next_content += 1;
        let content = self.next_content;
        match self.source.tree.get(path).map(|node| node.body) {
            Some(Body::File { stamp, .. }) if same_stamp => Body::File { content, stamp },
            _ => Body::File { content, stamp: content },
        }
    }

    /// Does `deed`. If `told`, the watch reports it; `hint` replaces the hint for a written file.
    pub fn carry_out(&mut self, deed: &Deed, told: bool, hint: Option<Hint>) -> bool {
        let before = self.source.tree.clone();
        let mut changes = self.source.carry_out(deed, time::wall());
        if changes.is_empty() {
            return false;
        }
        if let (Some(hint), Some(change)) = (hint, changes.first_mut()) {
            change.hint = hint;
        }
        self.deeds += 1;
        let paths: BTreeSet<&RelPath> = before.0.keys().chain(self.source.tree.0.keys()).collect();
        for path in paths {
            let (old, new) = (before.get(path), self.source.tree.get(path));
            if old != new {
                let states = self.history.entry(path.clone()).or_insert_with(|| vec![(0, old)]);
                states.push((self.deeds, new));
                if states.len() > 64 {
                    states.drain(..32);
                }
            }
        }
        self.open.retain(|path| self.source.tree.get(path).is_some());
        if told {
            let delay = Duration::from_millis(self.rng.u64(0..30));
            self.tell(&changes, delay);
        }
        true
    }

    /// Has the watch learn of something after `delay`.
    pub fn tell(&mut self, changes: &[Change], delay: Duration) {
        self.replaced.retain(|inbox| !inbox.has_ended());
        for inbox in self.inbox.iter().chain(&self.replaced) {
            inbox.push(Item::Changes(changes.to_vec()), time::now() + delay);
        }
    }

    /// The states that `path` may have on a remote for a caller who began to wait after the deed of that number.
    pub fn states_since(&self, path: &RelPath, deed: u64) -> Option<Vec<Option<Node>>> {
        let states = self.history.get(path)?;
        let first = states.partition_point(|(number, _)| *number <= deed).saturating_sub(1);
        Some(states[first..].iter().map(|(_, node)| *node).collect())
    }

    /// The paths that differ on `remote`, with whether size and time show the difference.
    pub fn differences(&self, remote: &str) -> Vec<(RelPath, bool)> {
        let (source, copy) = (&self.source.tree, &self.remotes[remote].tree);
        let paths: BTreeSet<&RelPath> = source.0.keys().chain(copy.0.keys()).collect();
        let differs = paths.into_iter().filter_map(|path| {
            let (here, there) = (source.get(path), copy.get(path));
            let shows = match (here, there) {
                (Some(here), Some(there)) => !here.looks_like(there) || here.attributes != there.attributes,
                _ => true,
            };
            (here != there).then(|| (path.clone(), shows))
        });
        differs.collect()
    }

    /// The number of the last deed that changed `path`.
    pub fn last_deed(&self, path: &RelPath) -> u64 {
        self.history.get(path).and_then(|states| states.last()).map_or(0, |(deed, _)| *deed)
    }

    /// What is at `path` here and on `remote`, for messages.
    pub fn states(&self, remote: &str, path: &RelPath) -> String {
        let (here, there) = (self.source.tree.get(path), self.remotes[remote].tree.get(path));
        format!("{} is {here:?}, there {there:?}", path.display())
    }

    pub fn forget_delivered(&mut self) {
        let now = time::now();
        self.delivered.retain(|(at, _)| now.duration_since(*at) < Duration::from_millis(3));
    }

    /// The files that were changed at `since` or later, as a walk reports them.
    pub fn walked(&self, since: SystemTime) -> Vec<Change> {
        self.source.changed_since(since).into_iter().filter(|change| !self.open.contains(&change.path)).collect()
    }
}
