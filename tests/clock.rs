//! Full syncs come by the clock, leave out what `<crontabfilter>` names and nothing else, and give way.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

use bus::PrivateBus;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use support::agent::Agent;
use support::config::Confxml;
use support::rsyncd::Daemon;
use support::scene::{MODULE, Place};
use support::tree::put;
use support::{SOON, eventually, until};

const INSTANCE: &str = "clock";

/// As often as an expression can say, in no time zone that the machine could have.
const EACH_SECOND: &str = "*:*:0/1 UTC";

/// An agent with a clock, and a bus to ask it on.
struct Clocked {
    // In the order of their ends: the agent first, its files last.
    agent: Agent,
    bus: PrivateBus,
    _daemon: Daemon,
    place: Place,
}

impl Clocked {
    /// Nothing but the clock has the trees compared.
    fn start(params: &str, crontab: &str, prepare: impl FnOnce(&Path, &Path)) -> Self {
        let place = Place::new();
        let (daemon, bus) = (place.plan(&[]).start(), PrivateBus::start());
        prepare(&place.source(), &place.path("copy"));
        let file = Confxml::new(&place.source())
            .daemon(&daemon, MODULE)
            .params(params)
            .sersync(crontab)
            .agent("<fullSync atStart=\"never\"/>")
            .write(&place.path("clock.xml"));
        let launch = place.launch().config(&file).argument("--user").argument("--instance").argument(INSTANCE);
        let agent = launch.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address).start();
        Self { agent, bus, _daemon: daemon, place }
    }

    fn ctl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
            .arg("--user")
            .args(arguments)
            .arg(INSTANCE)
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {said}");
        output.stdout
    }

    fn status(&self) -> Value {
        let status: Value = serde_json::from_slice(&self.ctl(&["--json", "status"])).unwrap();
        status[0].clone()
    }

    /// NextFullSyncAt.
    fn due_at(&self) -> Option<SystemTime> {
        let usec = self.status()["next_full_sync_at"].as_u64()?;
        Some(SystemTime::UNIX_EPOCH + Duration::from_micros(usec))
    }

    fn in_copy(&self, path: &str) -> bool {
        self.place.path("copy").join(path).exists()
    }
}

fn each_second(inside: &str) -> String {
    format!("<crontab start=\"true\" calendar=\"{EACH_SECOND}\">{inside}</crontab>")
}

#[test]
fn what_the_crontabfilter_names_is_neither_sent_nor_deleted_by_the_clock() {
    let filter =
        r#"<crontabfilter start="true"><exclude expression="*.log"/><exclude expression="/cache/"/></crontabfilter>"#;
    let scene = Clocked::start("-a", &each_second(filter), |source, copy| {
        put(&source.join("page"), "ours");
        put(&source.join("deep/page"), "ours");
        put(&source.join("deep/ours.log"), "not by the clock");
        put(&source.join("cache/ours"), "not by the clock");
        put(&copy.join("superfluous"), "to be deleted");
        put(&copy.join("deep/own.log"), "the remote's");
        put(&copy.join("cache/own"), "the remote's");
    });
    until("the full sync of the clock", SOON, || scene.in_copy("deep/page") && !scene.in_copy("superfluous"));
    // A second one begins after the first has ended.
    put(&scene.place.path("copy/again"), "to be deleted by the next");
    until("the next full sync", SOON, || !scene.in_copy("again"));
    assert!(scene.in_copy("page") && !scene.in_copy("deep/ours.log") && !scene.in_copy("cache/ours"));
    assert!(scene.in_copy("deep/own.log") && scene.in_copy("cache/own"));

    put(&scene.place.source().join("live.log"), "an event");
    until("an event's file, which the clock's filter is not about", SOON, || scene.in_copy("live.log"));

    scene.ctl(&["resync"]);
    assert!(scene.in_copy("deep/ours.log") && scene.in_copy("cache/ours"), "asked for, it leaves nothing out");
    assert!(!scene.in_copy("deep/own.log") && !scene.in_copy("cache/own"));
}

