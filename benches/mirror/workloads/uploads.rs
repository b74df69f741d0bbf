//! What visitors of a web site upload.

use super::race::Race;
use crate::content::content;
use crate::figures::Measure;
use crate::stand::Place;
use std::fs;
use std::time::{Duration, Instant};

const A_SECOND: usize = 200;
const SIZE: usize = 100 * 1024;
const DIRECTORIES: usize = 20;

pub fn race() -> Race {
    Race {
        name: "uploads",
        about: "200 files of 100 KB a second, for a minute, each with a new name, in 20 directories.",
        measures: &[Measure::Lag, Measure::Cpu, Measure::Memory, Measure::Runs],
        places: &[Place::Tmpfs],
        most_rounds: 1,
        prepare: |_, stand| {
            for directory in 0..DIRECTORIES {
                fs::create_dir(stand.source().join(format!("day{directory}"))).expect("a new directory");
            }
        },
        write: |field, stand| {
            let source = stand.source();
            let start = Instant::now();
            for file in 0..field.sized(60 * A_SECOND, A_SECOND) {
                let due = Duration::from_secs_f64(file as f64 / A_SECOND as f64);
                std::thread::sleep(due.saturating_sub(start.elapsed()));
                let path = source.join(format!("day{}/photo{file}.jpg", file % DIRECTORIES));
                fs::write(path, content(file, SIZE)).expect("room for a file");
            }
        },
        copied: false,
        ..Race::PLAIN
    }
}
