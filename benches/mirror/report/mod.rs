//! The report: tables for the terminal; and, on demand, BENCHMARKS.md with its plots and the raw results beside them,
//! from which the next run's report takes what it did not measure anew.

mod plots;
mod svg;
mod targets;

use crate::figures::{figure, median, spread};
use crate::machine::Machine;
use crate::results::{Results, Row, Table};
use crate::support::project;
use std::fmt::Write as _;
use std::fs;
use std::io;

pub use targets::is_ours;

const RESULTS: &str = "docs/benchmarks/results.json";

/// What everything was measured on, in a line.
pub fn machine(machine: &Machine) -> String {
    let gigabytes = machine.memory as f64 / f64::from(1 << 30);
    let places = machine.file_systems.iter().map(|(place, name)| format!("{} is {name}", place.name()));
    format!(
        "{} cores ({}), {gigabytes:.0} GB, {}, Linux {}, {}, {} at both ends",
        machine.cores,
        machine.processor,
        machine.system,
        machine.kernel,
        places.collect::<Vec<_>>().join(", "),
        machine.rsync,
    )
}

/// One workload in one place.
pub fn table(table: &Table) -> String {
    let mut text = format!("### {} on {}\n\n{}\n\n", table.workload, table.place.name(), table.about);
    let headings = table.measures.iter().map(|measure| measure.heading()).collect::<Vec<_>>();
    let _ = writeln!(text, "| | {} | × limit | |", headings.join(" | "));
    let _ = writeln!(text, "|---|{}---:|---|", "---:|".repeat(headings.len()));
    for row in &table.rows {
        let cells = table.measures.iter().map(|measure| spread(&row.values(*measure)).unwrap_or_default());
        let cells = cells.collect::<Vec<_>>().join(" | ");
        let _ = writeln!(text, "| {} | {cells} | {} | {} |", row.name, ratio(table, row), note(table, row));
    }
    text
}

/// How many times the limit.
fn ratio(table: &Table, row: &Row) -> String {
    let middle = |row: &Row| median(&row.values(table.headline()));
    match (middle(row), table.limit().and_then(middle)) {
        (Some(value), Some(limit)) if limit > 0.0 => figure(value / limit),
        _ => String::new(),
    }
}

/// What a figure needs to be understood.
fn note(table: &Table, row: &Row) -> String {
    let rounds = table.rows.iter().map(|row| row.outcomes.len()).max().unwrap_or(0);
    let remarks = row.outcomes.iter().filter_map(|outcome| outcome.remark.as_deref());
    let mut notes = row.shortfalls().chain(remarks).map(str::to_owned).collect::<Vec<_>>();
    match row.outcomes.len() {
        had if had == rounds => {}
        1 => notes.push("1 round".to_owned()),
        had => notes.push(format!("{had} rounds")),
    }
    notes.join("; ")
}

/// Writes BENCHMARKS.md, its plots and the results, those that were there before among them.
pub fn write(results: Results, order: &[&str]) -> io::Result<()> {
    let file = project().join(RESULTS);
    let mut results = match fs::read(&file) {
        Ok(bytes) => serde_json::from_slice::<Results>(&bytes)?.merge(results),
        Err(error) if error.kind() == io::ErrorKind::NotFound => results,
        Err(error) => return Err(error),
    };
    results.arrange(order);
    let directory = project().join("docs/benchmarks");
    fs::create_dir_all(&directory)?;
    fs::write(&file, json(&results)?)?;
    let plots = plots::all(&results);
    for plot in &plots {
        fs::write(directory.join(&plot.file), &plot.document)?;
    }
    fs::write(project().join("BENCHMARKS.md"), document(&results, &plots))
}

/// A line for each table, so that a new run changes the lines of what it measured.
fn json(results: &Results) -> serde_json::Result<String> {
    let tables = results.tables.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let machine = serde_json::to_string(&results.machine)?;
    Ok(format!("{{\"machine\":{machine},\n\"tables\":[\n{}\n]}}\n", tables.join(",\n")))
}

fn document(results: &Results, plots: &[plots::Plot]) -> String {
    let mut text = String::from(
        "# Benchmarks\n\n\
         Made by `cargo bench --bench mirror -- --write`; what is measured and how stands in \
         [docs/benchmarks.md](docs/benchmarks.md), every round in \
         [docs/benchmarks/results.json](docs/benchmarks/results.json). Compare within a table: all its tools and limits \
         took turns on one machine, and absolute times are that machine's.\n\n",
    );
    let mut dates = results.tables.iter().map(|table| table.date.as_str()).collect::<Vec<_>>();
    dates.sort_unstable();
    dates.dedup();
    let _ = writeln!(text, "{}: {}.\n", dates.join(", "), machine(&results.machine));
    text.push_str("| tool | version | set up as |\n|---|---|---|\n");
    for (name, version, setup) in &results.machine.tools {
        let _ = writeln!(text, "| {name} | {version} | {} |", setup.replace('|', "\\|"));
    }
    for (name, reason) in &results.machine.absent {
        let _ = writeln!(text, "| {name} | | left out: {reason} |");
    }
    text.push_str(
        "\nsersync's copies count as equal when names, types, sizes, modes, owners, modification times, link targets and \
         bytes are; for the others, names, types, sizes, link targets and bytes are enough.\n\n## At a glance\n\n",
    );
    for plot in plots {
        let _ = writeln!(text, "![{}](docs/benchmarks/{})\n", plot.shows, plot.file);
    }
    text.push_str("## What was to be reached\n\nMedians on tmpfs.\n\n");
    text.push_str(&targets::table(results));
    text.push_str(
        "\n## All workloads\n\nMedians, with the least and the most of all rounds. \"× limit\" is the first column, divided \
         by that of the first row.\n",
    );
    for one in &results.tables {
        text.push('\n');
        text.push_str(&table(one));
    }
    text
}
