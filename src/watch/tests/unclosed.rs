//! When a file is reported that was modified and that no close follows.

use super::*;
use nix::unistd::{mkfifo, truncate};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;

/// Longer than [`BRIEF`] waits for a close.
const LONG: Duration = Duration::from_millis(300);

/// Watching files that were made and closed.
fn with_files(names: &[&str]) -> Rig {
    let mut rig = Rig::new(|_| {});
    for name in names {
        fs::create_dir_all(rig.root.join(name).parent().unwrap()).unwrap();
        fs::write(rig.root.join(name), "a few bytes").unwrap();
    }
    rig.settle();
    rig
}

fn told(rig: &mut Rig) -> Vec<String> {
    rig.engine.turn();
    rig.collect();
    rig.take()
}

#[test]
fn a_file_that_is_truncated_by_name_is_reported_after_a_pause() {
    let mut rig = with_files(&["a", "d/b", "kept~"]);
    truncate(&rig.root.join("a"), 3).unwrap();
    truncate(&rig.root.join("d/b"), 5).unwrap();
    truncate(&rig.root.join("kept~"), 5).unwrap();
    assert_eq!(told(&mut rig), Vec::<String>::new(), "a close may follow");
    fs::rename(rig.root.join("d"), rig.root.join("e")).unwrap();
    let started = Instant::now();
    rig.turn_until(|rig| ["a", "e/b", "kept~"].iter().all(|path| hint_at(rig, path, Hint::Entry)));
    assert!(started.elapsed() >= Duration::from_millis(800), "{:?}", started.elapsed());
    assert_eq!(rig.turn_for(LONG).iter().filter(|told| told.starts_with("Entry")).count(), 3, "once");
}

#[test]
fn a_drain_covers_what_was_truncated_before() {
    let mut rig = with_files(&["a", "empty", "writing"]);
    for size in [5, 3] {
        truncate(&rig.root.join("a"), size).unwrap();
        assert_eq!(rig.settle(), ["Entry a"], "also when the pause is a longer one by now");
    }
    truncate(&rig.root.join("empty"), 0).unwrap();
    assert_eq!(rig.settle(), ["Entry empty"]);
    // A writer that continues does not delay the answer.
    let file = File::options().write(true).open(rig.root.join("writing")).unwrap();
    file.write_all_at(b"half", 0).unwrap();
    rig.control.send(Control::Drain(7)).unwrap();
    let started = Instant::now();
    rig.turn_until(|rig| {
        file.write_all_at(b"half", 0).unwrap();
        rig.told.last().is_some_and(|told| told == "Drained(7)")
    });
    assert!(started.elapsed() < Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(rig.take(), Vec::<String>::new());
}

#[test]
fn a_file_that_is_being_written_is_reported_at_its_close() {
    let mut rig = with_files(&["a"]);
    rig.engine.hold_times = HoldTimes { content: LONG, ..BRIEF };
    let file = File::create(rig.root.join("a")).unwrap();
    let started = Instant::now();
    rig.turn_until(|_| {
        file.write_all_at(b"more", 0).unwrap();
        started.elapsed() > 3 * LONG
    });
    assert_eq!(rig.take(), Vec::<String>::new(), "as long as it is written");
    drop(file);
    assert_eq!(told(&mut rig), ["Entry a"]);
    assert!(rig.engine.unclosed.is_empty());
}

#[test]
fn a_file_that_is_renamed_removed_or_excluded_is_reported_as_such() {
    let mut rig = with_files(&["a", "b", "c"]);
    for name in ["a", "b"] {
        truncate(&rig.root.join(name), 3).unwrap();
    }
    rig.engine.turn();
    fs::rename(rig.root.join("a"), rig.root.join("z")).unwrap();
    fs::remove_file(rig.root.join("b")).unwrap();
    mkfifo(&rig.root.join("b"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    assert_eq!(rig.settle(), ["Entry a", "Entry z", "Removed b", "Entry b"]);
    assert!(rig.engine.unclosed.is_empty());
    assert!(!rig.changes.iter().any(|change| change.from.is_some()));
}

#[test]
fn a_truncation_outlives_the_process() {
    let mut rig = with_files(&["a"]);
    rig.write_down();
    rig.turn_for(Duration::from_millis(10));
    truncate(&rig.root.join("a"), 3).unwrap();
    rig.engine.turn();
    rig.collect();
    rig.write_down();
    rig.engine.turn();
    rig.die();
    rig.engine.hold_times = BRIEF;
    // As if the file had been made long ago.
    rig.engine.closes_known_since = std::time::SystemTime::UNIX_EPOCH;
    assert_eq!(rig.settle(), ["Entry a"]);
    assert_eq!(rig.resumptions.0, 1);
}

#[test]
fn a_file_that_is_found_in_a_new_directory_and_modified_waits_for_its_close_or_a_long_pause() {
    let mut rig = Rig::new(|_| {});
    fs::create_dir(rig.root.join("d")).unwrap();
    let file = File::create(rig.root.join("d/f")).unwrap();
    file.write_all_at(b"half", 0).unwrap();
    rig.engine.turn();
    rig.engine.turn();
    file.write_all_at(b"half", 4).unwrap();
    assert_eq!(rig.settle(), ["NewDirectory d"]);
    assert!(rig.engine.unclosed.is_empty(), "no barrier waits for it");
    assert!(rig.engine.unclosed.next().is_some_and(|at| at > Instant::now() + Duration::from_secs(60)));
    drop(file);
    assert_eq!(rig.settle(), ["Entry d/f"]);
}

#[test]
fn a_new_file_whose_creation_was_forgotten_is_waited_for() {
    let mut rig = with_files(&[]);
    let mut file = File::create(rig.root.join("a")).unwrap();
    file.write_all(b"half").unwrap();
    rig.settle();
    rig.write_down();
    rig.turn_for(Duration::from_millis(50));
    rig.die();
    rig.engine.hold_times = BRIEF;
    rig.turn_for(Duration::from_millis(10));
    file.write_all(b"half").unwrap();
    assert_eq!(rig.settle(), Vec::<String>::new());
    assert_eq!(rig.turn_for(LONG), Vec::<String>::new());
    drop(file);
    assert_eq!(rig.settle(), ["Entry a"]);
}
