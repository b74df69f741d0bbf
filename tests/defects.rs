//! What sersync 2.5.4 does to its users, one test for each: none of it happens here. Other tests look closer; this
//! file reads as the list.

mod support;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use support::config::Confxml;
use support::rsyncd::Plan;
use support::scene::{MODULE, Place, Scene};
use support::tree::{Judge, assert_converged, put, set_modified};
use support::{SOON, is_root, until};

/// The file as users have it: the shipped switches and `params`.
fn shipped() -> Scene {
    Scene::configured(|_, _| {}, |config| config)
}

/// (1) Each event costs an rsync process for each remote, so that a thousand files are a thousand connections. Here what
/// changes while a run is under way goes with the next one.
#[test]
fn d01_a_thousand_files_share_a_few_rsync_processes() {
    const FILES: usize = 1_000;
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let file = Confxml::new(&place.source()).daemon(&daemon, MODULE).write(&place.path("confxml.xml"));
    let agent = place.launch().argument("--debug").config(&file).start();
    for number in 0..FILES {
        put(&place.source().join(number.to_string()), [b'x'; 10_000]);
    }
    assert_converged(&place.source(), &place.path("copy"));
    let log = agent.log();
    let runs = log.lines().filter(|line| line.contains("batch: ") && line.contains(": done")).count();
    assert!((1..FILES / 10).contains(&runs), "{runs} runs for {FILES} files");
}

/// (2) A name goes through a shell, as root: whoever may name a file in the tree may run a command. Here no name is
/// more than a name, be it new, changed, moved, a directory's, or gone.
#[test]
fn d02_a_name_is_never_run_by_a_shell() {
    let scene = shipped();
    let names =
        ["$(touch owned)", "`touch owned`", "\"; touch owned; \"", "$(touch owned)`touch owned`\"", "';touch owned'"];
    for name in names {
        put(&scene.at(name), "new");
        put(&scene.at("below").join(name).join(name), "new");
    }
    scene.converged();
    for name in names {
        put(&scene.at(name), "changed");
        fs::rename(scene.at(name), scene.at(format!("moved {name}"))).unwrap();
    }
    scene.converged();
    for name in names {
        assert_eq!(fs::read_to_string(scene.copy.join(format!("moved {name}"))).unwrap(), "changed");
        fs::remove_file(scene.at(format!("moved {name}"))).unwrap();
        fs::remove_dir_all(scene.at("below").join(name)).unwrap();
    }
    scene.converged();
    let here = std::env::current_dir().unwrap();
    let copy = scene.copy.clone();
    for directory in [&scene.source, &copy, &scene.place.path("agent"), &scene.place.path("rsyncd"), &here] {
        assert!(!directory.join("owned").exists(), "a name was run in {}", directory.display());
    }
}

/// (3) The script of failed commands, in a directory that everybody may write to, is made executable for all and run as
/// root: whoever was there first is root. Here what somebody planted is neither run nor changed in any way.
#[test]
fn d03_what_is_planted_at_the_fail_log_is_not_run() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).start();
    let report = place.make("tmp").join("rsync_fail_log.sh");
    let planted = place.path("tmp/planted.sh");
    let script = format!("#!/bin/sh\ntouch '{}'\n", place.path("ran").display());
    let plant = |path: &Path| {
        fs::write(path, &script).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o744)).unwrap();
    };
    let untouched = |path: &Path| {
        assert_eq!(fs::read_to_string(path).unwrap(), script, "{} was written to", path.display());
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o7777, 0o744, "{} has another mode", path.display());
        assert!(!place.path("ran").exists(), "{} was run", path.display());
    };
    plant(&planted);
    symlink(&planted, &report).unwrap();
    let element = format!("<failLog path=\"{}\" timeToExecute=\"1\"/>", report.display());
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).sersync(&element);
    let file = config.write(&place.path("confxml.xml"));
    let mut agent = place.launch().config(&file).start();
    daemon.stop();
    put(&place.source().join("page"), "fails twice");
    agent.wait_logged("is a symbolic link, and is left alone");
    untouched(&planted);

    if is_root() {
        // Somebody else's own file, as it would lie in /tmp.
        agent.terminate();
        fs::remove_file(&report).unwrap();
        plant(&report);
        chown(&report, Some(12_345), Some(12_345)).unwrap();
        agent.start_again();
        agent.wait_logged("belongs to somebody else, and is left alone");
        untouched(&report);
        assert_eq!(fs::metadata(&report).unwrap().uid(), 12_345);
    }
    daemon.start();
    assert_converged(&place.source(), &place.path("copy"));
    untouched(&planted);
}

