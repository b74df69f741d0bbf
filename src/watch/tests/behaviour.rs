//! What is reported of what happens.

use super::*;
use nix::sys::stat::Mode;
use std::os::unix::fs::{PermissionsExt, symlink};

fn switches(events: EventSwitches) -> impl FnOnce(&mut Spec) {
    move |spec| spec.events = events
}

#[test]
fn a_new_directory_is_reported_with_all_that_is_in_it_parents_first() {
    let mut rig = Rig::new(|_| {});
    fs::create_dir_all(rig.root.join("a/b")).unwrap();
    fs::write(rig.root.join("a/b/file"), "x").unwrap();
    symlink("/", rig.root.join("a/root")).unwrap();
    let changes = rig.settle();
    let [top, below, file] =
        ["NewDirectory a", "NewDirectory a/b", "Entry a/b/file"].map(|change| position(&changes, change));
    assert!(top < below && below < file, "{changes:?}");
    assert!(has(&changes, "Entry a/root"));
    rig.check_tree("a link is not followed");
    fs::write(rig.root.join("a/b/late"), "x").unwrap();
    assert_eq!(rig.settle(), ["Entry a/b/late"]);
}

#[test]
fn a_renamed_directory_keeps_its_watches() {
    let fill = |root: &Path| fs::create_dir_all(root.join("a/b/c")).unwrap();
    let mut rig = Rig::with_tree(fill, |_| {});
    let node = rig.engine.tree.find(&RelPath::new(b"a/b/c").unwrap()).unwrap();
    let key = rig.engine.tree.watch_key(node);
    fs::rename(rig.root.join("a"), rig.root.join("z")).unwrap();
    assert_eq!(rig.settle(), ["Rescan a", "Arrived z"]);
    assert_eq!(rig.engine.tree.find(&RelPath::new(b"z/b/c").unwrap()), Some(node));
    assert_eq!(rig.engine.tree.watch_key(node), key);
    fs::write(rig.root.join("z/b/c/file"), "x").unwrap();
    assert_eq!(rig.settle(), ["Entry z/b/c/file"]);
}

#[test]
fn a_removal_is_told_as_one_however_far_the_watch_has_read() {
    let fill = |root: &Path| {
        for nth in 0..500 {
            fs::create_dir_all(root.join(format!("{nth}/in"))).unwrap();
        }
    };
    let mut rig = Rig::with_tree(fill, |_| {});
    let root = rig.root.clone();
    // The end of a watch and the removal that it is about are two events: many a read comes in between, and by then the
    // directory above may be gone as well.
    let removing = std::thread::spawn(move || {
        for nth in 0..500 {
            fs::remove_dir(root.join(format!("{nth}/in"))).unwrap();
            fs::remove_dir(root.join(format!("{nth}"))).unwrap();
        }
    });
    while !removing.is_finished() {
        rig.engine.turn();
    }
    removing.join().unwrap();
    let changes = rig.settle();
    let others = changes.iter().filter(|change| !change.starts_with("Removed ")).collect::<Vec<_>>();
    assert!(others.is_empty(), "{others:?}");
    assert_eq!(changes.len(), 1_000);
    rig.check_tree("removed");
    assert!(rig.engine.ended.is_empty());
}

#[test]
fn a_directory_moves_in_and_out() {
    let mut rig = Rig::new(|_| {});
    fs::create_dir_all(rig.out.join("a/b")).unwrap();
    fs::write(rig.out.join("a/b/old"), "x").unwrap();
    fs::rename(rig.out.join("a"), rig.root.join("a")).unwrap();
    assert_eq!(rig.settle(), ["Arrived a"]);
    rig.check_tree("moved in");
    fs::rename(rig.root.join("a"), rig.out.join("a")).unwrap();
    assert_eq!(rig.settle(), ["Rescan a"]);
    rig.check_tree("moved out");
    fs::write(rig.out.join("a/b/new"), "x").unwrap();
    assert!(rig.settle().is_empty(), "what left is not watched any more");
}

