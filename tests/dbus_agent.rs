//! What the agent answers on a real bus is true: barrier, full sync, failures, pause.

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::agent::{Agent, Launch};
use support::config::Confxml;
use support::listener::Listener;
use support::rsyncd::{Daemon, Plan};
use support::scene::{MODULE, Place};
use support::tree::{Judge, put};
use support::writer::again_and_again_while;
use support::{SOON, eventually, steadily, until};
use zbus::OwnedObjectPath;
use zbus::wire::OwnedVariant;

const INSTANCE: &str = "proof";

/// A message bus of the test's own.
struct Bus {
    child: Child,
    address: String,
}

impl Bus {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nosyslog", "--print-address=1"])
            .arg(format!("--address=unix:path={}", directory.join("bus").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon is needed: apt-get install dbus-daemon");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An agent on a bus, and a client of it.
struct Stage {
    // The client goes first, then the agent, the bus and the files.
    runtime: tokio::runtime::Runtime,
    connection: zbus::Connection,
    agent: Agent,
    daemons: Vec<Daemon>,
    bus: Bus,
    place: Place,
}

impl Stage {
    fn start(remotes: usize) -> Self {
        Self::launched(remotes, |launch, place, daemons| {
            launch.mirror(&place.source(), daemons.iter().map(|daemon| daemon.url(MODULE)))
        })
    }

    fn launched(remotes: usize, complete: impl FnOnce(Launch, &Place, &[Daemon]) -> Launch) -> Self {
        let place = Place::new();
        let bus = Bus::start(&place.path(""));
        let daemons = (0..remotes)
            .map(|remote| {
                let plan = Plan::new(&place.path(&format!("d{remote}")));
                plan.module(MODULE, &place.path(&format!("d{remote}/copy")), &[]).start()
            })
            .collect::<Vec<_>>();
        let launch = place
            .launch()
            .argument("--user")
            .argument("--instance")
            .argument(INSTANCE)
            .environment("DBUS_SESSION_BUS_ADDRESS", &bus.address);
        let agent = complete(launch, &place, &daemons).start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection =
            runtime.block_on(async { zbus::connection::Builder::address(bus.address.as_str()).build().await }).unwrap();
        Self { runtime, connection, agent, daemons, bus, place }
    }

    /// Calls a method of the agent's interface.
    fn call<B, R>(&self, method: &str, arguments: &B) -> zbus::Result<R>
    where
        B: serde::Serialize + zbus::wire::DynamicType + Sync,
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        self.call_at(&format!("/org/sersync/Agent1/{INSTANCE}"), "org.sersync.Agent1", method, arguments)
    }

    fn call_at<B, R>(&self, path: &str, interface: &str, method: &str, arguments: &B) -> zbus::Result<R>
    where
        B: serde::Serialize + zbus::wire::DynamicType + Sync,
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        self.runtime.block_on(async {
            let name = format!("org.sersync.Agent1.{INSTANCE}");
            zbus::Proxy::new(&self.connection, name, path, interface).await?.call(method, arguments).await
        })
    }

    /// All properties of an object, as they are now.
    fn properties(&self, path: &str, interface: &str) -> zbus::Result<HashMap<String, OwnedVariant>> {
        self.call_at(path, "org.freedesktop.DBus.Properties", "GetAll", &(interface,))
    }

    fn property<T: TryFrom<OwnedVariant>>(&self, name: &str) -> T {
        let mut all = self.properties(&format!("/org/sersync/Agent1/{INSTANCE}"), "org.sersync.Agent1").unwrap();
        let value = all.remove(name).unwrap_or_else(|| panic!("no property {name}"));
        T::try_from(value).unwrap_or_else(|_| panic!("{name} has another type"))
    }

    fn wait_synced(&self, within: Duration) -> zbus::Result<()> {
        self.call("WaitSynced", &(u64::try_from(within.as_micros()).unwrap(),))
    }

    fn copy(&self, remote: usize) -> std::path::PathBuf {
        self.place.path(&format!("d{remote}/copy"))
    }

    fn sersyncctl(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
            .arg("--user")
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .output()
            .unwrap()
    }
}

/// No polling on the side of the copies: what the barrier let through is there at that very moment.
#[test]
fn the_barrier_holds_until_every_remote_has_every_change() {
    let stage = Stage::start(2);
    let source = stage.place.source();
    for round in 0..5 {
        for file in 0..1000 {
            put(&source.join(format!("dir{}/{file}", file % 10)), format!("{round} {file}"));
        }
        put(&source.join(format!("new{round}/deep/down/file")), "in directories without a watch");
        fs::rename(source.join("dir3"), source.join(format!("moved{round}"))).unwrap();
        stage.wait_synced(SOON).unwrap();
        for remote in 0..2 {
            Judge::default().assert_equal_now(&source, &stage.copy(remote));
        }
    }
    // With single changes, where the barrier has next to nothing to wait for.
    for round in 0..50 {
        put(&source.join("one"), round.to_string());
        stage.wait_synced(SOON).unwrap();
        assert_eq!(fs::read_to_string(stage.copy(0).join("one")).unwrap(), round.to_string());
    }
    // Editors' names are held back for a second, but not from the barrier.
    put(&source.join(".file.swp"), "held back");
    stage.wait_synced(SOON).unwrap();
    assert!(stage.copy(0).join(".file.swp").exists(), "the barrier passed a path that was held back");
}

#[test]
fn the_barrier_says_who_is_behind() {
    let mut stage = Stage::start(2);
    stage.wait_synced(SOON).unwrap();
    stage.daemons[1].stop();
    put(&stage.place.source().join("file"), "content");
    let behind = stage.wait_synced(Duration::from_secs(1)).unwrap_err().to_string();
    assert!(behind.contains(&stage.daemons[1].address.to_string()), "{behind}");
    assert!(!behind.contains(&stage.daemons[0].address.to_string()), "{behind}");
    eventually("a degraded state", SOON, || match stage.property::<String>("State") {
        state if state == "degraded" => Ok(()),
        state => Err(state),
    });
    let status = stage.sersyncctl(&["status", INSTANCE]);
    assert_eq!(status.status.code(), Some(1), "{}", String::from_utf8_lossy(&status.stdout));
    stage.daemons[1].start();
    // The backoff may have grown by now: retry cuts it short.
    let _: u64 = stage.call("Retry", &(Vec::<String>::new(),)).unwrap();
    stage.wait_synced(SOON).unwrap();
    let status = stage.sersyncctl(&["status", INSTANCE]);
    assert_eq!(status.status.code(), Some(0), "{}", String::from_utf8_lossy(&status.stdout));
}

#[test]
fn a_full_sync_heals_what_was_done_to_the_remote() {
    let stage = Stage::start(1);
    let source = stage.place.source();
    for file in 0..50 {
        put(&source.join(format!("dir{}/{file}", file % 3)), "content");
    }
    stage.wait_synced(SOON).unwrap();
    fs::remove_dir_all(stage.copy(0).join("dir1")).unwrap();
    put(&stage.copy(0).join("dir2/superfluous/file"), "nobody asked for it");
    put(&stage.copy(0).join("dir0/0"), "damaged, and longer");

    let job: OwnedObjectPath = stage.call("FullSync", &(Vec::<String>::new(),)).unwrap();
    eventually("the job's end", SOON, || {
        let properties = stage.properties(job.as_str(), "org.sersync.Job1").map_err(|error| error.to_string())?;
        let state = String::try_from(properties["State"].try_clone().unwrap()).unwrap();
        if state == "done" { Ok(()) } else { Err(state) }
    });
    Judge::default().assert_equal_now(&source, &stage.copy(0));
    assert!(stage.property::<u64>("LastFullSyncAt") > 0);
}

/// A row of `ListFailures`: remote, path, error, message, attempts, failed at, next try.
type FailureRow = (String, Vec<u8>, String, String, u32, u64, u64);

#[test]
fn one_path_that_fails_is_listed_and_retry_mends_it() {
    let mut stage = Stage::start(1);
    let source = stage.place.source();
    stage.wait_synced(SOON).unwrap();
    stage.daemons[0].set_module(MODULE, &["exclude = /for*bidden"]);
    put(&source.join("for\u{1}bidden"), "the daemon refuses this name");
    put(&source.join("welcome"), "and takes this one");
    until("the path that does not fail", SOON, || stage.copy(0).join("welcome").exists());
    let failures = eventually("the failure", SOON, || {
        let rows: Vec<FailureRow> = stage.call("ListFailures", &(0_u32, 0_u32)).map_err(|error| error.to_string())?;
        if rows.is_empty() { Err("none".to_owned()) } else { Ok(rows) }
    });
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].1, b"for\x01bidden", "{failures:?}");
    assert!(failures[0].4 >= 1 && failures[0].6 >= failures[0].5, "{failures:?}");
    assert_eq!(stage.property::<u64>("FailureCount"), 1);

    stage.daemons[0].set_module(MODULE, &[]);
    let _: u64 = stage.call("Retry", &(Vec::<String>::new(),)).unwrap();
    stage.wait_synced(SOON).unwrap();
    Judge::default().assert_equal_now(&source, &stage.copy(0));
    assert_eq!(stage.property::<u64>("FailureCount"), 0, "a failure is cleared by the batch that mends it");
}

