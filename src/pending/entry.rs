//! [`Entry`]: what is known of one path that waits, or is in flight: what has to be done, since when, what went wrong.

use super::{Seq, Stamp};
use crate::path::RelPath;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What has to be done about a path. A greater kind does all that a smaller one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Compare the entry by size and time, not its content.
    Attributes,
    /// Send the entry whatever its size and time, or delete it. Of a directory: the directory itself.
    Entry,
    /// The same, and delete what is below the directory on the remote and not here. Entries
    /// below it are sent by their own reports: a file in it that is being written must not be sent yet.
    Pruned,
    /// Make everything below equal, comparing by size and time.
    Tree,
    /// Make everything below equal, comparing contents.
    VerifiedTree,
}

impl Kind {
    /// The word for people and D-Bus.
    pub fn word(self) -> &'static str {
        match self {
            Self::Attributes => "attributes",
            Self::Entry => "entry",
            Self::Pruned | Self::Tree | Self::VerifiedTree => "tree",
        }
    }
}

/// Deletions that a run may make for a path. A greater value counts where two reports of a path differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purge {
    /// Any number: the report follows from changes that the watch saw.
    Seen,
    /// Few: an earlier run has counted them.
    Granted,
    /// None by comparison, they are only counted: the report follows from no change that the watch saw, so that files may
    /// be missing here because a file system is not mounted.
    Counted,
    /// Any number: a caller asked for them.
    Accepted,
}

impl Purge {
    /// What holds for a comparison that stands for this one and for others: a count, or an acceptance, is about one
    /// comparison alone.
    pub(super) fn of_more(self) -> Self {
        if self == Self::Seen { Self::Seen } else { Self::Counted }
    }
}

/// Why a path failed, as often as it did.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed<F> {
    /// The last error.
    pub fault: Arc<F>,
    /// How often it failed.
    pub attempts: u32,
    /// When it failed the last time.
    pub at: SystemTime,
}

/// One path that waits, or is in flight.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<F> {
    /// What has to be done.
    pub kind: Kind,
    /// The oldest report that is not yet served.
    pub seq: Seq,
    /// When that report came.
    pub since: SystemTime,
    /// No change is known to be missing; it is here only because somebody asked for it (a full sync).
    pub requested: bool,
    /// Deletions that a run may make for it.
    pub purge: Purge,
    /// Somebody asked for it, whatever else speaks for it.
    pub(super) asked: bool,
    /// Nothing but the clock speaks for it: what the clock's full syncs leave out may be left out.
    pub(super) scheduled: bool,
    /// How often in a row a run found it changed or gone while it was sent.
    pub(super) unsettled: u32,
    /// It changed while it was sent the last time: no more than that speaks for a pause.
    pub(super) restless: bool,
    /// So large that it travels in a run of its own.
    pub bulk: bool,
    /// It is one end of a move that waits.
    pub(super) moving: bool,
    /// It failed before.
    pub failed: Option<Box<Failed<F>>>,
    /// It failed by itself (not with its whole batch) and is not tried again before this moment.
    pub(super) parked: Option<Instant>,
}

impl<F> Entry<F> {
    pub(super) fn new(kind: Kind, seq: Seq, since: SystemTime) -> Self {
        Self {
            kind,
            seq,
            since,
            requested: false,
            purge: Purge::Seen,
            asked: false,
            scheduled: false,
            unsettled: 0,
            restless: false,
            bulk: false,
            moving: false,
            failed: None,
            parked: None,
        }
    }

    /// Takes in another report of the same path: the greater need, the greater age.
    pub(super) fn absorb(&mut self, other: Self) {
        if other.seq < self.seq {
            self.seq = other.seq;
            self.since = other.since;
        }
        self.kind = self.kind.max(other.kind);
        self.purge = self.purge.max(other.purge);
        self.requested &= other.requested;
        self.asked |= other.asked;
        self.scheduled &= other.scheduled;
        self.bulk |= other.bulk;
        self.moving |= other.moving;
        if self.failed.is_none() {
            self.failed = other.failed;
        }
        self.parked = None;
    }

    /// The report that it stands for.
    pub(super) fn stamp(&self) -> Stamp {
        (self.seq, self.since)
    }

    /// When it is tried again, having failed by itself; `None`: with the remote's next run.
    pub fn parked_until(&self) -> Option<Instant> {
        self.parked
    }

    pub(super) fn class(&self, path: &RelPath) -> Class {
        match self.kind {
            _ if path.is_root() => Class::Root,
            _ if self.moving => Class::Moving,
            Kind::Attributes => Class::Attributes,
            Kind::Entry if self.bulk => Class::Bulk,
            Kind::Entry => Class::Entry,
            Kind::Tree | Kind::VerifiedTree if self.purge != Purge::Seen => Class::Compared,
            Kind::Pruned => Class::Pruned,
            Kind::Tree => Class::Tree,
            Kind::VerifiedTree => Class::VerifiedTree,
        }
    }
}

/// Entries of one class wait in one queue: a batch holds one class only, so that one rsync command serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Class {
    Attributes,
    Entry,
    Bulk,
    Pruned,
    Tree,
    VerifiedTree,
    /// Trees of which a run may not delete everything that it finds: apart from those that follow from changes.
    Compared,
    Moving,
    Root,
}

pub(super) const CLASSES: usize = 9;
