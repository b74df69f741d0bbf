//! The agent as a process: its flags, its start, its signals, its end, and what it leaves behind.

mod support;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant, SystemTime};
use support::config::Confxml;
use support::rsyncd::{PASSWORD, Plan};
use support::scene::{MODULE, Place, Scene};
use support::tree::{Judge, assert_converged, put, set_modified};
use support::{SOON, eventually, is_root, processes, until};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A transfer slow enough to be in flight at whatever comes next: 64 MB at 200 kB/s.
fn start_slow_transfer(scene: &Scene) {
    File::create(scene.at("slow")).unwrap().set_len(64 << 20).unwrap();
    until("the slow file in flight", SOON, || {
        let mut entries = fs::read_dir(&scene.copy).unwrap().flatten();
        entries.any(|entry| entry.file_name().as_encoded_bytes().starts_with(b".slow."))
    });
}

fn throttled(agent: &str) -> Scene {
    Scene::configured(|_, _| {}, |config| config.params("-a --bwlimit=200").agent(agent))
}

// --- start ---

#[test]
fn the_flags_of_old_combine_and_detach() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    put(&place.source().join("before"), "pushed by -r");
    let agent = r#"<fullSync atStart="never"/>"#;
    let file = Confxml::new(&place.source()).daemon(&daemon, MODULE).agent(agent).write(&place.path("detached.xml"));
    let started = place.launch().argument("-n").argument("4").argument("-dro").argument(&file).output();
    assert!(started.status.success(), "{}", stderr(&started));
    assert_converged(&place.source(), &place.path("copy"));
    put(&place.source().join("after"), "watched");
    assert_converged(&place.source(), &place.path("copy"));
    // A child that has not executed rsync yet bears its parent's command line.
    let detached = eventually("one agent in the background", SOON, || {
        let named = processes::named(file.to_str().unwrap());
        if named.len() == 1 { Ok(named) } else { Err(format!("{named:?}")) }
    });
    kill(Pid::from_raw(detached[0].pid), Signal::SIGTERM).unwrap();
    until("the end of the detached agent", Duration::from_secs(5), || !detached[0].lives());
}

#[test]
fn without_minus_r_a_config_may_leave_the_start_alone() {
    let agent = r#"<fullSync atStart="never"/>"#;
    let scene = Scene::configured(|source, _| put(&source.join("before"), "the start"), |config| config.agent(agent));
    put(&scene.at("after"), "the start");
    until("the live change", SOON, || scene.copy.join("after").exists());
    assert!(!scene.copy.join("before").exists(), "the tree was pushed though the config says never");
}

