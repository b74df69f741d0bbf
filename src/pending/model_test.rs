//! The set against a naive world: every path has a version on disk, each remote copy is the version that some run
//! read. Runs are as unkind as they may be: each reads at its very start, writes at its very end, ends in any order,
//! fails in any way. When all has settled, the remote must have the newest version of everything.

use super::{BatchId, Ending, Kind, Lane, PendingSet, Seq};
use crate::filter::EntryKind;
use crate::path::RelPath;
use crate::watch::Hint;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Names on three levels, so that every path has siblings, ancestors and descendants.
const PATHS: [&str; 14] =
    ["a", "a/a", "a/a/a", "a/a/b", "a/b", "a/b/a", "a/b/b", "b", "b/a", "b/a/a", "b/b", "c", "c/a", "c/b"];

#[derive(Debug, Clone)]
enum Step {
    /// The path changes and is reported.
    Change(usize),
    /// The path and everything below it changes, as by a rename, and only the path is reported.
    Arrive(usize),
    /// What is at the first path, with everything below it, is renamed to the second.
    Rename(usize, usize),
    /// A comparison by size and time is asked for, of the path or (14) the root.
    Compare(usize, bool),
    /// Entries below the path that do not exist here have to be deleted on the remote.
    Prune(usize),
    /// From the lane, at most so many, and whether the remote makes the renames.
    Take(usize, usize, bool),
    /// The flight at this position ends, in one of the ways.
    End(usize, How, Vec<bool>),
    Wait(u64),
    Retry,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Success,
    Failure,
    SomeFailed,
    SomeAgain,
    SomeChanged,
    SomeBulk,
}

