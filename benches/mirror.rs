//! `cargo bench --bench mirror`: how fast a change reaches a remote, and what that costs. docs/benchmarks.md explains
//! the figures.
//!
//! One agent, one stock `rsync --daemon` on loopback, source and copy on tmpfs where there is one. It measures and
//! prints; it judges nothing but that every copy came out equal, for a figure of a lossy run is none.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::agent::{Agent, Launch};
use support::processes::Process;
use support::rsyncd::{Daemon, PASSWORD, Plan};
use support::tree::Judge;
use tempfile::TempDir;

const MODULE: &str = "bench";
const FILE_SIZE: usize = 10 * 1024;

const USAGE: &str = "\
usage: cargo bench --bench mirror -- [latency] [burst] [--rounds N] [--smoke]

  latency     one 10 KB file after quiet, 100 times a round
  burst       10,000 files of 10 KB, against the writer and one plain rsync of the finished tree
  --rounds N  rounds of each workload (default 5)
  --smoke     one short round of each: shows that it works, measures nothing worth keeping";

/// What the command line asks for.
struct Plans {
    latency: bool,
    burst: bool,
    rounds: usize,
    samples: u32,
    files: usize,
}

impl Plans {
    fn from_arguments() -> Result<Self, String> {
        let mut plans = Self { latency: false, burst: false, rounds: 5, samples: 100, files: 10_000 };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "latency" => plans.latency = true,
                "burst" => plans.burst = true,
                "--rounds" => {
                    let number = arguments.next().and_then(|text| text.parse().ok()).filter(|rounds| *rounds > 0);
                    plans.rounds = number.ok_or("--rounds wants a number above 0")?;
                }
                "--smoke" => (plans.rounds, plans.samples, plans.files) = (1, 10, 500),
                // cargo adds it to what every benchmark gets.
                "--bench" => {}
                other => return Err(format!("{other:?} is not known")),
            }
        }
        if !plans.latency && !plans.burst {
            (plans.latency, plans.burst) = (true, true);
        }
        Ok(plans)
    }
}

fn main() {
    let plans = Plans::from_arguments().unwrap_or_else(|wrong| {
        eprintln!("{wrong}\n{USAGE}");
        std::process::exit(2);
    });
    let place = Stand::place();
    println!("{}", machine(place.path()));
    drop(place);
    if plans.latency {
        latency(&plans);
    }
    if plans.burst {
        burst(&plans);
    }
}

/// A daemon with an empty module, and an empty source.
struct Stand {
    daemon: Daemon,
    directory: TempDir,
}

impl Stand {
    /// A temporary directory, on tmpfs where there is one.
    fn place() -> TempDir {
        let shm = Path::new("/dev/shm");
        let builder = || {
            let mut builder = tempfile::Builder::new();
            builder.prefix("sersync-bench-");
            builder
        };
        builder().tempdir_in(shm).or_else(|_| builder().tempdir()).expect("a temporary directory")
    }

    fn new() -> Self {
        let directory = Self::place();
        fs::create_dir(directory.path().join("source")).expect("it is empty");
        let plan = Plan::new(&directory.path().join("rsyncd"));
        let daemon = plan.module(MODULE, &directory.path().join("copy"), &[]).start();
        Self { daemon, directory }
    }

    fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    fn copy(&self) -> PathBuf {
        self.directory.path().join("copy")
    }

    fn agent(&self) -> Agent {
        let launch = Launch::new(&self.directory.path().join("agent"));
        let agent = launch.mirror(&self.source(), [self.daemon.url(MODULE)]).start();
        // The comparison at the start is no part of what is measured, and just after it new directories are compared.
        std::thread::sleep(Duration::from_secs(3));
        agent.wait_notified_from(0, |line| line.contains("in sync"));
        agent
    }

    /// One rsync run by hand, with what any user would add to be fast.
    fn plain_rsync(&self, what: &Path) -> Duration {
        let start = Instant::now();
        let status = Command::new("rsync")
            .args(["-a", "--sockopts=TCP_NODELAY"])
            .arg(what)
            .arg(self.daemon.url(MODULE))
            .env("RSYNC_PASSWORD", PASSWORD)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "the plain rsync failed");
        start.elapsed()
    }
}

