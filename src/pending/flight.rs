//! Batches in flight: which may start beside which, and what returns to the set when one ends.

use super::{
    BLOCKED_AT_MOST, CROWD, Class, Entry, Failed, GIVES_WAY, Kind, LIVE, Move, PASS_AFTER, PendingSet, Purge, Seq,
    Stamp, Sweep, last_entry_up_to,
};
use crate::path::RelPath;
use crate::watch::is_temporary;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// A batch's number, unique within its remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// What a batch travels with, so that one sort of work never waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Changes as they happen.
    Live,
    /// Large files, found to be large by an earlier try to send them with others.
    Bulk,
    /// The root, recursively: a full sync.
    Background,
}

/// Paths for one rsync run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Its number.
    pub id: BatchId,
    /// How it travels.
    pub lane: Lane,
    /// What all its paths need.
    pub kind: Kind,
    /// Sorted by their bytes, each once.
    pub paths: Vec<RelPath>,
    /// Renames for the remote to make before anything else, in this order. Both ends of each are among the paths.
    pub moves: Vec<Move>,
    /// Deletions that the run may make.
    pub purge: Purge,
    /// A full sync that somebody asked for, whatever else speaks for it.
    pub requested: bool,
    /// A full sync for which nothing but the clock speaks.
    pub scheduled: bool,
}

/// A batch that an rsync run has now.
#[derive(Debug)]
pub(super) struct Flight<F> {
    pub(super) lane: Lane,
    pub(super) kind: Kind,
    pub(super) started: Instant,
    /// Sorted by path.
    pub(super) entries: Vec<(RelPath, Entry<F>)>,
    /// Paths below this recursive flight that were taken while it flew.
    shadowed: BTreeMap<RelPath, Shadow>,
    /// The oldest report among them.
    oldest_shadow: Option<Stamp>,
    /// Directories that another flight changes entries in, too, with the oldest report of one of ours in each: the run
    /// that ends last may have set an older time.
    shared_parents: HashMap<RelPath, Stamp>,
}

/// What a flight may undo when it ends, and what is sent again for that.
#[derive(Debug, Clone, Copy)]
struct Shadow {
    kind: Kind,
    purge: Purge,
    /// The report that is in doubt again: who waits for it goes on waiting.
    stamp: Stamp,
}

impl<F> Flight<F> {
    /// The oldest report in it, requests aside.
    pub(super) fn oldest(&self) -> Option<Stamp> {
        self.entries.iter().filter(|(_, entry)| !entry.requested).map(|(_, entry)| entry.stamp()).min()
    }

    /// The oldest report that its end may undo.
    pub(super) fn oldest_shadow(&self) -> Option<Stamp> {
        self.oldest_shadow
    }

    /// The report that `path`, which the run met, was sent for: its own or that of a directory above.
    fn sent_for(&self, path: &RelPath) -> Option<Stamp> {
        let above = path.ancestors_in(|bytes| self.last_up_to(bytes)).map(|(_, entry)| entry);
        let itself = [self.entry(path), self.entry(b"")].into_iter().flatten();
        itself.chain(above).filter(|entry| !entry.requested).map(Entry::stamp).min()
    }

    fn shadow(&mut self, path: RelPath, new: Shadow) {
        self.oldest_shadow = Some(self.oldest_shadow.map_or(new.stamp, |oldest| oldest.min(new.stamp)));
        let shadow = self.shadowed.entry(path).or_insert(new);
        let (kind, purge) = (shadow.kind.max(new.kind), shadow.purge.max(new.purge));
        *shadow = Shadow { kind, purge, stamp: shadow.stamp.min(new.stamp) };
    }

    /// What has to be done about `path` if this flight comes to nothing, and what has to be done once it has ended.
    pub(super) fn owed(&self, path: &[u8]) -> Option<Kind> {
        let held = self.entry(path).filter(|entry| !entry.requested).map(|entry| entry.kind);
        let parent = self.shared_parents.contains_key(path).then_some(Kind::Attributes);
        held.max(self.shadowed.get(path).map(|shadow| shadow.kind)).max(parent)
    }

