//! The watch: one thread for each root that turns inotify events into [`Change`]s.
//!
//! A change says only that a path *may* differ from the remotes. This module promises that every change the kernel
//! reported, or may have failed to report, comes out as at least one [`Change`] at its path or above it.

use crate::config::{EventSwitches, TemporaryNames};
use crate::filter::Filter;
use crate::path::RelPath;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// What may differ at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hint {
    /// Mode, owner or times of what is there; not its content.
    Attributes,
    /// The entry itself: it was written, made, replaced, or is gone.
    Entry,
    /// A directory was made here. What is in it is reported by itself, path by path.
    NewDirectory,
    /// Events below this directory may have been lost. Files that changed meanwhile (by their ctime) are
    /// reported by themselves; what is missing or superfluous is not.
    Rescan,
    /// A directory came here with all that is in it, by a rename: neither size nor time of what is in it can be
    /// trusted to tell it from what a remote has at this path.
    Arrived,
}

/// One reported path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, below the root.
    pub path: RelPath,
    /// What may differ.
    pub hint: Hint,
}

/// What a watch thread tells.
#[derive(Debug)]
pub enum Report {
    /// Paths that may differ, in the order in which they were seen.
    Changes(Vec<Change>),
    /// The kernel's queue overflowed; the rescan's changes follow by themselves.
    Overflowed,
    /// The root is not there (yet, or no more), or it is not a directory that can be read; it is waited for. The text says why.
    RootMissing(String),
    /// The root is there and wholly watched from now on: at start, and each time it came back.
    /// `returned` is false at start. The changes that follow from a return precede this report.
    RootReady {
        /// Whether it had been reported missing before.
        returned: bool,
    },
    /// Part of the tree is not watched; the text says which part, why and what mends it. `directory` is where.
    Unwatched {
        /// The directory that is not watched; what is below it is not either.
        directory: RelPath,
        /// Such as "inotify watch limit reached: raise it with `sysctl …`".
        reason: String,
    },
    /// All directories reported as [`Report::Unwatched`] are watched or gone.
    AllWatched,
    /// Answer to [`Watch::drain`]: each event that the kernel had queued when `drain` was called, and each path
    /// then held back, has been reported.
    Drained(u64),
}

/// What to watch.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The root, absolute.
    pub root: PathBuf,
    /// Which changes count.
    pub events: EventSwitches,
    /// Excluded directories are not watched, excluded paths not reported.
    pub filter: Arc<Filter>,
    /// What becomes of editors' temporary names.
    pub temporary_names: TemporaryNames,
    /// Files whose ctime is this or later are reported as [`Hint::Entry`] by the first walk; `None`: none are.
    pub changed_since: Option<SystemTime>,
}
