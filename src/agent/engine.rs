//! The engine: the one task that owns the agent's state, and the loop that everything passes through.

use super::barrier::Barriers;
use super::clock::Clock;
use super::fail_log::FailLog;
use super::flights::Returned;
use super::handle::{Command, CommandError, Handle};
use super::jobs::Jobs;
use super::publish::SNAPSHOT_INTERVAL;
use super::remote::{Remote, RemoteId};
use super::root::{Condition, Root, WatchId};
use super::snapshot::{Notice, Snapshot, State};
use super::state_file::{Saved, SavedRemote, StateFile};
use crate::config::{Config, FullSyncAtStart};
use crate::human;
use crate::message_ids;
use crate::path::RelPath;
use crate::pending::{BatchId, Kind, Seq};
use crate::transport::Totals;
use crate::watch::{Change, Report};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinSet;

/// While a full sync runs its progress is looked at so often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Runs that end within this are not cut off when the agent stops.
const GRACE: Duration = Duration::from_millis(1_500);

/// So often, at most, the state file says that all was in sync.
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
    pub load: Box<dyn Fn() -> Result<Config, CommandError> + Send>,
    /// Where the pending paths are kept over a restart.
    pub state_directory: PathBuf,
    /// Beaten by the engine's loop.
    pub heart: Option<Heart>,
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
    let (engine, snapshots) = Engine::new(launch, commands, notices.clone())?;
    Ok((Handle::new(command_sender, snapshots, notices), engine.run()))
}

/// The agent's whole state.
pub(super) struct Engine {
    pub(super) instance: String,
    pub(super) config: Config,
    pub(super) load: Box<dyn Fn() -> Result<Config, CommandError> + Send>,
    pub(super) state_directory: PathBuf,
    state_file: Option<StateFile>,
    /// What is wrong with the state directory.
    pub(super) state_problem: Option<String>,
    heart: Option<Heart>,

    pub(super) roots: Vec<Root>,
    pub(super) remotes: Vec<Remote>,
    pub(super) jobs: Jobs,
    pub(super) barriers: Barriers,
    pub(super) clock: Option<Clock>,
    pub(super) fail_log: FailLog,
    pub(super) runs: JoinSet<Returned>,
    pub(super) tasks: HashMap<tokio::task::Id, (RemoteId, BatchId)>,

    pub(super) seq: Seq,
    pub(super) next_watch: u32,
    pub(super) next_remote: u32,
    pub(super) turn: usize,
    pub(super) paused: bool,
    pub(super) stopping: bool,
    pub(super) started_at: SystemTime,
    /// Should this run end by a crash, the next one must take all changes since then for missed.
    missed_since: SystemTime,
    pub(super) last_sync_at: Option<SystemTime>,
    pub(super) totals: Totals,
    /// Counters of watches that have ended.
    pub(super) past_events: u64,
    pub(super) past_overflows: u64,

    commands: mpsc::Receiver<Command>,
    reports: mpsc::UnboundedReceiver<(WatchId, Report)>,
    pub(super) report_sender: mpsc::UnboundedSender<(WatchId, Report)>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) notices: broadcast::Sender<Notice>,
    /// Something changed since the last snapshot.
    pub(super) dirty: bool,
    pub(super) snapshot_at: Instant,
}