#[test]
fn mistakes_end_the_start_with_78_and_their_place() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let good = Confxml::new(&place.source()).daemon(&daemon, MODULE);
    let refused = |file: &Path, words: &[&str]| {
        let output = place.launch().config(file).output();
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(78), "EX_CONFIG is expected:\n{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in:\n{text}");
        }
    };
    let file = place.path("bad.xml");
    let shown = file.display().to_string();

    refused(&good.clone().exclude("(unclosed").write(&file), &[&format!("{shown}:6:"), "(unclosed"]);
    let two = good.clone().exclude("*first").exclude("[second");
    refused(&two.write(&file), &[&format!("{shown}:6:"), &format!("{shown}:7:"), "*first", "[second"]);
    refused(&Confxml::new(&place.source()).write(&file), &[&shown, "remote"]);
    refused(&good.clone().password_file(&place.path("nowhere")).write(&file), &[&shown, "nowhere"]);
    let open = place.path("open.pass");
    fs::write(&open, PASSWORD).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&good.clone().password_file(&open).write(&file), &[&shown, "open.pass"]);
    refused(&good.agent(r#"<fullSync atStart="sometimes"/>"#).write(&file), &[&shown, "sometimes"]);
    fs::write(&file, "<head><sersync></head>").unwrap();
    refused(&file, &[&format!("{shown}:1:")]);
    refused(&place.path("missing.xml"), &["missing.xml"]);
}

#[test]
fn bad_command_lines_are_refused_by_name() {
    let place = Place::new();
    let no_plugin = place.launch().argument("-m").argument("comand").output();
    assert!(!no_plugin.status.success() && stderr(&no_plugin).contains("refreshCDN"), "{}", stderr(&no_plugin));
    let no_command =
        place.launch().argument("--watch").argument(place.source()).argument("-m").argument("http").output();
    assert!(!no_command.status.success() && stderr(&no_command).contains("--command"), "{}", stderr(&no_command));
    let file = Confxml::new(&place.source()).write(&place.path("confxml.xml"));
    let not_written = place.launch().config(&file).argument("-m").argument("socket").output();
    assert_eq!(not_written.status.code(), Some(78), "{}", stderr(&not_written));
    assert!(stderr(&not_written).contains("-m socket"), "{}", stderr(&not_written));
    let no_root = place.launch().mirror(&place.path("misspelt"), [place.path("copy")]).output();
    assert!(!no_root.status.success() && stderr(&no_root).contains("misspelt"), "{}", stderr(&no_root));
    let version = place.launch().argument("--version").output();
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), concat!("sersync ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_missing_root_is_said_and_waited_for() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let root = place.path("not mounted yet");
    let file = Confxml::new(&root).daemon(&daemon, MODULE).write(&place.path("www.xml"));
    put(&place.path("copy").join("kept"), "from yesterday");
    let agent = place.launch().config(&file).spawn();
    agent.wait_notified_from(0, |line| line.starts_with("STATUS=") && line.contains("not mounted yet"));
    agent.wait_logged("not mounted yet");
    assert!(place.path("copy").join("kept").exists(), "a missing root emptied the remote");
    put(&place.path("to be mounted/dir/file"), "content");
    fs::rename(place.path("to be mounted"), &root).unwrap();
    assert_converged(&root, &place.path("copy"));
    put(&root.join("dir/later"), "content");
    assert_converged(&root, &place.path("copy"));
}

// --- while it runs ---

#[test]
fn the_supervisor_hears_ready_status_and_watchdog() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let mut agent =
        place.launch().environment("WATCHDOG_USEC", "400000").mirror(&place.source(), [daemon.url(MODULE)]).start();
    agent.wait_notified_from(0, |line| line.starts_with("STATUS=") && line.contains("1 remote in sync"));
    let heard = agent.notified().iter().filter(|line| *line == "WATCHDOG=1").count();
    until("the next heartbeat", SOON, || {
        agent.notified().iter().filter(|line| *line == "WATCHDOG=1").count() > heard + 1
    });
    let seen = agent.notified().len();
    agent.terminate();
    agent.wait_notified_from(seen, |line| line == "STOPPING=1");
}

#[test]
fn a_dead_remote_stands_in_the_status() {
    let place = Place::new();
    let daemon = place.plan(&[]).stopped();
    let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    put(&place.source().join("file"), "content");
    agent.wait_notified_from(0, |line| {
        line.starts_with("STATUS=") && line.contains("down") && line.contains(&daemon.address.to_string())
    });
}

#[test]
fn without_a_bus_it_runs_and_says_so_once() {
    let scene = Scene::start();
    put(&scene.at("file"), "content");
    scene.converged();
    let log = scene.agent.log();
    let said = log.lines().filter(|line| line.to_lowercase().contains("bus")).count();
    assert_eq!(said, 1, "of the missing bus:\n{log}");
}

#[test]
fn secrets_stand_on_no_command_line_and_in_no_log() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).params("-a --bwlimit=200");
    let file = config.write(&place.path("www.xml"));
    let mut agent = place.launch().argument("--debug").config(&file).start();
    File::create(place.source().join("slow")).unwrap().set_len(64 << 20).unwrap();
    let runs = eventually("an rsync run", SOON, || {
        let runs =
            agent.children().into_iter().filter(|child| child.command_line().contains("rsync")).collect::<Vec<_>>();
        if runs.is_empty() { Err("none") } else { Ok(runs) }
    });
    for process in runs.into_iter().chain([agent.process()]) {
        let line = process.command_line();
        assert!(!line.contains(PASSWORD), "the password is for all to see: {line}");
    }
    daemon_says_wrong_password(&place, &agent);
    agent.terminate();
    assert!(!agent.log().contains(PASSWORD), "the password is in the log");
    let mut waiting = vec![place.path("agent")];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            match entry.file_type().unwrap() {
                kind if kind.is_dir() => waiting.push(entry.path()),
                kind if kind.is_file() => {
                    let bytes = fs::read(entry.path()).unwrap();
                    let found = bytes.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
                    assert!(!found, "the password is in {}", entry.path().display());
                }
                _ => {}
            }
        }
    }
}

