//! Remotes of every kind and in every mood: dead, refusing, old, slow, by ssh, by directory.

mod support;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use support::agent::Agent;
use support::config::Confxml;
use support::rsyncd::{Daemon, PASSWORD, Plan};
use support::scene::{MODULE, Place, Scene};
use support::sshd::Sshd;
use support::tree::{Judge, assert_converged, put, set_modified};
use support::{SOON, left_out, skip, steadily, until};

/// The time from a write to its arrival in each of `copies`; the median of `rounds`.
fn latency(source: &Path, copies: &[PathBuf], rounds: u32, tag: &str) -> Duration {
    let mut times = (0..rounds)
        .map(|round| {
            let name = format!("{tag}{round}");
            let start = Instant::now();
            put(&source.join(&name), "x".repeat(1000));
            until("the arrival", SOON, || copies.iter().all(|copy| copy.join(&name).exists()));
            start.elapsed()
        })
        .collect::<Vec<_>>();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_dead_remote_holds_up_nobody_and_catches_up() {
    let place = Place::new();
    let plan = |name: &str| Plan::new(&place.path(name)).module(MODULE, &place.path(&format!("{name}/copy")), &[]);
    let (first, second) = (plan("d1").start(), plan("d2").start());
    let mut dead = plan("d3").start();
    let source = place.source();
    let agent = place.launch().mirror(&source, [first.url(MODULE), second.url(MODULE), dead.url(MODULE)]).start();
    let copies = ["d1/copy", "d2/copy"].map(|name| place.path(name));
    let all = latency(&source, &copies, 15, "all");
    assert_converged(&source, &place.path("d3/copy"));

    dead.stop();
    let without = latency(&source, &copies, 15, "without");
    // A remote that held them up would cost its whole time-out or backoff, a second at the very least.
    assert!(without < all * 5 + Duration::from_millis(100), "{all:?} with all alive, {without:?} with one dead");

    for path in ["later/file", "later/second"] {
        put(&source.join(path), "written while one was dead");
    }
    fs::remove_file(source.join("all0")).unwrap();
    for copy in &copies {
        assert_converged(&source, copy);
    }
    dead.start();
    assert_converged(&source, &place.path("d3/copy"));
    drop(agent);
}

#[test]
fn a_remote_that_is_dead_at_the_start_is_served_when_it_comes() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).stopped();
    put(&place.source().join("before"), "the start");
    let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    put(&place.source().join("after"), "the start");
    agent.wait_logged("refused");
    daemon.start();
    assert_converged(&place.source(), &place.path("copy"));
}

#[test]
fn a_wrong_password_is_named_and_mended_later() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).secret("another one").start();
    let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    put(&place.source().join("file"), "content");
    agent.wait_logged("auth failed");
    daemon.set_secret(PASSWORD);
    assert_converged(&place.source(), &place.path("copy"));
}

/// Runs a remote whose module has `fault`, waits until the agent says `words`, mends it, and expects equality.
fn named_and_mended(fault: &[&str], words: &str, disturb: impl FnOnce(&Scene)) {
    let mut scene = Scene::prepared(|source, _| put(&source.join("first/file"), "content"));
    scene.converged();
    scene.daemon.set_module(MODULE, fault);
    disturb(&scene);
    scene.agent.wait_logged(words);
    scene.daemon.set_module(MODULE, &[]);
    scene.converged();
}

#[test]
fn a_read_only_module_is_named_and_mended() {
    named_and_mended(&["read only = yes"], "read only", |scene| put(&scene.at("more"), "content"));
}

#[test]
fn a_module_that_refuses_delete_is_named_and_mended() {
    named_and_mended(&["refuse options = delete"], "refuse", |scene| {
        fs::remove_dir_all(scene.at("first")).unwrap();
    });
}

#[test]
fn a_full_house_is_named_and_mended() {
    named_and_mended(&["max connections = -1"], "max connections", |scene| put(&scene.at("more"), "content"));
}

#[test]
fn a_missing_module_is_named() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let agent = place.launch().mirror(&place.source(), [daemon.url("misspelt")]).start();
    put(&place.source().join("file"), "content");
    agent.wait_logged("unknown module");
}

/// Everything a remote is asked for, once.
fn exercise(source: &Path, copy: &Path) {
    exercise_judged(source, copy, &Judge::default());
}

