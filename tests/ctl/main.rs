//! `sersyncctl` as built, on a real message bus, with a scripted engine behind the agent.

mod client;
mod completion;
mod json;
#[path = "../support/bus.rs"]
mod support;
mod words;

use client::{ctl, finish, on, run};
use sersync::agent::handle::Command;
use sersync::agent::snapshot::{Failure, Fault, JobState, Notice, PendingPath, State};
use sersync::path::RelPath;
use std::process::Stdio;
use std::time::{Duration, SystemTime};
use support::{Engine, PATIENCE, PrivateBus, down, eventually, snapshot};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test]
async fn status_answers_with_its_exit_code() {
    let bus = PrivateBus::start();
    let nothing = run(&bus, &["status"]).await;
    assert_eq!(nothing.code, 3, "{}", nothing.err);
    assert!(nothing.out.contains("systemctl enable --now sersync@NAME"), "{}", nothing.out);

    let www = Engine::new(snapshot("www"));
    let _www = on(&bus, www.handle.clone()).await;
    let all = run(&bus, &["status"]).await;
    assert_eq!(all.code, 0, "{}{}", all.out, all.err);
    let lines: Vec<_> = all.out.lines().collect();
    assert_eq!(lines[0], "NAME  STATE  IN SYNC  PENDING  FAILED  LAG  LAST SYNC");
    assert_eq!(lines[1], "www   idle       2/2        0       0    -  just now");

    let blog = Engine::new(snapshot("my-blog"));
    blog.change(|snapshot| {
        snapshot.state = State::Degraded;
        snapshot.remotes[1] = down("web2:/srv/www");
        snapshot.never_sent = vec!["`--max-size=1g`: files larger than that".into()];
    });
    let _blog = on(&bus, blog.handle.clone()).await;
    let all = run(&bus, &["status"]).await;
    assert_eq!(all.code, 1);
    let lines: Vec<_> = all.out.lines().collect();
    assert_eq!(lines[1], "my-blog  degraded      1/2      512       0  3 min  just now");
    assert_eq!(run(&bus, &["status", "www"]).await.code, 0);
    let both = run(&bus, &["status", "www", "my-blog"]).await;
    assert_eq!(both.code, 1);
    assert!(both.out.contains("www - idle\n") && both.out.contains("my-blog - degraded\n"), "{}", both.out);
    assert!(both.out.contains("web2:/srv/www: ConnectionRefused, failing for 3 min, 7 tries"), "{}", both.out);
    assert!(both.out.contains(" Never sent: `--max-size=1g`: files larger than that\n"), "{}", both.out);
    assert!(both.out.contains("    failed to connect to web2\n    check rsyncd\n"), "{}", both.out);
    assert!(!both.out.contains('●') && !both.out.contains('\x1b'), "no decoration in a pipe");

    let unknown = run(&bus, &["status", "nope"]).await;
    assert_eq!(unknown.code, 4);
    assert!(unknown.err.contains("no instance \"nope\"") && unknown.err.ends_with("next: sersyncctl list\n"));
}

#[tokio::test]
async fn an_instance_that_answers_with_an_error_is_one_row() {
    let bus = PrivateBus::start();
    let www = Engine::new(snapshot("www"));
    let _www = on(&bus, www.handle.clone()).await;
    // It has the name of an agent, and none of its objects.
    let _empty = zbus::connection::Builder::address(bus.address.as_str())
        .name("org.sersync.Agent1.empty")
        .build()
        .await
        .unwrap();
    let all = run(&bus, &["status"]).await;
    assert_eq!(all.code, 1, "{}{}", all.out, all.err);
    let lines: Vec<_> = all.out.lines().collect();
    assert!(lines[1].starts_with("empty  does not answer"), "{}", all.out);
    assert!(lines[2].starts_with("www    idle"), "{}", all.out);
}

