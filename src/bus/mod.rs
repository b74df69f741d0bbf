//! The agent on D-Bus: shows the snapshots, takes commands. [`serve`] is the whole of it.
//!
//! One instance owns the bus name [`names::bus_name`]; its object [`names::agent_path`] has `org.sersync.Agent1` and
//! the `ObjectManager` that lists the remotes and full syncs below it. Everything shown comes from
//! [`Handle::snapshot`] and every command goes through the [`Handle`]: a slow caller waits in a task of its own and
//! holds up neither the engine nor other callers. When the bus goes away the agent goes on, and comes back with it.
//! No secret is in a snapshot, so none can be here.

mod agent;
mod authority;
mod error;
mod job;
mod limit;
mod log_control;
pub mod names;
pub mod neighbours;
mod polkit;
mod publisher;
mod remote;
mod socket;

pub use agent::{FailureRow, PendingRow, PluginRow};
pub use authority::Action;
pub use error::Error;
pub use publisher::{PROPERTIES_INTERVAL, SIGNALS_PER_SECOND};
pub use socket::LONGEST_CALL;

use crate::agent::Handle;
use crate::service::log::LogControl;
use agent::AgentObject;
use authority::Authority;
use log_control::LogControlObject;
use publisher::{End, Publisher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use zbus::connection::Builder;
use zbus::fdo::{DBusProxy, ObjectManager, RequestNameFlags};
use zbus::names::WellKnownName;

/// Which message bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The system bus, or what `DBUS_SYSTEM_BUS_ADDRESS` names.
    System,
    /// The user's bus, or what `DBUS_SESSION_BUS_ADDRESS` names.
    Session,
    /// The bus at this address.
    Address(String),
}

impl Which {
    /// Begins a connection to it.
    pub fn builder(&self) -> Builder<'static> {
        match self {
            Self::System => Builder::system(),
            Self::Session => Builder::session(),
            Self::Address(address) => Builder::address(address.as_str()),
        }
    }
}

/// Why the agent is not on the bus. It can do its work all the same.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is no bus, or it lets us not in.
    #[error("no connection to the message bus ({0}): sersyncctl will not see this instance, mirroring is not affected")]
    Connect(#[source] zbus::Error),
    /// Another process has the name.
    #[error(
        "{0} is taken on the message bus: this instance runs already (see sersyncctl list), or two instances have \
         names that escape to the same bus name"
    )]
    NameTaken(String),
    /// The bus policy does not let this user own the name.
    #[error(
        "the bus refused the name {0} ({1}): install dbus/org.sersync.Agent1.conf, and run as root or user sersync"
    )]
    NameRefused(String, #[source] zbus::Error),
    /// The bus accepts connections and does not answer.
    #[error(
        "the message bus does not answer within {} s: sersyncctl will not see this instance before it does, mirroring \
         is not affected",
        BUS_ANSWER_TIME.as_secs()
    )]
    Silent,
}

/// The shortest and the longest wait before another try to reach the bus.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Maximum time for entering the bus, and for each answer of it.
const BUS_ANSWER_TIME: Duration = Duration::from_secs(10);

/// The agent's presence on the bus; dropping it leaves the bus at once.
#[derive(Debug)]
pub struct Bus {
    name: String,
    refused: Option<ServeError>,
    entered: watch::Receiver<bool>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

impl Bus {
    /// The bus name that the agent owns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why the first try to enter the bus failed, if it did. Later tries follow.
    pub fn refused(&self) -> Option<&ServeError> {
        self.refused.as_ref()
    }

    /// Returns when the agent is on the bus for the first time.
    pub async fn entered(&self) {
        if self.entered.clone().wait_for(|entered| *entered).await.is_err() {
            // The engine has ended, and the agent enters no bus any more.
            std::future::pending::<()>().await;
        }
    }

    /// Leaves the bus: what was sent has left when this returns.
    pub async fn close(mut self) {
        drop(self.stop.take());
        // The task ends by itself; that it panicked would have been told already.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        if self.stop.is_some() {
            self.task.abort();
        }
    }
}

