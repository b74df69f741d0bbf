//! `<keepDeleted days>`: what the mirror deletes or replaces on a remote stays there for some days, for every kind of remote.

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use support::agent::Agent;
use support::config::Confxml;
use support::rsyncd::Daemon;
use support::scene::{MODULE, Place};
use support::sshd::Sshd;
use support::tree::{Judge, put};
use support::{SOON, eventually, until};

/// Where the remote keeps it.
const DIRECTORY: &str = ".sersync-deleted";

/// How the remote is reached.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Daemon,
    Ssh,
    Directory,
}

/// A tree that is mirrored to a remote that keeps what is deleted.
struct Mirror {
    // In the order of their ends: the agent first, its files last.
    agent: Agent,
    daemon: Option<Daemon>,
    _sshd: Option<Sshd>,
    place: Place,
}

impl Mirror {
    /// `None` where this machine has no sshd. `excluded` is the expression of a filter, `prepare` gets source and copy.
    fn start(kind: Kind, excluded: Option<&str>, prepare: impl FnOnce(&Path, &Path)) -> Option<Self> {
        let place = Place::new();
        let copy = place.make("copy");
        let sshd = if kind == Kind::Ssh { Some(Sshd::start(&place.path("sshd"))?) } else { None };
        let daemon = (kind == Kind::Daemon).then(|| place.plan(&[]).start());
        prepare(&place.source(), &copy);
        let config = Confxml::new(&place.source()).rsync("<keepDeleted days=\"7\"/>").agent("<ahead seconds=\"30\"/>");
        let config = config.params("-a").attrib();
        let config = excluded.into_iter().fold(config, Confxml::exclude);
        let config = match kind {
            Kind::Daemon => config.daemon(daemon.as_ref().unwrap(), MODULE),
            Kind::Ssh => config.ssh(Sshd::HOST, &copy),
            Kind::Directory => config.directory(&copy),
        };
        let launch = place.launch().config(&config.write(&place.path("kept.xml")));
        let launch = sshd.iter().fold(launch, |launch, sshd| launch.environment("PATH", &sshd.path));
        let mirror = Self { agent: launch.start(), daemon, _sshd: sshd, place };
        mirror.converged();
        Some(mirror)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.source().join(path)
    }

    fn copy(&self, path: &str) -> PathBuf {
        self.place.path("copy").join(path)
    }

    fn converged(&self) {
        Judge::default().ignoring(DIRECTORY).ignoring("spared.log").assert_converged(
            &self.place.source(),
            &self.place.path("copy"),
            SOON,
        );
    }

    /// The versions of `path` that are kept, oldest first. A file that is sent once more though it is equal is kept once
    /// more: such a version, equal to the next one or to the file itself, does not count.
    fn versions(&self, path: &str) -> Vec<String> {
        let mut runs: Vec<PathBuf> = below(&self.copy(DIRECTORY)).iter().flat_map(|day| below(day)).collect();
        runs.sort();
        let now = fs::read_to_string(self.copy(path)).ok();
        let mut versions: Vec<String> = runs.iter().filter_map(|run| fs::read_to_string(run.join(path)).ok()).collect();
        versions.dedup();
        versions.pop_if(|last| Some(&*last) == now.as_ref());
        versions
    }

    fn expect(&self, path: &str, versions: &[&str]) {
        eventually(path, SOON, || {
            let found = self.versions(path);
            if found == versions { Ok(()) } else { Err(format!("{found:?}, not {versions:?}")) }
        });
    }
}

