//! [`Race`]: somebody writes, and the tool has to become done. Its limit is the writer alone and then one rsync that
//! knows all at once.

use super::{Field, Workload};
use crate::convergence;
use crate::figures::{Measure, Outcome};
use crate::stand::{Place, Stand};
use crate::support::processes::Process;
use crate::tools::{Tool, ticks_a_second};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// Who uses no CPU for so long is done: longer than any tool gathers changes.
const QUIET: Duration = Duration::from_millis(1_500);
/// How long a tool may go on once the copies are equal.
const AFTERWARDS: Duration = Duration::from_secs(10);
/// The patience of a smoke run.
const SMOKE: Duration = Duration::from_secs(6);

/// A writer, and what is measured of those who follow it.
pub struct Race {
    pub name: &'static str,
    pub about: &'static str,
    /// The first is [`Measure::Converged`] or [`Measure::Lag`].
    pub measures: &'static [Measure],
    pub places: &'static [Place],
    pub most_rounds: usize,
    pub remotes: usize,
    /// How long a tool is waited for after the last write.
    pub patience: Duration,
    /// Fills the source before the tool starts; the copies are then made equal.
    pub prepare: fn(&Field, &Stand),
    /// What the time runs for.
    pub write: fn(&Field, &Stand),
    /// Where it takes place, with so many remotes.
    pub ground: fn(&Field, usize) -> Stand,
    /// Leaves the same behind, but sooner: for limits that are about what comes after the last write.
    pub write_at_once: Option<fn(&Field, &Stand)>,
    /// Why it makes no sense with a tool.
    pub unsuited: fn(&dyn Tool) -> Option<&'static str>,
    /// Why it cannot be done on this machine.
    pub obstacle: fn() -> Option<String>,
    /// Whether `cp -a` of the finished tree is a limit, too.
    pub copied: bool,
}

impl Race {
    /// Empty source, one remote, two file systems.
    pub const PLAIN: Self = Self {
        name: "",
        about: "",
        measures: &[Measure::Converged, Measure::Cpu, Measure::Memory, Measure::Runs],
        places: &[Place::Tmpfs, Place::Disk],
        most_rounds: usize::MAX,
        remotes: 1,
        patience: Duration::from_secs(20),
        prepare: |_, _| {},
        write: |_, _| {},
        ground: |field, remotes| field.stand(remotes),
        write_at_once: None,
        unsuited: |_| None,
        obstacle: || None,
        copied: true,
    };

    fn prepared(&self, field: &Field) -> Stand {
        let stand = (self.ground)(field, self.remotes);
        (self.prepare)(field, &stand);
        stand.plain_rsync();
        stand
    }
}

impl Workload for Race {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn measures(&self) -> &'static [Measure] {
        self.measures
    }

    fn places(&self) -> &'static [Place] {
        self.places
    }

    fn most_rounds(&self) -> usize {
        self.most_rounds
    }

    fn obstacle(&self) -> Option<String> {
        (self.obstacle)()
    }

    fn unsuited(&self, tool: &dyn Tool) -> Option<&'static str> {
        (self.unsuited)(tool)
    }

    fn limits(&self, field: &Field) -> Vec<(String, Outcome)> {
        let stand = self.prepared(field);
        let start = Instant::now();
        self.write_at_once.unwrap_or(self.write)(field, &stand);
        let writer = start.elapsed().as_secs_f64();
        let mut limits = Vec::new();
        let mut limit = |name: &str, (after, cpu, written): (Duration, f64, f64)| {
            let after = after.as_secs_f64();
            let values = [
                (Measure::Converged, writer + after),
                (Measure::Lag, after),
                (Measure::Cpu, cpu),
                (Measure::Written, written),
            ];
            let shown = values.into_iter().filter(|(measure, _)| self.measures.contains(measure));
            limits.push((name.to_owned(), shown.fold(Outcome::default(), |all, (name, value)| all.with(name, value))));
        };
        limit("writer, then one rsync", used_by(|| stand.plain_rsync()));
        if self.copied {
            limit("writer, then `cp -a`", used_by(|| copy(&stand.source(), &stand.path("copied"))));
        }
        limits
    }

    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome {
        let stand = self.prepared(field);
        let running = field.start(tool, &stand);
        let (cpu, runs, bytes) = (running.cpu(), stand.rsync_runs(), running.written());
        let start = SystemTime::now();
        (self.write)(field, &stand);
        let written = SystemTime::now();
        let moment = convergence::moment(&stand, &tool.judge(), &running, field.sized(self.patience, SMOKE));
        // Who has a queue left goes on for changes that have long arrived: that is a cost of these changes, too.
        let patience = field.sized(AFTERWARDS, SMOKE);
        let rests = moment.is_err() || running.comes_to_rest(field.sized(QUIET, QUIET / 5), patience);
        let mut outcome = Outcome::default()
            .with(Measure::Cpu, running.cpu() - cpu)
            .with(Measure::Memory, running.memory())
            .with(Measure::Runs, (stand.rsync_runs() - runs) as f64)
            .with(Measure::Written, (running.written() - bytes) as f64 / 1000.0);
        match moment {
            Ok(moment) => {
                // A tool may be done before the writer's last system call has returned.
                let since = |then| moment.duration_since(then).unwrap_or_default().as_secs_f64();
                outcome = outcome.with(Measure::Converged, since(start)).with(Measure::Lag, since(written));
            }
            Err(why) => outcome = outcome.short(why),
        }
        if !rests {
            outcome.remark = Some(format!("still at work {} s later", patience.as_secs()));
        }
        outcome.values.retain(|measure, _| self.measures.contains(measure));
        outcome
    }
}

/// The CPU seconds of all processes that were started and waited for meanwhile, and the KB that they wrote.
fn used_by<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let own = Process::of(std::process::id() as i32).expect("this process lives");
    let (ticks, bytes) = (own.waited_cpu_ticks(), own.written());
    let done = work();
    let (ticks, bytes) = (own.waited_cpu_ticks() - ticks, own.written() - bytes);
    (done, ticks as f64 / ticks_a_second(), bytes as f64 / 1000.0)
}

/// `cp -a FROM TO`
pub fn copy(from: &Path, to: &Path) -> Duration {
    let start = Instant::now();
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "cp -a {} failed", from.display());
    start.elapsed()
}
