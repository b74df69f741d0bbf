//! One remote while the agent runs: its pending set, its running batches, and when the next may start.
//!
//! A change after quiet waits a few milliseconds for its siblings. While a run is in flight changes gather; when it
//! ends, the next takes them: batches grow by themselves under load. A run that takes long does not hold up what
//! comes after it: another starts beside it, on a stream of its own, over other paths.

use super::backoff::Backoff;
use super::deletion_guard::Guard;
use super::gather::Gathering;
use super::link::Link;
use super::mount_guard::MountGuard;
use super::pruning::Pruning;
use super::reserve::Reserve;
use super::snapshot::{self, RemoteState};
use crate::config::Destination;
use crate::filter::EntryKind;
use crate::path::RelPath;
use crate::pending::{Batch, BatchId, CROWD, Entry, Kind, Lane, PendingSet, Seq};
use crate::repeats::{Ration, Repeats};
use crate::transport::{
    Capabilities, Endpoint, Fault, Progress, Readiness, RootIdentity, SharedConnection, Sign, Totals,
};
use crate::watch::{Change, Hint};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A live run this old lets another start beside it.
const YOUNG: Duration = Duration::from_millis(250);

/// What falls to one of several runs that share a crowd: less would cost more than it saves.
const SHARE: usize = 2 * CROWD;

/// One run may remove so many paths, if they are a tree.
const REMOVED_AT_ONCE: usize = 100_000;

/// A run without an answer for this long is silent: its remote gets no other run, and it takes no other remote's turn.
const SILENT: Duration = Duration::from_secs(2);

/// A run that has moved nothing for this long is replaced by a new one when a caller asks for a retry.
const STUCK: Duration = Duration::from_secs(30);

/// A remote, for as long as the config has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RemoteId(pub u32);

/// What of the config a remote needs to know when it may start a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How long the first change after quiet waits for its siblings.
    pub gather: Duration,
    /// At most so many paths in one run.
    pub batch_paths: usize,
    /// At most so many runs of live changes at once.
    pub streams: usize,
    /// So many of them share a crowd of changes, side by side: as many as there are processors for. One run alone is as
    /// fast as the slowest of its three processes.
    pub abreast: usize,
}

/// Which runs that may last long may start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongRuns {
    /// None: they have taken all the runs that they may take at once.
    None,
    /// Large files; a full sync waits until the root is watched.
    BulkOnly,
    /// Large files and full syncs.
    All,
}

/// What may be renamed on a remote in place of being sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moves {
    /// Nothing.
    None,
    /// All but directories.
    OfFiles,
    /// Anything.
    All,
}

/// What a run shows of itself while it is under way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pulse {
    /// How far it is, by rsync's estimate.
    pub progress: Option<Progress>,
    /// Whether the remote has answered in rsync's protocol.
    pub answered: bool,
    /// When data moved last.
    pub moved_at: Instant,
}

impl Pulse {
    /// That of a run that starts now.
    pub fn start(now: Instant) -> Self {
        Self { progress: None, answered: false, moved_at: now }
    }

    /// Takes in a sign of life.
    pub fn note(&mut self, sign: Sign, now: Instant) {
        self.moved_at = now;
        match sign {
            Sign::Answered => self.answered = true,
            Sign::Moved => {}
            Sign::Progress(progress) => (self.progress, self.answered) = (Some(progress), true),
        }
    }
}

/// A batch that is being carried out.
#[derive(Debug)]
pub struct Flight {
    /// How it travels.
    pub lane: Lane,
    /// Paths in it.
    pub paths: usize,
    /// When it started.
    pub started: Instant,
    /// It leaves out all deletions that a comparison finds, since the remote may meet another mirror.
    pub withholds: bool,
    /// Its paths, for when it is given up.
    pub batch: Batch,
    /// What it shows of itself.
    pub pulse: watch::Receiver<Pulse>,
    /// Ends it.
    pub abort: AbortHandle,
}