/// (4) When more happens than the kernel's queue holds, the rest is lost, and nothing says so. Here it is said, and the
/// tree is compared.
#[test]
fn d04_nothing_is_lost_when_the_event_queue_overflows() {
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().expect("a number");
    let scene = Scene::configured(
        |source, _| {
            put(&source.join("changed"), "before");
            put(&source.join("removed/with/all"), "before");
            put(&source.join("ball"), "");
        },
        |config| config,
    );
    scene.converged();
    // A stopped agent reads nothing; each rename makes two events, so this is twice what the queue holds.
    scene.agent.signal(Signal::SIGSTOP);
    for _ in 0..limit / 2 {
        fs::rename(scene.at("ball"), scene.at("thrown")).unwrap();
        fs::rename(scene.at("thrown"), scene.at("ball")).unwrap();
    }
    put(&scene.at("changed"), "after it was full");
    put(&scene.at("new/directory/file"), "after it was full");
    fs::remove_dir_all(scene.at("removed")).unwrap();
    scene.agent.signal(Signal::SIGCONT);
    scene.agent.wait_logged("more events than the kernel's queue holds");
    scene.converged();
    // Also what became a directory meanwhile is watched.
    put(&scene.at("new/directory/later"), "seen");
    scene.converged();
}

/// (5) What is put into a new directory before it is watched never arrives, and a directory that was moved away is still
/// watched under its old name.
#[test]
fn d05_new_directories_and_moves_in_and_out_lose_nothing() {
    let scene = shipped();
    for round in 0..20 {
        let mut directory = scene.at(format!("new{round}"));
        for level in 0..8 {
            directory.push(level.to_string());
            put(&directory.join("first"), format!("{round} {level}"));
        }
    }
    scene.converged();

    let away = scene.place.path("away");
    fs::rename(scene.at("new0"), &away).unwrap();
    put(&away.join("0/first"), "changed out there");
    put(&away.join("0/1/second"), "new out there");
    put(&scene.at("mark"), "");
    scene.converged();
    assert!(!scene.copy.join("new0").exists());

    // Another one of the old name, and the old one under a new name.
    put(&scene.at("new0/0/first"), "another directory");
    fs::rename(&away, scene.at("back")).unwrap();
    scene.converged();
    put(&scene.at("back/0/1/third"), "watched again");
    put(&scene.at("new0/0/third"), "watched too");
    scene.converged();
}

/// (6) Several workers handle events of one path at once: an old state may arrive after the new one, or a deletion after
/// the file that was made anew. Here a path is sent as it is, and never by two at once.
#[test]
fn d06_the_last_state_of_a_path_is_the_one_that_stays() {
    let scene = shipped();
    for round in 0..300_u32 {
        let path = scene.at(format!("path{}", round % 3));
        put(&path, format!("round {round}"));
        match round % 5 {
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::rename(&path, scene.at(format!("path{}", (round + 1) % 3))).unwrap(),
            2 => {
                fs::remove_file(&path).unwrap();
                put(&path, "made anew");
            }
            _ => {}
        }
    }
    for path in 0..3 {
        put(&scene.at(format!("path{path}")), "the last one");
    }
    fs::remove_file(scene.at("path2")).unwrap();
    scene.converged();
    assert!(!scene.copy.join("path2").exists() && scene.copy.join("path1").exists());
}

/// (7) Each event waits for all remotes, so that the slowest sets the pace. Here one that takes connections and never
/// answers, and one that is down, cost the third nothing.
#[test]
fn d07_one_hung_remote_holds_back_no_other() {
    let place = Place::new();
    let plan = |name: &str| Plan::new(&place.path(name)).module(MODULE, &place.path(&format!("{name}/copy")), &[]);
    let address = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
    // The kernel takes connections for it; nobody ever answers.
    let hung = TcpListener::bind((address, 0)).unwrap();
    let mut late = plan("hung").address(address.into()).port(hung.local_addr().unwrap().port()).stopped();
    let (down, well) = (plan("down").stopped(), plan("well").start());
    let agent = place.launch().mirror(&place.source(), [late.url(MODULE), down.url(MODULE), well.url(MODULE)]).start();
    let start = std::time::Instant::now();
    for number in 0..20 {
        let name = number.to_string();
        put(&place.source().join(&name), "one by one");
        until("the file on the remote that is well", SOON, || place.path("well/copy").join(&name).exists());
    }
    // Together they take less than giving up one connection would.
    assert!(start.elapsed() < Duration::from_secs(20), "it was held back: {:?}", start.elapsed());
    drop(hung);
    late.start();
    assert_converged(&place.source(), &place.path("hung/copy"));
    drop(agent);
}

/// (8) What failed is known to the process alone: a restart forgets it.
#[test]
fn d08_a_restart_forgets_nothing_that_failed() {
    let mut scene = Scene::configured(
        |source, _| put(&source.join("removed"), "before"),
        // So that no comparison at the start can make up for what was forgotten.
        |config| config.agent("<fullSync atStart=\"never\"/>"),
    );
    put(&scene.at("removed"), "seen");
    scene.converged();
    scene.daemon.stop();
    put(&scene.at("sent/later"), "while the remote was down");
    fs::remove_file(scene.at("removed")).unwrap();
    scene.agent.wait_logged("refused");
    scene.agent.kill();
    scene.agent.start_again();
    scene.agent.terminate();
    scene.daemon.start();
    scene.agent.start_again();
    scene.converged();
}

