//! What happens on the way to a remote: a connection that is cut in the middle of a file, no way there at all, an rsync
//! that dies on the other side, another rsync there than before. Each is named, tried again, and mended.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use nix::libc::linger;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use support::config::Confxml;
use support::processes::working_in;
use support::rsyncd::USER;
use support::scene::{MODULE, Place};
use support::tree::{Judge, put};
use support::{SOON, eventually, skip, until};
use ward::Ward;

/// What becomes of a connection in the middle of what is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Break {
    Reset,
    /// It stays, and nothing comes through any more.
    Stall,
}

/// A way to a daemon on which each connection breaks after so many bytes of the client's.
struct Wire {
    address: SocketAddr,
    bytes: Arc<AtomicU64>,
}

impl Wire {
    /// Its threads end with the test program.
    fn to(daemon: SocketAddr, bytes: u64, how: Break) -> Self {
        let listener = TcpListener::bind((daemon.ip(), 0)).unwrap();
        let (address, bytes) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(bytes)));
        let at_most = bytes.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (daemon, at_most) = (TcpStream::connect(daemon).unwrap(), at_most.load(Ordering::Relaxed));
                let (from, to) = (daemon.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(from, to, u64::MAX, how));
                thread::spawn(move || pass(client, daemon, at_most, how));
            }
        });
        Self { address, bytes }
    }

    fn mend(&self) {
        self.bytes.store(u64::MAX, Ordering::Relaxed);
    }

    fn url(&self) -> String {
        format!("rsync://{USER}@{}/{MODULE}", self.address)
    }
}