#[tokio::test]
async fn status_is_json_for_programs() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    engine.change(|snapshot| snapshot.remotes[1] = down("web2:/srv/www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let status = run(&bus, &["status", "--json"]).await;
    let value: serde_json::Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(value[0]["instance"], "www");
    assert_eq!(value[0]["config"]["path"], "/etc/sersync/www.xml");
    assert_eq!(value[0]["running"], true);
    assert_eq!(value[0]["last_full_sync_at"], serde_json::Value::Null);
    assert_eq!(value[0]["remotes"][1]["last_error_name"], "ConnectionRefused");
}

#[tokio::test]
async fn user_instances_are_on_the_users_bus() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("notes"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let mut list = ctl(&bus, &["--user", "list"]);
    list.env("DBUS_SESSION_BUS_ADDRESS", &bus.address).env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/system");
    let list = finish(list).await;
    assert!(list.code == 0 && list.out.contains("notes"), "{}{}", list.out, list.err);

    let missing = run(&bus, &["--user", "list"]).await;
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("no connection to the user bus"), "{}", missing.err);
    assert!(missing.err.ends_with("next: systemctl --user status dbus.socket\n"), "{}", missing.err);
}

#[tokio::test]
async fn a_config_that_is_not_enabled_is_shown_as_disabled() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("notes"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("sersync")).unwrap();
    std::fs::write(home.path().join("sersync/blog.xml"), "<head/>").unwrap();
    let run = async |arguments: &[&str]| {
        let mut command = ctl(&bus, &[&["--user"], arguments].concat());
        command.env("DBUS_SESSION_BUS_ADDRESS", &bus.address).env("XDG_CONFIG_HOME", home.path());
        finish(command).await
    };
    let list = run(&["list"]).await;
    let lines: Vec<_> = list.out.lines().collect();
    assert!(list.code == 0 && lines[1] == "blog   disabled" && lines[2].starts_with("notes  idle "), "{}", list.out);
    let all = run(&["status"]).await;
    assert_eq!(all.code, 0, "what is not meant to run is no fault: {}", all.out);
    assert!(all.out.lines().any(|line| line == "blog   disabled") && !all.out.contains("next:"), "{}", all.out);
    let one = run(&["status", "blog"]).await;
    assert_eq!(one.code, 3);
    assert!(one.out.starts_with("blog - disabled\n"), "{}", one.out);
    let next = "next: systemctl --user enable --now sersync@blog\n";
    assert!(format!("{}{}", one.out, one.err).contains(next), "{}{}", one.out, one.err);
    let pause = run(&["pause", "blog"]).await;
    assert!(pause.code == 1 && pause.err.contains("blog is not running: disabled") && pause.err.ends_with(next));
    let value: serde_json::Value = serde_json::from_str(&run(&["list", "--json"]).await.out).unwrap();
    assert_eq!((&value[0]["instance"], &value[0]["state"]), (&"blog".into(), &"disabled".into()));
    assert_eq!(run(&["status", "nope"]).await.code, 4);
}

#[tokio::test]
async fn commands_do_their_work_or_say_what_to_do() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www")).answer_well();
    let _agent = on(&bus, engine.handle.clone()).await;
    for (arguments, says) in [
        (&["pause", "www"][..], "www is paused"),
        (&["resume", "www"], "www goes on"),
        (&["retry", "www"], "2 paths are tried again"),
        (&["reload", "www"], "www has read its config"),
        (&["wait", "www", "--timeout", "5s"], "www is in sync"),
        (&["failures", "www"], "no path has failed"),
        (&["pending", "www"], "nothing is pending"),
    ] {
        let ended = run(&bus, arguments).await;
        assert!(ended.code == 0 && ended.out.contains(says), "{arguments:?}: {}{}", ended.out, ended.err);
        let absent = run(&bus, &[arguments[0], "nope"]).await;
        assert_eq!(absent.code, 1, "{arguments:?}");
        assert!(absent.err.contains("next: sersyncctl list"), "{arguments:?}: {}", absent.err);
    }
}