impl Flight {
    /// Whether the remote has answered it.
    pub fn has_answer(&self) -> bool {
        self.pulse.borrow().answered
    }

    /// Whether it has waited for an answer for so long that the remote may be hung.
    pub fn is_silent(&self, now: Instant) -> bool {
        !self.has_answer() && now.duration_since(self.started) >= SILENT
    }

    /// Whether it makes no progress.
    fn is_stuck(&self, now: Instant) -> bool {
        let pulse = *self.pulse.borrow();
        now.duration_since(pulse.moved_at) >= if pulse.answered { STUCK } else { SILENT }
    }
}

/// One remote while the agent runs.
#[derive(Debug)]
pub struct Remote {
    /// Its number.
    pub id: RemoteId,
    /// Its name: the address, made unique.
    pub name: String,
    /// The watched root that it mirrors.
    pub root: PathBuf,
    /// The pending paths.
    pub set: PendingSet<Fault>,
    /// How to reach it.
    pub endpoint: Arc<Endpoint>,
    /// The ssh connection that its runs share.
    pub shared: Option<SharedConnection>,
    /// The run that waits for the next change.
    pub reserve: Reserve,
    /// Whether comparisons may delete there.
    pub guard: Guard,
    /// Which deletions follow from what is not mounted here, and not from a removal.
    pub mount_guard: MountGuard,
    /// Deletes there what was kept for long enough.
    pub pruning: Pruning,
    /// How fast the way there is.
    pub link: Link,
    /// What it accepts.
    pub capabilities: Capabilities,
    /// The options of which the journal has told that it refuses them.
    pub refusals_told: Vec<&'static str>,
    /// Its failures since its last success.
    pub backoff: Backoff,
    /// How often the journal tells that it is down.
    pub down_told: Repeats,
    /// How many of its failed paths the journal names.
    pub paths_told: Ration,
    /// What runs.
    pub flights: BTreeMap<BatchId, Flight>,
    /// What was sent since start.
    pub totals: Totals,
    /// Whether a run reached it, since this process started.
    pub has_answered: bool,
    /// When a run last delivered something.
    pub last_success: Option<SystemTime>,
    /// When a full sync last succeeded.
    pub last_full_sync: Option<SystemTime>,
    /// It has to be compared with the tree unless the watch of its root proves to have been resumed.
    pub unless_resumed: bool,
    /// When what waits for a live run has gathered.
    gathering: Gathering,
    /// Since when nothing that waits could be taken, for all that changed.
    stuck: Option<Instant>,
}

impl Remote {
    /// A remote for which nothing is pending.
    pub fn new(id: RemoteId, name: String, root: PathBuf, endpoint: Endpoint, pending_limit: usize) -> Self {
        Self {
            id,
            name,
            root,
            set: PendingSet::new(pending_limit),
            endpoint: Arc::new(endpoint),
            shared: None,
            reserve: Reserve::new(Duration::ZERO),
            guard: Guard::default(),
            mount_guard: MountGuard::default(),
            pruning: Pruning::default(),
            link: Link::default(),
            capabilities: Capabilities::default(),
            refusals_told: Vec::new(),
            backoff: Backoff::default(),
            down_told: Repeats::default(),
            paths_told: Ration::default(),
            flights: BTreeMap::new(),
            totals: Totals::default(),
            has_answered: false,
            last_success: None,
            last_full_sync: None,
            unless_resumed: false,
            gathering: Gathering::default(),
            stuck: None,
        }
    }

    /// Its address.
    pub fn destination(&self) -> &Destination {
        self.endpoint.destination()
    }

    /// `change` is about to be reported, and another one will say where what was there has gone.
    pub fn departs(&mut self, change: &Change, moves: Moves) {
        if self.can_move(change.hint.entry_kind(), moves) {
            self.set.departs(&change.path, change.hint.entry_kind());
        }
    }

