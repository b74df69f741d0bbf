//! Starting runs, and taking in how they ended.

use super::deletion_guard::compares;
use super::echo::Heard;
use super::engine::Engine;
use super::mount_guard::Verdict;
use super::remote::{Flight, LongRuns, Pace, Pulse, RemoteId};
use super::snapshot::{Failure, Fault, Notice};
use crate::config::Deletions;
use crate::failpoint::may_die_here;
use crate::human;
use crate::message_ids;
use crate::path::RelPath;
use crate::pending::{Batch, BatchId, Ending, Kind, LONGEST_PAUSE, Lane, Purge, Seq};
use crate::time;
use crate::transport::{self, Ahead, Order, Outcome, Sign};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// So many failed paths of one run are told one by one, at most.
const TOLD_AT_MOST: usize = 10;

/// So often, at most, the journal tells of a loop.
const LOOP_TOLD_EVERY: Duration = Duration::from_secs(600);

/// What a run's task returns.
pub type Returned = (RemoteId, BatchId, Outcome, Option<Ahead>);

impl Engine {
    /// Starts every run that may start now.
    pub(super) fn dispatch(&mut self, now: Instant) {
        if !self.begun {
            return;
        }
        if self.paused.is_some() {
            self.remotes.iter_mut().for_each(|remote| remote.reserve.rest());
            return;
        }
        let pace = self.pace();
        // Who comes first takes turns, so that no remote starves another of the runs allowed at once.
        self.turn = self.turn.wrapping_add(1);
        for nth in 0..self.remotes.len() {
            let at = (self.turn + nth) % self.remotes.len();
            while let Some(root) = self.roots.iter().find(|root| root.path == self.remotes[at].root) {
                if !root.may_be_read() {
                    self.remotes[at].reserve.rest();
                    break;
                }
                let (is_ready, identity) = (root.condition == super::root::Condition::Ready, root.identity);
                let (runs, long_runs) = self.counted_runs(now);
                let workers = self.config.agent.workers.max(1);
                let is_full = runs >= workers;
                let remote = &mut self.remotes[at];
                // Whatever the others do, each remote may have one live run.
                if is_full && !remote.has_no_live_run() {
                    break;
                }
                let allowed = match () {
                    () if is_full || long_runs >= workers.saturating_sub(1).max(1) => LongRuns::None,
                    () if is_ready => LongRuns::All,
                    () => LongRuns::BulkOnly,
                };
                let Some(batch) = remote.next_batch(pace, allowed, now) else { break };
                self.start(at, batch, identity, now);
            }
            self.keep_ahead(at, now);
        }
    }

    /// Has a run of the remote `at` wait for the next change.
    fn keep_ahead(&mut self, at: usize, now: Instant) {
        let root = self.roots.iter().find(|root| root.path == self.remotes[at].root && root.is_there());
        let Some(identity) = root.and_then(|root| root.identity) else { return };
        let delete = self.may_delete(Lane::Live) && self.remotes[at].mount_guard.keep().is_empty();
        self.remotes[at].keep_ahead(identity, delete, self.config.filter.is_empty(), now);
    }

    fn may_delete(&self, lane: Lane) -> bool {
        self.config.events.delete
            && match self.config.deletions {
                Deletions::Always => true,
                Deletions::FullSyncs => lane == Lane::Background,
                Deletions::Live => lane != Lane::Background,
            }
    }

    /// The runs that count against `workers`, and those of them that may last for hours. A run that gets no answer counts
    /// for no other remote: a hung one would take the turns of the healthy ones.
    pub(super) fn counted_runs(&self, now: Instant) -> (usize, usize) {
        let flights = self.remotes.iter().flat_map(|remote| remote.flights.values());
        flights
            .filter(|flight| !flight.is_silent(now))
            .fold((0, 0), |(runs, long), flight| (runs + 1, long + usize::from(flight.lane != Lane::Live)))
    }

    pub(super) fn pace(&self) -> Pace {
        let agent = &self.config.agent;
        let streams = agent.streams.max(1);
        let abreast = streams.min(self.processors / self.remotes.len().max(1));
        Pace { gather: agent.gather, batch_paths: agent.batch_paths, streams, abreast }
    }

    /// The longest pause before what failed is tried again.
    pub(super) fn longest_pause(&self) -> Duration {
        self.config.fail_log.as_ref().map_or(LONGEST_PAUSE, |log| log.interval)
    }

