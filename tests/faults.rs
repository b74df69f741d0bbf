//! What goes wrong at a remote, or on the way to it, has a name in the failure list, is tried again, and is gone from
//! the list by itself when it is mended. Asked by `sersyncctl`, over a real bus.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};
use support::config::Confxml;
use support::rsyncd::Plan;
use support::scene::{MODULE, Place};
use support::tree::{Judge, assert_converged, put};
use support::{SOON, eventually, is_root, skip, until};
use ward::{SmallDisk, Ward, unprivileged};

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
    // An empty root would be reported as such.
    put(&place.source().join("kept"), "content");
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

#[test]
fn a_directory_that_the_remote_may_not_write_to_is_named_and_mended() {
    let place = Place::new();
    if !is_root() {
        return skip("only root may have a daemon that runs as another user");
    }
    let daemon = place.plan(&["uid = nobody", "gid = nogroup"]).start();
    let copy = place.path("copy");
    fs::set_permissions(&copy, Permissions::from_mode(0o777)).unwrap();
    fs::create_dir(copy.join("closed")).unwrap();
    // Owners, modes and times are not what this daemon may set.
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).params("-rl").write(&place.path("www.xml"));
    let launch = place.launch().config(&config);
    let ward = Ward::start(place, launch);
    ward.put("closed/file");
    ward.put("open");
    ward.failed(&[("closed/file", "PermissionDenied")]);
    until("the other file", SOON, || copy.join("open").exists());
    fs::set_permissions(copy.join("closed"), Permissions::from_mode(0o777)).unwrap();
    until("the file", SOON, || copy.join("closed/file").exists());
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_is_sent_again_and_is_no_failure() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).params("-a --bwlimit=300").daemon(&daemon, MODULE);
    let launch = place.launch().config(&config.write(&place.path("slow.xml")));
    let ward = Ward::start(place, launch);
    ward.put("small");
    ward.converged();
    let journal = ward.place.source().join("journal");
    put(&journal, (0..2 << 20).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
    until("a transfer", SOON, || {
        fs::read_dir(ward.place.path("copy")).unwrap().flatten().any(|entry| {
            let is_draft = entry.file_name().as_encoded_bytes().starts_with(b".journal.");
            is_draft && entry.metadata().is_ok_and(|metadata| metadata.len() > 0)
        })
    });
    File::options().write(true).open(&journal).unwrap().set_len(1_000).unwrap();
    ward.converged();
    let log = ward.agent.log();
    assert!(!log.contains("PartialTransfer") && ward.failures().is_empty(), "{log}");
}

/// An rsync before which a shell does `before`, and after which it does `after`; `$0` is rsync. It works in the root.
fn rsync_between(place: &Place, before: &str, after: &str) -> std::path::PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let rsync = std::env::split_paths(&path).map(|bin| bin.join("rsync")).find(|rsync| rsync.exists()).unwrap();
    let bin = place.make("bin");
    let script = format!("#!/bin/sh\n{before}\n{} \"$@\"\nend=$?\n{after}\nexit $end\n", rsync.display());
    fs::write(bin.join("rsync"), script).unwrap();
    fs::set_permissions(bin.join("rsync"), Permissions::from_mode(0o755)).unwrap();
    bin
}

/// `PATH` with `bin` first.
fn path_with(bin: &std::path::Path) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap();
    std::env::join_paths([bin.to_owned()].into_iter().chain(std::env::split_paths(&path))).unwrap()
}

