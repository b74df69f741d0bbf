//! [`Holds`]: paths whose report waits a moment, because it will probably turn out to be unnecessary.
//!
//! Each path is held once, until a time. Nothing here looks at the disk; who takes a path out when its time has come
//! decides what becomes of it. A held path is never forgotten: whoever takes it out by one of the methods below has it.

use super::tree::NodeId;
use crate::path::RelPath;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// How long paths are held.
#[derive(Debug, Clone, Copy)]
pub struct HoldTimes {
    /// A temporary name, or a name that was renamed to one.
    pub name: Duration,
    /// A new file with content and without a known writer: wait since its creation, or its last change.
    pub content: Duration,
    /// A new file that is still empty: its writer may wait for the first bytes from a network.
    pub empty: Duration,
    /// A new file whose times show that it was linked into place with its content.
    pub linked: Duration,
}

impl HoldTimes {
    /// Those of the agent.
    pub const USUAL: Self = Self {
        name: Duration::from_secs(1),
        content: Duration::from_secs(1),
        empty: Duration::from_secs(3),
        linked: Duration::from_millis(50),
    };

    /// That of a temporary name.
    pub fn of_name(&self, writer: Writer) -> Duration {
        match writer {
            Writer::Unseen => self.name.max(self.empty),
            Writer::None | Writer::Seen(_) => self.name,
        }
    }

    /// The longest one.
    pub fn longest(&self) -> Duration {
        self.name.max(self.content).max(self.empty).max(self.linked)
    }
}

/// Above so many held paths, what should be held is reported at once instead: memory is bounded.
const LIMIT: usize = 100_000;

/// Why a path is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its name is one that programs use for a moment.
    Temporary {
        /// The first event was its creation: if it is gone when the hold ends, no remote needs to hear of it, unless a
        /// run that took the whole directory brought it there.
        born: bool,
        /// Whether one of the events is to be reported at all.
        counts: bool,
        /// The writer, as far as it is known.
        writer: Writer,
    },
    /// It was renamed to a temporary name: an editor keeps the old text aside and writes the new one in a moment. Until
    /// then a remote would see it go.
    SetAside,
    /// It is a directory that was just made, with a name that a package manager gives it for a moment. The tree does
    /// not know it: all of it is looked at when the hold ends. The number is that of the directory above, which is at
    /// its path as long as something in it is held for this reason.
    Made(NodeId),
    /// It is a regular file that was just created. If a writer has it open, its close will be reported; this covers a file
    /// without a writer. The stamp shows whether it is still being written.
    Created(Stamp),
    /// It is a regular file that was found in a new directory just after it was modified: its writer may have closed it.
    Found(Stamp),
}

impl Reason {
    /// Whether a writer may have the file open, so that it must not be reported before its time.
    pub fn may_be_open(&self) -> bool {
        match self {
            Self::Created(_) | Self::Found(_) => true,
            Self::Temporary { writer, .. } => *writer != Writer::None,
            Self::SetAside | Self::Made(_) => false,
        }
    }
}

/// The writer of a new file, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// There is none: the file was closed, or it never closes.
    None,
    /// There may be one that has not written anything.
    Unseen,
    /// It was seen by this watch to modify the file, and not to close it.
    Seen(i32),
}

/// Size and time of the last write in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// In bytes.
    pub size: i64,
    /// `st_mtim`.
    pub modified: i128,
}

/// The held paths.
#[derive(Debug, Default)]
pub struct Holds {
    held: HashMap<RelPath, (Reason, Turn)>,
    turns: BTreeMap<Turn, RelPath>,
    /// The numbers of all turns.
    numbers: BTreeSet<u64>,
    sequence: u64,
}

/// When a path's time has come; the number tells those of one instant apart.
type Turn = (Instant, u64);

impl Holds {
    /// Holds `path` until `until`, instead of what it was held for before. False if too many paths are held.
    #[must_use]
    pub fn hold(&mut self, path: RelPath, reason: Reason, until: Instant) -> bool {
        self.release(&path);
        if self.held.len() >= LIMIT {
            return false;
        }
        self.sequence += 1;
        let turn = (until, self.sequence);
        self.numbers.insert(self.sequence);
        self.turns.insert(turn, path.clone());
        self.held.insert(path, (reason, turn));
        true
    }