    fn start(&mut self, at: usize, batch: Batch, identity: Option<transport::RootIdentity>, now: Instant) {
        let delete = self.may_delete(batch.lane);
        let limit = self.config.delete_limit.filter(|_| batch.lane != Lane::Background);
        let root = self.roots.iter().find(|root| root.path == self.remotes[at].root);
        let unreachable = root.map_or_else(Default::default, |root| root.too_long.patterns.clone());
        let remote = &mut self.remotes[at];
        let withholds = compares(batch.lane, batch.kind) && remote.guard.withholds(batch.requested, now);
        let keep = remote.mount_guard.keep().to_vec();
        if let (Some(shared), Some(ruleset)) = (&mut remote.shared, remote.endpoint.last_ruleset())
            && let Err(error) = shared.keep(ruleset, now)
        {
            tracing::debug!(sersync_remote = remote.name, %error, "no shared ssh connection");
        }
        let order = Order {
            root: remote.root.clone(),
            identity,
            paths: batch.paths.clone(),
            // What a remote renames is gone from its old place.
            moves: if keep.is_empty() { batch.moves.clone() } else { Vec::new() },
            kind: batch.kind,
            lane: batch.lane,
            requested: batch.requested,
            delete,
            compared_at_most: if withholds { Some(0) } else { remote.mount_guard.compared_at_most(batch.purge) },
            missing_at_most: limit.map(|limit| remote.mount_guard.missing_at_most(limit, now)),
            keep,
            mounts: remote.mount_guard.mounts(),
            entries: remote.mount_guard.entries(),
            filter: match &self.config.crontab {
                Some(crontab) if batch.scheduled => crontab.filter.clone(),
                _ => self.config.filter.clone(),
            },
            unreachable,
            // A comparison gains most from what a remote accepts, and takes the time of one try more.
            capabilities: match batch.lane {
                Lane::Background => remote.capabilities.reconsidered(),
                Lane::Live | Lane::Bulk => remote.capabilities,
            },
            name_synced: !self.plugins.is_empty(),
            whole_files: remote.link.is_for_whole_files(),
        };
        let (pulse, watched) = watch::channel(Pulse::start(now));
        let answers = self.answer_sender.clone();
        let (id, batch_id, endpoint) = (remote.id, batch.id, remote.endpoint.clone());
        let may_be_ahead = batch.lane == Lane::Live && batch.kind == Kind::Entry;
        let ahead = if may_be_ahead { remote.reserve.take() } else { None };
        let on_sign = Box::new(move |sign| {
            pulse.send_modify(|pulse| pulse.note(sign, time::now()));
            if sign == Sign::Answered {
                // The engine may have ended.
                let _ = answers.send(id);
            }
        });
        let run = self.machine.carry_out(endpoint, order, ahead, on_sign);
        let abort = self.runs.spawn(async move {
            let (outcome, ahead) = run.await;
            (id, batch_id, outcome, ahead)
        });
        if batch.lane == Lane::Background {
            self.jobs.started(&remote.name);
        }
        self.tasks.insert(abort.id(), (id, batch_id));
        let flight = Flight {
            lane: batch.lane,
            paths: batch.paths.len(),
            started: now,
            withholds,
            batch,
            pulse: watched,
            abort,
        };
        remote.flights.insert(batch_id, flight);
        self.dirty = true;
    }

    /// A run's task ended.
    pub(super) fn returned(&mut self, result: Result<(tokio::task::Id, Returned), tokio::task::JoinError>) {
        let (now, wall) = (time::now(), time::wall());
        match result {
            Ok((task, (remote, batch, outcome, unused))) => {
                self.tasks.remove(&task);
                self.review_reserve(remote, &outcome, unused);
                self.landed(remote, batch, outcome, now, wall);
            }
            Err(error) => {
                let Some((remote, batch)) = self.tasks.remove(&error.id()) else { return };
                self.given_up(remote, batch, now, wall);
            }
        }
        self.dirty = true;
    }

    /// What a run says of the one that was started ahead of it.
    fn review_reserve(&mut self, id: RemoteId, outcome: &Outcome, unused: Option<Ahead>) {
        let Some(remote) = self.remotes.iter_mut().find(|remote| remote.id == id) else { return };
        remote.reserve.put_back(unused);
        let too_many = |fault: &Fault| fault.name == transport::fault_name::TOO_MANY_CONNECTIONS;
        let why = match () {
            () if outcome.ahead_was_gone && remote.reserve.was_gone() => "it ends a connection that waits",
            () if outcome.fault.as_ref().is_some_and(too_many) && remote.reserve.give_up() => {
                "its connections are all taken"
            }
            () => return,
        };
        tracing::info!(sersync_remote = remote.name, "{}: no rsync is started ahead any more: {why}", remote.name);
    }

