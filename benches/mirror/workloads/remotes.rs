//! The burst again, to several remotes.

use super::one_at_a_time;
use super::race::Race;
use crate::content;
use crate::figures::Measure;
use crate::stand::Place;

/// Three, and ten.
pub fn races() -> [Race; 2] {
    let to = Race {
        measures: &[Measure::Converged, Measure::Cpu, Measure::Memory, Measure::Runs],
        places: &[Place::Tmpfs],
        most_rounds: 2,
        unsuited: one_at_a_time,
        write: |field, stand| content::files(&stand.source(), 20, field.sized(10_000, 200), 10 * 1024),
        // A copy more says nothing of several.
        copied: false,
        ..Race::PLAIN
    };
    [
        Race { name: "remotes-3", about: "The burst of 10,000 files of 10 KB, to three remotes.", remotes: 3, ..to },
        Race { name: "remotes-10", about: "The burst of 10,000 files of 10 KB, to ten remotes.", remotes: 10, ..to },
    ]
}
