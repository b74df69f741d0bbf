//! What an event means.
//!
//! The kernel tells events in the order in which things happened, but by the time they are read the disk is ahead of
//! them, and a walk sees the disk. So an event on a directory only says where to look; what is there now decides what
//! becomes of the tree. Whoever is at a path at the end came there by an event (or was there when the directory above
//! was first listed), and at that event the path was looked at: so in the end the tree is right.
//!
//! What leaves a path as a directory is reported as [`Hint::Rescan`] where the files in it went along: were it reported
//! as gone only, and a new directory made there before the report is acted upon, the old files would stay on the
//! remotes for good.

use super::descriptor::Event;
use super::engine::wall_time;
use super::engine::{Engine, Limbo};
use super::hold::{Reason, Stamp, Writer};
use super::names::{Treatment, is_unpacked, treatment};
use super::rescan::WallTime;
use super::tree::NodeId;
use super::unclosed::{Due, LONGEST};
use super::walk::{Found, Mode, Step, kind};
use super::{EventMask, Hint};
use crate::filter::EntryKind;
use crate::path::{Extent, RelPath};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

/// So long the second half of a rename is waited for. The kernel queues both halves at once, or nearly so.
const PAIRING: Duration = Duration::from_millis(50);

/// Maximum number of events between a creation and the close that is looked for right behind it.
const FEW: usize = 8;

/// Maximum age of a file that counts as new, in nanoseconds.
const NEW: WallTime = 600_000_000_000;

/// Maximum delay of the kernel's clock for file times, in nanoseconds.
const COARSE: WallTime = 20_000_000;

/// The kernel's words, `CREATE,ISDIR`.
fn words(mask: EventMask) -> String {
    mask.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join(",")
}