    /// Why `path` is held, if it is.
    pub fn reason(&mut self, path: &RelPath) -> Option<&mut Reason> {
        self.held.get_mut(path).map(|(reason, _)| reason)
    }

    /// Whether something inside `directory` is held.
    pub fn has_inside(&self, directory: &RelPath) -> bool {
        self.held.keys().any(|path| path.is_inside(directory))
    }

    /// Lets go of `path`.
    pub fn release(&mut self, path: &RelPath) -> Option<Reason> {
        let (reason, turn) = self.held.remove(path)?;
        self.turns.remove(&turn);
        self.numbers.remove(&turn.1);
        Some(reason)
    }

    /// Lets go of the directories that were just made, and says which is above each.
    pub fn release_made(&mut self) -> Vec<(RelPath, NodeId)> {
        let made = self.held.iter().filter_map(|(path, (reason, _))| match reason {
            Reason::Made(parent) => Some((path.clone(), *parent)),
            _ => None,
        });
        let made: Vec<_> = made.collect();
        for (path, _) in &made {
            self.release(path);
        }
        made
    }

    /// Takes a path out whose time has come by `now`.
    pub fn due(&mut self, now: Instant) -> Option<(RelPath, Reason)> {
        if self.next()? > now { None } else { self.take() }
    }

    /// Takes out, before their time, the paths that no writer can have open.
    pub fn take_closed(&mut self) -> Vec<(RelPath, Reason)> {
        let closed = |path: &&RelPath| self.held.get(*path).is_some_and(|(reason, _)| !reason.may_be_open());
        let closed: Vec<_> = self.turns.values().filter(closed).cloned().collect();
        closed.into_iter().filter_map(|path| self.release(&path).map(|reason| (path, reason))).collect()
    }

    fn take(&mut self) -> Option<(RelPath, Reason)> {
        let ((_, number), path) = self.turns.pop_first()?;
        self.numbers.remove(&number);
        let (reason, _) = self.held.remove(&path)?;
        Some((path, reason))
    }

    /// When the next path's time comes.
    pub fn next(&self) -> Option<Instant> {
        self.turns.first_key_value().map(|((until, _), _)| *until)
    }

    /// The number of the path that has been held the longest; those that are held later have greater numbers.
    pub fn oldest(&self) -> Option<u64> {
        self.numbers.first().copied()
    }

    /// The number of the path that was held last.
    pub fn last_number(&self) -> u64 {
        self.sequence
    }

    /// Lets go of all.
    pub fn clear(&mut self) {
        self.held.clear();
        self.turns.clear();
        self.numbers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_each_path_once_and_gives_it_back_in_time() {
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let reason = Reason::Temporary { born: true, counts: false, writer: Writer::None };
        let mut holds = Holds::default();
        assert!(holds.hold(path("a"), reason, start + second));
        assert!(holds.hold(path("b"), reason, start + second));
        assert_eq!((holds.oldest(), holds.last_number()), (Some(1), 2));
        assert!(holds.hold(path("a"), reason, start + 2 * second), "a is held anew, and longer");
        assert_eq!(holds.oldest(), Some(2), "it counts as a later one");
        assert_eq!(holds.due(start), None);
        assert_eq!(holds.due(start + second), Some((path("b"), reason)));
        assert_eq!(holds.due(start + second), None);
        assert_eq!(holds.next(), Some(start + 2 * second));
        assert_eq!(holds.release(&path("a")), Some(reason));
        assert_eq!((holds.next(), holds.take(), holds.oldest()), (None, None, None));

        let may_be_open = Reason::Created(Stamp { size: 1, modified: 1 });
        assert!(holds.hold(path("a"), may_be_open, start) && holds.hold(path("b"), Reason::SetAside, start + second));
        assert_eq!(holds.take_closed(), [(path("b"), Reason::SetAside)]);
        assert_eq!(holds.next(), Some(start));
    }
}
