//! When a new file is reported: at its close, however long its writer takes; without one, once it is known that none comes.

use super::*;
use crate::config::EventSwitches;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, open};
use nix::sys::stat::{Mode, SFlag, mknod};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};

/// Longer than [`BRIEF`] holds a new file without a writer.
const LONG: Duration = Duration::from_millis(300);

fn brief() -> Rig {
    let mut rig = Rig::new(|_| {});
    rig.engine.hold_times = BRIEF;
    rig
}

/// Far longer than anything here takes: what is reported before was not held for this.
const AGES: Duration = Duration::from_secs(600);

/// A file without a name in the root.
fn unnamed(rig: &Rig) -> OwnedFd {
    open(&rig.root, OFlag::O_TMPFILE | OFlag::O_RDWR, Mode::S_IRUSR | Mode::S_IWUSR).unwrap()
}

fn link(file: &OwnedFd, path: &Path) {
    let from = format!("/proc/self/fd/{}", file.as_raw_fd());
    nix::unistd::linkat(AT_FDCWD, from.as_str(), AT_FDCWD, path, AtFlags::AT_SYMLINK_FOLLOW).unwrap();
}

#[test]
fn a_file_is_reported_when_its_writer_closes_it() {
    let mut rig = Rig::new(|_| {});
    let mut file = File::create(rig.root.join("a")).unwrap();
    rig.engine.turn();
    file.write_all(b"x").unwrap();
    rig.engine.turn();
    rig.collect();
    assert_eq!(rig.take(), Vec::<String>::new(), "not while it is being written");
    drop(file);
    rig.engine.turn();
    rig.collect();
    assert_eq!(rig.take(), ["Entry a"], "at once");
    fs::remove_file(rig.root.join("a")).unwrap();
    assert_eq!(rig.settle(), ["Removed a"]);
}

#[test]
fn a_writer_that_pauses_is_waited_for_whatever_it_does_before_its_close() {
    let mut rig = brief();
    type Step = fn(&mut File);
    let steps: [(&str, Step); 5] = [
        ("written", |file| file.write_all(b"half").unwrap()),
        ("resized", |file| file.set_len(4096).unwrap()),
        ("reserved", |file| fallocate(&*file, FallocateFlags::empty(), 0, 4096).unwrap()),
        ("mapped", |file| {
            file.set_len(4096).unwrap();
            // SAFETY: the file is this test's own, and nothing shrinks it.
            let mut map = unsafe { memmap2::MmapMut::map_mut(&*file).unwrap() };
            map[..4].copy_from_slice(b"half");
        }),
        ("with another mode", |file| {
            file.write_all(b"half").unwrap();
            file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        }),
    ];
    // Whether the creation is read before anything else happened, or together with all of it.
    for lag in [false, true] {
        let mut files = Vec::new();
        for (name, step) in &steps {
            let path = rig.root.join(name);
            let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
            if !lag {
                rig.engine.turn();
            }
            step(&mut file);
            files.push(file);
        }
        assert_eq!(rig.turn_for(LONG), Vec::<String>::new());
        for ((name, _), file) in steps.iter().zip(files) {
            file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
            drop(file);
            rig.engine.turn();
            rig.collect();
            assert_eq!(rig.take(), [format!("Entry {name}")], "at its close, and once");
            fs::remove_file(rig.root.join(name)).unwrap();
            fs::write(rig.root.join("neighbour"), "x").unwrap();
            rig.settle();
        }
    }
}

#[test]
fn what_waits_for_the_path_of_a_file_that_is_made_anew_is_obsolete() {
    let fill = |root: &Path| fs::write(root.join("a"), "old").unwrap();
    let mut rig = Rig::with_tree(fill, |_| {});
    fs::remove_file(rig.root.join("a")).unwrap();
    let file = File::create(rig.root.join("a")).unwrap();
    rig.engine.turn();
    rig.collect();
    let hints: Vec<Hint> = rig.changes.drain(..).map(|change| change.hint).collect();
    assert_eq!(hints, [Hint::Removed, Hint::BeingWritten]);
    drop(file);
    fs::remove_file(rig.root.join("a")).unwrap();
    fs::write(rig.root.join("a"), "new").unwrap();
    rig.turn_until(|rig| rig.changes.len() >= 2);
    assert!(!rig.changes.iter().any(|change| change.hint == Hint::BeingWritten), "it is complete: {:?}", rig.changes);
}