impl Engine {
    /// Takes one event into the tree, and reports what follows from it.
    pub(super) fn interpret(&mut self, event: Event) {
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return self.overflowed();
        }
        if event.mask.contains(EventMask::IGNORED) {
            self.open_files.watch_ended(event.key);
            self.unclosed.watch_ended(event.key);
        }
        // A log that is written to costs no more than this.
        if event.mask == EventMask::MODIFY && !self.spec.events.modify && self.is_writing(&event) {
            return;
        }
        // Mostly one. None for a watch that was ended while its last events waited.
        let owners: Vec<_> = self.tree.watched_by(event.key).collect();
        for owner in owners {
            if self.tree.watch_key(owner) != Some(event.key) {
                continue;
            }
            match &event.name {
                Some(name) => self.entry_event(owner, name, &event),
                None => self.self_event(owner, &event),
            }
        }
    }

    /// Something about the watched directory itself.
    fn self_event(&mut self, node: NodeId, event: &Event) {
        let now = Instant::now();
        tracing::debug!(
            "event {} of the directory {}",
            words(event.mask),
            self.tree.path(node).map_or_else(|| "on its way".to_owned(), |path| path.display().to_string())
        );
        let ended = event.mask.intersects(EventMask::IGNORED | EventMask::UNMOUNT);
        if node == self.tree.root() {
            if ended {
                self.root_is_gone();
            }
            if ended || event.mask.intersects(EventMask::MOVE_SELF | EventMask::DELETE_SELF) {
                self.root.look_now(now);
            }
        } else if event.mask.contains(EventMask::UNMOUNT) {
            // The files of an unmounted file system were not removed: the reader of the reports has to know that first.
            self.mounts_changed |= !self.look_at_mounts();
            self.uncovered(node);
        } else if ended {
            self.tree.unbind(node);
            self.ended.insert(node);
            self.unwatched.watches_freed(now);
            self.steps.push(Step::Recheck(node, event.key));
        }
    }

    fn entry_event(&mut self, parent: NodeId, name: &OsStr, event: &Event) {
        let Some(directory) = self.tree.path(parent) else {
            // It left its place and has not arrived. What is in it now is reported when it does.
            tracing::debug!("event {} {} in a directory that is on its way", words(event.mask), name.display());
            return self.overlook(parent);
        };
        if directory.is_too_long_for_a_directory() {
            return self.cut_off(parent);
        }
        let path = directory.join(name);
        tracing::debug!("event {} {}", words(event.mask), path.display());
        let is_directory = event.mask.contains(EventMask::ISDIR);
        let kind = if is_directory { EntryKind::Directory } else { EntryKind::NonDirectory };
        if self.spec.raw && !self.spec.filter.matches(&path, kind) {
            self.tell(&path, event.mask, event.cookie);
        }
        if !event.mask.contains(EventMask::ISDIR) {
            return self.file_event(parent, path, event);
        }
        if self.spec.filter.matches(&path, EntryKind::Directory) {
            // What was known under a name that is excluded was there before a rename of a directory above.
            return;
        }
        if path.is_too_long_for_a_directory() {
            self.long_paths.changed(parent, Instant::now());
            if let Some(node) = self.tree.child(parent, name.as_bytes()) {
                self.drop_node(node);
            }
            return;
        }
        let what = event.mask.difference(EventMask::ISDIR);
        if self.is_settled_by_hold(parent, &path, what, event.cookie) {
            return;
        }
        match what {
            EventMask::CREATE => self.directory_made(parent, path),
            EventMask::DELETE => self.directory_removed(parent, path),
            EventMask::MOVED_FROM => self.directory_left(parent, path, event.cookie),
            EventMask::MOVED_TO => self.directory_came(parent, path, event.cookie),
            EventMask::ATTRIB => {
                let known = self.tree.child(parent, name.as_bytes());
                if let Some(since) = known.and_then(|node| self.unwatched.since(node)) {
                    self.steps.extend(known.map(|node| Step::Walk(node, Mode::Changed(Some(since)))));
                }
                self.report(path, Hint::Attributes);
            }
            _ => {}
        }
    }

    fn directory_made(&mut self, parent: NodeId, path: RelPath) {
        let events = &self.spec.events;
        if !events.create_folder {
            return;
        }
        let name = path.file_name().as_bytes();
        let known = self.tree.child(parent, name);
        let may_be_held = known.is_none() && events.move_to && is_unpacked(name, self.spec.temporary_names);
        if may_be_held && self.holds.hold(path.clone(), Reason::Made(parent), Instant::now() + self.hold_times.name) {
            return;
        }
        let node = known.unwrap_or_else(|| self.tree.insert(parent, name));
        self.steps.push(Step::Walk(node, Mode::New { born: true }));
    }

    /// Whether an event on a directory needs nothing done because the directory is held: neither the tree nor anybody
    /// else knows of it.
    fn is_settled_by_hold(&mut self, parent: NodeId, path: &RelPath, what: EventMask, cookie: u32) -> bool {
        if !matches!(self.holds.reason(path), Some(Reason::Made(_))) {
            return false;
        }
        let is_unknown = self.tree.child(parent, path.file_name().as_bytes()).is_none();
        match what {
            EventMask::ATTRIB if is_unknown => return true,
            EventMask::MOVED_FROM => self.unpacked = Some(cookie).filter(|_| is_unknown),
            EventMask::MOVED_TO if self.unpacked == Some(cookie) => {
                // Two that are held exchange their names: held here again, this one would be taken for the one that leaves.
                self.unpacked = None;
                self.end_hold_of_directory(path);
                return true;
            }
            _ => {}
        }
        self.holds.release(path);
        let is_settled = is_unknown && matches!(what, EventMask::DELETE | EventMask::MOVED_FROM);
        if is_settled {
            self.report(path.clone(), Hint::Passed);
        }
        is_settled
    }

    /// Takes the directories that are held into the tree: one above them is about to leave its path.
    fn end_holds_of_directories(&mut self) {
        for (path, parent) in self.holds.release_made() {
            self.made_after_all(parent, path.file_name());
        }
    }

    /// Takes the directory that is held at the path, if one is, into the tree.
    fn end_hold_of_directory(&mut self, path: &RelPath) {
        if let Some(&mut Reason::Made(parent)) = self.holds.reason(path) {
            self.holds.release(path);
            self.made_after_all(parent, path.file_name());
        }
    }

    /// A directory that was held is there to stay. Nobody watched it meanwhile: what a recursive run has brought of it may
    /// be gone again.
    fn made_after_all(&mut self, parent: NodeId, name: &OsStr) {
        // What became of the directory above is told by itself.
        if self.tree.is_alive(parent) {
            let node = self.tree.child_or_insert(parent, name.as_bytes());
            self.steps.push(Step::Report(node, Hint::Rescan));
            self.steps.push(Step::Walk(node, Mode::New { born: true }));
        }
    }

    fn directory_removed(&mut self, parent: NodeId, path: RelPath) {
        let mut hint = Hint::Rescan;
        if let Some(node) = self.tree.child(parent, path.file_name().as_bytes()) {
            let key = self.tree.watch_key(node);
            // The removal of all that was in a watched directory was reported before its own, be it before or after
            // the kernel ends the watch.
            if key.is_some() || self.ended.contains(&node) {
                hint = Hint::Removed;
            }
            match self.look(&path) {
                // A newer one, which is known already.
                Found::Directory(_, watch) if Some(watch.key()) == key => {}
                found => {
                    self.drop_node(node);
                    self.leave(found);
                }
            }
        }
        if self.spec.events.delete {
            self.report(path, hint);
        }
    }

    fn directory_left(&mut self, parent: NodeId, path: RelPath, cookie: u32) {
        self.end_holds_of_directories();
        if let Some(node) = self.tree.child(parent, path.file_name().as_bytes()) {
            match self.look(&path) {
                Found::Directory(_, watch) if Some(watch.key()) == self.tree.watch_key(node) => {}
                found => {
                    self.tree.detach(node);
                    let name = path.file_name().to_owned();
                    let from = self.reports_leaving().then(|| path.clone());
                    let extent = path.extent();
                    let limbo = Limbo { node, parent, name, from, extent, until: Instant::now() + PAIRING };
                    self.limbo.entry(cookie).or_default().push(limbo);
                    self.leave(found);
                }
            }
        }
        if self.reports_leaving() {
            self.report(path, Hint::Rescan);
        }
    }

    fn reports_leaving(&self) -> bool {
        self.spec.events.delete && self.spec.events.move_from
    }

    fn directory_came(&mut self, parent: NodeId, path: RelPath, cookie: u32) {
        let name = path.file_name().as_bytes();
        if self.unpacked.take() == Some(cookie) && self.tree.child(parent, name).is_none() {
            return self.directory_made(parent, path);
        }
        let limbo = self.take_from_limbo(cookie);
        let moved = limbo.as_ref().map(|limbo| limbo.node);
        let mut from = None;
        let here = self.tree.child(parent, name);
        if moved.is_none() && !self.spec.events.move_to {
            self.steps.extend(here.map(|node| Step::Recheck(node, -1)));
            return;
        }
        let found = self.look(&path);
        if matches!(found, Found::Nothing) && !self.is_in_place(parent) {
            self.overlook(parent);
        }
        let found_key = match &found {
            Found::Directory(_, watch) => Some(watch.key()),
            _ => None,
        };
        let is = |engine: &Self, node: NodeId| found_key.is_some() && engine.tree.watch_key(node) == found_key;
        let came = match (moved, here) {
            // As the event says; or it has moved on already, and the event that says so will find it here.
            (Some(moved), here) if is(self, moved) || matches!(found, Found::Nothing) => {
                here.into_iter().for_each(|node| self.drop_node(node));
                self.tree.attach(moved, parent, name);
                from = limbo.as_ref().and_then(|limbo| limbo.from.clone());
                let old = limbo.as_ref().map_or(Extent::ROOT, |limbo| limbo.extent);
                let lengths_matter = self.long_paths.change_by_rename(&self.tree, moved, old, path.extent());
                // The remote has other directories in it.
                from = from.filter(|_| !lengths_matter);
                if matches!(found, Found::Nothing) {
                    limbo.into_iter().for_each(|limbo| self.doubt(&limbo));
                }
                // A new path may be excluded or too long where the old one was not, and the reverse.
                (moved, (lengths_matter || !self.spec.filter.is_empty()).then_some(Mode::Silent))
            }
            // A newer one is here, which is known already.
            (_, Some(here)) if is(self, here) => {
                limbo.into_iter().for_each(|limbo| self.lose(limbo));
                (here, Some(Mode::Silent))
            }
            (_, here) => {
                limbo.into_iter().for_each(|limbo| self.lose(limbo));
                here.into_iter().for_each(|node| self.drop_node(node));
                (self.tree.insert(parent, name), Some(Mode::Silent))
            }
        };
        let (node, mode) = came;
        if self.spec.events.move_to {
            self.steps.push(match from {
                Some(from) => Step::Renamed(node, from),
                None => Step::Report(node, Hint::Arrived),
            });
        }
        self.steps.extend(mode.map(|mode| Step::Walk(node, mode)));
        if moved.is_some() {
            self.see_overlooked(node);
        }
        if let Found::Directory(_, watch) = found {
            self.settle(node, watch);
        }
    }

    /// Something in this directory was not found, because the directory itself is not, or not any more, at its path.
    pub(super) fn overlook(&mut self, node: NodeId) {
        if self.tree.is_alive(node) {
            self.overlooked.insert(node);
        }
    }

    /// `node` is at its path again: so is what was overlooked below it.
    fn see_overlooked(&mut self, node: NodeId) {
        let (tree, steps) = (&self.tree, &mut self.steps);
        self.overlooked.retain(|below| {
            let here = tree.is_alive(*below) && tree.is_in(*below, node);
            if here {
                steps.push(Step::Walk(*below, Mode::Silent));
            }
            tree.is_alive(*below) && !here
        });
    }

    /// What a look found at a path is not taken into the tree: an event that it came there follows.
    pub(super) fn leave(&mut self, found: Found) {
        if let Found::Directory(_, watch) = found {
            self.disown(watch);
        }
    }

    fn take_from_limbo(&mut self, cookie: u32) -> Option<Limbo> {
        let waiting = self.limbo.get_mut(&cookie)?;
        let found = waiting.pop();
        if waiting.is_empty() {
            self.limbo.remove(&cookie);
        }
        found.filter(|limbo| self.tree.is_alive(limbo.node))
    }

    /// A directory that was taken to have left did not arrive.
    fn lose(&mut self, limbo: Limbo) {
        self.drop_node(limbo.node);
        self.doubt(&limbo);
    }

    /// A directory was taken to have left, but was not seen elsewhere. Mostly it left the tree. But where two directories
    /// were exchanged in one step, it may have come to its place before the other left that, and still be there.
    fn doubt(&mut self, limbo: &Limbo) {
        let name = limbo.name.as_bytes();
        if self.tree.is_alive(limbo.parent) && self.tree.child(limbo.parent, name).is_none() {
            let node = self.tree.insert(limbo.parent, name);
            self.steps.push(Step::Recheck(node, -1));
        }
    }

    /// Gives up directories whose arrival was waited for long enough: they left the tree.
    pub(super) fn end_limbo(&mut self, now: Instant) {
        if self.limbo.is_empty() {
            return;
        }
        let mut left = Vec::new();
        self.limbo.retain(|_, waiting| {
            left.extend(waiting.extract_if(.., |limbo| limbo.until <= now));
            !waiting.is_empty()
        });
        left.into_iter().for_each(|limbo| self.lose(limbo));
    }

    fn file_event(&mut self, parent: NodeId, path: RelPath, event: &Event) {
        // A directory that is held there has exchanged names with this file.
        self.end_hold_of_directory(&path);
        let name = path.file_name().as_bytes();
        let arrives = event.mask.intersects(EventMask::CREATE | EventMask::MOVED_TO);
        if arrives && let Some(node) = self.tree.child(parent, name) {
            self.steps.push(Step::Recheck(node, -1));
        }
        if self.spec.filter.matches(&path, EntryKind::NonDirectory) {
            return;
        }
        let counts = self.counts(event.mask);
        let ends = !event.mask.intersects(EventMask::MODIFY | EventMask::ATTRIB);
        let was_open = ends && {
            let was_new = self.open_files.remove(event.key, path.file_name());
            self.unclosed.remove(event.key, path.file_name()) || was_new
        };
        match treatment(name, self.spec.temporary_names) {
            Treatment::Skip => {}
            _ if event.mask == EventMask::MODIFY && !counts => self.file_modified(path, event, counts),
            Treatment::Hold => self.temporary_event(path, event, counts),
            Treatment::Report if !counts => {}
            Treatment::Report => self.ordinary_event(path, event, was_open),
        }
    }

    /// Whether the switches want this event on a non-directory reported. A creation is wanted by whoever wants
    /// contents: some never close.
    fn counts(&self, mask: EventMask) -> bool {
        let events = &self.spec.events;
        match mask {
            EventMask::CREATE => events.create_file || events.close_write || events.modify,
            EventMask::DELETE => events.delete,
            EventMask::MODIFY => events.modify,
            EventMask::MOVED_FROM => self.reports_leaving(),
            EventMask::MOVED_TO => events.move_to,
            // The rest is only told by the kernel if it was asked to.
            _ => true,
        }
    }

    /// Whether the event is one more modification of a file of which that is known.
    fn is_writing(&mut self, event: &Event) -> bool {
        let Some(name) = &event.name else { return false };
        let renumber = self.is_drained_for();
        self.unclosed.touch(event.key, name, self.read_at, renumber) || self.open_files.contains(event.key, name)
    }

    /// A file was modified, and modifications are not reported as such (`modify="false"`): its close is, or else the end
    /// of a pause.
    fn file_modified(&mut self, path: RelPath, event: &Event, counts: bool) {
        let (key, name) = (event.key, path.file_name());
        match self.holds.reason(&path) {
            Some(Reason::Created(_)) => {
                self.holds.release(&path);
                self.open_files.add(key, name);
            }
            Some(Reason::Found(_)) => {
                self.holds.release(&path);
                if !self.unclosed.new_modified(key, name, self.read_at) {
                    self.open_files.add(key, name);
                }
            }
            Some(Reason::Temporary { .. }) => self.temporary_event(path, event, counts),
            _ if !self.unclosed.modified(key, name, self.read_at, self.hold_times.content) => {
                self.report(path, Hint::Entry);
            }
            _ => {}
        }
    }

    /// Whether the file is a new one that its writer has modified and not closed.
    fn is_open(&self, key: i32, name: &OsStr) -> bool {
        self.open_files.contains(key, name) || self.unclosed.is_new(key, name)
    }

    /// Nothing has modified a file for a while, and no close was reported.
    pub(super) fn unclosed_ended(&mut self, due: Due) {
        let owners = self.tree.watched_by(due.key).filter(|owner| self.tree.watch_key(*owner) == Some(due.key));
        let mut paths = Vec::new();
        for owner in owners.collect::<Vec<_>>() {
            match self.tree.path(owner) {
                Some(directory) => paths.push(directory.join(&due.name)),
                None => self.overlook(owner),
            }
        }
        // If the file is gone, another event reports that.
        let Some(stat) = paths.first().and_then(|path| self.disk.stat(path).ok()) else { return };
        if due.pause < self.hold_times.empty && stat.st_size == 0 {
            return self.unclosed.put_back(due, self.hold_times.empty, false);
        }
        if due.pause < LONGEST && paths.first().is_some_and(|path| self.may_be_new(path)) {
            return self.unclosed.put_back(due, LONGEST, true);
        }
        paths.into_iter().for_each(|path| self.report(path, Hint::Entry));
    }

    /// Whether the file may be a new one that its writer has not closed yet: it was born shortly before closes were
    /// missed, by the end of another process or an overflow.
    fn may_be_new(&mut self, path: &RelPath) -> bool {
        let since = wall_time(self.closes_known_since) - COARSE;
        self.disk.born(path).is_some_and(|born| born < since && since - born < NEW)
    }

    fn temporary_event(&mut self, path: RelPath, event: &Event, counts: bool) {
        let born = event.mask == EventMask::CREATE;
        let is_new = born && self.spec.awaits_close() && !self.is_closed_next(event);
        let fresh = match event.mask {
            EventMask::CREATE if is_new && self.disk.stat(&path).is_ok_and(|stat| writable(&stat).is_some()) => {
                Some(Writer::Unseen)
            }
            EventMask::ATTRIB | EventMask::MODIFY => None,
            _ => Some(Writer::None),
        };
        if let Some(Reason::Temporary { counts: before, writer, .. }) = self.holds.reason(&path) {
            *before |= counts;
            match fresh {
                Some(fresh) => *writer = fresh,
                None if event.mask == EventMask::MODIFY && *writer == Writer::Unseen => {
                    *writer = Writer::Seen(event.key);
                }
                None => {}
            }
            return;
        }
        // The close of a file that is open is reported.
        let is_open = event.mask == EventMask::ATTRIB && self.is_open(event.key, path.file_name());
        if born || counts && !is_open {
            let writer = fresh.unwrap_or(Writer::None);
            self.hold(path, Reason::Temporary { born, counts, writer }, self.hold_times.of_name(writer));
        }
    }

    fn ordinary_event(&mut self, path: RelPath, event: &Event, was_open: bool) {
        match event.mask {
            EventMask::CREATE if !self.spec.events.create_file => {
                if !self.is_closed_next(event) {
                    self.file_made(path);
                }
            }
            EventMask::MOVED_FROM if self.is_set_aside(event) => {
                self.hold(path, Reason::SetAside, self.hold_times.name)
            }
            EventMask::ATTRIB => {
                // A file that is held is reported whole, later, and so is one that is open.
                let is_open = self.is_open(event.key, path.file_name());
                if !is_open && self.holds.reason(&path).is_none() {
                    self.report(path, Hint::Attributes);
                }
            }
            EventMask::MOVED_TO => {
                self.holds.release(&path);
                match self.left.take().filter(|(cookie, _)| *cookie == event.cookie) {
                    Some((_, from)) => self.report_renamed(from, path, Hint::Entry),
                    None => self.report(path, Hint::Entry),
                }
            }
            mask => {
                // What was held back is reported now; what of the file was not seen yet, nobody knows.
                let was_held = self.holds.release(&path).is_some() || was_open;
                if mask == EventMask::MOVED_FROM && !was_held {
                    self.left = Some((event.cookie, path.clone()));
                }
                self.report(path, if mask == EventMask::DELETE { Hint::Removed } else { Hint::Entry });
            }
        }
    }

    /// Whether this is the first half of a rename to a temporary name in the same directory.
    fn is_set_aside(&self, event: &Event) -> bool {
        self.backlog.front().is_some_and(|next| {
            next.key == event.key
                && next.cookie == event.cookie
                && next.mask == EventMask::MOVED_TO
                && next
                    .name
                    .as_ref()
                    .is_some_and(|name| treatment(name.as_bytes(), self.spec.temporary_names) == Treatment::Hold)
        })
    }

    /// Whether the next event that is not of a writer at work on the same file is one that reports it.
    fn is_closed_next(&self, event: &Event) -> bool {
        let of_this = |next: &&Event| next.key == event.key && next.name == event.name;
        let reports = match self.spec.events.modify {
            true => EventMask::CLOSE_WRITE | EventMask::MODIFY,
            false => EventMask::CLOSE_WRITE,
        };
        let at_work = EventMask::MODIFY | EventMask::ATTRIB;
        let next = self
            .backlog
            .iter()
            .take(FEW)
            .take_while(of_this)
            .find(|next| !at_work.difference(reports).contains(next.mask));
        next.is_some_and(|next| next.mask.intersects(reports))
    }

    /// A non-directory was created, and creations are not reported as such (`createFile="false"`).
    ///
    /// A regular file with one link was mostly made by open(2): its writer's close follows, and says when its content
    /// is complete. Once the writer was seen to modify it, only the close counts. A file that is never modified was made by
    /// mknod(2), or was linked into place complete (`O_TMPFILE`). All else never closes.
    fn file_made(&mut self, path: RelPath) {
        let stat = match self.disk.stat(&path) {
            Ok(stat) => stat,
            // Its removal is an event of its own.
            Err(Errno::ENOENT | Errno::ENOTDIR) => return,
            Err(_) => return self.report(path, Hint::Entry),
        };
        match writable(&stat) {
            Some(stamp) => {
                let patience = match stamp.size {
                    0 => self.hold_times.empty,
                    // write(2) sets both times to the same, and lets its event follow when all of its bytes are in
                    // place, which takes long on a busy disk. link(2) sets the second one alone.
                    _ if stamp.modified < changed(&stat) => self.hold_times.linked,
                    _ => self.hold_times.content,
                };
                self.hold(path, Reason::Created(stamp), patience);
            }
            None => self.report(path, Hint::Entry),
        }
    }

    /// Holds a path back.
    pub(super) fn hold(&mut self, path: RelPath, reason: Reason, patience: Duration) {
        if !self.holds.hold(path.clone(), reason, Instant::now() + patience) {
            self.report(path, Hint::Entry);
        } else if reason.may_be_open() {
            // A run for the file that was here before would send the beginning of this one.
            self.report(path, Hint::BeingWritten);
        }
    }

    /// The time of a held path has come, or it is needed now.
    pub(super) fn hold_ended(&mut self, path: RelPath, reason: Reason) {
        let stat = self.disk.stat(&path);
        let gone = matches!(stat, Err(Errno::ENOENT | Errno::ENOTDIR));
        let report = match reason {
            Reason::Temporary { born: true, .. } if gone => {
                return self.report(path, Hint::Passed);
            }
            Reason::Made(parent) => return self.made_after_all(parent, path.file_name()),
            Reason::Temporary { writer: Writer::Seen(key), .. } if !gone => {
                return self.open_files.add(key, path.file_name());
            }
            Reason::Temporary { counts, .. } => counts,
            Reason::SetAside => true,
            Reason::Created(_) | Reason::Found(_) if gone => false,
            Reason::Created(before) | Reason::Found(before) => match stat.ok().as_ref().and_then(writable) {
                // Somebody writes in a way of which the kernel does not tell.
                Some(stamp) if stamp != before => {
                    let patience = self.hold_times.content;
                    self.settling.extended = Some(Instant::now() + patience);
                    return self.hold(path, Reason::Created(stamp), patience);
                }
                _ => true,
            },
        };
        if report {
            self.report(path, Hint::Entry);
        }
    }
}

/// The stamp of a file whose creation will be followed by a close, if it is of that kind.
pub(super) fn writable(stat: &FileStat) -> Option<Stamp> {
    let modified = nanoseconds(stat.st_mtime, stat.st_mtime_nsec);
    (kind(stat) == SFlag::S_IFREG && stat.st_nlink == 1).then_some(Stamp { size: stat.st_size, modified })
}

fn changed(stat: &FileStat) -> i128 {
    nanoseconds(stat.st_ctime, stat.st_ctime_nsec)
}

fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
}
