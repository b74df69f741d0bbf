//! Thousands of random operations, with harm done meanwhile; at the end source and copies are equal.
//!
//! `SERSYNC_SEED` replays a run, `SERSYNC_TORTURE_OPS` lengthens it.

mod support;

use fastrand::Rng;
use nix::sys::signal::Signal;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use support::agent::Agent;
use support::rsyncd::{Daemon, Plan};
use support::scene::{MODULE, Place};
use support::sshd::Sshd;
use support::tree::{Judge, put};
use support::until;
use support::writer::Writer;

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// How often each harm was done.
#[derive(Debug, Default)]
struct Done {
    outages: u32,
    hangs: u32,
    restarts: u32,
    stops: u32,
    kills: u32,
    overflows: u32,
    roots_replaced: u32,
}

/// A tree, its copies behind two rsync daemons and (where there is an sshd) by ssh, and who works on all of it.
struct Torture {
    rng: Rng,
    place: Place,
    daemons: [Daemon; 2],
    _sshd: Option<Sshd>,
    copies: Vec<PathBuf>,
    agent: Agent,
    writer: Writer,
    done: Done,
}

impl Torture {
    fn start(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let place = Place::new();
        let mut copies = vec![place.path("d1/copy"), place.path("d2/copy")];
        let plan = |name: &str, copy: &PathBuf| Plan::new(&place.path(name)).module(MODULE, copy, &[]).start();
        let daemons = [plan("d1", &copies[0]), plan("d2", &copies[1])];
        let mut destinations: Vec<String> = daemons.iter().map(|daemon| daemon.url(MODULE)).collect();
        let mut launch = place.launch();
        if rng.bool() {
            launch = launch.argument("--ahead").argument("2");
        }
        let sshd = Sshd::start(&place.path("sshd"));
        if let Some(sshd) = &sshd {
            copies.push(place.make("by-ssh"));
            destinations.push(format!("{}:{}", Sshd::HOST, copies[2].display()));
            launch = launch.environment("PATH", &sshd.path);
        }
        let agent = launch.mirror(&place.source(), destinations).start();
        let writer = Writer::new(rng.u64(..), &place.source(), &place.path("outside"));
        Self { rng, place, daemons, _sshd: sshd, copies, agent, writer, done: Done::default() }
    }

    /// Does `step` operations, and perhaps harm meanwhile.
    fn turn(&mut self, step: u64) {
        match self.rng.u8(..24) {
            // A remote dies, and is back some operations later.
            0..=3 => {
                self.done.outages += 1;
                let which = self.rng.usize(..2);
                self.daemons[which].stop();
                self.writer.run(step);
                self.daemons[which].start();
            }
            4..=5 => {
                self.done.hangs += 1;
                let which = self.rng.usize(..2);
                self.daemons[which].hang();
                self.writer.run(step);
                self.daemons[which].go_on();
            }
            // Its supervisor restarts the agent, and has kept what the next one needs.
            6..=7 => {
                self.done.restarts += 1;
                self.agent.terminate();
                self.writer.run(step);
                self.agent.start_again();
            }
            // It is stopped and started: what happens meanwhile it has to find by itself.
            8 => {
                self.done.stops += 1;
                self.agent.terminate();
                self.writer.run(step);
                self.agent.start_anew();
            }
            // The agent is killed in the middle of whatever it does.
            9..=17 => {
                self.done.kills += 1;
                self.writer.run(step / 2);
                self.agent.kill();
                self.writer.run(step - step / 2);
                self.agent.start_again();
            }
            18 => self.overflow(step),
            19 => self.replace_root(step),
            _ => self.writer.run(step),
        }
    }

    /// Fills the kernel's queue while the agent does not read.
    fn overflow(&mut self, step: u64) {
        self.done.overflows += 1;
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let limit: usize = limit.trim().parse().unwrap();
        let ball = self.place.source().join("ball");
        let thrown = self.place.source().join("thrown");
        put(&self.place.path("outside/ball"), "");
        self.agent.signal(Signal::SIGSTOP);
        // Each throw makes two events. In the way of a throw may be anything.
        if fs::rename(self.place.path("outside/ball"), &ball).is_ok() {
            for _ in 0..limit / 4 + 1 {
                let _ = fs::rename(&ball, &thrown).and_then(|()| fs::rename(&thrown, &ball));
            }
        }
        self.writer.run(step);
        self.agent.signal(Signal::SIGCONT);
    }

    /// Another directory takes the root's place.
    fn replace_root(&mut self, step: u64) {
        self.done.roots_replaced += 1;
        let (root, old) = (self.place.source(), self.place.path("outside/old-root"));
        fs::rename(&root, &old).unwrap();
        self.writer.run(10);
        put(&root.join("new"), "an empty root would be taken for a file system that is not mounted");
        self.writer.run(step);
        fs::remove_dir_all(old).unwrap();
    }

    fn assert_converged(&self, within: Duration) {
        for copy in &self.copies {
            Judge::default().but_remains().assert_converged(&self.place.source(), copy, within);
        }
    }
}

#[test]
fn after_random_operations_and_random_harm_all_is_equal() {
    let seed = from_environment("SERSYNC_SEED").unwrap_or_else(|| fastrand::u64(..));
    let operations = from_environment("SERSYNC_TORTURE_OPS").unwrap_or(20_000);
    println!("to replay: SERSYNC_SEED={seed} SERSYNC_TORTURE_OPS={operations} cargo test --test torture");
    let mut torture = Torture::start(seed);

    let mut left = operations;
    let mut turn = 0_u32;
    while left > 0 {
        let step = torture.rng.u64(50..650).min(left);
        left -= step;
        turn += 1;
        torture.turn(step);
        // Now and then all comes to rest, so that a mistake is found near its cause.
        if turn.is_multiple_of(12) {
            torture.assert_converged(Duration::from_secs(90));
        }
    }
    torture.assert_converged(Duration::from_secs(90));
    println!("{operations} operations, {} of them changed something; {:?}", torture.writer.done, torture.done);
    assert!(torture.writer.done > operations / 2, "only {} operations did something", torture.writer.done);

    let agent = &mut torture.agent;
    let children = agent.children();
    assert!(agent.process().descriptors() < 60, "{} descriptors are open", agent.process().descriptors());
    agent.terminate();
    until("the end of all its processes", Duration::from_secs(5), || children.iter().all(|child| !child.lives()));
}
