//! The moments at which an agent is weak: its start, a reload, a bus that fails.

use crate::bus::PrivateBus;
use crate::support::agent::Launch;
use crate::support::config::Confxml;
use crate::support::listener::Listener;
use crate::support::plugins::localpath;
use crate::support::scene::{MODULE, Place};
use crate::support::tree::{assert_converged, put};
use crate::support::{SOON, until};
use crate::ward::{INSTANCE, Ward};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Time in which `sersyncctl` gives up, on a busy machine.
const GIVES_UP: Duration = Duration::from_secs(60);

fn on_bus(launch: Launch, address: &str) -> Launch {
    let launch = launch.argument("--user").argument("--instance").argument(INSTANCE);
    launch.environment("DBUS_SESSION_BUS_ADDRESS", address)
}

fn ctl(address: &str, arguments: &[&str]) -> Command {
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    ctl.arg("--user").args(arguments).env("DBUS_SESSION_BUS_ADDRESS", address).env("LC_ALL", "C.UTF-8");
    ctl
}

/// Runs commands at the same time, each to its end.
fn all(commands: Vec<Command>) -> Vec<Output> {
    let running: Vec<_> =
        commands.into_iter().map(|mut command| std::thread::spawn(move || command.output().unwrap())).collect();
    running.into_iter().map(|command| command.join().unwrap()).collect()
}

/// A bus that accepts connections and does not answer.
fn silent_bus(place: &Place) -> (UnixListener, String) {
    let path = place.path("silent-bus");
    (UnixListener::bind(&path).unwrap(), format!("unix:path={}", path.display()))
}

#[test]
fn a_bus_that_does_not_answer_delays_the_start_and_nothing_else() {
    let place = Place::new();
    let (_bus, address) = silent_bus(&place);
    let copy = place.make("copy");
    put(&place.source().join("file"), "content");
    let launch = on_bus(place.launch(), &address).mirror(&place.source(), [&copy]);
    let asking = std::thread::spawn({
        let commands = vec![ctl(&address, &["status"]), ctl(&address, &["pause", INSTANCE])];
        move || (Instant::now(), all(commands))
    });
    let mut agent = launch.start();
    agent.wait_logged("the message bus does not answer within 10 s");
    until("the file", SOON, || copy.join("file").exists());
    assert!(agent.terminate().success());
    let (start, answers) = asking.join().unwrap();
    assert!(start.elapsed() < GIVES_UP);
    for answer in answers {
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(!answer.status.success() && said.contains("does not answer within 30 s"), "{said}");
    }
}

#[test]
fn signals_count_from_the_first_moment() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new();
        let (_bus, address) = silent_bus(&place);
        let daemon = place.plan(&[]).start();
        let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).write(&place.path("ward.xml"));
        let mut agent = on_bus(place.launch(), &address).config(&config).spawn();
        agent.wait_logged("watching");
        // It waits for the bus for 10 s.
        agent.signal(Signal::SIGHUP);
        agent.wait_logged("the config was read again");
        agent.signal(signal);
        assert!(agent.wait_ended(Duration::from_secs(5)).success(), "{signal}: {}", agent.log());
        agent.wait_logged("stopped, ");
    }
}

#[test]
fn an_agent_without_a_bus_enters_it_later() {
    let place = Place::new();
    let address = format!("unix:path={}", place.path("bus").display());
    let launch = on_bus(place.launch(), &address).mirror(&place.source(), [place.make("copy")]);
    let agent = launch.start();
    agent.wait_logged("no connection to the message bus");
    let bus = PrivateBus::listen(&address);
    until("an answer of the agent", SOON, || {
        ctl(&bus.address, &["status", INSTANCE]).output().unwrap().status.success()
    });
}

