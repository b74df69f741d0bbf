//! The watch: one thread for each root that turns inotify events into [`Change`]s.
//!
//! A change says only that a path *may* differ from the remotes. This module promises that every change the kernel
//! reported, or may have failed to report, comes out as at least one [`Change`] at its path or above it; and that a
//! change above it comes only when all below is watched, so that whoever acts on it misses nothing after.
//!
//! It never reads a file, never writes to the tree, never follows a symbolic link below the root, and knows nothing of
//! remotes.
//!
//! # How it works
//!
//! * `tree` keeps the directories as (parent, name), each with its watch. Renaming a directory of a million others
//!   is one step.
//! * `walk` watches a directory first, then lists it. What it finds is reported as the occasion demands.
//! * `interpret` takes events as hints where to look: while they wait in the queue the disk goes on, and what is on
//!   disk decides. So the tree and the disk agree in the end, whatever the order in which they are seen.
//! * `engine` does both in turns, so that neither waits long for the other; `descriptor` and `disk` talk to the kernel.
//! * `hold` keeps back for a moment what will probably turn out to be unnecessary, such as an editor's swap file, and new
//!   files whose writer has not closed them; `open_files` knows those that are being written. `unclosed` has the older
//!   files that were modified and not closed.
//! * `long_paths` knows the directories that rsync cannot be given.
//! * `rescan` and `unwatched` remember what is owed: a walk after the kernel's queue overflowed, directories that
//!   could not be watched.
//! * `spool` and `settle` keep the events that were read until what follows from them is written down, also for a
//!   process that comes after this one.
//! * `root` waits for a root that is not there, and takes no bare mount point for it.
//!
//! # What inotify does not tell
//!
//! Writes through a memory mapping, the close of a file that was linked into place while it was open, writes to a file
//! through another of its hard links than the one in the tree, changes made by other hosts of a network file system. The
//! full sync is for them.

mod descriptor;
mod disk;
mod engine;
mod hold;
mod interpret;
mod long_paths;
mod name_store;
mod names;
mod nap;
mod open_files;
mod rescan;
mod root;
mod settle;
mod spool;
mod table;
mod tree;
mod unclosed;
mod unwatched;
mod walk;

#[cfg(test)]
mod tests;

use crate::config::{EventSwitches, TemporaryNames};
use crate::file_system::Shape;
use crate::filter::{EntryKind, Filter};
use crate::path::RelPath;
pub use inotify::EventMask;
pub use names::is_temporary;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::UnboundedSender;

/// What may differ at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hint {
    /// An entry with a temporary name was made and went again unreported. A run that took its path or a directory above
    /// meanwhile may have brought it to a remote, and the time of its directory has changed.
    Passed,
    /// A new file that its writer may still have open. Whatever was to be done about its path is obsolete: the path is
    /// reported once more, at the close, removal or rename of the file, or when no writer has it open.
    BeingWritten,
    /// Mode, owner or times of what is there; not its content.
    Attributes,
    /// The entry itself: it was written, made, replaced, or has left.
    Entry,
    /// It was removed. What may be there in its place is reported by itself.
    Removed,
    /// A directory was made here. What is in it is reported by itself, path by path. What is *not* in it is not: a run
    /// that took a whole directory above, just before this one was watched, may have brought what is gone again.
    NewDirectory,
    /// Events below this directory may have been lost, or it went elsewhere with all that was in it (then it is mostly
    /// not there any more, but another one may be). Files that changed meanwhile (by their ctime) are
    /// reported by themselves; what is missing or superfluous is not.
    Rescan,
    /// Events below this directory may have been lost, or a file system that was mounted here is not any more: what a
    /// remote has and is missing here may be missing by accident. Files that changed meanwhile are reported by themselves.
    Missed,
    /// A directory came here with all that is in it, by a rename: neither size nor time of what is in it can be
    /// trusted to tell it from what a remote has at this path.
    Arrived,
}

impl Hint {
    /// What of the entry can be told from the hint.
    pub fn entry_kind(self) -> EntryKind {
        match self {
            Self::NewDirectory | Self::Rescan | Self::Missed | Self::Arrived => EntryKind::Directory,
            Self::Passed | Self::BeingWritten | Self::Attributes | Self::Entry | Self::Removed => {
                EntryKind::NonDirectory
            }
        }
    }
}

/// One reported path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where, below the root.
    pub path: RelPath,
    /// What may differ.
    pub hint: Hint,
    /// What is here was there before, and came here by a rename; nothing of what was changed there is still to be
    /// reported. That it is gone from there was reported before, by itself.
    pub from: Option<RelPath>,
}