    /// A run was ended from here (or its task broke): all it had is pending again, unless it was only a request.
    fn given_up(&mut self, id: RemoteId, batch: BatchId, now: Instant, wall: SystemTime) {
        let seq = self.next_seq();
        let Some(at) = self.remotes.iter().position(|remote| remote.id == id) else { return };
        let remote = &mut self.remotes[at];
        let Some(flight) = remote.flights.remove(&batch) else { return };
        let mut ending = Ending::success(wall, now);
        if !remote.set.is_only_requested(batch) {
            ending.again = flight.batch.paths.clone();
        }
        let swept = remote.set.finish(batch, ending, seq).swept;
        remote.flight_ended(&flight, now);
        self.mark(at, swept, now);
        if flight.lane == Lane::Background {
            // A job that was canceled has ended already.
            let name = self.remotes[at].name.clone();
            let ended = self.jobs.ended(&name, Err("the run was broken off".to_owned()), wall);
            self.tell_jobs(&ended);
        }
    }

    /// What a run may have brought unreported ends with what is reported of the time before its end.
    fn mark(&mut self, at: usize, swept: bool, now: Instant) {
        let root = &self.remotes[at].root;
        if swept && let Some(root) = self.roots.iter_mut().find(|known| known.path == *root) {
            root.mark(now);
        }
    }

    fn landed(&mut self, id: RemoteId, batch: BatchId, mut outcome: Outcome, now: Instant, wall: SystemTime) {
        may_die_here!("run-ended");
        let seq = self.next_seq();
        let Some(at) = self.remotes.iter().position(|remote| remote.id == id) else { return };
        let Some(flight) = self.remotes[at].flights.remove(&batch) else { return };
        let (waits_for_round, purge) = self.judge_deletions(at, &mut outcome, &flight);
        let remote = &mut self.remotes[at];

        remote.capabilities.take_over(outcome.lesson);
        let mut refused = remote.capabilities.refused();
        refused.retain(|option| !remote.refusals_told.contains(option));
        for option in &refused {
            tracing::info!(
                sersync_remote = remote.name,
                "{}: the remote's rsync does not accept {option}: done in another way from now on",
                remote.name
            );
        }
        remote.refusals_told.extend(refused);
        remote.totals.add(outcome.totals);
        self.totals.add(outcome.totals);
        let took = now.duration_since(flight.started);
        match &outcome.fault {
            Some(fault) if fault.name == transport::fault_name::OPTION_REFUSED => remote.link.refused(),
            Some(_) => {}
            None => remote.link.sent(outcome.totals.bytes_sent, took),
        }
        let success = outcome.fault.is_none() && outcome.failed.is_empty();
        let told = outcome.fault.as_ref().or(outcome.failed.first().map(|(_, fault)| fault));
        let nothing_sent = outcome.bulk.len() == flight.paths;
        let failed = outcome.failed.len();
        let delivered = match flight.batch.kind {
            Kind::Attributes | Kind::Entry => failed < flight.paths,
            // rsync also lists entries that it then fails to send.
            Kind::Pruned | Kind::Tree | Kind::VerifiedTree => failed == 0 || outcome.totals.entries > failed as u64,
        };
        tracing::debug!(
            message_id = message_ids::BATCH_FINISHED,
            sersync_remote = remote.name,
            sersync_paths = flight.paths,
            sersync_bytes = outcome.totals.bytes_sent,
            sersync_duration_usec = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            sersync_rsync_exit = told.map_or(Some(0), |fault| fault.exit),
            "batch: {}: {}",
            remote.name,
            told.map_or("done", |fault| fault.message.as_str())
        );

        // One that was broken off goes on with the next run.
        let goes_on = outcome.fault.is_none() && outcome.again.iter().chain(&outcome.changed).any(RelPath::is_root);
        let full = flight.lane == Lane::Background && !goes_on;
        let full_result = match (&outcome.fault, outcome.failed.len()) {
            (Some(fault), _) => Err(fault.message.clone()),
            (None, 0) if outcome.withheld > 0 => {
                let deletions = human::plural(outcome.withheld, "deletion was", "deletions were");
                Err(format!("{deletions} withheld, see `sersyncctl status`"))
            }
            (None, 0) => Ok(outcome.totals.bytes_sent),
            (None, failed) => Err(format!("{failed} paths failed, see `sersyncctl failures`")),
        };
        let ending = match &outcome.fault {
            Some(fault) => Ending { whole: outcome.whole, ..Ending::failure(Arc::new(fault.clone()), wall, now) },
            None => Ending {
                failed: outcome.failed.into_iter().map(|(path, fault)| (path, Arc::new(fault))).collect(),
                again: outcome.again,
                changed: outcome.changed,
                bulk: outcome.bulk,
                whole: outcome.whole,
                purge,
                ..Ending::success(wall, now)
            },
        };
        let changes = remote.set.finish(batch, ending, seq);
        if waits_for_round {
            self.wait_for_round(at, &flight.batch.paths, now);
        }
        self.remotes[at].flight_ended(&flight, now);
        self.mark(at, changes.swept, now);
        match outcome.fault {
            Some(fault) => self.remote_failed(at, fault, now, wall),
            None if nothing_sent => {}
            None => {
                self.remote_answered(at, delivered, now, wall);
                self.prune_if_due(at, now, wall);
            }
        }
        if full && full_result.is_ok() {
            let remote = &mut self.remotes[at];
            remote.last_full_sync = Some(wall);
            remote.capabilities = remote.capabilities.deletion_reconsidered();
        }
        if success {
            self.listen_for_echoes(at, &outcome.stamps, now);
        }
        self.tell_synced(at, outcome.synced);
        self.tell_failures(at, changes.added, changes.cleared, now);
        if !nothing_sent {
            self.notify(Notice::BatchFinished {
                remote: self.remotes[at].name.clone(),
                paths: flight.paths as u64,
                bytes: outcome.totals.bytes_sent,
                duration: took,
                success,
            });
        }
        if full {
            let name = self.remotes[at].name.clone();
            let ended = self.jobs.ended(&name, full_result, wall);
            self.tell_jobs(&ended);
        }
    }