fn below(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

fn fill(source: &Path) {
    put(&source.join("written"), "first");
    put(&source.join("removed"), "content");
    put(&source.join("tree/a/deep"), "in a tree");
    put(&source.join("tree/b"), "in a tree");
    put(&source.join("d/renamed"), "is renamed");
    put(&source.join("d/replaced"), "is replaced by a rename");
}

/// What is changed live, and while the agent is not there.
fn exercise(kind: Kind, excluded: Option<&str>) {
    let Some(mut mirror) = Mirror::start(kind, excluded, |source, _| fill(source)) else { return };
    mirror.expect("written", &[]);
    let mode = fs::metadata(mirror.copy(DIRECTORY)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700, "what is kept is for the remote's owner alone");

    for (content, before) in [("second", "first"), ("third", "second")] {
        put(&mirror.at("written"), content);
        mirror.converged();
        until("the old version", SOON, || mirror.versions("written").last().is_some_and(|last| last == before));
    }
    mirror.expect("written", &["first", "second"]);
    fs::remove_file(mirror.at("removed")).unwrap();
    fs::remove_dir_all(mirror.at("tree")).unwrap();
    fs::rename(mirror.at("d/renamed"), mirror.at("d/replaced")).unwrap();
    mirror.converged();
    mirror.expect("removed", &["content"]);
    mirror.expect("tree/a/deep", &["in a tree"]);
    mirror.expect("tree/b", &["in a tree"]);
    mirror.expect("d/replaced", &["is replaced by a rename"]);

    // A directory of that name here is none of the remote's.
    put(&mirror.at(&format!("{DIRECTORY}/2000-01-01/of the tree")), "stays here");
    put(&mirror.at("marker"), "comes after it");
    mirror.converged();
    fs::remove_dir_all(mirror.at(DIRECTORY)).unwrap();
    put(&mirror.at("marker"), "comes after its removal");
    mirror.converged();
    mirror.expect("written", &["first", "second"]);
    mirror.expect("of the tree", &[]);

    mirror.agent.kill();
    put(&mirror.at("written"), "fourth, in an outage");
    put(&mirror.at(&format!("{DIRECTORY}/2000-01-01/of the tree")), "stays here");
    fs::remove_dir_all(mirror.at("d")).unwrap();
    put(&mirror.copy("superfluous/only there"), "only there");
    mirror.agent.forget_store();
    mirror.agent.start_again();
    mirror.converged();
    mirror.expect("written", &["first", "second", "third"]);
    mirror.expect("d/replaced", &["is replaced by a rename", "is renamed"]);
    mirror.expect("superfluous/only there", &["only there"]);
    assert!(!mirror.copy(&format!("{DIRECTORY}/2000-01-01")).exists());
}

#[test]
fn an_rsync_daemon_keeps_what_is_deleted_and_replaced() {
    exercise(Kind::Daemon, None);
}

#[test]
fn a_host_behind_ssh_keeps_what_is_deleted_and_replaced() {
    exercise(Kind::Ssh, None);
}

#[test]
fn a_directory_keeps_what_is_deleted_and_replaced() {
    exercise(Kind::Directory, None);
}

#[test]
fn what_is_deleted_under_a_filter_is_kept() {
    exercise(Kind::Daemon, Some(".*\\.log"));
}

#[test]
fn a_remote_that_does_not_exist_yet_keeps_from_the_first_deletion_on() {
    for kind in [Kind::Ssh, Kind::Directory] {
        let prepare = |source: &Path, copy: &Path| {
            fill(source);
            fs::remove_dir(copy).unwrap();
        };
        let Some(mirror) = Mirror::start(kind, None, prepare) else { continue };
        fs::remove_file(mirror.at("removed")).unwrap();
        mirror.converged();
        mirror.expect("removed", &["content"]);
        let mode = fs::metadata(mirror.copy(DIRECTORY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{kind:?}");
    }
}

#[test]
fn days_that_are_over_are_deleted() {
    for kind in [Kind::Daemon, Kind::Ssh, Kind::Directory] {
        let old = ["2019-12-31/23-59-59.999Z/a/b", "2025-02-03/f"];
        // A clock that was wrong, and what somebody else put there.
        let kept = ["2999-01-01/10-00-00.000Z/f", "notes/2019-12-31/f", "2019-12-31.tar"];
        let prepare = |source: &Path, copy: &Path| {
            put(&source.join("file"), "content");
            old.iter().chain(&kept).for_each(|path| put(&copy.join(DIRECTORY).join(path), "old"));
        };
        let Some(mirror) = Mirror::start(kind, None, prepare) else { continue };
        put(&mirror.at("file"), "changed");
        mirror.expect("file", &["content"]);
        for path in old {
            let day = mirror.copy(DIRECTORY).join(&path[..10]);
            until("the end of a day", SOON, || !day.exists());
        }
        for path in kept {
            assert!(mirror.copy(DIRECTORY).join(path).exists(), "{kind:?}: {path}");
        }
        mirror.expect("file", &["content"]);
    }
}

#[test]
fn what_is_kept_does_not_follow_a_link() {
    let elsewhere = tempfile::tempdir().unwrap();
    let place = Place::new();
    let (source, copy) = (place.source(), place.make("copy"));
    put(&source.join("file"), "content");
    symlink(elsewhere.path(), copy.join(DIRECTORY)).unwrap();
    let config = Confxml::new(&source).rsync("<keepDeleted/>").directory(&copy).write(&place.path("kept.xml"));
    let agent = place.launch().config(&config).start();
    agent.wait_logged(".sersync-deleted of the remote is not a directory");
    fs::remove_file(copy.join(DIRECTORY)).unwrap();
    Judge::default().ignoring(DIRECTORY).assert_converged(&source, &copy, SOON);
    assert_eq!(below(elsewhere.path()).len(), 0);
}

#[test]
fn a_daemon_that_does_not_keep_gets_nothing_and_is_named() {
    let Some(mut mirror) = Mirror::start(Kind::Daemon, None, |source, _| fill(source)) else { return };
    mirror.daemon.as_mut().unwrap().set_module(MODULE, &["refuse options = backup-dir"]);
    fs::remove_file(mirror.at("removed")).unwrap();
    mirror.agent.wait_logged("backup-dir");
    assert!(mirror.copy("removed").exists(), "it would be lost");
    mirror.daemon.as_mut().unwrap().set_module(MODULE, &[]);
    mirror.converged();
    mirror.expect("removed", &["content"]);
}

#[test]
fn without_the_setting_the_name_means_nothing() {
    let place = Place::new();
    let (source, copy) = (place.source(), place.make("copy"));
    put(&source.join(DIRECTORY).join("file"), "mirrored");
    put(&copy.join(DIRECTORY).join("2026-11-28/old"), "superfluous");
    let config = Confxml::new(&source).directory(&copy).write(&place.path("plain.xml"));
    let _agent = place.launch().config(&config).start();
    Judge::default().assert_converged(&source, &copy, SOON);
    put(&source.join("other"), "first");
    Judge::default().assert_converged(&source, &copy, SOON);
    fs::remove_file(source.join("other")).unwrap();
    Judge::default().assert_converged(&source, &copy, SOON);
}