impl Engine {
    fn new(
        launch: Launch,
        commands: mpsc::Receiver<Command>,
        notices: broadcast::Sender<Notice>,
    ) -> Result<(Self, watch::Receiver<Arc<Snapshot>>), LaunchError> {
        let Launch { instance, config, load, state_directory, heart } = launch;
        let started_at = SystemTime::now();
        let (report_sender, reports) = mpsc::unbounded_channel();
        let StateFound { file: state_file, saved, is_unknown, problem: state_problem } = open_state(&state_directory);
        let empty = Snapshot {
            instance: instance.clone(),
            config_path: config.file.clone(),
            watch_roots: Vec::new(),
            state: State::Starting,
            problems: Vec::new(),
            watched_directories: 0,
            events_seen: 0,
            overflows: 0,
            files_synced: 0,
            bytes_sent: 0,
            started_at,
            last_sync_at: None,
            last_full_sync_at: None,
            next_full_sync_at: None,
            remotes: Vec::new(),
            jobs: Vec::new(),
        };
        let (snapshots, receiver) = watch::channel(Arc::new(empty));
        let mut engine = Self {
            instance,
            config,
            load,
            state_directory,
            state_file,
            state_problem,
            heart,
            roots: Vec::new(),
            remotes: Vec::new(),
            jobs: Jobs::default(),
            barriers: Barriers::default(),
            clock: None,
            fail_log: FailLog::new(),
            runs: JoinSet::new(),
            tasks: HashMap::new(),
            seq: Seq(0),
            next_watch: 0,
            next_remote: 0,
            turn: 0,
            paused: false,
            stopping: false,
            started_at,
            // What an earlier run missed is not made up for before it has reached every remote.
            missed_since: saved.as_ref().map_or(started_at, |saved| saved.since.min(started_at)),
            last_sync_at: None,
            totals: Totals::default(),
            past_events: 0,
            past_overflows: 0,
            commands,
            reports,
            report_sender,
            snapshots,
            notices,
            dirty: true,
            snapshot_at: Instant::now(),
        };
        engine.begin(saved, is_unknown)?;
        engine.start_clock();
        engine.publish(Instant::now());
        Ok((engine, receiver))
    }

