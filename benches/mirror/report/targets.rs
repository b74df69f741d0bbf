//! What was to be reached, and what was: each line is computed from the results.

use crate::figures::{Measure, figure, median};
use crate::results::{Results, Table};
use crate::stand::Place;
use std::fmt::Write as _;

/// One line of the table.
pub struct Target {
    /// What it is about.
    pub what: &'static str,
    /// What is not to be exceeded.
    pub at_most: f64,
    /// Behind a figure: `ms`, `× limit`.
    pub unit: &'static str,
    pub figure: Figure,
}

/// Where the figure is found. All of them are medians on tmpfs.
pub enum Figure {
    /// A tool's value in a workload's table.
    Value { workload: &'static str, tool: &'static str, measure: Measure },
    /// A tool's first value in it, divided by the first limit's.
    Ratio { workload: &'static str, tool: &'static str },
    /// Something of several tables.
    Computed(fn(&Results) -> Option<f64>),
}

/// In the order of the report.
fn targets() -> Vec<Target> {
    let value = |what, workload, measure, at_most, unit| {
        let figure = Figure::Value { workload, tool: "sersync", measure };
        Target { what, at_most, unit, figure }
    };
    let ratio = |what, workload, at_most| Target {
        what,
        at_most,
        unit: "× limit",
        figure: Figure::Ratio { workload, tool: "sersync" },
    };
    vec![
        value("one file after quiet, median", "latency", Measure::Median, 12.0, "ms"),
        value("one file after quiet, p99", "latency", Measure::P99, 60.0, "ms"),
        ratio("10,000 × 10 KB burst", "burst", 1.0),
        value("CPU of that burst, agent and its rsyncs", "burst", Measure::Cpu, 0.5, "s"),
        value("10,000 files removed: lag after rm", "rmtree", Measure::Lag, 0.3, "s"),
        value("the same: rsync runs", "rmtree", Measure::Runs, 1.0, ""),
        ratio("200 × 5 MB", "big", 1.2),
        value("200 files/s × 100 KB for 20 s: lag", "churn", Measure::Lag, 0.15, "s"),
        value("CPU of that", "churn", Measure::Cpu, 1.5, "s"),
        ratio("a source tree copied in", "tree", 1.2),
    ]
}

/// The table.
pub fn table(results: &Results) -> String {
    let mut text = String::from("| | to reach | reached | | best peer |\n|---|---:|---:|---|---:|\n");
    for target in targets() {
        let reached = target.figure.of(results, None);
        let shown = |value: Option<f64>| {
            value.map_or_else(|| "–".to_owned(), |value| format!("{} {}", figure(value), target.unit))
        };
        let verdict = match reached {
            Some(value) if value <= target.at_most => "yes",
            Some(_) => "**no**",
            None => "not measured",
        };
        let _ = writeln!(
            text,
            "| {} | ≤ {} {} | {} | {verdict} | {} |",
            target.what,
            target.at_most,
            target.unit,
            shown(reached),
            shown(target.figure.best_peer(results)),
        );
    }
    text
}

impl Figure {
    /// The value of its tool, or of another.
    fn of(&self, results: &Results, other: Option<&str>) -> Option<f64> {
        match self {
            Self::Value { workload, tool, measure } => {
                middle(results.table(workload, Place::Tmpfs)?, other.unwrap_or(tool), *measure)
            }
            Self::Ratio { workload, tool } => {
                let table = results.table(workload, Place::Tmpfs)?;
                let limit = median(&table.limit()?.values(table.headline())).filter(|limit| *limit > 0.0)?;
                Some(middle(table, other.unwrap_or(tool), table.headline())? / limit)
            }
            Self::Computed(compute) => {
                if other.is_none() {
                    compute(results)
                } else {
                    None
                }
            }
        }
    }

    fn best_peer(&self, results: &Results) -> Option<f64> {
        let peers = results.machine.tools.iter().map(|(name, ..)| name).filter(|name| !is_ours(name));
        peers.filter_map(|name| self.of(results, Some(name))).min_by(f64::total_cmp)
    }
}

/// A tool's median, if its copy came out equal in every round.
fn middle(table: &Table, tool: &str, measure: Measure) -> Option<f64> {
    let row = table.row(tool).filter(|row| row.shortfalls().next().is_none())?;
    median(&row.values(measure))
}

/// Whether a row is one of ours: `sersync`, and its variants, `sersync, …`.
pub fn is_ours(name: &str) -> bool {
    name == "sersync" || name.starts_with("sersync,")
}
