//! Random operations on a tree, with the engine anywhere from far behind to close by: at the end the remote is equal.

use super::remote::{Remote, walk};
use super::*;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, mknod};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

const ORDINARY: &[&str] = &["a", "b", "c", ".d", "f\n\"$(x)", "-g"];
const TEMPORARY: &[&str] = &["a", "b", "c~", "4913", ".e.swp", "d.dpkg-new", "b.dpkg-tmp"];

/// Does one random operation; that it may fail is part of it.
fn operate(random: &mut fastrand::Rng, rig: &Rig, names: &[&str]) -> String {
    let known = walk(&rig.root);
    let pick = |random: &mut fastrand::Rng| {
        let name = *random.choice(names).unwrap();
        match random.choice(&known).filter(|_| random.u8(..5) > 0) {
            Some((path, true)) if known.len() < 150 => rig.root.join(path).join(name),
            Some((path, _)) => rig.root.join(path),
            None => rig.root.join(name),
        }
    };
    let some = |random: &mut fastrand::Rng| match random.choice(&known) {
        Some((path, _)) => rig.root.join(path),
        None => rig.root.join("a"),
    };
    let target = pick(random);
    let content = random.u32(..).to_ne_bytes();
    let kind = random.u8(..20);
    let result = match kind {
        0..4 => write(&target, &content),
        4..6 => fs::create_dir(&target),
        6 => fs::create_dir_all(target.join("x/y/z")).and_then(|()| write(&target.join("x/y/z/deep"), &content)),
        7..10 => fs::rename(some(random), &target),
        10 => renameat2(AT_FDCWD, &some(random), AT_FDCWD, &target, RenameFlags::RENAME_EXCHANGE).map_err(Into::into),
        11 => fs::rename(some(random), rig.out.join(random.u8(..4).to_string())),
        12 => fs::rename(rig.out.join(random.u8(..4).to_string()), &target),
        13 => {
            let outside = rig.out.join(random.u8(..4).to_string());
            fs::create_dir_all(outside.join("p/q")).and_then(|()| write(&outside.join("p/q/file"), &content))
        }
        14 => fs::remove_file(some(random)),
        15 => fs::remove_dir_all(some(random)),
        16 => symlink(&rig.out, &target),
        17 => fs::hard_link(some(random), &target),
        18 => {
            let target = some(random);
            match fs::symlink_metadata(&target) {
                Ok(metadata) if metadata.is_dir() || metadata.is_file() && metadata.nlink() == 1 => {
                    fs::set_permissions(&target, fs::Permissions::from_mode(0o700 | u32::from(random.u8(..64))))
                }
                _ => Ok(()),
            }
        }
        _ => mknod(&target, *random.choice(&[SFlag::S_IFIFO, SFlag::S_IFREG]).unwrap(), Mode::S_IRUSR, 0)
            .map_err(Into::into),
    };
    format!("operation {kind} on {target:?}: {result:?}")
}

/// Writes in place, unless that would write to another name of the file too, of which inotify does not tell. (So it is
/// with modes.)
fn write(path: &Path, content: &[u8]) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Ok(()),
        Ok(metadata) if metadata.nlink() > 1 => fs::remove_file(path),
        _ => fs::write(path, content),
    }
}

/// With `eager` the agent acts at any time; a run of it that takes a whole directory may then bring a temporary name
/// that is gone a moment later, of which the watch does not speak.
fn run(seed: u64, operations: usize, eager: bool, deadly: bool, adjust: impl FnOnce(&mut Spec)) -> (usize, usize) {
    let names = if eager { ORDINARY } else { TEMPORARY };
    let mut random = fastrand::Rng::with_seed(seed);
    let fill = |root: &Path| {
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::write(root.join("a/b/file"), "first").unwrap();
    };
    let mut rig = Rig::with_tree(fill, adjust);
    rig.engine.hold_times = BRIEF;
    let mut remote = Remote::equal_to(&rig.root);
    let mut journal = Vec::new();
    // Once in a while the kernel loses events; the first rescan is not delayed.
    let loss = random.usize(..operations * 2);
    for number in 0..operations {
        if number == loss {
            rig.engine.relieve();
            rig.engine.backlog.clear();
            rig.engine.overflowed();
            journal.push("lost events".to_owned());
        }
        journal.push(operate(&mut random, &rig, names));
        // From one operation at a time to long bursts.
        for _ in 0..random.usize(..6).saturating_sub(3) {
            rig.engine.turn();
            rig.collect();
        }
        match random.u8(..40) {
            // The agent acts on what it has heard, while more goes on.
            0 if eager => {
                journal.push(format!("applied {:?}", rig.changes));
                remote.apply_all(&rig.root, &std::mem::take(&mut rig.changes));
            }
            1 => check(&mut rig, &mut remote, seed, &mut journal),
            2..6 if deadly => rig.write_down(),
            6..8 if deadly => {
                journal.push(format!("killed; written down {:?}, lost {:?}", rig.written_down, rig.changes));
                rig.die();
            }
            _ => {}
        }
    }
    check(&mut rig, &mut remote, seed, &mut journal);
    rig.resumptions
}

fn check(rig: &mut Rig, remote: &mut Remote, seed: u64, journal: &mut Vec<String>) {
    rig.control.send(Control::Drain(1)).unwrap();
    rig.turn_until(|rig| rig.told.last().is_some_and(|told| told == "Drained(1)"));
    rig.write_down();
    let changes = std::mem::take(&mut rig.written_down);
    remote.apply_all(&rig.root, &changes);
    let different = remote.differences(&rig.root);
    journal.push(format!("checked after {changes:?}"));
    let story = journal[journal.len().saturating_sub(60)..].join("\n");
    assert!(different.is_empty(), "seed {seed}: {different:?} differ after\n{story}");
    rig.check_tree(&format!("seed {seed}:\n{story}"));
    rig.told.clear();
}

#[test]
fn random_operations_end_equal() {
    let first = std::env::var("SERSYNC_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in first.unwrap_or(0)..first.map_or(24, |first: u64| first + 1) {
        run(seed, 250, seed % 2 == 0, false, |_| {});
    }
}

#[test]
fn random_operations_and_deaths_end_equal() {
    let first = std::env::var("SERSYNC_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let (mut resumed, mut begun) = (0, 0);
    for seed in first.unwrap_or(0)..first.map_or(24, |first: u64| first + 1) {
        let (once_more, anew) = run(seed, 250, seed % 2 == 0, true, |_| {});
        resumed += once_more;
        begun += anew;
    }
    assert!(first.is_some() || resumed > begun, "{resumed} of {} starts took up the watch", resumed + begun);
}