fn step() -> impl Strategy<Value = Step> {
    let path = 0..PATHS.len();
    let how = prop_oneof![
        3 => Just(How::Success),
        1 => Just(How::Failure),
        1 => Just(How::SomeFailed),
        1 => Just(How::SomeAgain),
        1 => Just(How::SomeChanged),
        1 => Just(How::SomeBulk),
    ];
    prop_oneof![
        6 => path.clone().prop_map(Step::Change),
        1 => path.clone().prop_map(Step::Arrive),
        3 => (path.clone(), path.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (prop_oneof![Just(PATHS.len()), path.clone()], any::<bool>())
            .prop_map(|(path, requested)| Step::Compare(path, requested)),
        1 => (0..PATHS.len()).prop_map(Step::Prune),
        4 => (0..3usize, 1..5usize, any::<bool>()).prop_map(|(lane, most, moves)| Step::Take(lane, most, moves)),
        4 => (0..4usize, how, prop::collection::vec(any::<bool>(), PATHS.len() + 1))
            .prop_map(|(flight, how, bits)| Step::End(flight, how, bits)),
        1 => (0..3_000u64).prop_map(Step::Wait),
        1 => Just(Step::Retry),
    ]
}

struct Run {
    id: BatchId,
    lane: Lane,
    kind: Kind,
    paths: Vec<RelPath>,
    read: BTreeMap<RelPath, u64>,
    /// Compared by size and time alone.
    settled: Vec<RelPath>,
}

/// The version of what is not there.
const GONE: u64 = 0;

struct World {
    set: PendingSet<&'static str>,
    now: Instant,
    seq: u64,
    /// The newest version of anything.
    newest: u64,
    disk: BTreeMap<RelPath, u64>,
    remote: BTreeMap<RelPath, u64>,
    runs: Vec<Run>,
    /// The last report of each path's changes.
    reported: BTreeMap<RelPath, Seq>,
    /// The versions that a caller who waits for all changes was told to be on the remote.
    promised: BTreeMap<RelPath, u64>,
    /// What a journal holds that is told of touched paths alone.
    journal: BTreeMap<RelPath, Kind>,
}

impl World {
    fn new(limit: usize) -> Self {
        let all: BTreeMap<RelPath, u64> = PATHS.iter().map(|path| (rel(path), 1)).collect();
        Self {
            set: PendingSet::new(limit),
            now: Instant::now(),
            seq: 0,
            newest: 1,
            remote: all.clone(),
            disk: all,
            runs: Vec::new(),
            reported: BTreeMap::new(),
            promised: BTreeMap::new(),
            journal: BTreeMap::new(),
        }
    }

    fn report(&mut self, path: RelPath, kind: Kind, requested: bool) {
        self.seq += 1;
        self.set.report(path, kind, Seq(self.seq), SystemTime::UNIX_EPOCH + Duration::from_secs(self.seq), requested);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Change(index) => {
                let path = rel(PATHS[index]);
                self.newest += 1;
                self.disk.insert(path.clone(), self.newest);
                self.report(path.clone(), Kind::Entry, false);
                self.changed(&path);
            }
            Step::Arrive(index) => {
                let path = rel(PATHS[index]);
                for (below, version) in &mut self.disk {
                    if *below == path || below.is_inside(&path) {
                        self.newest += 1;
                        *version = self.newest;
                    }
                }
                self.report(path.clone(), Kind::VerifiedTree, false);
                self.changed(&path);
            }
            Step::Rename(from, to) => self.rename(&rel(PATHS[from]), &rel(PATHS[to])),
            Step::Compare(index, requested) => {
                let path = PATHS.get(index).map_or_else(RelPath::root, |path| rel(path));
                let requested = requested && path.is_root();
                self.report(path, Kind::Tree, requested);
            }
            Step::Prune(index) => self.report(rel(PATHS[index]), Kind::Pruned, false),
            Step::Take(lane, most, moves) => {
                self.take([Lane::Live, Lane::Bulk, Lane::Background][lane], most, moves);
            }
            Step::End(at, how, bits) if at < self.runs.len() => self.end(at, how, &bits),
            Step::End(..) => {}
            Step::Wait(millis) => {
                self.now += Duration::from_millis(millis);
                self.set.unpark(self.now);
            }
            Step::Retry => {
                self.set.retry();
            }
        }
    }

    fn write_down(&mut self) {
        for path in self.set.take_touched() {
            match self.set.owed(&path) {
                Some(kind) => self.journal.insert(path, kind),
                None => self.journal.remove(&path),
            };
        }
    }

    fn rename(&mut self, from: &RelPath, to: &RelPath) {
        let (is_leaf, to_is_leaf) = (is_leaf(from), is_leaf(to));
        if from == to || from.is_inside(to) || to.is_inside(from) || is_leaf != to_is_leaf {
            return;
        }
        rename(&mut self.disk, from, to);
        let (what, gone, came) = match is_leaf {
            true => (EntryKind::NonDirectory, Kind::Entry, Kind::Entry),
            false => (EntryKind::Directory, Kind::Tree, Kind::VerifiedTree),
        };
        self.set.departs(from, what);
        self.report(from.clone(), gone, false);
        self.seq += 1;
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(self.seq);
        if !self.set.moved(from, to, what, Seq(self.seq), since) {
            self.report(to.clone(), came, false);
        }
        self.changed(from);
        self.changed(to);
    }

    /// `path` and what is below it changed with the last report.
    fn changed(&mut self, path: &RelPath) {
        let below = self.disk.keys().filter(|below| *below == path || below.is_inside(path));
        for below in below {
            self.reported.insert(below.clone(), Seq(self.seq));
            self.promised.remove(below);
        }
    }

    /// Tells whoever waits what is in sync, and finds what of that is no more true though nothing has changed since.
    fn broken_promise(&mut self) -> Option<&RelPath> {
        let oldest = self.set.oldest().map(|(seq, _)| seq);
        for (path, seq) in &self.reported {
            if oldest.is_none_or(|oldest| oldest > *seq) {
                self.promised.insert(path.clone(), self.disk[path]);
            }
        }
        self.promised.iter().find(|(path, version)| self.remote[*path] != **version).map(|(path, _)| path)
    }

    fn take(&mut self, lane: Lane, most: usize, moves: bool) {
        if let Some(batch) = self.set.take(lane, most, self.now) {
            let most = if batch.moves.is_empty() { most } else { most.max(2) };
            assert!(batch.paths.is_sorted() && !batch.paths.is_empty() && batch.paths.len() <= most);
            let mut settled = Vec::new();
            for made in &batch.moves {
                assert!(batch.paths.contains(&made.from) && batch.paths.contains(&made.to));
                // No directory takes the place of one that holds something.
                let mut inside = self.remote.iter().filter(|(path, _)| path.is_inside(&made.to));
                let free = is_leaf(&made.to) || inside.all(|(_, version)| *version == GONE);
                if moves && free && self.remote[&made.from] != GONE {
                    rename(&mut self.remote, &made.from, &made.to);
                    settled.retain(|path| *path != made.from && *path != made.to);
                    settled.extend(made.settled.then(|| made.to.clone()));
                }
            }
            let read = self.disk.clone();
            self.runs.push(Run { id: batch.id, lane, kind: batch.kind, paths: batch.paths, read, settled });
        }
    }

    /// The agent dies and another one begins with what the journal holds.
    fn crash(&mut self) {
        self.runs.clear();
        self.set = PendingSet::new(100);
        for (path, kind) in std::mem::take(&mut self.journal) {
            self.report(path, kind, false);
        }
    }

    fn end(&mut self, at: usize, how: How, bits: &[bool]) {
        let run = self.runs.remove(at);
        let mut ending = Ending::success(SystemTime::UNIX_EPOCH, self.now);
        let mut some: Vec<RelPath> =
            run.paths.iter().zip(bits).filter(|(_, chosen)| **chosen).map(|(path, _)| path.clone()).collect();
        if matches!(how, How::SomeChanged) {
            // rsync finds out what has changed since it began, and nothing else.
            some.retain(|path| run.read.get(path) != self.disk.get(path));
        }
        match how {
            How::Success => {}
            How::Failure => ending = Ending::failure(Arc::new("down"), SystemTime::UNIX_EPOCH, self.now),
            How::SomeFailed => ending.failed = some.iter().map(|path| (path.clone(), Arc::new("bad"))).collect(),
            How::SomeAgain => ending.again = some.clone(),
            How::SomeChanged => ending.changed = some.clone(),
            How::SomeBulk if run.lane == Lane::Live && run.kind == Kind::Entry => ending.bulk = some.clone(),
            How::SomeBulk => {}
        }
        let undone = |path: &RelPath| match how {
            How::Success => false,
            How::Failure => true,
            How::SomeFailed | How::SomeAgain | How::SomeChanged => some.contains(path),
            How::SomeBulk => ending.bulk.contains(path),
        };
        for path in run.paths.iter().filter(|path| !undone(path)) {
            let settled = run.settled.contains(path);
            for (below, version) in &run.read {
                // A comparison by size and time may or may not notice a difference, but for that of something and
                // nothing.
                let noticed = bits[0] || *version == GONE || self.remote[below] == GONE;
                let reached = (below == path && (noticed || !settled))
                    || match run.kind {
                        Kind::VerifiedTree if !settled => below.is_inside(path),
                        Kind::VerifiedTree | Kind::Tree => below.is_inside(path) && noticed,
                        Kind::Pruned => below.is_inside(path) && *version == GONE,
                        Kind::Entry | Kind::Attributes => false,
                    };
                if reached {
                    self.remote.insert(below.clone(), *version);
                }
            }
        }
        self.seq += 1;
        self.set.finish(run.id, ending, Seq(self.seq));
    }

    /// Lets everything end well.
    fn settle(&mut self, moves: bool) {
        for _ in 0..200 {
            self.set.retry();
            self.now += Duration::from_secs(2);
            for lane in [Lane::Live, Lane::Bulk, Lane::Background] {
                self.take(lane, 100, moves);
            }
            if self.runs.is_empty() {
                break;
            }
            self.end(0, How::Success, &[false; PATHS.len() + 1]);
        }
        assert!(self.set.is_empty(), "the set never settles: {:?}", self.set);
    }
}

fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

fn is_leaf(path: &RelPath) -> bool {
    !PATHS.iter().any(|other| rel(other).is_inside(path))
}

/// What rename(2) does.
fn rename(world: &mut BTreeMap<RelPath, u64>, from: &RelPath, to: &RelPath) {
    let at = |path: &RelPath| path == from || path.is_inside(from);
    let mut moved: BTreeMap<RelPath, u64> = BTreeMap::new();
    for (path, version) in world.iter_mut().filter(|(path, _)| at(path)) {
        let new = [to.as_bytes(), &path.as_bytes()[from.as_bytes().len()..]].concat();
        moved.insert(RelPath::new(&new).unwrap(), std::mem::replace(version, GONE));
    }
    for (path, version) in world.iter_mut().filter(|(path, _)| *path == to || path.is_inside(to)) {
        *version = moved.get(path).copied().unwrap_or(GONE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn nothing_is_lost_whatever_order_runs_end_in(
        limit in prop_oneof![Just(100usize), 1..6usize],
        steps in prop::collection::vec(step(), 1..60),
        (crash, moves) in any::<(bool, bool)>(),
    ) {
        let mut world = World::new(limit);
        for step in steps {
            world.step(step);
            world.write_down();
            prop_assert!(world.set.waiting() <= limit.max(1) + PATHS.len(), "the set outgrows its limit");
            // A path whose newest version is not on the remote is pending, itself or through one above it.
            let behind: Vec<&RelPath> =
                world.disk.iter().filter(|(path, version)| world.remote[*path] != **version).map(|(path, _)| path).collect();
            for path in behind {
                let known = world.set.paths().any(|(pending, _, _)| pending == path || path.is_inside(pending))
                    || world.set.is_shadowed(path);
                prop_assert!(known, "{path:?} is behind, but not pending");
                let on_disk = world.journal.keys().any(|pending| pending == path || path.is_inside(pending));
                prop_assert!(on_disk, "{path:?} is behind, and the journal does not know");
            }
            let owed: BTreeMap<RelPath, Kind> = world.set.all_owed().map(|(path, kind)| (path.clone(), kind)).collect();
            prop_assert_eq!(&world.journal, &owed);
            let broken = world.broken_promise();
            prop_assert!(broken.is_none(), "{broken:?} was said to be in sync");
            let counted = world.set.paths().filter(|(_, entry, _)| entry.failed.is_some()).count();
            prop_assert_eq!(world.set.failures(), counted);
        }
        if crash {
            world.crash();
        }
        world.settle(moves);
        prop_assert_eq!(&world.remote, &world.disk);
        prop_assert_eq!(world.set.failures(), 0);
        prop_assert_eq!(world.set.oldest(), None);
    }
}

#[test]
fn a_limit_is_kept_by_folding_into_crowded_directories() {
    let mut set: PendingSet<()> = PendingSet::new(100);
    for index in 0..10_000u64 {
        let path = rel(&format!("uploads/{}/{index}", index % 3));
        set.report(path, Kind::Entry, Seq(index), SystemTime::UNIX_EPOCH, false);
        assert!(set.waiting() <= 100);
    }
    assert!(set.folds() > 0);
    let batch = set.take(Lane::Live, 1_000, Instant::now()).unwrap();
    assert_eq!(batch.kind, Kind::VerifiedTree);
    assert!(batch.paths.iter().all(|path| path.as_bytes().starts_with(b"uploads/")), "no need to fold the root");
}

#[test]
fn what_waits_for_an_entry_alone_is_dropped_when_its_successor_is_being_written() {
    let mut set: PendingSet<()> = PendingSet::new(100);
    let now = Instant::now();
    let hint = |set: &mut PendingSet<()>, path: &str, hint, seq| {
        set.hint(rel(path), hint, Seq(seq), SystemTime::UNIX_EPOCH);
    };
    hint(&mut set, "failed", Hint::Entry, 1);
    let batch = set.take(Lane::Live, 10, now).unwrap();
    set.finish(batch.id, Ending::failure(Arc::new(()), SystemTime::UNIX_EPOCH, now), Seq(2));
    hint(&mut set, "removed", Hint::Removed, 3);
    hint(&mut set, "mode", Hint::Attributes, 4);
    hint(&mut set, "was a directory", Hint::Rescan, 5);
    set.take_touched();
    for path in ["failed", "removed", "mode", "was a directory", "was not pending"] {
        hint(&mut set, path, Hint::BeingWritten, 6);
    }
    let mut left: Vec<_> = set.paths().map(|(path, ..)| path.clone()).collect();
    left.sort_unstable();
    assert_eq!(left, ["failed", "was a directory"].map(rel));
    let mut touched = set.take_touched();
    touched.sort_unstable();
    assert_eq!(touched, ["mode", "removed"].map(rel), "and the journal hears of it");
    hint(&mut set, "removed", Hint::Entry, 7);
    assert_eq!(set.get(&rel("removed")).map(|entry| entry.seq), Some(Seq(7)));
}

#[test]
fn a_directory_made_anew_is_compared_only_where_the_remote_may_have_something() {
    let mut set: PendingSet<()> = PendingSet::new(100);
    let now = Instant::now();
    let hint = |set: &mut PendingSet<()>, path: &str, hint, seq| {
        set.hint(rel(path), hint, Seq(seq), SystemTime::UNIX_EPOCH);
    };
    hint(&mut set, "new", Hint::NewDirectory, 1);
    hint(&mut set, "old", Hint::Entry, 2);
    hint(&mut set, "old", Hint::NewDirectory, 3);
    hint(&mut set, "x/4913", Hint::Passed, 4);
    let kinds: BTreeMap<_, _> = set.paths().map(|(path, entry, _)| (path.clone(), entry.kind)).collect();
    let parent_of_what_passed = (rel("x"), Kind::Attributes);
    assert_eq!(kinds, BTreeMap::from([(rel("new"), Kind::Entry), (rel("old"), Kind::Pruned), parent_of_what_passed]));

    // While a run takes all of "old", and just after, it may have brought what is gone again.
    set.report(rel("old"), Kind::Tree, Seq(4), SystemTime::UNIX_EPOCH, false);
    let batch = std::iter::from_fn(|| set.take(Lane::Live, 10, now)).find(|batch| batch.kind == Kind::Tree).unwrap();
    hint(&mut set, "old/4913", Hint::Passed, 5);
    set.finish(batch.id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(6));
    hint(&mut set, "old/sub", Hint::NewDirectory, 7);
    // Once all is told that happened before it ended, it has brought nothing of what is told later.
    set.all_told(now);
    hint(&mut set, "old/later", Hint::NewDirectory, 8);
    hint(&mut set, "old/held~", Hint::Passed, 9);
    set.nothing_held(now);
    hint(&mut set, "old/young~", Hint::Passed, 10);
    let kinds: BTreeMap<_, _> =
        set.paths().filter(|(_, _, flies)| !flies).map(|(path, entry, _)| (path.clone(), entry.kind)).collect();
    let entries = ["old/4913", "old/later", "old/held~"].map(|path| (rel(path), Kind::Entry));
    let others = [("old/sub", Kind::Pruned), ("x", Kind::Attributes), ("old", Kind::Attributes)];
    let others = others.map(|(path, kind)| (rel(path), kind));
    assert_eq!(kinds, entries.into_iter().chain(others).filter(|(path, _)| *path != rel("new")).collect());
}

#[test]
fn a_temporary_name_that_a_run_may_have_sent_is_deleted_when_it_has_passed() {
    let mut set: PendingSet<()> = PendingSet::new(100);
    let now = Instant::now();
    let hint = |set: &mut PendingSet<()>, path: &str, hint, seq| {
        set.hint(rel(path), hint, Seq(seq), SystemTime::UNIX_EPOCH);
    };
    for (path, seq) in [("d/x~", 1), ("d/y", 2), ("new", 3), ("e/x~", 4)] {
        hint(&mut set, path, Hint::Entry, seq);
    }
    let batch = set.take(Lane::Live, 10, now).unwrap();
    let passed = |set: &mut PendingSet<()>, path: &str| {
        hint(set, path, Hint::Passed, 5);
        let kinds: Vec<_> = set.waiting.drain().map(|(path, entry)| (path, entry.kind)).collect();
        set.queues.iter_mut().for_each(BTreeSet::clear);
        kinds
    };
    let deleted = |path: &str| vec![(rel(path), Kind::Entry)];
    assert_eq!(passed(&mut set, "d/x~"), deleted("d/x~"), "the run may just send it");
    assert_eq!(passed(&mut set, "new/4913"), deleted("new/4913"), "and what is in a directory with it");
    assert_eq!(passed(&mut set, "d/4913"), [(rel("d"), Kind::Attributes)]);
    let ending = Ending { whole: vec![rel("new")], ..Ending::success(SystemTime::UNIX_EPOCH, now) };
    assert!(set.finish(batch.id, ending, Seq(6)).swept);
    assert_eq!(passed(&mut set, "d/x~"), deleted("d/x~"));
    assert_eq!(passed(&mut set, "new/4913"), deleted("new/4913"));
    assert_eq!(passed(&mut set, "4913"), [], "rsync leaves the time of the root alone");
    set.all_told(now);
    set.nothing_held(now);
    assert_eq!(passed(&mut set, "e/x~"), [(rel("e"), Kind::Attributes)], "not for ever");
}

#[test]
fn a_directory_made_anew_is_sent_as_a_whole_only_beside_a_run_that_may_delete_what_is_sent_into_it() {
    let mut set: PendingSet<()> = PendingSet::new(100);
    let hint = |set: &mut PendingSet<()>, path: &str, hint, seq| {
        set.hint(rel(path), hint, Seq(seq), SystemTime::UNIX_EPOCH);
    };
    for (path, seq) in [("a/a", 1), ("b", 2), ("b/a", 3)] {
        hint(&mut set, path, Hint::Removed, seq);
    }
    let batch = set.take(Lane::Live, 10, Instant::now()).unwrap();
    assert_eq!(batch.paths, ["a/a", "b", "b/a"].map(rel));
    hint(&mut set, "a", Hint::NewDirectory, 4);
    hint(&mut set, "b", Hint::NewDirectory, 5);
    let kind = |path: &str| set.get(&rel(path)).map(|entry| entry.kind);
    assert_eq!((kind("a"), kind("b")), (Some(Kind::Tree), Some(Kind::Pruned)));
}

#[test]
fn what_was_asked_for_stays_asked_for_whatever_else_speaks_for_it() {
    let mut set: PendingSet<&str> = PendingSet::new(100);
    let now = Instant::now();
    set.report(RelPath::root(), Kind::Tree, Seq(1), SystemTime::UNIX_EPOCH, false);
    let batch = set.take(Lane::Background, 1, now).unwrap();
    assert!(!batch.requested);
    let failed = vec![(RelPath::root(), Arc::new("empty"))];
    set.finish(batch.id, Ending { failed, ..Ending::success(SystemTime::UNIX_EPOCH, now) }, Seq(2));
    set.report(RelPath::root(), Kind::Tree, Seq(3), SystemTime::UNIX_EPOCH, true);
    let batch = set.take(Lane::Background, 1, now).unwrap();
    assert!(batch.requested, "the user has answered what the failure asked");
    set.finish(batch.id, Ending::failure(Arc::new("down"), SystemTime::UNIX_EPOCH, now), Seq(4));
    assert_eq!(set.take(Lane::Background, 1, now), None, "a full sync that failed pauses");
    set.withdraw_request();
    set.retry();
    let batch = set.take(Lane::Background, 1, now).expect("the change is not withdrawn");
    assert!(!batch.requested);
}

#[test]
fn a_change_does_not_wait_with_a_failed_comparison_above_it() {
    let mut set: PendingSet<&str> = PendingSet::new(100);
    let now = Instant::now();
    set.report(rel("d"), Kind::VerifiedTree, Seq(1), SystemTime::UNIX_EPOCH, false);
    let batch = set.take(Lane::Live, 1, now).unwrap();
    let failed = vec![(rel("d"), Arc::new("unreadable"))];
    set.finish(batch.id, Ending { failed, ..Ending::success(SystemTime::UNIX_EPOCH, now) }, Seq(2));
    set.report(rel("d/file"), Kind::Entry, Seq(3), SystemTime::UNIX_EPOCH, false);
    assert_eq!(set.take(Lane::Live, 1, now).map(|batch| batch.paths), Some(vec![rel("d/file")]));
}

#[test]
fn attributes_give_way_to_a_crowd_but_not_for_ever() {
    let mut set: PendingSet<&str> = PendingSet::new(100_000);
    let now = Instant::now();
    set.report(rel("d"), Kind::Attributes, Seq(1), SystemTime::UNIX_EPOCH, false);
    for nth in 0..20_000 {
        set.report(rel(&format!("d/{nth}")), Kind::Entry, Seq(2 + nth), SystemTime::UNIX_EPOCH, false);
    }
    let kinds = std::iter::from_fn(|| {
        set.take(Lane::Live, 100, now).map(|batch| {
            set.finish(batch.id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(30_000));
            batch.kind
        })
    });
    let attributes = kinds.take(100).position(|kind| kind == Kind::Attributes);
    assert!(attributes.is_some_and(|nth| (2..50).contains(&nth)), "{attributes:?}");
}

#[test]
fn what_never_settles_is_not_tried_without_a_pause() {
    let mut set: PendingSet<&str> = PendingSet::new(100);
    let now = Instant::now();
    set.report(rel("restless"), Kind::Entry, Seq(1), SystemTime::UNIX_EPOCH, false);
    let runs = std::iter::from_fn(|| {
        set.take(Lane::Live, 1, now).map(|batch| {
            let again = vec![rel("restless")];
            set.finish(batch.id, Ending { again, ..Ending::success(SystemTime::UNIX_EPOCH, now) }, Seq(2));
        })
    });
    assert!((2..10).contains(&runs.take(100).count()));
    assert!(set.next_unpark().is_some_and(|at| at > now));
    set.report(rel("restless"), Kind::Entry, Seq(3), SystemTime::UNIX_EPOCH, false);
    assert!(set.take(Lane::Live, 1, now).is_some(), "a new report is served at once");
}

#[test]
fn what_changes_while_it_is_sent_does_not_put_off_who_waits() {
    let mut world = World::new(100);
    world.report(rel("a"), Kind::Entry, false);
    // A caller waits for all that was reported until now.
    let waits_for = Seq(world.seq);
    world.take(Lane::Live, 10, false);
    let mut pauses = 0;
    for _ in 0..8 {
        world.step(Step::Wait(400_000));
        world.newest += 1;
        world.disk.insert(rel("a"), world.newest);
        world.end(0, How::SomeChanged, &[true; PATHS.len() + 1]);
        assert!(world.set.oldest().unwrap().0 > waits_for, "what was there then is no more");
        assert_eq!(world.set.oldest().unwrap().1, SystemTime::UNIX_EPOCH + Duration::from_secs(1), "but it is late");
        world.take(Lane::Live, 10, false);
        if world.runs.is_empty() {
            pauses += 1;
            assert!(world.set.try_restless(), "the next caller does not wait for its pause");
            world.take(Lane::Live, 10, false);
        }
    }
    assert!(pauses > 0 && !world.set.try_restless());
    world.end(0, How::SomeAgain, &[true; PATHS.len() + 1]);
    assert!(world.set.next_unpark().is_some() && !world.set.try_restless(), "not sent is not changed");
}

#[test]
fn what_the_clock_wants_is_no_more_than_that_only_while_nothing_else_speaks_for_it() {
    let mut set: PendingSet<&str> = PendingSet::new(100);
    let now = Instant::now();
    let run = |set: &mut PendingSet<&str>| set.take(Lane::Background, 1, now).unwrap();
    assert!(set.schedule(Seq(1), SystemTime::UNIX_EPOCH));
    assert!(!set.schedule(Seq(2), SystemTime::UNIX_EPOCH), "one waits");
    assert_eq!(set.oldest(), None, "no change is missing");
    let batch = run(&mut set);
    assert!(batch.scheduled && !batch.requested && batch.kind == Kind::Tree);
    assert!(!set.schedule(Seq(3), SystemTime::UNIX_EPOCH), "one flies");
    set.finish(batch.id, Ending::failure(Arc::new("down"), SystemTime::UNIX_EPOCH, now), Seq(4));
    assert!(!set.schedule(Seq(5), SystemTime::UNIX_EPOCH), "one is tried again");
    set.retry();
    let batch = run(&mut set);
    assert!(batch.scheduled, "as it was");
    set.finish(batch.id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(6));
    for requested in [true, false] {
        assert!(set.schedule(Seq(7), SystemTime::UNIX_EPOCH));
        set.report(RelPath::root(), Kind::Tree, Seq(8), SystemTime::UNIX_EPOCH, requested);
        let batch = run(&mut set);
        assert!(!batch.scheduled && batch.requested == requested);
        set.finish(batch.id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(9));
    }
}

#[test]
fn what_passes_a_long_full_sync_is_remembered_within_the_limit() {
    let mut set: PendingSet<&str> = PendingSet::new(100);
    let now = Instant::now();
    set.report(RelPath::root(), Kind::Tree, Seq(1), SystemTime::UNIX_EPOCH, true);
    let full = set.take(Lane::Background, 1, now).unwrap();
    for index in 0..1_000 {
        set.report(rel(&format!("uploads/{}/{index}", index % 3)), Kind::Entry, Seq(2), SystemTime::UNIX_EPOCH, false);
        let batch = set.take(Lane::Live, 1, now).expect("it passes");
        set.finish(batch.id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(3));
        assert!(set.all_owed().count() <= 101, "{}", set.all_owed().count());
        assert!(set.is_shadowed(&batch.paths[0]));
    }
    set.finish(full.id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(4));
    assert!((1..=100).contains(&set.waiting()));
}

#[test]
fn who_waits_for_a_change_is_not_told_before_a_full_sync_that_may_undo_it_has_ended() {
    let mut set: PendingSet<&str> = PendingSet::new(100);
    let now = Instant::now();
    let end = |set: &mut PendingSet<&str>, id, seq| {
        set.finish(id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(seq));
    };
    let oldest = |set: &PendingSet<&str>| set.oldest().map(|(seq, _)| seq);
    set.report(RelPath::root(), Kind::Tree, Seq(1), SystemTime::UNIX_EPOCH, true);
    let full = set.take(Lane::Background, 1, now).unwrap();
    assert_eq!(oldest(&set), None, "nothing is known to be missing");
    set.report(rel("file"), Kind::Entry, Seq(2), SystemTime::UNIX_EPOCH, false);
    let live = set.take(Lane::Live, 1, now).expect("it passes");
    end(&mut set, live.id, 3);
    assert_eq!(oldest(&set), Some(Seq(2)), "it has arrived, and may be undone");
    end(&mut set, full.id, 4);
    assert_eq!(oldest(&set), Some(Seq(2)), "it may have been undone");
    let again = set.take(Lane::Live, 1, now).unwrap();
    end(&mut set, again.id, 5);
    assert_eq!(oldest(&set), None);
}

#[test]
fn what_is_reported_above_a_move_undoes_its_proof() {
    let settled = |above: &str, kind: Kind| {
        let mut set: PendingSet<&str> = PendingSet::new(100);
        set.departs(&rel("c/a"), EntryKind::NonDirectory);
        set.report(rel("c/a"), Kind::Entry, Seq(1), SystemTime::UNIX_EPOCH, false);
        assert!(set.moved(&rel("c/a"), &rel("b/a"), EntryKind::NonDirectory, Seq(2), SystemTime::UNIX_EPOCH));
        set.report(rel(above), kind, Seq(3), SystemTime::UNIX_EPOCH, false);
        let batch = set.take(Lane::Live, 10, Instant::now()).expect("the move goes first");
        batch.moves[0].settled
    };
    assert!(settled("elsewhere", Kind::VerifiedTree) && settled("b", Kind::Attributes));
    // The directory came by a rename, with another file of that name.
    assert!(!settled("b", Kind::VerifiedTree) && !settled("c", Kind::Tree) && !settled("b/a", Kind::Entry));
    assert!(settled("c/a", Kind::Entry), "a new file at the old place waits for the move");
}
