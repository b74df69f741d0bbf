//! [`Publisher`]: keeps the objects on one bus connection equal to the snapshots, and turns notices into signals.
//!
//! Objects appear and go with each snapshot. `PropertiesChanged` leaves at most four times a second, for the
//! properties that changed. A full sync's end is told from the snapshot, not from its notice: notices may get lost,
//! and whoever hears `Finished` shall read the final properties. It never asks the engine for anything.

use super::agent::{AgentObject, duration_usec, path_bytes};
use super::authority::Authority;
use super::job::JobObject;
use super::names;
use super::remote::RemoteObject;
use super::socket::Refusals;
use crate::agent::Handle;
use crate::agent::snapshot::{Job, JobId, JobState, Notice, Remote, Snapshot};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use zbus::object_server::{Interface, InterfaceRef, SignalEmitter};
use zbus::{Connection, OwnedVariant, Variant, fdo};

/// The least time between two rounds of `PropertiesChanged`.
pub const PROPERTIES_INTERVAL: Duration = Duration::from_millis(250);
/// At most so many signals a second of one kind that comes with paths or batches.
pub const SIGNALS_PER_SECOND: u32 = 100;

/// Why a publisher ended.
#[derive(Debug)]
pub(super) enum End {
    /// The engine is gone, so there is nothing left to publish.
    Engine,
    /// The connection broke.
    Connection,
}

pub(super) struct Publisher {
    connection: Connection,
    handle: Handle,
    authority: Arc<Authority>,
    instance: String,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    notices: broadcast::Receiver<Notice>,
    announced: watch::Sender<u64>,
    agent: Published<AgentObject>,
    remotes: BTreeMap<String, (watch::Sender<Remote>, Published<RemoteObject>)>,
    jobs: BTreeMap<JobId, (watch::Sender<Job>, Published<JobObject>)>,
    budgets: Budgets,
    refusals: Refusals,
}

impl Publisher {
    /// Puts the first snapshot's objects on a connection that serves the agent's own object already.
    pub(super) async fn new(
        connection: Connection,
        handle: Handle,
        authority: Arc<Authority>,
        announced: watch::Sender<u64>,
        refusals: Refusals,
    ) -> zbus::Result<Self> {
        let instance = handle.snapshot().instance.clone();
        let agent = Published::find(&connection, names::agent_path(&instance).as_str()).await?;
        let mut publisher = Self {
            snapshots: handle.snapshots(),
            notices: handle.notices(),
            connection,
            handle,
            authority,
            instance,
            announced,
            agent,
            remotes: BTreeMap::new(),
            jobs: BTreeMap::new(),
            budgets: Budgets::default(),
            refusals,
        };
        publisher.arrange(false).await?;
        Ok(publisher)
    }

    /// Publishes until the engine or the connection ends.
    pub(super) async fn run(mut self) -> End {
        let connection = self.connection.clone();
        tokio::select! {
            () = connection.closed() => End::Connection,
            end = self.publish() => end.unwrap_or_else(|error| {
                tracing::debug!(%error, "publishing on the bus ended");
                End::Connection
            }),
        }
    }

