//! What is renamed is renamed on a remote behind ssh too, and not sent again. A file that rsync sent, be it in part, is a
//! new file on the remote, with an inode number of its own: so an old number proves that nothing was sent.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

use bus::PrivateBus;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;
use support::SOON;
use support::agent::Agent;
use support::scene::Place;
use support::sshd::Sshd;
use support::tree::{Judge, put, set_modified};

const INSTANCE: &str = "moves";

/// A tree mirrored by ssh, and a bus to ask on whether it is at rest.
struct Mirror {
    // In the order of their ends: the agent first, its files last.
    agent: Agent,
    bus: PrivateBus,
    _sshd: Sshd,
    place: Place,
}

impl Mirror {
    /// `None` where this machine has no sshd.
    fn of(prepare: impl FnOnce(&Path)) -> Option<Self> {
        let place = Place::new();
        let sshd = Sshd::start(&place.path("sshd"))?;
        prepare(&place.source());
        Some(Self::start(place, sshd))
    }

    fn start(place: Place, sshd: Sshd) -> Self {
        let destination = format!("{}:{}", Sshd::HOST, place.make("copy").display());
        let bus = PrivateBus::start();
        let launch = place.launch().environment("PATH", &sshd.path).mirror(&place.source(), [destination]);
        let launch = launch.argument("--user").argument("--instance").argument(INSTANCE);
        let agent = launch.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address).start();
        let mirror = Self { agent, bus, _sshd: sshd, place };
        mirror.converged();
        mirror
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.place.source().join(path)
    }

    fn copy(&self, path: impl AsRef<Path>) -> PathBuf {
        self.place.path("copy").join(path)
    }

    /// Waits until nothing is pending any more, and expects equality.
    fn converged(&self) {
        let wait = Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
            .args(["--user", "wait", INSTANCE])
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus.address)
            .output()
            .unwrap();
        assert!(wait.status.success(), "{}", String::from_utf8_lossy(&wait.stderr));
        Judge::default().directory_times().assert_converged(&self.place.source(), &self.place.path("copy"), SOON);
    }

    fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        fs::rename(self.at(from), self.at(to)).unwrap();
    }

    fn inode(&self, path: impl AsRef<Path>) -> u64 {
        fs::symlink_metadata(self.copy(path)).unwrap().ino()
    }

    /// By name, the inode numbers of what is in a directory of the copy.
    fn inodes(&self, directory: &str) -> BTreeMap<PathBuf, u64> {
        let entries = fs::read_dir(self.copy(directory)).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.file_name().into(), entry.metadata().unwrap().ino())).collect()
    }
}

#[test]
fn of_a_renamed_directory_nothing_is_sent_again() {
    let prepare = |source: &Path| {
        for file in 0..1_000 {
            put(&source.join(format!("old/{file}")), file.to_string());
        }
        put(&source.join("elsewhere/kept"), "kept");
    };
    let Some(mirror) = Mirror::of(prepare) else { return };
    let before = mirror.inodes("old");
    for (from, to) in [("old", "new"), ("new", "elsewhere/deep"), ("elsewhere/deep", "old")] {
        mirror.rename(from, to);
        mirror.converged();
        assert!(mirror.inodes(to) == before, "{from} to {to}");
    }
}

#[test]
fn of_renamed_files_nothing_is_sent_again() {
    let prepare = |source: &Path| {
        // Larger than what travels with others.
        put(&source.join("large"), vec![b'x'; 9 << 20]);
        put(&source.join("d/small"), "small");
        put(&source.join("d/replaced"), "another");
    };
    let Some(mirror) = Mirror::of(prepare) else { return };
    let (large, small) = (mirror.inode("large"), mirror.inode("d/small"));
    mirror.rename("large", "d/larger");
    mirror.converged();
    assert_eq!(mirror.inode("d/larger"), large);
    mirror.rename("d/small", "d/replaced");
    mirror.converged();
    assert_eq!(mirror.inode("d/replaced"), small);
}

