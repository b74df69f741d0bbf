//! A writer of the watched tree swaps its entries for links that lead out of it while they are sent. Nothing from outside
//! may reach a remote: the agent can read every file of the machine, and that user cannot.

mod support;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::config::Confxml;
use support::scene::{MODULE, Place, Scene};
use support::sshd::Sshd;
use support::tree::{Judge, assert_converged, put};
use support::writer::again_and_again_while;
use support::{SOON, is_root, skip, until};

/// The user of the agent, as [`support::agent::Launch::unprivileged_reader`] has it.
const AGENT: u32 = 65_534;

/// Content of the file outside.
const SECRET: &str = "root:$6$a-secret-of-the-machine";

/// Name of a file outside, of which nothing inside has the name.
const HIDDEN: &str = "hidden";

/// Content of its replacement in the tree.
const PUBLIC: &str = "what everybody may read";

/// Length of a race. `SERSYNC_TEST_RACE_SECONDS` sets another one.
fn length() -> Duration {
    let seconds = std::env::var("SERSYNC_TEST_RACE_SECONDS").ok().map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(5))
}

/// Longest time in which the secret may be looked for in vain after the last swap.
const PAUSE: Duration = Duration::from_micros(50_000);

/// A tree, and a directory outside that only root can enter.
struct Race {
    place: Place,
    /// Whether the config has rsync follow links.
    follows: bool,
    swaps: AtomicU64,
}

