//! Mirrors that meet: trees that mirror each other, copies inside one another. Nothing is lost, whatever starts first.

mod support;

#[allow(dead_code, reason = "only the bus is used here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

use bus::PrivateBus;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::agent::{Agent, Launch};
use support::config::Confxml;
use support::host::Lan;
use support::rsyncd::{Daemon, Plan};
use support::scene::{MODULE, Place};
use support::sshd::Sshd;
use support::tree::{assert_converged, put};
use support::{SOON, is_root, skip, steadily, until};

/// Files that only one of the trees has at first.
const FILES: usize = 60;

/// Fills `tree` with files named after it, some of them in directories.
fn fill(tree: &Path, name: &str) {
    for number in 0..FILES {
        put(&tree.join(format!("{name}{number}")), "content");
        put(&tree.join(format!("{name}-dir{}/{number}", number % 7)), "content");
    }
}

/// The files of a tree, hidden ones aside.
fn files(tree: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![tree.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && !is_hidden => open.push(entry.path()),
                Ok(kind) if kind.is_file() && !is_hidden => {
                    found.insert(entry.path().strip_prefix(tree).unwrap().to_owned());
                }
                _ => {}
            }
        }
    }
    found
}

/// Nothing of what `trees` had at first is missing from any of them.
fn assert_nothing_lost(trees: &[PathBuf], before: &BTreeSet<PathBuf>) {
    for tree in trees {
        let lost: Vec<_> = before.difference(&files(tree)).take(5).cloned().collect();
        assert!(lost.is_empty(), "{}: lost {lost:?}, …", tree.display());
    }
}

fn refused(launch: &Launch, words: &[&str]) {
    let output = launch.output();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(78), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[test]
fn a_config_in_which_two_trees_mirror_each_other_is_refused_before_anything_is_sent() {
    let place = Place::new();
    let (one, other) = (place.make("one"), place.make("other"));
    fill(&one, "a");
    fill(&other, "b");
    let linked = place.path("linked");
    std::os::unix::fs::symlink(&one, &linked).unwrap();
    let (files_of_one, files_of_other) = (files(&one), files(&other));
    for back in [one.clone(), linked, one.join("deep/er")] {
        let file = place.path("circle.xml");
        let localpaths = localpath(&one, &directory(&other)) + &localpath(&other, &directory(&back));
        let text = format!("<sersync>{localpaths}</sersync>");
        fs::write(&file, format!("<head version=\"2.5\">{text}</head>")).unwrap();
        refused(&place.launch().config(&file).argument("-r"), &["circle.xml:1", "a loop"]);
        assert_eq!((files(&one), files(&other)), (files_of_one.clone(), files_of_other.clone()));
        let check = std::process::Command::new(env!("CARGO_BIN_EXE_sersyncctl")).arg("check").arg(&file).output();
        let check = check.unwrap();
        assert_eq!(check.status.code(), Some(2), "{}", String::from_utf8_lossy(&check.stdout));
        assert!(String::from_utf8_lossy(&check.stdout).contains("a loop"));
    }
}

#[test]
fn overlapping_destinations_are_refused() {
    let place = Place::new();
    let link = place.path("link");
    std::os::unix::fs::symlink(place.make("copies"), &link).unwrap();
    let (one, other) = (place.make("one"), place.make("other"));
    let remote = |to: &str| match to.split_once("::") {
        Some((host, module)) => format!("<remote ip=\"{host}\" name=\"{module}\"/>"),
        None => format!("<remote directory=\"{to}\"/>"),
    };
    let at = |name: &str| place.path(name).display().to_string();
    for (first, second) in [
        ("h::m".to_owned(), "h::m/sub".to_owned()),
        ("127.0.0.1::m".to_owned(), "localhost::m".to_owned()),
        ("u@h::m".to_owned(), "h::m".to_owned()),
        ("H::m".to_owned(), "h::m".to_owned()),
        ("h::m/x/../c".to_owned(), "h::m/c".to_owned()),
        (at("copies"), at("link/sub")),
        (at("copies"), at("copies/../link")),
    ] {
        let file = place.path("overlap.xml");
        let localpaths = [localpath(&one, &remote(&first)), localpath(&other, &remote(&second))];
        let text = format!("<sersync>{}</sersync>", localpaths.join("\n"));
        fs::write(&file, format!("<head version=\"2.5\">\n{text}</head>")).unwrap();
        refused(&place.launch().config(&file), &["overlap.xml:3", "each would delete what the other sent"]);
    }
    let nested = place.launch().mirror(&one, ["h::m", "h::m/sub"]);
    refused(&nested, &["h::m/sub lies inside h::m"]);
    let watched_inside = place.path("contains.xml");
    let localpaths =
        localpath(&one, &directory(&place.path("backup"))) + &localpath(&place.path("backup/www"), &remote("h::m"));
    fs::write(&watched_inside, format!("<head version=\"2.5\"><sersync>{localpaths}</sersync></head>")).unwrap();
    refused(&place.launch().config(&watched_inside), &["which is watched", "would delete it"]);
}

#[test]
fn two_instances_that_start_together_lose_nothing() {
    let place = Place::new();
    let bus = PrivateBus::start();
    let trees = [place.make("first"), place.make("second")];
    fill(&trees[0], "a");
    fill(&trees[1], "b");
    let before: Vec<_> = trees.iter().map(|tree| files(tree)).collect();
    let launch = |instance: &str, from: &Path, to: &Path| {
        let launch = Launch::new(&place.make(instance)).mirror(from, [to]);
        let launch = launch.argument("-r").argument("--user").argument("--instance").argument(instance);
        launch.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address)
    };
    let mut agents = [launch("there", &trees[0], &trees[1]).spawn(), launch("back", &trees[1], &trees[0]).spawn()];
    // Each is on the bus before it looks for others: at least one sees the other.
    let ended = |agent: &Agent| agent.log().contains("a loop");
    until("one of them is refused", SOON, || agents.iter().any(ended));
    let refused = agents.iter_mut().filter(|agent| ended(agent));
    for agent in refused {
        assert_eq!(agent.wait_ended(SOON).code(), Some(78));
    }
    for (tree, before) in trees.iter().zip(&before) {
        assert_nothing_lost(std::slice::from_ref(tree), before);
    }
}