    /// Has the remote `at` delete what it has kept for long enough.
    fn prune_if_due(&mut self, at: usize, now: Instant, wall: SystemTime) {
        let remote = &mut self.remotes[at];
        let identity = self.roots.iter().find(|root| root.path == remote.root).and_then(|root| root.identity);
        let root = (remote.root.clone(), identity);
        remote.pruning.start_if_due((&remote.name, &remote.endpoint), root, now, wall);
    }

    /// Decides about the deletions that a run left out. Returns whether its paths wait for a round of probes, and what
    /// those that are pending again may delete.
    fn judge_deletions(&mut self, at: usize, outcome: &mut Outcome, flight: &Flight) -> (bool, Option<Purge>) {
        if outcome.fault.is_some() {
            return (false, None);
        }
        let batch = &flight.batch;
        let compared = compares(flight.lane, batch.kind);
        let in_the_way = |fault: &Fault| fault.name == transport::fault_name::IN_THE_WAY;
        match self.review_deletions(at, outcome, &batch.paths, batch.purge, compared) {
            Verdict::Complete => (compared && self.note_withheld(at, outcome, &batch.paths), None),
            Verdict::Withheld => {
                outcome.failed.retain(|(_, fault)| !in_the_way(fault));
                (false, None)
            }
            Verdict::Again(purge) if flight.withholds => {
                let waits = self.note_withheld(at, outcome, &batch.paths);
                (waits, waits.then_some(purge))
            }
            Verdict::Again(purge) => {
                outcome.failed.retain(|(_, fault)| !in_the_way(fault));
                let again = batch.paths.iter().filter(|path| !outcome.again.contains(path));
                let again: Vec<RelPath> = again.cloned().collect();
                outcome.again.extend(again);
                (false, Some(purge))
            }
        }
    }

    /// What was sent may come back.
    fn listen_for_echoes(&mut self, at: usize, sent: &[(RelPath, transport::Stamp)], now: Instant) {
        let (root, longest) = (self.remotes[at].root.clone(), self.longest_pause());
        for (path, stamp) in sent {
            if !self.echoes.sent(&root, path, *stamp, longest, now) {
                continue;
            }
            self.remotes.iter_mut().filter(|remote| remote.root == root).for_each(|remote| remote.guard.reconsider());
            if self.loop_told.is_none_or(|told| told <= now) {
                self.loop_told = Some(now + LOOP_TOLD_EVERY);
                let problem = self.echo_problem(now).unwrap_or_default();
                tracing::warn!(message_id = message_ids::LOOP, sersync_path = %path.display(), "{problem}");
            }
        }
    }

    /// What is to be said of a loop, if one turns.
    pub(super) fn echo_problem(&self, now: Instant) -> Option<String> {
        Some(match self.echoes.heard(now)? {
            Heard::Echo(root, path, times) => format!(
                "a loop: what is sent from {} comes back; {} was replaced {times} times by a copy of itself. A remote \
                 seems to mirror to this machine in turn: let only one side do so. Until then what comes back is sent \
                 more and more slowly",
                root.display(),
                path.display()
            ),
            Heard::Nest(root, directory) => format!(
                "a loop: what is sent from {} comes back in its directory {}, ever deeper. A remote seems to lie there: \
                 move it out of the tree, or exclude the directory. Until then what is below it is sent more and more slowly",
                root.display(),
                directory.display()
            ),
        })
    }