/// One event as the kernel told it, or as it would have told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where, below the root.
    pub path: RelPath,
    /// What happened.
    pub mask: EventMask,
    /// Joins the two halves of a rename; 0 otherwise.
    pub cookie: u32,
}

/// The directories that are not mirrored because of the length of their paths. They are not watched, and nothing of them is
/// reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TooLong {
    /// Their number, without the directories in them.
    pub directories: u64,
    /// A directory that holds one.
    pub holder: Option<RelPath>,
    /// Patterns of rsync, anchored at the root, that keep a recursive run from reaching them.
    pub patterns: Arc<[Arc<[u8]>]>,
}

/// What a watch thread tells.
#[derive(Debug)]
pub enum Report {
    /// Paths that may differ, in the order in which they were seen.
    Changes(Vec<Change>),
    /// The events themselves, for those who asked for them.
    Events(Vec<Event>),
    /// The kernel's queue overflowed; the rescan's changes follow by themselves.
    Overflowed,
    /// The root is there, on these file systems; or what is mounted below it has changed. Comes before the changes that
    /// follow from it.
    Mounted(Shape),
    /// The root is not there (yet, or no more), or it is not a directory that can be read; it is waited for. The text says why.
    RootMissing(String),
    /// The root is there and wholly watched from now on: at start, and each time it came back.
    /// `returned` is false at start. The changes that follow from a return precede this report.
    RootReady {
        /// Whether it had been reported missing before.
        returned: bool,
        /// Whether the events of a process before and those since were taken up without a gap: all that differs from
        /// what was written down then is reported path by path.
        resumed: bool,
    },
    /// Part of the tree is not watched; the text says which part, why and what mends it. `directory` is where.
    Unwatched {
        /// The directory that is not watched; what is below it is not either.
        directory: RelPath,
        /// Such as "inotify watch limit reached: raise it with `sysctl …`".
        reason: String,
    },
    /// Other directories than before are not mirrored because of the length of their paths. Comes before the changes that
    /// follow from it.
    TooLong(TooLong),
    /// All directories reported as [`Report::Unwatched`] are watched or gone.
    AllWatched,
    /// Answer to [`Watch::mark`]: each event that the kernel had queued when `mark` was called has been reported, or
    /// its path is held back.
    Marked,
    /// What was held back at a [`Report::Marked`] because of its name has been reported as well; one for each, in their
    /// order.
    MarkedHeld,
    /// Answer to [`Watch::drain`]: each event that the kernel had queued when `drain` was called, and each path
    /// then held back, has been reported, except for new files that a writer has open.
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
    /// What else a process to come must do in the same way, to make something of the events of this one: compared, not
    /// understood.
    pub about: Vec<u8>,
    /// Whether to tell the events themselves as well.
    pub raw: bool,
}

/// The thread's stack: nothing in it recurses.
const STACK: usize = 256 * 1024;
/// So long the thread's end is waited for: a file system that does not answer must not hold up the agent's.
const FAREWELL: Duration = Duration::from_secs(2);

impl Spec {
    /// Whether a new file that its writer has open is reported at its close, and no earlier.
    fn awaits_close(&self) -> bool {
        self.watches_writes() && !self.events.create_file
    }

    /// Whether writes are watched although closes are what is reported: a new file that was written to is waited for,
    /// and a modification that no close follows is reported after a while.
    fn watches_writes(&self) -> bool {
        let events = &self.events;
        events.close_write && !events.modify && !self.raw
    }

    /// What a process to come must watch in the same way, to make something of the events of this one.
    fn label(&self) -> Vec<u8> {
        let mut label = self.root.as_os_str().as_bytes().to_vec();
        label.extend(format!("\0{:?}\0{:?}", self.events, self.temporary_names).into_bytes());
        label.push(0);
        label.extend(&self.about);
        for expression in self.filter.expressions() {
            label.push(0);
            label.extend(expression.as_bytes());
        }
        label
    }
}

/// What outlives the process that watches: the inotify descriptor, in whose queue the kernel goes on to gather events,
/// and the memory of the events that were read from it. Kept by systemd, file descriptor by file descriptor.
#[derive(Debug)]
pub struct Kept {
    /// The inotify descriptor.
    pub inotify: OwnedFd,
    /// The memory.
    pub spool: OwnedFd,
}

impl Kept {
    /// New ones, to be given to [`spawn`].
    ///
    /// # Errors
    ///
    /// No inotify descriptor is left (the error names the limit to raise), or no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { inotify: descriptor::open()?, spool: spool::Spool::memory()? })
    }

    /// The same descriptors once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { inotify: self.inotify.try_clone()?, spool: self.spool.try_clone()? })
    }

    /// Whether these are what this version of the agent makes; if not, it has to begin anew.
    pub fn is_usable(&self) -> bool {
        descriptor::is_inotify(&self.inotify) && spool::Spool::open(&self.spool).is_ok()
    }
}