#[test]
fn pause_holds_changes_and_resume_sends_them() {
    let stage = Stage::start(1);
    let source = stage.place.source();
    stage.wait_synced(SOON).unwrap();
    let () = stage.call("Pause", &()).unwrap();
    put(&source.join("dir/file"), "written during the pause");
    until("a pending path", SOON, || stage.property::<u64>("QueueDepth") > 0);
    assert_eq!(stage.property::<String>("State"), "paused");
    let refused = stage.wait_synced(SOON).unwrap_err().to_string();
    assert!(refused.contains("org.sersync.Error.Paused") && refused.contains(" pending"), "{refused}");
    let said = stage.sersyncctl(&["wait", INSTANCE]);
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("is paused") && said.contains("next: sersyncctl --user resume proof"), "{said}");
    assert!(!stage.copy(0).join("dir/file").exists(), "sent in spite of the pause");
    let () = stage.call("Resume", &()).unwrap();
    stage.wait_synced(SOON).unwrap();
    Judge::default().assert_equal_now(&source, &stage.copy(0));
}

/// In sync, and so long that nothing counts any more that a comparison may have brought.
fn at_rest(stage: &Stage) {
    stage.wait_synced(SOON).unwrap();
    steadily("nothing is pending", SOON, Duration::from_secs(4), || stage.property::<u64>("QueueDepth") == 0);
}

