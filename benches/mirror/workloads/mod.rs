//! What is done to the source. A [`Workload`] runs one round with one tool, and says what the limit is: what no mirror
//! that starts with the last write could beat. Most are a [`race::Race`].

mod beside;
mod checkout;
mod far;
mod full;
mod latency;
mod pending;
pub mod race;
mod remotes;
mod rename;
mod single;
mod table;
mod unpack;
mod uploads;
mod watch;

use crate::figures::{Measure, Outcome};
use crate::report::is_ours;
use crate::stand::{Place, Stand};
use crate::tools::{Running, Tool};
use std::time::Duration;

/// Something that happens to a tree, and what is measured meanwhile.
pub trait Workload {
    /// As the command line and the report name it.
    fn name(&self) -> &'static str;

    /// What happens, in a sentence, at the full size.
    fn about(&self) -> &'static str;

    /// The columns of its table. Ratios, plots and targets are about the first.
    fn measures(&self) -> &'static [Measure];

    /// The file systems that it says something on.
    fn places(&self) -> &'static [Place] {
        &[Place::Tmpfs, Place::Disk]
    }

    /// Whether it takes minutes and gigabytes: it is then done only when asked for by its name or with `--large`.
    fn large(&self) -> bool {
        false
    }

    /// The most rounds that are worth their time.
    fn most_rounds(&self) -> usize {
        usize::MAX
    }

    /// Why it cannot be done on this machine.
    fn obstacle(&self) -> Option<String> {
        None
    }

    /// Why it makes no sense with a tool.
    fn unsuited(&self, _tool: &dyn Tool) -> Option<&'static str> {
        None
    }

    /// Measures the limits, each with its name. The first is what ratios are to.
    fn limits(&self, field: &Field) -> Vec<(String, Outcome)>;

    /// One round.
    fn run(&self, field: &Field, tool: &dyn Tool) -> Outcome;
}

/// Where ours and lsyncd are left: the others send one change at a time, and `burst` and `churn` show what becomes of
/// that.
fn one_at_a_time(tool: &dyn Tool) -> Option<&'static str> {
    (!is_ours(tool.name()) && tool.name() != "lsyncd").then_some("it would need minutes for so many changes")
}

/// Where only ours are left.
fn not_ours(tool: &dyn Tool) -> bool {
    !is_ours(tool.name())
}

/// All that are known, in the order of the report.
pub fn all() -> Vec<Box<dyn Workload>> {
    let mut all: Vec<Box<dyn Workload>> = vec![Box::new(latency::Latency)];
    let mut races = table::races();
    races.extend(remotes::races());
    races.extend([uploads::race(), checkout::race(), unpack::race(), rename::by_ssh(), far::race()]);
    all.extend(races.into_iter().map(|race| Box::new(race) as Box<dyn Workload>));
    all.push(Box::new(far::Latency));
    all.push(Box::new(beside::Beside));
    all.push(Box::new(full::Full));
    all.push(Box::new(watch::Watch::MANY));
    all.push(Box::new(watch::Watch::MILLION));
    all.push(Box::new(pending::Pending));
    all
}

/// Where a round takes place, and how large it is.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    pub place: Place,
    /// Tiny: shows that it works, measures nothing.
    pub smoke: bool,
}

impl Field {
    pub fn stand(&self, remotes: usize) -> Stand {
        Stand::new(self.place, remotes)
    }

    /// The size, or the other in a smoke run.
    pub fn sized<T>(&self, full: T, smoke: T) -> T {
        if self.smoke { smoke } else { full }
    }

    /// Starts a tool, and waits until it watches and has come to rest.
    pub fn start(&self, tool: &dyn Tool, stand: &Stand) -> Running {
        let running = tool.start(stand);
        // Whatever it does at its start and because of it is no part of what is measured.
        std::thread::sleep(self.sized(Duration::from_secs(3), Duration::from_millis(200)));
        running.wait_until_it_watches(stand);
        running
    }
}