#[test]
fn a_log_that_is_rotated_is_not_sent_again() {
    let prepare = |source: &Path| {
        for (name, text) in [("log", "today"), ("log.1", "yesterday"), ("log.2", "long ago")] {
            put(&source.join(name), text);
        }
    };
    let Some(mirror) = Mirror::of(prepare) else { return };
    let (newest, newer) = (mirror.inode("log"), mirror.inode("log.1"));
    mirror.rename("log.1", "log.2");
    mirror.rename("log", "log.1");
    put(&mirror.at("log"), "the next day");
    mirror.converged();
    assert_eq!((mirror.inode("log.1"), mirror.inode("log.2")), (newest, newer));
}

#[test]
fn names_mean_nothing_to_the_shells_on_the_way() {
    let names: [&[u8]; 8] =
        [b"-f", b"two\nlines", b"$(touch owned)", b"`touch owned`\"'", b"*", b" lead and trail ", b"\xff\xfe", b"!x\\"];
    let name = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let prepare = |source: &Path| {
        for bytes in names {
            put(&source.join("from").join(name(bytes)), "file");
            put(&source.join("directories").join(name(bytes)).join("file"), "file");
        }
        put(&source.join("to/there"), "");
    };
    let Some(mirror) = Mirror::of(prepare) else { return };
    let files = mirror.inodes("from");
    let directories = mirror.inodes("directories");
    // One after the other: in a burst, a run that starts between the two halves of a rename sends what was renamed.
    for bytes in names {
        mirror.rename(Path::new("from").join(name(bytes)), Path::new("to").join(name(bytes)));
        mirror.converged();
        mirror.rename(Path::new("directories").join(name(bytes)), Path::new("from").join(name(bytes)));
        mirror.converged();
    }
    let mut arrived = mirror.inodes("to");
    arrived.remove(Path::new("there"));
    assert_eq!(arrived, files);
    assert_eq!(mirror.inodes("from"), directories);
}

#[test]
fn what_changes_in_the_same_moment_is_sent() {
    let time = SystemTime::now();
    let write = |path: &Path, text: &str| {
        put(path, text);
        set_modified(path, time);
    };
    let prepare = |source: &Path| {
        for name in ["inside", "replaced", "untouched"] {
            write(&source.join("old").join(name), "1");
        }
        write(&source.join("file"), "1");
        write(&source.join("fresh"), "1");
    };
    let Some(mirror) = Mirror::of(prepare) else { return };
    let untouched = mirror.inode("old/untouched");
    // Of one size and one time: nothing but the content tells them apart.
    write(&mirror.at("old/inside"), "2");
    mirror.rename("old", "new");
    write(&mirror.at("new/replaced"), "2");
    write(&mirror.at("fresh"), "2");
    mirror.rename("fresh", "fresher");
    mirror.rename("file", "renamed");
    write(&mirror.at("renamed"), "3");
    write(&mirror.at("file"), "4");
    mirror.converged();
    mirror.rename("new/untouched", "untouched");
    mirror.converged();
    // The directory had something pending, so that all in it was compared by content.
    assert_ne!(mirror.inode("untouched"), untouched);
}

#[test]
fn a_rename_never_leaves_the_copy() {
    let prepare = |source: &Path| {
        put(&source.join("file"), "content");
        put(&source.join("d/kept"), "");
        put(&source.join("tree/file"), "content");
    };
    let Some(mirror) = Mirror::of(prepare) else { return };
    let outside = mirror.place.make("outside");
    fs::remove_dir_all(mirror.copy("d")).unwrap();
    symlink(&outside, mirror.copy("d")).unwrap();
    symlink(&outside, mirror.copy("link")).unwrap();
    mirror.rename("file", "d/file");
    mirror.rename("tree", "link");
    // `kept` went with the directory; nobody has told of it.
    put(&mirror.at("d/kept"), "again");
    mirror.converged();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn a_remote_that_runs_nothing_but_rsync_is_sent_what_was_renamed() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let only = place.path("only-rsync");
    put(
        &only,
        "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in rsync*) exec $SSH_ORIGINAL_COMMAND;; esac\necho no >&2\nexit 1\n",
    );
    fs::set_permissions(&only, fs::Permissions::from_mode(0o755)).unwrap();
    let keys = place.path("sshd/authorized");
    let key = fs::read_to_string(&keys).unwrap();
    fs::write(&keys, format!("command=\"{}\" {key}", only.display())).unwrap();
    put(&place.source().join("old/file"), "content");
    let mirror = Mirror::start(place, sshd);
    mirror.rename("old", "new");
    mirror.converged();
    mirror.agent.wait_logged("nothing can be renamed there");
    mirror.rename("new", "newer");
    mirror.converged();
}

