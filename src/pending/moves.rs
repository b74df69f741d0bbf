//! Renames that a remote makes for itself, so that what was renamed is not sent again.
//!
//! A [`Move`] changes nothing of what is pending: both its ends wait as they would without it, as strongly as they
//! would. It only has them travel in one batch that renames on the remote first. Where the rename succeeds, less is
//! left to send; where it fails, or the agent dies after it, what is owed at both ends makes them equal all the same.
//!
//! There is one thing that a move allows for: of what came from a *settled* place, where nothing was pending, in flight
//! or failed at it, above it or below it, size and time prove equality, as they do in every comparison of a remote with
//! the tree. To keep it so, nothing at, above or below an end of a move travels while the move waits; a full sync that
//! starts meanwhile undoes it, and so does what is reported at the new place. (What is reported below the new place may arrive there before the
//! move is made; then the move fails, since no directory takes the place of one that holds something.)
//!
//! Moves go in the order in which they were reported: a path may leave for the place that another one left before. One
//! that a long run keeps waiting is forgotten, and what was renamed is sent again.

use super::flight::{Flight, Verdict};
use super::{BatchId, Entry, Kind, Lane, PASS_AFTER, PendingSet, Seq, last_entry_up_to};
use crate::filter::EntryKind;
use crate::path::RelPath;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::time::{Instant, SystemTime};

/// So many moves wait at most.
const MOVES_AT_MOST: usize = 10_000;

/// Among more waiting paths those below a directory that was renamed are not searched for.
const SEARCHED_AT_MOST: usize = 5_000;

/// A rename to be made on the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Where it was.
    pub from: RelPath,
    /// Where it is.
    pub to: RelPath,
    /// Whether it is a directory.
    pub directory: bool,
    /// The remote had all of it at the old place: at the new one, size and time will tell what changed since.
    pub settled: bool,
}

/// The moves that wait.
#[derive(Debug, Default)]
pub(super) struct Moves {
    waiting: VecDeque<Move>,
    /// How many moves have this path as an end.
    ends: BTreeMap<RelPath, u32>,
    /// Paths that were reported to have left, until the next run starts; with whether they were settled.
    departed: HashMap<RelPath, bool>,
}

impl Moves {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether `path` is at, above or below an end of a move that waits.
    pub(super) fn concern(&self, path: &RelPath) -> bool {
        if self.ends.is_empty() || path.is_root() {
            return false;
        }
        self.ends.contains_key(path)
            || path.ancestors_in(|bytes| last_entry_up_to(&self.ends, bytes)).next().is_some()
            || self.is_above_an_end(path)
    }

    fn is_above_an_end(&self, path: &RelPath) -> bool {
        if self.ends.is_empty() || path.is_root() {
            return !self.ends.is_empty();
        }
        let first_inside = [path.as_bytes(), b"/"].concat();
        let from = (Bound::Included(first_inside.as_slice()), Bound::Unbounded);
        let mut inside = self.ends.range::<[u8], _>(from);
        inside.next().is_some_and(|(end, _)| end.is_inside(path))
    }

    /// Something else than a rename is reported at `path`: what is below it may be another by now, and travel with it.
    /// (At an old place it waits for the move.)
    pub(super) fn unsettle(&mut self, path: &RelPath) {
        if self.ends.contains_key(path) || self.is_above_an_end(path) {
            let is_below =
                |waiting: &&mut Move| waiting.to == *path || waiting.to.is_inside(path) || waiting.from.is_inside(path);
            self.waiting.iter_mut().filter(is_below).for_each(|waiting| waiting.settled = false);
        }
    }

    fn push(&mut self, made: Move) {
        for end in [&made.from, &made.to] {
            *self.ends.entry(end.clone()).or_default() += 1;
        }
        self.waiting.push_back(made);
    }

    /// Takes the oldest one out; with its ends that are those of no other.
    fn pop(&mut self) -> Option<(Move, Vec<RelPath>)> {
        let first = self.waiting.pop_front()?;
        let mut free = Vec::new();
        for end in [&first.from, &first.to] {
            if let Some(count) = self.ends.get_mut(end) {
                *count -= 1;
                if *count == 0 {
                    self.ends.remove(end);
                    free.push(end.clone());
                }
            }
        }
        Some((first, free))
    }

    /// A run starts: what is said of a path that left is no longer so. And a full sync, which nothing holds up, may bring
    /// to an old place what is there by now.
    pub(super) fn run_starts(&mut self, lane: Lane) {
        self.departed.clear();
        if lane == Lane::Background {
            self.waiting.iter_mut().for_each(|waiting| waiting.settled = false);
        }
    }
}

impl<F> PendingSet<F> {
    /// `path`, or the directory there, is about to be reported to have left for another place. To be called before that
    /// report.
    pub fn departs(&mut self, path: &RelPath, what: EntryKind) {
        let is_settled = self.is_settled(path, what);
        if self.moves.departed.len() < MOVES_AT_MOST {
            self.moves.departed.insert(path.clone(), is_settled);
        }
    }