fn localpath(watch: &Path, remote: &str) -> String {
    format!("<localpath watch=\"{}\">{remote}</localpath>", watch.display())
}

fn directory(to: &Path) -> String {
    format!("<remote directory=\"{}\"/>", to.display())
}

#[test]
fn a_reload_that_makes_mirrors_meet_is_refused() {
    let place = Place::new();
    let (one, other) = (place.make("one"), place.make("other"));
    fill(&one, "a");
    let config = |localpaths: &str| {
        let file = place.path("reload.xml");
        fs::write(&file, format!("<head version=\"2.5\"><sersync>{localpaths}</sersync></head>")).unwrap();
        file
    };
    let file = config(&localpath(&one, &directory(&other)));
    let agent = place.launch().config(&file).start();
    until("it is mirrored", SOON, || files(&one) == files(&other));
    config(&(localpath(&one, &directory(&other)) + &localpath(&other, &directory(&one))));
    agent.signal(nix::sys::signal::Signal::SIGHUP);
    agent.wait_logged("a loop");
    put(&one.join("later"), "content");
    until("the old config stays in force", SOON, || files(&one) == files(&other));
}

#[test]
fn a_chain_deletes_by_request_only() {
    let place = Place::new();
    let bus = PrivateBus::start();
    let [one, other, last] = ["one", "other", "last"].map(|name| place.make(name));
    fill(&one, "a");
    put(&other.join("of-its-own"), "content");
    let file = place.path("chain.xml");
    let localpaths = localpath(&one, &directory(&other)) + &localpath(&other, &directory(&last));
    fs::write(&file, format!("<head version=\"2.5\"><sersync>{localpaths}</sersync></head>")).unwrap();
    let launch = place.launch().config(&file).argument("-r").argument("--user");
    let agent = launch.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address).start();
    let expected: BTreeSet<PathBuf> = files(&one).into_iter().chain(["of-its-own".into()]).collect();
    until("all is in both copies", SOON, || files(&other) == expected && files(&last) == expected);
    agent.wait_notified_from(0, |line| line.contains("1 deletion is withheld"));
    assert_eq!(files(&other), expected);
    resync(&bus, "chain");
    until("both copies are equal", SOON, || files(&other) == files(&one) && files(&last) == files(&one));
}

