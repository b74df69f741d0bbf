//! What visitors of a web site upload.

use super::race::Race;
use super::{Field, one_at_a_time};
use crate::content::content;
use crate::figures::Measure;
use crate::stand::{Place, Stand};
use std::fs;
use std::time::{Duration, Instant};

const A_SECOND: u32 = 200;
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
        write: |field, stand| write(field, stand, |file| Duration::from_secs(1) * file / A_SECOND),
        write_at_once: Some(|field, stand| write(field, stand, |_| Duration::ZERO)),
        unsuited: one_at_a_time,
        copied: false,
        ..Race::PLAIN
    }
}

/// Each file has its own moment, so that a slow one does not make the others fewer.
fn write(field: &Field, stand: &Stand, moment: fn(u32) -> Duration) {
    let source = stand.source();
    let start = Instant::now();
    for file in 0..A_SECOND * field.sized(60, 1) {
        std::thread::sleep(moment(file).saturating_sub(start.elapsed()));
        let path = source.join(format!("day{}/photo{file}.jpg", file as usize % DIRECTORIES));
        fs::write(path, content(file as usize, SIZE)).expect("room for a file");
    }
}