    /// A path may differ. If it was renamed, the remote may rename it too, if it is one of `moves`.
    pub fn change(&mut self, change: &Change, moves: Moves, seq: Seq, now: Instant, wall: SystemTime) {
        let Change { path, hint, from } = change;
        if *hint == Hint::BeingWritten {
            // Nothing new waits.
            return self.set.hint(path.clone(), *hint, seq, wall);
        }
        let what = hint.entry_kind();
        let from = from.as_ref().filter(|_| self.can_move(what, moves));
        if !from.is_some_and(|from| self.set.moved(from, path, what, seq, wall)) {
            self.set.hint(path.clone(), *hint, seq, wall);
        }
        self.gathering.told(*hint, now);
        self.backoff.changed();
        self.changed(now);
    }

    fn can_move(&self, what: EntryKind, moves: Moves) -> bool {
        let is_allowed = match moves {
            Moves::None => false,
            Moves::OfFiles => what == EntryKind::NonDirectory,
            Moves::All => true,
        };
        is_allowed && self.endpoint.can_move() && self.capabilities.moves.is_worth_a_try()
    }

    /// A path may differ, or a full sync was asked for.
    pub fn report(&mut self, path: RelPath, kind: Kind, seq: Seq, now: Instant, wall: SystemTime, requested: bool) {
        self.set.report(path, kind, seq, wall, requested);
        self.changed(now);
    }

    /// The clock wants a full sync. Returns whether that is one more: not where one waits or runs already.
    pub fn schedule(&mut self, seq: Seq, now: Instant, wall: SystemTime) -> bool {
        let is_new = self.set.schedule(seq, wall);
        if is_new {
            self.changed(now);
        }
        is_new
    }

    /// Something new waits.
    pub fn changed(&mut self, now: Instant) {
        self.stuck = None;
        let at_rest = self.live_flights().next().is_none();
        self.gathering.changed(at_rest, now);
    }

    /// The next batch that may start now.
    pub fn next_batch(&mut self, pace: Pace, long: LongRuns, now: Instant) -> Option<Batch> {
        self.set.unpark(now);
        if self.backoff.next_try(now).is_some() {
            return None;
        }
        if !self.may_start_another(now) {
            return None;
        }
        let in_lane = |lane: Lane| self.flights.values().filter(|flight| flight.lane == lane).count();
        let (bulk, background) = (in_lane(Lane::Bulk), in_lane(Lane::Background));
        if self.may_start_live(pace, now)
            && let Some(batch) = self.set.take(Lane::Live, self.share(pace), now)
        {
            self.gathering.taken(self.set.has_waiting(Lane::Live));
            return Some(batch);
        }
        if long != LongRuns::None
            && bulk + 1 < pace.streams.max(2)
            && let Some(batch) = self.set.take(Lane::Bulk, pace.batch_paths, now)
        {
            return Some(batch);
        }
        if long == LongRuns::All
            && background == 0
            && let Some(batch) = self.set.take(Lane::Background, 1, now)
        {
            return Some(batch);
        }
        if self.gathered_at(pace).is_some_and(|at| at <= now) {
            self.stuck = Some(now);
        }
        None
    }

    /// Whether a run may start beside those in flight: one at a time tries whether the remote answers.
    fn may_start_another(&self, now: Instant) -> bool {
        let answers = self.has_answered && self.backoff.attempts() == 0;
        self.flights.is_empty()
            || self.flights.values().any(Flight::has_answer)
            || answers && !self.flights.values().any(|flight| flight.is_silent(now))
    }

    /// When the next of its runs becomes silent, should it get no answer.
    pub fn next_silence(&self, now: Instant) -> Option<Instant> {
        let unanswered = self.flights.values().filter(|flight| !flight.has_answer());
        unanswered.map(|flight| flight.started + SILENT).filter(|at| *at > now).min()
    }

    /// Whether no live run is in flight.
    pub fn has_no_live_run(&self) -> bool {
        self.live_flights().next().is_none()
    }