#[test]
fn a_remote_that_takes_no_probe_deletes_by_request_only() {
    let place = Place::new();
    let bus = PrivateBus::start();
    let daemon = place.plan(&["exclude = .sersync-probe-*"]).start();
    let (source, copy) = (place.source(), place.path("copy"));
    fill(&source, "a");
    put(&copy.join("of-its-own"), "content");
    let launch = place.launch().mirror(&source, [daemon.url(MODULE)]).argument("-r").argument("--user");
    let agent = launch.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address).start();
    agent.wait_notified_from(0, |line| line.contains("1 deletion is withheld"));
    put(&source.join("later"), "content");
    let expected: BTreeSet<PathBuf> = files(&source).into_iter().chain(["of-its-own".into()]).collect();
    until("all is sent, nothing is deleted", SOON, || files(&copy) == expected);
    resync(&bus, "source");
    until("the copy is equal", SOON, || files(&copy) == files(&source));
}

fn resync(bus: &PrivateBus, instance: &str) {
    let mut resync = std::process::Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    support::tool(resync.args(["--user", "resync", instance]).env("DBUS_SESSION_BUS_ADDRESS", &bus.address));
}

/// The same where deletions may be withheld, which a full sync reports as a failure.
fn resync_or_withhold(bus: &PrivateBus, instance: &str) {
    let mut resync = std::process::Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    resync.args(["--user", "resync", instance]).env("DBUS_SESSION_BUS_ADDRESS", &bus.address);
    let output = resync.output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How the members of a circle reach each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// Directories of this machine; the agents do not see each other, because they have no bus.
    Directory,
    /// Modules of daemons on this machine.
    Module,
    /// ssh to this machine.
    Ssh,
    /// Modules of daemons on hosts of their own.
    Hosts,
}

/// Agents in a circle: each mirrors its tree to the next one's.
struct Circle {
    agents: Vec<Agent>,
    daemons: Vec<Daemon>,
    trees: Vec<PathBuf>,
    by: By,
    sshd: Option<Sshd>,
    lan: Option<Lan>,
    place: Place,
}

impl Circle {
    /// `None`, with the reason printed, where this machine lacks something for it.
    fn prepare(count: u8, by: By) -> Option<Self> {
        if by == By::Hosts && !is_root() {
            skip("network namespaces need root");
            return None;
        }
        let place = Place::new();
        let sshd = if by == By::Ssh { Some(Sshd::start(&place.path("sshd"))?) } else { None };
        let lan = (by == By::Hosts).then(|| Lan::new(count));
        let trees: Vec<PathBuf> = (0..count).map(|number| place.make(&format!("tree{number}"))).collect();
        for (tree, name) in trees.iter().zip(["a", "b", "c"]) {
            fill(tree, name);
        }
        let plan = |(number, tree): (usize, &PathBuf)| {
            let plan = Plan::new(&place.path(&format!("daemon{number}"))).module("tree", tree, &[]);
            lan.as_ref().map_or(plan.clone(), |lan| plan.on(&lan.hosts[number])).start()
        };
        let daemons = match by {
            By::Module | By::Hosts => trees.iter().enumerate().map(plan).collect(),
            By::Directory | By::Ssh => Vec::new(),
        };
        Some(Self { agents: Vec::new(), daemons, trees, by, sshd, lan, place })
    }

