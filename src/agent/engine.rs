//! The engine: the one task that owns the agent's state, and the loop that everything passes through.

use super::barrier::Barriers;
use super::clock::Clock;
use super::deletion_guard::Probes;
use super::echo::Echoes;
use super::fail_log::FailLog;
use super::flights::Returned;
use super::handle::{Command, Handle};
use super::history::History;
use super::jobs::Jobs;
use super::keeper::Keeper;
use super::loading::{Load, Loading};
use super::machine::{Machine, Real};
use super::memory::Memory;
use super::publish::SNAPSHOT_INTERVAL;
use super::remote::{Flight, Remote, RemoteId};
use super::root::{Condition, Root, WatchId};
use super::snapshot::{Notice, Pause, Protection, Snapshot, StartedFrom, State};
use super::telling::Partial;
use super::write_down::{Found, Ledger};
use crate::config::overlap::Mirror;
use crate::config::{Config, FullSyncAtStart};
use crate::heap;
use crate::human;
use crate::journal::LeftRemote;
use crate::message_ids;
use crate::path::RelPath;
use crate::pending::{BatchId, Kind, Lane, Seq};
use crate::plugin::Plugins;
use crate::time;
use crate::transport::Totals;
use crate::watch::Report;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

/// While a full sync runs its progress is looked at so often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Runs that end within this are not cut off when the agent stops.
const GRACE: Duration = Duration::from_millis(1_500);

/// Calls of plugins get so long at least.
const PLUGIN_GRACE: Duration = Duration::from_millis(300);

/// So often, at most, the journal says that all was in sync.
const SYNC_NOTED_EVERY: Duration = Duration::from_secs(60);

/// A change this old has been reported: it waits in the kernel's queue for milliseconds, and is held back for a second.
const UNREPORTED_AT_MOST: Duration = Duration::from_secs(10);

/// Reports are taken in up to this number before anything else gets a turn.
const REPORTS_AT_ONCE: usize = 64;

/// Notices that a slow listener may lag behind before it misses some.
const NOTICES_KEPT: usize = 1_024;

/// What an agent is made of.
pub struct Launch {
    /// The instance's name.
    pub instance: String,
    /// What to do. Its `agent.full_sync_at_start` is followed.
    pub config: Config,
    /// Reads the config again, for [`Handle::reload`].
    pub load: Load,
    /// Where the pending paths are kept over a restart.
    pub state_directory: PathBuf,
    /// Beaten by the engine's loop.
    pub heart: Option<Heart>,
    /// Keeps what the watches need to be resumed by the next process.
    pub keeper: Option<Box<dyn Keeper>>,
}

/// Shows that the engine is alive.
pub struct Heart {
    /// The longest time between two beats.
    pub interval: Duration,
    /// Called by the engine's loop, at every turn.
    pub beat: Box<dyn FnMut() + Send>,
}

