//! The report: tables of what was measured, for the terminal and for BENCHMARKS.md.

use crate::figures::{Measure, figure, median, spread};
use crate::machine::Machine;
use crate::results::{Results, Row, Table};
use crate::support::project;
use std::fmt::Write as _;
use std::fs;
use std::io;

/// One line.
pub fn machine(machine: &Machine) -> String {
    let gigabytes = machine.memory as f64 / f64::from(1 << 30);
    let tools = machine.tools.iter().map(|(name, version, _)| format!("{name} {version}")).collect::<Vec<_>>();
    format!(
        "{} cores ({}), {gigabytes:.0} GB, {}, Linux {}; {}; {}",
        machine.cores,
        machine.processor,
        machine.system,
        machine.kernel,
        machine.rsync,
        tools.join(", "),
    )
}

/// One workload in one place.
pub fn table(table: &Table) -> String {
    let mut text = format!("### {} on {}\n\n{}\n\n", table.workload, table.place.name(), table.about);
    let headings = table.measures.iter().map(|measure| measure.heading()).collect::<Vec<_>>();
    let _ = writeln!(text, "| | {} | × limit | note |", headings.join(" | "));
    let _ = writeln!(text, "|---|{}---|---|", "---:|".repeat(headings.len()));
    for row in &table.rows {
        let cells = table.measures.iter().map(|measure| spread(&row.values(*measure)).unwrap_or_default());
        let cells = cells.collect::<Vec<_>>().join(" | ");
        let _ = writeln!(text, "| {} | {cells} | {} | {} |", row.name, ratio(table, row), note(row));
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

fn note(row: &Row) -> String {
    row.shortfalls().map(str::to_owned).collect::<Vec<_>>().join("; ")
}

/// Writes BENCHMARKS.md and what it is made of.
pub fn write(results: Results) -> io::Result<()> {
    let mut text = String::new();
    for one in &results.tables {
        text.push_str(&table(one));
        text.push('\n');
    }
    let _ = Measure::Median;
    fs::write(project().join("BENCHMARKS.md"), text)
}
