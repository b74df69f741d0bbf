//! A full sync of a tree in which nothing changed: how long it takes, and whether live changes wait for it.

use super::{Field, Workload, single};
use crate::asked::Asked;
use crate::content;
use crate::figures::{Measure, Outcome, median, ms};
use crate::stand::{Place, Stand};
use crate::support::processes::Process;
use crate::tools::{Tool, ticks_a_second};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

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

    fn places(&self) -> &'static [Place] {
        &[Place::Tmpfs]
    }

    fn unsuited(&self, tool: &dyn Tool) -> Option<&'static str> {
        (!tool.name().starts_with("sersync") || tool.name() == "sersync2")
            .then_some("nobody can ask it for a full sync")
    }

    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = filled(field);
        let own = || Process::of(std::process::id() as i32).map_or(0, Process::waited_cpu_ticks);
        let before = own();
        let times = (0..TIMES).map(|_| stand.plain_rsync().as_secs_f64()).collect::<Vec<_>>();
        let cpu = (own() - before) as f64 / ticks_a_second() / f64::from(TIMES);
        let outcome = Outcome::default().with(Measure::FullSync, median(&times).unwrap_or_default());
        vec![("one rsync".to_owned(), outcome.with(Measure::Cpu, cpu))]
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let mut stand = filled(field);
        stand.offer_a_bus();
        let running = field.start(tool, &stand);
        let asked = Asked::on(stand.bus().expect("it was just offered"));
        let before = running.cpu();
        let times = (0..TIMES).map(|_| asked.full_sync().as_secs_f64()).collect::<Vec<_>>();
        let cpu = (running.cpu() - before) / f64::from(TIMES);
        let samples = |first: usize| -> Option<f64> {
            let times = (first..first + field.sized(SAMPLES, 5)).map(|sample| {
                single::pause(sample);
                let bytes = content::content(sample, 1024);
                single::arrival(&stand, &format!("dir0/single{sample}"), &bytes, single::LOST).map(ms)
            });
            median(&times.collect::<Option<Vec<_>>>()?)
        };
        let calm = samples(0);
        let enough = AtomicBool::new(false);
        let busy = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    asked.full_sync();
                }
            });
            std::thread::sleep(Duration::from_millis(20));
            let busy = samples(SAMPLES);
            enough.store(true, Ordering::Relaxed);
            busy
        });
        let outcome =
            Outcome::default().with(Measure::FullSync, median(&times).unwrap_or_default()).with(Measure::Cpu, cpu);
        match (busy, calm) {
            (Some(busy), Some(calm)) => outcome.with(Measure::Median, busy).with(Measure::Calm, calm),
            _ => outcome.short("a file never arrived".to_owned()),
        }
    }
}

fn filled(field: &Field) -> Stand {
    let stand = field.stand(1);
    content::files(&stand.source(), 200, field.sized(FILES, 1_000), 4 * 1024);
    stand.plain_rsync();
    stand
}
