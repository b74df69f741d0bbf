//! The fail log is a script that mends the remote when somebody runs it, whatever the names are; it is private, never
//! goes through a link, and is empty when all is well.

mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::agent::Agent;
use support::config::Confxml;
use support::rsyncd::Daemon;
use support::scene::{MODULE, Place};
use support::tree::{assert_converged, name, put};
use support::{SOON, eventually, until};

struct Scene {
    // In the order of their ends: the agent first, its files last.
    agent: Agent,
    daemon: Daemon,
    report: PathBuf,
    place: Place,
}

impl Scene {
    fn start(prepare: impl FnOnce(&Path), change: impl FnOnce(Confxml) -> Confxml) -> Self {
        let place = Place::new();
        let daemon = place.plan(&[]).start();
        let report = place.make("reports").join("failed.sh");
        prepare(&report);
        let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).params("-a");
        let element = format!("<failLog path=\"{}\" timeToExecute=\"1\"/>", report.display());
        let file = change(config.sersync(&element)).write(&place.path("confxml.xml"));
        let agent = place.launch().config(&file).start();
        Self { agent, daemon, report, place }
    }

    fn converged(&self) {
        assert_converged(&self.place.source(), &self.place.path("copy"));
    }

    /// Waits until the report names all that `words` say.
    fn reported(&self, words: &[&str]) -> String {
        eventually(&format!("a report of {words:?}"), SOON, || {
            let text = fs::read_to_string(&self.report).unwrap_or_default();
            if words.iter().all(|word| text.contains(word)) { Ok(text) } else { Err(text) }
        })
    }

    /// Runs the report as somebody would by hand, in a directory of its own.
    fn run_by_hand(&self) -> Output {
        let script = self.place.path("by-hand.sh");
        fs::copy(&self.report, &script).unwrap();
        Command::new("sh").arg(&script).current_dir(self.place.make("elsewhere")).output().unwrap()
    }
}

/// Names that mean something to a shell, to printf(1), to rsync or to a terminal.
fn odd_names() -> Vec<OsString> {
    let names: [&[u8]; 12] = [
        b"quote' and \"another\"",
        b"`touch owned`",
        b"$(touch owned)",
        b"two\nlines; touch owned\n",
        b"%s%n\\000\\",
        b"-e",
        b"#comment",
        b"*[a]?",
        b"bytes \xff\xfe",
        b"red \x1b[31m",
        "图片 \u{202e}".as_bytes(),
        b"';touch owned;'",
    ];
    names.map(name).to_vec()
}

#[test]
fn run_by_hand_it_mends_the_remote_and_runs_no_name() {
    let mut scene = Scene::start(|_| (), |config| config);
    put(&scene.place.source().join("gone/deep"), "x");
    put(&scene.place.source().join("changed"), "before");
    put(&scene.place.source().join("odd/first"), "x");
    scene.converged();
    scene.daemon.stop();
    for name in odd_names() {
        put(&scene.place.source().join("odd").join(&name), name.as_bytes());
        put(&scene.place.source().join(&name).join("below"), "in a directory");
    }
    fs::remove_dir_all(scene.place.source().join("gone")).unwrap();
    put(&scene.place.source().join("changed"), "after!");
    let text = scene.reported(&["touch owned", "gone", "changed", "图片", "\\033"]);
    assert_eq!(fs::metadata(&scene.report).unwrap().mode() & 0o7777, 0o600);
    assert!(!text.contains(support::rsyncd::PASSWORD), "{text}");
    assert!(text.starts_with("#!/bin/sh\n") && !text.contains('\x1b') && !text.contains('\u{202e}'));
    assert!(text.contains("--password-file="), "{text}");

    // Nobody but the script brings it there.
    scene.agent.kill();
    scene.daemon.start();
    let output = scene.run_by_hand();
    assert!(output.status.success(), "{output:?}");
    scene.converged();
    for place in ["elsewhere", "source", "copy", "reports", "."] {
        assert!(!scene.place.path(place).join("owned").exists(), "a name was run in {place}");
    }
}

#[test]
fn it_is_emptied_when_all_is_well_and_keeps_no_secret_place() {
    let mut scene = Scene::start(|report| fs::write(report, "what an earlier run left").unwrap(), |config| config);
    until("the old report to be emptied", SOON, || fs::metadata(&scene.report).unwrap().len() == 0);
    scene.daemon.stop();
    put(&scene.place.source().join("page"), "x");
    scene.reported(&["printf 'page\\000'"]);
    scene.daemon.start();
    scene.converged();
    until("the report to be emptied", SOON, || fs::metadata(&scene.report).unwrap().len() == 0);
    assert_eq!(fs::metadata(&scene.report).unwrap().mode() & 0o7777, 0o600);
    let left: Vec<_> =
        fs::read_dir(scene.report.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, [scene.report.clone()]);
}

#[test]
fn a_planted_link_is_not_followed_and_told() {
    let scene = Scene::start(
        |report| {
            let victim = report.with_file_name("victim");
            fs::write(&victim, "precious").unwrap();
            symlink(victim, report).unwrap();
        },
        |config| config,
    );
    scene.agent.wait_logged("is a symbolic link, and is left alone");
    put(&scene.place.source().join("page"), "x");
    scene.converged();
    assert_eq!(fs::read_to_string(scene.report.with_file_name("victim")).unwrap(), "precious");
    assert!(fs::symlink_metadata(&scene.report).unwrap().is_symlink());
}

#[test]
fn run_while_the_root_is_empty_it_deletes_nothing() {
    let mut scene = Scene::start(|_| (), |config| config.agent("<fullSync atStart=\"always\"/>"));
    put(&scene.place.source().join("dir/page"), "x");
    scene.converged();
    scene.daemon.stop();
    fs::remove_dir_all(scene.place.source().join("dir")).unwrap();
    scene.reported(&["printf 'dir\\000'"]);
    scene.agent.kill();
    scene.daemon.start();
    let output = scene.run_by_hand();
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("nothing is done"),
        "{output:?}"
    );
    assert!(scene.place.path("copy/dir/page").exists());
}

#[test]
fn under_a_filter_it_sends_and_deletes_nothing_that_is_excluded() {
    let mut scene = Scene::start(|_| (), |config| config.exclude(r".*\.log"));
    put(&scene.place.source().join("dir/page"), "x");
    // A directory that is new later on would have to be compared as a whole.
    put(&scene.place.source().join("new/first"), "x");
    scene.converged();
    put(&scene.place.path("copy/dir/own.log"), "the remote's");
    scene.daemon.stop();
    put(&scene.place.source().join("new/ours.log"), "no");
    put(&scene.place.source().join("new/page"), "yes");
    fs::remove_dir_all(scene.place.source().join("dir")).unwrap();
    scene.reported(&["new/page", "dir"]);
    scene.agent.kill();
    scene.daemon.start();
    scene.run_by_hand();
    assert!(scene.place.path("copy/new/page").exists() && !scene.place.path("copy/new/ours.log").exists());
    assert!(scene.place.path("copy/dir/own.log").exists());
}
