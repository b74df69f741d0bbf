//! What the agent tells systemd over `$NOTIFY_SOCKET`, sd_notify(3). Without that variable every function here does
//! nothing. A notice that cannot be delivered is no reason to stop mirroring: it is told at debug level.

use crate::agent::Snapshot;
use sd_notify::NotifyState;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// The watches are set; units that wait for this one may start.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The line that `systemctl status` shows.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The config is being read again; [`ready`] ends it, whether the config was good or not.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        // Without the time systemd 253 and newer would take the reload for failed, so say nothing of it.
        Err(error) => tracing::debug!(%error, "no monotonic clock, systemd is not told of the reload"),
    }
}

/// The agent is about to end.
pub fn stopping(status: &str) {
    send(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Start or stop takes longer than the unit allows: asks systemd for so much more time from now on.
pub fn extend_timeout(more: Duration) {
    send(&[NotifyState::ExtendTimeoutUsec(u32::try_from(more.as_micros()).unwrap_or(u32::MAX))]);
}

/// The way to systemd, open from the first notice on: a process that can open nothing more must not fall silent, or it
/// would be taken for stuck.
static SOCKET: OnceLock<Option<UnixDatagram>> = OnceLock::new();

fn send(state: &[NotifyState<'_>]) {
    let text: String = state.iter().map(|line| format!("{line}\n")).collect();
    if let Some(socket) = SOCKET.get_or_init(connected)
        && socket.send(text.as_bytes()).is_ok()
    {
        return;
    }
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// A socket to where `$NOTIFY_SOCKET` says, if that is in the file system or abstract.
fn connected() -> Option<UnixDatagram> {
    let path = std::env::var_os("NOTIFY_SOCKET")?;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect_addr(&address.ok()?).ok()?;
    Some(socket)
}

/// Feeds systemd's watchdog. The engine's own loop calls [`Watchdog::beat`], and nobody else: a stuck engine is to
/// be noticed.
#[derive(Debug)]
pub struct Watchdog {
    interval: Option<Duration>,
    last: Option<Instant>,
}

impl Watchdog {
    /// What `WatchdogSec=` of the unit asks for; without it, a watchdog that wants nothing.
    pub fn from_env() -> Self {
        Self { interval: sd_notify::watchdog_enabled().map(|limit| limit / 2), last: None }
    }

    /// The longest time that may pass between two calls of [`Watchdog::beat`]: half of the unit's limit, as
    /// sd_watchdog_enabled(3) advises. `None` when nobody watches.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The engine is alive. Cheap enough for every turn of the loop: one look at the clock, and a message to systemd
    /// at most once per half interval.
    pub fn beat(&mut self) {
        let Some(interval) = self.interval else { return };
        let now = Instant::now();
        if self.last.is_none_or(|last| now.duration_since(last) >= interval / 2) {
            self.last = Some(now);
            send(&[NotifyState::Watchdog]);
        }
    }
}

/// The least time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// How often a line that tells of times (`down 3 min`) is made anew while nothing else changes.
const STATUS_REFRESH: Duration = Duration::from_secs(30);

/// Keeps `systemctl status` up to date until the engine ends: a line when it differs from the last one, at most one a
/// second.
pub async fn report_status(mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut told = String::new();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let text = super::status::line(&snapshot, SystemTime::now());
        if text != told {
            status(&text);
            told = text;
        }
        tokio::time::sleep(STATUS_INTERVAL).await;
        // A time-out is no end: it is the moment to count the minutes again.
        if let Ok(Err(_)) = tokio::time::timeout(STATUS_REFRESH, snapshots.changed()).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    /// The environment decides who is told, and it belongs to the whole process: so the talking is done by this very
    /// test in a process of its own.
    #[test]
    fn systemd_hears_what_it_asked_for() {
        if std::env::var_os("SERSYNC_TEST_TALKS").is_some() {
            let mut watchdog = Watchdog::from_env();
            assert_eq!(watchdog.interval(), Some(Duration::from_secs(15)));
            watchdog.beat();
            watchdog.beat();
            ready("3 remotes in sync");
            reloading();
            stopping("bye");
            return;
        }
        let _turn = crate::forks::some();
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("notify");
        let systemd = UnixDatagram::bind(&socket).unwrap();
        systemd.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let test = "service::notify::tests::systemd_hears_what_it_asked_for";
        let status = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact"])
            .env("SERSYNC_TEST_TALKS", "1")
            .env("NOTIFY_SOCKET", &socket)
            .env("WATCHDOG_USEC", "30000000")
            .env_remove("WATCHDOG_PID")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let mut buffer = [0; 512];
        let mut heard = || {
            let length = systemd.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(heard(), "WATCHDOG=1\n");
        // The second beat came too soon to be worth a message.
        assert_eq!(heard(), "READY=1\nSTATUS=3 remotes in sync\n");
        let reloading = heard();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(heard(), "STOPPING=1\nSTATUS=bye\n");
    }

    #[test]
    fn an_unwatched_engine_beats_for_nobody() {
        let mut watchdog = Watchdog { interval: None, last: None };
        watchdog.beat();
        assert!(watchdog.last.is_none());
    }
}