impl Race {
    fn new(follows: bool) -> Self {
        let place = Place::new();
        let outside = place.make("outside");
        fs::write(outside.join("secret"), SECRET).unwrap();
        fs::set_permissions(outside.join("secret"), Permissions::from_mode(0o600)).unwrap();
        fs::write(outside.join(HIDDEN), "").unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o700)).unwrap();
        let race = Self { place, follows, swaps: AtomicU64::new(0) };
        for kind in KINDS {
            fs::create_dir(race.at(kind)).unwrap();
        }
        put(&race.at("public/secret"), PUBLIC);
        race
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.source().join(name)
    }

    /// Makes an entry, so that it is sent, and swaps it for a link that leads outside meanwhile. Then removes it.
    ///
    /// The links are root's: rsync 3.5 follows no link of users that it does not trust, and older ones follow all.
    fn swap(&self, kind: &str, number: u64) {
        let (entry, link) = (self.at(&format!("{kind}/{number}")), self.at(&format!("{kind}/{number}-link")));
        let outside = self.place.path("outside");
        match kind {
            "directory" => {
                fs::create_dir(&entry).unwrap();
                symlink(&outside, &link).unwrap();
                fs::write(entry.join("secret"), PUBLIC).unwrap();
            }
            "file" => {
                symlink(outside.join("secret"), &link).unwrap();
                fs::write(&entry, PUBLIC).unwrap();
            }
            // If the link is followed, its target is sent.
            _ => {
                let inside = self.at("public");
                symlink(if self.follows { outside.join("secret") } else { outside }, &link).unwrap();
                symlink(if self.follows { inside.join("secret") } else { inside }, &entry).unwrap();
            }
        }
        let exchange = || renameat2(AT_FDCWD, &entry, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
        pause(PAUSE);
        exchange();
        self.swaps.fetch_add(1, Ordering::Relaxed);
        pause(PAUSE / 2);
        exchange();
        pause(PAUSE / 2);
        for path in [&entry, &link] {
            if path.symlink_metadata().unwrap().is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }

    /// Swaps all kinds at once until the time is over; panics as soon as something from outside is in one of the `copies`.
    fn run(&self, copies: &[PathBuf]) {
        let begin = Instant::now();
        let works = KINDS.iter().take(3).map(|kind| {
            let mut number = 0;
            move || {
                number += 1;
                self.swap(kind, number);
            }
        });
        again_and_again_while(works.collect(), || {
            while begin.elapsed() < length() {
                for copy in copies {
                    let swaps = self.swaps.load(Ordering::Relaxed);
                    if let Some(file) = leaked(copy) {
                        panic!("{} is from outside, after {swaps} swaps, {:?}", file.display(), begin.elapsed());
                    }
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        assert!(self.swaps.load(Ordering::Relaxed) > 5 * length().as_secs(), "too few swaps to mean anything");
    }
}

/// The kinds of swaps, each a directory of the tree, and a directory that stays.
const KINDS: [&str; 4] = ["directory", "file", "link", "public"];

/// Waits for a random time up to `longest`.
fn pause(longest: Duration) {
    let until = Instant::now() + longest.mul_f64(fastrand::f64());
    while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn own(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
}

/// The file below `directory` that holds the secret, or has the name of one outside. Links are what they are.
fn leaked(directory: &Path) -> Option<PathBuf> {
    // Entries come and go.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name() == HIDDEN {
            return Some(entry.path());
        }
        let found = match entry.file_type() {
            Ok(kind) if kind.is_dir() => leaked(&entry.path()),
            Ok(kind) if kind.is_file() => {
                fs::read(entry.path()).is_ok_and(|content| content == SECRET.as_bytes()).then(|| entry.path())
            }
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A race against an agent with a daemon, an ssh remote and a directory of this machine, started with `arguments`. When it
/// is over, the copies become equal, and nothing stays failed.
fn race(arguments: &[&str]) {
    if !is_root() {
        return skip("only root can start an agent with the one capability that the unit gives");
    }
    let race = Race::new(false);
    let place = &race.place;
    let daemon = place.plan(&[]).start();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let (by_ssh, local) = (place.make("by-ssh"), place.make("local"));
    own(&local, AGENT);
    let destinations = [
        daemon.url(MODULE).into(),
        format!("root@{}:{}", Sshd::HOST, by_ssh.display()).into(),
        local.clone().into_os_string(),
    ];
    let launch = place.launch().environment("PATH", &sshd.path).mirror(&place.source(), destinations);
    let launch = arguments.iter().fold(launch, |launch, argument| launch.argument(argument));
    let agent = launch.unprivileged_reader().start();
    let copies = [place.path("copy"), by_ssh, local];
    first_copies(&copies);
    race.run(&copies);
    for copy in &copies[..2] {
        assert_converged(&place.source(), copy);
    }
    Judge::default().contents_alone().assert_converged(&place.source(), &copies[2], SOON);
    let failed = ["PermissionDenied", "PartialTransfer"].iter().any(|name| agent.log().contains(name));
    assert!(!failed, "what was swapped is pending again, and no failure: {}", agent.log());
}

fn first_copies(copies: &[PathBuf]) {
    for copy in copies {
        until("a first copy", SOON, || copy.join("public/secret").exists());
    }
}

#[test]
fn nothing_from_outside_is_sent_while_links_are_swapped_in() {
    race(&["--ahead", "0"]);
}

#[test]
fn nothing_from_outside_is_sent_by_a_standby_while_links_are_swapped_in() {
    race(&["--ahead", "60"]);
}

#[test]
fn without_landlock_an_agent_with_the_capability_says_so() {
    if !is_root() {
        return skip("only root can start an agent with the one capability that the unit gives");
    }
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let launch = place.launch().mirror(&place.source(), [daemon.url(MODULE)]);
    let agent = launch.unprivileged_reader().without_landlock().start();
    agent.wait_logged("no confinement: this kernel has no Landlock");
}

#[test]
fn without_landlock_an_agent_without_capability_sends_what_its_user_can_read() {
    if !is_root() {
        return skip("only root can make a file that the agent cannot read");
    }
    let race = Race::new(false);
    let place = &race.place;
    let daemon = place.plan(&[]).start();
    let launch = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).argument("--ahead").argument("0");
    fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
    let agent = launch.unprivileged().without_landlock().start();
    agent.wait_logged("rsync and ssh can read what the agent's user can read");
    let copies = [place.path("copy")];
    first_copies(&copies);
    race.run(&copies);
}

/// A race in which rsync follows links, with the options `params`, over a daemon, over ssh and to a directory of this machine.
fn race_following(params: &str) {
    if !is_root() {
        return skip("only root can start an agent with the one capability that the unit gives");
    }
    let race = Race::new(true);
    let place = &race.place;
    let daemon = place.plan(&[]).start();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let (by_ssh, local) = (place.make("by-ssh"), place.make("local"));
    own(&local, AGENT);
    let config = || Confxml::new(&place.source()).params(params);
    let by_daemon = config().daemon(&daemon, MODULE).directory(&local).write(&place.path("daemon.xml"));
    let by_name = config().ssh(&format!("root@{}", Sshd::HOST), &by_ssh).write(&place.path("ssh.xml"));
    // `<ssh>` is for all remotes of a config.
    let _agents = [("one", by_daemon), ("other", by_name)].map(|(name, file)| {
        let launch = support::agent::Launch::new(&place.path(name)).environment("PATH", &sshd.path);
        launch.config(&file).unprivileged_reader().start()
    });
    let copies = [place.path("copy"), by_ssh, local];
    first_copies(&copies);
    race.run(&copies);
}

#[test]
fn where_links_are_followed_none_leads_out_while_they_are_swapped() {
    race_following("-aL");
}

#[test]
fn where_links_to_directories_are_followed_none_leads_out_while_they_are_swapped() {
    race_following("-ak");
}

#[test]
fn a_link_that_is_followed_leads_where_the_config_says_and_fails_by_name_elsewhere() {
    let place = Place::new();
    let (media, other) = (place.make("media"), place.make("other"));
    put(&media.join("film"), "a film");
    put(&other.join("letter"), "a letter");
    symlink(media.join("film"), place.source().join("film")).unwrap();
    symlink(other.join("letter"), place.source().join("letter")).unwrap();
    put(&place.source().join("plain"), "plain");
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).params("-aL");
    let config = config.rsync(&format!("<mayRead path=\"{}\"/>", media.display()));
    let file = config.write(&place.path("confxml.xml"));
    let agent = place.launch().config(&file).start();
    let at = |name: &str| place.path("copy").join(name);
    until("what may be followed", SOON, || fs::read(at("film")).is_ok_and(|content| content == b"a film"));
    until("what needs no link", SOON, || at("plain").exists());
    agent.wait_logged("LinkLeadsOut");
    agent.wait_logged("<mayRead path=");
    assert!(!at("letter").exists());
}

/// The inode numbers of all that process `pid` has an inotify watch on (proc_pid_fdinfo(5)).
fn watched_inodes(pid: i32) -> BTreeSet<u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let infos = descriptors.filter_map(|descriptor| fs::read_to_string(descriptor.path()).ok()).collect::<String>();
    let watches = infos.lines().filter(|line| line.starts_with("inotify "));
    watches
        .filter_map(|line| line.split(' ').find_map(|word| word.strip_prefix("ino:")))
        .map(|number| u64::from_str_radix(number, 16).unwrap())
        .collect()
}

#[test]
fn no_directory_outside_is_watched_while_links_are_swapped_in() {
    let scene = Scene::start();
    let outside = scene.place.make("outside");
    put(&outside.join("deep/deeper").join(HIDDEN), "x");
    let foreign: BTreeSet<u64> =
        ["", "deep", "deep/deeper"].iter().map(|name| fs::metadata(outside.join(name)).unwrap().ino()).collect();
    let swaps = AtomicU64::new(0);
    let swap = || {
        let number = swaps.fetch_add(1, Ordering::Relaxed);
        let (entry, link) = (scene.at(format!("{number}")), scene.at(format!("{number}-link")));
        symlink(&outside, &link).unwrap();
        put(&entry.join("deep/deeper/shown"), "x");
        for _ in 0..20 {
            renameat2(AT_FDCWD, &entry, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE).unwrap();
            pause(Duration::from_micros(200));
        }
        fs::remove_dir_all(&entry).unwrap();
        fs::remove_file(&link).unwrap();
    };
    let begin = Instant::now();
    again_and_again_while(vec![swap], || {
        let mut seen = 0;
        while begin.elapsed() < length() {
            let watched = watched_inodes(scene.agent.pid());
            seen = seen.max(watched.len());
            let wrong: Vec<_> = watched.intersection(&foreign).collect();
            assert!(wrong.is_empty(), "watched outside after {swaps:?} times 20 swaps: {wrong:?}");
            if let Some(file) = leaked(&scene.copy) {
                panic!("{} is from outside", file.display());
            }
        }
        assert!(seen > 1, "of the directories that were swapped some were watched");
    });
    scene.converged();
}
