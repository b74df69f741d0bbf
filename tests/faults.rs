//! What goes wrong at a remote, or on the way to it, has a name in the failure list, is tried again, and is gone from
//! the list by itself when it is mended. Asked by `sersyncctl`, over a real bus.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

use bus::PrivateBus;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::agent::{Agent, Launch};
use support::config::Confxml;
use support::rsyncd::{Daemon, Plan};
use support::scene::{MODULE, Place};
use support::tree::{Judge, assert_converged, put};
use support::{SOON, eventually, is_root, skip, until};

const INSTANCE: &str = "faults";

/// An agent, and a bus to ask it on.
struct Ward {
    // In the order of their ends: the agent first, its files last.
    agent: Agent,
    bus: PrivateBus,
    place: Place,
}

impl Ward {
    fn start(place: Place, launch: Launch) -> Self {
        let bus = PrivateBus::start();
        let agent = launch
            .argument("--user")
            .argument("--instance")
            .argument(INSTANCE)
            .environment("DBUS_SESSION_BUS_ADDRESS", &bus.address)
            .start();
        Self { agent, bus, place }
    }

    /// Mirrors to `destinations`.
    fn mirror(place: Place, destinations: &[String]) -> Self {
        let launch = place.launch().mirror(&place.source(), destinations);
        Self::start(place, launch)
    }

    fn put(&self, path: &str) {
        put(&self.place.source().join(path), path);
    }

    fn converged(&self) {
        assert_converged(&self.place.source(), &self.place.path("copy"));
    }

    fn ask(&self, verb: &str) -> Vec<Value> {
        let output = Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
            .args(["--user", "--json", verb, INSTANCE])
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// Asks for a full sync.
    fn ask_to_resync(&self) {
        let asked = Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
            .args(["--user", "resync", "--no-wait", INSTANCE])
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .status();
        assert!(asked.unwrap().success());
    }

    /// The failure list: path and name of the error.
    fn failures(&self) -> Vec<(String, String)> {
        let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
        self.ask("failures").iter().map(|row| (text(row, "path"), text(row, "error"))).collect()
    }

    /// Each remote with the name of its last error, empty where there is none.
    fn remotes(&self) -> Vec<(String, String)> {
        let status = self.ask("status");
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let remotes = status[0]["remotes"].as_array().unwrap();
        remotes.iter().map(|remote| (text(remote, "name"), text(remote, "last_error_name"))).collect()
    }

    /// Waits until the only remote is down with the error `name`, for all that is pending, and has been tried again.
    fn down(&self, name: &str) {
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
    fn failed(&self, wanted: &[(&str, &str)]) {
        eventually(&format!("the failures {wanted:?}"), SOON, || {
            let failures = self.failures();
            let same = failures.len() == wanted.len()
                && wanted.iter().all(|(path, name)| failures.iter().any(|(p, n)| p == path && n == name));
            if same { Ok(()) } else { Err(format!("{failures:?}")) }
        });
    }

    /// Waits until nothing is failed any more.
    fn mended(&self) {
        eventually("no failure, no error", SOON, || {
            let (failures, remotes) = (self.failures(), self.remotes());
            let well = failures.is_empty() && remotes.iter().all(|(_, error)| error.is_empty());
            if well { Ok(()) } else { Err(format!("{failures:?} {remotes:?}")) }
        });
    }
}

/// A small file system of its own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason printed, where nothing may be mounted.
    fn mount(at: &Path, size: &str) -> Option<Self> {
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

    fn resize(&self, size: &str) {
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

#[test]
fn a_full_disk_is_named_and_mended_and_no_other_remote_is_held_up() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.path("small"), "1m") else { return };
    let large = Plan::new(&place.path("d1")).module(MODULE, &place.path("copy"), &[]).start();
    let small = Plan::new(&place.path("d2")).module(MODULE, &disk.0, &[]).start();
    let ward = Ward::mirror(place, &[large.url(MODULE), small.url(MODULE)]);
    // The first full sync would meet the file as well.
    until("the first full syncs", SOON, || ward.ask("status")[0]["last_full_sync_at"].is_u64());
    ward.put("before");
    put(&ward.place.source().join("too large"), vec![b'x'; 2 << 20]);
    ward.failed(&[("too large", "NoSpace")]);
    assert!(ward.remotes()[0].1.is_empty(), "the other remote has room");
    ward.put("zz after");
    ward.converged();
    until("what there is room for", SOON, || disk.0.join("zz after").exists() && disk.0.join("before").exists());
    disk.resize("16m");
    ward.mended();
    assert_converged(&ward.place.source(), &disk.0);
}

#[test]
fn a_full_disk_in_a_full_sync_is_named_and_mended() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.path("copy"), "1m") else { return };
    let daemon = place.plan(&[]).start();
    put(&place.source().join("too large"), vec![b'x'; 2 << 20]);
    put(&place.source().join("zz small"), "x");
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.failed(&[("", "NoSpace"), ("too large", "NoSpace")]);
    ward.put("live");
    until("a live change", SOON, || disk.0.join("live").exists());
    // Pauses double: even a slow machine does not get to more.
    let attempts = ward.ask("failures").iter().filter_map(|row| row["attempts"].as_u64()).max();
    assert!(attempts <= Some(8), "{attempts:?} attempts: nothing pauses between them");
    disk.resize("16m");
    ward.mended();
    ward.converged();
    drop((ward, daemon));
}

