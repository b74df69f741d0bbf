//! One file after quiet: how long until the remote has it whole?

use super::{Field, Workload, single};
use crate::content::content;
use crate::figures::{Measure, Outcome, median, ms, quantile, rounded};
use crate::tools::Tool;
use std::fs;
use std::time::{Duration, Instant};

pub struct Latency;

const SIZE: usize = 10 * 1024;
const SAMPLES: usize = 100;
/// A tool that needs longer for the first ones gets no more than so much time for all.
const TIME: Duration = Duration::from_secs(10);

impl Workload for Latency {
    fn name(&self) -> &'static str {
        "latency"
    }

    fn about(&self) -> &'static str {
        "One file of 10 KB is written after a moment of quiet, 100 times."
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::Median, Measure::P99, Measure::CpuEach, Measure::IdleMemory]
    }

    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = field.stand(1);
        let times = (0..field.sized(SAMPLES / 4, 3)).map(|sample| {
            let file = stand.path(&format!("by hand {sample}"));
            fs::write(&file, content(sample, SIZE)).expect("room for a file");
            let start = Instant::now();
            let status = stand.rsync(&file).status();
            assert!(status.is_ok_and(|status| status.success()), "the plain rsync failed");
            ms(start.elapsed())
        });
        vec![("one rsync".to_owned(), outcome(times.collect()))]
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let stand = field.stand(1);
        let running = field.start(tool, &stand);
        // What brought the probe may still be there.
        running.comes_to_rest(Duration::from_millis(200), Duration::from_secs(2));
        let memory = running.memory();
        let cpu = running.cpu();
        let begin = Instant::now();
        let (mut times, mut lost) = (Vec::new(), 0);
        for sample in 0..field.sized(SAMPLES, 5) {
            single::pause(sample);
            match single::arrival(&stand, &format!("file{sample}"), &content(sample, SIZE), single::LOST) {
                Some(time) => times.push(ms(time)),
                None => lost += 1,
            }
            if begin.elapsed() > TIME {
                break;
            }
        }
        let written = times.len() + lost;
        let cpu = (running.cpu() - cpu) * 1000.0 / written as f64;
        let outcome = outcome(times).with(Measure::CpuEach, cpu).with(Measure::IdleMemory, memory);
        match lost {
            0 => outcome,
            _ => outcome.short(format!("{lost} of {written} never arrived")),
        }
    }
}

/// Of the times of single files.
pub fn outcome(times: Vec<f64>) -> Outcome {
    let mut outcome = Outcome::default();
    for (measure, value) in [(Measure::Median, median(&times)), (Measure::P99, quantile(&times, 0.99))] {
        outcome.values.extend(value.map(|value| (measure, rounded(value))));
    }
    Outcome { samples: times.into_iter().map(rounded).collect(), ..outcome }
}
