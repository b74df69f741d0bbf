//! The races.

use super::race::Race;
use crate::content;

const KB: usize = 1024;

/// In the order of the report.
pub fn races() -> Vec<Race> {
    vec![Race {
        name: "burst",
        about: "10,000 files of 10 KB are written in 20 new directories, as fast as one process can.",
        write: |field, stand| content::files(&stand.source(), 20, field.sized(10_000, 500), 10 * KB),
        ..Race::PLAIN
    }]
}