/// (8) Also: rsync's status 23, some files were not transferred, counts as success, and those files are forgotten.
#[test]
fn d08_a_partial_transfer_is_no_success() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    // With `attrib` off nothing tells of the mode that is mended: only what is remembered is tried again.
    let file = Confxml::new(&place.source()).params("-rlpt").daemon(&daemon, MODULE).write(&place.path("www.xml"));
    let mut launch = place.launch();
    if is_root() {
        fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
        chown(file.with_extension("pass"), Some(65_534), None).unwrap();
        launch = launch.unprivileged();
    }
    let agent = launch.config(&file).start();
    let draft = place.path("draft");
    fs::write(&draft, "not to be read yet").unwrap();
    fs::set_permissions(&draft, Permissions::from_mode(0o200)).unwrap();
    fs::rename(&draft, place.source().join("closed")).unwrap();
    put(&place.source().join("open"), "goes in the same run");
    agent.wait_logged(": closed: ");
    until("the other file", SOON, || place.path("copy/open").exists());
    fs::set_permissions(place.source().join("closed"), Permissions::from_mode(0o644)).unwrap();
    Judge::default().assert_converged(&place.source(), &place.path("copy"), SOON);
}

/// (9) A filter that does not compile is left out, and what it was to keep back is sent; a password file that is not
/// there is not told of either. Here both stop the start, with the line.
#[test]
fn d09_a_filter_or_password_file_that_is_no_good_stops_the_start() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let file = place.path("confxml.xml");
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE);
    let refused = |config: Confxml, words: &[&str]| {
        let output = place.launch().config(&config.write(&file)).output();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in:\n{text}");
    };
    refused(config.clone().exclude(r"(.*)\.gz").exclude("*.log"), &["confxml.xml:7:", "\"*.log\""]);
    refused(config.password_file(&place.path("rsync.pas")), &["confxml.xml:", "rsync.pas", "cannot be read"]);
}

/// (9) Also: a watched directory that is not there is not told of. Here it is, and it is mirrored when it comes.
#[test]
fn d09_a_missing_watched_directory_is_told() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let root = place.path("data/www");
    let file = Confxml::new(&root).daemon(&daemon, MODULE).write(&place.path("confxml.xml"));
    let agent = place.launch().config(&file).spawn();
    agent.wait_logged(&root.display().to_string());
    put(&root.join("page"), "now it is mounted");
    assert_converged(&root, &place.path("copy"));
}

/// (10) Of forty files written one after the other one was missing at the end, twice out of twice.
#[test]
fn d10_forty_single_writes_arrive() {
    let scene = shipped();
    for number in 0..40 {
        put(&scene.at(number.to_string()), format!("write {number}"));
        until("the file", SOON, || scene.copy.join(number.to_string()).exists());
    }
    scene.converged();
}

/// (10) Also: copying a source tree lost an eighth of it.
#[test]
fn d10_a_copied_tree_arrives_whole() {
    let scene = shipped();
    let tree = scene.place.path("tree");
    for directory in 0..150 {
        for file in 0..18 {
            put(&tree.join(format!("{}/{directory}/{file}.c", directory % 12)), format!("{directory} {file}"));
        }
    }
    let copied = Command::new("cp").arg("-r").arg(&tree).arg(scene.at("linux")).status().unwrap();
    assert!(copied.success());
    scene.converged();
}

/// (10) Also: of two hundred files of 5 MB eleven were missing.
#[test]
fn d10_big_files_arrive() {
    let scene = shipped();
    for number in 0..60_u8 {
        put(&scene.at(number.to_string()), vec![number; 1 << 20]);
    }
    scene.converged();
}

/// (11) With `createFile="false"`, as shipped, what is made without being written to is never sent: links and fifos.
#[test]
fn d11_links_and_fifos_arrive_without_create_file() {
    let scene = Scene::configured(|source, _| put(&source.join("file"), "content"), |config| config);
    scene.converged();
    symlink("file", scene.at("symbolic link")).unwrap();
    fs::hard_link(scene.at("file"), scene.at("hard link")).unwrap();
    nix::unistd::mkfifo(&scene.at("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    scene.converged();
}

/// (12) A file that changes twice within a second and keeps its size stays as it was for ever: rsync takes it for equal.
#[test]
fn d12_a_change_within_the_same_second_at_the_same_size_arrives() {
    let scene = shipped();
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_500_000_000);
    for content in ["AAAA", "BBBB", "CCCC", "DDDD"] {
        put(&scene.at("counter"), content);
        set_modified(&scene.at("counter"), second);
        scene.converged();
    }
}