/// An error message is where a secret would slip out: makes one with the password in the environment.
fn daemon_says_wrong_password(place: &Place, agent: &support::agent::Agent) {
    let other =
        Plan::new(&place.path("other")).module(MODULE, &place.path("other/copy"), &[]).secret("changed").start();
    let root = place.make("other/source");
    let refused = support::agent::Launch::new(&place.path("other/agent")).argument("--debug");
    let refused = refused.mirror(&root, [other.url(MODULE)]).start();
    put(&root.join("file"), "content");
    refused.wait_logged("auth failed");
    assert!(!refused.log().contains(PASSWORD), "the password is in the log of the refused one");
    drop(agent.log());
}

// --- its end ---

#[test]
fn sigterm_ends_it_in_time_and_the_rest_is_done_after_the_restart() {
    let mut scene = throttled(r#"<fullSync atStart="never"/>"#);
    start_slow_transfer(&scene);
    put(&scene.at("dir/queued behind it"), "content");
    let children = scene.agent.children();
    assert!(!children.is_empty(), "a transfer is in flight");
    let asked = Instant::now();
    let status = scene.agent.terminate();
    assert!(status.success(), "{status} after {:?}", asked.elapsed());
    for child in &children {
        assert!(!child.lives(), "left behind: {}", child.command_line());
    }
    assert!(!scene.copy.join("slow").exists(), "the slow file has arrived, so nothing was unfinished");
    // The file shrinks while nobody watches, so that the throttle lets it pass; that it is pending at all is known
    // from the state alone.
    File::options().write(true).open(scene.at("slow")).unwrap().set_len(1000).unwrap();
    scene.agent.start_again();
    scene.converged();
}

#[test]
fn a_deletion_that_could_not_be_sent_is_sent_after_the_restart() {
    let mut scene = Scene::configured(
        |source, _| put(&source.join("tree/a/b"), "to be deleted"),
        |config| config.params("-a").agent(r#"<fullSync atStart="never"/>"#),
    );
    put(&scene.at("tree/c"), "marks the tree as seen");
    until("the tree", SOON, || scene.copy.join("tree/c").exists());
    scene.daemon.stop();
    fs::remove_dir_all(scene.at("tree")).unwrap();
    put(&scene.at("written"), "while the remote was dead");
    scene.agent.wait_logged("refused");
    scene.agent.terminate();
    scene.daemon.start();
    scene.agent.start_again();
    scene.converged();
}

/// Changed while the remote was down, with size and time set back; then killed twice before any of it was sent. What
/// the first kill left to be found must not be forgotten by the second.
#[test]
fn what_one_crash_left_is_not_forgotten_by_the_next() {
    let mut scene = Scene::prepared(|source, _| put(&source.join("page"), "old text"));
    scene.converged();
    scene.daemon.stop();
    let time = fs::metadata(scene.at("page")).unwrap().modified().unwrap();
    put(&scene.at("page"), "new text");
    set_modified(&scene.at("page"), time);
    // Whole seconds tell a change from the start of what is killed next.
    let changed = fs::metadata(scene.at("page")).unwrap().ctime();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    until("a later second", SOON, || now() > changed);
    for _ in 0..2 {
        scene.agent.kill();
        scene.agent.start_again();
    }
    scene.agent.kill();
    scene.daemon.start();
    scene.agent.start_again();
    scene.converged();
}

#[test]
fn sigkill_leaves_no_rsync_behind() {
    let mut scene = throttled("");
    start_slow_transfer(&scene);
    let children = scene.agent.children();
    assert!(!children.is_empty(), "a transfer is in flight");
    scene.agent.kill();
    until("the end of its rsync processes", Duration::from_secs(10), || children.iter().all(|child| !child.lives()));
    until("an empty source", Duration::from_secs(10), || processes::working_in(&scene.source).is_empty());
    File::options().write(true).open(scene.at("slow")).unwrap().set_len(1000).unwrap();
    scene.agent.start_again();
    scene.converged();
}

#[test]
fn nothing_leaks_over_many_batches() {
    let scene = Scene::start();
    put(&scene.at("warm/up"), "");
    scene.converged();
    let descriptors = scene.agent.process().descriptors();
    for round in 0..60 {
        put(&scene.at(format!("dir{}/file", round % 4)), round.to_string());
        scene.converged();
        let _ = fs::remove_dir_all(scene.at(format!("dir{}", (round + 2) % 4)));
    }
    scene.converged();
    eventually("no more descriptors than at the start", SOON, || {
        let now = scene.agent.process().descriptors();
        // One rsync ahead may be open: three pipes.
        if now <= descriptors + 3 { Ok(()) } else { Err(format!("{now}, and {descriptors} at the start")) }
    });
    until("no zombies and few children", SOON, || scene.agent.children().len() <= 3);
}

// --- reload ---

#[test]
fn a_second_agent_on_one_state_directory_is_refused() {
    let place = Place::new();
    let launch = place.launch().mirror(&place.source(), [place.make("copy")]);
    let mut first = launch.clone().start();
    let second = launch.clone().argument("--instance").argument("another").output();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(78), "{said}");
    assert!(said.contains(&format!("in use by process {}", first.pid())), "{said}");
    first.kill();
    launch.start();
}

#[test]
fn a_bad_reload_is_refused_and_a_good_one_counts() {
    let place = Place::new();
    let first = Plan::new(&place.path("d1")).module(MODULE, &place.path("d1/copy"), &[]).start();
    let second = Plan::new(&place.path("d2")).module(MODULE, &place.path("d2/copy"), &[]).port(first.port).start();
    let source = place.source();
    let file = place.path("www.xml");
    let config = Confxml::new(&source).params("-a").daemon(&first, MODULE).exclude(r".*\.old");
    config.write(&file);
    let agent = place.launch().config(&file).start();
    put(&source.join("page"), "first");
    put(&source.join("page.old"), "excluded");
    put(&source.join("page.new"), "not yet excluded");
    until("the first page", SOON, || place.path("d1/copy/page.new").exists() && place.path("d1/copy/page").exists());

    config.clone().exclude("(unclosed").write(&file);
    agent.signal(Signal::SIGHUP);
    agent.wait_logged("(unclosed");
    put(&source.join("after the refusal"), "the old config is in force");
    put(&source.join("after.old"), "excluded");
    until("the next page", SOON, || place.path("d1/copy/after the refusal").exists());
    assert!(!place.path("d1/copy/after.old").exists(), "the refused config threw away the old filter");
    let refused = agent.wait_notified_from(0, |line| line.contains("an older config is in force"));
    assert!(refused.contains("www.xml:") && refused.contains("(unclosed"), "{refused}");

    let changed = Confxml::new(&source).params("-a").daemon(&first, MODULE).daemon(&second, MODULE);
    changed.exclude(r".*\.new").write(&file);
    agent.signal(Signal::SIGHUP);
    until("the tree on the added remote", SOON, || place.path("d2/copy/page").exists());
    let seen = agent.notified().len();
    put(&source.join("page"), "second");
    let status = agent.wait_notified_from(seen, |line| line.starts_with("STATUS=2 remotes"));
    assert!(!status.contains("older config"), "{status}");
    put(&source.join("late.new"), "excluded now");
    put(&source.join("late.old"), "excluded no more");
    for copy in ["d1/copy", "d2/copy"] {
        until("what is excluded no more", SOON, || place.path(copy).join("late.old").exists());
        until("what was excluded before", SOON, || place.path(copy).join("page.old").exists());
        assert!(!place.path(copy).join("late.new").exists());
    }
    assert!(!place.path("d2/copy/page.new").exists(), "the new filter holds for the added remote's full sync");
    assert!(place.path("d1/copy/page.new").exists(), "what became excluded is not deleted");
}

#[test]
fn a_reload_forgets_nothing_that_only_looks_excluded() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).start();
    let file = place.path("www.xml");
    let config = Confxml::new(&place.source()).params("-a").daemon(&daemon, MODULE).exclude("tmp/");
    config.write(&file);
    put(&place.source().join("first"), "content");
    let agent = place.launch().config(&file).start();
    until("the first file", SOON, || place.path("copy/first").exists());
    daemon.stop();
    put(&place.source().join("tmp"), "a file, no directory");
    agent.wait_logged("ConnectionRefused");
    agent.signal(Signal::SIGHUP);
    agent.wait_logged("read again");
    daemon.start();
    until("the file", SOON, || place.path("copy/tmp").exists());
}