    /// Cuts the shadowed paths to the directories that hold them, until there are at most `most` or nothing is left to
    /// cut. Returns the paths that came and went.
    fn fold_shadows(&mut self, most: usize) -> Vec<RelPath> {
        let mut touched = Vec::new();
        while self.shadowed.len() > most.max(1) {
            for (path, shadow) in std::mem::take(&mut self.shadowed) {
                let directory = path.parent().unwrap_or_else(RelPath::root);
                touched.extend([path, directory.clone()]);
                self.shadow(directory, Shadow { kind: Kind::VerifiedTree, ..shadow });
            }
        }
        touched
    }

    /// The paths of which [`Flight::owed`] knows something.
    pub(super) fn paths(&self) -> impl Iterator<Item = &RelPath> {
        self.entries.iter().map(|(path, _)| path).chain(self.shadowed.keys()).chain(self.shared_parents.keys())
    }

    /// Whether `path` itself is in it.
    pub(super) fn holds(&self, path: impl AsRef<[u8]>) -> bool {
        self.entry(path).is_some()
    }

    fn entry(&self, path: impl AsRef<[u8]>) -> Option<&Entry<F>> {
        self.entries.binary_search_by(|(held, _)| held.as_bytes().cmp(path.as_ref())).ok().map(|at| &self.entries[at].1)
    }

    /// Whether it may change what is below its paths.
    fn is_recursive(&self) -> bool {
        self.kind >= Kind::Pruned
    }

    /// Whether it may bring what is below its paths.
    fn brings_below(&self) -> bool {
        self.kind >= Kind::Tree
    }

    /// Whether it holds a directory above `path`.
    fn is_above(&self, path: &RelPath) -> bool {
        let holds_ancestor = || path.ancestors_in(|bytes| self.last_up_to(bytes)).next().is_some();
        !path.is_root() && (self.holds(b"") || holds_ancestor())
    }

    /// The last of its entries whose path is not greater than `bytes`.
    fn last_up_to(&self, bytes: &[u8]) -> Option<(&RelPath, &Entry<F>)> {
        let after = self.entries.partition_point(|(held, _)| held.as_bytes() <= bytes);
        self.entries.get(after.checked_sub(1)?).map(|(path, entry)| (path, entry))
    }

    /// Whether it holds something inside `path`.
    fn is_below(&self, path: &RelPath) -> bool {
        if path.is_root() {
            return true;
        }
        let mut first_inside = path.as_bytes().to_vec();
        first_inside.push(b'/');
        let at = self.entries.partition_point(|(held, _)| held.as_bytes() < first_inside.as_slice());
        self.entries.get(at).is_some_and(|(held, _)| held.is_inside(path))
    }

    /// The directories that hold its entries, each with the oldest report of one, the root aside (rsync leaves the
    /// root's own times alone).
    fn parents(&self) -> HashMap<RelPath, Stamp> {
        let mut parents = HashMap::new();
        for (path, entry) in &self.entries {
            if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
                note_oldest(&mut parents, parent, entry.stamp());
            }
        }
        parents
    }
}

fn note_oldest(stamps: &mut HashMap<RelPath, Stamp>, path: RelPath, stamp: Stamp) {
    stamps.entry(path).and_modify(|oldest| *oldest = stamp.min(*oldest)).or_insert(stamp);
}

/// How a path may be taken while others fly.
pub(super) enum Verdict {
    Free,
    /// Free, but to be reported again when these flights end.
    Shadowed(Vec<BatchId>),
    Blocked,
}

/// What an ended run says of its paths. Whatever it does not name has succeeded.
#[derive(Debug)]
pub struct Ending<F> {
    /// These failed by themselves, and are tried again after a pause that grows with each failure.
    pub failed: Vec<(RelPath, Arc<F>)>,
    /// These were not sent, or may not have been: pending again at once, as old as they were.
    pub again: Vec<RelPath>,
    /// These changed or vanished while they were sent: pending again at once, as if reported now. Each such change is
    /// reported by itself, and what it replaced is no more: whoever waits for that does not wait for this.
    pub changed: Vec<RelPath>,
    /// These are large: not sent, to travel in [`Lane::Bulk`].
    pub bulk: Vec<RelPath>,
    /// These directories were sent with all that is in them, though the batch is not recursive.
    pub whole: Vec<RelPath>,
    /// The run counted the deletions that it left out: what those of its paths that are pending again may delete.
    pub purge: Option<Purge>,
    /// The whole run failed with this: all its paths return.
    pub fault: Option<Arc<F>>,
    /// When it ended, by the wall clock.
    pub at: SystemTime,
    /// The same moment, for pauses.
    pub now: Instant,
}