fn exercise_judged(source: &Path, copy: &Path, judge: &Judge) {
    let converged = || judge.assert_converged(source, copy, SOON);
    put(&source.join("dir/one"), "1");
    put(&source.join("dir/two"), "2");
    converged();
    put(&source.join("dir/one"), "3");
    fs::rename(source.join("dir/two"), source.join("moved")).unwrap();
    converged();
    put(&source.join("tree/a/b/c/d"), "deep");
    put(&source.join("star*[x]"), "pattern");
    put(&source.join("back\\slash*/\\*"), "pattern");
    converged();
    // One size, one second, a run between: only the content can tell.
    let time = SystemTime::now();
    for content in ["a", "b", "c"] {
        for path in ["dir/one", "tree/a/b/c/d"] {
            put(&source.join(path), content);
            set_modified(&source.join(path), time);
        }
        converged();
    }
    fs::remove_dir_all(source.join("tree")).unwrap();
    fs::remove_dir_all(source.join("back\\slash*")).unwrap();
    fs::remove_file(source.join("star*[x]")).unwrap();
    fs::remove_file(source.join("moved")).unwrap();
    put(&source.join("moved/now a directory"), "swapped");
    converged();
    fs::remove_dir_all(source.join("dir")).unwrap();
    put(&source.join("dir"), "now a file");
    converged();
}

/// What only the remote has, and the expression `.*\.log` excludes.
const KEPT: [&str; 3] = ["kept.log", "superfluous/inner/kept.log", "dir/kept.log"];

/// An old remote: by its looks, and by what it may cost.
struct Old {
    // In the order of their ends: the agent first, its files last.
    agent: Agent,
    _daemon: Daemon,
    judge: Judge,
    place: Place,
}

impl Old {
    /// The agent's config excludes `excludes`.
    fn start(settings: &[&str], binary: Option<&Path>, judge: Judge, excludes: &[&str]) -> Self {
        let place = Place::new();
        let plan = place.plan(settings);
        let daemon = binary.into_iter().fold(plan, |plan, binary| plan.binary(binary)).start();
        put(&place.path("copy").join("superfluous/old"), "from before");
        put(&place.source().join("here"), "from before");
        if !excludes.is_empty() {
            // Before the agent is there: what comes between a look at the remote and a deletion there, nobody spares.
            for own in KEPT {
                put(&place.path("copy").join(own), "the remote's");
            }
        }
        let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).params("-a").attrib();
        let config = excludes.iter().fold(config, |config, expression| config.exclude(expression));
        let file = config.write(&place.path("old.xml"));
        let agent = place.launch().environment("SERSYNC_LOG", "debug").config(&file).start();
        Self { agent, _daemon: daemon, judge, place }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.place.source().join(path)
    }

    fn copy(&self, path: &str) -> PathBuf {
        self.place.path("copy").join(path)
    }

    fn converged(&self) {
        self.judge.assert_converged(&self.place.source(), &self.place.path("copy"), SOON);
    }

    /// How often rsync was started so far.
    fn runs(&self) -> usize {
        self.agent.log().lines().filter(|line| line.starts_with("debug: rsync")).count()
    }

    /// The options that it was told not to accept, as often as told.
    fn refused(&self) -> Vec<String> {
        let log = self.agent.log();
        let told = log.lines().filter_map(|line| Some(line.split_once("does not accept ")?.1.split_once(": ")?.0));
        let mut options = told.map(str::to_owned).collect::<Vec<_>>();
        options.sort();
        options
    }

    /// Waits until nothing is pending and nothing runs.
    fn settled(&self) {
        self.converged();
        // What else a run makes necessary is in the status within a tenth of a second.
        steadily("the end of its runs", SOON, Duration::from_millis(300), || {
            let status = self.agent.notified().into_iter().rev().find(|line| line.starts_with("STATUS="));
            self.agent.children().is_empty() && status.is_some_and(|status| status.contains("in sync"))
        });
    }

    /// What one change of each kind costs in runs: a file, a deletion, a deleted tree.
    fn costs(&self) -> [usize; 3] {
        let cost = |change: &dyn Fn()| {
            self.settled();
            let before = self.runs();
            change();
            self.settled();
            self.runs() - before
        };
        put(&self.at("cost/tree/deep/file"), "x");
        self.settled();
        [
            cost(&|| put(&self.at("cost/file"), "x")),
            cost(&|| fs::remove_file(self.at("cost/file")).unwrap()),
            // In one step: entry by entry it may take longer than changes are gathered.
            cost(&|| fs::rename(self.at("cost/tree"), self.place.path("gone")).unwrap()),
        ]
    }

    /// All that is asked of a remote. What it refuses is learned and told once, and then nothing is tried in vain.
    fn serves(mut self, refused: Option<&[&str]>) {
        exercise_judged(&self.place.source(), &self.place.path("copy"), &self.judge);
        let costs = self.costs();
        assert_eq!(costs, [1, 1, 1], "{}", self.agent.log());
        let mut told = self.refused();
        if let Some(refused) = refused {
            assert_eq!(told, refused);
        }
        told.dedup();
        assert_eq!(told, self.refused(), "told more than once");

        // A full sync brings what is missing and takes what is superfluous.
        self.agent.terminate();
        put(&self.copy("superfluous/again"), "nobody watched");
        put(&self.at("missing/again"), "nobody watched");
        self.agent.start_anew();
        self.settled();
        let log = self.agent.log();
        assert!(!log.contains("warning: RsyncFailed") && !log.contains("warning: ConnectionLost"), "{log}");
    }
}