/// What the login's shell prints before the answers is none of them.
#[test]
fn a_shell_that_prints_lines_of_its_own_does_not_shift_the_answers() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let chatty = place.path("chatty");
    put(
        &chatty,
        "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in rsync*) ;; *) echo Your password will expire in 5 days; echo 1;; esac\n\
         exec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
    );
    fs::set_permissions(&chatty, fs::Permissions::from_mode(0o755)).unwrap();
    let keys = place.path("sshd/authorized");
    let key = fs::read_to_string(&keys).unwrap();
    fs::write(&keys, format!("command=\"{}\" {key}", chatty.display())).unwrap();
    put(&place.source().join("kept/file"), "content");
    put(&place.source().join("old"), "content");
    let mirror = Mirror::start(place, sshd);
    // The first rename cannot be made there: something holds its place.
    put(&mirror.copy("taken/by"), "what only the remote has");
    mirror.rename("kept", "taken");
    mirror.rename("old", "new");
    mirror.converged();
    let inode = mirror.inode("new");
    mirror.rename("new", "newer");
    mirror.converged();
    assert_eq!(mirror.inode("newer"), inode);
}

#[test]
fn where_nothing_may_be_deleted_nothing_is_moved() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    put(&place.source().join("old/file"), "content");
    let config = support::config::Confxml::new(&place.source())
        .params("-a")
        .ssh(Sshd::HOST, &place.make("copy"))
        .no_delete()
        .write(&place.path("www.xml"));
    let agent = place.launch().environment("PATH", &sshd.path).config(&config).start();
    let copy = place.path("copy");
    support::until("the first file", SOON, || copy.join("old/file").exists());
    fs::rename(place.source().join("old"), place.source().join("new")).unwrap();
    support::until("the renamed one", SOON, || copy.join("new/file").exists());
    assert!(copy.join("old/file").exists());
    drop(agent);
}

#[test]
fn renames_among_everything_else_end_equal() {
    let seed = std::env::var("SERSYNC_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("to replay: SERSYNC_SEED={seed} cargo test --test moves");
    let mut random = fastrand::Rng::with_seed(seed);
    let Some(mut mirror) = Mirror::of(|source| put(&source.join("a/b/c"), "first")) else { return };
    let place = |random: &mut fastrand::Rng| -> PathBuf {
        let depth = random.usize(1..=3);
        (0..depth).map(|_| ["a", "b", "c", "d"][random.usize(..4)]).collect()
    };
    let time = SystemTime::now();
    for round in 0..12 {
        for _ in 0..40 {
            let (path, other) = (mirror.at(place(&mut random)), mirror.at(place(&mut random)));
            match random.u8(..10) {
                // What cannot be done is not done.
                0..=3 => drop(fs::rename(&path, &other)),
                4 => drop(fs::remove_dir_all(&path)),
                5 => drop(fs::remove_file(&path)),
                6 => drop(fs::create_dir_all(&path)),
                _ if path.parent().is_some_and(Path::is_dir) && !path.is_dir() => {
                    fs::write(&path, random.u8(..10).to_string()).unwrap();
                    set_modified(&path, time);
                }
                _ => {}
            }
        }
        if round % 4 == 3 {
            mirror.agent.kill();
            mirror.agent.start_again();
        }
        if random.bool() {
            mirror.converged();
        }
    }
    mirror.converged();
}
