//! `org.sersync.Agent1`: the instance as a whole. Reads the newest snapshot, hands commands to the engine; keeps no
//! state of its own. dbus/org.sersync.Agent1.xml says what each member means.

use super::authority::{Action, Authority};
use super::error::Error;
use super::names;
use super::polkit::left;
use crate::agent::Handle;
use crate::agent::snapshot::{Failure, JobId, PendingPath, PluginStatus};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath, interface};

/// At most so many rows per answer: some MB, far below the bus's limit for one message.
const MOST_ROWS: u32 = 10_000;

/// One failed path: remote, path, error name, message, attempts, failed at, next try.
pub type FailureRow = (String, Vec<u8>, String, String, u32, u64, u64);
/// One pending path: remote, path, kind, pending since, in flight.
pub type PendingRow = (String, Vec<u8>, String, u64, bool);

/// One target of a plugin: plugin, target, waiting, done, failed, last error, failing since, next try.
pub type PluginRow = (String, String, u64, u64, u64, String, u64, u64);

/// A time as D-Bus has it: microseconds since 1970, 0 for never.
pub fn usec(time: Option<SystemTime>) -> u64 {
    time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, duration_usec)
}

/// A duration as D-Bus has it: microseconds.
pub fn duration_usec(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How long `since` is ago, 0 for never.
pub fn lag_usec(since: Option<SystemTime>) -> u64 {
    since.and_then(|since| since.elapsed().ok()).map_or(0, duration_usec)
}

/// A path as D-Bus has it.
pub fn path_bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// The object of one instance.
pub struct AgentObject {
    handle: Handle,
    authority: Arc<Authority>,
    /// The highest job that has an object.
    announced: watch::Receiver<u64>,
}

impl AgentObject {
    pub(super) fn new(handle: Handle, authority: Arc<Authority>, announced: watch::Receiver<u64>) -> Self {
        Self { handle, authority, announced }
    }

    async fn inspect(&self, bus: &Connection, call: &Header<'_>) -> Result<(), Error> {
        self.authority.authorize(bus, call, Action::Inspect).await
    }

    async fn manage(&self, bus: &Connection, call: &Header<'_>) -> Result<(), Error> {
        self.authority.authorize(bus, call, Action::Manage).await
    }

    /// The object of a job, once it is there: the caller may ask it at once.
    async fn announced(&self, JobId(job): JobId) -> Result<OwnedObjectPath, Error> {
        let mut announced = self.announced.clone();
        let gone = |_| Error::Stopping("the agent is stopping; start it again to go on".into());
        announced.wait_for(|highest| *highest >= job).await.map_err(gone)?;
        Ok(names::job_path(&self.handle.snapshot().instance, JobId(job)))
    }
}

/// The rows that a caller asked for: 0 asks for as many as one answer takes.
fn rows(limit: u32) -> usize {
    (if limit == 0 { MOST_ROWS } else { limit.min(MOST_ROWS) }) as usize
}

fn failure_row(failure: Failure) -> FailureRow {
    (
        failure.remote,
        failure.path.as_bytes().to_vec(),
        failure.fault.name.to_owned(),
        failure.fault.message,
        failure.attempts,
        usec(Some(failure.failed_at)),
        usec(Some(failure.next_try)),
    )
}

fn plugin_row(status: &PluginStatus) -> PluginRow {
    let status = status.clone();
    (
        status.plugin,
        status.target,
        status.waiting + status.running,
        status.done,
        status.failed,
        status.last_error,
        usec(status.failing_since),
        usec(status.next_try),
    )
}

fn pending_row(path: PendingPath) -> PendingRow {
    (path.remote, path.path.as_bytes().to_vec(), path.kind.to_owned(), usec(Some(path.since)), path.in_flight)
}

#[interface(name = "org.sersync.Agent1", introspection_docs = false)]
impl AgentObject {
    #[zbus(property(emits_changed_signal = "const"))]
    fn instance(&self) -> String {
        self.handle.snapshot().instance.clone()
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn config_path(&self) -> Vec<u8> {
        self.handle.snapshot().config_path.as_deref().map(path_bytes).unwrap_or_default()
    }

    #[zbus(property)]
    fn watch_roots(&self) -> Vec<Vec<u8>> {
        self.handle.snapshot().watch_roots.iter().map(|root| path_bytes(root)).collect()
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.handle.snapshot().state.to_string()
    }

    #[zbus(property)]
    fn paused_at(&self) -> u64 {
        usec(self.handle.snapshot().paused.as_ref().map(|pause| pause.since))
    }

    #[zbus(property)]
    fn paused_by(&self) -> String {
        self.handle.snapshot().paused.as_ref().map(|pause| pause.by.clone()).unwrap_or_default()
    }

    #[zbus(property)]
    fn problems(&self) -> Vec<String> {
        self.handle.snapshot().problems.clone()
    }

    #[zbus(property)]
    fn queue_depth(&self) -> u64 {
        self.handle.snapshot().queue_depth()
    }

    #[zbus(property)]
    fn failure_count(&self) -> u64 {
        self.handle.snapshot().failure_count()
    }

    #[zbus(property)]
    fn watched_directories(&self) -> u64 {
        self.handle.snapshot().watched_directories
    }

    #[zbus(property)]
    fn too_long_directories(&self) -> u64 {
        self.handle.snapshot().too_long_directories
    }

    #[zbus(property)]
    fn events_seen(&self) -> u64 {
        self.handle.snapshot().events_seen
    }

    #[zbus(property)]
    fn overflows(&self) -> u64 {
        self.handle.snapshot().overflows
    }

    #[zbus(property)]
    fn files_synced(&self) -> u64 {
        self.handle.snapshot().files_synced
    }

    #[zbus(property)]
    fn bytes_sent(&self) -> u64 {
        self.handle.snapshot().bytes_sent
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn started_at(&self) -> u64 {
        usec(Some(self.handle.snapshot().started_at))
    }

    #[zbus(property)]
    fn started_from(&self) -> String {
        self.handle.snapshot().started_from.to_string()
    }

    #[zbus(property)]
    fn confinement(&self) -> &'static str {
        self.handle.snapshot().confinement.name()
    }

    #[zbus(property)]
    fn never_sent(&self) -> Vec<String> {
        self.handle.snapshot().never_sent.clone()
    }

    #[zbus(property)]
    fn last_sync_at(&self) -> u64 {
        usec(self.handle.snapshot().last_sync_at)
    }

    #[zbus(property)]
    fn last_full_sync_at(&self) -> u64 {
        usec(self.handle.snapshot().last_full_sync_at)
    }

    #[zbus(property)]
    fn next_full_sync_at(&self) -> u64 {
        usec(self.handle.snapshot().next_full_sync_at)
    }

    #[zbus(property(emits_changed_signal = "false"), name = "LagUSec")]
    fn lag_usec(&self) -> u64 {
        lag_usec(self.handle.snapshot().oldest_pending())
    }

    #[zbus(property)]
    fn plugins(&self) -> Vec<PluginRow> {
        self.handle.snapshot().plugins.iter().map(plugin_row).collect()
    }

    #[zbus(out_args("job"))]
    async fn full_sync(
        &self,
        remotes: Vec<String>,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        self.manage(bus, &call).await?;
        self.announced(self.handle.full_sync(remotes).await?).await
    }

    #[zbus(out_args("job"))]
    async fn full_sync_delete(
        &self,
        remotes: Vec<String>,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<OwnedObjectPath, Error> {
        self.manage(bus, &call).await?;
        self.announced(self.handle.full_sync_delete(remotes).await?).await
    }

    #[zbus(out_args("count"))]
    async fn accept_deletions(
        &self,
        remotes: Vec<String>,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<u32, Error> {
        self.manage(bus, &call).await?;
        Ok(u32::try_from(self.handle.accept_deletions(remotes).await?).unwrap_or(u32::MAX))
    }

    #[zbus(out_args("count"))]
    async fn retry(
        &self,
        remotes: Vec<String>,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<u64, Error> {
        self.manage(bus, &call).await?;
        Ok(self.handle.retry(remotes).await?)
    }

    // Before a method that returns something: busctl of systemd 252 complains of the signals that follow one that does not.
    async fn wait_synced(
        &self,
        timeout_usec: u64,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        let timeout = if timeout_usec == 0 { Duration::MAX } else { Duration::from_micros(timeout_usec) };
        let _place = self.authority.may_wait(bus, &call).await?;
        tokio::select! {
            biased;
            answer = self.handle.wait_synced(timeout) => Ok(answer?),
            () = left(bus, call.sender()) => Err(Error::Stopping("the caller left the bus".into())),
        }
    }

    #[zbus(out_args("failures"))]
    async fn list_failures(
        &self,
        offset: u32,
        limit: u32,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<Vec<FailureRow>, Error> {
        self.inspect(bus, &call).await?;
        let failures = self.handle.failures(offset as usize, rows(limit)).await?;
        Ok(failures.into_iter().map(failure_row).collect())
    }

    #[zbus(out_args("paths"))]
    async fn list_pending(
        &self,
        offset: u32,
        limit: u32,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<Vec<PendingRow>, Error> {
        self.inspect(bus, &call).await?;
        let pending = self.handle.pending(offset as usize, rows(limit)).await?;
        Ok(pending.into_iter().map(pending_row).collect())
    }

    async fn pause(&self, #[zbus(connection)] bus: &Connection, #[zbus(header)] call: Header<'_>) -> Result<(), Error> {
        self.manage(bus, &call).await?;
        let by = self.authority.user_name(bus, &call).await?;
        Ok(self.handle.pause(by).await?)
    }

    async fn resume(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.manage(bus, &call).await?;
        Ok(self.handle.resume().await?)
    }

    async fn reload(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.manage(bus, &call).await?;
        Ok(self.handle.reload().await?)
    }

    #[zbus(signal)]
    pub(super) async fn batch_finished(
        emitter: &SignalEmitter<'_>,
        remote: &str,
        paths: u64,
        bytes: u64,
        duration_usec: u64,
        success: bool,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn failure_added(
        emitter: &SignalEmitter<'_>,
        remote: &str,
        path: &[u8],
        error: &str,
        message: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn failure_cleared(emitter: &SignalEmitter<'_>, remote: &str, path: &[u8]) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn full_sync_finished(
        emitter: &SignalEmitter<'_>,
        job: OwnedObjectPath,
        success: bool,
        result: &str,
    ) -> zbus::Result<()>;

    #[zbus(signal)]
    pub(super) async fn overflowed(emitter: &SignalEmitter<'_>, root: &[u8]) -> zbus::Result<()>;
}
