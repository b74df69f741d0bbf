//! [`Siege`]: an agent under attack, and what the attack costs.

use crate::support::rsyncd::Plan;
use crate::support::scene::{MODULE, Place};
use crate::support::tree::put;
use crate::support::{SOON, until};
use crate::ward::{INSTANCE, Ward};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum resident memory during an attack, in kB.
pub const WORST: u64 = 64 << 10;

/// Maximum resident memory within a minute after an attack, in kB.
const AFTERWARDS: u64 = 20 << 10;

/// What an unoptimized program has resident beyond an optimized one, in kB: its code is four times as large.
pub const OF_THE_BUILD: u64 = if cfg!(debug_assertions) { 24 << 10 } else { 0 };

/// Files written before an attack, to know the latency without it.
const SAMPLES: usize = 9;

/// An agent with a tree of 1,000 directories and a healthy remote.
pub struct Siege {
    pub ward: Ward,
    copy: PathBuf,
    alone: Duration,
    written: usize,
}

impl Siege {
    /// Mirrors to a directory and to `others`.
    pub fn lay(others: impl FnOnce(&Place) -> Vec<String>) -> Self {
        let place = Place::new();
        for directory in 0..1000 {
            put(&place.source().join(format!("{}/{directory}/file", directory % 30)), "content");
        }
        let copy = place.make("copy");
        let mut destinations = vec![copy.display().to_string()];
        destinations.extend(others(&place));
        let mut siege = Self { ward: Ward::mirror(place, &destinations), copy, alone: Duration::ZERO, written: 0 };
        until("the first full sync", SOON, || siege.copy.join("29/989/file").exists());
        let mut times: Vec<Duration> = (0..SAMPLES).map(|_| siege.latency()).collect();
        siege.alone = median(&mut times);
        siege
    }

    /// A remote that is down.
    pub fn nowhere(place: &Place) -> String {
        let mut daemon = Plan::new(&place.path("nowhere")).module(MODULE, &place.make("never"), &[]).start();
        daemon.stop();
        daemon.url(MODULE)
    }

    /// Time from a write to its arrival on the healthy remote.
    fn latency(&mut self) -> Duration {
        self.written += 1;
        let name = format!("latency-{}", self.written);
        let start = Instant::now();
        self.ward.put(&name);
        until("a new file on the healthy remote", SOON, || self.copy.join(&name).exists());
        start.elapsed()
    }

    /// Resident memory, in kB: `VmRSS` now, `VmHWM` at the worst moment.
    pub fn memory(&self, field: &str) -> u64 {
        self.ward.agent.process().status_kb(field).unwrap()
    }

    /// Has `VmHWM` begin anew, proc_pid_clear_refs(5).
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.ward.agent.pid()), "5").unwrap();
    }

    /// Whether a file is on the healthy remote.
    pub fn arrived(&self, name: &str) -> bool {
        self.copy.join(name).exists()
    }

    /// Runs `attack`, and measures. The bound on time is generous, since other tests run at the same time; those on memory
    /// are the goal.
    pub fn under(&mut self, name: &str, attack: impl FnOnce(&str) + Send) {
        self.forget_peak();
        let address = self.ward.bus.address.clone();
        let is_over = AtomicBool::new(false);
        let mut times = thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                let _over = Over(&is_over);
                attack(&address);
            });
            let mut times = vec![self.latency()];
            while !is_over.load(Ordering::Relaxed) {
                times.push(self.latency());
            }
            attacker.join().unwrap();
            times
        });
        let samples = times.len();
        let meanwhile = median(&mut times);
        let worst = self.memory("VmHWM");
        let start = Instant::now();
        assert!(self.status().success(), "status answers");
        self.latency();
        let recovered = start.elapsed();
        let most = AFTERWARDS + OF_THE_BUILD;
        until(&format!("at most {most} kB resident"), Duration::from_secs(60), || self.memory("VmRSS") <= most);
        println!(
            "{name}: {:.1} MB at worst, {:.1} MB afterwards; latency {:.0} ms alone, {:.0} ms meanwhile ({samples} files); \
             recovered after {:.2} s",
            worst as f64 / 1024.0,
            self.memory("VmRSS") as f64 / 1024.0,
            self.alone.as_secs_f64() * 1e3,
            meanwhile.as_secs_f64() * 1e3,
            recovered.as_secs_f64()
        );
        assert!(worst <= WORST + OF_THE_BUILD, "{name}: {worst} kB resident");
        assert!(meanwhile < Duration::from_secs(10), "{name}: {meanwhile:?} until a file arrives");
    }

    /// `sersyncctl status`, which has to answer in time.
    fn status(&self) -> std::process::ExitStatus {
        let mut ctl = Command::new("timeout");
        ctl.arg("20").arg(env!("CARGO_BIN_EXE_sersyncctl")).args(["--user", "--json", "list"]);
        ctl.env("DBUS_SESSION_BUS_ADDRESS", &self.ward.bus.address);
        let output = ctl.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(INSTANCE) && !said.contains("no answer"), "{said}");
        output.status
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
