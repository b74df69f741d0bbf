//! Storms of events, one after another, each more than the kernel's queue holds: the tree is compared again for them,
//! but not for each of them, live changes pass meanwhile, and in the end all is equal.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use nix::sys::signal::Signal;
use std::fs;
use std::time::Instant;
use support::scene::{MODULE, Place};
use support::tree::put;
use support::{SOON, until};
use ward::Ward;

const STORMS: u64 = 8;

impl Ward {
    fn overflows(&self) -> u64 {
        self.ask("status")[0]["overflows"].as_u64().unwrap()
    }

    /// How often a whole tree was compared.
    fn comparisons(&self) -> usize {
        // Only a run over the whole of it tells its progress.
        let is_one = |line: &&str| line.starts_with("debug: rsync") && line.contains("--info=progress2");
        self.agent.log().lines().filter(is_one).count()
    }
}

#[test]
fn storms_are_no_loop_of_full_syncs_and_live_changes_pass() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    for file in 0..200 {
        put(&place.source().join(format!("{}/{file}", file % 20)), "x");
    }
    let launch = place.launch().environment("SERSYNC_LOG", "debug").mirror(&place.source(), [daemon.url(MODULE)]);
    let ward = Ward::start(place, launch);
    ward.converged();
    until("the end of the first full sync", SOON, || ward.ask("status")[0]["state"] == "idle");
    let limit: u64 = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let [a, b] = ["to", "fro"].map(|name| ward.place.source().join(name));
    put(&a, "x");
    ward.converged();
    let before = ward.comparisons();
    let start = Instant::now();
    for storm in 1..=STORMS {
        ward.agent.signal(Signal::SIGSTOP);
        // Two events each.
        for _ in 0..=limit.max(40_000) / 4 {
            fs::rename(&a, &b).unwrap();
            fs::rename(&b, &a).unwrap();
        }
        // Of this one nobody is told.
        put(&ward.place.source().join(format!("lost/{storm}/file")), "x");
        ward.agent.signal(Signal::SIGCONT);
        until("the overflow", SOON, || ward.overflows() >= storm);
        let live = format!("3/live{storm}");
        ward.put(&live);
        until("a live change", SOON, || ward.place.path("copy").join(&live).exists());
    }
    ward.converged();
    let (lasted, compared) = (start.elapsed().as_secs(), ward.comparisons() - before);
    // The first at once, each further one after twice the distance of the one before.
    let at_most = 1 + (lasted + 2).ilog2() as usize;
    assert!((1..=at_most).contains(&compared), "{compared} comparisons in {lasted} s, for {STORMS} storms");
    let told = ward.agent.log().matches("more events than the kernel's queue holds").count() as u64;
    // All are counted; in the journal they are a line a minute.
    assert!((1..=1 + lasted / 60).contains(&told), "{told} lines in {lasted} s");
}
