//! A watch that is taken up by the next process.

use super::*;

fn tree(root: &Path) {
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/file"), "x").unwrap();
    fs::write(root.join("top"), "x").unwrap();
}

/// Killed and started again, and all that the new one has to tell.
fn next_life(rig: &mut Rig, meanwhile: impl FnOnce(&Path)) -> Vec<String> {
    let before = rig.resumptions;
    rig.write_down();
    rig.settle();
    rig.write_down();
    rig.engine.turn();
    meanwhile(&rig.root);
    rig.die();
    let changes = rig.settle();
    assert_eq!(rig.resumptions, (before.0 + 1, before.1), "resumed");
    rig.check_tree("after a resumption");
    changes
}

#[test]
fn what_happened_between_two_lives_is_reported_and_nothing_else() {
    let mut rig = Rig::with_tree(tree, |_| {});
    let changes = next_life(&mut rig, |root| {
        fs::write(root.join("a/b/file"), "y").unwrap();
        fs::remove_file(root.join("top")).unwrap();
        fs::rename(root.join("a"), root.join("z")).unwrap();
        fs::create_dir(root.join("new")).unwrap();
        fs::write(root.join("new/inside"), "z").unwrap();
    });
    for expected in ["Removed top", "Rescan a", "Arrived z", "NewDirectory new", "Entry new/inside"] {
        assert!(has(&changes, expected), "{expected} in {changes:?}");
    }
    assert!(!changes.iter().any(|change| change.ends_with(" .")), "nothing is said of the root: {changes:?}");
    assert_eq!(next_life(&mut rig, |_| {}), Vec::<String>::new(), "what is written down is not told again");
}

#[test]
fn what_was_read_and_not_written_down_is_reported_again() {
    let mut rig = Rig::with_tree(tree, |_| {});
    rig.write_down();
    rig.engine.turn();
    fs::write(rig.root.join("a/b/file"), "y").unwrap();
    rig.turn_until(|rig| hint_at(rig, "a/b/file", Hint::Entry));
    rig.die();
    assert!(has(&rig.settle(), "Entry a/b/file"));
    // And once more: this life has not written it down either.
    rig.die();
    assert!(has(&rig.settle(), "Entry a/b/file"));
    assert_eq!(rig.resumptions, (2, 1));
}

#[test]
fn a_new_file_that_is_open_when_the_watch_ends_is_reported_by_a_later_one() {
    use std::io::Write;
    let mut rig = Rig::with_tree(tree, |_| {});
    rig.engine.hold_times = BRIEF;
    rig.write_down();
    rig.engine.turn();
    let paths = ["empty", "written", "a/found"].map(|name| rig.root.join(name));
    fs::rename(rig.root.join("a"), rig.root.join("old")).unwrap();
    fs::create_dir(rig.root.join("a")).unwrap();
    let mut files = paths.map(|path| fs::File::create(path).unwrap());
    files[1].write_all(b"half").unwrap();
    files[2].write_all(b"half").unwrap();
    rig.settle();
    rig.write_down();
    // Once with all of it in the spool, once with nothing left of it there.
    for _ in 0..2 {
        rig.die();
        rig.turn_until(|rig| rig.resumptions.0 > 0);
        assert!(!hint_at(&rig, "written", Hint::Entry), "{:?}", rig.changes);
        rig.settle();
        rig.write_down();
        rig.engine.turn();
    }
    files[1].write_all(b" and half").unwrap();
    rig.die();
    drop(files);
    let changes = rig.settle();
    for name in ["empty", "written", "a/found"] {
        assert!(has(&changes, &format!("Entry {name}")), "{name} in {changes:?}");
    }
    assert_eq!(rig.resumptions, (3, 1));

    // A file that never closes is held when the watch ends.
    rig.write_down();
    rig.engine.turn();
    rig.engine.hold_times = HoldTimes::USUAL;
    let mode = nix::sys::stat::Mode::S_IRUSR;
    nix::sys::stat::mknod(&rig.root.join("node"), nix::sys::stat::SFlag::S_IFREG, mode, 0).unwrap();
    rig.engine.turn();
    rig.collect();
    rig.write_down();
    rig.engine.turn();
    assert!(rig.engine.holds.next().is_some());
    rig.die();
    assert_eq!(rig.settle(), ["Entry node"]);
}

#[test]
fn another_directory_at_the_root_is_not_taken_for_the_one_that_was_watched() {
    let mut rig = Rig::with_tree(tree, |_| {});
    rig.write_down();
    rig.engine.turn();
    fs::rename(&rig.root, rig.out.join("old")).unwrap();
    fs::create_dir(&rig.root).unwrap();
    rig.die();
    assert!(has(&rig.settle(), "Rescan ."), "the whole tree is compared");
    assert_eq!(rig.resumptions, (0, 2));
}

#[test]
fn a_watch_of_other_things_is_not_resumed() {
    let mut rig = Rig::with_tree(tree, |_| {});
    rig.write_down();
    rig.engine.turn();
    rig.spec.filter = Arc::new(Filter::new(["a/"]).unwrap());
    rig.die();
    rig.settle();
    assert_eq!(rig.resumptions, (0, 2));
}

#[test]
fn a_directory_that_could_not_be_watched_forbids_to_resume() {
    let mut rig = Rig::with_tree(tree, |_| {});
    rig.write_down();
    rig.engine.overflowed();
    rig.engine.say_whether_complete();
    rig.die();
    rig.settle();
    assert_eq!(rig.resumptions, (0, 2), "a rescan was owed");
}

#[test]
fn a_spool_that_is_full_of_what_is_not_written_down_says_so() {
    let mut rig = Rig::with_tree(tree, |_| {});
    rig.write_down();
    rig.engine.turn();
    // Two segments of a megabyte; an event with a short name has 32 bytes.
    for round in 0..40 {
        for number in 0..1000 {
            fs::write(rig.root.join("a/b/file"), format!("{round} {number}")).unwrap();
            fs::rename(rig.root.join("a/b/file"), rig.root.join("a/file")).unwrap();
            fs::rename(rig.root.join("a/file"), rig.root.join("a/b/file")).unwrap();
        }
        rig.engine.turn();
    }
    rig.die();
    rig.settle();
    assert_eq!(rig.resumptions, (0, 2), "events were given up");
}
