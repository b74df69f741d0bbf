//! The agent in a booted system: real systemd, real journald, real D-Bus.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use support::config::Confxml;
use support::machine::{Machine, await_property, shared};
use support::rsyncd::{Daemon, Plan};
use support::scene::MODULE;
use support::tree::{assert_converged, put};
use support::writer::{Writer, busy_while};
use support::{SOON, until};

/// A machine with one instance, `www`, that mirrors `source` to a daemon of the host's.
struct Www {
    machine: Machine,
    _daemon: Daemon,
    source: PathBuf,
    copy: PathBuf,
    outside: PathBuf,
}

impl Www {
    fn start(place: &Path) -> Option<Self> {
        let [source, copy, outside] = ["source", "copy", "outside"].map(|name| place.join(name));
        fs::create_dir(&source).unwrap();
        put(&source.join("first/file"), "first");
        let machine = Machine::boot(place)?;
        machine.install();
        let daemon = Plan::new(&place.join("rsyncd")).module(MODULE, &copy, &[]).start();
        let config = Confxml::new(&source).attrib().daemon(&daemon, MODULE).write(&place.join("www.xml"));
        machine.put("/etc/sersync/www.xml", &fs::read(config).unwrap(), 0o600);
        machine.run(&["systemctl", "enable", "--now", "sersync@www"]);
        assert_converged(&source, &copy);
        until("the first full sync", SOON, || machine.tells("www", "LastFullSyncAt") != "t 0");
        Some(Self { machine, _daemon: daemon, source, copy, outside })
    }

    /// When a full sync last succeeded.
    fn last_full_sync(&self) -> String {
        self.machine.tells("www", "LastFullSyncAt")
    }

    /// Does this while the tree changes; afterwards all is equal, and no full sync was needed.
    fn under_load(&self, seed: u64, harm: impl FnOnce(&Machine)) {
        let full_sync = self.last_full_sync();
        busy_while(vec![Writer::new(seed, &self.source, &self.outside)], || harm(&self.machine));
        let journal = self.machine.journal();
        assert_eq!(self.machine.tells("www", "StartedFrom"), "s \"resumed\"", "{journal}");
        assert_converged(&self.source, &self.copy);
        self.machine.run(&["sersyncctl", "wait", "www"]);
        let status = self.machine.run(&["sersyncctl", "status", "www", "--json"]);
        assert_eq!(self.last_full_sync(), full_sync, "{status}");
    }
}

#[test]
fn the_watchdog_ends_a_stuck_engine_and_the_next_one_resumes() {
    let place = shared();
    let Some(www) = Www::start(place.path()) else { return };
    www.machine.put("/etc/systemd/system/sersync@www.service.d/watchdog.conf", b"[Service]\nWatchdogSec=2\n", 0o644);
    www.machine.run(&["systemctl", "daemon-reload"]);
    www.machine.run(&["systemctl", "restart", "sersync@www"]);
    let restarts = |machine: &Machine| machine.property("sersync@www", "NRestarts").parse::<u32>().unwrap();
    for seed in 6..8 {
        www.under_load(seed, |machine| {
            let (before, restarted) = (machine.property("sersync@www", "MainPID"), restarts(machine));
            machine.run(&["systemctl", "kill", "--kill-who=main", "-s", "STOP", "sersync@www"]);
            await_property(machine, "sersync@www", "MainPID", |now| now != "0" && now != before);
            await_property(machine, "sersync@www", "ActiveState", |state| state == "active");
            assert_eq!(restarts(machine), restarted + 1);
        });
    }
    let journal = www.machine.journal();
    assert_eq!(journal.matches("Watchdog timeout").count(), 2, "{journal}");
}

#[test]
fn restart_crash_and_upgrade_under_load_lose_nothing_and_need_no_full_sync() {
    let place = shared();
    let Some(www) = Www::start(place.path()) else { return };
    let pid = |machine: &Machine| machine.property("sersync@www", "MainPID");
    www.under_load(1, |machine| drop(machine.run(&["systemctl", "restart", "sersync@www"])));
    for seed in 2..5 {
        www.under_load(seed, |machine| {
            let before = pid(machine);
            machine.run(&["systemctl", "kill", "--kill-who=main", "-s", "KILL", "sersync@www"]);
            await_property(machine, "sersync@www", "MainPID", |now| now != "0" && now != before);
            await_property(machine, "sersync@www", "ActiveState", |state| state == "active");
        });
    }
    // An upgrade: another file takes the program's place, then the unit is restarted.
    www.under_load(5, |machine| {
        machine.install();
        machine.run(&["systemctl", "restart", "sersync@www"]);
    });
}