impl<F> Ending<F> {
    /// Everything succeeded.
    pub fn success(at: SystemTime, now: Instant) -> Self {
        Self {
            failed: Vec::new(),
            again: Vec::new(),
            changed: Vec::new(),
            bulk: Vec::new(),
            whole: Vec::new(),
            purge: None,
            fault: None,
            at,
            now,
        }
    }

    /// Nothing was done.
    pub fn failure(fault: Arc<F>, at: SystemTime, now: Instant) -> Self {
        Self { fault: Some(fault), ..Self::success(at, now) }
    }
}

/// What changed in the failure list when a flight ended, and what else it leaves behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FailureChanges {
    /// Paths that failed for the first time.
    pub added: Vec<RelPath>,
    /// Paths that had failed and succeeded now.
    pub cleared: Vec<RelPath>,
    /// It may have brought something that is gone again, and was not reported: see [`PendingSet::all_told`].
    pub swept: bool,
}

impl<F> PendingSet<F> {
    /// Takes the oldest waiting paths that may travel in `lane` now, of one kind, at most `most`.
    ///
    /// At the end the paths are in flight until [`PendingSet::finish`]. `None`: there is nothing that could go.
    pub fn take(&mut self, lane: Lane, most: usize, now: Instant) -> Option<Batch> {
        let mut classes = self.classes_by_age(lane);
        let is_crowd = self.queues[Class::Entry as usize].len() >= CROWD;
        let gives_way = classes.first() == Some(&Class::Attributes) && is_crowd && self.gave_way < GIVES_WAY;
        self.gave_way = if gives_way { self.gave_way + 1 } else { 0 };
        if gives_way {
            classes.rotate_left(1);
        }
        for class in classes {
            let (taken, shadows, moves) = match class {
                Class::Moving => self.next_moves(most, now),
                _ => {
                    let (taken, shadows) = self.search(class, most, now);
                    (taken, shadows, Vec::new())
                }
            };
            if !taken.is_empty() {
                return Some(self.launch(lane, taken, shadows, moves, now));
            }
        }
        None
    }

    /// Whether [`PendingSet::take`] would look at anything for `lane`.
    pub fn has_waiting(&self, lane: Lane) -> bool {
        !self.classes_by_age(lane).is_empty()
    }

    /// Flights in `lane`, with their start.
    pub fn flights(&self, lane: Lane) -> impl Iterator<Item = (BatchId, Instant)> {
        self.flights.iter().filter(move |(_, flight)| flight.lane == lane).map(|(id, flight)| (*id, flight.started))
    }

    /// The next moment after `after` at which a recursive flight begins to let the paths below it pass, or a move is no
    /// longer kept waiting by a flight.
    pub fn next_pass(&self, after: Instant) -> Option<Instant> {
        let lets_pass = |flight: &&Flight<F>| flight.is_recursive() || !self.moves.is_empty();
        let live = self.flights.values().filter(|flight| flight.lane == Lane::Live).filter(lets_pass);
        live.map(|flight| flight.started + PASS_AFTER).filter(|at| *at > after).min()
    }

    /// Whether what batch `id` carries was only asked for, so that it may be given up.
    pub fn is_only_requested(&self, id: BatchId) -> bool {
        self.flights.get(&id).is_some_and(|flight| flight.entries.iter().all(|(_, entry)| entry.requested))
    }