// --- latency ---

fn latency(plans: &Plans) {
    println!("\nlatency: one {FILE_SIZE} byte file after quiet, {} times a round; milliseconds\n", plans.samples);
    println!("| round | median | p90 | p99 | max | plain rsync, median | CPU ms a file | idle RSS MB |");
    println!("|---|---|---|---|---|---|---|---|");
    let (mut medians, mut tails, mut plains) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=plans.rounds {
        let stand = Stand::new();
        let mut plain = (0..plans.samples.div_ceil(5))
            .map(|sample| {
                let file = stand.directory.path().join(format!("by hand {sample}"));
                fs::write(&file, content(sample as usize)).expect("room for a file");
                stand.plain_rsync(&file)
            })
            .collect::<Vec<_>>();
        for entry in fs::read_dir(stand.copy()).expect("the module").flatten() {
            fs::remove_file(entry.path()).expect("a file by hand");
        }
        let agent = stand.agent();
        let rss = agent.process().status_kb("VmRSS").unwrap_or(0);
        let cpu = agent.cpu_ticks();
        let mut times = (0..plans.samples).map(|sample| one_file(&stand, sample)).collect::<Vec<_>>();
        let cpu = seconds(agent.cpu_ticks() - cpu) * 1000.0 / f64::from(plans.samples);
        settled(&stand);
        times.sort_unstable();
        plain.sort_unstable();
        let (median, p99, by_hand) = (quantile(&times, 0.5), quantile(&times, 0.99), quantile(&plain, 0.5));
        println!(
            "| {round} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} | {cpu:.1} | {:.1} |",
            ms(median),
            ms(quantile(&times, 0.9)),
            ms(p99),
            ms(quantile(&times, 1.0)),
            ms(by_hand),
            rss as f64 / 1024.0,
        );
        medians.push(ms(median));
        tails.push(ms(p99));
        plains.push(ms(by_hand));
    }
    println!("\nlatency, median of {} rounds: median {}, p99 {}", plans.rounds, spread(&medians), spread(&tails));
    println!("against one plain rsync run: {:.2} times its {}", middle(&medians) / middle(&plains), spread(&plains));
}

/// The time from before a file is opened until the remote has it whole (rsync puts it in place by a rename).
fn one_file(stand: &Stand, sample: u32) -> Duration {
    // Quiet, and of uneven length, so that no timer of either side beats in step.
    std::thread::sleep(Duration::from_millis(40 + u64::from(sample * 7 % 31)));
    let name = format!("file{sample}");
    let arrived = stand.copy().join(&name);
    let start = Instant::now();
    fs::write(stand.source().join(&name), content(sample as usize)).expect("room for a file");
    while !arrived.exists() {
        assert!(start.elapsed() < support::SOON, "{name} did not arrive");
        // Short against what is measured, long enough to leave the processor to those who are measured.
        std::thread::sleep(Duration::from_micros(100));
    }
    start.elapsed()
}

// --- burst ---

fn burst(plans: &Plans) {
    println!("\nburst: {} files of {FILE_SIZE} bytes in 20 directories; seconds\n", plans.files);
    println!(
        "| round | writer alone | one rsync | sum (limit) | agent, converged | ratio | CPU agent | CPU rsync | RSS after, MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let (mut ratios, mut totals, mut limits) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=plans.rounds {
        let (writer, rsync, rsync_cpu) = limit(plans.files);
        let stand = Stand::new();
        let agent = stand.agent();
        let cpu = agent.cpu_ticks();
        let start = Instant::now();
        write_files(&stand.source(), plans.files);
        let total = converged(&stand, start, plans.files);
        let cpu = seconds(agent.cpu_ticks() - cpu);
        let rss = agent.process().status_kb("VmRSS").unwrap_or(0) as f64 / 1024.0;
        let sum = writer + rsync;
        let ratio = total.as_secs_f64() / sum.as_secs_f64();
        println!(
            "| {round} | {:.2} | {:.2} | {:.2} | {:.2} | {ratio:.2} | {cpu:.2} | {rsync_cpu:.2} | {rss:.1} |",
            writer.as_secs_f64(),
            rsync.as_secs_f64(),
            sum.as_secs_f64(),
            total.as_secs_f64(),
        );
        ratios.push(ratio);
        totals.push(total.as_secs_f64());
        limits.push(sum.as_secs_f64());
    }
    println!("\nburst, median of {} rounds: {} s against {} s", plans.rounds, spread(&totals), spread(&limits));
    println!("ratio: {}", spread(&ratios));
}