/// A command to the thread. Its end is not one: that is asked for by a flag, which long steps look at.
#[derive(Debug)]
enum Control {
    Drain(u64),
    Mark,
    Rescan,
}

/// What the thread counts.
#[derive(Debug, Default)]
struct Counters {
    directories: AtomicU64,
    events: AtomicU64,
    overflows: AtomicU64,
}

/// A running watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<engine::Shared>,
    control: mpsc::Sender<Control>,
    /// Closed by the thread's end.
    alive: Mutex<mpsc::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
    may_be_resumed: bool,
}

/// Starts to watch `spec.root`; what is seen goes to `reports`. A root that is not there is no error: it is waited for.
///
/// With `kept`, the watch can be resumed by a process to come; if it was left by a process before that watched the same
/// in the same way, it is resumed now ([`Report::RootReady`] says so).
///
/// # Errors
///
/// No inotify descriptor is left (the error names the limit to raise), or no thread.
pub fn spawn(spec: Spec, kept: Option<Kept>, reports: UnboundedSender<Report>) -> io::Result<Watch> {
    let (descriptor, spool) = match kept {
        Some(Kept { inotify, spool }) => (inotify, spool::Spool::open(&spool)?),
        None => (descriptor::open()?, spool::Spool::mortal()?),
    };
    let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let (stop, counters, written_down) = (AtomicBool::new(false), Counters::default(), AtomicU64::new(0));
    let shared = Arc::new(engine::Shared { wake, stop, counters, written_down });
    let (control, commands) = mpsc::channel();
    let engine = engine::Engine::new(descriptor, spool, spec, reports, commands, shared.clone());
    let may_be_resumed = engine.is_resuming();
    let (running, alive) = mpsc::channel();
    let thread = thread::Builder::new().name("watch".to_owned()).stack_size(STACK).spawn(move || {
        engine.run();
        drop(running);
    })?;
    Ok(Watch { shared, control, alive: Mutex::new(alive), thread: Some(thread), may_be_resumed })
}

impl Watch {
    /// Has [`Report::Drained`] with this `token` sent once everything that happened in the tree before this call is
    /// reported. That includes what a rescan that is owed will find, and excludes new files that a writer has open: they
    /// are reported at their close. To tell those from complete files may take some seconds. Another directory in the root's
    /// place is noticed first.
    pub fn drain(&self, token: u64) {
        self.command(Control::Drain(token));
    }

    /// Has [`Report::Marked`] sent once everything that happened in the tree before this call is reported, but for what
    /// is held back, and [`Report::MarkedHeld`] for that. Unlike [`Watch::drain`] it hurries nothing.
    pub fn mark(&self) {
        self.command(Control::Mark);
    }

    /// Has the whole tree looked at again: files changed since the queue was last empty are reported, and last the root
    /// as [`Hint::Rescan`].
    pub fn rescan(&self) {
        self.command(Control::Rescan);
    }

    /// Whether it took up what a process before left. [`Report::RootReady`] says whether that held.
    pub fn may_be_resumed(&self) -> bool {
        self.may_be_resumed
    }

    /// So many of its reports, from the first on, have been written down: what led to them need not be kept for a process
    /// to come.
    pub fn written_down(&self, reports: u64) {
        self.shared.written_down.store(reports, Ordering::Release);
    }

    /// How many directories are watched.
    pub fn watched_directories(&self) -> u64 {
        self.shared.counters.directories.load(Ordering::Relaxed)
    }

    /// How many events were read.
    pub fn events_seen(&self) -> u64 {
        self.shared.counters.events.load(Ordering::Relaxed)
    }

    /// How often the kernel's queue overflowed.
    pub fn overflows(&self) -> u64 {
        self.shared.counters.overflows.load(Ordering::Relaxed)
    }

    fn command(&self, control: Control) {
        // A thread that ended has told why, or nobody listens to it.
        let _ = self.control.send(control);
        self.wake();
    }

    fn wake(&self) {
        // It fails only if the counter is at its maximum: then the thread is being woken already.
        let _ = self.shared.wake.write(1);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wake();
        // The lock only makes the handle shareable: nobody else takes it.
        let alive = self.alive.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ended = alive.recv_timeout(FAREWELL) != Err(mpsc::RecvTimeoutError::Timeout);
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            // It panicked, if at all, by a defect of its own, and said so.
            let _ = thread.join();
        }
    }
}