    /// Ends batch `id`. What failed or is large returns to the set as old as it was, and so does what it shadowed; `seq` is
    /// the report of what changed meanwhile, and of failures below what it had only been asked to compare.
    pub fn finish(&mut self, id: BatchId, ending: Ending<F>, seq: Seq) -> FailureChanges {
        let mut changes = FailureChanges::default();
        let Some(flight) = self.flights.remove(&id) else { return changes };
        let sweep = Sweep { ended: ending.now, told: false };
        let is_swept = |path: &RelPath| flight.brings_below() || may_pass(path);
        let entries = flight.entries.iter().map(|(path, _)| path).filter(|path| is_swept(path)).cloned();
        let swept: Vec<RelPath> = entries.chain(ending.whole).collect();
        changes.swept = !swept.is_empty();
        self.swept.extend(swept.into_iter().map(|path| (path, sweep)));
        let longest = self.longest_pause;
        let mut verdicts: BTreeMap<RelPath, Returns<F>> = BTreeMap::new();
        verdicts.extend(ending.bulk.into_iter().map(|path| (path, Returns::Bulk)));
        verdicts.extend(ending.changed.into_iter().map(|path| (path, Returns::Changed)));
        verdicts.extend(ending.again.into_iter().map(|path| (path, Returns::Again)));
        verdicts.extend(ending.failed.into_iter().map(|(path, fault)| (path, Returns::Failed(fault))));

        let sent_for = |path: &RelPath| Some((path.clone(), flight.sent_for(path)?));
        let mut found: BTreeMap<RelPath, Stamp> = verdicts.keys().filter_map(sent_for).collect();
        for (path, mut entry) in flight.entries {
            if let Some(fault) = &ending.fault {
                if entry.failed.is_none() {
                    changes.added.push(path.clone());
                }
                // A full sync that fails is not begun anew each time that a live run succeeds.
                let park_at = (flight.lane == Lane::Background).then_some(ending.now);
                entry.fail(fault.clone(), ending.at, park_at, longest);
                self.restore(path, entry);
                continue;
            }
            match verdicts.remove(&path) {
                None => {
                    changes.cleared.extend(entry.failed.is_some().then(|| path.clone()));
                    self.touched.push(path);
                }
                Some(Returns::Bulk) => self.restore(path, Entry { bulk: true, ..entry }),
                Some(Returns::Again) => {
                    entry.unsettle(ending.now, longest);
                    entry.purge = ending.purge.unwrap_or(entry.purge);
                    self.restore(path, entry);
                }
                Some(Returns::Changed) => {
                    entry.unsettle(ending.now, longest);
                    self.restore(path, Entry { seq, restless: true, ..entry });
                }
                Some(Returns::Failed(fault)) => {
                    if entry.failed.is_none() {
                        changes.added.push(path.clone());
                    }
                    entry.fail(fault, ending.at, Some(ending.now), longest);
                    // A newer report waits already: that one is tried at once, it may be what mends this.
                    self.restore(path, entry);
                }
            }
        }
        // What is left was found below a recursive path of the batch.
        for (path, verdict) in verdicts {
            let (sent_for, since) = found.remove(&path).unwrap_or((seq, ending.at));
            let seq = if matches!(verdict, Returns::Changed) { seq } else { sent_for };
            let mut entry = Entry::new(Kind::Entry, seq, since);
            if let Returns::Failed(fault) = verdict {
                entry.fail(fault, ending.at, Some(ending.now), longest);
                changes.added.push(path.clone());
            }
            self.put(path, entry);
        }
        // What is reported again may be covered by a directory that waits, and is owed no more by itself.
        self.touched.extend(flight.shadowed.keys().chain(flight.shared_parents.keys()).cloned());
        for (path, Shadow { kind, purge, stamp: (seq, since) }) in flight.shadowed {
            self.report_with(path, Entry { purge, ..Entry::new(kind, seq, since) });
        }
        for (path, (seq, since)) in flight.shared_parents {
            self.report(path, Kind::Attributes, seq, since, false);
        }
        if self.waiting.len() > self.limit {
            self.fold();
        }
        changes
    }

    /// Whether a run is about to bring `path`, by itself or with a directory above it, and none has failed to. A full
    /// sync does not count.
    pub fn is_on_its_way(&self, path: &RelPath) -> bool {
        let waits = |path: &[u8], least: Kind| {
            self.waiting.get(path).is_some_and(|entry| entry.failed.is_none() && entry.kind >= least)
                || self.flights.values().any(|flight| flight.kind >= least && flight.holds(path))
        };
        waits(path.as_bytes(), Kind::Attributes) || path.prefixes().any(|above| waits(above, Kind::Tree))
    }

    /// Whether a path below `path` is in flight, and not `path` itself: others below it may be sent meanwhile.
    pub(super) fn flies_below(&self, path: &RelPath) -> bool {
        self.flights.values().any(|flight| flight.is_below(path) && !flight.holds(path))
    }