#[test]
fn the_filter_of_all_runs_holds_beside_that_of_the_clock() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    for (path, content) in [("page", "ours"), ("a.log", "no"), ("b.tmp", "no")] {
        put(&place.source().join(path), content);
    }
    put(&place.path("copy/own.log"), "the remote's");
    put(&place.path("copy/own.tmp"), "the remote's");
    put(&place.path("copy/superfluous"), "to be deleted");
    let filter = r#"<crontabfilter start="true"><exclude expression="*.log"/></crontabfilter>"#;
    let file = Confxml::new(&place.source())
        .daemon(&daemon, MODULE)
        .exclude(r".*\.tmp")
        .sersync(&each_second(filter))
        .agent("<fullSync atStart=\"never\"/>")
        .write(&place.path("clock.xml"));
    let _agent = place.launch().config(&file).start();
    let copy = place.path("copy");
    until("the full sync of the clock", SOON, || copy.join("page").exists() && !copy.join("superfluous").exists());
    assert!(copy.join("own.log").exists() && copy.join("own.tmp").exists());
    assert!(!copy.join("a.log").exists() && !copy.join("b.tmp").exists());
}

#[test]
fn the_clock_does_not_empty_the_remotes_of_an_empty_root() {
    let scene = Clocked::start("-a", &each_second(""), |_, copy| put(&copy.join("precious"), "x"));
    scene.agent.wait_logged("would delete everything");
    assert!(scene.in_copy("precious"));
}

#[test]
fn a_full_sync_gives_way_and_none_begins_beside_it() {
    // 6 s for the file.
    let scene = Clocked::start("-a --bwlimit=50", &each_second(""), |source, _| {
        put(&source.join("slow"), (0..300_000).map(|_| fastrand::u8(..)).collect::<Vec<_>>());
    });
    let own = scene.agent.process();
    let expected = ((own.niceness().unwrap() + 10).min(19), nix::libc::SCHED_BATCH);
    eventually("the full sync", SOON, || {
        let ways = scene.agent.children().into_iter().map(|child| (child.niceness(), child.scheduling_policy()));
        let ways: Vec<_> = ways.filter_map(|(niceness, policy)| Some((niceness?, policy?))).collect();
        if !ways.is_empty() && ways.iter().all(|way| *way == expected) { Ok(()) } else { Err(format!("{ways:?}")) }
    });
    put(&scene.place.source().join("quick"), "live");
    until("a live change, which passes", SOON, || scene.in_copy("quick"));
    assert!(!scene.in_copy("slow"), "the full sync has not ended");
    scene.agent.wait_logged("the last one is not at its end yet");
    assert!(scene.agent.children().len() <= 1);
    let jobs = scene.status()["jobs"].as_array().map_or(0, Vec::len);
    assert!(jobs <= 1, "{jobs} jobs");
}

#[test]
fn a_paused_agent_leaves_full_syncs_out_and_says_when_the_next_is_due() {
    let scene = Clocked::start("-a", &each_second(""), |source, _| put(&source.join("page"), "ours"));
    until("the first full sync", SOON, || scene.in_copy("page"));
    scene.ctl(&["pause"]);
    scene.agent.wait_logged("left out: the agent is paused");
    put(&scene.place.path("copy/superfluous"), "to be deleted");
    let before = scene.due_at().expect("a time");
    until("the clock goes on", SOON, || scene.due_at() > Some(before));
    assert!(scene.in_copy("superfluous"));
    let told = scene.agent.log().matches("left out: the agent is paused").count();
    assert_eq!(told, 1, "it is said once");
    scene.ctl(&["resume"]);
    until("a full sync after the pause", SOON, || !scene.in_copy("superfluous"));
}

#[test]
fn the_next_full_sync_is_due_when_the_config_says() {
    let scene = Clocked::start("-a", r#"<crontab start="true" schedule="600"/>"#, |_, _| {});
    let left = || scene.due_at().expect("a time").duration_since(SystemTime::now()).unwrap();
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    assert!(left() > minutes(599) && left() < minutes(605), "{:?}", left());
    // The clock can be set to something else, and taken away.
    let file = scene.place.path("clock.xml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("schedule=\"600\"", "schedule=\"60\"")).unwrap();
    scene.ctl(&["reload"]);
    assert!(left() > minutes(59) && left() < minutes(65), "{:?}", left());
    fs::write(&file, text.replace("crontab start=\"true\"", "crontab start=\"false\"")).unwrap();
    scene.ctl(&["reload"]);
    assert_eq!(scene.due_at(), None);
}
