//! [`Snapshot`]: the agent's state at one moment, as `bus` and `service` show it. Plain values, no behaviour but
//! names. Times are wall-clock; `None` means "never yet" or "not known".

use crate::path::RelPath;
pub use crate::plugin::Status as PluginStatus;
pub use crate::transport::{Fault, Protection};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The agent's state at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The instance's name, such as `www`.
    pub instance: String,
    /// The config file; `None` for `--watch/--to`.
    pub config_path: Option<PathBuf>,
    /// The watched directories.
    pub watch_roots: Vec<PathBuf>,
    /// The agent's state.
    pub state: State,
    /// The pause, while the agent is paused.
    pub paused: Option<Pause>,
    /// Why the agent is degraded, each reason a sentence that says what to do; empty when it is not.
    pub problems: Vec<String>,
    /// Directories with an inotify watch.
    pub watched_directories: u64,
    /// Directories that are not mirrored because of the length of their paths, without the directories in them.
    pub too_long_directories: u64,
    /// inotify events read since start.
    pub events_seen: u64,
    /// Queue overflows since start.
    pub overflows: u64,
    /// Entries that rsync made, changed or removed on remotes since start.
    pub files_synced: u64,
    /// Bytes that rsync sent since start.
    pub bytes_sent: u64,
    /// When the agent started.
    pub started_at: SystemTime,
    /// What it knew when it started.
    pub started_from: StartedFrom,
    /// The confinement that keeps rsync and ssh from reading outside the watched directories.
    pub confinement: Protection,
    /// Options of the config that keep entries from the remotes, each with what never arrives.
    pub never_sent: Vec<String>,
    /// When a run last delivered something.
    pub last_sync_at: Option<SystemTime>,
    /// When a full sync of all remotes last succeeded.
    pub last_full_sync_at: Option<SystemTime>,
    /// When the next full sync is due by the config's clock.
    pub next_full_sync_at: Option<SystemTime>,
    /// Each remote, in the config's order.
    pub remotes: Vec<Remote>,
    /// Full syncs: those that run or wait, and the last few that ended, oldest first.
    pub jobs: Vec<Job>,
    /// Each target that plugins tell of changes, in the config's order.
    pub plugins: Vec<PluginStatus>,
}

impl Snapshot {
    /// Paths pending for any remote, counted once for each remote; those in flight included.
    pub fn queue_depth(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.queue_depth + remote.in_flight).sum()
    }

    /// Paths that failed at least once and are not mended yet, over all remotes.
    pub fn failure_count(&self) -> u64 {
        self.remotes.iter().map(|remote| remote.failures).sum()
    }

    /// Since when the oldest pending path waits.
    pub fn oldest_pending(&self) -> Option<SystemTime> {
        self.remotes.iter().filter_map(|remote| remote.oldest_pending).min()
    }
}

/// A pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// When it began.
    pub since: SystemTime,
    /// The name of the user who paused the agent.
    pub by: String,
}

/// What the agent as a whole is doing. On D-Bus the [`fmt::Display`] text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Setting the watches.
    Starting,
    /// Nothing is pending.
    Idle,
    /// Paths are pending or in flight, and all remotes answer.
    Syncing,
    /// A remote, a root or a part of the tree needs attention.
    Degraded,
    /// Told to pause: changes gather, nothing is sent.
    Paused,
    /// Told to stop.
    Stopping,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Syncing => "syncing",
            Self::Degraded => "degraded",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
        })
    }
}

/// What an agent knew when it started, and so what it had to compare. On D-Bus the [`fmt::Display`] text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StartedFrom {
    /// What was pending, and every change since: nothing had to be compared.
    Resumed,
    /// What was pending, but not what changed while no agent ran.
    Replayed,
    /// Nothing that can be trusted: the first start, damage, or a power loss.
    Full,
}

impl fmt::Display for StartedFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resumed => "resumed",
            Self::Replayed => "replayed",
            Self::Full => "full",
        })
    }
}