#[test]
fn no_command_waits_for_an_agent_that_hangs() {
    let place = Place::new();
    let copy = place.make("copy");
    let ward = Ward::mirror(place, &[copy.display().to_string()]);
    ward.agent.signal(Signal::SIGSTOP);
    let verbs = ["pause", "resume", "retry", "reload", "failures", "pending", "resync", "accept", "wait"];
    let start = Instant::now();
    let answers = all(verbs.iter().map(|verb| ctl(&ward.bus.address, &[verb, INSTANCE])).collect());
    println!("sersyncctl gave up after {:.0} s", start.elapsed().as_secs_f64());
    for (verb, answer) in verbs.iter().zip(answers) {
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(!answer.status.success() && said.contains("has not answered for 30 s"), "{verb}: {said}");
        assert!(said.contains("next: systemctl --user status sersync@ward"), "{verb}: {said}");
    }
    assert!(start.elapsed() < GIVES_UP);
    ward.agent.signal(Signal::SIGCONT);
    until("an answer", SOON, || ctl(&ward.bus.address, &["status", INSTANCE]).output().unwrap().status.success());
}

#[test]
fn what_waits_for_a_plugin_survives_a_kill_at_any_moment_of_the_start() {
    let place = Place::new();
    let nowhere = Listener::bytes();
    let address = nowhere.address;
    drop(nowhere);
    let target = format!("<deshost ip=\"{}\" port=\"{}\"/>", address.ip(), address.port());
    let daemon = place.plan(&[]).start();
    let config =
        Confxml::new(&place.source()).daemon(&daemon, MODULE).plugin("socket", "", &localpath(&place, &target));
    let mut agent = place.launch().config(&config.write(&place.path("ward.xml"))).start();
    let files: Vec<String> = (0..20).map(|file| format!("file-{file}")).collect();
    files.iter().for_each(|file| put(&place.source().join(file), "content"));
    assert_converged(&place.source(), &place.path("copy"));
    agent.wait_logged("its paths wait");
    assert!(agent.terminate().success());
    let saved = place.path("agent/state/plugins.json");
    assert!(saved.exists());
    // What it is killed by comes at once, when it has its state directory, when it watches, and when it is ready.
    for moment in 0..4 {
        agent.forget_store();
        agent.spawn_again();
        let lock = place.path("agent/state/lock");
        let owner = format!("{}\n", agent.pid());
        let lines = agent.log().matches("watching").count();
        until("the moment", SOON, || match moment {
            0 => true,
            1 => fs::read_to_string(&lock).is_ok_and(|text| text == owner),
            2 => agent.log().matches("watching").count() > lines,
            _ => agent.notified().iter().any(|line| line == "READY=1"),
        });
        agent.kill();
        assert!(saved.exists(), "moment {moment}");
    }
    let there = Listener::bytes_at(address);
    agent.forget_store();
    agent.start_again();
    until("each path", SOON, || {
        let told: Vec<String> = there.seen().iter().map(|request| request.text()).collect();
        files.iter().all(|file| told.iter().any(|path| path.ends_with(&format!("/{file}"))))
    });
    until("the end of the list", SOON, || !saved.exists());
}

#[test]
fn a_reload_does_not_stop_mirroring() {
    let place = Place::new();
    let copy = place.make("copy");
    let daemon = place.plan(&[]).start();
    let write = |patterns: usize| {
        let patterns: String = (0..patterns).map(|n| format!("<exclude expression=\"*.{n}[a-z]*x?\"/>")).collect();
        let text = format!(
            "<crontab start=\"true\" schedule=\"600\"><crontabfilter start=\"true\">{patterns}</crontabfilter></crontab>"
        );
        Confxml::new(&place.source()).daemon(&daemon, MODULE).sersync(&text).write(&place.path("ward.xml"))
    };
    let agent = place.launch().config(&write(1)).start();
    write(3_000);
    agent.signal(Signal::SIGHUP);
    let mut arrived = 0;
    let mut slowest = Duration::ZERO;
    while !agent.log().contains("the config was read again") {
        let name = format!("file-{arrived}");
        let start = Instant::now();
        put(&place.source().join(&name), "content");
        until("a file during the reload", SOON, || copy.join(&name).exists());
        slowest = slowest.max(start.elapsed());
        arrived += 1;
    }
    println!("{arrived} files arrived during a reload, the slowest after {slowest:?}");
    assert!(arrived > 1, "the reload took no time");
}