/// What a daemon of version 3.0.6 does not know. `refuse options` answers as politely as an old one does not; the
/// real thing is below.
#[test]
fn a_remote_without_delete_missing_args_is_served() {
    let old = Old::start(&["refuse options = delete-missing-args"], None, Judge::default(), &[]);
    old.serves(Some(&["--delete-missing-args"]));
}

#[test]
fn a_remote_without_modify_window_is_served() {
    let old = Old::start(&["refuse options = modify-window"], None, Judge::default(), &[]);
    old.serves(Some(&["--modify-window=-1"]));
}

#[test]
fn a_remote_without_either_is_served() {
    let old = Old::start(&["refuse options = delete-missing-args modify-window"], None, Judge::default(), &[]);
    old.serves(Some(&["--delete-missing-args", "--modify-window=-1"]));
}

#[test]
fn old_remotes_are_served_under_a_filter() {
    let old =
        Old::start(&["refuse options = delete-missing-args modify-window"], None, Judge::default(), &[r".*\.log"]);
    filtered(old);
}

/// The daemon leaves the refused option out without a word, and where the path that is gone comes first in the list
/// the run succeeds and deletes nothing.
#[test]
fn a_deletion_that_a_remote_passes_over_is_done_in_another_way() {
    for excludes in [&[][..], &[r".*\.log"]] {
        let old = Old::start(&["refuse options = delete-missing-args"], None, Judge::default(), excludes);
        put(&old.at("only"), "x");
        put(&old.at("tree/a/file"), "x");
        until("the files", SOON, || old.copy("only").exists() && old.copy("tree/a/file").exists());
        fs::remove_file(old.at("only")).unwrap();
        until("the deletion of the file", SOON, || !old.copy("only").exists());
        fs::remove_dir_all(old.at("tree")).unwrap();
        until("the deletion of the tree", SOON, || !old.copy("tree").exists());
    }
}

/// What is excluded neither reaches the remote nor goes from there.
fn filtered(old: Old) {
    put(&old.at("dir/ours.log"), "ours");
    for path in ["dir/file", "tree/a/file", "swap/inner", "back\\slash*[x]/file*", "swapped"] {
        put(&old.at(path), "yes");
    }
    let is = |path: &str| old.copy(path).exists();
    until("the files", SOON, || {
        ["dir/file", "tree/a/file", "back\\slash*[x]/file*", "swap/inner"].iter().all(|p| is(p))
    });
    until("the end of the superfluous", SOON, || !is("superfluous/old"));
    fs::remove_dir_all(old.at("tree")).unwrap();
    fs::remove_dir_all(old.at("back\\slash*[x]")).unwrap();
    fs::remove_file(old.at("dir/file")).unwrap();
    fs::remove_dir_all(old.at("swap")).unwrap();
    put(&old.at("swap"), "a file now");
    fs::remove_file(old.at("swapped")).unwrap();
    put(&old.at("swapped/inner"), "a directory now");
    put(&old.at("dir/last"), "yes");
    let gone = ["tree", "dir/file", "back\\slash*[x]"];
    until("the deletions", SOON, || !gone.iter().any(|path| is(path)));
    until("the swaps", SOON, || is("dir/last") && old.copy("swap").is_file() && is("swapped/inner"));
    fs::remove_dir_all(old.at("dir")).unwrap();
    until("the last deletion", SOON, || !is("dir/last"));
    assert!(!is("dir/ours.log"), "an excluded file was sent");
    for own in KEPT {
        assert!(is(own), "{own} is excluded and was deleted");
    }
    let log = old.agent.log();
    assert!(!log.contains("warning: RsyncFailed") && !log.contains("warning: ConnectionLost"), "{log}");
}

/// The rsync binaries of other versions that `SERSYNC_TEST_RSYNC_OLD=path:path` names.
fn old_binaries() -> Vec<PathBuf> {
    let Some(binaries) = std::env::var_os("SERSYNC_TEST_RSYNC_OLD") else {
        left_out(
            "SERSYNC_TEST_RSYNC_OLD is not set: build rsync 3.0.6 and 3.1.1 and name the binaries there, separated by a \
             colon (what they refuse is emulated by other tests)",
        );
        return Vec::new();
    };
    std::env::split_paths(&binaries).collect()
}