#[test]
fn a_failure_is_told_of_its_own_name_under_a_root_behind_a_link() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let link = place.path("link");
    std::os::unix::fs::symlink(place.source(), &link).unwrap();
    let file = place.path("www.xml");
    Confxml::new(&link).params("-rlpt").daemon(&daemon, MODULE).write(&file);
    let mut launch = place.launch();
    if is_root() {
        fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(file.with_extension("pass"), Some(65_534), None).unwrap();
        launch = launch.unprivileged();
    }
    let agent = launch.config(&file).start();
    put(&place.source().join("open"), "readable");
    until("the first file", SOON, || place.path("copy/open").exists());
    put(&place.source().join("closed.Ab12Cd"), "unreadable");
    fs::set_permissions(place.source().join("closed.Ab12Cd"), fs::Permissions::from_mode(0o200)).unwrap();
    fs::rename(place.source().join("closed.Ab12Cd"), place.source().join(".env.secret")).unwrap();
    agent.wait_logged(": .env.secret: ");
}

// --- what it may not read ---

#[test]
fn what_its_user_may_not_read_is_told_and_holds_up_nothing() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    put(&place.source().join("closed"), "unreadable");
    fs::set_permissions(place.source().join("closed"), fs::Permissions::from_mode(0o200)).unwrap();
    put(&place.source().join("open"), "readable");
    let mut launch = place.launch();
    if is_root() {
        fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        launch = launch.unprivileged();
    }
    let agent = launch.mirror(&place.source(), [daemon.url(MODULE)]).start();
    put(&place.source().join("later"), "readable");
    Judge::default().ignoring("closed").assert_converged(&place.source(), &place.path("copy"), SOON);
    agent.wait_logged("closed");
    put(&place.source().join("still later"), "readable");
    Judge::default().ignoring("closed").assert_converged(&place.source(), &place.path("copy"), SOON);
    fs::set_permissions(place.source().join("closed"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_converged(&place.source(), &place.path("copy"));
}

#[test]
fn what_is_excluded_and_unreadable_does_not_stop_what_a_full_sync_deletes() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let file = place.path("www.xml");
    Confxml::new(&place.source()).params("-rlpt").daemon(&daemon, MODULE).exclude("lost\\+found").write(&file);
    put(&place.source().join("kept"), "content");
    fs::create_dir(place.source().join("lost+found")).unwrap();
    fs::set_permissions(place.source().join("lost+found"), fs::Permissions::from_mode(0o000)).unwrap();
    put(&place.make("copy").join("superfluous/old"), "from before");
    put(&place.path("copy").join("lost+found/own"), "the remote's own");
    let mut launch = place.launch();
    if is_root() {
        fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(file.with_extension("pass"), Some(65_534), None).unwrap();
        launch = launch.unprivileged();
    }
    let _agent = launch.config(&file).argument("-r").start();
    until("the deletion", SOON, || !place.path("copy/superfluous").exists());
    until("the file", SOON, || place.path("copy/kept").exists());
    assert!(place.path("copy/lost+found/own").exists());
}
