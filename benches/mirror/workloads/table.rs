//! The races.

use super::Field;
use super::race::Race;
use crate::content::{self, content};
use crate::crates;
use crate::figures::Measure;
use crate::stand::{Place, Stand};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

const KB: usize = 1024;
const MB: usize = 1024 * KB;

/// In the order of the report.
pub fn races() -> Vec<Race> {
    vec![
        Race {
            name: "burst",
            about: "10,000 files of 10 KB are written in 20 new directories, as fast as one process can.",
            write: |field, stand| content::files(&stand.source(), 20, field.sized(10_000, 500), 10 * KB),
            ..Race::PLAIN
        },
        Race {
            name: "tree",
            about: "A source tree is copied in with `cp -r`: crates of some 8,000 files and directories, and symbolic links.",
            prepare: |field, stand| crates::copy(&stand.path("origin"), field.sized(8_000, 300)),
            write: |_, stand| {
                let mut copy = Command::new("cp");
                let copied = copy.arg("-r").arg(stand.path("origin")).arg(stand.source().join("tree")).status();
                assert!(copied.is_ok_and(|status| status.success()), "cp -r failed");
            },
            ..Race::PLAIN
        },
        Race {
            name: "rmtree",
            about: "A tree of 10,000 files in 20 directories is removed.",
            measures: &[Measure::Lag, Measure::Cpu, Measure::Runs],
            prepare: |field, stand| prepared(stand, 20, field.sized(10_000, 500)),
            write: |_, stand| fs::remove_dir_all(stand.source().join("tree")).expect("it was prepared"),
            copied: false,
            ..Race::PLAIN
        },
        Race {
            name: "tree-rm",
            about: "The source tree of `tree` is removed with `rm -r`.",
            measures: &[Measure::Lag, Measure::Cpu, Measure::Runs],
            prepare: |field, stand| crates::copy(&stand.source().join("tree"), field.sized(8_000, 300)),
            write: |_, stand| {
                let removed = Command::new("rm").arg("-r").arg(stand.source().join("tree")).status();
                assert!(removed.is_ok_and(|status| status.success()), "rm -r failed");
            },
            copied: false,
            ..Race::PLAIN
        },
        Race {
            name: "mv",
            about: "A directory of 1,000 files of 10 KB is renamed.",
            measures: &[Measure::Converged, Measure::Cpu, Measure::Runs],
            prepare: |field, stand| prepared(stand, 1, field.sized(1_000, 50)),
            write: |_, stand| {
                fs::rename(stand.source().join("tree"), stand.source().join("renamed")).expect("it was prepared");
            },
            copied: false,
            ..Race::PLAIN
        },
        Race {
            name: "churn",
            about: "For 20 seconds, 200 files of 100 KB are written each second, over and over to the same 500 names.",
            measures: &[Measure::Lag, Measure::Cpu, Measure::Memory, Measure::Runs],
            places: &[Place::Tmpfs],
            most_rounds: 3,
            write: |field, stand| churn(field, stand, true),
            write_at_once: Some(|field, stand| churn(field, stand, false)),
            copied: false,
            ..Race::PLAIN
        },
        Race {
            name: "big",
            about: "200 files of 5 MB are written in one new directory, as fast as one process can.",
            most_rounds: 3,
            write: |field, stand| content::files(&stand.source(), 1, field.sized(200, 4), 5 * MB),
            ..Race::PLAIN
        },
    ]
}

/// `count` files of 10 KB below `tree`.
fn prepared(stand: &Stand, directories: usize, count: usize) {
    let tree = stand.source().join("tree");
    fs::create_dir(&tree).expect("an empty source");
    content::files(&tree, directories, count, 10 * KB);
}

/// In its `pace` each write has its own moment, so that a slow one does not make the others fewer.
fn churn(field: &Field, stand: &Stand, pace: bool) {
    const A_SECOND: u32 = 200;
    const NAMES: usize = 500;
    let mut order = fastrand::Rng::with_seed(1);
    let start = Instant::now();
    for number in 0..A_SECOND * field.sized(20, 2) {
        let moment = Duration::from_secs(1) * number / A_SECOND;
        if pace {
            std::thread::sleep(moment.saturating_sub(start.elapsed()));
        }
        let name = format!("file{}", order.usize(..NAMES));
        fs::write(stand.source().join(name), content(number as usize, 100 * KB)).expect("room for a file");
    }
}
