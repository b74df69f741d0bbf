//! What the machine refuses (descriptors, processes, room in the state directory) is said by name and tried again: the
//! agent neither ends nor stays silent, and goes on by itself when it gets what it needs.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use support::config::Confxml;
use support::scene::{MODULE, Place};
use support::tree::put;
use support::{SOON, eventually, skip, until};
use ward::{INSTANCE, SmallDisk, Ward, unprivileged};

impl Ward {
    /// The soft limit of the running agent, prlimit(1).
    fn limit(&self, which: &str, soft: &str) {
        let pid = self.agent.pid();
        // Root may do it to another's process only with CAP_SYS_RESOURCE, the other may at any time.
        let owner = fs::metadata(format!("/proc/{pid}")).unwrap();
        let mut set = Command::new("prlimit");
        set.args(["--pid", &pid.to_string(), &format!("--{which}={soft}:")]).uid(owner.uid()).gid(owner.gid());
        assert!(set.status().expect("prlimit is part of util-linux").success());
    }

    /// The same to what it was when it started, as that is the tests' own.
    fn lift(&self, which: &str) {
        let own = Command::new("prlimit").args([&format!("--{which}"), "-o", "SOFT", "--noheadings"]).output();
        self.limit(which, String::from_utf8_lossy(&own.unwrap().stdout).trim());
    }

    /// Whether it reads its config again, and what it says to that.
    fn reload(&self) -> (bool, String) {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
        ctl.env("LC_ALL", "C.UTF-8");
        let ctl = ctl.args(["--user", "reload", INSTANCE]).env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address);
        let output = ctl.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn problems(&self) -> String {
        self.ask("status")[0]["problems"].to_string()
    }

    fn wait_problem(&self, text: &str) {
        eventually(&format!("the problem {text:?}"), SOON, || {
            let status = self.ask("status");
            let said = status[0]["problems"].to_string();
            if said.contains(text) && status[0]["state"] == "degraded" { Ok(()) } else { Err(status[0].to_string()) }
        });
    }

    fn started_from(&self) -> String {
        self.ask("status")[0]["started_from"].as_str().unwrap().to_owned()
    }
}

#[test]
fn without_descriptors_it_says_so_and_goes_on_when_it_has_some() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    put(&place.source().join("before/file"), "x");
    let launch = place.launch().environment("WATCHDOG_USEC", "2000000").mirror(&place.source(), [daemon.url(MODULE)]);
    let ward = Ward::start(place, launch);
    ward.converged();
    ward.limit("nofile", "1");
    let seen = ward.agent.notified().len();
    ward.put("file");
    ward.put("new/file");
    fs::remove_file(ward.place.source().join("before/file")).unwrap();
    ward.down("TooManyOpenFiles");
    ward.wait_problem("raise LimitNOFILE=");
    // Nobody tells of this one: its directory is not watched.
    ward.put("new/later");
    ward.agent.wait_notified_from(seen, |line| line == "WATCHDOG=1");
    ward.lift("nofile");
    ward.mended();
    ward.converged();
    until("no problem", SOON, || ward.problems() == "[]");
}

#[test]
fn without_descriptors_a_reload_is_refused_and_changes_nothing() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).write(&place.path("limits.xml"));
    let launch = place.launch().config(&config);
    let ward = Ward::start(place, launch);
    ward.put("before");
    ward.converged();
    ward.limit("nofile", "1");
    let (done, said) = ward.reload();
    assert!(!done && said.contains("Too many open files"), "{said}");
    ward.lift("nofile");
    ward.put("after");
    ward.converged();
    assert_eq!(ward.reload(), (true, String::new()));
    ward.put("after the reload");
    ward.converged();
}

#[test]
fn a_reload_that_gets_no_second_watch_leaves_the_first() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let plain = Confxml::new(&place.source()).daemon(&daemon, MODULE);
    let config = plain.write(&place.path("limits.xml"));
    let launch = place.launch().config(&config);
    let ward = Ward::start(place, launch);
    ward.put("before");
    ward.converged();
    until("no run", SOON, || ward.ask("status")[0]["state"] == "idle" && ward.agent.children().is_empty());
    // Another filter is another watch. To read it takes one descriptor, to watch takes two.
    plain.exclude(r"\.tmp$").write(&config);
    let is_free = |fd: &u32| !Path::new(&format!("/proc/{}/fd/{fd}", ward.agent.pid())).exists();
    let free = (3..).find(is_free).unwrap();
    ward.limit("nofile", &(free + 1).to_string());
    let (done, said) = ward.reload();
    assert!(!done && said.contains("cannot be watched"), "{said}");
    ward.lift("nofile");
    ward.put("after.tmp");
    ward.converged();
}