    /// What was at `from`, and was reported to have left, is at `to` now. Says whether it waits as a move; if not, it
    /// has yet to be reported like anything else that appears.
    pub fn moved(&mut self, from: &RelPath, to: &RelPath, what: EntryKind, seq: Seq, since: SystemTime) -> bool {
        let settled = self.moves.departed.remove(from).unwrap_or(false);
        let directory = what == EntryKind::Directory;
        let apart = from != to && !from.is_inside(to) && !to.is_inside(from);
        // What is still to be sent of a directory may be little; of a file, it is all.
        let worthwhile = settled || directory;
        let searchable = !directory || self.waiting.len() <= SEARCHED_AT_MOST;
        if !(apart && worthwhile && searchable)
            || self.moves.waiting.len() >= MOVES_AT_MOST
            || !self.waiting.contains_key(from)
            || self.covering(to).is_some()
        {
            return false;
        }
        if directory {
            self.gather_below(from);
        }
        let kind = if directory { Kind::VerifiedTree } else { Kind::Entry };
        self.put(to.clone(), Entry::new(kind, seq, since));
        for end in [from, to] {
            self.set_moving(end, true);
        }
        self.moves.push(Move { from: from.clone(), to: to.clone(), directory, settled });
        if self.waiting.len() > self.limit {
            self.fold();
        }
        true
    }

    /// Whether nothing is pending at `path`, above it or (of a directory) below it but attributes, which a comparison by
    /// size and time sees to.
    fn is_settled(&self, path: &RelPath, what: EntryKind) -> bool {
        let is_owed = |path: &[u8]| self.owed_or_asked(path) > Some(Kind::Attributes);
        if is_owed(b"") || is_owed(path.as_bytes()) || path.prefixes().any(is_owed) {
            return false;
        }
        if what != EntryKind::Directory {
            return true;
        }
        let mut flying = self.flights.values().flat_map(Flight::paths);
        self.waiting.len() <= SEARCHED_AT_MOST
            && !self.waiting.keys().any(|below| below.is_inside(path) && is_owed(below.as_bytes()))
            && !flying.any(|below| below.is_inside(path) && is_owed(below.as_bytes()))
    }

    /// [`PendingSet::owed`], with what was only asked for.
    fn owed_or_asked(&self, path: &[u8]) -> Option<Kind> {
        let waiting = self.waiting.get(path).map(|entry| entry.kind);
        let flying = self.flights.values().filter(|flight| flight.holds(path)).map(|flight| flight.kind).max();
        waiting.max(flying).max(self.owed(path))
    }

    /// What waits below a directory that left can wait as that directory.
    fn gather_below(&mut self, directory: &RelPath) {
        let below =
            |(path, entry): (&RelPath, &Entry<F>)| (path.is_inside(directory) && !entry.moving).then(|| path.clone());
        let below: Vec<RelPath> = self.waiting.iter().filter_map(below).collect();
        for path in below {
            if let Some(entry) = self.remove(&path) {
                self.touched.push(path);
                let (kind, parked) = (Kind::VerifiedTree, None);
                self.put(directory.clone(), Entry { kind, parked, requested: false, bulk: false, ..entry });
            }
        }
    }

    fn set_moving(&mut self, path: &RelPath, moving: bool) {
        if let Some(entry) = self.remove(path) {
            self.restore(path.clone(), Entry { moving, parked: None, ..entry });
        }
    }

    /// The ends of all moves wait like anything else.
    pub(super) fn forget_moves(&mut self) {
        while self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some((_, free)) = self.moves.pop() else { return false };
        for end in free {
            self.set_moving(&end, false);
        }
        true
    }

    /// The oldest moves that may travel now, with their ends, and the flights that these are shadowed by.
    pub(super) fn next_moves(
        &mut self,
        most: usize,
        now: Instant,
    ) -> (Vec<RelPath>, Vec<(BatchId, RelPath)>, Vec<Move>) {
        let mut taken = HashSet::new();
        let (mut shadows, mut moves) = (Vec::new(), Vec::new());
        while let Some(next) = self.moves.waiting.front() {
            let ends = [next.from.clone(), next.to.clone()];
            let fresh: Vec<RelPath> = ends.into_iter().filter(|end| !taken.contains(end)).collect();
            if !moves.is_empty() && taken.len() + fresh.len() > most {
                break;
            }
            let (mut blocked, mut by) = (false, Vec::new());
            for end in &fresh {
                match self.verdict(end, now) {
                    Verdict::Free => {}
                    Verdict::Shadowed(flights) => by.extend(flights.into_iter().map(|id| (id, end.clone()))),
                    Verdict::Blocked => blocked = true,
                }
            }
            if !blocked {
                taken.extend(fresh);
                shadows.extend(by);
                moves.extend(self.moves.pop().map(|(next, _)| next));
            } else if !moves.is_empty() || self.is_worth_waiting_for(&fresh, now) {
                break;
            } else {
                self.forget_oldest();
            }
        }
        self.forget_moves_of(&taken);
        (taken.into_iter().collect(), shadows, moves)
    }

    /// Forgets the moves that share an end with those of a batch that is about to start.
    fn forget_moves_of(&mut self, taken: &HashSet<RelPath>) {
        if taken.is_empty() || self.moves.is_empty() {
            return;
        }
        for _ in 0..self.moves.waiting.len() {
            let Some((next, free)) = self.moves.pop() else { break };
            if taken.contains(&next.from) || taken.contains(&next.to) {
                free.into_iter().filter(|end| !taken.contains(end)).for_each(|end| self.set_moving(&end, false));
            } else {
                self.moves.push(next);
            }
        }
    }

    /// Whether what keeps `ends` waiting will soon have ended.
    fn is_worth_waiting_for(&self, ends: &[RelPath], now: Instant) -> bool {
        let is_near = |held: &RelPath, end: &RelPath| held == end || held.is_inside(end) || end.is_inside(held);
        let mut flights = self.flights.values();
        flights.all(|flight| {
            let is_short = flight.lane == Lane::Live && now.duration_since(flight.started) < PASS_AFTER;
            is_short || !flight.entries.iter().any(|(held, _)| ends.iter().any(|end| is_near(held, end)))
        })
    }
}