/// The last change in a directory is a name that no remote hears of.
#[test]
fn a_directory_has_its_time_though_a_temporary_name_came_last() {
    let stage = Stage::start(1);
    let [source, copy] = [stage.place.source(), stage.copy(0)];
    let names = ["4913", ".x.swp", "b~", ".#b", "x.dpkg-new", "directory.dpkg-new"];
    names.iter().for_each(|name| put(&source.join(format!("d/of {name}/file")), "content"));
    at_rest(&stage);
    for name in names {
        let passing = source.join(format!("d/of {name}/{name}"));
        if name.starts_with("directory") {
            fs::create_dir(&passing).unwrap();
            fs::remove_dir(&passing).unwrap();
        } else {
            put(&passing, "for a moment");
            fs::remove_file(&passing).unwrap();
        }
    }
    stage.wait_synced(SOON).unwrap();
    Judge::default().directory_times().assert_equal_now(&source, &copy);
}

/// A run that has the name in its list sends what is there by then, though it will be gone again.
#[test]
fn a_temporary_name_that_was_sent_on_its_way_is_removed() {
    let stage = Stage::start(1);
    let [source, copy] = [stage.place.source().join("x~"), stage.copy(0).join("x~")];
    put(&source, "first");
    at_rest(&stage);
    let () = stage.call("Pause", &()).unwrap();
    fs::remove_file(&source).unwrap();
    until("the removal is pending", SOON, || stage.property::<u64>("QueueDepth") > 0);
    put(&source, "second");
    let () = stage.call("Resume", &()).unwrap();
    until("the run has met the new one", SOON, || fs::read(&copy).is_ok_and(|bytes| bytes == b"second"));
    fs::remove_file(&source).unwrap();
    stage.wait_synced(SOON).unwrap();
    assert!(!copy.exists());
}