    async fn publish(&mut self) -> zbus::Result<End> {
        let mut last_round = Instant::now();
        let mut due: Option<Instant> = None;
        loop {
            tokio::select! {
                changed = self.snapshots.changed() => {
                    if changed.is_err() {
                        return Ok(End::Engine);
                    }
                    self.arrange(true).await?;
                    due = due.or(Some(last_round + PROPERTIES_INTERVAL));
                }
                () = tokio::time::sleep_until(due.unwrap_or(last_round)), if due.is_some() => {
                    due = None;
                    last_round = Instant::now();
                    self.properties_changed().await?;
                }
                notice = self.notices.recv() => match notice {
                    Ok(notice) => self.signal(notice).await?,
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        tracing::debug!(missed, "more happened than the bus could tell");
                    }
                    Err(broadcast::error::RecvError::Closed) => return Ok(End::Engine),
                },
                Some(refused) = self.refusals.recv() => {
                    if let Err(error) = refused.answer(&self.connection).await {
                        tracing::debug!(%error, "a caller was not told that its message is too long");
                    }
                }
            }
        }
    }

    /// Makes the objects those of the newest snapshot. `tell` is false for the first: jobs that ended before are
    /// no news.
    async fn arrange(&mut self, tell: bool) -> zbus::Result<()> {
        let snapshot = self.snapshots.borrow_and_update().clone();
        self.arrange_remotes(&snapshot).await?;
        self.arrange_jobs(&snapshot, tell).await
    }

    async fn arrange_remotes(&mut self, snapshot: &Snapshot) -> zbus::Result<()> {
        let server = self.connection.object_server();
        let gone: Vec<_> =
            self.remotes.keys().filter(|name| snapshot.remotes.iter().all(|r| r.name != **name)).cloned().collect();
        for name in gone {
            self.remotes.remove(&name);
            server.remove::<RemoteObject, _>(names::remote_path(&self.instance, &name)).await?;
        }
        for remote in &snapshot.remotes {
            if let Some((known, _)) = self.remotes.get(&remote.name) {
                replace(known, remote);
                continue;
            }
            let path = names::remote_path(&self.instance, &remote.name);
            let (sender, receiver) = watch::channel(remote.clone());
            server.at(path.clone(), RemoteObject(receiver)).await?;
            let published = Published::find(&self.connection, path.as_str()).await?;
            self.remotes.insert(remote.name.clone(), (sender, published));
        }
        Ok(())
    }

    async fn arrange_jobs(&mut self, snapshot: &Snapshot, tell: bool) -> zbus::Result<()> {
        let connection = self.connection.clone();
        let server = connection.object_server();
        let gone: Vec<_> =
            self.jobs.keys().filter(|id| snapshot.jobs.iter().all(|job| job.id != **id)).copied().collect();
        for id in gone {
            self.jobs.remove(&id);
            server.remove::<JobObject, _>(names::job_path(&self.instance, id)).await?;
        }
        for job in &snapshot.jobs {
            let mut ended = job.state.is_final();
            if let Some((known, _)) = self.jobs.get(&job.id) {
                ended &= !known.borrow().state.is_final();
                replace(known, job);
            } else {
                let path = names::job_path(&self.instance, job.id);
                let (sender, receiver) = watch::channel(job.clone());
                let object =
                    JobObject { job: receiver, handle: self.handle.clone(), authority: Arc::clone(&self.authority) };
                server.at(path.clone(), object).await?;
                let published = Published::find(&self.connection, path.as_str()).await?;
                self.jobs.insert(job.id, (sender, published));
                self.announced.send_if_modified(|highest| {
                    let higher = job.id.0 > *highest;
                    *highest = job.id.0.max(*highest);
                    higher
                });
            }
            if ended && tell {
                self.job_ended(job).await?;
            }
        }
        Ok(())
    }

    async fn job_ended(&mut self, job: &Job) -> zbus::Result<()> {
        let success = job.state == JobState::Done;
        if let Some((_, published)) = self.jobs.get_mut(&job.id) {
            published.tell_changes().await?;
            JobObject::finished(published.emitter(), success, &job.result).await?;
        }
        let path = names::job_path(&self.instance, job.id);
        AgentObject::full_sync_finished(self.agent.emitter(), path, success, &job.result).await
    }

    async fn properties_changed(&mut self) -> zbus::Result<()> {
        self.agent.tell_changes().await?;
        for (_, published) in self.remotes.values_mut() {
            published.tell_changes().await?;
        }
        for (_, published) in self.jobs.values_mut() {
            published.tell_changes().await?;
        }
        Ok(())
    }

    async fn signal(&mut self, notice: Notice) -> zbus::Result<()> {
        let emitter = self.agent.emitter();
        let now = Instant::now();
        match notice {
            Notice::BatchFinished { remote, paths, bytes, duration, success } if self.budgets.batches.spend(now) => {
                AgentObject::batch_finished(emitter, &remote, paths, bytes, duration_usec(duration), success).await
            }
            Notice::FailureAdded(failure) if self.budgets.added.spend(now) => {
                let fault = &failure.fault;
                let path = failure.path.as_bytes();
                AgentObject::failure_added(emitter, &failure.remote, path, fault.name, &fault.message).await
            }
            Notice::FailureCleared { remote, path } if self.budgets.cleared.spend(now) => {
                AgentObject::failure_cleared(emitter, &remote, path.as_bytes()).await
            }
            Notice::Overflowed { root } => AgentObject::overflowed(emitter, &path_bytes(&root)).await,
            // Told by arrange_jobs; the others are over their budget.
            Notice::FullSyncFinished { .. }
            | Notice::BatchFinished { .. }
            | Notice::FailureAdded(_)
            | Notice::FailureCleared { .. } => Ok(()),
        }
    }
}

fn replace<T: Clone + PartialEq>(known: &watch::Sender<T>, new: &T) {
    known.send_if_modified(|old| {
        let differs = old != new;
        if differs {
            *old = new.clone();
        }
        differs
    });
}

/// An object and its properties as the bus heard of them last.
struct Published<I> {
    object: InterfaceRef<I>,
    told: HashMap<String, OwnedVariant>,
}

impl<I: Interface> Published<I> {
    async fn find(connection: &Connection, path: &str) -> zbus::Result<Self> {
        let object = connection.object_server().interface::<_, I>(path).await?;
        let mut published = Self { object, told: HashMap::new() };
        published.told = published.properties().await?;
        Ok(published)
    }

    fn emitter(&self) -> &SignalEmitter<'static> {
        self.object.signal_emitter()
    }

    async fn properties(&self) -> zbus::Result<HashMap<String, OwnedVariant>> {
        let emitter = self.emitter();
        let connection = emitter.connection();
        let mut all = self.object.get().await.get_all(connection.object_server(), connection, None, emitter).await?;
        all.remove(names::LAG);
        Ok(all)
    }

    /// One `PropertiesChanged` for what differs from the last one; none when nothing does.
    async fn tell_changes(&mut self) -> zbus::Result<()> {
        let now = self.properties().await?;
        let changed: HashMap<&str, Variant<'_>> = now
            .iter()
            .filter(|(name, value)| self.told.get(*name) != Some(value))
            .map(|(name, value)| Ok((name.as_str(), Variant::try_from(value)?)))
            .collect::<zbus::Result<_>>()?;
        if !changed.is_empty() {
            fdo::Properties::properties_changed(self.emitter(), I::name(), changed, (&[]).into()).await?;
        }
        self.told = now;
        Ok(())
    }
}

/// What is left of this second's signals, for each kind that could come in floods.
#[derive(Default)]
struct Budgets {
    batches: Budget,
    added: Budget,
    cleared: Budget,
}

#[derive(Default)]
struct Budget {
    second: Option<Instant>,
    spent: u32,
}

impl Budget {
    fn spend(&mut self, now: Instant) -> bool {
        if self.second.is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.spent = 0;
        }
        self.spent += 1;
        self.spent <= SIGNALS_PER_SECOND
    }
}
