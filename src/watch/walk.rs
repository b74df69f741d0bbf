//! Looking at directories: each is watched first, then listed, so that nothing slips between.
//!
//! The walk is a stack of [`Step`]s. A step that must come after a whole subtree, such as the report that a directory
//! arrived with all that is in it, is pushed before the subtree's steps. Until the subtree is wholly watched such a
//! report would be too early: a remote could be made equal to it, and a change after that be missed.
//!
//! A watch that the kernel gives for a path may belong to another node already: then the directory was renamed, and
//! the event that says so is still to come; or it can be seen at both places (a bind mount). What was seen last is
//! true for now, and the node that had the watch before is looked at again.

use super::descriptor::{self, WatchDescriptor};
use super::engine::{Engine, wall_time, with_slack};
use super::hold::{Reason, Stamp, Writer};
use super::interpret::writable;
use super::names::{Treatment, treatment};
use super::rescan::WallTime;
use super::tree::NodeId;
use super::unwatched::Cause;
use super::{EventMask, Hint, Report};
use crate::filter::EntryKind;
use crate::path::RelPath;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use rustix::fs::{FileType, RawDir};
use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant, SystemTime};

/// Entries of one directory between two looks at the kernel's queue.
const RELIEF: usize = 1024;

/// Bytes of a directory read at once: room for some 1,500 entries, and for the longest name in any case.
const LISTED_AT_ONCE: usize = 64 * 1024;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Watch this directory and list it.
    Walk(NodeId, Mode),
    /// This node's watch (of that number) was found at another place, or ended: see what is at its own.
    Recheck(NodeId, i32),
    /// What is below this node is watched now.
    Report(NodeId, Hint),
    /// The same, of a directory that was at this path before.
    Renamed(NodeId, RelPath),
    /// Count the directories in this one that have too long a path.
    Count(NodeId),
    /// The root is watched now.
    Ready,
    /// A rescan is complete.
    RescanEnded,
}

/// What is reported of what a walk finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All of it: the directory was made a moment ago.
    New {
        /// An event told that it was made: no remote has ever heard of what is in it.
        born: bool,
    },
    /// Nothing: a report that covers it follows.
    Silent,
    /// Files changed since, and directories that were not known.
    Changed(Option<WallTime>),
    /// Files changed since; no directory is known yet.
    First(Option<WallTime>),
}

impl Mode {
    fn is_new(self) -> bool {
        matches!(self, Self::New { .. })
    }
}

/// What a look at a path finds.
#[derive(Debug)]
pub enum Found {
    /// A directory, open and watched.
    Directory(OwnedFd, WatchDescriptor),
    /// No directory.
    Nothing,
    /// A directory that cannot be watched.
    Unwatchable(Cause, String),
}

impl Engine {
    /// Does one step.
    pub(super) fn step(&mut self, step: Step) {
        match step {
            Step::Walk(node, mode) => self.walk(node, mode),
            Step::Recheck(node, key) => self.recheck(node, key),
            Step::Report(node, hint) => {
                if let Some(path) = self.tree.path(node) {
                    self.report(path, hint);
                }
            }
            Step::Renamed(node, from) => {
                if let Some(path) = self.tree.path(node) {
                    self.report_renamed(from, path, Hint::Arrived);
                }
            }
            Step::Count(node) => self.count_too_long(node),
            Step::Ready => self.root_ready(),
            Step::RescanEnded => self.rescans.ended(Instant::now()),
        }
    }