#[test]
fn a_directory_replaced_by_a_file_and_the_reverse() {
    let mut rig = Rig::new(|_| {});
    let a = rig.root.join("a");
    fs::write(&a, "x").unwrap();
    rig.settle();
    fs::remove_file(&a).unwrap();
    fs::create_dir(&a).unwrap();
    assert_eq!(rig.settle(), ["Removed a", "NewDirectory a"]);
    fs::remove_dir(&a).unwrap();
    fs::create_dir(&a).unwrap();
    fs::write(a.join("new"), "x").unwrap();
    assert!(has(&rig.settle(), "Entry a/new"), "the new directory of the same name is watched");
    fs::remove_dir_all(&a).unwrap();
    symlink(&rig.out, &a).unwrap();
    assert!(has(&rig.settle(), "Entry a"));
    fs::write(rig.out.join("file"), "x").unwrap();
    assert!(rig.settle().is_empty(), "a link in the place of a directory is not followed");
    rig.check_tree("a link");
}

#[test]
fn a_directory_that_moved_away_unseen_is_not_forgotten() {
    let mut rig = Rig::new(|_| {});
    // All of it happens before the first event is read.
    fs::create_dir_all(rig.root.join("a/b")).unwrap();
    fs::rename(rig.root.join("a"), rig.root.join("c")).unwrap();
    fs::create_dir(rig.root.join("a")).unwrap();
    fs::rename(rig.root.join("c/b"), rig.root.join("a/b")).unwrap();
    fs::rename(rig.root.join("a"), rig.root.join("d")).unwrap();
    rig.settle();
    rig.check_tree("three renames behind");
    fs::write(rig.root.join("d/b/file"), "x").unwrap();
    assert_eq!(rig.settle(), ["Entry d/b/file"]);
}

#[test]
fn temporary_names_are_held_and_dropped_only_if_born_and_gone() {
    let mut rig = Rig::new(|_| {});
    fs::write(rig.root.join("4913"), "").unwrap();
    fs::remove_file(rig.root.join("4913")).unwrap();
    fs::write(rig.root.join(".a.Ab12Cd"), "x").unwrap();
    fs::rename(rig.root.join(".a.Ab12Cd"), rig.root.join("a")).unwrap();
    fs::write(rig.root.join("kept~"), "x").unwrap();
    rig.engine.turn();
    rig.collect();
    assert_eq!(rig.take(), ["Entry a"], "the final name at once, nothing else yet");
    rig.turn_until(|rig| hint_at(rig, "kept~", Hint::Entry));
    assert_eq!(rig.take(), ["Passed 4913", "Passed .a.Ab12Cd", "Entry kept~"], "for a moment is not enough");
    fs::remove_file(rig.root.join("kept~")).unwrap();
    assert_eq!(rig.settle(), ["Entry kept~"], "a drain lets go of what is held; it had been there before");
}

#[test]
fn what_is_asked_for_and_held_back_is_told_though_the_queue_is_never_empty() {
    let mut rig = Rig::new(|_| {});
    rig.engine.hold_times = HoldTimes { name: Duration::from_millis(200), ..BRIEF };
    let count = std::cell::Cell::new(0_u32);
    let writer = rig.root.clone();
    // Before each read a file is made, and a directory that has to be walked.
    let writes = |rig: &Rig, told: &str| {
        let nth = count.replace(count.get() + 1);
        fs::create_dir(writer.join(format!("d{nth}"))).unwrap();
        fs::rename(writer.join(format!("d{nth}")), writer.join(format!("e{nth}"))).unwrap();
        fs::write(writer.join(format!("e{nth}/file")), "x").unwrap();
        rig.told.iter().any(|known| known == told)
    };
    fs::write(rig.root.join("kept~"), "x").unwrap();
    rig.control.send(Control::Mark).unwrap();
    rig.turn_until(|rig| writes(rig, "Marked"));
    rig.turn_until(|rig| writes(rig, "MarkedHeld"));
    assert!(hint_at(&rig, "kept~", Hint::Entry), "its time was over");
    fs::write(rig.root.join("before"), "x").unwrap();
    fs::write(rig.root.join("before~"), "x").unwrap();
    rig.control.send(Control::Drain(7)).unwrap();
    rig.turn_until(|rig| writes(rig, "Drained(7)"));
    assert!(hint_at(&rig, "before", Hint::Entry) && hint_at(&rig, "before~", Hint::Entry));
}

#[test]
fn a_mark_is_answered_at_once_and_again_when_what_was_held_is_told() {
    let mut rig = Rig::new(|_| {});
    fs::write(rig.root.join("4913"), "").unwrap();
    fs::remove_file(rig.root.join("4913")).unwrap();
    fs::write(rig.root.join("file"), "x").unwrap();
    rig.control.send(Control::Mark).unwrap();
    rig.turn_until(|rig| rig.told.last().is_some_and(|told| told == "Marked"));
    assert!(hint_at(&rig, "file", Hint::Entry) && !hint_at(&rig, "4913", Hint::Passed));
    rig.turn_until(|rig| rig.told.last().is_some_and(|told| told == "MarkedHeld"));
    assert!(hint_at(&rig, "4913", Hint::Passed));
}