#[test]
fn a_burst_is_not_a_burst_of_signals() {
    let stage = Stage::start(1);
    let rule = format!(
        "type='signal',interface='org.freedesktop.DBus.Properties',path_namespace='/org/sersync/Agent1/{INSTANCE}'"
    );
    let mut monitor = Command::new("dbus-monitor")
        .args(["--address", &stage.bus.address, "--profile", &rule])
        .stdout(fs::File::create(stage.place.path("signals")).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("dbus-monitor comes with dbus");
    until("the monitor's start", SOON, || fs::metadata(stage.place.path("signals")).is_ok_and(|file| file.len() > 0));
    let start = Instant::now();
    for file in 0..3000 {
        put(&stage.place.source().join(format!("dir{}/{file}", file % 20)), "content");
    }
    stage.wait_synced(SOON).unwrap();
    let seconds = start.elapsed().as_secs() + 1;
    let _ = monitor.kill();
    let _ = monitor.wait();
    let heard = fs::read_to_string(stage.place.path("signals")).unwrap();
    let signals = heard.lines().filter(|line| line.contains("PropertiesChanged")).count() as u64;
    // Two objects, at most ten times a second each, and their first word.
    assert!(signals <= 20 * (seconds + 1), "{signals} signals in {seconds} s");
}

#[test]
fn busctl_finds_nothing_to_complain_of() {
    let stage = Stage::start(1);
    let name = format!("org.sersync.Agent1.{INSTANCE}");
    let path = format!("/org/sersync/Agent1/{INSTANCE}");
    for words in [&["tree", &name][..], &["introspect", &name, "/"], &["introspect", &name, &path]] {
        let output =
            Command::new("busctl").arg(format!("--address={}", stage.bus.address)).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{words:?}: {said}");
    }
}

#[test]
fn descriptors_and_processes_stay_few() {
    let stage = Stage::start(1);
    stage.wait_synced(SOON).unwrap();
    let before = stage.agent.process().descriptors();
    for round in 0..40 {
        put(&stage.place.source().join("file"), round.to_string());
        stage.wait_synced(SOON).unwrap();
    }
    let after = stage.agent.process().descriptors();
    assert!(after <= before + 8, "{before} descriptors before, {after} after 40 batches");
}

/// With a plugin in rsync's place the agent is an agent all the same: status, pause, reload.
#[test]
fn a_plugin_alone_is_shown_paused_and_reloaded() {
    let (first, second) = (Listener::bytes(), Listener::bytes());
    let config = |place: &Place, server: std::net::SocketAddr| {
        let inner = format!(
            "<localpath watch=\"{}\"><deshost ip=\"{}\" port=\"{}\"/></localpath>",
            place.source().display(),
            server.ip(),
            server.port()
        );
        Confxml::new(&place.source()).plugin("socket", "", &inner).write(&place.path("confxml.xml"))
    };
    let stage = Stage::launched(0, |launch, place, _| {
        launch.config(&config(place, first.address)).argument("-m").argument("socket")
    });
    let path = |name: &str| stage.place.source().join(name).into_os_string().into_encoded_bytes();
    let status = || -> serde_json::Value {
        let output = stage.sersyncctl(&["--json", "status", INSTANCE]);
        serde_json::from_slice(&output.stdout).unwrap()
    };
    put(&stage.place.source().join("one"), "x");
    first.wait("one", |request| request.body == path("one"));
    eventually("the count", SOON, || match status()[0]["plugins"][0].clone() {
        row if row["done"] == 1 && row["waiting"] == 0 => Ok(()),
        row => Err(row.to_string()),
    });
    let shown = String::from_utf8(stage.sersyncctl(&["status", INSTANCE]).stdout).unwrap();
    assert!(shown.contains("socket") && shown.contains(&first.address.to_string()), "{shown}");
    let refused = stage.call::<_, OwnedObjectPath>("FullSync", &(Vec::<String>::new(),)).unwrap_err().to_string();
    assert!(refused.contains("-m"), "{refused}");

    let () = stage.call("Pause", &()).unwrap();
    put(&stage.place.source().join("two"), "x");
    until("a path that waits", SOON, || status()[0]["plugins"][0]["waiting"] == 1);
    assert_eq!(first.seen().len(), 1);
    let () = stage.call("Resume", &()).unwrap();
    first.wait("two", |request| request.body == path("two"));

    config(&stage.place, second.address);
    let () = stage.call("Reload", &()).unwrap();
    put(&stage.place.source().join("three"), "x");
    second.wait("three", |request| request.body == path("three"));
    drop(second);
    put(&stage.place.source().join("four"), "x");
    let failing = eventually("the failure", SOON, || match status()[0].clone() {
        agent if agent["state"] == "degraded" => Ok(agent),
        agent => Err(agent.to_string()),
    });
    let row = &failing["plugins"][0];
    assert!(row["waiting"] == 1 && !row["last_error"].as_str().unwrap().is_empty(), "{row}");
    assert_eq!(stage.sersyncctl(&["status", INSTANCE]).status.code(), Some(1));
}

/// Four writers write and rename at random in one tree, files and directories, and never rest.
fn restless(root: &Path) -> Vec<impl FnMut() + Send> {
    let writers = (0..4_u64).map(|nth| {
        let (root, mut rng) = (root.to_owned(), fastrand::Rng::with_seed(nth));
        move || {
            let mut file = || root.join(format!("load{}/{}", rng.u8(..3), rng.u8(..40)));
            // What another one has renamed meanwhile is not there.
            let _ = match nth {
                0 => fs::rename(file(), file()),
                1 => fs::rename(root.join("load0"), root.join("moved")).and_then(|()| {
                    fs::write(root.join("moved/new"), "x")?;
                    fs::rename(root.join("moved"), root.join("load0"))
                }),
                _ => fs::write(file(), [b'x'; 3_000]),
            };
            std::thread::park_timeout(Duration::from_millis(1));
        }
    });
    writers.collect()
}

/// A barrier covers what was written before the call. What is written later does not put off its answer.
#[test]
fn a_wait_is_answered_under_load_that_never_rests() {
    let stage = Stage::start(1);
    let source = stage.place.source();
    (0..3).for_each(|nth| fs::create_dir_all(source.join(format!("load{nth}"))).unwrap());
    stage.wait_synced(SOON).unwrap();
    again_and_again_while(restless(&source), || {
        for round in 0..4 {
            let name = format!("marker {round}");
            put(&source.join(&name), &name);
            stage.wait_synced(SOON).expect("what was written before the call has arrived");
            assert_eq!(fs::read_to_string(stage.copy(0).join(&name)).ok(), Some(name), "round {round}");
        }
    });
    stage.wait_synced(SOON).unwrap();
    Judge::default().assert_equal_now(&source, &stage.copy(0));
}

#[test]
fn a_full_sync_under_a_filter_shows_how_far_it_is() {
    let stage = Stage::launched(1, |launch, place, daemons| {
        for number in 0..20 {
            put(&place.source().join(format!("f{number}")), [b'x'; 100_000]);
        }
        put(&place.source().join("left.out"), "x");
        let config = Confxml::new(&place.source()).daemon(&daemons[0], MODULE).exclude(r"\.out$");
        let config = config.params("-a --bwlimit=1000").agent(r#"<fullSync atStart="never"/>"#);
        launch.config(&config.write(&place.path("proof.xml")))
    });
    let output = stage.sersyncctl(&["resync", INSTANCE, "--json"]);
    let lines = String::from_utf8(output.stdout).unwrap();
    let steps: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(steps.last().unwrap()["state"], "done", "{lines}");
    let is_midway = |step: &&serde_json::Value| {
        let fraction = step["progress"].as_f64().unwrap();
        let (checked, total) = (step["entries_checked"].as_u64().unwrap(), step["entries_total"].as_u64().unwrap());
        fraction > 0.0 && fraction < 1.0 && checked > 0 && checked < total && total >= 20 && step["bytes_sent"] != 0
    };
    assert!(steps.iter().any(|step| is_midway(&step)), "{lines}");
    let last = steps.last().unwrap();
    assert_eq!(last["entries_checked"], last["entries_total"], "{lines}");
    assert!(last["entries_total"].as_u64().unwrap() >= 20, "{lines}");
}
