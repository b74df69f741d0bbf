//! A file system that is not mounted, or another one in its place, deletes nothing on a remote.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use support::agent::Launch;
use support::config::Confxml;
use support::rsyncd::Daemon;
use support::scene::{MODULE, Place};
use support::tree::{assert_converged, put};
use support::{SOON, eventually, is_root, skip, steadily, tool, until};
use ward::{INSTANCE, SmallDisk, Ward};

/// Files of the tree.
const FILES: usize = 500;

/// An agent whose root may be on a file system of its own, and a remote.
struct Guarded {
    // In the order of their ends: the agent first, its files last.
    ward: Ward,
    disks: Vec<SmallDisk>,
}

fn fill(directory: &Path, count: usize) {
    for number in 0..count {
        put(&directory.join(format!("file{number}")), "content");
    }
}

fn count(directory: &Path) -> usize {
    fs::read_dir(directory).map_or(0, |entries| entries.count())
}

impl Guarded {
    /// A root on a disk of its own, mirrored to a daemon. `None`, with the reason printed, where nothing may be mounted.
    fn on_a_disk() -> Option<Self> {
        let place = Place::new();
        let disk = SmallDisk::mount(&place.source(), "16m")?;
        fill(&place.source(), FILES);
        Some(Self::mirror(place, vec![disk]))
    }

    /// A root on the file system of the tests.
    fn plain() -> Self {
        let place = Place::new();
        fill(&place.source(), FILES);
        Self::mirror(place, Vec::new())
    }

    fn mirror(place: Place, disks: Vec<SmallDisk>) -> Self {
        let daemon = place.plan(&[]).start();
        let launch = place.launch().mirror(&place.source(), [daemon.url(MODULE)]);
        Self::start(place, launch, daemon, disks)
    }

    fn start(place: Place, launch: Launch, daemon: Daemon, disks: Vec<SmallDisk>) -> Self {
        let mut ward = Ward::start(place, launch);
        ward.keep(daemon);
        ward.converged();
        let guarded = Self { ward, disks };
        guarded.idle();
        guarded
    }

    fn source(&self) -> PathBuf {
        self.ward.place.source()
    }

    fn copy(&self) -> PathBuf {
        self.ward.place.path("copy")
    }

    fn status(&self) -> Value {
        self.ward.ask("status")[0].clone()
    }

    fn remote(&self) -> Value {
        self.status()["remotes"][0].clone()
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
        command.arg("--user").args(arguments).env("DBUS_SESSION_BUS_ADDRESS", &self.ward.bus.address);
        command.output().unwrap()
    }