#[test]
fn a_directory_that_is_unpacked_is_new_under_its_own_name_and_no_other() {
    let mut rig = Rig::new(|_| {});
    let [draft, place] = ["lib.dpkg-new", "lib"].map(|name| rig.root.join(name));
    fs::create_dir(&draft).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o750)).unwrap();
    rig.engine.turn();
    fs::rename(&draft, &place).unwrap();
    fs::write(place.join("file.dpkg-new"), "x").unwrap();
    rig.engine.turn();
    fs::rename(place.join("file.dpkg-new"), place.join("file")).unwrap();
    let mut told = rig.settle();
    told.dedup();
    assert_eq!(told, ["Passed lib.dpkg-new", "NewDirectory lib", "Entry lib/file", "Passed lib/file.dpkg-new"]);
    rig.check_tree("unpacked");
    fs::write(place.join("later"), "x").unwrap();
    assert!(has(&rig.settle(), "Entry lib/later"));
}

#[test]
fn held_directories_that_exchange_names_are_watched_all_the_same() {
    let exchange = |one: &Path, other: &Path| {
        let cwd = nix::fcntl::AT_FDCWD;
        nix::fcntl::renameat2(cwd, one, cwd, other, nix::fcntl::RenameFlags::RENAME_EXCHANGE).unwrap();
    };
    let mut rig = Rig::new(|_| {});
    let [one, other] = ["a.dpkg-new", "b.dpkg-tmp"].map(|name| rig.root.join(name));

    // With a file.
    fs::write(&other, "x").unwrap();
    rig.settle();
    fs::create_dir(&one).unwrap();
    exchange(&one, &other);
    let told = rig.settle();
    assert!(has(&told, "NewDirectory b.dpkg-tmp") && has(&told, "Entry a.dpkg-new"), "{told:?}");
    rig.check_tree("exchanged with a file");
    fs::remove_file(&one).unwrap();
    fs::remove_dir(&other).unwrap();
    rig.settle();

    // With one another.
    fs::create_dir(&one).unwrap();
    fs::create_dir(&other).unwrap();
    exchange(&one, &other);
    rig.settle();
    rig.check_tree("exchanged with one another");
    for directory in [&one, &other] {
        fs::write(directory.join("inside"), "x").unwrap();
    }
    let told = rig.settle();
    assert!(has(&told, "Entry a.dpkg-new/inside") && has(&told, "Entry b.dpkg-tmp/inside"), "{told:?}");
}

#[test]
fn a_directory_that_keeps_the_name_of_a_moment_is_new_a_second_later() {
    let mut rig = Rig::with_tree(|root| fs::create_dir(root.join("a")).unwrap(), |_| {});
    fs::create_dir_all(rig.root.join("a/kept.dpkg-new/below")).unwrap();
    rig.engine.turn();
    rig.engine.turn();
    rig.collect();
    assert!(!rig.take().iter().any(|change| change.contains("kept")));
    rig.turn_until(|rig| hint_at(rig, "a/kept.dpkg-new/below", Hint::NewDirectory));
    assert!(hint_at(&rig, "a/kept.dpkg-new", Hint::Rescan), "what was removed in it, nobody saw");
    rig.check_tree("kept");

    // The directory above it gets another name meanwhile, and its own is taken by another one.
    fs::create_dir(rig.root.join("a/moved.dpkg-new")).unwrap();
    rig.engine.turn();
    fs::rename(rig.root.join("a"), rig.root.join("b")).unwrap();
    fs::create_dir_all(rig.root.join("a/moved.dpkg-new")).unwrap();
    rig.settle();
    rig.check_tree("two of one name");
    fs::write(rig.root.join("b/moved.dpkg-new/file"), "x").unwrap();
    fs::write(rig.root.join("a/moved.dpkg-new/file"), "x").unwrap();
    let told = rig.settle();
    assert!(has(&told, "Entry b/moved.dpkg-new/file") && has(&told, "Entry a/moved.dpkg-new/file"), "{told:?}");
}