    fn launch(&self, number: usize) -> Launch {
        let next = (number + 1) % self.trees.len();
        let to = match self.by {
            By::Directory => self.trees[next].display().to_string(),
            By::Ssh => format!("{}:{}", Sshd::HOST, self.trees[next].display()),
            By::Module | By::Hosts => self.daemons[next].url("tree"),
        };
        let launch = Launch::new(&self.place.path(&format!("agent{number}")));
        let launch = launch.mirror(&self.trees[number], [to]).argument("-r");
        let launch = self.lan.iter().fold(launch, |launch, lan| launch.on(&lan.hosts[number]));
        self.sshd.iter().fold(launch, |launch, sshd| launch.environment("PATH", &sshd.path))
    }

    /// The files of all trees.
    fn files(&self) -> BTreeSet<PathBuf> {
        self.trees.iter().flat_map(|tree| files(tree)).collect()
    }

    /// Starts the agents in that order, and waits until each tree has all files and keeps them.
    fn run(&mut self, order: &[usize]) {
        let (before, own) = (self.files(), self.trees.iter().map(|tree| files(tree)).collect::<Vec<_>>());
        for number in order {
            self.agents.push(self.launch(*number).spawn());
        }
        let all_there = || self.trees.iter().all(|tree| before.is_subset(&files(tree)));
        until("every tree has all files", SOON * 2, || {
            for (tree, own) in self.trees.iter().zip(&own) {
                assert_nothing_lost(std::slice::from_ref(tree), own);
            }
            all_there()
        });
        until("one of them has found the circle", SOON, || {
            self.agents.iter().any(|agent| agent.log().contains("comparisons delete nothing there"))
        });
        steadily("nothing is deleted", SOON * 2, Duration::from_secs(3), all_there);
        assert_nothing_lost(&self.trees, &before);
        until("no probe is left", SOON, || {
            let is_probe = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".sersync-probe-");
            let count = |tree: &PathBuf| fs::read_dir(tree).unwrap().flatten().filter(is_probe).count();
            self.trees.iter().map(count).sum::<usize>() == 0
        });
        self.agents.clear();
    }
}

#[test]
fn two_trees_of_this_machine_that_mirror_each_other_lose_nothing() {
    for by in [By::Directory, By::Module, By::Ssh] {
        let Some(mut circle) = Circle::prepare(2, by) else { return };
        circle.run(&[0, 1]);
    }
}

#[test]
fn a_circle_in_which_one_side_could_not_send_for_a_while_loses_nothing() {
    let Some(mut circle) = Circle::prepare(2, By::Module) else { return };
    let bus = PrivateBus::start();
    let first = circle.launch(0).argument("--user").argument("--instance").argument("first");
    circle.agents = vec![first.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address).start(), circle.launch(1).start()];
    let before = circle.files();
    until("all is everywhere", SOON, || circle.trees.iter().all(|tree| before.is_subset(&files(tree))));
    circle.daemons[0].stop();
    for number in 0..FILES {
        put(&circle.trees[1].join(format!("made-meanwhile{number}")), "content");
    }
    circle.agents[1].wait_logged("ConnectionRefused");
    circle.daemons[0].start();
    resync_or_withhold(&bus, "first");
    let all = circle.files();
    until("all is everywhere again", SOON * 2, || circle.trees.iter().all(|tree| all.is_subset(&files(tree))));
    assert_eq!(all.len(), 4 * FILES + FILES, "nothing was lost meanwhile");
}

#[test]
fn a_circle_that_is_closed_after_a_proof_loses_nothing() {
    let Some(mut circle) = Circle::prepare(2, By::Module) else { return };
    let bus = PrivateBus::start();
    let first = circle.launch(0).argument("--user").argument("--instance").argument("first");
    circle.agents = vec![first.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address).start()];
    until("the mirror is exact", SOON, || files(&circle.trees[0]) == files(&circle.trees[1]));
    for number in 0..FILES {
        put(&circle.trees[1].join(format!("made-there{number}")), "content");
    }
    circle.agents.push(circle.launch(1).start());
    resync_or_withhold(&bus, "first");
    let all = circle.files();
    until("all is everywhere", SOON * 2, || circle.trees.iter().all(|tree| all.is_subset(&files(tree))));
    assert_eq!(all.len(), 2 * FILES + FILES, "nothing was lost meanwhile");
}