/// Why an agent could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A root cannot be watched at all.
    #[error("{path} cannot be watched: {source}")]
    Watch {
        /// The root.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Starts the watches and makes the engine. The future is the engine: it has to be polled, on a current-thread or
/// any other runtime, and ends when [`Handle::stop`] was called and all is saved.
pub fn launch(launch: Launch) -> Result<(Handle, impl Future<Output = ()> + Send), LaunchError> {
    let (command_sender, commands) = mpsc::channel(64);
    let (notices, _) = broadcast::channel(NOTICES_KEPT);
    let (engine, snapshots) = Engine::new(launch, Box::new(Real), commands, notices.clone())?;
    Ok((Handle::new(command_sender, snapshots, notices), engine.run()))
}

/// The agent's whole state.
pub(super) struct Engine {
    pub(super) machine: Box<dyn Machine>,
    pub(super) instance: String,
    pub(super) config: Config,
    pub(super) loading: Loading,
    pub(super) state_directory: PathBuf,
    pub(super) ledger: Ledger,
    pub(super) memory: Memory,
    heart: Option<Heart>,
    pub(super) keeper: Option<Box<dyn Keeper>>,

    pub(super) roots: Vec<Root>,
    pub(super) remotes: Vec<Remote>,
    pub(super) plugins: Plugins,
    pub(super) partial: Partial,
    pub(super) jobs: Jobs,
    pub(super) barriers: Barriers,
    pub(super) clock: Option<Clock>,
    pub(super) fail_log: FailLog,
    pub(super) echoes: Echoes,
    pub(super) probes: Probes,
    /// Mirrors of the other instances on this machine, as of the start of this one.
    pub(super) neighbours: Vec<Mirror>,
    /// Whether runs may start: all mirrors were compared.
    pub(super) begun: bool,
    /// The state directory has a list of what an earlier process did not deliver to plugins.
    pub(super) unfinished_on_disk: bool,
    /// Why the config file cannot be used any more, as the last reload found; the config in force is an older one.
    pub(super) reload_refused: Option<String>,
    /// The journal tells of no loop before.
    pub(super) loop_told: Option<Instant>,
    pub(super) runs: JoinSet<Returned>,
    pub(super) tasks: HashMap<tokio::task::Id, (RemoteId, BatchId)>,

    pub(super) seq: Seq,
    pub(super) next_watch: u32,
    pub(super) next_remote: u32,
    pub(super) turn: usize,
    pub(super) processors: usize,
    pub(super) paused: Option<Pause>,
    pub(super) history: History,
    pub(super) stopping: bool,
    pub(super) started_at: SystemTime,
    /// Should this run end by a crash, the next one must take all changes since then for missed.
    pub(super) missed_since: SystemTime,
    pub(super) started_from: StartedFrom,
    /// The confinement of the remotes, as last logged.
    pub(super) confinement_logged: Option<Protection>,
    pub(super) last_sync_at: Option<SystemTime>,
    pub(super) totals: Totals,
    /// Counters of watches that have ended.
    pub(super) past_events: u64,
    pub(super) past_overflows: u64,

    commands: mpsc::Receiver<Command>,
    reports: mpsc::UnboundedReceiver<(WatchId, Report)>,
    pub(super) report_sender: mpsc::UnboundedSender<(WatchId, Report)>,
    /// Remotes that answered a run.
    answers: mpsc::UnboundedReceiver<RemoteId>,
    pub(super) answer_sender: mpsc::UnboundedSender<RemoteId>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) notices: broadcast::Sender<Notice>,
    /// Something changed since the last snapshot.
    pub(super) dirty: bool,
    pub(super) snapshot_at: Instant,
}