#[test]
fn what_a_writer_does_after_the_close_counts_again() {
    let mut rig = brief();
    let path = rig.root.join("a");
    let mut file = File::create(&path).unwrap();
    rig.engine.turn();
    file.write_all(b"x").unwrap();
    rig.engine.turn();
    drop(file);
    rig.settle();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(rig.settle(), ["Attributes a"]);

    // An open file whose name another one takes.
    let mut file = File::create(rig.root.join("b")).unwrap();
    file.write_all(b"x").unwrap();
    rig.engine.turn();
    fs::write(rig.out.join("other"), "y").unwrap();
    fs::rename(rig.out.join("other"), rig.root.join("b")).unwrap();
    fs::set_permissions(rig.root.join("b"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(rig.settle(), ["Entry b", "Attributes b"]);

    // A directory whose watch ends with an open file in it, and another one of that name.
    fs::create_dir(rig.root.join("d")).unwrap();
    rig.settle();
    let mut file = File::create(rig.root.join("d/f")).unwrap();
    file.write_all(b"x").unwrap();
    rig.engine.turn();
    fs::rename(rig.root.join("d"), rig.out.join("d")).unwrap();
    fs::create_dir(rig.root.join("d")).unwrap();
    fs::write(rig.out.join("complete"), "y").unwrap();
    fs::hard_link(rig.out.join("complete"), rig.root.join("d/f")).unwrap();
    rig.settle();
    fs::set_permissions(rig.root.join("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(has(&rig.settle(), "Attributes d/f"));
}

#[test]
fn a_renamed_file_or_directory_is_reported_with_what_its_writer_has_done() {
    let mut rig = Rig::with_tree(|root| fs::create_dir(root.join("d")).unwrap(), |_| {});
    let mut file = File::create(rig.root.join("a")).unwrap();
    let mut inside = File::create(rig.root.join("d/f")).unwrap();
    file.write_all(b"x").unwrap();
    inside.write_all(b"x").unwrap();
    rig.engine.turn();
    fs::rename(rig.root.join("a"), rig.root.join("b")).unwrap();
    fs::rename(rig.root.join("d"), rig.root.join("e")).unwrap();
    assert_eq!(rig.settle(), ["Entry a", "Entry b", "Rescan d", "Arrived e"]);
    fs::set_permissions(rig.root.join("e/f"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(rig.settle(), Vec::<String>::new(), "open under the directory's new name, too");
    drop((file, inside));
    assert_eq!(rig.settle(), ["Entry b", "Entry e/f"]);
}

#[test]
fn what_never_closes_is_reported_at_once() {
    let mut rig = Rig::new(|_| {});
    fs::write(rig.out.join("file"), "x").unwrap();
    symlink("nowhere", rig.root.join("link")).unwrap();
    fs::hard_link(rig.out.join("file"), rig.root.join("hard")).unwrap();
    mknod(&rig.root.join("fifo"), SFlag::S_IFIFO, Mode::S_IRUSR, 0).unwrap();
    fs::rename(rig.out.join("file"), rig.root.join("moved")).unwrap();
    rig.engine.turn();
    assert!(rig.engine.holds.next().is_none(), "nothing is held back");
    assert_eq!(rig.settle(), ["Entry link", "Entry hard", "Entry fifo", "Entry moved"]);
}

#[test]
fn an_empty_file_is_reported_at_its_close_or_after_some_seconds() {
    let mut rig = Rig::new(|_| {});
    mknod(&rig.root.join("empty"), SFlag::S_IFREG, Mode::S_IRUSR, 0).unwrap();
    File::create(rig.root.join("touched")).unwrap();
    let open = File::create(rig.root.join("open")).unwrap();
    rig.engine.turn();
    rig.collect();
    assert_eq!(rig.take(), ["Entry touched"]);
    assert_eq!(rig.turn_for(Duration::from_secs(2)), Vec::<String>::new());
    rig.turn_until(|rig| hint_at(rig, "empty", Hint::Entry) && hint_at(rig, "open", Hint::Entry));
    rig.take();
    drop(open);
    assert_eq!(rig.settle(), ["Entry open"]);
}

#[test]
fn a_file_linked_into_place_is_reported_though_no_close_tells_of_it() {
    let mut rig = Rig::new(|_| {});
    rig.engine.hold_times.content = AGES;
    let file = unnamed(&rig);
    nix::unistd::write(&file, b"complete").unwrap();
    // The clock of file times advances meanwhile.
    rig.turn_for(Duration::from_millis(50));
    link(&file, &rig.root.join("linked"));
    rig.turn_until(|rig| hint_at(rig, "linked", Hint::Entry));

    rig.engine.hold_times = BRIEF;
    let file = unnamed(&rig);
    nix::unistd::write(&file, b"complete").unwrap();
    link(&file, &rig.root.join("at the same moment"));
    rig.turn_until(|rig| hint_at(rig, "at the same moment", Hint::Entry));
}

#[test]
fn a_temporary_name_is_reported_when_its_writer_has_closed_it() {
    let mut rig = brief();
    let mut file = File::create(rig.root.join(".a.Ab12Cd")).unwrap();
    file.write_all(b"half").unwrap();
    assert_eq!(rig.turn_for(LONG), Vec::<String>::new());
    file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(rig.turn_for(LONG), Vec::<String>::new());
    drop(file);
    rig.turn_until(|rig| hint_at(rig, ".a.Ab12Cd", Hint::Entry));

    let mut file = File::create(rig.root.join(".b.Ab12Cd")).unwrap();
    file.write_all(b"half").unwrap();
    rig.turn_for(LONG);
    drop(file);
    fs::rename(rig.root.join(".b.Ab12Cd"), rig.root.join("b")).unwrap();
    assert_eq!(rig.settle(), ["Entry b", "Entry .b.Ab12Cd"], "a comparison may have brought the temporary one");
}

#[test]
fn a_drain_leaves_out_open_files_and_waits_for_those_that_may_be_complete() {
    let mut rig = brief();
    let mut open = File::create(rig.root.join("open")).unwrap();
    open.write_all(b"half").unwrap();
    let mut temporary = File::create(rig.root.join("open~")).unwrap();
    temporary.write_all(b"half").unwrap();
    fs::write(rig.root.join("closed"), "x").unwrap();
    assert_eq!(rig.settle(), ["Entry closed"]);
    let linked = unnamed(&rig);
    nix::unistd::write(&linked, b"complete").unwrap();
    link(&linked, &rig.root.join("linked"));
    assert_eq!(rig.settle(), ["Entry linked"]);
    drop((open, temporary));
    assert_eq!(rig.settle(), ["Entry open", "Entry open~"]);
}

#[test]
fn a_file_found_in_a_new_directory_waits_for_its_close_or_for_a_second_without_changes() {
    let mut rig = Rig::new(|_| {});
    rig.engine.hold_times.content = Duration::from_secs(5);
    let directory = rig.root.join("new");
    fs::create_dir(&directory).unwrap();
    let create = |name: &str| {
        let mut file = File::create(directory.join(name)).unwrap();
        file.write_all(b"half").unwrap();
        file
    };
    let (mut later, open, _at_rest) = (create("written later"), create("closed later"), create("at rest"));
    let restored = create("restored");
    restored.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).unwrap();
    symlink("/", directory.join("link")).unwrap();
    fs::hard_link(directory.join("restored"), directory.join("hard")).unwrap();
    rig.engine.turn();
    rig.engine.turn();
    rig.collect();
    let mut told = rig.take();
    told.sort();
    assert_eq!(told, ["Entry new/hard", "Entry new/link", "Entry new/restored", "NewDirectory new"]);
    later.write_all(b"more").unwrap();
    drop(open);
    rig.engine.turn();
    rig.collect();
    assert_eq!(rig.take(), ["Entry new/closed later"], "one that is written holds back no other");
    rig.turn_until(|rig| hint_at(rig, "new/at rest", Hint::Entry));
    assert_eq!(rig.take(), ["Entry new/at rest"]);
    drop(later);
    assert_eq!(rig.settle(), ["Entry new/written later"]);
}

#[test]
fn a_stopped_watch_reads_what_happened_before_it_takes_a_file_for_complete() {
    let mut rig = brief();
    let path = rig.root.join("a");
    let mut file = File::create(&path).unwrap();
    rig.engine.turn();
    assert!(rig.engine.holds.next().is_some());
    // The time of the hold passes while the event of the write waits in the kernel's queue.
    file.write_all(b"half").unwrap();
    let stopped = Instant::now();
    while stopped.elapsed() < LONG {
        std::thread::yield_now();
    }
    assert_eq!(rig.turn_for(LONG), Vec::<String>::new());
    drop(file);
    assert_eq!(rig.settle(), ["Entry a"]);
}

#[test]
fn lost_events_end_what_is_known_of_open_files() {
    let mut rig = brief();
    let mut file = File::create(rig.root.join("a")).unwrap();
    file.write_all(b"half").unwrap();
    rig.settle();
    rig.engine.relieve();
    drop(file);
    rig.engine.relieve();
    rig.engine.backlog.clear();
    rig.engine.overflowed();
    assert!(has(&rig.settle(), "Entry a"), "the walk that follows finds it");
    fs::set_permissions(rig.root.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(rig.settle(), ["Attributes a"]);
}

#[test]
fn with_creations_reported_a_new_file_is_reported_at_once_and_its_writes_at_its_close() {
    let events = EventSwitches { create_file: true, ..EventSwitches::EXACT };
    let mut rig = Rig::new(|spec| spec.events = events);
    let mut file = File::create(rig.root.join("a")).unwrap();
    rig.engine.turn();
    rig.collect();
    assert_eq!(rig.take(), ["Entry a"]);
    file.write_all(b"x").unwrap();
    rig.engine.turn();
    rig.collect();
    assert_eq!(rig.take(), Vec::<String>::new());
    drop(file);
    assert_eq!(rig.settle(), ["Entry a"]);
}