    /// Opens and watches the directory at `path`, without saying whose watch it is.
    pub(super) fn look(&mut self, path: &RelPath) -> Found {
        let directory = match self.disk.open(path) {
            Ok(directory) => directory,
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Found::Nothing,
            Err(error) => return unwatchable(error),
        };
        match self.descriptor.add(&directory, path.is_root()) {
            Ok(watch) => Found::Directory(directory, watch),
            Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSPC) => Found::Unwatchable(Cause::Limit, descriptor::watch_limit_reached()),
                Some(Errno::ENOENT) => Found::Unwatchable(
                    Cause::Directory,
                    "/proc is not mounted; inotify watches are set through /proc/self/fd".to_owned(),
                ),
                Some(error) => unwatchable(error),
                None => Found::Unwatchable(Cause::Directory, error.to_string()),
            },
        }
    }

    /// Makes `watch` the node's own. Other nodes that had it are looked at again. Says whether the node had another
    /// watch before: then another directory was here.
    pub(super) fn settle(&mut self, node: NodeId, watch: WatchDescriptor) -> bool {
        let key = watch.key();
        if self.tree.watch_key(node) == Some(key) {
            return false;
        }
        let others: Vec<_> = self.tree.watched_by(key).collect();
        for other in others {
            self.tree.unbind(other);
            self.steps.push(Step::Recheck(other, key));
        }
        self.ended.remove(&node);
        match self.tree.bind(node, watch) {
            None => false,
            Some(former) => {
                self.disown(former);
                true
            }
        }
    }

    /// Ends a watch unless a node has it.
    pub(super) fn disown(&mut self, watch: WatchDescriptor) {
        if self.tree.watched_by(watch.key()).next().is_none() {
            self.descriptor.remove(watch);
        }
    }

    /// Removes a node, what is below it, and their watches.
    pub(super) fn drop_node(&mut self, node: NodeId) {
        if !self.tree.is_alive(node) {
            return;
        }
        if node == self.tree.root() {
            self.root.look_now(Instant::now());
            return;
        }
        let watches = self.tree.remove(node);
        self.unwatch(watches);
    }

    /// There is no directory at the node's path: it is gone, unless the directory above left its place, perhaps with it.
    fn vanished(&mut self, node: NodeId) {
        if !self.overlook_above(node) {
            self.drop_node(node);
        }
    }

    /// There is no directory at the node's path. If the directory above is where it should be, this one is gone, and the
    /// event that says so is still to come, or came already. If not, that one was moved, perhaps with this one in it: it
    /// is looked into when it arrives. Returns whether that is so.
    fn overlook_above(&mut self, node: NodeId) -> bool {
        match self.tree.parent(node) {
            Some(above) if !self.is_in_place(above) => {
                self.overlook(above);
                true
            }
            _ => false,
        }
    }

    /// Whether the node's path leads to the directory that is watched as this node.
    pub(super) fn is_in_place(&mut self, node: NodeId) -> bool {
        let Some(path) = self.tree.path(node) else { return false };
        let found = self.look(&path);
        let is_it = matches!(&found, Found::Directory(_, watch) if self.tree.watch_key(node) == Some(watch.key()));
        self.leave(found);
        is_it
    }

    /// What was mounted at this directory is not any more.
    pub(super) fn uncovered(&mut self, node: NodeId) {
        let hidden: Vec<_> = self.tree.children(node).collect();
        for child in hidden {
            self.drop_node(child);
        }
        if let Some(watch) = self.tree.unbind(node) {
            self.disown(watch);
        }
        self.steps.push(Step::Walk(node, Mode::New { born: false }));
    }

    /// The directory cannot be watched for now.
    pub(super) fn give_up(&mut self, node: NodeId, path: RelPath, cause: Cause, reason: String) {
        if path.is_root() {
            self.lose_root(format!("{} cannot be watched: {reason}", self.spec.root.display()));
            return;
        }
        self.ended.remove(&node);
        if let Some(watch) = self.tree.unbind(node) {
            self.disown(watch);
        }
        let since = with_slack(self.caught_up);
        if self.unwatched.add(node, cause, since, Instant::now()) {
            self.send(Report::Unwatched { directory: path, reason });
        }
    }

    fn recheck(&mut self, node: NodeId, key: i32) {
        let Some(path) = self.tree.path(node) else {
            return self.overlook(node);
        };
        match self.look(&path) {
            // The event that tells of its removal is still to come, and finds by it that all in it was told of.
            Found::Nothing if self.ended.contains(&node) => {
                self.overlook_above(node);
            }
            Found::Nothing => self.vanished(node),
            Found::Unwatchable(cause, reason) => self.give_up(node, path, cause, reason),
            Found::Directory(_, watch) if self.tree.watch_key(node) == Some(watch.key()) => {}
            // Just now it was seen elsewhere with this watch, and now here.
            Found::Directory(_, watch) if watch.key() == key => {
                self.ended.remove(&node);
                self.tree.bind(node, watch);
            }
            Found::Directory(_, watch) => {
                self.steps.push(Step::Report(node, Hint::Arrived));
                self.steps.push(Step::Walk(node, Mode::Silent));
                self.settle(node, watch);
            }
        }
    }

    fn walk(&mut self, node: NodeId, mode: Mode) {
        let Some(path) = self.tree.path(node) else {
            return self.overlook(node);
        };
        if path.is_too_long_for_a_directory() {
            return self.cut_off(node);
        }
        self.long_paths.watched(&path);
        let (directory, watch) = match self.look(&path) {
            Found::Directory(directory, watch) => (directory, watch),
            Found::Nothing if path.is_root() => {
                self.lose_root(format!("{} vanished", self.spec.root.display()));
                return;
            }
            Found::Nothing => return self.vanished(node),
            Found::Unwatchable(cause, reason) => {
                // What is in it now can be sent all the same, once.
                if mode.is_new() {
                    self.report(path.clone(), Hint::Rescan);
                }
                return self.give_up(node, path, cause, reason);
            }
        };
        let replaced = self.settle(node, watch);
        let missed = self.unwatched.mended(node, Instant::now()).is_some();
        if (replaced || missed) && mode != Mode::Silent {
            let hint = if replaced { Hint::Arrived } else { Hint::Missed };
            self.steps.push(Step::Report(node, hint));
        }
        if mode.is_new() {
            self.report(path.clone(), Hint::NewDirectory);
        }
        self.list(node, &path, &directory, mode);
    }

    /// The path of this directory is too long: it is not watched any more, nor is the topmost one above it of which that is
    /// true.
    pub(super) fn cut_off(&mut self, node: NodeId) {
        let Some(path) = self.tree.path(node) else { return };
        let (mut topmost, mut extent) = (node, path.extent());
        while let Some(holder) = self.tree.parent(topmost) {
            extent = extent.without_name(self.tree.name_length(topmost));
            if !extent.is_too_long() {
                self.long_paths.changed(holder, Instant::now());
                return self.drop_node(topmost);
            }
            topmost = holder;
        }
    }

    /// Counts the directories in this one that have too long a path.
    fn count_too_long(&mut self, node: NodeId) {
        let (start, path) = (Instant::now(), self.tree.path(node));
        // Otherwise an event on the way here is still to come, and the directory is looked into then.
        if let Some(path) = path.filter(|path| !path.is_too_long_for_a_directory())
            && let Ok(directory) = self.disk.open(&path)
            && let Ok(number) = self.number_too_long(&path, &directory)
        {
            self.long_paths.counted(node, number, start, Instant::now());
        }
    }

    fn number_too_long(&mut self, path: &RelPath, directory: &OwnedFd) -> Result<u64, Errno> {
        let mut buffer = Vec::with_capacity(LISTED_AT_ONCE);
        let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
        let extent = path.extent();
        let (mut count, mut number) = (0, 0);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|error| Errno::from_raw(error.raw_os_error()))?;
            count += 1;
            if count % RELIEF == 0 {
                self.relieve();
                if self.is_stopped() {
                    return Err(Errno::EINTR);
                }
            }
            let name = entry.file_name().to_bytes();
            let is_directory = entry.file_type() == FileType::Directory && !matches!(name, b"." | b"..");
            if is_directory && extent.with_name(name.len()).is_too_long() {
                number += u64::from(!self.is_excluded(path, name));
            }
        }
        Ok(number)
    }

    fn is_excluded(&self, holder: &RelPath, name: &[u8]) -> bool {
        let filter = &self.spec.filter;
        !filter.is_empty() && filter.matches(&holder.join(OsStr::from_bytes(name)), EntryKind::Directory)
    }

    fn list(&mut self, node: NodeId, path: &RelPath, directory: &OwnedFd, mode: Mode) {
        self.listing = self.listing.wrapping_add(1);
        let listing = self.listing;
        let mut buffer = std::mem::take(&mut self.listing_buffer);
        buffer.reserve(LISTED_AT_ONCE);
        let listed = self.list_entries(node, path, directory, mode, buffer.spare_capacity_mut());
        self.listing_buffer = buffer;
        match listed {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.not_listed(node, path, error),
        }
        let gone: Vec<_> = self.tree.children(node).filter(|child| self.tree.mark(*child) != listing).collect();
        for child in gone {
            self.drop_node(child);
        }
    }

    /// Takes each entry in; false if the thread is to end.
    fn list_entries(
        &mut self,
        node: NodeId,
        path: &RelPath,
        directory: &OwnedFd,
        mode: Mode,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<bool, Errno> {
        let listing = self.listing;
        let mut entries = RawDir::new(directory, buffer);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                // It was removed meanwhile, and is empty.
                Err(rustix::io::Errno::NOENT) => break,
                Err(error) => return Err(Errno::from_raw(error.raw_os_error())),
            };
            count += 1;
            if count % RELIEF == 0 {
                self.relieve();
                if self.is_stopped() {
                    return Ok(false);
                }
            }
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let is_directory = match entry.file_type() {
                // Some file systems do not tell the type.
                FileType::Unknown => {
                    let path = path.join(OsStr::from_bytes(name.to_bytes()));
                    self.disk.stat(&path).is_ok_and(|stat| kind(&stat) == SFlag::S_IFDIR)
                }
                kind => kind == FileType::Directory,
            };
            if is_directory {
                self.found_directory(node, path, name, listing, mode);
            } else {
                self.found_file(path, directory, name, mode);
            }
        }
        Ok(true)
    }

    /// The directory is watched, but not all of what is in it is known: it is tried again.
    fn not_listed(&mut self, node: NodeId, path: &RelPath, error: Errno) {
        if let Found::Unwatchable(cause, reason) = unwatchable(error) {
            self.give_up(node, path.clone(), cause, reason);
        }
    }

    fn found_directory(&mut self, parent: NodeId, path: &RelPath, name: &CStr, listing: u32, mode: Mode) {
        let name = name.to_bytes();
        let is_too_long = path.extent().with_name(name.len()).is_too_long();
        // Mostly nobody asks where it is.
        let path = || path.join(OsStr::from_bytes(name));
        if !self.spec.filter.is_empty() && self.spec.filter.matches(&path(), EntryKind::Directory) {
            return;
        }
        if is_too_long {
            return self.long_paths.changed(parent, Instant::now());
        }
        let wanted = self.spec.events.create_folder || self.spec.events.move_to;
        let mode = match mode {
            Mode::Changed(_) if self.tree.child(parent, name).is_some() => mode,
            Mode::Changed(_) if !wanted => return,
            Mode::Changed(_) => Mode::New { born: false },
            mode => mode,
        };
        if mode.is_new() && self.spec.raw {
            self.tell(&path(), EventMask::CREATE | EventMask::ISDIR, 0);
        }
        let node = self.tree.child_or_insert(parent, name);
        self.tree.set_mark(node, listing);
        self.steps.push(Step::Walk(node, mode));
    }

    fn found_file(&mut self, path: &RelPath, directory: &OwnedFd, name: &CStr, mode: Mode) {
        let is_reported = match mode {
            Mode::New { .. } => true,
            // What is gone by now is told by an event: the directory is watched.
            Mode::Changed(Some(since)) | Mode::First(Some(since)) => {
                fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok_and(|stat| changed_at(&stat) >= since)
            }
            _ => false,
        };
        if !is_reported {
            return;
        }
        let path = path.join(OsStr::from_bytes(name.to_bytes()));
        if self.spec.filter.matches(&path, EntryKind::NonDirectory) {
            return;
        }
        if mode.is_new() && self.spec.raw {
            self.tell(&path, EventMask::CREATE, 0);
            if self.disk.stat(&path).is_ok_and(|stat| kind(&stat) == SFlag::S_IFREG) {
                self.tell(&path, EventMask::CLOSE_WRITE, 0);
            }
        }
        match treatment(name.to_bytes(), self.spec.temporary_names) {
            Treatment::Skip => {}
            Treatment::Report => match self.may_be_open(directory, name, mode) {
                Some((stamp, rest)) => self.hold(path, Reason::Found(stamp), rest),
                None => self.report(path, Hint::Entry),
            },
            Treatment::Hold => {
                let born = mode == Mode::New { born: true };
                let may_be_open = self.may_be_open(directory, name, mode).is_some();
                let writer = if may_be_open { Writer::Unseen } else { Writer::None };
                let patience = self.hold_times.of_name(writer);
                self.hold(path, Reason::Temporary { born, counts: true, writer }, patience);
            }
        }
    }

    /// Whether a writer may have the file open that was found in a directory which was just made: its stamp, and how
    /// long it is held.
    ///
    /// A file that was modified within the last second may be open. Files that other walks find are not held: a recursive
    /// comparison follows and sends them anyway, and a later process gets no event for them.
    fn may_be_open(&self, directory: &OwnedFd, name: &CStr, mode: Mode) -> Option<(Stamp, Duration)> {
        if mode != (Mode::New { born: true }) || !self.spec.awaits_close() {
            return None;
        }
        let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let stamp = writable(&stat)?;
        let age = (i128::from(wall_time(SystemTime::now())) - stamp.modified).unsigned_abs();
        let rest = self.hold_times.content.as_nanos().checked_sub(age)?;
        Some((stamp, Duration::from_nanos(u64::try_from(rest).ok()?)))
    }
}

fn unwatchable(error: Errno) -> Found {
    let what = match error {
        Errno::EACCES | Errno::EPERM => format!(
            "{}: this process may not read the directory; give its user the right, or CAP_DAC_READ_SEARCH",
            error.desc()
        ),
        Errno::EMFILE | Errno::ENFILE => format!("{}: raise LimitNOFILE= (ulimit -n)", error.desc()),
        _ => error.desc().to_owned(),
    };
    Found::Unwatchable(Cause::Directory, what)
}

/// The file's type.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn changed_at(stat: &FileStat) -> WallTime {
    stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec)
}