impl Engine {
    pub(super) fn new(
        launch: Launch,
        machine: Box<dyn Machine>,
        commands: mpsc::Receiver<Command>,
        notices: broadcast::Sender<Notice>,
    ) -> Result<(Self, watch::Receiver<Arc<Snapshot>>), LaunchError> {
        let Launch { instance, config, load, state_directory, heart, keeper } = launch;
        let started_at = time::wall();
        let (report_sender, reports) = mpsc::unbounded_channel();
        let (answer_sender, answers) = mpsc::unbounded_channel();
        let (ledger, found) = Ledger::open(&state_directory);
        let history = History::read(&state_directory);
        let memory = Memory::open(&state_directory);
        let empty = Snapshot {
            instance: instance.clone(),
            config_path: config.file.clone(),
            watch_roots: Vec::new(),
            state: State::Starting,
            paused: None,
            problems: Vec::new(),
            watched_directories: 0,
            too_long_directories: 0,
            events_seen: 0,
            overflows: 0,
            files_synced: 0,
            bytes_sent: 0,
            started_at,
            started_from: StartedFrom::Full,
            confinement: Protection::of_kernel(),
            never_sent: Vec::new(),
            last_sync_at: None,
            last_full_sync_at: None,
            next_full_sync_at: None,
            remotes: Vec::new(),
            jobs: Vec::new(),
            plugins: Vec::new(),
        };
        let (snapshots, receiver) = watch::channel(Arc::new(empty));
        let mut engine = Self {
            machine,
            instance,
            config,
            loading: Loading::new(load),
            state_directory,
            ledger,
            memory,
            heart,
            keeper,
            roots: Vec::new(),
            remotes: Vec::new(),
            plugins: Plugins::new(),
            partial: Partial::default(),
            jobs: Jobs::default(),
            barriers: Barriers::default(),
            clock: None,
            fail_log: FailLog::new(),
            echoes: Echoes::default(),
            probes: Probes::default(),
            neighbours: Vec::new(),
            begun: false,
            unfinished_on_disk: false,
            reload_refused: None,
            loop_told: None,
            runs: JoinSet::new(),
            tasks: HashMap::new(),
            seq: Seq(0),
            next_watch: 0,
            next_remote: 0,
            turn: 0,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            paused: history.paused(),
            stopping: false,
            started_at,
            // What an earlier run missed is not made up for before it has reached every remote.
            missed_since: found.left.as_ref().map_or(started_at, |left| left.since.min(started_at)),
            started_from: StartedFrom::Full,
            confinement_logged: None,
            last_sync_at: history.last_sync_at(),
            history,
            totals: Totals::default(),
            past_events: 0,
            past_overflows: 0,
            commands,
            reports,
            report_sender,
            answers,
            answer_sender,
            snapshots,
            notices,
            dirty: true,
            snapshot_at: time::now(),
        };
        engine.begin(found)?;
        let planned = engine.history.next_full_sync_at();
        engine.start_clock(planned);
        engine.publish(time::now());
        Ok((engine, receiver))
    }

    /// Sets up roots and remotes, with what an earlier run left unfinished.
    fn begin(&mut self, found: Found) -> Result<(), LaunchError> {
        let (now, wall) = (time::now(), time::wall());
        let at_start = self.config.agent.full_sync_at_start;
        let roots = std::mem::take(&mut self.config.roots);
        for root in &roots {
            // What changes before its watch is set is found by the walk that sets the watches.
            let changed_since = match (&found.left, at_start) {
                (Some(left), FullSyncAtStart::Never) if left.orderly => self.started_at,
                _ => self.missed_since,
            };
            let (id, since) = (self.new_watch_id(), Some(changed_since));
            let (path, keeper) = (root.path.clone(), self.keeper.as_deref_mut());
            let started = Root::start(&*self.machine, path, id, &self.config, since, keeper, &self.report_sender);
            let started = started.map_err(|source| LaunchError::Watch { path: root.path.clone(), source })?;
            self.roots.push(started);
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.forget_unclaimed();
        }
        self.config.roots = roots;
        for (root, name, destination) in self.named_remotes() {
            let remote = self.new_remote(root, name, destination);
            self.remotes.push(remote);
        }
        self.begin_plugins();
        if let Some(pause) = &self.paused {
            self.plugins.pause(self.config.alone.is_some());
            tracing::info!("paused by {} before this start: `sersyncctl resume` ends that", pause.by);
        }
        let is_trusted = found.left.as_ref().is_some_and(|left| left.doubt.is_none());
        for at in 0..self.remotes.len() {
            let (root, name) = (self.remotes[at].root.clone(), self.remotes[at].name.clone());
            let is_it = |left: &&LeftRemote| left.root == root && left.name == name;
            let left = found.left.as_ref().and_then(|left| left.remotes.iter().find(is_it));
            let behind_since = self.history.restore(&mut self.remotes[at]).filter(|since| *since < wall);
            for (path, kind) in left.into_iter().flat_map(|left| &left.paths) {
                let seq = self.next_seq();
                self.remotes[at].report(path.clone(), *kind, seq, now, behind_since.unwrap_or(wall), false);
            }
            let orderly = found.left.as_ref().is_some_and(|left| left.orderly);
            let may_be_resumed = self.roots.iter().any(|known| known.path == root && known.may_be_resumed);
            let full = match at_start {
                FullSyncAtStart::Always => true,
                // The watch will show whether it saw all that happened since.
                _ if is_trusted && left.is_some() && may_be_resumed => {
                    self.remotes[at].unless_resumed = true;
                    false
                }
                FullSyncAtStart::Auto => true,
                // Nobody has ever synced this remote from here, or a crash may have lost what was pending.
                FullSyncAtStart::Never => found.is_unknown || left.is_some() && !(is_trusted && orderly),
            };
            if full {
                let seq = self.next_seq();
                self.remotes[at].report(RelPath::root(), Kind::Tree, seq, now, wall, false);
            }
        }
        self.started_from = match is_trusted {
            true if self.remotes.iter().all(|remote| remote.unless_resumed) => StartedFrom::Resumed,
            true => StartedFrom::Replayed,
            false => StartedFrom::Full,
        };
        self.write_down(now);
        self.log_confinement();
        Ok(())
    }