#[tokio::test]
async fn resync_follows_its_job() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www")).answer_well();
    let _agent = on(&bus, engine.handle.clone()).await;

    let at_once = run(&bus, &["resync", "www", "--no-wait"]).await;
    assert!(at_once.code == 0 && at_once.out.contains("full sync 1 is under way"), "{}{}", at_once.out, at_once.err);
    let canceled = run(&bus, &["resync", "www", "--cancel"]).await;
    assert!(canceled.code == 0 && canceled.out.contains("1 full sync canceled"), "{}{}", canceled.out, canceled.err);

    let mut follower = ctl(&bus, &["resync", "www"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "full sync 2: running, 0 %, 0 B sent");
    engine.change(|snapshot| (snapshot.jobs[1].progress, snapshot.jobs[1].bytes_sent) = (0.42, 2048));
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "full sync 2: running, 42 %, 2.0 KiB sent");
    engine.change(|snapshot| {
        let job = &mut snapshot.jobs[1];
        (job.progress, job.entries_checked, job.entries_total) = (0.5, 1500, 3000);
    });
    let line = lines.next_line().await.unwrap().unwrap();
    assert_eq!(line, "full sync 2: running, 50 %, 1500 of 3000 entries checked, 2.0 KiB sent");
    engine.change(|snapshot| {
        (snapshot.jobs[1].state, snapshot.jobs[1].result) = (JobState::Done, "2 remotes are equal".into());
    });
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "full sync 2: 2 remotes are equal");
    assert!(follower.wait().await.unwrap().success());

    let follower = ctl(&bus, &["resync", "www"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the third job", async || engine.handle.snapshot().jobs.get(2).map(|_| ())).await;
    engine.change(|snapshot| {
        (snapshot.jobs[2].state, snapshot.jobs[2].result) = (JobState::Failed, "web2 refused".into());
    });
    let failed = tokio::time::timeout(PATIENCE, follower.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(text.contains("failed: web2 refused") && text.ends_with("next: sersyncctl status www\n"), "{text}");
}

#[tokio::test]
async fn ctrl_c_leaves_the_job_running() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www")).answer_well();
    let _agent = on(&bus, engine.handle.clone()).await;
    let mut follower = ctl(&bus, &["resync", "www"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(follower.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = tokio::time::timeout(PATIENCE, follower.wait_with_output()).await.unwrap().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.success() && text.contains("full sync 1 goes on"), "{text}");
    assert_eq!(engine.handle.snapshot().jobs[0].state, JobState::Running);
}

#[tokio::test]
async fn an_agent_that_ends_ends_the_waiting() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www")).answer_well();
    let agent = on(&bus, engine.handle.clone()).await;
    let mut follower = ctl(&bus, &["resync", "www"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    agent.close().await;
    let ended = tokio::time::timeout(PATIENCE, follower.wait_with_output()).await.unwrap().unwrap();
    let text = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(text.contains("stopped meanwhile"), "{text}");
}

fn failure(number: usize) -> Failure {
    Failure {
        remote: "web2:/srv/www".into(),
        path: RelPath::new(format!("f{number}\n").as_bytes()).unwrap(),
        fault: Fault::new("NoSpace", "No space left\non device"),
        attempts: 2,
        failed_at: SystemTime::now(),
        next_try: SystemTime::now() + Duration::from_secs(90),
    }
}

#[tokio::test]
async fn lists_are_short_unless_asked() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let play = async {
        let Command::Failures(0, limit, answer) = engine.command().await else { panic!("not a list") };
        answer.send(Ok((0..limit).map(failure).collect())).unwrap();
    };
    let list = tokio::join!(run(&bus, &["failures", "www", "-n", "50"]), play).0;
    assert_eq!(list.code, 0, "{}", list.err);
    let lines: Vec<_> = list.out.lines().collect();
    assert_eq!(lines.len(), 52);
    assert!(
        lines[1].starts_with("web2:/srv/www  f0\\n   NoSpace      2  just now  in 1 min  No space left"),
        "{}",
        lines[1]
    );
    assert_eq!(lines[51], "the first 50 paths; for all: sersyncctl failures www --all");
    assert_eq!(list.err, "next: sersyncctl retry www\n");

    let play = async {
        let Command::Pending(0, _, answer) = engine.command().await else { panic!("not a list") };
        let path = PendingPath {
            remote: "web2:/srv/www".into(),
            path: RelPath::new(b"a\xff").unwrap(),
            kind: "entry",
            since: SystemTime::now(),
            in_flight: true,
        };
        answer.send(Ok(vec![path])).unwrap();
    };
    let list = tokio::join!(run(&bus, &["pending", "www", "--json"]), play).0;
    let value: serde_json::Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(value[0]["path_hex"], "61ff");
    assert_eq!(value[0]["in_flight"], true);
}

#[tokio::test]
async fn failures_are_grouped_by_remote_and_reason() {
    let bus = PrivateBus::start();
    let mut engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let play = async {
        let Command::Failures(0, _, answer) = engine.command().await else { panic!("not a list") };
        let mut failures: Vec<Failure> = (0..60).map(failure).collect();
        for (number, failure) in failures.iter_mut().enumerate().skip(20) {
            failure.path = RelPath::new(format!("d/f{number}").as_bytes()).unwrap();
            let message = format!("open \"/data/www/d/f{number}\": Permission denied (13)");
            failure.fault = Fault::new("PermissionDenied", message);
        }
        failures[59].remote = "web1".into();
        answer.send(Ok(failures)).unwrap();
    };
    let list = tokio::join!(run(&bus, &["failures", "www"]), play).0;
    let lines: Vec<_> = list.out.lines().collect();
    assert_eq!(
        lines,
        [
            "REMOTE         ERROR             PATHS  NEXT      EXAMPLE  REASON",
            "web2:/srv/www  PermissionDenied     39  in 1 min  d/f20    open it: Permission denied (13)",
            "web2:/srv/www  NoSpace              20  in 1 min  f0\\n     No space left",
            "web1           PermissionDenied      1  in 1 min  d/f59    open it: Permission denied (13)",
            "each path: sersyncctl failures www --all",
        ],
        "{}",
        list.err
    );
    assert_eq!(list.err, "next: sersyncctl retry www\n");
}

#[tokio::test]
async fn names_may_be_several_patterns_and_units() {
    let bus = PrivateBus::start();
    let (www, wiki, blog) = (snapshot("www"), snapshot("wiki"), snapshot("blog"));
    let engines = [www, wiki, blog].map(|snapshot| Engine::new(snapshot).answer_well());
    let mut agents = Vec::new();
    for engine in &engines {
        agents.push(on(&bus, engine.handle.clone()).await);
    }
    for (words, paused) in [
        (&["www", "blog"][..], &["www", "blog"][..]),
        (&["w*"], &["wiki", "www"]),
        (&["sersync@www", "sersync@w*.service", "www"], &["www", "wiki"]),
        (&["[bw][il]*"], &["blog", "wiki"]),
    ] {
        let ended = run(&bus, &[&["pause"], words].concat()).await;
        let said: Vec<_> = ended.out.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!((ended.code, said.as_slice()), (0, paused), "{words:?}: {}", ended.err);
    }
    let status = run(&bus, &["status", "w*"]).await;
    assert!(status.out.starts_with("wiki - ") && status.out.contains("\nwww - "), "{}", status.out);
    let one_is_not_there = run(&bus, &["pause", "nope", "www"]).await;
    assert!(one_is_not_there.code == 1 && one_is_not_there.out.contains("www is paused"), "{}", one_is_not_there.err);
    assert!(one_is_not_there.err.contains("there is no instance \"nope\""), "{}", one_is_not_there.err);
    let none = run(&bus, &["pause", "x*"]).await;
    assert!(none.code == 1 && none.err.contains("there is no instance \"x*\""), "{}", none.err);
    let several = run(&bus, &["failures", "w*"]).await;
    assert!(several.code == 1 && several.err.contains("\"w*\" means several instances: wiki, www"), "{}", several.err);
}

/// What a command prints on a terminal of that width.
async fn on_terminal(bus: &PrivateBus, columns: u16, arguments: &str) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_sersyncctl");
    let command = format!("stty rows 24 cols {columns} && NO_COLOR=1 {program} {arguments}");
    let output = tokio::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("script ends").unwrap();
    let text = anstream::adapter::strip_str(&String::from_utf8(output.stdout).unwrap()).to_string();
    text.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

#[tokio::test]
async fn tables_fit_the_terminal() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let long = "backup@web1.a-long-name.example.org::www/with/a/path";
    engine.change(|snapshot| snapshot.remotes[1] = down(long));
    let _agent = on(&bus, engine.handle.clone()).await;
    let narrow = on_terminal(&bus, 60, "status www").await;
    let row = narrow.iter().find(|line| line.starts_with("  bac") && line.contains("…") && line.contains("waiting"));
    let row = row.unwrap_or_else(|| panic!("{}", narrow.join("\n")));
    assert!(row.chars().count() <= 60 && row.contains("512"), "{row}");
    let header = narrow.iter().find(|line| line.contains("REMOTE")).unwrap();
    assert!(header.chars().count() <= 60, "{header}");
    let full = on_terminal(&bus, 60, "status www --full").await;
    assert!(full.iter().any(|line| line.starts_with(&format!("  {long}  "))), "{full:?}");
    let piped = run(&bus, &["status", "www"]).await;
    assert!(piped.out.contains(&format!("  {long}  ")), "{}", piped.out);
}

#[tokio::test]
async fn monitor_speaks_to_people() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let mut monitor = ctl(&bus, &["monitor", "sersync@www"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    // It listens some time after its start: tell until it hears.
    let mut is_idle = false;
    let heard = eventually("a line", async || {
        is_idle = !is_idle;
        engine.change(|snapshot| snapshot.state = if is_idle { State::Idle } else { State::Syncing });
        tokio::time::timeout(Duration::from_millis(300), lines.next_line()).await.ok()
    });
    let (time, said) =
        heard.await.unwrap().unwrap().split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert!(time.len() == 8 && time.split(':').all(|part| part.parse::<u8>().is_ok()), "{time}");
    assert!(["the instance is idle", "the instance is syncing"].contains(&said.as_str()), "{said}");
    engine.change(|snapshot| snapshot.files_synced += 1);
    let mut failed = failure(1);
    failed.fault = Fault::new("PermissionDenied", "open \"/data/www/d/a\": Permission denied");
    failed.path = RelPath::new(b"d/a").unwrap();
    engine.notices.send(Notice::FailureAdded(failed)).unwrap();
    let said = loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert!(!line.contains('='), "no raw properties: {line}");
        if line.contains("failed") {
            break line;
        }
    };
    assert!(said.ends_with(" web2:/srv/www: d/a failed: PermissionDenied: open it: Permission denied"), "{said}");
    let _ = monitor.kill().await;
}

#[tokio::test]
async fn monitor_prints_what_happens() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let mut monitor = ctl(&bus, &["monitor", "www", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(monitor.stdout.take().unwrap()).lines();
    // It listens some time after its start: tell until it hears.
    let mut number = 0;
    let heard = eventually("a line", async || {
        number += 1;
        engine.change(|snapshot| snapshot.files_synced = number);
        tokio::time::timeout(Duration::from_millis(100), lines.next_line()).await.ok()
    });
    let first: serde_json::Value = serde_json::from_str(&heard.await.unwrap().unwrap()).unwrap();
    assert_eq!((&first["event"], &first["object"]), (&"changed".into(), &"agent".into()));
    engine.notices.send(Notice::FailureAdded(failure(1))).unwrap();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        if value["event"] == "failure" {
            assert_eq!((&value["path"], &value["error"]), (&"f1\n".into(), &"NoSpace".into()));
            break;
        }
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(monitor.id().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = tokio::time::timeout(PATIENCE, monitor.wait()).await.unwrap().unwrap();
    assert!(ended.success());
}