#[test]
fn a_file_set_aside_by_an_editor_is_not_seen_to_go() {
    let mut rig = Rig::with_tree(|root| fs::write(root.join("page"), "old").unwrap(), |_| {});
    fs::rename(rig.root.join("page"), rig.root.join("page~")).unwrap();
    let mut page = fs::File::create(rig.root.join("page")).unwrap();
    std::io::Write::write_all(&mut page, b"half of").unwrap();
    rig.engine.turn();
    rig.collect();
    assert!(!has(&rig.take(), "Entry page"), "neither gone nor half written");
    drop(page);
    rig.turn_until(|rig| hint_at(rig, "page", Hint::Entry));

    rig.settle();
    fs::rename(rig.root.join("page"), rig.root.join("page~")).unwrap();
    rig.turn_until(|rig| hint_at(rig, "page", Hint::Entry));
}

#[test]
fn temporary_names_are_skipped_if_that_is_asked_for() {
    let mut rig = Rig::new(|spec| spec.temporary_names = TemporaryNames::Skip);
    fs::create_dir(rig.root.join(".d")).unwrap();
    for name in [".htaccess", "a~", "4913", ".d/.x", ".d/y"] {
        fs::write(rig.root.join(name), "x").unwrap();
    }
    let changes = rig.settle();
    assert!(changes.iter().all(|change| change == "NewDirectory .d" || change == "Entry .d/y"), "{changes:?}");
    assert!(has(&changes, "Entry .d/y"));
}

#[test]
fn switches_decide_what_is_reported_not_what_is_known() {
    let quiet = EventSwitches { delete: false, move_from: false, attrib: false, ..EventSwitches::SHIPPED };
    let fill = |root: &Path| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
    };
    let mut rig = Rig::with_tree(fill, switches(quiet));
    fs::remove_file(rig.root.join("file")).unwrap();
    fs::remove_dir(rig.root.join("a/b")).unwrap();
    fs::rename(rig.root.join("a"), rig.root.join("c")).unwrap();
    fs::set_permissions(rig.root.join("c"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(rig.settle(), ["Arrived c"]);
    rig.check_tree("with removals switched off");

    let mut rig = Rig::new(switches(EventSwitches { create_folder: false, ..EventSwitches::SHIPPED }));
    fs::create_dir(rig.root.join("made")).unwrap();
    fs::write(rig.root.join("made/file"), "x").unwrap();
    assert!(rig.settle().is_empty());
    fs::rename(rig.root.join("made"), rig.root.join("moved")).unwrap();
    assert!(has(&rig.settle(), "Arrived moved"));
    fs::write(rig.root.join("moved/file"), "x").unwrap();
    assert_eq!(rig.settle(), ["Entry moved/file"]);

    let mut rig = Rig::new(switches(EventSwitches { move_to: false, ..EventSwitches::SHIPPED }));
    fs::create_dir(rig.out.join("a")).unwrap();
    fs::rename(rig.out.join("a"), rig.root.join("a")).unwrap();
    fs::write(rig.root.join("a/file"), "x").unwrap();
    assert!(rig.settle().is_empty());

    let mut rig = Rig::new(switches(EventSwitches::NONE));
    fs::write(rig.root.join("a"), "x").unwrap();
    symlink("a", rig.root.join("b")).unwrap();
    fs::create_dir(rig.root.join("c")).unwrap();
    fs::rename(rig.root.join("a"), rig.root.join("d")).unwrap();
    fs::remove_file(rig.root.join("d")).unwrap();
    assert!(rig.settle().is_empty());
}

#[test]
fn attributes_are_told_apart_from_content() {
    let fill = |root: &Path| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("f"), "x").unwrap();
    };
    let mut rig = Rig::with_tree(fill, |_| {});
    for name in ["d", "f", ""] {
        fs::set_permissions(rig.root.join(name), fs::Permissions::from_mode(0o750)).unwrap();
    }
    assert_eq!(rig.settle(), ["Attributes d", "Attributes f"]);
}