/// Puts the agent on the bus, under the name of `instance`, until [`Bus`] is closed or the engine ends.
///
/// All objects are there before the name is. A bus that is not there, refuses the name or goes away is tried again, with
/// up to 30 s between two tries.
pub async fn serve(handle: Handle, instance: &str, which: Which, log: LogControl) -> Bus {
    let place = Place { handle, name: names::bus_name(instance), path: names::agent_path(instance), which, log };
    let name = place.name.clone();
    let (first, refused) = match place.enter().await {
        Ok(publisher) => (Some(publisher), None),
        Err(error) => (None, Some(error)),
    };
    let (announce, entered) = watch::channel(first.is_some());
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(async move {
        tokio::select! {
            () = place.stay(first, announce) => {}
            _ = stopped => {}
        }
    });
    Bus { name, refused, entered, stop: Some(stop), task }
}

/// What it takes to enter the bus, again and again.
struct Place {
    handle: Handle,
    name: String,
    path: zbus::OwnedObjectPath,
    which: Which,
    log: LogControl,
}

impl Place {
    /// Connects, puts the objects there, and takes the name last.
    async fn enter(&self) -> Result<Publisher, ServeError> {
        tokio::time::timeout(BUS_ANSWER_TIME, self.try_to_enter()).await.unwrap_or(Err(ServeError::Silent))
    }

    async fn try_to_enter(&self) -> Result<Publisher, ServeError> {
        let authority = Arc::new(Authority::new(&self.handle.snapshot().instance, &self.which));
        let (announced, highest_job) = watch::channel(0);
        let agent = AgentObject::new(self.handle.clone(), Arc::clone(&authority), highest_job);
        let log = LogControlObject { log: self.log.clone(), authority: Arc::clone(&authority) };
        let (builder, refusals) = socket::builder(&self.which).await.map_err(ServeError::Connect)?;
        let connection = builder
            .serve_at(self.path.clone(), agent)
            .serve_at(self.path.clone(), ObjectManager)
            .serve_at(names::LOG_CONTROL_PATH, log)
            .method_timeout(BUS_ANSWER_TIME)
            .build()
            .await
            .map_err(ServeError::Connect)?;
        let publisher = Publisher::new(connection.clone(), self.handle.clone(), authority, announced, refusals)
            .await
            .map_err(ServeError::Connect)?;
        // First the name by which the policy lets callers in: whoever sees the other may call at once.
        let queued = async {
            let common = WellKnownName::try_from(names::COMMON_BUS_NAME)?;
            Ok(DBusProxy::new(&connection).await?.request_name(common, RequestNameFlags::empty()).await?)
        };
        queued.await.map_err(|error| ServeError::NameRefused(names::COMMON_BUS_NAME.to_owned(), error))?;
        // Nobody may take the name from us, and we wait in no queue for it.
        match connection.request_name_with_flags(self.name.as_str(), RequestNameFlags::DO_NOT_QUEUE).await {
            Ok(_) => Ok(publisher),
            Err(zbus::Error::NameTaken) => Err(ServeError::NameTaken(self.name.clone())),
            Err(error) => Err(ServeError::NameRefused(self.name.clone(), error)),
        }
    }

    async fn stay(&self, first: Option<Publisher>, entered: watch::Sender<bool>) {
        let mut publisher = match first {
            Some(publisher) => publisher,
            None => {
                let publisher = self.enter_later().await;
                tracing::info!("on the message bus as {}", self.name);
                entered.send_replace(true);
                publisher
            }
        };
        loop {
            if let End::Engine = publisher.run().await {
                return;
            }
            tracing::warn!("lost the message bus; mirroring goes on, coming back when the bus does");
            publisher = self.enter_later().await;
            tracing::info!("on the message bus again as {}", self.name);
        }
    }

    async fn enter_later(&self) -> Publisher {
        let mut wait = RECONNECT.0;
        loop {
            // Up to a quarter more, so that many instances do not come at once.
            tokio::time::sleep(wait.mul_f64(1.0 + fastrand::f64() / 4.0)).await;
            match self.enter().await {
                Ok(publisher) => return publisher,
                Err(error) => tracing::debug!(%error, "not on the message bus yet"),
            }
            wait = (wait * 2).min(RECONNECT.1);
        }
    }
}
