//! An rsync that is started ahead of the next change: it brings the change, and costs nothing when it cannot.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Command, Stdio};
use support::agent::Agent;
use support::config::Confxml;
use support::processes::Process;
use support::rsyncd::{Daemon, PASSWORD};
use support::scene::{MODULE, Place, Scene};
use support::tree::put;
use support::{SOON, eventually, until};

/// What is on the command line of a run of changed files, such as the one that waits for some.
const WAITS: &str = "--no-recursive --ignore-times";

/// An agent that keeps a run ahead, once it waits.
fn scene(settings: &[&str], seconds: &str) -> Scene {
    let place = Place::new();
    let daemon = place.plan(settings).start();
    let launch = place.launch().mirror(&place.source(), [daemon.url(MODULE)]);
    let agent = launch.argument("--debug").argument("--ahead").argument(seconds).start();
    let scene = Scene { agent, daemon, source: place.source(), copy: place.path("copy"), place };
    waiting(&scene);
    scene
}

/// The one run that waits, and nothing else runs.
fn waiting(scene: &Scene) -> Process {
    pair(scene).0
}

/// The same, with the daemon's process for it.
fn pair(scene: &Scene) -> (Process, Process) {
    eventually("an rsync that waits for its list", SOON, || {
        let (children, serving) = (scene.agent.children(), scene.daemon.serving());
        let ([ahead], [server]) = (children.as_slice(), serving.as_slice()) else {
            return Err(format!("{} children, {} connections", children.len(), serving.len()));
        };
        let connected = scene.daemon.log().contains(&format!("[{}] receiving file list", server.pid));
        let waits = connected && ahead.command_line().contains(WAITS);
        if waits { Ok((*ahead, *server)) } else { Err("not yet connected".to_owned()) }
    })
}

/// Makes a change, which the run that waits brings, and returns when another waits.
fn brought(scene: &Scene, change: impl FnOnce()) {
    let (ahead, server) = pair(scene);
    change();
    scene.converged();
    until("its end", SOON, || !ahead.lives() && !server.lives());
    waiting(scene);
}

/// How many connections the daemon let in.
fn connections(daemon: &Daemon) -> usize {
    daemon.log().matches("rsync to copy/").count()
}

#[test]
fn it_brings_what_changes_next() {
    let scene = scene(&[], "3600");
    // What the first change teaches of the remote may ask for another run.
    brought(&scene, || put(&scene.at("file"), "zeroth"));
    let before = connections(&scene.daemon);
    for (number, content) in ["first", "second", "third"].iter().enumerate() {
        brought(&scene, || put(&scene.at("file"), content));
        assert_eq!(connections(&scene.daemon), before + number + 1, "one for the next change, and no other");
    }
}

#[test]
fn it_deletes_as_well_where_the_remote_is_known_to() {
    let scene = scene(&[], "3600");
    for name in ["a", "b", "c"] {
        put(&scene.at(name), name);
    }
    scene.converged();
    // The first deletion shows what the remote accepts.
    fs::remove_file(scene.at("a")).unwrap();
    scene.converged();
    let ahead = eventually("one that deletes", SOON, || {
        let ahead = waiting(&scene);
        if ahead.command_line().contains("--delete-missing-args") { Ok(ahead) } else { Err("not yet") }
    });
    let before = connections(&scene.daemon);
    brought(&scene, || fs::remove_file(scene.at("b")).unwrap());
    assert!(!ahead.lives());
    assert_eq!(connections(&scene.daemon), before + 1);
    put(&scene.at("c"), "sent by the same kind");
    scene.converged();
}

#[test]
fn a_connection_that_was_cut_while_it_waited_is_no_failure() {
    let mut scene = scene(&[], "3600");
    scene.daemon.stop();
    scene.daemon.start();
    put(&scene.at("after a restart"), "x");
    scene.converged();
    waiting(&scene);
    told_of_no_failure(&scene.agent);
}

