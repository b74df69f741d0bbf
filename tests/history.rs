//! What the status says of the time before a restart, and that a pause survives one.

mod support;

#[allow(dead_code, reason = "only the bus is needed here, not the scripted engine")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use support::config::Confxml;
use support::scene::{MODULE, Place};
use support::tree::put;
use support::{SOON, eventually, until};
use ward::{INSTANCE, Ward, unprivileged};

const HOUR_USEC: u64 = 3_600_000_000;

impl Ward {
    fn command(&self, verb: &str) {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
        let done = ctl.args(["--user", verb, INSTANCE]).env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address).status();
        assert!(done.unwrap().success());
    }

    fn status(&self) -> Value {
        self.ask("status").swap_remove(0)
    }

    /// Ends the agent in order and passes the file with its history, as text, through `change`.
    fn stop_and_rewrite(&mut self, change: impl FnOnce(&mut Value)) {
        assert!(self.agent.terminate().success());
        let file = self.place.path("agent/state/history.json");
        let mut history = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut history);
        fs::write(&file, history.to_string()).unwrap();
    }
}

fn ward(crontab: &str) -> Ward {
    let place = Place::new();
    put(&place.source().join("before"), "x");
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).sersync(crontab).write(&place.path("ward.xml"));
    let launch = place.launch().config(&config);
    let mut ward = Ward::start(place, launch);
    ward.keep(daemon);
    ward.converged();
    until("the first full sync", SOON, || ward.status()["last_full_sync_at"].is_u64());
    ward
}

fn earlier(time: &mut Value) {
    *time = (time.as_u64().unwrap() - HOUR_USEC).into();
}

#[test]
fn a_pause_survives_a_crash_until_it_is_resumed() {
    let mut ward = ward("");
    ward.command("pause");
    let before = ward.status();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    assert_eq!((&before["state"], &before["paused_by"]), (&"paused".into(), &user.into()));
    assert!(before["paused_at"].is_u64());
    ward.put("while paused");
    until("a pending path", SOON, || ward.status()["pending"].as_u64() > Some(0));

    ward.agent.kill();
    ward.agent.start_again();
    until("a pending path after the crash", SOON, || ward.status()["pending"].as_u64() > Some(0));
    let after = ward.status();
    for fact in ["state", "paused_by", "paused_at"] {
        assert_eq!(after[fact], before[fact], "{fact}");
    }
    assert!(!ward.place.path("copy/while paused").exists());

    ward.command("resume");
    ward.converged();
    ward.agent.kill();
    ward.agent.start_again();
    assert!(ward.status()["paused_at"].is_null() && ward.status()["state"] != "paused");
}

#[test]
fn a_restart_resets_neither_the_lag_nor_the_times_of_runs() {
    let mut ward = ward("");
    let before = ward.status();
    ward.command("pause");
    ward.put("behind");
    until("a pending path", SOON, || ward.status()["pending"].as_u64() > Some(0));
    ward.stop_and_rewrite(|history| earlier(&mut history["remotes"][0]["behind_since"]));
    ward.agent.start_again();
    let after = ward.status();
    assert_eq!(after["last_sync_at"], before["last_sync_at"]);
    for fact in ["last_success_at", "last_full_sync_at"] {
        assert!(before["remotes"][0][fact].is_u64(), "{before}");
        assert_eq!(after["remotes"][0][fact], before["remotes"][0][fact], "{fact}");
    }
    assert!(after["lag_usec"].as_u64() >= Some(HOUR_USEC), "{after}");
    ward.command("resume");
    ward.converged();
    until("no lag", SOON, || ward.status()["lag_usec"] == 0);
}

#[test]
fn a_restart_does_not_postpone_a_scheduled_full_sync() {
    let mut ward = ward(r#"<crontab start="true" schedule="600"/>"#);
    let next = |ward: &Ward| ward.status()["next_full_sync_at"].as_u64().unwrap();
    let before = next(&ward);
    ward.stop_and_rewrite(|history| earlier(&mut history["next_full_sync_at"]));
    ward.agent.start_again();
    let earlier_by = before - next(&ward);
    assert!(earlier_by.abs_diff(HOUR_USEC) < 60_000_000, "{earlier_by}");

    // One that fell into the time without an agent.
    ward.stop_and_rewrite(|history| history["next_full_sync_at"] = 1.into());
    ward.agent.start_again();
    ward.agent.wait_logged("due by the clock");
    assert!(next(&ward) > before - HOUR_USEC);
}

#[test]
fn a_dead_remote_does_not_hide_the_full_syncs_of_the_others() {
    let place = Place::new();
    put(&place.source().join("file"), "x");
    let daemon = place.plan(&[]).start();
    let dead = place.plan(&[]).stopped();
    let mut ward = Ward::mirror(place, &[daemon.url(MODULE), dead.url(MODULE)]);
    ward.keep(daemon);
    let full_syncs = || {
        let status = ward.status();
        let remotes = status["remotes"].as_array().unwrap().iter();
        remotes.map(|remote| remote["last_full_sync_at"].is_u64()).collect::<Vec<_>>()
    };
    eventually("one full sync", SOON, || match full_syncs() {
        done if done.iter().filter(|done| **done).count() == 1 => Ok(()),
        done => Err(format!("{done:?}")),
    });
    assert!(ward.status()["last_full_sync_at"].is_null());
}

#[test]
fn a_run_that_delivered_nothing_is_not_a_success() {
    let (ward, _daemon) = unprivileged(|source| put(&source.join("before"), "x"));
    ward.converged();
    until("the end of the first full sync", SOON, || ward.status()["last_full_sync_at"].is_u64());
    ward.put("readable");
    ward.command("wait");
    let before = ward.status();
    let file = ward.place.source().join("secret");
    let draft = ward.place.path("draft");
    put(&draft, "x");
    fs::set_permissions(&draft, Permissions::from_mode(0o000)).unwrap();
    fs::rename(&draft, &file).unwrap();
    ward.failed(&[("secret", "PermissionDenied")]);
    let after = ward.status();
    assert_eq!(after["last_sync_at"], before["last_sync_at"]);
    assert_eq!(after["remotes"][0]["last_success_at"], before["remotes"][0]["last_success_at"]);
}