    fn live_flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.values().filter(|flight| flight.lane == Lane::Live)
    }

    fn may_start_live(&self, pace: Pace, now: Instant) -> bool {
        let live = self.live_flights().count();
        let all_old = self.live_flights().all(|flight| now.duration_since(flight.started) >= YOUNG);
        let is_abreast = live < pace.abreast && self.set.waiting() >= CROWD;
        self.stuck.is_none()
            && (all_old || is_abreast)
            && live < pace.streams
            && self.gathered_at(pace).is_some_and(|at| at <= now)
    }

    /// How many of the waiting paths the next live run takes: of a crowd that several runs are worth their while for,
    /// what falls to one of those that may share it.
    fn share(&self, pace: Pace) -> usize {
        let waiting = self.set.waiting();
        match waiting {
            tree if self.gathering.is_removal(tree) => pace.batch_paths.max(REMOVED_AT_ONCE),
            few if few < SHARE => pace.batch_paths,
            many => pace.batch_paths.min(many.div_ceil(pace.abreast.max(1)).max(SHARE)),
        }
    }

    /// When what waits has gathered long enough.
    fn gathered_at(&self, pace: Pace) -> Option<Instant> {
        self.gathering.until(pace.gather, self.set.waiting())
    }

    /// When [`Remote::next_batch`] may have something to start that it has not now.
    pub fn next_wake(&self, pace: Pace, now: Instant) -> Option<Instant> {
        if let Some((next_try, _)) = self.backoff.next_try(now) {
            return (!self.set.is_empty()).then_some(next_try);
        }
        // The answer to the one run that tries, or its end, is the next thing to happen.
        if !self.may_start_another(now) {
            return None;
        }
        let next_live = match self.stuck {
            Some(since) => self.next_chance(since),
            None => self.gathered_at(pace).map(|at| self.all_old_at().map_or(at, |old| old.max(at))),
        };
        [next_live, self.set.next_unpark(), self.reserve.next_wake()].into_iter().flatten().min()
    }

    /// Sees to it that a run waits for the next change, where that is wanted and nothing says that it would have to wait
    /// for long.
    pub fn keep_ahead(&mut self, identity: RootIdentity, delete: bool, unfiltered: bool, now: Instant) {
        // One that is started ahead would keep what it deletes under the time of its start, before that of older versions.
        if self.backoff.attempts() > 0 || self.endpoint.keeps_deleted() {
            self.reserve.rest();
        } else if self.has_answered && self.live_flights().next().is_none() {
            let (capabilities, whole_files) = (self.capabilities, self.link.is_for_whole_files());
            let readiness = Readiness { identity, delete, unfiltered, whole_files, capabilities };
            self.reserve.keep(&self.endpoint, &self.root, readiness, now);
        }
    }

    /// When the youngest live run is no longer young.
    fn all_old_at(&self) -> Option<Instant> {
        self.live_flights().map(|flight| flight.started + YOUNG).max()
    }

    /// When what could not be taken at `since` may go on: live runs are no longer young, or a recursive one has lasted
    /// long enough to let others pass.
    fn next_chance(&self, since: Instant) -> Option<Instant> {
        let all_old = self.all_old_at().filter(|at| *at > since);
        [all_old, self.set.next_pass(since)].into_iter().flatten().min()
    }

    /// Time has passed that may have let runs start beside those in flight, or made parked paths ready.
    pub fn wake(&mut self, now: Instant) {
        if self.set.next_unpark().is_some_and(|at| at <= now) {
            self.set.unpark(now);
            self.changed(now);
        }
        if self.stuck.is_some_and(|since| self.next_chance(since).is_some_and(|at| at <= now)) {
            self.stuck = None;
        }
    }

    /// A run ended: what waits may go now.
    pub fn flight_ended(&mut self, flight: &Flight, now: Instant) {
        self.stuck = None;
        if flight.lane == Lane::Live {
            self.gathering.landed(flight.started, now);
        }
        self.gathering.counted(self.set.has_waiting(Lane::Live), now);
    }

    /// Tries everything that failed at once, and ends runs that make no progress: what they had is pending again. Returns
    /// how many paths had failed.
    pub fn retry(&mut self, now: Instant) -> u64 {
        self.flights.values().filter(|flight| flight.is_stuck(now)).for_each(|flight| flight.abort.abort());
        let failed = self.set.retry() as u64;
        self.backoff.cut_short();
        self.changed(now);
        failed
    }

    /// Tries what waits because it changed again and again while it was sent.
    pub fn try_restless(&mut self, now: Instant) {
        if self.set.try_restless() {
            self.changed(now);
        }
    }

    /// `entry`, if it failed, as one of the failure list.
    pub fn failure(
        &self,
        path: &RelPath,
        entry: &Entry<Fault>,
        now: Instant,
        wall: SystemTime,
    ) -> Option<snapshot::Failure> {
        let failed = entry.failed.as_ref()?;
        let parked = entry.parked_until().map(|until| wall + until.saturating_duration_since(now));
        let next_try = parked.or(self.backoff.next_try(now).map(|(_, at)| at)).unwrap_or(wall);
        Some(snapshot::Failure {
            remote: self.name.clone(),
            path: path.clone(),
            fault: Fault::clone(&failed.fault),
            attempts: failed.attempts,
            failed_at: failed.at,
            next_try,
        })
    }

    /// As `bus` and `service` show it.
    pub fn snapshot(&self, paused: bool, now: Instant) -> snapshot::Remote {
        let next_try = self.backoff.next_try(now).map(|(_, wall)| wall);
        let state = match () {
            () if paused => RemoteState::Paused,
            () if next_try.is_some() && !self.set.is_empty() => RemoteState::Waiting,
            () if self.set.is_empty() => RemoteState::Idle,
            () => RemoteState::Syncing,
        };
        let circle = self.guard.problem();
        snapshot::Remote {
            name: self.name.clone(),
            address: self.destination().to_string(),
            port: self.destination().port(),
            root: self.root.clone(),
            state,
            queue_depth: self.set.waiting() as u64,
            in_flight: self.set.in_flight() as u64,
            failures: self.set.failures() as u64,
            oldest_pending: self.set.oldest_pending().map(|(_, since)| since),
            last_error: self.backoff.last().map(|fault| Fault::clone(fault)),
            failing_since: self.backoff.failing_since(),
            attempts: self.backoff.attempts(),
            last_success: self.last_success,
            last_full_sync: self.last_full_sync,
            next_try: next_try.filter(|_| state == RemoteState::Waiting),
            bytes_sent: self.totals.bytes_sent,
            files_synced: self.totals.entries,
            deletions_withheld: circle
                .as_ref()
                .map_or(0, |(count, _)| *count)
                .saturating_add(self.mount_guard.withheld()),
            withheld_reason: match circle {
                Some((_, why)) => why,
                None => self.mount_guard.reason(),
            },
            withheld_paths: self.mount_guard.sample(),
            refused_options: self.capabilities.refused().into_iter().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pending::Ending;

    const PACE: Pace = Pace { gather: Duration::from_millis(5), batch_paths: 100, streams: 4, abreast: 1 };

    fn remote() -> Remote {
        let destination = Destination::Local { directory: "/mnt/copy".into() };
        let options = crate::config::RsyncOptions {
            params: Vec::new(),
            selections: Vec::new(),
            ssh: Vec::new(),
            timeout: None,
            password_file: None,
            may_read: Vec::new(),
            keep_deleted: None,
        };
        let endpoint = Endpoint::new(destination, &options);
        Remote { has_answered: true, ..Remote::new(RemoteId(1), "copy".into(), "/data".into(), endpoint, 100) }
    }

    fn report(remote: &mut Remote, path: &str, seq: u64, now: Instant) {
        let path = RelPath::new(path.as_bytes()).unwrap();
        remote.report(path, Kind::Entry, Seq(seq), now, SystemTime::UNIX_EPOCH, false);
    }

    fn change(remote: &mut Remote, path: &str, hint: Hint, seq: u64, now: Instant) {
        let path = RelPath::new(path.as_bytes()).unwrap();
        remote.change(&Change { path, hint, from: None }, Moves::None, Seq(seq), now, SystemTime::UNIX_EPOCH);
    }

    fn fly(remote: &mut Remote, batch: Batch, now: Instant) {
        let abort = tokio::runtime::Builder::new_current_thread().build().unwrap().spawn(async {}).abort_handle();
        let (_, pulse) = watch::channel(Pulse::start(now));
        let flight =
            Flight { lane: batch.lane, paths: batch.paths.len(), started: now, withholds: false, pulse, abort, batch };
        remote.flights.insert(flight.batch.id, flight);
    }

    /// A flight ends well.
    fn land(remote: &mut Remote, id: BatchId, now: Instant) {
        let flight = remote.flights.remove(&id).unwrap();
        remote.set.finish(id, Ending::success(SystemTime::UNIX_EPOCH, now), Seq(100_000));
        remote.flight_ended(&flight, now);
    }

    #[test]
    fn the_only_try_of_a_remote_that_is_down_is_waited_for_in_peace() {
        let (mut remote, start) = (remote(), Instant::now());
        remote.backoff.failed(
            Arc::new(Fault::new("Unreachable", "x")),
            Duration::from_secs(300),
            start,
            SystemTime::UNIX_EPOCH,
        );
        remote.retry(start);
        report(&mut remote, "a", 1, start);
        let later = start + Duration::from_millis(10);
        let batch = remote.next_batch(PACE, LongRuns::All, later).unwrap();
        fly(&mut remote, batch, later);
        report(&mut remote, "b", 2, later);
        for seconds in 1..5 {
            let now = later + Duration::from_secs(seconds);
            remote.wake(now);
            assert_eq!(remote.next_batch(PACE, LongRuns::All, now), None);
            assert_eq!(remote.next_wake(PACE, now), None, "to wake up would be of no use");
        }
    }

    #[test]
    fn a_crowd_is_shared_by_as_many_runs_as_may_be_abreast() {
        let pace = Pace { batch_paths: 20_000, abreast: 2, ..PACE };
        let (mut remote, start) = (remote(), Instant::now());
        remote.set.set_limit(20_000);
        let mut seq = 0;
        let mut arrive = |remote: &mut Remote, count: usize| {
            for _ in 0..count {
                seq += 1;
                report(remote, &format!("file{seq}"), seq, start);
            }
        };
        arrive(&mut remote, 2 * SHARE);
        assert_eq!(remote.share(Pace { abreast: 64, ..pace }), SHARE, "less is not worth a run");
        for _ in 0..2 {
            let half = remote.next_batch(pace, LongRuns::All, start).unwrap();
            assert_eq!(half.paths.len(), SHARE);
            fly(&mut remote, half, start);
        }
        arrive(&mut remote, CROWD);
        assert_eq!(remote.next_batch(pace, LongRuns::All, start), None, "no more than two");
        let landed = *remote.flights.keys().next().unwrap();
        land(&mut remote, landed, start);
        let next = remote.next_batch(pace, LongRuns::All, start).unwrap();
        assert_eq!(next.paths.len(), CROWD);
    }

    #[test]
    fn a_tree_that_is_removed_goes_at_once_when_it_is_gone() {
        let pace = Pace { batch_paths: 1_000, abreast: 2, ..PACE };
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let of_a_tree = || {
            let mut remote = remote();
            remote.set.set_limit(20_000);
            for nth in 1..=10_000 {
                change(&mut remote, &format!("tree/{nth}"), Hint::Removed, nth, at(nth / 100));
                if nth.is_multiple_of(500) {
                    assert_eq!(remote.next_batch(pace, LongRuns::All, at(nth / 100)), None, "it goes on, at {nth}");
                }
            }
            remote
        };
        let mut remote = of_a_tree();
        let gone = remote.next_wake(pace, at(100)).unwrap();
        assert!(gone > at(100), "more of it may go");
        let batch = remote.next_batch(pace, LongRuns::All, gone).unwrap();
        assert_eq!(batch.paths.len(), 10_000, "all of it, whatever a run may hold");

        // Something else does not wait for it.
        let mut remote = of_a_tree();
        change(&mut remote, "written", Hint::Entry, 10_001, at(101));
        assert!(remote.next_batch(pace, LongRuns::All, at(101)).is_some());
    }

    #[test]
    fn a_load_that_stays_gathers_for_longer_and_what_returns_from_a_run_is_none() {
        let (mut remote, start) = (remote(), Instant::now());
        let at = |millis: u64| start + Duration::from_millis(millis);
        // One run that takes no time, if it may start.
        let round = |remote: &mut Remote, millis: u64| {
            let Some(batch) = remote.next_batch(PACE, LongRuns::All, at(millis)) else { return 0 };
            let id = batch.id;
            fly(remote, batch, at(millis));
            land(remote, id, at(millis));
            1
        };
        let mut runs = 0;
        for millis in (0..3_000).step_by(5) {
            change(&mut remote, &format!("file{millis}"), Hint::Entry, millis + 1, at(millis));
            runs += round(&mut remote, millis);
        }
        assert!((30..80).contains(&runs), "{runs} runs in three seconds");
        assert_eq!(round(&mut remote, 3_100), 1);

        // While something that a full sync gave back gathers, something changes.
        remote.report(RelPath::root(), Kind::Tree, Seq(5_000), at(3_100), SystemTime::UNIX_EPOCH, true);
        let full = remote.next_batch(PACE, LongRuns::All, at(3_100)).unwrap();
        let id = full.id;
        fly(&mut remote, full, at(3_100));
        let again = RelPath::new(b"sent once more").unwrap();
        remote.set.report(again, Kind::Entry, Seq(5_001), SystemTime::UNIX_EPOCH, false);
        land(&mut remote, id, at(3_120));
        change(&mut remote, "file", Hint::Entry, 5_002, at(3_140));
        assert_eq!(round(&mut remote, 3_140), 1);
    }

    #[test]
    fn less_than_a_crowd_waits_for_the_run_in_flight() {
        let pace = Pace { batch_paths: 20_000, abreast: 2, ..PACE };
        let (mut remote, start) = (remote(), Instant::now());
        remote.set.set_limit(20_000);
        report(&mut remote, "first", 1, start);
        let later = start + pace.gather;
        let batch = remote.next_batch(pace, LongRuns::All, later).unwrap();
        fly(&mut remote, batch, later);
        for seq in 2..CROWD as u64 {
            report(&mut remote, &format!("file{seq}"), seq, later);
        }
        assert_eq!(remote.next_batch(pace, LongRuns::All, later + pace.gather), None);
    }

    #[test]
    fn a_look_while_a_run_is_young_does_not_put_off_the_run_beside_it() {
        let (mut remote, start) = (remote(), Instant::now());
        report(&mut remote, "a", 1, start);
        let began = start + Duration::from_millis(10);
        let batch = remote.next_batch(PACE, LongRuns::All, began).unwrap();
        fly(&mut remote, batch, began);
        report(&mut remote, "b", 2, began);
        // Something else of the agent's turns its loop in between.
        let between = began + Duration::from_millis(100);
        remote.wake(between);
        assert_eq!(remote.next_batch(PACE, LongRuns::All, between), None);
        let wake = remote.next_wake(PACE, between).expect("the run in flight may last for hours");
        assert_eq!(wake, began + YOUNG);
        remote.wake(wake);
        assert!(remote.next_batch(PACE, LongRuns::All, wake).is_some());
    }
}