#[test]
fn a_remote_with_no_connection_left_is_named_and_mended() {
    let place = Place::new();
    let daemon = place.plan(&["max connections = 1"]).start();
    // Somebody who has the module, and does not log in.
    let mut other = TcpStream::connect(daemon.socket()).unwrap();
    let mut lines = BufReader::new(other.try_clone().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    other.write_all(format!("{}\n{MODULE}\n", line.trim()).as_bytes()).unwrap();
    until("the question for a password", SOON, || {
        line.clear();
        lines.read_line(&mut line).unwrap();
        line.contains("AUTHREQD")
    });
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.put("file");
    ward.down("TooManyConnections");
    drop((other, lines));
    ward.mended();
    ward.converged();
}

#[test]
fn a_module_that_does_not_exist_is_named_and_mended() {
    let place = Place::new();
    let mut without = Plan::new(&place.path("d1")).module("another", &place.path("another"), &[]).start();
    let ward = Ward::mirror(place, &[without.url(MODULE)]);
    ward.put("file");
    ward.down("UnknownModule");
    without.stop();
    let _with = ward.place.plan(&[]).address(without.address).port(without.port).start();
    ward.mended();
    ward.converged();
}

#[test]
fn a_remote_that_refuses_connections_is_named_and_mended() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).stopped();
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.put("file");
    ward.down("ConnectionRefused");
    daemon.start();
    ward.mended();
    ward.converged();
}

#[test]
fn a_host_without_an_address_is_named() {
    let ward = Ward::mirror(Place::new(), &["rsync://backup@sersync-test.invalid/copy".to_owned()]);
    ward.put("file");
    ward.down("HostUnknown");
}

#[test]
fn a_module_that_may_not_be_written_is_named_and_mended() {
    let place = Place::new();
    let mut daemon = place.plan(&["read only = yes"]).start();
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.put("file");
    ward.down("ReadOnly");
    daemon.set_module(MODULE, &[]);
    ward.mended();
    ward.converged();
}

#[test]
fn a_module_whose_directory_is_not_there_is_named_and_mended() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    fs::remove_dir(place.path("copy")).unwrap();
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.put("file");
    ward.down("NoDirectory");
    ward.place.make("copy");
    ward.mended();
    ward.converged();
}