#[test]
fn excluded_paths_are_neither_watched_nor_reported() {
    let fill = |root: &Path| fs::create_dir_all(root.join("cache/deep")).unwrap();
    let mut rig = Rig::with_tree(fill, |spec| {
        spec.filter = Arc::new(Filter::new(["cache/", r".*\.tmp", "kept/sub/"]).unwrap());
    });
    assert_eq!(rig.engine.tree.watched(), 1);
    fs::write(rig.root.join("cache/deep/file"), "x").unwrap();
    fs::write(rig.root.join("a.tmp"), "x").unwrap();
    assert!(rig.settle().is_empty());
    fs::rename(rig.root.join("a.tmp"), rig.root.join("a")).unwrap();
    assert_eq!(rig.settle(), ["Entry a"]);
    fs::rename(rig.root.join("cache"), rig.root.join("free")).unwrap();
    assert_eq!(rig.settle(), ["Arrived free"]);
    fs::create_dir(rig.root.join("free/sub")).unwrap();
    rig.settle();
    fs::rename(rig.root.join("free"), rig.root.join("kept")).unwrap();
    rig.settle();
    fs::write(rig.root.join("kept/sub/file"), "x").unwrap();
    fs::write(rig.root.join("kept/deep/file"), "x").unwrap();
    assert_eq!(rig.settle(), ["Entry kept/deep/file"], "what is excluded under the new name is not watched any more");
    fs::rename(rig.root.join("kept"), rig.root.join("cache")).unwrap();
    assert_eq!(rig.settle(), ["Rescan kept"]);
    assert_eq!(rig.engine.tree.watched(), 1);
}

#[test]
fn an_overflow_is_made_good() {
    let fill = |root: &Path| fs::create_dir_all(root.join("old/gone")).unwrap();
    let mut rig = Rig::with_tree(fill, |_| {});
    let limit: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let [a, b] = ["a", "b"].map(|name| rig.root.join(name));
    fs::write(&a, "x").unwrap();
    for _ in 0..limit / 4 + 1 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    fs::create_dir_all(rig.root.join("new/deep")).unwrap();
    fs::write(rig.root.join("new/deep/file"), "x").unwrap();
    fs::write(rig.root.join("old/file"), "x").unwrap();
    fs::remove_dir(rig.root.join("old/gone")).unwrap();
    let changes = rig.settle();
    assert!(rig.told.iter().any(|told| told == "Overflowed"), "{:?}", rig.told);
    for change in ["NewDirectory new", "NewDirectory new/deep", "Entry new/deep/file", "Entry old/file"] {
        assert!(has(&changes, change), "{change}");
    }
    assert_eq!(changes.last().unwrap(), "Rescan .", "last, when all is watched");
    rig.check_tree("after an overflow");
}

#[test]
fn a_rescan_finds_what_no_event_told() {
    let mut rig = Rig::new(|_| {});
    fs::write(rig.root.join("a"), "x").unwrap();
    rig.settle();
    rig.control.send(Control::Rescan).unwrap();
    assert_eq!(rig.settle(), ["Entry a", "Rescan ."]);
}

#[test]
fn the_first_walk_reports_files_changed_since() {
    let fill = |root: &Path| {
        fs::create_dir(root.join("d")).unwrap();
        fs::write(root.join("d/f"), "x").unwrap();
    };
    let hour = Duration::from_secs(3600);
    for (since, expected) in [(-1, vec!["Entry d/f"]), (1, vec![])] {
        let now = std::time::SystemTime::now();
        let since = if since < 0 { now - hour } else { now + hour };
        let mut rig = Rig::unstarted(fill, |spec| spec.changed_since = Some(since));
        assert_eq!(rig.settle(), expected);
        assert_eq!(rig.told, ["RootReady { returned: false }"]);
    }
}

#[test]
fn deep_trees_are_watched_as_far_as_rsync_can_be_given_them() {
    let mut rig = Rig::new(|_| {});
    let name = "d".repeat(200);
    // Deeper than PATH_MAX allows a path to be.
    let mut at = nix::fcntl::open(&rig.root, nix::fcntl::OFlag::O_PATH, Mode::empty()).unwrap();
    for _ in 0..30 {
        nix::sys::stat::mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
        at = nix::fcntl::openat(&at, name.as_str(), nix::fcntl::OFlag::O_PATH, Mode::empty()).unwrap();
    }
    rig.settle();
    assert_eq!(rig.engine.tree.watched(), 20, "the root, and 19 times 201 bytes");
    nix::sys::stat::mkdirat(&at, "bottom", Mode::S_IRWXU).unwrap();
    assert_eq!(rig.settle(), [""; 0]);
    fs::rename(rig.root.join(&name).join(&name), rig.root.join("short")).unwrap();
    rig.settle();
    assert_eq!(rig.engine.tree.watched(), 22, "a renamed one is watched as far as its new path allows");
    // TempDir removes it by steps, too.
}
