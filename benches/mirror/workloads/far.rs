//! A remote at the other end of a slow and long line.

use super::race::Race;
use super::{Field, Workload, latency, one_at_a_time, single};
use crate::content::{self, content};
use crate::figures::{Measure, Outcome, ms};
use crate::link::Link;
use crate::stand::{Place, Stand};
use crate::tools::Tool;
use std::fs;
use std::time::Duration;

/// Half of what an answer takes.
const DELAY: Duration = Duration::from_millis(25);
const BITS: u32 = 10_000_000;
const SAMPLES: usize = 15;

fn stand(field: &Field) -> Stand {
    Stand::far(field.place, DELAY, BITS)
}

/// A burst.
pub fn race() -> Race {
    Race {
        name: "link",
        about: "1,000 files of 10 KB are written; a line of 10 Mbit/s lies between, over which an answer takes 50 ms.",
        measures: &[Measure::Converged, Measure::Cpu, Measure::Runs],
        places: &[Place::Tmpfs],
        most_rounds: 1,
        unsuited: one_at_a_time,
        write: |field, stand| content::files(&stand.source(), 20, field.sized(1_000, 40), 10 * 1024),
        ground: |field, _| stand(field),
        obstacle: Link::obstacle,
        copied: false,
        ..Race::PLAIN
    }
}

/// Single files.
pub struct Latency;

impl Workload for Latency {
    fn name(&self) -> &'static str {
        "link-latency"
    }

    fn about(&self) -> &'static str {
        "One file of 1 KB after a moment of quiet, 15 times; a line of 10 Mbit/s lies between, over which an answer takes \
         50 ms."
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::Median, Measure::P99]
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Tmpfs]
    }

    fn most_rounds(&self) -> usize {
        1
    }

    fn obstacle(&self) -> Option<String> {
        Link::obstacle()
    }

    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = stand(field);
        let times = (0..field.sized(SAMPLES, 2)).map(|sample| {
            fs::write(stand.source().join(format!("by hand {sample}")), content(sample, 1024))
                .expect("room for a file");
            ms(stand.plain_rsync())
        });
        vec![("one rsync".to_owned(), latency::outcome(times.collect()))]
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let stand = stand(field);
        let _running = field.start(tool, &stand);
        let times = (0..field.sized(SAMPLES, 2)).filter_map(|sample| {
            single::pause(sample);
            single::arrival(&stand, &format!("single{sample}"), &content(sample, 1024), single::LOST)
        });
        let times = times.map(ms).collect::<Vec<_>>();
        let lost = field.sized(SAMPLES, 2) - times.len();
        match (latency::outcome(times), lost) {
            (outcome, 0) => outcome,
            (outcome, _) => outcome.short(format!("{lost} files never arrived")),
        }
    }
}