    /// Sets up roots and remotes, with what an earlier run left unfinished.
    fn begin(&mut self, saved: Option<Saved>, is_unknown: bool) -> Result<(), LaunchError> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let roots = std::mem::take(&mut self.config.roots);
        for root in &roots {
            // What changes before its watch is set is found by the walk that sets the watches.
            let changed_since = match (&saved, self.config.agent.full_sync_at_start) {
                (Some(saved), FullSyncAtStart::Never) if saved.orderly => self.started_at,
                _ => self.missed_since,
            };
            let (id, since) = (self.new_watch_id(), Some(changed_since));
            let started = Root::start(root.path.clone(), id, &self.config, since, &self.report_sender);
            let started = started.map_err(|source| LaunchError::Watch { path: root.path.clone(), source })?;
            self.roots.push(started);
        }
        self.config.roots = roots;
        for (root, name, destination) in self.named_remotes() {
            let remote = self.new_remote(root, name, destination);
            self.remotes.push(remote);
        }
        let known = |saved: &Saved, remote: &Remote| {
            saved.remotes.iter().position(|old| old.name == remote.name && old.root == remote.root)
        };
        for at in 0..self.remotes.len() {
            let left = saved.as_ref().and_then(|saved| Some(&saved.remotes[known(saved, &self.remotes[at])?]));
            let nothing_missed = left.is_some() && saved.as_ref().is_some_and(|saved| saved.orderly);
            for (path, kind) in left.map(|left| left.paths.as_slice()).unwrap_or_default() {
                let seq = self.next_seq();
                self.remotes[at].report(path.clone(), *kind, seq, now, wall, false);
            }
            let full = match self.config.agent.full_sync_at_start {
                FullSyncAtStart::Always | FullSyncAtStart::Auto => true,
                // Nobody has ever synced this remote from here, or a crash may have lost what was pending.
                FullSyncAtStart::Never => is_unknown || saved.is_some() && !nothing_missed && left.is_some(),
            };
            if full {
                let seq = self.next_seq();
                self.remotes[at].report(RelPath::root(), Kind::Tree, seq, now, wall, false);
            }
        }
        self.save(Saved { orderly: false, since: self.missed_since, remotes: self.unfinished() });
        Ok(())
    }

    /// When everything is in sync, a crash from now on costs less.
    fn note_sync(&mut self) {
        let wall = SystemTime::now();
        let age = wall.duration_since(self.missed_since).unwrap_or_default();
        let in_sync = self.roots.iter().all(|root| root.condition == Condition::Ready)
            && self.remotes.iter().all(|remote| remote.set.is_empty());
        if in_sync && age > SYNC_NOTED_EVERY {
            self.missed_since = wall - UNREPORTED_AT_MOST;
            self.save(Saved { orderly: false, since: self.missed_since, remotes: self.unfinished() });
        }
    }

    pub(super) fn new_watch_id(&mut self) -> WatchId {
        self.next_watch += 1;
        WatchId(self.next_watch)
    }

    /// The loop.
    async fn run(mut self) {
        loop {
            let now = Instant::now();
            for remote in &mut self.remotes {
                remote.wake(now);
            }
            self.full_sync_if_due(now);
            self.dispatch(now);
            self.settle_barriers(now);
            self.publish_if_due(now);
            self.report_failures_if_due(now);
            self.note_sync();
            if let Some(heart) = &mut self.heart {
                (heart.beat)();
            }
            let wake = self.next_wake(now);
            tokio::select! {
                biased;
                Some(result) = self.runs.join_next_with_id(), if !self.runs.is_empty() => self.returned(result),
                command = self.commands.recv() => match command {
                    Some(Command::Stop) | None => break,
                    Some(command) => self.obey(command),
                },
                Some((watch, report)) = self.reports.recv() => {
                    self.take_report(watch, report);
                    for _ in 1..REPORTS_AT_ONCE {
                        let Ok((watch, report)) = self.reports.try_recv() else { break };
                        self.take_report(watch, report);
                    }
                }
                () = sleep_until(wake) => {}
            }
        }
        self.shut_down().await;
    }

    fn next_wake(&self, now: Instant) -> Option<Instant> {
        let pace = self.pace();
        let remotes = self.remotes.iter().filter(|_| !self.paused).filter(|remote| {
            // A remote of a root that is not there can do nothing until the root reports.
            self.roots.iter().any(|root| root.path == remote.root && root.is_there())
        });
        let remotes = remotes.filter_map(|remote| remote.next_wake(pace, now)).min();
        // With all runs taken, the next thing to happen is the end of one.
        let remotes = remotes.filter(|_| self.runs.len() < self.config.agent.workers.max(1));
        let snapshot = self.dirty.then(|| self.snapshot_at + SNAPSHOT_INTERVAL);
        let progress = self.jobs.is_active().then(|| now + PROGRESS_INTERVAL);
        let heart = self.heart.as_ref().map(|heart| now + heart.interval / 2);
        let clock = self.clock.as_ref().and_then(|clock| clock.wake(now, SystemTime::now()));
        [remotes, snapshot, progress, heart, clock, self.fail_log.wake(), self.barriers.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn take_report(&mut self, watch: WatchId, report: Report) {
        let Some(at) = self.roots.iter().position(|root| root.id == watch) else {
            // A watch that is being replaced speaks of changes only, and knows nothing of the filter in force.
            if let Report::Changes(mut changes) = report
                && let Some(at) = self.roots.iter().position(|root| root.is_replacing(watch))
            {
                self.dirty = true;
                changes.retain(|change| !self.config.filter.excludes(&change.path, change.hint.entry_kind()));
                self.take_changes(at, changes);
            }
            return;
        };
        self.dirty = true;
        match report {
            Report::Changes(changes) => self.take_changes(at, changes),
            Report::Overflowed => {
                let root = self.roots[at].path.clone();
                tracing::warn!(
                    message_id = message_ids::OVERFLOW,
                    "{}: more events than the kernel's queue holds; the tree is walked again, nothing is lost. \
                     `sysctl fs.inotify.max_queued_events` sets the queue's length",
                    root.display()
                );
                self.notify(Notice::Overflowed { root });
            }
            Report::RootMissing(why) => {
                let root = &mut self.roots[at];
                tracing::warn!(
                    message_id = message_ids::ROOT_MISSING,
                    "{}: {why}; waiting for it",
                    root.path.display()
                );
                root.missing(why);
                self.barriers.watch_gone(watch, self.seq);
                self.publish(Instant::now());
            }
            Report::RootReady { returned } => self.root_ready(at, returned),
            Report::Unwatched { directory, reason } => {
                let root = &mut self.roots[at];
                if root.unwatched.is_empty() {
                    tracing::warn!(
                        message_id = message_ids::WATCH_LIMIT,
                        sersync_path = %directory.display(),
                        "{}: {reason}",
                        root.path.display()
                    );
                }
                root.unwatched.insert(directory, reason);
            }
            Report::AllWatched => {
                tracing::info!("{}: all of it is watched again", self.roots[at].path.display());
                self.roots[at].unwatched.clear();
            }
            Report::Drained(token) => self.barriers.drained(watch, token, self.seq),
        }
    }

    fn take_changes(&mut self, at: usize, changes: Vec<Change>) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        for Change { path, hint } in changes {
            if self.config.debug {
                tracing::debug!(sersync_path = %path.display(), "{hint:?}");
            }
            let seq = self.next_seq();
            for remote in self.remotes.iter_mut().filter(|remote| remote.root == self.roots[at].path) {
                remote.hint(path.clone(), hint, seq, now, wall);
            }
        }
    }

    fn root_ready(&mut self, at: usize, returned: bool) {
        let now = Instant::now();
        let root = &mut self.roots[at];
        let was_starting = root.condition == Condition::Starting;
        let was_replaced = root.ready();
        let (path, directories) = (root.path.clone(), root.watch().watched_directories());
        if returned {
            tracing::info!(message_id = message_ids::ROOT_BACK, "{}: is back", path.display());
        } else if was_starting {
            tracing::info!(
                message_id = message_ids::AGENT_STARTED,
                "watching {}: {}",
                path.display(),
                human::plural(directories, "directory", "directories")
            );
        }
        let (seq, wall) = (self.next_seq(), SystemTime::now());
        for remote in self.remotes.iter_mut().filter(|remote| remote.root == path) {
            if was_replaced {
                remote.report(RelPath::root(), Kind::Tree, seq, now, wall, false);
            }
            remote.changed(now);
        }
        // Whoever waits for the agent to be ready waits for this.
        self.publish(now);
    }

    /// All that is pending, for the state file.
    fn unfinished(&self) -> Vec<SavedRemote> {
        let of_remote = |remote: &Remote| SavedRemote {
            root: remote.root.clone(),
            name: remote.name.clone(),
            paths: remote
                .set
                .paths()
                .filter(|(_, entry, _)| !entry.requested)
                .map(|(path, entry, _)| (path.clone(), entry.kind))
                .collect(),
        };
        self.remotes.iter().map(of_remote).collect()
    }

    fn save(&mut self, saved: Saved) {
        let Some(file) = &self.state_file else { return };
        if let Err(error) = file.save(&saved) {
            let problem = format!("{} could not be written: {error}", file.path().display());
            tracing::error!("{problem}; after the next start the whole tree is compared");
            self.state_problem = Some(problem);
        }
    }

    /// Lets short runs end, ends the others, saves what is unfinished. Takes a little over [`GRACE`] at most.
    async fn shut_down(mut self) {
        self.stopping = true;
        self.publish(Instant::now());
        let deadline = Instant::now() + GRACE;
        // What changes after the watches are drained is seen by nobody.
        let since = SystemTime::now();
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
        // Changes that a watch did not deliver in time are missing from what is saved.
        let orderly = undrained.is_empty() && self.roots.iter().all(|root| root.condition == Condition::Ready);
        self.save(Saved {
            orderly,
            since: if orderly { since } else { self.missed_since },
            remotes: self.unfinished(),
        });
        let left: usize = self.remotes.iter().map(|remote| remote.set.waiting()).sum();
        tracing::info!(message_id = message_ids::AGENT_STOPPED, sersync_paths = left, "stopped, {left} paths pending");
    }
}

/// The state file and what an earlier run left in it.
struct StateFound {
    file: Option<StateFile>,
    saved: Option<Saved>,
    /// An earlier run may have left something that cannot be read.
    is_unknown: bool,
    problem: Option<String>,
}

/// Looks for what an earlier run left. Nothing that goes wrong here is worth a refusal to start.
fn open_state(directory: &std::path::Path) -> StateFound {
    let file = match StateFile::open(directory) {
        Ok(file) => file,
        Err(error) => {
            let problem = format!("the state directory {} cannot be used: {error}", directory.display());
            tracing::error!("{problem}; the whole tree is compared, now and after the next start");
            return StateFound { file: None, saved: None, is_unknown: true, problem: Some(problem) };
        }
    };
    match file.load() {
        Ok(saved) => StateFound { file: Some(file), saved, is_unknown: false, problem: None },
        Err(error) => {
            tracing::error!("{error}; the whole tree is compared");
            StateFound { file: Some(file), saved: None, is_unknown: true, problem: None }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
