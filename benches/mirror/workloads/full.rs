//! A full sync of a tree in which nothing changed: how long it takes, and whether live changes wait for it.

use super::{Field, Workload, not_ours, single};
use crate::asked::Asked;
use crate::content;
use crate::figures::{Measure, Outcome, median, ms};
use crate::stand::{Place, Stand};
use crate::support::processes::Process;
use crate::tools::{Tool, ticks_a_second};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub struct Full;

const FILES: usize = 20_000;
/// Full syncs in a round; one takes too little CPU to be measured by the tick.
const TIMES: u32 = 5;
const SAMPLES: usize = 40;

impl Workload for Full {
    fn name(&self) -> &'static str {
        "full"
    }

    fn about(&self) -> &'static str {
        "A full sync of an unchanged tree, 20,000 files of 4 KB in 200 directories; then files of 1 KB, one by one, while \
         one full sync follows the other."
    }

    fn measures(&self) -> &'static [Measure] {
        &[Measure::FullSync, Measure::Cpu, Measure::Median, Measure::Calm]
    }

    fn most_rounds(&self) -> usize {
        3
    }

    fn obstacle(&self) -> Option<String> {
        let found = Command::new("dbus-daemon").arg("--version").output();
        found.err().map(|error| format!("dbus-daemon, by which a full sync is asked for: {error}"))
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Tmpfs]
    }

    fn unsuited(&self, tool: &dyn Tool) -> Option<&'static str> {
        not_ours(tool).then_some("nobody can ask it for a full sync")
    }

    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = filled(field);
        let own = || Process::of(std::process::id() as i32).map_or(0, Process::waited_cpu_ticks);
        let before = own();
        let times = (0..TIMES).map(|_| stand.plain_rsync().as_secs_f64()).collect::<Vec<_>>();
        let cpu = (own() - before) as f64 / ticks_a_second() / f64::from(TIMES);
        let outcome = Outcome::default().with(Measure::FullSync, median(&times).unwrap_or_default());
        // Of one name, the rsync of all might send it at the same time, and each put it in the other's way.
        let by_hand = |sample: usize| {
            let file = stand.path(&format!("single{sample}"));
            fs::write(&file, content::content(0, 1024)).expect("room for a file");
            let start = Instant::now();
            let status = stand.rsync(&file).status();
            assert!(status.is_ok_and(|status| status.success()), "a plain rsync failed");
            Some(start.elapsed())
        };
        let (calm, busy) = calm_and_busy(field, by_hand, || stand.plain_rsync());
        let outcome = outcome.with(Measure::Cpu, cpu);
        vec![("one rsync".to_owned(), with_latency(outcome, calm, busy))]
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let mut stand = filled(field);
        stand.offer_a_bus();
        let running = field.start(tool, &stand);
        let asked = Asked::on(stand.bus().expect("it was just offered"));
        let before = running.cpu();
        let times = (0..TIMES).map(|_| asked.full_sync().as_secs_f64()).collect::<Vec<_>>();
        let cpu = (running.cpu() - before) / f64::from(TIMES);
        let arrival = |sample: usize| {
            let bytes = content::content(sample, 1024);
            single::arrival(&stand, &format!("dir0/single{sample}"), &bytes, single::LOST)
        };
        let (calm, busy) = calm_and_busy(field, arrival, || asked.full_sync());
        let outcome =
            Outcome::default().with(Measure::FullSync, median(&times).unwrap_or_default()).with(Measure::Cpu, cpu);
        with_latency(outcome, calm, busy)
    }
}

/// The median times of single files, in milliseconds: while nothing else goes on, and while one full sync follows the
/// other. `None`, if one was lost.
fn calm_and_busy(
    field: &Field,
    single: impl Fn(usize) -> Option<Duration>,
    full_sync: impl Fn() -> Duration + Sync,
) -> (Option<f64>, Option<f64>) {
    let samples = |first: usize| {
        let times = (first..first + field.sized(SAMPLES, 5)).map(|sample| {
            single::pause(sample);
            single(sample).map(ms)
        });
        median(&times.collect::<Option<Vec<_>>>()?)
    };
    let calm = samples(0);
    let enough = AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !enough.load(Ordering::Relaxed) {
                full_sync();
            }
        });
        let busy = samples(SAMPLES);
        enough.store(true, Ordering::Relaxed);
        busy
    });
    (calm, busy)
}

fn with_latency(outcome: Outcome, calm: Option<f64>, busy: Option<f64>) -> Outcome {
    match (busy, calm) {
        (Some(busy), Some(calm)) => outcome.with(Measure::Median, busy).with(Measure::Calm, calm),
        _ => outcome.short("a file never arrived".to_owned()),
    }
}

fn filled(field: &Field) -> Stand {
    let stand = field.stand(1);
    content::files(&stand.source(), 200, field.sized(FILES, 1_000), 4 * 1024);
    stand.plain_rsync();
    stand
}
