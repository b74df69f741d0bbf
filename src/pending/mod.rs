//! The pending set of one remote: which paths may differ there, and which of them an rsync run has now.
//!
//! # Theory
//!
//! An event is only a hint that a path may differ. The set keeps one [`Entry`] for each such path until an rsync
//! run that *started after the report* has succeeded for it. That is the invariant everything else rests on, and
//! this is how it is kept:
//!
//! * [`PendingSet::report`] puts a path into the set, or strengthens the entry that waits there already.
//! * [`PendingSet::take`] moves entries out of the set into a [`Batch`] *in flight*. A path that is reported while
//!   its batch flies gets a new entry of its own: the batch, which may have read the file before, cannot clear it.
//! * [`PendingSet::finish`] ends a flight: what succeeded is dropped, the rest returns to the set with its age.
//!
//! Batches of one remote may fly side by side, but never so that an older run could overwrite what a newer one
//! wrote: a path is not taken while the same path, or one above or below it, is in flight. The one exception is a
//! long recursive run: paths below it are taken nevertheless, so that they do not wait for hours, and are *shadowed*,
//! which means reported once more when the recursive run has ended.
//!
//! Where a remote can rename for itself, a path that was renamed waits as a move (`moves`): both its ends travel in one
//! batch, which first renames on the remote and then makes both ends equal as if it had not.
//!
//! Memory is bounded: above its limit the set folds siblings into one recursive entry of their directory
//! (`fold`). A fold covers more than what it replaces, never less.
//!
//! The module is pure: it does no I/O and reads no clock; it knows nothing of rsync, D-Bus or the kernel.

mod entry;
mod flight;
mod fold;
mod moves;

#[cfg(test)]
mod memory_test;
#[cfg(test)]
mod model_test;

use crate::path::RelPath;
use crate::watch::Hint;
use entry::{CLASSES, Class};
pub use entry::{Entry, Failed, Kind, Purge};
use flight::Flight;
pub use flight::{Batch, BatchId, Ending, FailureChanges, LONGEST_PAUSE, Lane, backoff};
pub use moves::Move;
use moves::Moves;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::time::{Duration, Instant, SystemTime};

/// Counts reports over all remotes of the agent. What was reported earlier has the smaller number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

/// A report: its number, and when it came.
pub type Stamp = (Seq, SystemTime);

/// The classes that travel in [`Lane::Live`].
const LIVE: [Class; 7] =
    [Class::Entry, Class::Attributes, Class::Pruned, Class::Tree, Class::VerifiedTree, Class::Compared, Class::Moving];

/// So many waiting paths make a run worth its while: there is no point in gathering more, nor in waiting for the end of
/// another run. Attributes give way to so many entries: while those of a directory are set, nothing below it can be
/// sent, and what is sent sets them by the way.
pub const CROWD: usize = 500;

/// So often in a row: they do not wait for ever.
const GIVES_WAY: u32 = 16;

/// A recursive run this old lets paths below it pass.
const PASS_AFTER: Duration = Duration::from_secs(1);

/// A flight has ended, and may have brought what it saw in the midst of it: below a directory, or under a temporary name.
/// It is forgotten once all that happened before its end has been reported, even what was held back for a while.
#[derive(Debug, Clone, Copy)]
struct Sweep {
    ended: Instant,
    /// All that happened before its end has been reported but for what is held back, so that it brought nothing else of
    /// what is reported from now on.
    told: bool,
}

/// Room for so many paths is kept though none waits.
const ROOM_KEPT: usize = 16_384;

/// So many entries that cannot be taken now are looked at before a search for others is given up.
const BLOCKED_AT_MOST: usize = 1_000;

/// The pending paths of one remote. `F` is the error that a failed path carries.
#[derive(Debug)]
pub struct PendingSet<F> {
    waiting: HashMap<RelPath, Entry<F>>,
    /// By class, the waiting paths that are not parked, oldest report first. A report number can stand for
    /// several paths when one report names many or a fold merges them.
    queues: [BTreeSet<(Seq, RelPath)>; CLASSES],
    parked: BTreeSet<(Instant, RelPath)>,
    flights: BTreeMap<BatchId, Flight<F>>,
    next_batch: u64,
    /// The waiting paths that need [`Kind::VerifiedTree`].
    verified_trees: BTreeSet<RelPath>,
    failed: usize,
    limit: usize,
    /// The longest pause after a failure.
    longest_pause: Duration,
    folds: u64,
    /// The directories that flights took with all that is in them, and the temporary names that they took, of those that
    /// ended lately.
    swept: BTreeMap<RelPath, Sweep>,
    /// The moves that wait.
    moves: Moves,
    /// How often in a row attributes gave way to a crowd of entries.
    gave_way: u32,
    /// Paths of which something may be true now that was not when [`PendingSet::take_touched`] was last called.
    touched: Vec<RelPath>,
}