#[test]
fn real_old_daemons_are_served() {
    for binary in old_binaries() {
        let old = Old::start(&[], Some(&binary), Judge::default().whole_seconds(), &[]);
        old.serves(None);
    }
}

#[test]
fn real_old_daemons_are_served_under_a_filter() {
    for binary in old_binaries() {
        filtered(Old::start(&[], Some(&binary), Judge::default().whole_seconds(), &[r".*\.log"]));
    }
}

#[test]
fn ipv6_is_served() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skip("this machine has no IPv6 loopback address");
    }
    let place = Place::new();
    let daemon = place.plan(&[]).address(IpAddr::V6(Ipv6Addr::LOCALHOST)).start();
    let _agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    exercise(&place.source(), &place.path("copy"));
}

#[test]
fn a_local_directory_is_served() {
    let place = Place::new();
    put(&place.make("copy").join("superfluous/old"), "from before");
    // Of an empty tree nothing is deleted.
    put(&place.source().join("first"), "there before the start");
    let _agent = place.launch().mirror(&place.source(), [place.path("copy")]).start();
    exercise(&place.source(), &place.path("copy"));
}

/// Three remotes of a config file: one port, three addresses.
#[test]
fn three_remotes_of_one_config_are_served() {
    let place = Place::new();
    let plan = |name: &str| Plan::new(&place.path(name)).module(MODULE, &place.path(&format!("{name}/copy")), &[]);
    let first = plan("d1").start();
    let others = ["d2", "d3"].map(|name| plan(name).port(first.port).start());
    let config =
        Confxml::new(&place.source()).daemon(&first, MODULE).daemon(&others[0], MODULE).daemon(&others[1], MODULE);
    let _agent = place.launch().config(&config.params("-a").write(&place.path("www.xml"))).start();
    put(&place.source().join("dir/file"), "content");
    for name in ["d1", "d2", "d3"] {
        assert_converged(&place.source(), &place.path(name).join("copy"));
    }
}

/// With `--bwlimit`, 2 GiB would take a quarter of an hour.
#[test]
fn a_huge_file_in_flight_does_not_hold_up_a_small_one() {
    let scene = Scene::configured(|_, _| {}, |config| config.params("-a --bwlimit=2000"));
    File::create(scene.at("huge")).unwrap().set_len(2 << 30).unwrap();
    until("the huge file in flight", SOON, || {
        fs::read_dir(&scene.copy).unwrap().flatten().any(|entry| {
            entry.file_name().as_encoded_bytes().starts_with(b".huge.") && entry.metadata().is_ok_and(|m| m.len() > 0)
        })
    });
    for round in 0..3 {
        put(&scene.at(format!("small{round}")), "x".repeat(1024));
        until("the small file", SOON, || scene.copy.join(format!("small{round}")).exists());
    }
    assert!(!scene.copy.join("huge").exists(), "the huge file has arrived already, so this showed nothing");
}

#[test]
fn ssh_is_served() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let destination = format!("{}:{}", Sshd::HOST, place.make("copy").display());
    let mut agent = place.launch().environment("PATH", &sshd.path).mirror(&place.source(), [destination]).start();
    exercise(&place.source(), &place.path("copy"));
    // By now the shared connection stands, and no run logs in by itself.
    let logins = || fs::read_to_string(place.path("sshd/log")).unwrap().matches("Accepted publickey").count();
    let before = logins();
    for round in 0..5 {
        put(&place.source().join("round"), round.to_string());
        assert_converged(&place.source(), &place.path("copy"));
    }
    assert_eq!(logins(), before, "a run logged in by itself");
    // What ran for it, the shared connection among them, ends with it.
    let children = agent.children();
    agent.terminate();
    until("the end of its ssh processes", SOON, || children.iter().all(|child| !child.lives()));
}

#[test]
fn ssh_of_a_config_file_is_served() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let config = Confxml::new(&place.source()).params("-a").ssh(Sshd::HOST, &place.make("copy"));
    let file = config.write(&place.path("www.xml"));
    let _agent = place.launch().environment("PATH", &sshd.path).config(&file).start();
    exercise(&place.source(), &place.path("copy"));
}

#[test]
fn an_ssh_url_names_the_port() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    // Without the port in the URL ssh would try this one.
    let config = place.path("sshd/bin/ssh_config");
    let port = sshd.address.port();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace(&format!("Port {port}\n"), "Port 1\n")).unwrap();
    let copy = place.make("copy");
    let url = format!("ssh://{}:{port}{}", Sshd::HOST, copy.display());
    let _agent = place.launch().environment("PATH", &sshd.path).mirror(&place.source(), [url]).start();
    put(&place.source().join("a/b"), "by ssh");
    assert_converged(&place.source(), &copy);
}