#[test]
fn a_connection_that_went_dead_without_a_word_is_no_failure() {
    let scene = scene(&[], "3600");
    let serving = scene.daemon.serving();
    assert!(!serving.is_empty());
    for process in &serving {
        kill(Pid::from_raw(process.pid), Signal::SIGSTOP).unwrap();
    }
    put(&scene.at("file"), "x");
    scene.converged();
    told_of_no_failure(&scene.agent);
}

fn told_of_no_failure(agent: &Agent) {
    let log = agent.log();
    assert!(!log.contains("the next try"), "{log}");
}

#[test]
fn where_connections_are_short_it_makes_room() {
    let lock = tempfile::NamedTempFile::new().unwrap();
    let lock_file = format!("lock file = {}", lock.path().display());
    // A daemon's process counts until it has ended, a little longer than the run that it served.
    let scene = scene(&["max connections = 4", &lock_file], "3600");
    let other = || {
        let mut rsync = Command::new("rsync");
        rsync.args(["-a", "--files-from=-", ".", &scene.daemon.url(MODULE)]).env("RSYNC_PASSWORD", PASSWORD);
        rsync.stdin(Stdio::piped()).spawn().unwrap()
    };
    let others = [other(), other(), other()];
    until("all connections are taken", SOON, || {
        let served = |server: &Process| scene.daemon.log().contains(&format!("[{}] receiving file list", server.pid));
        scene.daemon.serving().iter().filter(|server| served(server)).count() == 4
    });
    // A directory that comes with what is in it needs a run of another kind.
    let tree = scene.place.path("outside/tree");
    put(&tree.join("sub/file"), "x");
    fs::rename(&tree, scene.at("tree")).unwrap();
    scene.converged();
    scene.agent.wait_logged("no rsync is started ahead any more");
    until("no run that waits", SOON, || scene.agent.children().is_empty());
    put(&scene.at("later"), "x");
    scene.converged();
    for mut other in others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[test]
fn it_is_of_the_directory_that_is_the_root_now() {
    let scene = scene(&[], "3600");
    put(&scene.at("file"), "old");
    scene.converged();
    let ahead = waiting(&scene);
    fs::rename(&scene.source, scene.place.path("old")).unwrap();
    put(&scene.at("file"), "new");
    scene.converged();
    until("its end", SOON, || !ahead.lives());
    put(&scene.at("file"), "newer");
    scene.converged();
}

#[test]
fn it_is_replaced_in_time_and_ends_with_the_agent() {
    let mut scene = scene(&[], "1");
    let first = waiting(&scene);
    let second = eventually("another", SOON, || {
        let now = waiting(&scene);
        if now.pid == first.pid { Err("the same") } else { Ok(now) }
    });
    assert!(!first.lives());
    put(&scene.at("file"), "x");
    scene.converged();
    let last = waiting(&scene);
    scene.agent.terminate();
    until("the end of all", SOON, || !second.lives() && !last.lives());
}

#[test]
fn a_reload_keeps_what_the_command_line_asked_for() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let file = Confxml::new(&place.source()).daemon(&daemon, MODULE).write(&place.path("confxml.xml"));
    let agent = place.launch().config(&file).argument("--ahead").argument("30").start();
    let scene = Scene { agent, daemon, source: place.source(), copy: place.path("copy"), place };
    put(&scene.at("first"), "x");
    waiting(&scene);
    scene.agent.signal(Signal::SIGHUP);
    scene.agent.wait_logged("the config was read again");
    put(&scene.at("second"), "x");
    until("it arrives", SOON, || scene.copy.join("second").exists());
    waiting(&scene);
}

#[test]
fn a_config_asks_for_it_and_another_ends_it() {
    let scene = Scene::configured(|_, _| (), |config| config.agent("<ahead seconds=\"30\"/>"));
    let ahead = waiting(&scene);
    assert!(!ahead.command_line().contains(PASSWORD));
    Confxml::new(&scene.source).daemon(&scene.daemon, MODULE).write(&scene.place.path("confxml.xml"));
    scene.agent.signal(Signal::SIGHUP);
    until("no run that waits", SOON, || scene.agent.children().is_empty());
    put(&scene.at("file"), "x");
    until("it arrives", SOON, || scene.copy.join("file").exists());
}