/// One remote at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Remote {
    /// Its name: the address, made unique within the instance. Also what commands take.
    pub name: String,
    /// The address as [`crate::config::Destination`] shows it.
    pub address: String,
    /// The port of the config; `None`: the default of rsync or ssh.
    pub port: Option<u16>,
    /// The watched directory that it mirrors.
    pub root: PathBuf,
    /// What it is doing.
    pub state: RemoteState,
    /// Paths that wait.
    pub queue_depth: u64,
    /// Paths in a running rsync.
    pub in_flight: u64,
    /// Paths that failed at least once and are not mended yet.
    pub failures: u64,
    /// Since when the oldest of its paths is pending, in flight or not.
    pub oldest_pending: Option<SystemTime>,
    /// The error of the last run, `None` once a run succeeded.
    pub last_error: Option<Fault>,
    /// Since when runs fail without a success between.
    pub failing_since: Option<SystemTime>,
    /// Failed runs since the last success.
    pub attempts: u32,
    /// When a run last delivered something.
    pub last_success: Option<SystemTime>,
    /// When a full sync last succeeded.
    pub last_full_sync: Option<SystemTime>,
    /// When the next run may start, while it is [`RemoteState::Waiting`].
    pub next_try: Option<SystemTime>,
    /// Bytes that rsync sent since start.
    pub bytes_sent: u64,
    /// Entries that rsync made, changed or removed there since start.
    pub files_synced: u64,
    /// Entries that only the remote has, and that stay there for the reason below.
    pub deletions_withheld: u64,
    /// Why they stay; empty if none do.
    pub withheld_reason: String,
    /// Some of them.
    pub withheld_paths: Vec<RelPath>,
    /// What it was found not to accept, as rsync options (`--delete-missing-args`, …); empty for a current rsync.
    pub refused_options: Vec<String>,
}

/// What one remote is doing. On D-Bus the [`fmt::Display`] text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteState {
    /// Nothing is pending for it.
    Idle,
    /// Paths are pending or in flight.
    Syncing,
    /// The last run failed: the next try has a time.
    Waiting,
    /// The agent is paused.
    Paused,
}

impl fmt::Display for RemoteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Syncing => "syncing",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
        })
    }
}

/// One path that failed for one remote and is not mended yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The remote's name.
    pub remote: String,
    /// The path below the remote's root.
    pub path: RelPath,
    /// Why it failed the last time.
    pub fault: Fault,
    /// How often it failed.
    pub attempts: u32,
    /// When it failed the last time.
    pub failed_at: SystemTime,
    /// When it is tried again.
    pub next_try: SystemTime,
}

/// One pending path.
#[derive(Debug, Clone, PartialEq)]
pub struct PendingPath {
    /// The remote's name.
    pub remote: String,
    /// The path below the remote's root.
    pub path: RelPath,
    /// `attributes`, `entry` or `tree`.
    pub kind: &'static str,
    /// Since when it is pending.
    pub since: SystemTime,
    /// Whether an rsync run has it now.
    pub in_flight: bool,
}

/// A full sync's number, counted from 1 since the agent's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// One full sync.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// The names of the remotes it covers.
    pub remotes: Vec<String>,
    /// How far it is.
    pub state: JobState,
    /// From 0.0 to 1.0, over all its remotes; rsync's own estimate.
    pub progress: f64,
    /// Entries compared so far, over all its remotes.
    pub entries_checked: u64,
    /// Entries to compare, as far as rsync has listed them; 0: unknown.
    pub entries_total: u64,
    /// Bytes sent so far.
    pub bytes_sent: u64,
    /// When it was asked for.
    pub created_at: SystemTime,
    /// When it ended.
    pub finished_at: Option<SystemTime>,
    /// A sentence on the result, empty until it ended.
    pub result: String,
}

/// How far a full sync is. On D-Bus the [`fmt::Display`] text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// Waits for a free run.
    Queued,
    /// At least one remote is at it.
    Running,
    /// All remotes were made equal.
    Done,
    /// It failed on at least one remote, which tries again by itself.
    Failed,
    /// Somebody cancelled it.
    Canceled,
}

impl JobState {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Canceled)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        })
    }
}

/// Something that happened, for D-Bus signals. Lossy by nature: a listener that is slow misses some.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// An rsync run ended.
    BatchFinished {
        /// The remote's name.
        remote: String,
        /// Paths in its list.
        paths: u64,
        /// Bytes it sent.
        bytes: u64,
        /// How long it took.
        duration: Duration,
        /// Whether all of it succeeded.
        success: bool,
    },
    /// A path failed for the first time.
    FailureAdded(Failure),
    /// A path that had failed is mended.
    FailureCleared {
        /// The remote's name.
        remote: String,
        /// The path below the remote's root.
        path: RelPath,
    },
    /// A full sync ended.
    FullSyncFinished {
        /// Its number.
        job: JobId,
        /// Whether it succeeded on all its remotes.
        success: bool,
        /// The sentence of [`Job::result`].
        result: String,
    },
    /// The kernel's event queue overflowed; a rescan is under way.
    Overflowed {
        /// The root it happened on.
        root: PathBuf,
    },
}