    /// Whether `path`, or one above it, is to be reported again when a flight ends.
    #[cfg(test)]
    pub(super) fn is_shadowed(&self, path: &RelPath) -> bool {
        let shadows = self.flights.values().flat_map(|flight| flight.shadowed.keys());
        shadows.into_iter().any(|shadow| shadow == path || path.is_inside(shadow))
    }

    /// Whether a recursive run of a directory above `path` flies, or has ended and counts.
    pub(super) fn was_swept(&self, path: &RelPath, counts: impl Fn(&Sweep) -> bool) -> bool {
        self.flights.values().any(|flight| flight.brings_below() && flight.is_above(path))
            || self.swept.get(&RelPath::root()).is_some_and(&counts)
            || path.ancestors_in(|bytes| last_entry_up_to(&self.swept, bytes)).any(|(_, sweep)| counts(sweep))
    }

    /// Whether a run may have brought what is at `path`, flies or has ended lately.
    pub(super) fn may_have_been_sent(&self, path: &RelPath) -> bool {
        self.flights.values().any(|flight| flight.holds(path) || flight.is_above(path))
            || self.swept.contains_key(path)
            || self.was_swept(path, |_| true)
    }

    /// The classes of `lane` that have something waiting, the one with the oldest report first.
    fn classes_by_age(&self, lane: Lane) -> Vec<Class> {
        let classes: &[Class] = match lane {
            Lane::Live => &LIVE,
            Lane::Bulk => &[Class::Bulk],
            Lane::Background => &[Class::Root],
        };
        let mut by_age: Vec<(Seq, Class)> = classes
            .iter()
            .filter_map(|class| self.queues[*class as usize].first().map(|(seq, _)| (*seq, *class)))
            .collect();
        by_age.sort_unstable();
        by_age.into_iter().map(|(_, class)| class).collect()
    }

    fn search(&self, class: Class, most: usize, now: Instant) -> (Vec<RelPath>, Vec<(BatchId, RelPath)>) {
        let mut taken = Vec::new();
        let mut shadows = Vec::new();
        let mut blocked = 0;
        for (_, path) in &self.queues[class as usize] {
            if taken.len() >= most.max(1) || blocked >= BLOCKED_AT_MOST {
                break;
            }
            if self.moves.concern(path) {
                blocked += 1;
                continue;
            }
            match self.verdict(path, now) {
                Verdict::Free => taken.push(path.clone()),
                Verdict::Shadowed(by) => {
                    shadows.extend(by.into_iter().map(|id| (id, path.clone())));
                    taken.push(path.clone());
                }
                Verdict::Blocked => blocked += 1,
            }
        }
        (taken, shadows)
    }

    pub(super) fn verdict(&self, path: &RelPath, now: Instant) -> Verdict {
        let mut shadowed_by = Vec::new();
        for (id, flight) in &self.flights {
            // A full sync goes beside everything: what is in flight now is newer than what it will send, and
            // what it could overwrite with something older is shadowed when it is taken.
            if path.is_root() && flight.lane != Lane::Background {
                shadowed_by.push(*id);
                continue;
            }
            if flight.holds(path) || flight.is_below(path) {
                return Verdict::Blocked;
            }
            if flight.is_above(path) {
                let passes = flight.is_recursive()
                    && (flight.lane == Lane::Background || now.duration_since(flight.started) >= PASS_AFTER);
                if !passes {
                    return Verdict::Blocked;
                }
                shadowed_by.push(*id);
            }
        }
        if shadowed_by.is_empty() { Verdict::Free } else { Verdict::Shadowed(shadowed_by) }
    }