/// An agent that is not root, so that there is something it may not read.
fn unprivileged(prepare: impl FnOnce(&Path)) -> (Ward, Daemon) {
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

#[test]
fn a_file_that_cannot_be_read_fails_alone() {
    let (ward, _daemon) = unprivileged(|source| put(&source.join("open"), "before"));
    let closed = ward.place.source().join("dir/closed");
    ward.converged();
    let draft = ward.place.path("draft");
    fs::write(&draft, "nobody's").unwrap();
    fs::set_permissions(&draft, Permissions::from_mode(0o200)).unwrap();
    fs::create_dir(ward.place.source().join("dir")).unwrap();
    fs::rename(&draft, &closed).unwrap();
    ward.put("dir/beside");
    ward.failed(&[("dir/closed", "PermissionDenied")]);
    ward.put("dir/later");
    fs::remove_file(ward.place.source().join("open")).unwrap();
    let others = Judge::default().ignoring("dir/closed");
    others.assert_converged(&ward.place.source(), &ward.place.path("copy"), SOON);
    ward.failed(&[("dir/closed", "PermissionDenied")]);
    assert_eq!(ward.remotes()[0].1, "", "the remote as a whole is well");
    fs::set_permissions(&closed, Permissions::from_mode(0o644)).unwrap();
    ward.mended();
    ward.converged();
}

#[test]
fn a_directory_that_cannot_be_read_fails_alone_and_nothing_goes_on_the_remote() {
    let (ward, _daemon) = unprivileged(|source| {
        put(&source.join("closed/kept"), "before");
        put(&source.join("open/file"), "before");
    });
    ward.converged();
    let closed = ward.place.source().join("closed");
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
    // A full sync has to look into it.
    ward.ask_to_resync();
    eventually("its failure", SOON, || {
        let failures = ward.failures();
        let found = failures.iter().any(|(path, error)| path == "closed" && error == "PermissionDenied");
        if found { Ok(()) } else { Err(format!("{failures:?}")) }
    });
    ward.put("open/later");
    fs::remove_file(ward.place.source().join("open/file")).unwrap();
    let others = Judge::default().ignoring("closed");
    others.assert_converged(&ward.place.source(), &ward.place.path("copy"), SOON);
    let copy = ward.place.path("copy");
    let open_again = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    open_again(&copy.join("closed"));
    assert!(copy.join("closed/kept").exists(), "what could not be looked at was deleted on the remote");
    open_again(&closed);
    ward.mended();
    ward.converged();
}

#[test]
fn an_rsync_that_is_not_installed_is_named_and_mended() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let bin = place.make("bin");
    let launch = place.launch().environment("PATH", &bin).mirror(&place.source(), [daemon.url(MODULE)]);
    let ward = Ward::start(place, launch);
    ward.put("file");
    ward.down("RsyncMissing");
    let path = std::env::var_os("PATH").unwrap();
    let rsync = std::env::split_paths(&path).map(|directory| directory.join("rsync")).find(|rsync| rsync.exists());
    symlink(rsync.unwrap(), bin.join("rsync")).unwrap();
    ward.mended();
    ward.converged();
}

#[test]
fn an_rsync_that_is_killed_is_named_and_tried_again() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).params("-a --bwlimit=100").daemon(&daemon, MODULE);
    let launch = place.launch().config(&config.write(&place.path("slow.xml")));
    let ward = Ward::start(place, launch);
    let slow = ward.place.source().join("slow");
    File::create(&slow).unwrap().set_len(4 << 20).unwrap();
    let is_under_way = || {
        fs::read_dir(ward.place.path("copy")).unwrap().flatten().any(|entry| {
            entry.file_name().as_encoded_bytes().starts_with(b".slow.") && entry.metadata().is_ok_and(|m| m.len() > 0)
        })
    };
    until("a transfer", SOON, is_under_way);
    for child in ward.agent.children() {
        kill(Pid::from_raw(child.pid), Signal::SIGKILL).unwrap();
    }
    eventually("its name", SOON, || {
        let (failures, remotes) = (ward.failures(), ward.remotes());
        let slow = ("slow".to_owned(), "RsyncKilled".to_owned());
        let found = failures.contains(&slow) && remotes[0].1 == "RsyncKilled";
        if found { Ok(()) } else { Err(format!("{failures:?} {remotes:?}")) }
    });
    File::options().write(true).open(&slow).unwrap().set_len(1000).unwrap();
    ward.mended();
    ward.converged();
}

#[test]
fn deletions_that_a_limit_stopped_are_named_and_mended() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let superfluous = ["old1", "old2", "old3", "old4", "old5", "old6"].map(|name| place.path("copy").join(name));
    for path in &superfluous {
        put(path, "from before");
    }
    let config = Confxml::new(&place.source()).params("-a --max-delete=0").daemon(&daemon, MODULE);
    let launch = place.launch().config(&config.write(&place.path("limit.xml")));
    let ward = Ward::start(place, launch);
    ward.failed(&[("", "DeleteLimit")]);
    ward.put("live");
    until("a live change", SOON, || ward.place.path("copy/live").exists());
    for path in &superfluous {
        fs::remove_file(path).unwrap();
    }
    ward.mended();
    ward.converged();
}