/// What is gone when a batch is looked at, there when rsync looks, and gone again, says nothing of the remote.
#[test]
fn a_path_that_comes_back_between_two_runs_is_no_proof_of_a_refused_option() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).start();
    let gates = ["by-name", "by-pattern"].map(|gate| place.path(gate));
    let wait = |gate: &Path| format!("while test -e '{}'; do sleep 0.01; done", gate.display());
    let before = format!(
        "case \"$*\" in\n*--include-from*) {} ;;\n*--delete-missing-args*) {} ;;\nesac",
        wait(&gates[1]),
        wait(&gates[0])
    );
    let bin = rsync_between(&place, &before, "");
    let launch = place.launch().environment("PATH", path_with(&bin)).mirror(&place.source(), [daemon.url(MODULE)]);
    let ward = Ward::start(place, launch);
    let here = ward.place.source().join("here");
    let runs = |option: &str| ward.agent.children().iter().any(|child| child.command_line().contains(option));
    let is_idle = || ward.ask("status")[0]["state"] == "idle";
    for _ in 0..2 {
        // What a remote accepts is learned anew after a lost connection.
        until("a rest", SOON, is_idle);
        daemon.stop();
        put(&here, "for a while");
        ward.down("ConnectionRefused");
        daemon.start();
        ward.converged();
        until("a rest", SOON, is_idle);
        gates.iter().for_each(|gate| fs::write(gate, "").unwrap());
        fs::remove_file(&here).unwrap();
        until("the deletion by name", SOON, || runs("--delete-missing-args"));
        put(&here, "back");
        fs::remove_file(&gates[0]).unwrap();
        until("what is back", SOON, || fs::read(ward.place.path("copy/here")).is_ok_and(|bytes| bytes == b"back"));
        let mut idle_since = None;
        until("a deletion by pattern, or none", SOON, || {
            idle_since = if is_idle() { idle_since.or_else(|| Some(Instant::now())) } else { None };
            runs("--include-from") || idle_since.is_some_and(|since| since.elapsed() > Duration::from_millis(500))
        });
        fs::remove_file(&here).unwrap();
        fs::remove_file(&gates[1]).unwrap();
        ward.converged();
    }
    until("a rest", SOON, is_idle);
    let log = ward.agent.log();
    assert!(!log.contains("does not accept"), "{log}");
    assert!(ward.ask("status")[0]["remotes"][0]["refused_options"].as_array().is_none_or(Vec::is_empty));
}

/// In a batch where directories stand for all that is in them, rsync complains of a directory that it cannot read, and of
/// nothing in it.
#[test]
fn files_in_a_directory_that_could_not_be_read_for_a_moment_are_sent() {
    if !is_root() {
        return skip("it takes another user than the tests' own");
    }
    let place = Place::new();
    fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
    let mut daemon = place.plan(&[]).start();
    let is_closing = place.path("is closing");
    let close = format!("test ! -e '{}' || chmod 0 tree/1", is_closing.display());
    let bin = rsync_between(&place, &close, "chmod 755 tree/1 2> /dev/null");
    let launch = place.launch().unprivileged().environment("PATH", path_with(&bin)).argument("--debug");
    let launch = launch.mirror(&place.source(), [daemon.url(MODULE)]);
    let ward = Ward::start(place, launch);
    until("the first full sync", SOON, || ward.ask("status")[0]["last_full_sync_at"].is_u64());
    daemon.stop();
    for (directory, nth) in (0..10).flat_map(|directory| (0..40).map(move |nth| (directory, nth))) {
        ward.put(&format!("tree/{directory}/a name of some length {nth}"));
    }
    const NOBODY: u32 = 65_534;
    chown(ward.place.source().join("tree/1"), Some(NOBODY), None).unwrap();
    let reported = |line: &&str| line.contains("pending: tree/") && line.contains("(Entry)");
    until("all files are reported", SOON, || ward.agent.log().lines().filter(reported).count() >= 10 * 40);
    fs::write(&is_closing, "").unwrap();
    daemon.start();
    until("what can be read", SOON, || ward.place.path("copy/tree/2/a name of some length 39").exists());
    fs::remove_file(&is_closing).unwrap();
    ward.converged();
    let log = ward.agent.log();
    assert!(log.contains("--recursive --ignore-times"), "no directory stood for what is in it: {log}");
}
