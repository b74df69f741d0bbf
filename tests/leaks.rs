//! What the agent took it gives back: after a thousand reloads, and ten thousand directories made and removed, it has the
//! descriptors, watches, threads and memory that it had before.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use std::fs;
use std::path::PathBuf;
use support::config::Confxml;
use support::scene::{MODULE, Place};
use support::tree::put;
use support::{SOON, eventually};
use ward::{INSTANCE, Ward};

const RELOADS: usize = 1_000;
const DIRECTORIES: usize = 10_000;

/// So many rounds may pass before memory has to be at rest. One is enough on a machine that is not busy.
const ROUNDS: usize = 4;

/// What the allocator may still gain in such a round, in kB: 2 MB in the second one, nothing from the fourth on (measured
/// over four). 4 kB lost with each reload, or 400 bytes with each directory, are more.
const SLACK: u64 = 4 * 1024;

/// What an agent holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    watches: usize,
    threads: usize,
}

impl Held {
    fn by(pid: i32) -> Self {
        let count = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
        // One line for each watch, proc_pid_fdinfo(5).
        let watches = |info: fs::DirEntry| {
            let text = fs::read_to_string(info.path()).unwrap_or_default();
            text.lines().filter(|line| line.starts_with("inotify wd:")).count()
        };
        let infos = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
        Self { descriptors: count("fd"), watches: infos.map(watches).sum(), threads: count("task") }
    }

    /// A thread that has nothing to do ends after a while: there may be fewer.
    fn is_no_more_than(self, before: Self) -> bool {
        self.watches == before.watches && self.descriptors <= before.descriptors && self.threads <= before.threads
    }
}

/// An agent with a config that is rewritten, and a client that asks it to read that.
struct Stage {
    // The client goes first.
    client: zbus::Connection,
    runtime: tokio::runtime::Runtime,
    ward: Ward,
    configs: [String; 2],
    config: PathBuf,
}

impl Stage {
    fn start() -> Self {
        let place = Place::new();
        let daemon = place.plan(&[]).start();
        put(&place.source().join("a/b/file"), "x");
        let config = place.path("leaks.xml");
        let plain = Confxml::new(&place.source()).daemon(&daemon, MODULE);
        // Another filter is another watch, and has all compared.
        let other = plain.clone().exclude(r"\.tmp$");
        let configs = [plain, other].map(|plan| fs::read_to_string(plan.write(&config)).unwrap());
        let launch = place.launch().config(&config);
        let mut ward = Ward::start(place, launch);
        ward.keep(daemon);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = ward.bus.address.clone();
        let client = runtime.block_on(async { zbus::connection::Builder::address(address.as_str()).build().await });
        Self { client: client.unwrap(), runtime, ward, configs, config }
    }

    /// So many reloads, every other one of another config than the one before.
    fn reload(&self, times: usize) {
        let name = format!("org.sersync.Agent1.{INSTANCE}");
        let path = format!("/org/sersync/Agent1/{INSTANCE}");
        self.runtime.block_on(async {
            let agent = zbus::Proxy::new(&self.client, name, path, "org.sersync.Agent1").await.unwrap();
            for nth in 0..times {
                fs::write(&self.config, &self.configs[(nth / 2 + 1) % 2]).unwrap();
                agent.call::<_, _, ()>("Reload", &()).await.unwrap();
            }
        });
    }

    /// So many directories, made and removed.
    fn directories(&self, count: usize) {
        let top = self.ward.place.source().join("many");
        let before = Held::by(self.ward.agent.pid()).watches;
        for nth in 0..count {
            fs::create_dir_all(top.join(format!("{}/{nth}", nth % 100))).unwrap();
        }
        eventually("a watch of each", SOON, || {
            let watches = Held::by(self.ward.agent.pid()).watches;
            if watches > before + count { Ok(()) } else { Err(watches) }
        });
        fs::remove_dir_all(top).unwrap();
        self.ward.converged();
    }

    /// What the agent holds once nothing is pending and no rsync runs.
    fn at_rest(&self) -> Held {
        eventually("an idle agent", SOON, || {
            let state = self.ward.ask("status")[0]["state"].clone();
            let is_idle = state == "idle" && self.ward.agent.children().is_empty();
            if is_idle { Ok(()) } else { Err(state) }
        });
        Held::by(self.ward.agent.pid())
    }

    fn memory(&self) -> u64 {
        self.ward.agent.process().status_kb("VmRSS").unwrap()
    }
}

#[test]
fn reloads_and_directories_leave_nothing_behind() {
    let stage = Stage::start();
    stage.ward.converged();
    // What is made for a first demand and kept for the next is no leak.
    stage.reload(RELOADS / 10);
    stage.directories(DIRECTORIES);
    let (before, mut memory) = (stage.at_rest(), stage.memory());
    let mut gained = Vec::new();
    // What leaks leaks in each round; a heap that found its size in one of them does not.
    while gained.last().is_none_or(|gained| *gained > SLACK) {
        assert!(gained.len() < ROUNDS, "one round after another gained {gained:?} kB");
        stage.reload(RELOADS);
        stage.directories(DIRECTORIES);
        stage.at_rest();
        eventually("no more held than before", SOON, || {
            let held = Held::by(stage.ward.agent.pid());
            if held.is_no_more_than(before) { Ok(()) } else { Err(format!("{held:?}, and it was {before:?}")) }
        });
        let now = stage.memory();
        gained.push(now.saturating_sub(memory));
        memory = now;
    }
}