    fn launch(
        &mut self,
        lane: Lane,
        mut paths: Vec<RelPath>,
        shadows: Vec<(BatchId, RelPath)>,
        moves: Vec<Move>,
        now: Instant,
    ) -> Batch {
        self.moves.run_starts(lane);
        paths.sort_unstable();
        let taken = |path: &RelPath, entry: Entry<F>| (path.clone(), Entry { moving: false, ..entry });
        let entries: Vec<(RelPath, Entry<F>)> =
            paths.iter().filter_map(|path| Some(taken(path, self.remove(path)?))).collect();
        let kind = entries.iter().map(|(_, entry)| entry.kind).max().unwrap_or(Kind::Entry);
        let requested = entries.iter().any(|(_, entry)| entry.asked);
        let purge = entries.iter().map(|(_, entry)| entry.purge).max().unwrap_or(Purge::Counted);
        let scheduled = entries.iter().all(|(_, entry)| entry.scheduled);
        let id = BatchId(self.next_batch);
        self.next_batch += 1;
        let mut flight = Flight {
            lane,
            kind,
            started: now,
            entries,
            shadowed: BTreeMap::new(),
            oldest_shadow: None,
            shared_parents: HashMap::new(),
        };
        for (above, path) in shadows {
            if path.is_root() {
                // This full sync may end after a flight that started before it, and bring an older state of its
                // paths: those are sent again once both have ended.
                let earlier = self.flights.get(&above).into_iter().flat_map(|earlier| &earlier.entries);
                for (path, entry) in earlier {
                    // What this one stands for may be what a comparison overlooks.
                    let kind = if entry.kind >= Kind::Tree { entry.kind.max(kind) } else { entry.kind };
                    let purge = entry.purge.of_more();
                    flight.shadow(path.clone(), Shadow { kind, purge, stamp: entry.stamp() });
                    self.touched.push(path.clone());
                }
            } else if let Some(recursive) = self.flights.get_mut(&above) {
                let Some(entry) = flight.entry(&path) else { continue };
                let (kind, purge) = (entry.kind, entry.purge.of_more());
                recursive.shadow(path, Shadow { kind, purge, stamp: entry.stamp() });
                if recursive.shadowed.len() > self.limit {
                    self.touched.extend(recursive.fold_shadows(self.limit / 2));
                }
            }
        }
        self.note_shared_parents(&mut flight);
        self.flights.insert(id, flight);
        Batch { id, lane, kind, paths, moves, purge, requested, scheduled }
    }

    fn note_shared_parents(&mut self, flight: &mut Flight<F>) {
        let others = self.flights.values_mut().filter(|other| !other.is_recursive());
        let mut others = others.peekable();
        if flight.is_recursive() || others.peek().is_none() {
            return;
        }
        let parents = flight.parents();
        for other in others {
            for (path, theirs) in other.parents() {
                let Some(ours) = parents.get(&path) else { continue };
                note_oldest(&mut flight.shared_parents, path.clone(), *ours);
                note_oldest(&mut other.shared_parents, path.clone(), theirs);
                self.touched.push(path);
            }
        }
    }
}

/// Whether the entry may go again without a report of its own.
fn may_pass(path: &RelPath) -> bool {
    !path.is_root() && is_temporary(path.file_name().as_bytes())
}

/// Why a path of an ended flight returns to the set.
enum Returns<F> {
    Bulk,
    Again,
    Changed,
    Failed(Arc<F>),
}

impl<F> Entry<F> {
    /// Counts a failure. `park_at`: the path failed by itself, at this moment, and has to wait.
    fn fail(&mut self, fault: Arc<F>, at: SystemTime, park_at: Option<Instant>, longest: Duration) {
        let attempts = self.attempts() + 1;
        self.failed = Some(Box::new(Failed { fault, attempts, at }));
        self.restless = false;
        self.parked = park_at.map(|now| now + backoff(attempts, longest));
    }

    /// Counts a run that did not come to an end with it. A few times in a row it is taken again at once; then something
    /// else than a lively writer is behind it, and it has to wait.
    fn unsettle(&mut self, now: Instant, longest: Duration) {
        self.unsettled += 1;
        self.restless = false;
        let over = self.unsettled.checked_sub(UNSETTLED_AT_MOST);
        self.parked = over.map(|over| now + backoff(over + 1, longest));
    }

    /// How often it failed.
    pub fn attempts(&self) -> u32 {
        self.failed.as_ref().map_or(0, |failed| failed.attempts)
    }
}

/// So often in a row a path may change while it is sent before it has to wait.
const UNSETTLED_AT_MOST: u32 = 5;

/// The longest pause after a failure, where nothing else is set.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);

/// The pause after the failure that is the `attempts`th in a row: a second, doubled each time, at most `longest`.
pub fn backoff(attempts: u32, longest: Duration) -> Duration {
    let doubled = Duration::from_secs(1).saturating_mul(1 << attempts.saturating_sub(1).min(31));
    doubled.min(longest)
}
