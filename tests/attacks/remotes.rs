//! Remotes that are down, and a state directory that cannot be used: what is kept meanwhile.

use crate::siege::{OF_THE_BUILD, Siege, WORST};
use crate::support::until;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Maximum time for work on thousands of files, on a busy machine.
const MUCH: Duration = Duration::from_secs(180);

#[test]
fn lists_of_long_paths_come_page_by_page() {
    const PATHS: usize = 9_500;
    let siege = Siege::lay(|place| vec![Siege::nowhere(place)]);
    // 3.8 KB in all, and with the directories before it less than the 4,096 bytes that a path may have.
    let mut deep = PathBuf::new();
    (0..15).for_each(|_| deep.push("d".repeat(240)));
    let directory = siege.ward.place.source().join(&deep);
    fs::create_dir_all(&directory).unwrap();
    let name = "n".repeat(150);
    siege.forget_peak();
    for file in 0..PATHS {
        fs::write(directory.join(format!("{name}{file:05}")), "").unwrap();
    }
    for verb in ["pending", "failures"] {
        until("all of them are listed", MUCH, || siege.ward.ask(verb).len() >= PATHS);
    }
    assert_eq!(siege.ward.remotes().len(), 2, "it is still on the bus");
    let worst = siege.memory("VmHWM");
    println!("9,500 pending and failed paths of 3.8 KB, listed: {:.1} MB at worst", worst as f64 / 1024.0);
    // Not the lists, but the paths themselves, once in memory and once on their way to the journal and to rsync.
    assert!(worst < 4 * WORST, "{worst} kB resident");
}

#[test]
fn without_a_state_directory_memory_is_bounded() {
    let siege = Siege::lay(|place| {
        // A file where the directory would be.
        fs::write(place.make("agent").join("state"), "").unwrap();
        Vec::new()
    });
    let directory = siege.ward.place.source().join("x".repeat(240)).join("y".repeat(240)).join("z".repeat(240));
    fs::create_dir_all(&directory).unwrap();
    siege.forget_peak();
    // The same paths again and again: few of them are pending at a time.
    let name = |file: usize| directory.join(format!("{}-{file}", "n".repeat(200)));
    for _ in 0..100 {
        (0..400).for_each(|file| fs::write(name(file), "").unwrap());
        (0..400).for_each(|file| fs::remove_file(name(file)).unwrap());
    }
    siege.ward.put("last");
    until("the last file", MUCH, || siege.arrived("last"));
    let worst = siege.memory("VmHWM");
    println!("40,000 changes of paths of 1 KB, and no state directory: {:.1} MB at worst", worst as f64 / 1024.0);
    assert!(worst < WORST + OF_THE_BUILD, "{worst} kB resident");
    siege.ward.agent.wait_logged("cannot be used");
}
