//! [`Handle`]: the one way to ask the agent or to tell it something. Cheap to clone; every call is a message to the
//! engine's task and an answer from it, so no state is shared.

use super::snapshot::{Failure, JobId, Notice, PendingPath, Snapshot};
use crate::config::overlap::Mirror;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Maximum length of the texts of a page of [`Handle::failures`] or [`Handle::pending`], in bytes. A message of 32 MiB would
/// end the connection to the bus.
pub const PAGE: usize = 1 << 20;

/// Why a command was not carried out. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A remote of that name is not in the config.
    #[error("no remote {0:?} in this instance; it has: {1}")]
    UnknownRemote(String, String),
    /// A plugin takes rsync's place.
    #[error("this instance was started with -m: it has no remotes to sync")]
    NoRemotes,
    /// There is no such full sync, or it was forgotten long after its end.
    #[error("no job {0}; `FullSync` returns the job it makes")]
    UnknownJob(u64),
    /// The time ran out; the text names the remotes that are behind.
    #[error("not in sync in time: {0}")]
    TimedOut(String),
    /// The instance is paused; the text names the remotes that are behind.
    #[error("the instance is paused, and nothing is sent until `sersyncctl resume`: {0}")]
    Paused(String),
    /// A watched directory is not there; the text says why.
    #[error("not in sync: {0}")]
    RootMissing(String),
    /// The new config has mistakes; the old one stays in force.
    #[error("the config was not reloaded, the old one stays in force:\n{0}")]
    BadConfig(String),
    /// Mirrors would delete each other's files; the text names them.
    #[error("{0}. Nothing is mirrored; leave one of them out")]
    Conflict(String),
    /// The agent was started with `--watch/--to`.
    #[error("this instance has no config file to reload: it was started with --watch/--to")]
    NoConfigFile,
    /// The agent is on its way out.
    #[error("the agent is stopping; start it again to go on")]
    Stopping,
}

/// A command and where its answer goes.
#[derive(Debug)]
pub enum Command {
    /// See [`Handle::full_sync`].
    FullSync(Vec<String>, Answer<JobId>),
    /// See [`Handle::full_sync_delete`].
    FullSyncDelete(Vec<String>, Answer<JobId>),
    /// See [`Handle::accept_deletions`].
    AcceptDeletions(Vec<String>, Answer<u64>),
    /// See [`Handle::cancel`].
    Cancel(JobId, Answer<()>),
    /// See [`Handle::retry`].
    Retry(Vec<String>, Answer<u64>),
    /// See [`Handle::failures`].
    Failures(usize, usize, Answer<Vec<Failure>>),
    /// See [`Handle::pending`].
    Pending(usize, usize, Answer<Vec<PendingPath>>),
    /// See [`Handle::pause`].
    Pause(String, Answer<()>),
    /// See [`Handle::resume`].
    Resume(Answer<()>),
    /// See [`Handle::reload`].
    Reload(Answer<()>),
    /// See [`Handle::wait_synced`].
    WaitSynced(Duration, Answer<()>),
    /// See [`Handle::begin`].
    Begin(Vec<Mirror>, Answer<()>),
    /// See [`Handle::stop`].
    Stop,
}

/// Where a command's answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// The one way to ask the agent or to tell it something.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Sender<Notice>,
}

impl Handle {
    /// Joins the engine's three channels.
    pub fn new(
        commands: mpsc::Sender<Command>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        notices: broadcast::Sender<Notice>,
    ) -> Self {
        Self { commands, snapshots, notices }
    }

    /// The newest snapshot. The engine makes one when something changed, at most ten times a second.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// To be told of each new snapshot.
    pub fn snapshots(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// To be told of what happens.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Starts a full sync of the remotes named, or of all when none is named.
    pub async fn full_sync(&self, remotes: Vec<String>) -> Result<JobId, CommandError> {
        self.ask(|answer| Command::FullSync(remotes, answer)).await
    }

    /// The same, and makes all deletions that it finds, however many they are.
    pub async fn full_sync_delete(&self, remotes: Vec<String>) -> Result<JobId, CommandError> {
        self.ask(|answer| Command::FullSyncDelete(remotes, answer)).await
    }

    /// Carries out the deletions that are withheld on the remotes named, or on all; returns their number.
    pub async fn accept_deletions(&self, remotes: Vec<String>) -> Result<u64, CommandError> {
        self.ask(|answer| Command::AcceptDeletions(remotes, answer)).await
    }

    /// Ends a full sync; what it has not done does not become pending.
    pub async fn cancel(&self, job: JobId) -> Result<(), CommandError> {
        self.ask(|answer| Command::Cancel(job, answer)).await
    }

    /// Tries all that failed at once, without waiting for the next try; returns how many paths that are.
    pub async fn retry(&self, remotes: Vec<String>) -> Result<u64, CommandError> {
        self.ask(|answer| Command::Retry(remotes, answer)).await
    }

    /// The failed paths from `offset` on, at most `limit`, or fewer where their texts fill a page; none: the list has ended.
    pub async fn failures(&self, offset: usize, limit: usize) -> Result<Vec<Failure>, CommandError> {
        self.ask(|answer| Command::Failures(offset, limit, answer)).await
    }

    /// The pending paths from `offset` on, oldest first for each remote, at most `limit`, or fewer as for
    /// [`Handle::failures`].
    pub async fn pending(&self, offset: usize, limit: usize) -> Result<Vec<PendingPath>, CommandError> {
        self.ask(|answer| Command::Pending(offset, limit, answer)).await
    }

    /// Starts no more runs until [`Handle::resume`], whatever restarts meanwhile; running ones end. `by`: the user's name.
    pub async fn pause(&self, by: String) -> Result<(), CommandError> {
        self.ask(|answer| Command::Pause(by, answer)).await
    }

    /// Undoes [`Handle::pause`].
    pub async fn resume(&self) -> Result<(), CommandError> {
        self.ask(Command::Resume).await
    }

    /// Reads the config file again.
    pub async fn reload(&self) -> Result<(), CommandError> {
        self.ask(Command::Reload).await
    }

    /// Returns when every change made before the call has reached every remote.
    pub async fn wait_synced(&self, timeout: Duration) -> Result<(), CommandError> {
        self.ask(|answer| Command::WaitSynced(timeout, answer)).await
    }

    /// Compares the mirrors of this instance with each other and with `neighbours`, the mirrors of other instances on
    /// this machine; then lets runs start. Nothing is sent before. Fails where two mirrors would delete each other's
    /// files: then nothing is ever sent.
    pub async fn begin(&self, neighbours: Vec<Mirror>) -> Result<(), CommandError> {
        self.ask(|answer| Command::Begin(neighbours, answer)).await
    }

    /// Begins the agent's end.
    pub async fn stop(&self) {
        // An engine that has ended already has nothing left to stop.
        let _ = self.commands.send(Command::Stop).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, CommandError> {
        let (sender, answer) = oneshot::channel();
        self.commands.send(command(sender)).await.map_err(|_| CommandError::Stopping)?;
        answer.await.unwrap_or(Err(CommandError::Stopping))
    }
}
