//! Small files while a large one is under way.

use super::{Field, Workload, single};
use crate::content::content;
use crate::figures::{Measure, Outcome, median, ms, quantile};
use crate::stand::{Place, Stand};
use crate::tools::Tool;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub struct Beside;

const MB: u64 = 1 << 20;
const GB: u64 = 1 << 30;
/// How long a small file is waited for: until the large one is through, where one waits for the other.
const LOST: Duration = Duration::from_secs(120);
const SAMPLES: usize = 20;

impl Beside {
    /// Bytes of the large file.
    fn size(field: &Field) -> u64 {
        field.sized(5 * GB, 64 * MB)
    }
}

impl Workload for Beside {
    fn name(&self) -> &'static str {
        "beside"
    }

    fn about(&self) -> &'static str {
        "Files of 1 KB, one by one, while a file of 5 GB is in flight that appeared before them."
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::Median, Measure::P99, Measure::Calm]
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Tmpfs]
    }

    fn most_rounds(&self) -> usize {
        1
    }

    fn obstacle(&self) -> Option<String> {
        // Twice the file, and room to breathe.
        Place::Tmpfs.lacks(12 * GB, 1_000)
    }

    /// One rsync for each file, beside the one that sends the large file.
    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = field.stand(1);
        let single = stand.path("single");
        let one_by_one = |stand: &Stand, sample: usize| {
            single::pause(sample);
            fs::write(&single, content(sample, 1024)).expect("room for a file");
            let start = Instant::now();
            let status = stand.rsync(&single).status();
            assert!(status.is_ok_and(|status| status.success()), "a plain rsync failed");
            start.elapsed()
        };
        let calm = (0..SAMPLES).map(|sample| ms(one_by_one(&stand, sample))).collect::<Vec<_>>();
        let large = stand.path("large");
        write_large(&large, Self::size(field));
        let mut flight = stand.rsync(&large).stdin(Stdio::null()).spawn().expect("rsync");
        let mut busy = Vec::new();
        while flight.try_wait().expect("our child").is_none() {
            busy.push(ms(one_by_one(&stand, busy.len())));
        }
        vec![("one rsync".to_owned(), outcome(&busy, &calm))]
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let stand = field.stand(1);
        let running = field.start(tool, &stand);
        let sample = |sample: usize, lost: Duration| {
            single::pause(sample);
            single::arrival(&stand, &format!("single{sample}"), &content(sample, 1024), lost).map(ms)
        };
        let calm = (0..field.sized(SAMPLES, 3)).filter_map(|number| sample(number, single::LOST)).collect::<Vec<_>>();
        write_large(&stand.path("large"), Self::size(field));
        fs::rename(stand.path("large"), stand.source().join("large")).expect("one file system");
        let arrived = stand.copy(0).join("large");
        let (mut busy, mut lost) = (Vec::new(), 0);
        let start = Instant::now();
        while !arrived.exists() && start.elapsed() < LOST {
            match sample(SAMPLES + busy.len() + lost, LOST) {
                Some(time) => busy.push(time),
                None => lost += 1,
            }
        }
        drop(running);
        let outcome = outcome(&busy, &calm);
        match (lost, arrived.exists()) {
            (0, true) => outcome,
            (0, false) => outcome.short(format!("the large file had not arrived after {} s", LOST.as_secs())),
            _ => outcome.short(format!("{lost} of {} never arrived", lost + busy.len())),
        }
    }
}

fn outcome(busy: &[f64], calm: &[f64]) -> Outcome {
    let values = [(Measure::Median, median(busy)), (Measure::P99, quantile(busy, 0.99)), (Measure::Calm, median(calm))];
    let known = values.into_iter().filter_map(|(measure, value)| Some((measure, value?)));
    known.fold(Outcome::default(), |outcome, (measure, value)| outcome.with(measure, value))
}

/// No holes in it, nothing that compresses.
fn write_large(path: &Path, size: u64) {
    let mut file = File::create(path).expect("room for a file");
    for chunk in 0..size / MB {
        file.write_all(&content(chunk as usize, MB as usize)).expect("room for a large file");
    }
}
