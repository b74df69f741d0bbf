//! `cargo bench --bench mirror`: how fast changes reach a remote and what that costs, sersync and others side by side.
//! docs/benchmarks.md explains method and workloads; BENCHMARKS.md has the figures.
//!
//! Rounds of all tools take turns, so that what else the machine does hits them alike. It measures and prints; it judges
//! only that the copies came out equal: a figure of a lossy run is none, and for sersync it is a failure.

#[path = "../../tests/support/mod.rs"]
mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "../../tests/support/bus.rs"]
mod bus;

mod asked;
mod content;
mod convergence;
mod crates;
mod figures;
mod interruption;
mod link;
mod machine;
mod report;
mod results;
mod stand;
mod tools;
mod workloads;

use clap::{Parser, ValueEnum};
use machine::Machine;
use results::{Results, Table};
use stand::Place;
use std::collections::HashSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tools::Tool;
use workloads::{Field, Workload};

/// How fast changes reach a remote and what that costs, sersync and others side by side.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench mirror --")]
struct Arguments {
    /// The workloads; all of them, if none is named
    workloads: Vec<String>,
    /// The tools, separated by commas; all that are installed, if none is named
    #[arg(long, value_delimiter = ',')]
    tools: Vec<String>,
    /// Rounds of each workload and tool; on disk no more than two
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where source and copies lie
    #[arg(long, value_enum, default_value_t = On::Both)]
    on: On,
    /// One tiny round of each on tmpfs, the others' only once: shows that it works, measures nothing
    #[arg(long)]
    smoke: bool,
    /// Write BENCHMARKS.md and what it shows; workloads that were not run keep their figures
    #[arg(long, conflicts_with = "smoke")]
    write: bool,
    /// Those workloads, too, that take minutes and gigabytes
    #[arg(long)]
    large: bool,
    /// Name workloads and tools, run nothing
    #[arg(long)]
    list: bool,
    // cargo adds it to what every benchmark gets.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Tmpfs,
    Disk,
    Both,
}

/// Rounds on disk, which says more of the disk than of the tools.
const DISK: usize = 2;

/// A tool that took longer than this for a round has had its only one.
const SLOW: Duration = Duration::from_secs(40);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (workloads, tools) = match chosen(&arguments) {
        Ok(chosen) => chosen,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let machine = Machine::here(&tools::all());
    if arguments.list {
        for workload in &workloads {
            println!("{:12} {}", workload.name(), workload.about());
        }
        println!("\ntools: {}", tools.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", "));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = interruption::guard() {
        eprintln!("an interruption will leave files and processes behind: {error}");
    }
    println!("{}", report::machine(&machine));
    let every = workloads::all();
    let order = every.iter().map(|workload| workload.name()).collect::<Vec<_>>();
    let mut failed = false;
    for workload in &workloads {
        if let Some(obstacle) = workload.obstacle() {
            eprintln!("{} is left out: {obstacle}", workload.name());
            continue;
        }
        let mut ended = HashSet::new();
        for &place in workload.places().iter().filter(|place| arguments.wants(**place)) {
            let table = run(workload.as_ref(), &tools, place, &arguments, &mut ended);
            println!("\n{}", report::table(&table));
            failed |= table.row("sersync").is_some_and(|row| row.shortfalls().next().is_some());
            // At once: an interruption of what comes after loses nothing.
            let results = Results { machine: machine.clone(), tables: vec![table] };
            if arguments.write
                && let Err(error) = report::write(results, &order)
            {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if failed {
        eprintln!("sersync fell short: see above");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

impl Arguments {
    fn wants(&self, place: Place) -> bool {
        match self.on {
            _ if self.smoke => place == Place::Tmpfs,
            On::Both => true,
            On::Tmpfs => place == Place::Tmpfs,
            On::Disk => place == Place::Disk,
        }
    }
}

type Chosen = (Vec<Box<dyn Workload>>, Vec<Box<dyn Tool>>);

/// What the command line names, of what is there.
fn chosen(arguments: &Arguments) -> Result<Chosen, String> {
    let (workloads, tools) = (workloads::all(), tools::all());
    let unknown = |name: &String| format!("there is no {name:?}: --list names what there is");
    if let Some(name) = arguments.workloads.iter().find(|name| !workloads.iter().any(|known| known.name() == **name)) {
        return Err(unknown(name));
    }
    if let Some(name) = arguments.tools.iter().find(|name| !tools.iter().any(|known| known.name() == **name)) {
        return Err(unknown(name));
    }
    let named = |names: &[String], name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let small_enough = |large: bool| !large || arguments.large || arguments.list || !arguments.workloads.is_empty();
    let workloads = workloads
        .into_iter()
        .filter(|workload| named(&arguments.workloads, workload.name()) && small_enough(workload.large()))
        .collect();
    let tools = tools
        .into_iter()
        .filter(|tool| named(&arguments.tools, tool.name()))
        .filter(|tool| match tool.version() {
            Ok(_) => true,
            Err(reason) => {
                eprintln!("{} is left out: {reason}", tool.name());
                false
            }
        })
        .collect();
    Ok((workloads, tools))
}

/// All rounds of one workload in one place, without those who have `ended` in another.
fn run(
    workload: &dyn Workload,
    tools: &[Box<dyn Tool>],
    place: Place,
    arguments: &Arguments,
    ended: &mut HashSet<String>,
) -> Table {
    let field = Field { place, smoke: arguments.smoke };
    let most = if place == Place::Disk { DISK } else { usize::MAX };
    let rounds = if arguments.smoke { 1 } else { most.min(workload.most_rounds()).min(arguments.rounds as usize) };
    let mut table = Table {
        workload: workload.name().to_owned(),
        about: workload.about().to_owned(),
        place,
        date: jiff::ZonedDateTime::now().date().to_string(),
        measures: workload.measures().to_vec(),
        rows: Vec::new(),
    };
    for round in 1..=rounds {
        eprint!("{} on {}, round {round} of {rounds}: limits", workload.name(), place.name());
        for (name, outcome) in workload.limits(&field) {
            table.add(&name, true, outcome);
        }
        // A smoke run shows once that the others are set up well; there is no more to show with them.
        let shown = |tool: &dyn Tool| !arguments.smoke || workload.name() == "burst" || report::is_ours(tool.name());
        let suited = |tool: &dyn Tool| workload.unsuited(tool).is_none() && shown(tool);
        for tool in tools.iter().filter(|tool| suited(tool.as_ref())) {
            if ended.contains(tool.name()) {
                continue;
            }
            eprint!(", {}", tool.name());
            let start = Instant::now();
            let outcome = workload.run(&field, tool.as_ref());
            // It will not do better: its rounds would be most of the time that all take.
            if outcome.shortfall.is_some() || outcome.remark.is_some() || start.elapsed() > SLOW {
                ended.insert(tool.name().to_owned());
            }
            table.add(tool.name(), false, outcome);
        }
        eprintln!();
    }
    table.rows.sort_by_key(|row| !row.limit);
    table
}
