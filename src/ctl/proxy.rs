//! What `sersyncctl` calls: our own interfaces, through [`Asking`] since a call may want a password, and what systemd is
//! asked, as a generated proxy. What the members of ours mean is said in `dbus/`.

use super::asking::Asking;
use crate::bus::{Error, FailureRow, PendingRow, names};
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, Proxy, proxy};

/// The methods of one instance.
#[derive(Debug)]
pub struct AgentProxy<'s> {
    proxy: Proxy<'static>,
    asking: &'s Asking,
}

impl<'s> AgentProxy<'s> {
    /// Those of `instance`, whether it runs or not.
    pub async fn new(bus: &Connection, instance: &str, asking: &'s Asking) -> zbus::Result<Self> {
        let proxy = object(bus, instance, names::agent_path(instance), names::AGENT).await?;
        Ok(Self { proxy, asking })
    }

    /// Starts a full sync and returns its job.
    pub async fn full_sync(&self, remotes: &[String]) -> Result<OwnedObjectPath, Error> {
        self.asking.call(&self.proxy, "FullSync", &(remotes,)).await
    }

    /// Starts a full sync that makes all deletions it finds, and returns its job.
    pub async fn full_sync_delete(&self, remotes: &[String]) -> Result<OwnedObjectPath, Error> {
        self.asking.call(&self.proxy, "FullSyncDelete", &(remotes,)).await
    }

    /// Carries out the deletions that are withheld.
    pub async fn accept_deletions(&self, remotes: &[String]) -> Result<u32, Error> {
        self.asking.call(&self.proxy, "AcceptDeletions", &(remotes,)).await
    }

    /// Tries all that failed at once.
    pub async fn retry(&self, remotes: &[String]) -> Result<u64, Error> {
        self.asking.call(&self.proxy, "Retry", &(remotes,)).await
    }

    /// Failed paths.
    pub async fn list_failures(&self, offset: u32, limit: u32) -> Result<Vec<FailureRow>, Error> {
        self.asking.call(&self.proxy, "ListFailures", &(offset, limit)).await
    }

    /// Pending paths.
    pub async fn list_pending(&self, offset: u32, limit: u32) -> Result<Vec<PendingRow>, Error> {
        self.asking.call(&self.proxy, "ListPending", &(offset, limit)).await
    }

    /// Starts no more runs.
    pub async fn pause(&self) -> Result<(), Error> {
        self.asking.call(&self.proxy, "Pause", &()).await
    }

    /// Undoes `pause`.
    pub async fn resume(&self) -> Result<(), Error> {
        self.asking.call(&self.proxy, "Resume", &()).await
    }

    /// Reads the config again.
    pub async fn reload(&self) -> Result<(), Error> {
        self.asking.call(&self.proxy, "Reload", &()).await
    }

    /// The barrier.
    pub async fn wait_synced(&self, timeout_usec: u64) -> Result<(), Error> {
        self.asking.call(&self.proxy, "WaitSynced", &(timeout_usec,)).await
    }
}

/// One full sync.
#[derive(Debug)]
pub struct JobProxy<'s> {
    proxy: Proxy<'static>,
    asking: &'s Asking,
}

impl<'s> JobProxy<'s> {
    /// The full sync at `path` of `instance`.
    pub async fn new(
        bus: &Connection,
        instance: &str,
        path: OwnedObjectPath,
        asking: &'s Asking,
    ) -> zbus::Result<Self> {
        Ok(Self { proxy: object(bus, instance, path, "org.sersync.Job1").await?, asking })
    }

    /// Ends it.
    pub async fn cancel(&self) -> Result<(), Error> {
        self.asking.call(&self.proxy, "Cancel", &()).await
    }
}

async fn object(
    bus: &Connection,
    instance: &str,
    path: OwnedObjectPath,
    interface: &'static str,
) -> zbus::Result<Proxy<'static>> {
    proxy::Builder::new(bus)
        .destination(names::bus_name(instance))
        .path(path)
        .interface(interface)
        .cache_properties(CacheProperties::No)
        .build()
        .await
}

/// One row of systemd's unit lists: name, description, load, active and sub state, followed unit, object, job.
pub type UnitRow = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// What is asked of systemd, org.freedesktop.systemd1(5).
#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Systemd {
    /// The units in memory whose names match.
    #[zbus(no_autostart)]
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<UnitRow>>;
    /// `enabled`, `disabled`, …
    #[zbus(no_autostart)]
    fn get_unit_file_state(&self, unit: &str) -> zbus::Result<String>;
}
