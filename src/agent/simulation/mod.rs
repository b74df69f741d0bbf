//! The real engine, scheduler, pending set, journal and barriers under a virtual clock, above a simulated machine.
//!
//! A seed decides everything: what writers do, how remotes answer, when the process ends and how. So a seed that fails
//! fails again. Between two steps of the seed the engine runs for as long as it has something to do, and then time jumps
//! to the next step. At each step these are checked:
//!
//! * **Covered.** What differs on a remote is still to be reported by the watch, or pending, or in flight.
//! * **Barriers.** When a barrier has been answered, no remote has anything older than the call.
//! * **Progress.** What differs on a healthy remote for too long is an error, whatever the other remotes do.
//! * **Restraint.** Tries of a remote that is down, waiting paths, and full syncs are bounded.
//!
//! Now and then all faults end: then every remote has to become equal within a bounded time, and stay idle.
//!
//! The watch and rsync are models (`inbox`, `remote`), as unkind as the real ones may be; the tests with real parts are
//! the judges of those.

mod checks;
mod inbox;
mod remote;
mod run;
mod tree;
mod world;

use super::machine::{Machine, OnSign, Task, Watching};
use crate::transport::{Ahead, Endpoint, Fault, Findings, Order, Outcome, Probed, fault_name};
use crate::watch::{Kept, Report, Spec};
use inbox::{SimulatedWatch, attend};
use run::{Summary, simulate};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;
use world::{Health, Shared};

/// The machine of a simulation.
struct Simulated(Shared);

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

impl Machine for Simulated {
    fn watch(&self, spec: Spec, _: Option<Kept>, reports: UnboundedSender<Report>) -> io::Result<Box<dyn Watching>> {
        let (inbox, start) = self.0.lock().begin_watch(spec.changed_since);
        let resumed = matches!(start, inbox::Start::Resume);
        let task = tokio::spawn(attend(self.0.clone(), inbox.clone(), reports, start)).abort_handle();
        Ok(Box::new(SimulatedWatch { inbox, task, resumed }))
    }

    fn carry_out(
        &self,
        endpoint: Arc<Endpoint>,
        order: Order,
        ahead: Option<Ahead>,
        on_sign: OnSign,
    ) -> Task<(Outcome, Option<Ahead>)> {
        let (world, name) = (self.0.clone(), endpoint.destination().to_string());
        Box::pin(async move { (remote::carry_out(world, name, order, on_sign).await, ahead) })
    }

    fn probe_places(&self, probed: Vec<Probed>, _: Vec<PathBuf>, time: Duration) -> Task<Findings> {
        let world = self.0.clone();
        Box::pin(async move {
            tokio::time::sleep(time).await;
            let mut findings = Findings::default();
            for (at, probed) in probed.iter().enumerate() {
                let name = probed.endpoint.destination().to_string();
                if world.lock().remotes[&name].health == Health::Up {
                    findings.placed.insert(at);
                    findings.removed.insert(at);
                } else {
                    findings
                        .faults
                        .push((at, Fault::new(fault_name::CONNECTION_REFUSED, "as the simulation wants it")));
                }
            }
            findings
        })
    }

    fn send_probe_on(&self, _: Probed) -> Task<()> {
        Box::pin(std::future::ready(()))
    }

    fn probes_in(&self, _: PathBuf) -> Task<Vec<OsString>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}

/// How long the suite simulates, by the machine's clock.
const SUITE: Duration = Duration::from_secs(60);

/// Simulated time for one seed.
const LENGTH: Duration = Duration::from_secs(4 * 3_600);

/// The seeds of one run of the suite differ from those of the next one. `SERSYNC_SIMULATION_SEED=N` runs that seed alone,
/// `SERSYNC_SIMULATION_SECONDS=N` simulates for so long.
#[test]
fn nothing_is_lost_and_no_barrier_is_early_in_any_order_of_events() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SERSYNC_SIMULATION_SEED") {
        let summary = simulate(seed, LENGTH).unwrap_or_else(|violation| panic!("{violation}"));
        println!("seed {seed}: {summary:?}");
        return;
    }
    let time = number("SERSYNC_SIMULATION_SECONDS").map_or(SUITE, Duration::from_secs);
    let (began, first) = (Instant::now(), fastrand::u64(..) >> 16);
    let (mut total, mut seeds) = (Summary::default(), 0);
    while began.elapsed() < time {
        let seed = first + seeds;
        let summary = simulate(seed, LENGTH).unwrap_or_else(|violation| panic!("{violation}"));
        total.steps += summary.steps;
        total.runs += summary.runs;
        total.starts += summary.starts;
        total.barriers += summary.barriers;
        seeds += 1;
    }
    let hours = seeds * LENGTH.as_secs() / 3_600;
    println!("{seeds} seeds from {first}, {hours} simulated hours in {:?}: {total:?}", began.elapsed());
}