/// Passes on what comes, to its end, or until it breaks after `at_most` bytes.
fn pass(mut from: TcpStream, mut to: TcpStream, mut at_most: u64, how: Break) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        at_most = at_most.saturating_sub(read as u64);
        if at_most == 0 && how == Break::Stall {
            // Until the other side has had enough of it.
            while let Ok(1..) = to.read(&mut buffer) {}
            return;
        }
        if at_most == 0 {
            for side in [&from, &to] {
                // Closed without lingering is reset, socket(7).
                setsockopt(side, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
        if to.write_all(&buffer[..read]).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Waits for the end of the first full sync, which would send what it meets of a file that is being written, and puts
/// a large file into the source, whole from its first moment.
fn put_large(ward: &Ward) {
    until("the first full sync", SOON, || ward.ask("status")[0]["last_full_sync_at"].is_u64());
    let fresh = ward.place.path("fresh");
    put(&fresh, (0..4 << 20).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
    fs::rename(fresh, ward.place.source().join("large")).unwrap();
}

#[test]
fn a_connection_reset_in_the_middle_of_a_file_is_named_and_mended() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let wire = Wire::to(daemon.socket(), 1 << 20, Break::Reset);
    let ward = Ward::mirror(place, &[wire.url()]);
    ward.put("small");
    ward.converged();
    put_large(&ward);
    eventually("its failure", SOON, || {
        let (failures, remotes) = (ward.failures(), ward.remotes());
        let found = failures.contains(&("large".to_owned(), "ConnectionLost".to_owned()));
        if found { Ok(()) } else { Err(format!("{failures:?} {remotes:?}")) }
    });
    assert!(!ward.place.path("copy/large").exists(), "half a file took the place of a whole one");
    wire.mend();
    ward.mended();
    ward.converged();
}

#[test]
fn a_run_in_which_nothing_moves_any_more_is_ended_and_its_batch_tried_again() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let wire = Wire::to(daemon.socket(), 1 << 20, Break::Stall);
    let config = Confxml::new(&place.source()).address(wire.address, MODULE).timeout(1).write(&place.path("www.xml"));
    let launch = place.launch().config(&config);
    let ward = Ward::start(place, launch);
    ward.put("small");
    put_large(&ward);
    ward.put("beside it");
    eventually("its failure", SOON, || {
        let failures = ward.failures();
        let found = failures.contains(&("large".to_owned(), "Timeout".to_owned()));
        if found { Ok(()) } else { Err(format!("{failures:?}")) }
    });
    wire.mend();
    ward.mended();
    // The daemon still holds the connections that nothing comes through, with the files that they began.
    let judge = Judge::default().but_remains();
    judge.assert_converged(&ward.place.source(), &ward.place.path("copy"), SOON);
}

/// Where a program is.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is needed"))
}

#[test]
fn a_network_without_a_way_there_is_named_and_mended() {
    let (unshare, rsync) = (program("unshare"), program("rsync"));
    let apart = ["--user", "--net"];
    let can = Command::new(&unshare).args(apart).arg("true").output().unwrap();
    if !can.status.success() {
        return skip(&format!("no network namespace: {}", String::from_utf8_lossy(&can.stderr)));
    }
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let ours = place.make("bin").join("rsync");
    // In a network of its own that leads nowhere.
    let script = format!("#!/bin/sh\nexec {} {} {} \"$@\"\n", unshare.display(), apart.join(" "), rsync.display());
    fs::write(&ours, script).unwrap();
    fs::set_permissions(&ours, Permissions::from_mode(0o755)).unwrap();
    let launch = place.launch().environment("PATH", place.path("bin")).mirror(&place.source(), [daemon.url(MODULE)]);
    let ward = Ward::start(place, launch);
    ward.put("file");
    ward.down("Unreachable");
    fs::remove_file(&ours).unwrap();
    symlink(rsync, &ours).unwrap();
    ward.mended();
    ward.converged();
}

#[test]
fn an_rsync_killed_on_the_other_side_is_named_and_tried_again() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).params("-a --bwlimit=200").daemon(&daemon, MODULE);
    let launch = place.launch().config(&config.write(&place.path("slow.xml")));
    let ward = Ward::start(place, launch);
    ward.put("small");
    ward.converged();
    let slow = ward.place.source().join("slow");
    put(&slow, (0..4 << 20).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
    let copy = fs::canonicalize(ward.place.path("copy")).unwrap();
    let is_under_way = || {
        fs::read_dir(&copy).unwrap().flatten().any(|entry| {
            let is_draft = entry.file_name().as_encoded_bytes().starts_with(b".slow.");
            is_draft && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        })
    };
    until("a transfer", SOON, is_under_way);
    for process in working_in(&copy) {
        kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
    }
    eventually("its name", SOON, || {
        let (failures, remotes) = (ward.failures(), ward.remotes());
        let found = failures.contains(&("slow".to_owned(), "ConnectionLost".to_owned()));
        if found { Ok(()) } else { Err(format!("{failures:?} {remotes:?}")) }
    });
    fs::File::options().write(true).open(&slow).unwrap().set_len(1000).unwrap();
    ward.mended();
    // What was killed could not take its draft away.
    Judge::default().but_remains().assert_converged(&ward.place.source(), &copy, SOON);
}

/// Which options the only remote is known to refuse.
fn refused(ward: &Ward) -> String {
    ward.ask("status")[0]["remotes"][0]["refused_options"].to_string()
}

#[test]
fn a_remote_that_becomes_older_and_newer_is_served_without_a_restart() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).start();
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.put("before");
    ward.converged();
    assert_eq!(refused(&ward), "[]");
    daemon.set_module(MODULE, &["refuse options = modify-window"]);
    until("what it refuses", SOON, || {
        ward.put("older");
        ward.converged();
        refused(&ward).contains("--modify-window")
    });
    daemon.set_module(MODULE, &[]);
    // A full sync tries what was refused before.
    ward.ask_to_resync();
    until("nothing refused", SOON, || refused(&ward) == "[]");
    ward.put("newer");
    ward.mended();
    ward.converged();
}

#[test]
fn a_deletion_that_was_refused_is_tried_again_after_a_full_sync() {
    let place = Place::new();
    let mut daemon = place.plan(&["refuse options = delete-missing-args"]).start();
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    let delete = |name: &str| {
        ward.put(name);
        ward.converged();
        fs::remove_file(ward.place.source().join(name)).unwrap();
        ward.converged();
    };
    until("what it refuses", SOON, || {
        delete("in another way");
        refused(&ward).contains("--delete-missing-args")
    });
    daemon.set_module(MODULE, &[]);
    ward.ask_to_resync();
    until("nothing refused", SOON, || refused(&ward) == "[]");
    delete("by name");
    assert_eq!(refused(&ward), "[]");
}