    pub(super) fn remote_failed(&mut self, at: usize, fault: Fault, now: Instant, wall: SystemTime) {
        let longest = self.longest_pause();
        let remote = &mut self.remotes[at];
        let before = remote.backoff.attempts();
        remote.backoff.failed(Arc::new(fault.clone()), longest, now, wall);
        // Runs side by side that fail together are one failure.
        if remote.backoff.attempts() > before
            && let Some(times) = remote.down_told.happened_for(fault.name, now)
        {
            let pause = remote.backoff.next_try(now).map_or(0.0, |(at, _)| (at - now).as_secs_f64());
            let still = if times.count == 1 { String::new() } else { format!(" still down, {times}") };
            tracing::warn!(
                message_id = message_ids::REMOTE_DOWN,
                sersync_remote = remote.name,
                sersync_paths = remote.set.waiting(),
                sersync_rsync_exit = fault.exit,
                "{}{still}: {}: {} (the next try in {pause:.0} s; nothing is lost)",
                remote.name,
                fault.name,
                fault.message
            );
        }
    }

    /// A run ended without a failure of the remote as a whole. `delivered`: not all of its paths failed.
    fn remote_answered(&mut self, at: usize, delivered: bool, now: Instant, wall: SystemTime) {
        if !std::mem::replace(&mut self.remotes[at].has_answered, true) {
            // Reached for the first time, it may meet any of the others.
            self.remotes.iter_mut().for_each(|remote| remote.guard.reconsider());
        }
        let remote = &mut self.remotes[at];
        if delivered {
            remote.last_success = Some(wall);
            self.last_sync_at = Some(wall);
        }
        remote.backoff.succeeded();
        if let Some(times) = remote.down_told.ended(now) {
            tracing::info!(
                message_id = message_ids::REMOTE_BACK,
                sersync_remote = remote.name,
                "{} answers again, after {times}",
                remote.name
            );
        }
    }

    /// Tells of paths that failed or were mended; of a whole batch only the first few failures.
    fn tell_failures(&mut self, at: usize, added: Vec<RelPath>, cleared: Vec<RelPath>, now: Instant) {
        if !(added.is_empty() && cleared.is_empty()) {
            self.fail_log.changed();
        }
        let told: Vec<Failure> = added.iter().take(TOLD_AT_MOST).filter_map(|path| self.failure(at, path)).collect();
        // A remote that is down as a whole was told of already.
        if self.remotes[at].backoff.attempts() == 0 {
            let share = self.remotes[at].paths_told.share(added.len(), now);
            for failure in told.iter().take(share.lines) {
                tracing::warn!(
                    message_id = message_ids::PATH_FAILED,
                    sersync_remote = failure.remote,
                    sersync_path = %failure.path.display(),
                    "{}: {}: {}: {}",
                    failure.remote,
                    failure.path.display(),
                    failure.fault.name,
                    human::without_path(&failure.fault.message, failure.path.as_bytes())
                );
            }
            if share.others > 0 {
                let others = human::plural(share.others as u64, "more path", "more paths");
                tracing::warn!("{}: and {others} failed; see `sersyncctl failures`", self.remotes[at].name);
            }
        }
        for failure in told {
            self.notify(Notice::FailureAdded(failure));
        }
        for path in cleared.into_iter().take(TOLD_AT_MOST) {
            self.notify(Notice::FailureCleared { remote: self.remotes[at].name.clone(), path });
        }
    }

    fn failure(&self, at: usize, path: &RelPath) -> Option<Failure> {
        let remote = &self.remotes[at];
        remote.failure(path, remote.set.get(path)?, time::now(), time::wall())
    }

    pub(super) fn tell_jobs(&mut self, ended: &[super::snapshot::JobId]) {
        for id in ended {
            let Some(job) = self.jobs.show(*id) else { continue };
            let success = job.state == super::snapshot::JobState::Done;
            tracing::info!(message_id = message_ids::FULL_SYNC_FINISHED, "full sync {}: {}", id.0, job.result);
            self.notify(Notice::FullSyncFinished { job: *id, success, result: job.result });
        }
        // Somebody waits for it.
        if !ended.is_empty() {
            self.publish(time::now());
        }
    }

    pub(super) fn notify(&self, notice: Notice) {
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }

    pub(super) fn next_seq(&mut self) -> Seq {
        self.seq.0 += 1;
        self.seq
    }
}
