//! [`Settling`]: when events that were read need not be kept for a process to come.
//!
//! An event is settled when all that follows from it has been reported and whoever hears the reports has written them
//! down. What follows may take a while: a path is held, a directory is walked, the second half of a rename is waited
//! for. In a quiet moment none of these is under way, and everything read is settled once the last report is written
//! down. Under a load that never lets up, a segment of the spool is settled when everything that could have begun with
//! one of its events has ended for certain.
//!
//! What is not kept as an event must be no reason for a later process to trust what it finds: while a walk is owed for
//! another reason (events were lost, a directory could not be watched, something was mounted), the spool says that it is
//! not complete.

use super::Hint;
use super::engine::{Engine, with_slack};
use crate::path::RelPath;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// How far the events read are settled.
#[derive(Debug)]
pub struct Settling {
    /// Events of a process before wait until all is watched.
    pub resuming: bool,
    /// Reports sent.
    pub sent: u64,
    /// Walks are under way of which no event tells.
    pub owes_walk: bool,
    /// A file is held once more until then, because it changed without an event.
    pub extended: Option<Instant>,
    /// Since when the older segment is written to no more.
    switched: Option<Instant>,
    /// When so many reports are written down the older segment is settled.
    settled_with: Option<u64>,
}

impl Settling {
    /// Nothing was sent yet.
    pub fn new(resuming: bool) -> Self {
        Self { resuming, sent: 0, owes_walk: false, extended: None, switched: None, settled_with: None }
    }
}

impl Engine {
    /// Whether events of a process before are to be taken up.
    pub fn is_resuming(&self) -> bool {
        self.settling.resuming
    }

    /// Forgets the events that are settled.
    pub(super) fn forget_settled(&mut self, now: Instant) {
        if !self.descriptor.spool.is_used() || self.settling.resuming {
            return;
        }
        let written_down = self.shared.written_down.load(Ordering::Acquire);
        if written_down >= self.settling.sent && self.is_quiet() {
            self.descriptor.spool.forget();
            (self.settling.switched, self.settling.settled_with) = (None, None);
            return;
        }
        if !self.descriptor.spool.has_older() {
            return;
        }
        let switched = *self.settling.switched.get_or_insert(now);
        // Every hold that began with an event has ended by then, unless it was extended. Files that a writer has open
        // need no event of before: the kernel will report their close.
        let all_ended = switched + 2 * self.hold_times.longest();
        if self.emptied >= all_ended {
            self.unclosed.hurry(switched, self.hold_times.content);
        }
        match self.settling.settled_with {
            None if self.emptied >= all_ended
                && !self.unclosed.waits_since(switched)
                && self.settling.extended.is_none_or(|until| until <= self.emptied)
                && self.steps.is_empty()
                && self.changes.is_empty() =>
            {
                self.settling.settled_with = Some(self.settling.sent);
            }
            Some(sent) if written_down >= sent => {
                self.descriptor.spool.forget_older();
                (self.settling.switched, self.settling.settled_with) = (None, None);
            }
            _ => {}
        }
    }

    /// Whether nothing is under way that began with an event.
    fn is_quiet(&self) -> bool {
        self.backlog.is_empty()
            && self.steps.is_empty()
            && self.limbo.is_empty()
            && self.overlooked.is_empty()
            && self.changes.is_empty()
            && self.holds.next().is_none()
            && self.unclosed.is_empty()
            && !self.rescans.is_owed()
    }

    /// Tells a process to come whether events are all that it needs.
    pub(super) fn say_whether_complete(&mut self) {
        if self.settling.resuming {
            return;
        }
        self.settling.owes_walk &= !self.steps.is_empty();
        let complete = self.root.is_watched()
            && !self.settling.owes_walk
            && !self.rescans.is_owed()
            && self.unwatched.next().is_none();
        self.descriptor.spool.set_complete(complete);
    }

    /// All is watched again: what a process before did not settle may be interpreted. Says whether nothing is missing;
    /// if not, the walks and reports that make up for it are under way.
    pub(super) fn resume(&mut self) -> bool {
        if !std::mem::take(&mut self.settling.resuming) {
            return false;
        }
        let root = self.tree.root();
        if self.tree.watch_key(root) == Some(self.descriptor.spool.root()) {
            return true;
        }
        // Another directory is the root now: of this one no event told.
        self.not_resumed();
        false
    }

    /// The root is not the one that the events speak of.
    pub(super) fn not_resumed(&mut self) {
        self.settling.resuming = false;
        self.backlog.clear();
        self.descriptor.spool.set_complete(false);
        if self.root.is_present() {
            self.report(RelPath::root(), Hint::Rescan);
            self.rescans.asked(Instant::now(), with_slack(self.caught_up));
        }
    }
}