    /// Waits until this number of deletions is withheld for this reason.
    fn withheld(&self, number: usize, reason: &str) {
        eventually(&format!("{number} deletions withheld: {reason}"), SOON, || {
            let status = self.status();
            let remote = &status["remotes"][0];
            let problem = format!("withheld on {}: {reason}", remote["name"].as_str().unwrap_or_default());
            let is_it = remote["deletions_withheld"] == number
                && remote["deletions_withheld_reason"] == reason
                && status["state"] == "degraded"
                && status["problems"].to_string().contains(&problem);
            if is_it { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Waits until nothing is withheld, and nothing is to be done.
    fn idle(&self) {
        // The status alone may be older than the last change.
        self.ctl(&["wait", INSTANCE, "--timeout", "30s"]);
        eventually("idle", SOON, || {
            let status = self.status();
            let is_idle = status["state"] == "idle" && status["remotes"][0]["deletions_withheld"] == 0;
            if is_idle { Ok(()) } else { Err(status.to_string()) }
        });
    }

    /// Ends the agent, has `change` done, and starts it again: what changed meanwhile it finds by a comparison.
    fn restarted(&mut self, change: impl FnOnce(&mut Self)) {
        // What is still pending is known to have changed, and is not compared.
        self.ctl(&["wait", INSTANCE, "--timeout", "30s"]);
        assert!(self.ward.agent.terminate().success());
        change(self);
        self.ward.agent.start_anew();
    }

    /// Unmounts the disk of the root.
    fn unmount(&mut self) {
        unmount(&self.source());
    }
}

fn mount(arguments: &[&str], at: &Path) {
    tool(Command::new("mount").args(arguments).arg(at));
}

/// Unmounts what is at `at`, as soon as nobody uses it.
fn unmount(at: &Path) {
    eventually("the unmount", SOON, || {
        let output = Command::new("umount").arg(at).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
}

#[test]
fn an_agent_that_starts_on_the_empty_mount_point_deletes_nothing() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.path("disk"), "16m") else { return };
    fill(&place.path("disk"), FILES);
    let bind = |place: &Place| {
        let (disk, source) = (place.path("disk"), place.source());
        mount(&["--bind", disk.to_str().unwrap()], &source);
        SmallDisk(source)
    };
    let bound = bind(&place);
    let mut guarded = Guarded::mirror(place, vec![bound, disk]);
    guarded.restarted(|guarded| unmount(&guarded.source()));
    guarded.withheld(FILES, "the root is another file system");
    assert_eq!(count(&guarded.copy()), FILES);
    put(&guarded.source().join("of an application"), "x");
    until("the new file", SOON, || guarded.copy().join("of an application").exists());
    // A file that is removed there may have been on the disk as well.
    put(&guarded.source().join("file7"), "x");
    until("the changed file", SOON, || fs::read_to_string(guarded.copy().join("file7")).unwrap() == "x");
    fs::remove_file(guarded.source().join("file7")).unwrap();
    guarded.withheld(FILES + 1, "the root is another file system");
    assert_eq!(count(&guarded.copy()), FILES + 1);
    // A full sync that is asked for deletes nothing either, and reports that.
    let resync = guarded.ctl(&["resync", INSTANCE]);
    let said = String::from_utf8_lossy(&resync.stderr).into_owned();
    assert_eq!(resync.status.code(), Some(1), "{said}");
    assert!(said.contains("withheld"), "{said}");
    guarded.withheld(FILES, "the root is another file system");
    assert_eq!(count(&guarded.copy()), FILES + 1);
    let paths = guarded.remote()["deletions_withheld_paths"].clone();
    assert_eq!(paths.as_array().map(Vec::len), Some(20), "{paths}");
    // A restart changes nothing.
    guarded.restarted(|_| {});
    guarded.withheld(FILES, "the root is another file system");
    assert_eq!(count(&guarded.copy()), FILES + 1);
    // The disk is mounted: what was withheld is forgotten, and what the application has written is not in the tree.
    let bound = bind(&guarded.ward.place);
    guarded.disks.insert(0, bound);
    guarded.idle();
    guarded.ward.converged();
    assert_eq!(count(&guarded.copy()), FILES);
}

#[test]
fn a_file_system_mounted_over_the_root_deletes_nothing_and_its_removal_is_noticed() {
    for lazily in [false, true] {
        let mut guarded = Guarded::plain();
        let Some(over) = SmallDisk::mount(&guarded.source(), "1m") else { return };
        guarded.withheld(FILES, "the root is another file system");
        put(&guarded.source().join("over"), "x");
        until("a file of the other file system", SOON, || guarded.copy().join("over").exists());
        assert_eq!(count(&guarded.copy()), FILES + 1);
        match lazily {
            true => drop(over),
            false => guarded.unmount(),
        }
        guarded.idle();
        guarded.ward.converged();
        put(&guarded.source().join("later"), "x");
        guarded.ward.converged();
    }
}

/// An automounter of the test's own: it mounts `backing` at `at` when something looks there.
struct Automounter {
    process: std::process::Child,
    log: PathBuf,
}

impl Automounter {
    /// `None`, with the reason printed, where there is none.
    fn start(directory: &Path, at: &Path, backing: &Path) -> Option<Self> {
        if !is_root() || !Path::new("/usr/sbin/automount").exists() || !Path::new("/dev/autofs").exists() {
            skip("automount needs root, and a kernel with autofs: apt-get install autofs");
            return None;
        }
        let (map, master, log) = (directory.join("map"), directory.join("master"), directory.join("log"));
        fs::write(&map, format!("{} -fstype=bind :{}\n", at.display(), backing.display())).unwrap();
        fs::write(&master, format!("/- {}\n", map.display())).unwrap();
        let file = fs::File::create(&log).unwrap();
        let process = Command::new("/usr/sbin/automount")
            // Not by itself: only when the test says so.
            .args(["-f", "-v", "--dont-check-daemon", "-t", "3600", "-p"])
            .args([&directory.join("pid"), &master])
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let started = Self { process, log };
        until("the automounter", SOON, || started.log().contains("mounted direct on"));
        Some(started)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Unmounts what nothing uses.
    fn expire(&self) {
        let expired = || self.log().matches("expired ").count();
        let before = expired();
        until("the unmount", SOON, || {
            kill(Pid::from_raw(self.process.id() as i32), Signal::SIGUSR1).unwrap();
            std::thread::park_timeout(Duration::from_millis(100));
            expired() > before
        });
    }
}

impl Drop for Automounter {
    fn drop(&mut self) {
        // It unmounts everything.
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

#[test]
fn an_automounter_that_unmounts_the_root_deletes_nothing() {
    // In the reverse order of their ends: the agent first, its files last.
    let home = tempfile::tempdir().unwrap();
    let (root, backing) = (home.path().join("root"), home.path().join("backing"));
    for directory in [&root, &backing] {
        fs::create_dir(directory).unwrap();
    }
    fill(&backing, FILES);
    let Some(automounter) = Automounter::start(home.path(), &root, &backing) else { return };
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let launch = place.launch().mirror(&root, [daemon.url(MODULE)]);
    let ward = Ward::start(place, launch);
    let copy = ward.place.path("copy");
    assert_converged(&root, &copy);
    for round in 0..3 {
        automounter.expire();
        put(&root.join(format!("new{round}")), "after it was mounted again");
        fs::remove_file(root.join(format!("file{round}"))).unwrap();
        assert_converged(&root, &copy);
        assert_eq!(count(&copy), FILES);
        eventually("nothing is withheld", SOON, || {
            let status = ward.ask("status");
            let is_well = status[0]["remotes"][0]["deletions_withheld"] == 0;
            if is_well { Ok(()) } else { Err(format!("{status:?}")) }
        });
    }
}

#[test]
fn no_method_hangs_while_a_root_is_away() {
    let Some(guarded) = Guarded::on_a_disk() else { return };
    unmount(&guarded.source());
    eventually("the problem", SOON, || {
        let problems = guarded.status()["problems"].to_string();
        if problems.contains("is not mounted") { Ok(()) } else { Err(problems) }
    });
    for verb in [&["resync", INSTANCE][..], &["wait", INSTANCE]] {
        let output = guarded.ctl(verb);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("the watched directory is not there"), "{verb:?}: {said}");
    }
    assert_eq!(count(&guarded.copy()), FILES);
}

#[test]
fn accepted_deletions_are_carried_out_and_the_new_root_is_the_root() {
    let Some(mut guarded) = Guarded::on_a_disk() else { return };
    guarded.restarted(|guarded| {
        guarded.unmount();
        put(&guarded.source().join("new"), "x");
    });
    guarded.withheld(FILES, "the root is another file system");
    let refused = guarded.ctl(&["accept", INSTANCE]);
    assert_eq!(refused.status.code(), Some(1), "nobody can be asked");
    assert_eq!(count(&guarded.copy()), FILES + 1);
    let accepted = guarded.ctl(&["--json", "accept", "--yes", INSTANCE]);
    let said: Value = serde_json::from_slice(&accepted.stdout).unwrap();
    assert_eq!(said["accepted"], FILES);
    guarded.ward.converged();
    guarded.idle();
    // It is remembered.
    guarded.restarted(|_| {});
    guarded.idle();
    fill(&guarded.source(), 3);
    guarded.ward.converged();
    fs::remove_file(guarded.source().join("file1")).unwrap();
    guarded.ward.converged();
    guarded.idle();
}

/// Runs `sersyncctl accept` on a terminal of its own and types `answer` when it asks. Returns the exit status and what the
/// terminal shows.
fn accept_on_a_terminal(guarded: &Guarded, answer: &str) -> (Option<i32>, String) {
    let terminal = nix::pty::openpty(None, None).unwrap();
    let side = || terminal.slave.try_clone().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    command.args(["--user", "accept", INSTANCE]).env("DBUS_SESSION_BUS_ADDRESS", &guarded.ward.bus.address);
    command.env("TERM", "dumb").stdin(side()).stdout(side()).stderr(side());
    let mut running = command.spawn().unwrap();
    // The command holds copies as well: reading ends when the last one is closed.
    drop((command, terminal.slave));
    let mut master = fs::File::from(terminal.master);
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    let mut has_answered = false;
    // The end of a terminal is an error, EIO.
    while let Ok(read @ 1..) = master.read(&mut buffer) {
        shown.extend_from_slice(&buffer[..read]);
        if !has_answered && String::from_utf8_lossy(&shown).contains("[y/N] ") {
            master.write_all(format!("{answer}\n").as_bytes()).unwrap();
            has_answered = true;
        }
    }
    let status = running.wait().unwrap();
    (status.code(), String::from_utf8(shown).unwrap())
}

#[test]
fn on_a_terminal_accept_shows_a_sample_and_asks() {
    let Some(mut guarded) = Guarded::on_a_disk() else { return };
    guarded.restarted(|guarded| {
        guarded.unmount();
        put(&guarded.source().join("new"), "x");
    });
    guarded.withheld(FILES, "the root is another file system");
    let is_sample = |text: &str| {
        assert!(text.contains(&format!("{FILES} deletions withheld on ")), "{text}");
        let paths = text.lines().filter(|line| line.trim_start().starts_with("file")).count();
        assert!(paths == 20 && text.contains(&format!("and {} more", FILES - paths)), "{text}");
    };
    is_sample(&String::from_utf8(guarded.ctl(&["status", INSTANCE]).stdout).unwrap());

    let (status, shown) = accept_on_a_terminal(&guarded, "n");
    is_sample(&shown);
    assert!(status == Some(1) && shown.contains("nothing is deleted"), "{status:?} {shown}");
    guarded.withheld(FILES, "the root is another file system");
    assert_eq!(count(&guarded.copy()), FILES + 1);

    let (status, shown) = accept_on_a_terminal(&guarded, "y");
    is_sample(&shown);
    assert!(status == Some(0) && shown.contains(&format!("{FILES} deletions are carried out")), "{status:?} {shown}");
    guarded.ward.converged();
    guarded.idle();
}

#[test]
fn a_full_sync_with_delete_does_both_in_one_step() {
    let Some(mut guarded) = Guarded::on_a_disk() else { return };
    guarded.restarted(|guarded| {
        guarded.unmount();
        put(&guarded.source().join("new"), "x");
    });
    guarded.withheld(FILES, "the root is another file system");
    let resync = guarded.ctl(&["resync", "--delete", INSTANCE]);
    assert!(resync.status.success(), "{}", String::from_utf8_lossy(&resync.stderr));
    assert_eq!(count(&guarded.copy()), 1);
    guarded.ward.converged();
    guarded.idle();
}

#[test]
fn a_comparison_deletes_few_and_withholds_many() {
    const MANY: usize = 1_200;
    let mut guarded = Guarded::plain();
    guarded.restarted(|guarded| {
        fs::remove_file(guarded.source().join("file1")).unwrap();
        put(&guarded.copy().join("only there/1"), "x");
    });
    guarded.ward.converged();
    guarded.idle();
    assert!(!guarded.ward.agent.log().contains("withheld"));

    fill(&guarded.source().join("many"), MANY);
    guarded.ward.converged();
    guarded.restarted(|guarded| fs::remove_dir_all(guarded.source().join("many")).unwrap());
    // With the directory itself.
    guarded.withheld(MANY + 1, "would delete 70 % of what it has");
    assert_eq!(count(&guarded.copy().join("many")), MANY);
    // The files come back.
    fill(&guarded.source().join("many"), MANY);
    guarded.ctl(&["resync", INSTANCE]);
    guarded.idle();

    guarded.restarted(|guarded| {
        for entry in fs::read_dir(guarded.source()).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
    });
    guarded.withheld(MANY + 1 + FILES - 1, "would delete everything");
    put(&guarded.source().join("one"), "x");
    until("a new file", SOON, || guarded.copy().join("one").exists());
    guarded.ctl(&["resync", INSTANCE]);
    assert_eq!(count(&guarded.copy()), FILES - 1 + 2);
    guarded.ctl(&["accept", "--yes", INSTANCE]);
    guarded.ward.converged();
    guarded.idle();
}

#[test]
fn another_directory_of_the_same_file_system_is_limited_only() {
    let place = Place::new();
    let release = |name: &str, own: usize| {
        let directory = place.make(name);
        fill(&directory, 100);
        for number in 0..own {
            put(&directory.join(format!("{name}-{number}")), name);
        }
        directory
    };
    let (first, second) = (release("first", 50), release("second", 60));
    let current = place.path("current");
    std::os::unix::fs::symlink(&first, &current).unwrap();
    let daemon = place.plan(&[]).start();
    let launch = place.launch().mirror(&current, [daemon.url(MODULE)]);
    let mut ward = Ward::start(place, launch);
    ward.keep(daemon);
    support::tree::assert_converged(&first, &ward.place.path("copy"));
    let deploy = |to: &Path| {
        let fresh = ward.place.path("fresh");
        std::os::unix::fs::symlink(to, &fresh).unwrap();
        fs::rename(&fresh, &current).unwrap();
    };
    deploy(&second);
    support::tree::assert_converged(&second, &ward.place.path("copy"));
    deploy(&first);
    support::tree::assert_converged(&first, &ward.place.path("copy"));
    assert!(!ward.agent.log().contains("withheld"), "{}", ward.agent.log());
}

#[test]
fn what_is_removed_live_is_removed_however_much_it_is_also_when_it_is_folded() {
    const MANY: usize = 3_000;
    let place = Place::new();
    fill(&place.source().join("tree/deep"), MANY);
    put(&place.source().join("tree/deep/kept"), "x");
    let mut daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).agent("<pending limit=\"1000\"/>");
    let file = config.write(&place.path("folds.xml"));
    let launch = place.launch().config(&file);
    let guarded = Guarded { ward: Ward::start(place, launch), disks: Vec::new() };
    let (ward, copy) = (&guarded.ward, guarded.copy());
    until("the mirror", SOON, || count(&copy.join("tree/deep")) == MANY + 1);
    guarded.idle();
    daemon.stop();
    for number in 0..MANY {
        fs::remove_file(ward.place.source().join(format!("tree/deep/file{number}"))).unwrap();
    }
    put(&ward.place.source().join("tree/other"), "x");
    ward.down("ConnectionRefused");
    daemon.start();
    until("the removal", SOON, || copy.join("tree/other").exists() && count(&copy.join("tree/deep")) == 1);
    assert!(!ward.agent.log().contains("withheld"), "{}", ward.agent.log());
}

#[test]
fn a_limit_of_the_config_holds_for_what_is_removed_live() {
    let place = Place::new();
    fill(&place.source().join("few"), 20);
    fill(&place.source().join("many"), 200);
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).delete_limit(100);
    let launch = place.launch().config(&config.write(&place.path("limit.xml")));
    let guarded = Guarded::start(place, launch, daemon, Vec::new());
    fs::remove_dir_all(guarded.source().join("few")).unwrap();
    guarded.ward.converged();
    fs::remove_dir_all(guarded.source().join("many")).unwrap();
    eventually("the problem", SOON, || {
        let problems = guarded.status()["problems"].to_string();
        let is_it = problems.contains("more than 100 paths were removed within a minute");
        if is_it { Ok(()) } else { Err(problems) }
    });
    assert!(guarded.copy().join("many").exists());
    guarded.ctl(&["accept", "--yes", INSTANCE]);
    guarded.ward.converged();
    guarded.idle();
}

#[test]
fn a_mount_inside_the_tree_that_goes_away_deletes_nothing() {
    let place = Place::new();
    fill(&place.source(), 20);
    let Some(disk) = SmallDisk::mount(&place.source().join("sub"), "16m") else { return };
    fill(&place.source().join("sub/in"), 30);
    let mut guarded = Guarded::mirror(place, vec![disk]);
    let sub = guarded.source().join("sub");
    let reason = "the file system of sub is not mounted";
    // The directory, and what is in it.
    unmount(&sub);
    guarded.withheld(31, reason);
    put(&sub.join("under"), "x");
    until("a file of the mount point", SOON, || guarded.copy().join("sub/under").exists());
    assert_eq!(count(&guarded.copy().join("sub/in")), 30);
    // The rest of the tree is mirrored as usual.
    fs::remove_file(guarded.source().join("file3")).unwrap();
    until("a removal elsewhere", SOON, || !guarded.copy().join("file3").exists());
    guarded.restarted(|_| {});
    guarded.withheld(31, reason);
    assert_eq!(count(&guarded.copy().join("sub/in")), 30);
    guarded.ctl(&["accept", "--yes", INSTANCE]);
    guarded.ward.converged();
    guarded.idle();
    // Another one is mirrored as it comes.
    guarded.disks.extend(SmallDisk::mount(&sub, "1m"));
    guarded.ward.converged();
    put(&sub.join("of the new one"), "x");
    guarded.ward.converged();
    guarded.idle();
}

#[test]
fn what_waits_for_a_remote_is_not_deleted_there_because_the_disk_is_gone() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.source(), "16m") else { return };
    fill(&place.source(), 50);
    let mut daemon = place.plan(&[]).start();
    let launch = place.launch().mirror(&place.source(), [daemon.url(MODULE)]);
    let mut ward = Ward::start(place, launch);
    ward.converged();
    until("the end of the first full sync", SOON, || ward.ask("status")[0]["last_full_sync_at"].is_u64());
    daemon.stop();
    for number in 0..50 {
        put(&ward.place.source().join(format!("file{number}")), "changed");
    }
    ward.down("ConnectionRefused");
    assert!(ward.agent.terminate().success());
    unmount(&ward.place.source());
    daemon.start();
    ward.agent.start_anew();
    let guarded = Guarded { ward, disks: vec![disk] };
    eventually("withheld deletions", SOON, || {
        let remote = guarded.remote();
        if remote["deletions_withheld"].as_u64() >= Some(50) { Ok(()) } else { Err(remote.to_string()) }
    });
    steadily("nothing is deleted", SOON, Duration::from_secs(1), || count(&guarded.copy()) == 50);
}

#[test]
fn a_memory_that_is_damaged_is_unknown_and_reported() {
    let mut guarded = Guarded::plain();
    let memory = guarded.ward.place.path("agent/state/mirrored");
    assert!(memory.exists());
    guarded.restarted(|_| fs::write(&memory, "[{").unwrap());
    guarded.ward.agent.wait_logged("does not know any more");
    put(&guarded.source().join("new"), "x");
    guarded.ward.converged();
    guarded.idle();
}

#[test]
fn a_comparison_that_deletes_nothing_is_one_run_of_rsync() {
    let place = Place::new();
    fill(&place.source(), 20);
    let daemon = place.plan(&[]).start();
    let launch = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).argument("--debug");
    let mut guarded = Guarded::start(place, launch, daemon, Vec::new());
    let runs = |guarded: &Guarded| guarded.ward.agent.log().matches("rsync: ").count();
    let mut before = 0;
    guarded.restarted(|guarded| before = runs(guarded));
    until("the comparison", SOON, || guarded.status()["last_full_sync_at"].is_u64());
    guarded.idle();
    assert_eq!(runs(&guarded) - before, 1, "{}", guarded.ward.agent.log());
    // With something to delete it is one more, and one that proves that the remote meets no other mirror.
    guarded.restarted(|guarded| put(&guarded.copy().join("only there"), "x"));
    guarded.ward.converged();
    guarded.idle();
}