impl<F> PendingSet<F> {
    /// An empty set that folds above `limit` waiting paths.
    pub fn new(limit: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            queues: Default::default(),
            parked: BTreeSet::new(),
            flights: BTreeMap::new(),
            next_batch: 1,
            verified_trees: BTreeSet::new(),
            failed: 0,
            limit: limit.max(1),
            longest_pause: LONGEST_PAUSE,
            folds: 0,
            swept: BTreeMap::new(),
            moves: Moves::default(),
            gave_way: 0,
            touched: Vec::new(),
        }
    }

    /// Changes the limit; it holds from the next report on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Changes the longest pause after a failure; it holds from the next failure on.
    pub fn set_longest_pause(&mut self, longest: Duration) {
        self.longest_pause = longest;
    }

    /// Paths that wait, in flight not counted.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Paths in flight.
    pub fn in_flight(&self) -> usize {
        self.flights.values().map(|flight| flight.entries.len()).sum()
    }

    /// Nothing waits, nothing flies.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.flights.is_empty()
    }

    /// Paths that failed and are not mended yet, in flight or not.
    pub fn failures(&self) -> usize {
        let flying = self.flights.values().flat_map(|flight| &flight.entries);
        self.failed + flying.filter(|(_, entry)| entry.failed.is_some()).count()
    }

    /// How often the set was folded since its making.
    pub fn folds(&self) -> u64 {
        self.folds
    }

    /// A process before ran rsyncs of which this one knows nothing: any of them may have brought what is gone by now.
    pub fn taken_over(&mut self, now: Instant) {
        self.swept.insert(RelPath::root(), Sweep { ended: now, told: false });
    }

    /// All that happened in the tree before `when` has been reported, but for what is held back.
    pub fn all_told(&mut self, when: Instant) {
        self.swept.values_mut().filter(|sweep| sweep.ended <= when).for_each(|sweep| sweep.told = true);
    }

    /// What was held back of it has been reported as well.
    pub fn nothing_held(&mut self, when: Instant) {
        self.swept.retain(|_, sweep| sweep.ended > when);
    }

    /// Puts `path` into the set for the change that `hint` names.
    pub fn hint(&mut self, path: RelPath, hint: Hint, seq: Seq, since: SystemTime) {
        let kind = match hint {
            Hint::Passed if self.may_have_been_sent(&path) => Kind::Entry,
            // The time of the directory is not what it was when something in it was sent the last time.
            Hint::Passed => return self.directory_changed(&path, seq, since),
            Hint::BeingWritten => return self.withdraw_entry(&path),
            Hint::Attributes => Kind::Attributes,
            Hint::Entry | Hint::Removed => Kind::Entry,
            // A run that has something below in its list may be about to delete the directory that was there before, and
            // what is sent into this one meanwhile with it.
            Hint::NewDirectory if self.flies_below(&path) => Kind::Tree,
            // Where nothing was pending, and nothing has been brought by a run that took a whole directory, the remote
            // has nothing, and nothing has to be deleted below.
            Hint::NewDirectory if self.has(&path) || self.was_swept(&path, |sweep| !sweep.told) => Kind::Pruned,
            Hint::NewDirectory => Kind::Entry,
            Hint::Rescan | Hint::Missed => Kind::Tree,
            Hint::Arrived => Kind::VerifiedTree,
        };
        // Of the root nothing else is reported than that events may have been lost, or that it is another directory.
        let is_doubtful = hint == Hint::Missed || path.is_root() && kind >= Kind::Tree;
        let purge = if is_doubtful { Purge::Counted } else { Purge::Seen };
        self.report_with(path, Entry { purge, ..Entry::new(kind, seq, since) });
    }

    /// Nothing but the time of the directory that holds `path` has changed. rsync leaves the time of the root alone.
    fn directory_changed(&mut self, path: &RelPath, seq: Seq, since: SystemTime) {
        if let Some(directory) = path.parent().filter(|directory| !directory.is_root()) {
            self.report(directory, Kind::Attributes, seq, since, false);
        }
    }

    /// Puts `path` into the set. `requested`: no change is known, somebody asked. Deletions that a comparison of the
    /// whole path finds are only counted at first.
    pub fn report(&mut self, path: RelPath, kind: Kind, seq: Seq, since: SystemTime, requested: bool) {
        let purge = if kind >= Kind::Tree { Purge::Counted } else { Purge::Seen };
        self.report_with(path, Entry { requested, asked: requested, purge, ..Entry::new(kind, seq, since) });
    }

    /// Has the directory `path` compared, with all deletions that the comparison finds: a caller accepted them.
    pub fn accept(&mut self, path: RelPath, seq: Seq, since: SystemTime) {
        // Requested entries are those of the root.
        let requested = path.is_root();
        let entry = Entry { requested, asked: true, purge: Purge::Accepted, ..Entry::new(Kind::Tree, seq, since) };
        self.put(path, entry);
    }

    /// The root is another directory, or was lost: what was granted or accepted was so for the one before, and what
    /// a comparison finds now follows from no change that was seen.
    pub fn doubt(&mut self) {
        let is_doubtful = |entry: &Entry<F>| entry.kind >= Kind::Pruned;
        let paths: Vec<RelPath> =
            self.waiting.iter().filter(|(_, entry)| is_doubtful(entry)).map(|(path, _)| path.clone()).collect();
        for path in paths {
            if let Some(entry) = self.remove(&path) {
                self.restore(path, Entry { purge: Purge::Counted, ..entry });
            }
        }
        let flying = self.flights.values_mut().flat_map(|flight| &mut flight.entries);
        flying.filter(|(_, entry)| is_doubtful(entry)).for_each(|(_, entry)| entry.purge = Purge::Counted);
    }

    fn report_with(&mut self, path: RelPath, entry: Entry<F>) {
        if let Some(above) = self.covering(&path) {
            self.age(&above, entry.stamp());
            return;
        }
        self.put(path, entry);
        if self.waiting.len() > self.limit {
            self.fold();
        }
    }

    /// The clock wants a full sync. Returns whether that is one more: not where one waits or flies already.
    pub fn schedule(&mut self, seq: Seq, since: SystemTime) -> bool {
        let root = RelPath::root();
        if self.has(&root) {
            return false;
        }
        let purge = Purge::Counted;
        self.put(root, Entry { requested: true, scheduled: true, purge, ..Entry::new(Kind::Tree, seq, since) });
        true
    }

    /// Whether `path` waits or is in flight.
    fn has(&self, path: &RelPath) -> bool {
        self.waiting.contains_key(path) || self.flights.values().any(|flight| flight.holds(path))
    }

    /// The waiting recursive entry above `path` that will compare its content anyway, and not only after a pause.
    fn covering(&self, path: &RelPath) -> Option<RelPath> {
        if self.verified_trees.is_empty() || path.is_root() {
            return None;
        }
        let root = RelPath::root();
        if self.is_verified_tree(&root) {
            return Some(root);
        }
        path.ancestors_among(&self.verified_trees).filter(|above| self.is_verified_tree(above)).last().cloned()
    }

    /// What waits at `path` stands for the report `stamp`, too.
    fn age(&mut self, path: &RelPath, stamp: Stamp) {
        if self.waiting.get(path).is_some_and(|entry| stamp < entry.stamp())
            && let Some(entry) = self.remove(path)
        {
            let (seq, since) = stamp;
            self.restore(path.clone(), Entry { seq, since, ..entry });
        }
    }

    fn is_verified_tree(&self, path: &RelPath) -> bool {
        // What a move brought may be compared by size and time alone.
        let covers = |entry: &Entry<F>| {
            entry.kind == Kind::VerifiedTree && entry.parked.is_none() && !entry.moving && !entry.requested
        };
        self.waiting.get(path).is_some_and(covers)
    }

    fn put(&mut self, path: RelPath, entry: Entry<F>) {
        if entry.kind > Kind::Attributes {
            self.moves.unsettle(&path);
        }
        let present = self.remove(&path);
        let before = present.as_ref().map(|present| (present.kind, present.requested));
        let after = self.insert(path.clone(), entry, present);
        if before != Some(after) {
            self.touched.push(path);
        }
    }

    /// [`PendingSet::put`] for an entry that waited a moment ago or has just been in flight: nothing becomes pending
    /// that was not.
    fn restore(&mut self, path: RelPath, entry: Entry<F>) {
        let present = self.remove(&path);
        self.insert(path, entry, present);
    }

    /// Adds an entry for a path that has none, with what was there (`present`) taken in. Says what it came to.
    fn insert(&mut self, path: RelPath, mut entry: Entry<F>, present: Option<Entry<F>>) -> (Kind, bool) {
        if let Some(present) = present {
            entry.absorb(present);
        }
        let became = (entry.kind, entry.requested);
        match entry.parked {
            Some(until) => self.parked.insert((until, path.clone())),
            None => self.queues[entry.class(&path) as usize].insert((entry.seq, path.clone())),
        };
        if entry.kind == Kind::VerifiedTree {
            self.verified_trees.insert(path.clone());
        }
        self.failed += usize::from(entry.failed.is_some());
        self.waiting.insert(path, entry);
        became
    }

    fn remove(&mut self, path: &RelPath) -> Option<Entry<F>> {
        let entry = self.waiting.remove(path)?;
        match entry.parked {
            Some(until) => self.parked.remove(&(until, path.clone())),
            None => self.queues[entry.class(path) as usize].remove(&(entry.seq, path.clone())),
        };
        if entry.kind == Kind::VerifiedTree {
            self.verified_trees.remove(path);
        }
        self.failed -= usize::from(entry.failed.is_some());
        Some(entry)
    }

    /// Drops the waiting paths that `unwanted` names: they are excluded from now on.
    pub fn drop_waiting(&mut self, unwanted: impl Fn(&RelPath) -> bool) {
        self.forget_moves();
        let doomed: Vec<RelPath> = self.waiting.keys().filter(|path| unwanted(path)).cloned().collect();
        for path in doomed {
            self.remove(&path);
            self.touched.push(path);
        }
    }

    /// Drops what waits for `path`: it was seen to elsewhere.
    pub fn withdraw(&mut self, path: &RelPath) {
        if self.remove(path).is_some() {
            self.touched.push(path.clone());
        }
    }

    /// Drops what waits for the entry at `path` alone: it has a successor, which will be reported. A failure stays, and so
    /// does a move, which concerns two paths.
    fn withdraw_entry(&mut self, path: &RelPath) {
        let is_obsolete = |entry: &Entry<F>| entry.kind <= Kind::Entry && entry.failed.is_none() && !entry.moving;
        if self.waiting.get(path).is_some_and(is_obsolete) && self.remove(path).is_some() {
            self.touched.push(path.clone());
        }
    }

    /// Takes a requested full sync back, if it waits and nothing but the request speaks for it.
    pub fn withdraw_request(&mut self) {
        let root = RelPath::root();
        if let Some(entry) = self.remove(&root)
            && !entry.requested
        {
            let purge = entry.purge.of_more();
            self.restore(root, Entry { asked: false, purge, ..entry });
        }
    }

    /// The oldest report of which a remote may not have what it told, now or once the flights of now have ended;
    /// requests aside. Nothing that was reported before it can become undone again.
    pub fn oldest(&self) -> Option<Stamp> {
        self.oldest_pending().into_iter().chain(self.flights.values().filter_map(Flight::oldest_shadow)).min()
    }

    /// The oldest report not yet served, requests aside.
    pub fn oldest_pending(&self) -> Option<Stamp> {
        // Only the root can be requested, so each other queue is headed by its oldest.
        let heads = self.queues.iter().filter_map(|queue| queue.first()).map(|(_, path)| path);
        let parked = self.parked.iter().map(|(_, path)| path);
        let waiting = heads.chain(parked).filter_map(|path| self.waiting.get(path));
        let flying = self.flights.values().filter_map(Flight::oldest);
        waiting.filter(|entry| !entry.requested).map(Entry::stamp).chain(flying).min()
    }

    /// Makes parked paths ready whose time has come.
    pub fn unpark(&mut self, now: Instant) {
        while let Some((until, path)) = self.parked.first().cloned() {
            if until > now {
                break;
            }
            self.ready_at_once(&path);
        }
    }

    /// Makes all parked paths ready at once; returns how many failed paths wait now.
    pub fn retry(&mut self) -> usize {
        while let Some((_, path)) = self.parked.first().cloned() {
            self.ready_at_once(&path);
        }
        self.failed
    }

    /// Makes ready what is parked because it changed again and again while it was sent. Returns whether anything was.
    pub fn try_restless(&mut self) -> bool {
        let is_restless = |path: &RelPath| self.waiting.get(path).is_some_and(|entry| entry.restless);
        let restless: Vec<RelPath> =
            self.parked.iter().map(|(_, path)| path).filter(|path| is_restless(path)).cloned().collect();
        restless.iter().for_each(|path| self.ready_at_once(path));
        !restless.is_empty()
    }

    /// Makes what waits for `path` ready, if it is parked.
    pub fn ready_at_once(&mut self, path: &RelPath) {
        if let Some(entry) = self.remove(path) {
            self.restore(path.clone(), Entry { parked: None, ..entry });
        }
    }

    /// Has what waits for `path` wait until then.
    pub fn park(&mut self, path: &RelPath, until: Instant) {
        if self.waiting.get(path).is_some_and(|entry| !entry.moving)
            && let Some(entry) = self.remove(path)
        {
            self.restore(path.clone(), Entry { parked: Some(until), restless: false, ..entry });
        }
    }

    /// When the next parked path becomes ready.
    pub fn next_unpark(&self) -> Option<Instant> {
        self.parked.first().map(|(until, _)| *until)
    }

    /// The pending paths, in flight first, then those that wait, by age within each; with whether they fly.
    pub fn paths(&self) -> impl Iterator<Item = (&RelPath, &Entry<F>, bool)> {
        let flying = self.flights.values().flat_map(|flight| &flight.entries).map(|(path, entry)| (path, entry, true));
        let parked = self.parked.iter().map(|(_, path)| path);
        let queued = self.queues.iter().flatten().map(|(_, path)| path);
        let waiting = queued.chain(parked).filter_map(|path| Some((path, self.waiting.get(path)?, false)));
        flying.chain(waiting)
    }

    /// What has to be done about `path` sooner or later, whatever happens to the runs in flight; `None` if nothing has to,
    /// or only because somebody asked.
    pub fn owed(&self, path: impl AsRef<[u8]>) -> Option<Kind> {
        let path = path.as_ref();
        let waiting = self.waiting.get(path).filter(|entry| !entry.requested).map(|entry| entry.kind);
        self.flights.values().filter_map(|flight| flight.owed(path)).chain(waiting).max()
    }

    /// All paths with what is [`PendingSet::owed`] for them, some more than once.
    pub fn all_owed(&self) -> impl Iterator<Item = (&RelPath, Kind)> {
        let paths = self.waiting.keys().chain(self.flights.values().flat_map(Flight::paths));
        paths.filter_map(|path| Some((path, self.owed(path)?)))
    }

    /// The paths for which what is [`PendingSet::owed`] may have changed since the last call, in any order, some more
    /// than once.
    pub fn take_touched(&mut self) -> Vec<RelPath> {
        std::mem::take(&mut self.touched)
    }

    /// Frees the room of many paths that wait no more. Says whether there was such room: then what they held themselves
    /// is free as well, and the heap may have much to give back.
    pub fn trim(&mut self) -> bool {
        let (room, held) = (self.waiting.capacity(), self.waiting.len());
        let is_large = room >= ROOM_KEPT && held < room / 8;
        if is_large {
            self.waiting.shrink_to(held * 2);
        }
        is_large
    }

    /// The entry that waits for `path`.
    pub fn get(&self, path: &RelPath) -> Option<&Entry<F>> {
        self.waiting.get(path)
    }
}

/// The last of `paths` that is not greater than `bytes`, with its value.
fn last_entry_up_to<'a, V>(paths: &'a BTreeMap<RelPath, V>, bytes: &[u8]) -> Option<(&'a RelPath, &'a V)> {
    paths.range::<[u8], _>((Bound::Unbounded, Bound::Included(bytes))).next_back()
}
