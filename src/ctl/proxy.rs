//! The interfaces that `sersyncctl` calls, as generated proxies. What the members of ours mean is said in `dbus/`.

use crate::bus::{Error, FailureRow, PendingRow};
use zbus::{OwnedObjectPath, proxy};

/// The methods of one instance.
#[proxy(interface = "org.sersync.Agent1", assume_defaults = false)]
pub trait Agent {
    /// Starts a full sync and returns its job.
    #[zbus(no_autostart)]
    fn full_sync(&self, remotes: &[String]) -> Result<OwnedObjectPath, Error>;
    /// Tries all that failed at once.
    #[zbus(no_autostart)]
    fn retry(&self, remotes: &[String]) -> Result<u64, Error>;
    /// Failed paths.
    #[zbus(no_autostart)]
    fn list_failures(&self, offset: u32, limit: u32) -> Result<Vec<FailureRow>, Error>;
    /// Pending paths.
    #[zbus(no_autostart)]
    fn list_pending(&self, offset: u32, limit: u32) -> Result<Vec<PendingRow>, Error>;
    /// Starts no more runs.
    #[zbus(no_autostart)]
    fn pause(&self) -> Result<(), Error>;
    /// Undoes `pause`.
    #[zbus(no_autostart)]
    fn resume(&self) -> Result<(), Error>;
    /// Reads the config again.
    #[zbus(no_autostart)]
    fn reload(&self) -> Result<(), Error>;
    /// The barrier.
    #[zbus(no_autostart)]
    fn wait_synced(&self, timeout_usec: u64) -> Result<(), Error>;
}

/// One full sync.
#[proxy(interface = "org.sersync.Job1", assume_defaults = false)]
pub trait Job {
    /// Ends it.
    #[zbus(no_autostart)]
    fn cancel(&self) -> Result<(), Error>;
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
