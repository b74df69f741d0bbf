//! [`Ward`]: an agent on a bus of its own, asked by `sersyncctl` how it is: what is failed, by what name, and when that is
//! mended. [`SmallDisk`]: a file system that is soon full.
//!
//! Beside `support/bus.rs`, which a test program that uses this declares as `bus`.

use crate::bus::PrivateBus;
use crate::support::agent::{Agent, Launch};
use crate::support::rsyncd::Daemon;
use crate::support::scene::{MODULE, Place};
use crate::support::tree::{assert_converged, put};
use crate::support::{SOON, eventually, is_root, skip};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the instance.
pub const INSTANCE: &str = "ward";

/// An agent, and a bus to ask it on.
pub struct Ward {
    // In the order of their ends: the agent first, its files last.
    pub agent: Agent,
    pub bus: PrivateBus,
    daemons: Vec<Daemon>,
    pub place: Place,
}

impl Ward {
    pub fn start(place: Place, launch: Launch) -> Self {
        let bus = PrivateBus::start();
        let agent = launch
            .argument("--user")
            .argument("--instance")
            .argument(INSTANCE)
            .environment("DBUS_SESSION_BUS_ADDRESS", &bus.address)
            .start();
        Self { agent, bus, daemons: Vec::new(), place }
    }

    /// Mirrors to `destinations`.
    pub fn mirror(place: Place, destinations: &[String]) -> Self {
        let launch = place.launch().mirror(&place.source(), destinations);
        Self::start(place, launch)
    }

    /// Has a daemon run as long as the agent.
    pub fn keep(&mut self, daemon: Daemon) {
        self.daemons.push(daemon);
    }

    pub fn put(&self, path: &str) {
        put(&self.place.source().join(path), path);
    }

    pub fn converged(&self) {
        assert_converged(&self.place.source(), &self.place.path("copy"));
    }

    pub fn ask(&self, verb: &str) -> Vec<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
            .args(["--user", "--json", verb, INSTANCE])
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Asks for a full sync.
    pub fn ask_to_resync(&self) {
        let asked = Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
            .args(["--user", "resync", "--no-wait", INSTANCE])
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .status();
        assert!(asked.unwrap().success());
    }

    /// The failure list: path and name of the error.
    pub fn failures(&self) -> Vec<(String, String)> {
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        self.ask("failures").iter().map(|row| (text(row, "path"), text(row, "error"))).collect()
    }

    /// Each remote with the name of its last error, empty where there is none.
    pub fn remotes(&self) -> Vec<(String, String)> {
        let status = self.ask("status");
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let remotes = status[0]["remotes"].as_array().unwrap();
        remotes.iter().map(|remote| (text(remote, "name"), text(remote, "last_error_name"))).collect()
    }

    /// Waits until the only remote is down with the error `name`, for all that is pending, and has been tried again.
    pub fn down(&self, name: &str) {
        eventually(&format!("a remote that is down with {name}, tried again"), SOON, || {
            let status = self.ask("status");
            let remote = &status[0]["remotes"][0];
            let seen = remote["last_error_name"] == name && remote["attempts"].as_u64() >= Some(2);
            if seen && status[0]["state"] == "degraded" { Ok(()) } else { Err(remote.to_string()) }
        });
        let failures = self.failures();
        assert!(!failures.is_empty() && failures.iter().all(|(_, error)| error == name), "{failures:?}");
    }

    /// Waits until exactly these paths are failed, each with its error.
    pub fn failed(&self, wanted: &[(&str, &str)]) {
        eventually(&format!("the failures {wanted:?}"), SOON, || {
            let failures = self.failures();
            let same = failures.len() == wanted.len()
                && wanted.iter().all(|(path, name)| failures.iter().any(|(p, n)| p == path && n == name));
            if same { Ok(()) } else { Err(format!("{failures:?}")) }
        });
    }

    /// Waits until nothing is failed any more.
    pub fn mended(&self) {
        eventually("no failure, no error", SOON, || {
            let (failures, remotes) = (self.failures(), self.remotes());
            let well = failures.is_empty() && remotes.iter().all(|(_, error)| error.is_empty());
            if well { Ok(()) } else { Err(format!("{failures:?} {remotes:?}")) }
        });
    }
}

/// An agent that is not root, so that there is something it may not read.
pub fn unprivileged(prepare: impl FnOnce(&Path)) -> (Ward, Daemon) {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let mut launch = place.launch();
    if is_root() {
        fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
        launch = launch.unprivileged();
    }
    prepare(&place.source());
    let launch = launch.mirror(&place.source(), [daemon.url(MODULE)]);
    (Ward::start(place, launch), daemon)
}

/// A small file system of its own.
#[derive(Debug)]
pub struct SmallDisk(pub PathBuf);

impl SmallDisk {
    /// `None`, with the reason printed, where nothing may be mounted.
    pub fn mount(at: &Path, size: &str) -> Option<Self> {
        if !is_root() {
            skip("only root may mount a small file system");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        if !mounted.unwrap().success() {
            skip("nothing can be mounted here, though this is root: a container without CAP_SYS_ADMIN?");
            return None;
        }
        Some(Self(at.to_owned()))
    }

    pub fn resize(&self, size: &str) {
        let option = format!("remount,size={size}");
        assert!(Command::new("mount").arg("-o").arg(option).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a daemon that just got its signal may still stand in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
