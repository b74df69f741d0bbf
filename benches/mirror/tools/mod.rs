//! What mirrors. Each [`Tool`] is set up as its users set it up, and started on the same [`Stand`]; none gets an option
//! that its own documentation does not recommend. [`Running`] counts what it and all its processes use, and ends them.

mod lsyncd;
mod script;
mod sersync;
mod sersync2;

use crate::stand::Stand;
use crate::support::agent::Agent;
use crate::support::processes::{self, Process};
use crate::support::tree::Judge;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that mirrors a tree.
pub trait Tool {
    /// As the report and `--tools` name it.
    fn name(&self) -> &str;

    /// Its version; the reason, where it is not installed.
    fn version(&self) -> Result<String, String>;

    /// How it is set up, for the report.
    fn setup(&self) -> String;

    /// Starts it. It need not watch yet.
    fn start(&self, stand: &Stand) -> Running;

    /// What has to be equal. Peers are not held to modes, owners and times.
    fn judge(&self) -> Judge {
        Judge::default().contents_alone()
    }
}

/// All that are known, ours first.
pub fn all() -> Vec<Box<dyn Tool>> {
    vec![
        Box::new(sersync::Sersync::plain()),
        Box::new(sersync::Sersync::ahead()),
        Box::new(lsyncd::Lsyncd),
        Box::new(script::Script::whole_tree()),
        Box::new(script::Script::one_file()),
        Box::new(sersync2::Sersync2),
    ]
}

/// A tool at work. It ends with all its processes when dropped.
pub struct Running {
    process: Process,
    held: Held,
}

enum Held {
    /// Ours, with the notify socket that a supervisor would have.
    Agent(Box<Agent>),
    Child(Child),
}

impl Running {
    fn agent(agent: Agent) -> Self {
        Self { process: agent.process(), held: Held::Agent(Box::new(agent)) }
    }

    /// Runs a tool in a process group of its own; what it says goes to a file of the stand.
    fn command(command: &mut Command, stand: &Stand) -> Self {
        let log = File::create(stand.path("tool.log")).expect("room for a log");
        let copy = log.try_clone().expect("a descriptor more");
        let child = command
            .envs(stand.environment())
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let process = Process::of(child.id() as i32).expect("a child that nobody has waited for");
        Self { process, held: Held::Child(child) }
    }

    /// CPU seconds of the tool, of what it runs, and of what it has run and waited for.
    pub fn cpu(&self) -> f64 {
        let ticks: u64 = self.processes().into_iter().map(Process::cpu_ticks).sum();
        ticks as f64 / ticks_a_second()
    }

    /// Resident memory of all its processes, MB.
    pub fn memory(&self) -> f64 {
        let kb: u64 = self.processes().iter().filter_map(|process| process.status_kb("VmRSS")).sum();
        kb as f64 / 1024.0
    }

    /// Bytes that it, what it runs, and what it has run and waited for wrote: to files, pipes and sockets.
    pub fn written(&self) -> u64 {
        self.processes().into_iter().map(Process::written).sum()
    }

    /// Whether it watches so many directories.
    pub fn watches(&self, directories: usize) -> bool {
        match &self.held {
            Held::Agent(agent) => agent.log().contains("watching "),
            // It is not asked more than the kernel has to be: a look takes as long as there are watches.
            Held::Child(_) => self.processes().iter().map(Process::watches).sum::<usize>() >= directories,
        }
    }

    /// Waits until it uses next to no CPU for a while of `quiet`; `false` if it is still at work after `patience`.
    pub fn comes_to_rest(&self, quiet: Duration, patience: Duration) -> bool {
        /// What who only waits may use in that time: its timers. Seconds.
        const NEXT_TO_NOTHING: f64 = 0.02;
        let start = Instant::now();
        while start.elapsed() < patience {
            let before = self.cpu();
            std::thread::sleep(quiet);
            if self.cpu() - before <= NEXT_TO_NOTHING {
                return true;
            }
        }
        false
    }

    fn processes(&self) -> Vec<Process> {
        processes::descendants(self.process.pid).into_iter().chain([self.process]).collect()
    }

    /// Waits until it watches: until a file that is new arrives at every remote, and what that left behind is gone. A
    /// tool that says more of itself is asked, too.
    pub fn wait_until_it_watches(&self, stand: &Stand) {
        // A tree of a million directories is compared with its copy at the start.
        const PATIENCE: Duration = Duration::from_secs(300);
        let start = Instant::now();
        if let Held::Agent(agent) = &self.held {
            crate::support::until("in sync", PATIENCE, || agent.notified().iter().any(|line| line.contains("in sync")));
        }
        let mut probes = Vec::new();
        let arrived = |name: &String| stand.copies().all(|copy| copy.join(name).exists());
        while !probes.iter().any(arrived) {
            assert!(self.process.lives(), "it has ended:\n{}", self.log(stand));
            assert!(start.elapsed() < PATIENCE, "it does not watch:\n{}", self.log(stand));
            // One that came before the watch may never arrive.
            let name = format!("probe{}", probes.len());
            fs::write(stand.source().join(&name), name.as_bytes()).expect("room for a file");
            probes.push(name);
            let next = Instant::now() + Duration::from_secs(3);
            while Instant::now() < next && !probes.iter().any(arrived) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for name in &probes {
            fs::remove_file(stand.source().join(name)).expect("a probe");
        }
        let left = || probes.iter().any(|name| stand.copies().any(|copy| copy.join(name).exists()));
        let start = Instant::now();
        while left() && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Who does not delete is not helped by this: the workload shows it.
        for copy in stand.copies() {
            for name in &probes {
                let _ = fs::remove_file(copy.join(name));
            }
        }
    }

    fn log(&self, stand: &Stand) -> String {
        match &self.held {
            Held::Agent(agent) => agent.log(),
            Held::Child(_) => fs::read_to_string(stand.path("tool.log")).unwrap_or_default(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Held::Child(child) = &mut self.held else { return };
        let family = processes::descendants(self.process.pid);
        let _ = killpg(Pid::from_raw(self.process.pid), Signal::SIGKILL);
        let _ = child.wait();
        for left in family.iter().filter(|left| left.lives()) {
            let _ = kill(Pid::from_raw(left.pid), Signal::SIGKILL);
        }
    }
}

/// CPU ticks a second, as `/proc` counts them.
pub fn ticks_a_second() -> f64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100) as f64
}

/// The first line that a program says, on either of its outputs.
pub fn first_line(program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<String, String> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", Path::new(program).display()))?;
    let said = [output.stdout, output.stderr].concat();
    Ok(String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned())
}