#[test]
fn a_start_without_an_inotify_descriptor_says_which_limit_to_raise() {
    let place = Place::new();
    // The limit is the machine's; a user namespace has one of its own.
    let command = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", command, env!("CARGO_BIN_EXE_sersync"), "--watch"])
        .args([place.source(), "--to".into(), place.make("copy"), "--state-dir".into(), place.path("state")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.starts_with("unshare:") || said.starts_with("sh:") {
        return skip(&format!("no user namespace: {said}"));
    }
    assert!(!output.status.success() && said.contains("sysctl fs.inotify.max_user_instances="), "{said}");
}

#[test]
fn without_processes_it_says_so_and_goes_on_when_it_has_some() {
    let (ward, _daemon) = unprivileged(|source| put(&source.join("before"), "x"));
    ward.converged();
    ward.limit("nproc", "1");
    ward.put("file");
    fs::remove_file(ward.place.source().join("before")).unwrap();
    ward.down("TooManyProcesses");
    ward.lift("nproc");
    ward.mended();
    ward.converged();
}

#[test]
fn what_changed_without_processes_survives_a_crash() {
    let (mut ward, _daemon) = unprivileged(|source| put(&source.join("before"), "x"));
    ward.converged();
    ward.limit("nproc", "1");
    ward.put("file");
    fs::remove_file(ward.place.source().join("before")).unwrap();
    ward.down("TooManyProcesses");
    ward.agent.kill();
    ward.put("while it was gone");
    ward.agent.start_again();
    ward.converged();
    assert_eq!(ward.started_from(), "resumed");
}

/// Leaves no room on the disk.
fn fill(disk: &Path) {
    let filler = fs::File::create(disk.join("filler")).unwrap();
    // To the last byte: a full page is refused where less than one is left.
    for size in [4096, 1] {
        while std::io::Write::write_all(&mut &filler, &vec![0; size]).is_ok() {}
    }
}

#[test]
fn with_a_full_state_directory_it_mirrors_and_says_so_and_writes_again_when_there_is_room() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.path("agent/state"), "64k") else { return };
    let mut daemon = place.plan(&[]).start();
    fill(&disk.0);
    let mut ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.wait_problem("No space left on device");
    ward.put("file");
    ward.converged();
    until("the end of the first full sync", SOON, || ward.ask("status")[0]["last_full_sync_at"].is_u64());
    daemon.stop();
    ward.put("pending");
    ward.down("ConnectionRefused");
    fs::remove_file(disk.0.join("filler")).unwrap();
    until("no problem", SOON, || ward.problems() == "[]");
    ward.agent.kill();
    ward.put("while it was gone");
    daemon.start();
    ward.agent.start_again();
    ward.converged();
    assert_eq!(ward.started_from(), "resumed");
    drop((ward, daemon));
}

#[test]
fn a_crash_while_the_state_directory_is_full_costs_a_comparison_and_no_change() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.path("agent/state"), "64k") else { return };
    let mut daemon = place.plan(&[]).start();
    let mut ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.put("before");
    ward.converged();
    fill(&disk.0);
    daemon.stop();
    for file in 0..300 {
        ward.put(&format!("a name of which 300 are more than a page has room for {file}"));
    }
    ward.wait_problem("No space left on device");
    ward.agent.kill();
    daemon.start();
    ward.agent.start_again();
    ward.converged();
    assert_eq!(ward.started_from(), "full");
    drop((ward, daemon));
}

#[test]
fn a_state_directory_that_cannot_be_made_is_made_when_it_can() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    // A file where a directory has to be.
    put(&place.path("agent/state"), "");
    let mut ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.wait_problem("cannot be used");
    ward.put("file");
    ward.converged();
    fs::remove_file(ward.place.path("agent/state")).unwrap();
    until("no problem", SOON, || ward.problems() == "[]");
    ward.agent.kill();
    ward.put("while it was gone");
    ward.agent.start_again();
    ward.converged();
    assert_eq!(ward.started_from(), "resumed");
}