/// What no mirror can beat: the writer alone, then one rsync of the finished tree; and that rsync's CPU seconds.
fn limit(files: usize) -> (Duration, Duration, f64) {
    let stand = Stand::new();
    let start = Instant::now();
    write_files(&stand.source(), files);
    let writer = start.elapsed();
    let before = own_children();
    let rsync = stand.plain_rsync(&stand.source().join(""));
    let cpu = seconds(own_children() - before);
    settled(&stand);
    (writer, rsync, cpu)
}

fn write_files(root: &Path, files: usize) {
    for directory in 0..20 {
        fs::create_dir(root.join(format!("dir{directory}"))).expect("a new directory");
    }
    for file in 0..files {
        fs::write(root.join(format!("dir{}/file{file}", file % 20)), content(file)).expect("room for a file");
    }
}

/// The time since `start` at which the copy was equal. Counting names is cheap and done often; the whole comparison is
/// done once they are all there, and the time it takes itself does not count.
fn converged(stand: &Stand, start: Instant, files: usize) -> Duration {
    loop {
        let now = start.elapsed();
        if count(&stand.copy()) == files && Judge::default().differences(&stand.source(), &stand.copy()).is_empty() {
            return now;
        }
        assert!(now < support::SOON * 4, "{} of {files} files arrived", count(&stand.copy()));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Files whose names are final: rsync's own temporary ones start with a dot.
fn count(root: &Path) -> usize {
    let directories = fs::read_dir(root).into_iter().flatten().flatten();
    let files = directories.flat_map(|directory| fs::read_dir(directory.path()).into_iter().flatten().flatten());
    files.filter(|file| !file.file_name().as_encoded_bytes().starts_with(b".")).count()
}

// --- shared by both ---

/// Bytes that do not compress to nothing and are unlike those of the next file.
fn content(seed: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed as u64);
    let mut bytes = vec![0; FILE_SIZE];
    rng.fill(&mut bytes);
    bytes
}

fn settled(stand: &Stand) {
    Judge::default().assert_converged(&stand.source(), &stand.copy(), support::SOON);
}

fn own_children() -> u64 {
    Process::of(std::process::id() as i32).map_or(0, Process::waited_cpu_ticks)
}

/// The value below which a share of the sorted `times` lies.
fn quantile(times: &[Duration], share: f64) -> Duration {
    times[((times.len() - 1) as f64 * share).ceil() as usize]
}

fn middle(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// `12.3 (11.0 to 14.9)`: median, least and most.
fn spread(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.2} ({least:.2} to {most:.2})", middle(values))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn seconds(ticks: u64) -> f64 {
    let a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    ticks as f64 / a_second as f64
}

/// What the figures were measured on.
fn machine(directory: &Path) -> String {
    let first_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().next().unwrap_or("?").to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let file_system = first_line("stat", &["-f", "-c", "%T", &directory.display().to_string()]);
    format!(
        "sersync {}, {}, Linux {}, {cores} cores, {} on {file_system}",
        env!("CARGO_PKG_VERSION"),
        first_line("rsync", &["--version"]).split("  ").take(2).collect::<Vec<_>>().join(" "),
        first_line("uname", &["-r"]),
        directory.parent().unwrap_or(directory).display(),
    )
}