    /// When everything is in sync, a crash from now on costs less.
    fn note_sync(&mut self) {
        let wall = time::wall();
        let age = wall.duration_since(self.missed_since).unwrap_or_default();
        let in_sync = self.roots.iter().all(|root| root.condition == Condition::Ready)
            && self.remotes.iter().all(|remote| remote.set.is_empty())
            && (self.config.alone.is_none() || self.plugins.is_idle());
        if in_sync && age > SYNC_NOTED_EVERY {
            self.missed_since = wall - UNREPORTED_AT_MOST;
            self.ledger.since(self.missed_since);
        }
    }

    /// Gives back the memory of a backlog that has gone.
    fn trim(&mut self) {
        let trimmed = self.remotes.iter_mut().map(|remote| remote.set.trim()).filter(|trimmed| *trimmed).count();
        if trimmed > 0 {
            heap::give_back();
        }
    }

    pub(super) fn new_watch_id(&mut self) -> WatchId {
        self.next_watch += 1;
        WatchId(self.next_watch)
    }

    async fn run(mut self) {
        while self.turn().await.is_continue() {}
        self.shut_down().await;
    }

    /// One turn: starts and settles what can be, then waits for the next thing to happen. May be dropped at any time, and
    /// nothing is lost.
    pub(super) async fn turn(&mut self) -> ControlFlow<()> {
        let now = time::now();
        for remote in &mut self.remotes {
            remote.wake(now);
        }
        self.full_sync_if_due(now);
        self.dispatch(now);
        self.probe_if_due(now);
        self.review_partial(now);
        self.settle_barriers(now);
        self.give_up_on_missing_roots(now);
        self.publish_if_due(now);
        self.report_failures_if_due(now);
        self.note_sync();
        self.forget_unfinished();
        self.write_down(now);
        self.write_history_if_due(now);
        self.memory.write_down(&mut self.remotes, now);
        self.trim();
        if let Some(heart) = &mut self.heart {
            (heart.beat)();
        }
        let wake = self.next_wake(now);
        let plugins_changed = self.plugins.changed();
        tokio::select! {
            biased;
            Some(result) = self.runs.join_next_with_id(), if !self.runs.is_empty() => self.returned(result),
            command = self.commands.recv() => match command {
                Some(Command::Stop) | None => return ControlFlow::Break(()),
                Some(command) => self.obey(command),
            },
            Some((watch, report)) = self.reports.recv() => {
                self.take_report(watch, report);
                for _ in 1..REPORTS_AT_ONCE {
                    let Ok((watch, report)) = self.reports.try_recv() else { break };
                    self.take_report(watch, report);
                }
            }
            Some(id) = self.answers.recv() => {
                if let Some(remote) = self.remotes.iter_mut().find(|remote| remote.id == id) {
                    remote.changed(now);
                }
            }
            (config, callers) = self.loading.ended() => self.loaded(config, callers),
            ended = self.probes.ended() => self.probes_ended(ended, time::now(), time::wall()),
            () = plugins_changed.notified() => self.dirty = true,
            () = sleep_until(wake) => {}
        }
        ControlFlow::Continue(())
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let pace = self.pace();
        let is_full = self.counted_runs(now).0 >= self.config.agent.workers.max(1);
        let remotes = self.remotes.iter().filter(|_| self.paused.is_none()).filter(|remote| {
            // A remote of a root that is not there can do nothing until the root reports.
            self.roots.iter().any(|root| root.path == remote.root && root.may_be_read())
        });
        // With all runs taken, the next thing to happen to a remote with a live run is the end of a run.
        let remotes = remotes.filter(|remote| !is_full || remote.has_no_live_run());
        let remotes = remotes.filter_map(|remote| remote.next_wake(pace, now)).min();
        // A run that becomes silent leaves its turn to another.
        let silent = self.remotes.iter().filter_map(|remote| remote.next_silence(now)).min();
        let snapshot = self.dirty.then(|| self.snapshot_at + SNAPSHOT_INTERVAL);
        let moves = |remote: &Remote| {
            let full = remote.flights.values().filter(|flight| flight.lane == Lane::Background);
            full.into_iter().any(Flight::has_answer)
        };
        let progress = (self.jobs.is_active() && self.remotes.iter().any(moves)).then(|| now + PROGRESS_INTERVAL);
        let heart = self.heart.as_ref().map(|heart| now + heart.interval / 2);
        let (journal, plugins) = (self.ledger.retry_at(), self.next_review());
        let clock = self.clock.as_ref().and_then(|clock| clock.wake(now, time::wall()));
        let barrier = self.barriers.next_deadline();
        // What waits for it then gets an answer; after that nothing waits.
        let away = self.roots.iter().filter_map(Root::away_at).filter(|at| *at > now).min();
        [
            remotes,
            silent,
            snapshot,
            progress,
            heart,
            barrier,
            away,
            journal,
            plugins,
            clock,
            self.fail_log.wake(),
            self.history.wake(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Lets short runs end, ends the others, saves what is unfinished. Takes a little over [`GRACE`] at most.
    pub(super) async fn shut_down(mut self) {
        self.stopping = true;
        self.probes.stop();
        self.publish(time::now());
        let deadline = time::now() + GRACE;
        // What changes after the watches are drained is seen by nobody.
        let since = time::wall();
        let mut undrained: BTreeSet<WatchId> =
            self.roots.iter().filter(|root| root.is_there()).map(|root| root.id).collect();
        for root in self.roots.iter().filter(|root| undrained.contains(&root.id)) {
            root.watch().drain(0);
        }
        while !(undrained.is_empty() && self.runs.is_empty()) {
            tokio::select! {
                Some(result) = self.runs.join_next_with_id(), if !self.runs.is_empty() => self.returned(result),
                Some((watch, report)) = self.reports.recv() => match report {
                    Report::Drained(0) => drop(undrained.remove(&watch)),
                    report => self.take_report(watch, report),
                },
                Some(command) = self.commands.recv() => drop(command),
                () = sleep_until(Some(deadline)) => break,
            }
        }
        self.runs.abort_all();
        while let Some(result) = self.runs.join_next_with_id().await {
            self.returned(result);
        }
        let left_for_plugins = deadline.saturating_duration_since(time::now()).max(PLUGIN_GRACE);
        let is_saved = self.end_plugins(left_for_plugins).await;
        // Changes that a watch did not deliver in time are missing from what is saved. What a plugin in rsync's place
        // was not told of is found again by its time, if it must.
        let orderly = (is_saved || self.config.alone.is_none())
            && undrained.is_empty()
            && self.roots.iter().all(|root| root.condition == Condition::Ready);
        self.write_last(orderly, since);
        self.note_history(time::now());
        self.write_history(time::now());
        let left: usize = self.remotes.iter().map(|remote| remote.set.waiting()).sum();
        tracing::info!(
            message_id = message_ids::AGENT_STOPPED,
            sersync_paths = left,
            "stopped, {} pending",
            human::plural(left as u64, "path", "paths")
        );
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