#[test]
fn two_hosts_that_mirror_each_other_lose_nothing_in_either_order() {
    for order in [[0, 1], [1, 0]] {
        let Some(mut circle) = Circle::prepare(2, By::Hosts) else { return };
        circle.run(&order);
    }
}

#[test]
fn three_hosts_in_a_circle_lose_nothing_in_any_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let Some(mut circle) = Circle::prepare(3, By::Hosts) else { return };
        circle.run(&order);
    }
}

#[test]
fn a_remote_that_leads_nowhere_else_is_proven_and_gets_its_deletions() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let (source, copy) = (place.source(), place.path("copy"));
    fill(&source, "a");
    fill(&copy, "old");
    let agent = place.launch().mirror(&source, [daemon.url("copy")]).argument("-r").start();
    assert_converged(&source, &copy);
    assert!(!agent.log().contains("withheld"), "{}", agent.log());
    // Proven once: a new directory in the place of another is compared and cleaned at once.
    put(&copy.join("a-dir1/only-there"), "x");
    fs::rename(source.join("a-dir1"), source.join("moved")).unwrap();
    assert_converged(&source, &copy);
}

#[test]
fn two_addresses_of_one_place_are_found_out_and_neither_mirror_deletes_what_the_other_sent() {
    let place = Place::new();
    let (one, other, copy) = (place.make("one"), place.make("other"), place.make("copy"));
    fill(&one, "a");
    fill(&other, "b");
    // An earlier mirror of the second tree left these; the first tree has none of them.
    fill(&copy.join("sub"), "b");
    let plan = |name: &str, path: &Path| Plan::new(&place.path(name)).module("m", path, &[]);
    let daemon = plan("daemon1", &copy).start();
    let second = plan("daemon2", &copy.join("sub")).port(daemon.port).start();
    let localpath = localpath(&other, &format!("<remote ip=\"{}\" name=\"m\"/>", second.address));
    let file = Confxml::new(&one).daemon(&daemon, "m").sersync(&localpath).write(&place.path("two.xml"));
    let agent = place.launch().config(&file).argument("-r").start();
    agent.wait_logged("comparisons delete nothing there: it is, or contains, the place of");
    agent.wait_notified_from(0, |line| line.contains("withheld"));
    put(&one.join("more"), "content");
    until("it goes on", SOON, || copy.join("more").exists());
    assert!(files(&one).is_subset(&files(&copy)));
    assert_eq!(files(&other), files(&copy.join("sub")));
    // A file that is removed from the tree is removed there as well.
    fs::remove_file(one.join("more")).unwrap();
    until("it is removed", SOON, || !copy.join("more").exists());
}

#[test]
fn a_probe_comes_back_past_a_filter_and_a_long_full_sync() {
    let Some(mut circle) = Circle::prepare(2, By::Module) else { return };
    let [one, other] = [0, 1].map(|number| {
        let to = &circle.daemons[1 - number];
        let config = Confxml::new(&circle.trees[number]).daemon(to, "tree").exclude("^\\..*").exclude(".*probe.*");
        let file = config.write(&circle.place.path(&format!("filtered{number}.xml")));
        Launch::new(&circle.place.path(&format!("agent{number}"))).config(&file).argument("-r")
    });
    let before = circle.files();
    circle.agents = vec![one.start(), other.start()];
    until("every tree has all files", SOON, || circle.trees.iter().all(|tree| before.is_subset(&files(tree))));
    until("one of them has found the circle", SOON, || {
        circle.agents.iter().any(|agent| agent.log().contains("comparisons delete nothing there"))
    });
    let all_there = || circle.trees.iter().all(|tree| before.is_subset(&files(tree)));
    steadily("nothing is deleted", SOON, Duration::from_secs(3), all_there);
}
