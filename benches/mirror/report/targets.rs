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
    OfLimit { workload: &'static str, tool: &'static str },
    /// A tool's one value in it, divided by the other.
    Quotient { workload: &'static str, tool: &'static str, measure: Measure, by: Measure },
    /// A tool's first value in it, divided by that in another workload's table.
    Between { workload: &'static str, tool: &'static str, other: &'static str },
}

/// In the order of the report.
fn targets() -> Vec<Target> {
    const OURS: &str = "sersync";
    let value = |what, workload, measure, at_most, unit| {
        let figure = Figure::Value { workload, tool: OURS, measure };
        Target { what, at_most, unit, figure }
    };
    let of_limit = |what, workload, at_most| {
        let figure = Figure::OfLimit { workload, tool: OURS };
        Target { what, at_most, unit: "× limit", figure }
    };
    // "As idle", with what two medians of one thing may differ by.
    let as_idle = |what, workload| {
        let figure = Figure::Quotient { workload, tool: OURS, measure: Measure::Median, by: Measure::Calm };
        Target { what, at_most: 1.2, unit: "× idle", figure }
    };
    vec![
        Target {
            what: "one file after quiet, an rsync kept ahead: median",
            at_most: 5.0,
            unit: "ms",
            figure: Figure::Value { workload: "latency", tool: "sersync ahead", measure: Measure::Median },
        },
        value("one file after quiet: median", "latency", Measure::Median, 12.0, "ms"),
        value("the same: p99", "latency", Measure::P99, 60.0, "ms"),
        of_limit("a burst of 10,000 × 10 KB", "burst", 1.0),
        value("the same: CPU of the agent and its rsyncs", "burst", Measure::Cpu, 0.5, "s"),
        Target {
            what: "the same to 3 remotes",
            at_most: 1.7,
            unit: "× one remote",
            figure: Figure::Between { workload: "remotes-3", tool: OURS, other: "burst" },
        },
        value("10,000 files removed: lag after rm", "rmtree", Measure::Lag, 0.3, "s"),
        value("the same: batches", "rmtree", Measure::Runs, 1.0, "rsync"),
        // 10,000 KB of files: what is written are names.
        value("1,000 × 10 KB renamed, ssh: written", "mv-ssh", Measure::Written, 500.0, "KB"),
        of_limit("200 × 5 MB", "big", 1.2),
        value("200 files/s × 100 KB for 20 s: lag", "churn", Measure::Lag, 0.15, "s"),
        value("the same: CPU of the agent and its rsyncs", "churn", Measure::Cpu, 1.5, "s"),
        of_limit("`cp -r` of a source tree", "tree", 1.2),
        as_idle("a file of 1 KB while 5 GB are in flight: median", "beside"),
        of_limit("100,000 directories: until they are watched", "watch", 1.3),
        value("the same: memory a directory", "watch", Measure::MemoryEach, 120.0, "B"),
        // One tick is all that can be told from nothing.
        value("1,000,000 directories: CPU in 10 s idle", "watch-million", Measure::IdleCpu, 10.0, "ms"),
        as_idle("the same: median of one file", "watch-million"),
        of_limit("a full sync of an unchanged tree", "full", 1.0),
        as_idle("the same: median of one file meanwhile", "full"),
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
        let verdict = match (reached, target.figure.fell_short(results)) {
            (_, true) => "**no**: the copy was not equal",
            (Some(value), false) if value <= target.at_most => "yes",
            (Some(_), false) => "**no**",
            (None, false) => "not measured",
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
        let table = |workload| results.table(workload, Place::Tmpfs);
        let divided = |value: f64, by: f64| (by > 0.0).then(|| value / by);
        match self {
            Self::Value { workload, tool, measure } => middle(table(workload)?, other.unwrap_or(tool), *measure),
            Self::OfLimit { workload, tool } => {
                let table = table(workload)?;
                let limit = median(&table.limit()?.values(table.headline()))?;
                divided(middle(table, other.unwrap_or(tool), table.headline())?, limit)
            }
            Self::Quotient { workload, tool, measure, by } => {
                let (table, tool) = (table(workload)?, other.unwrap_or(tool));
                divided(middle(table, tool, *measure)?, middle(table, tool, *by)?)
            }
            Self::Between { workload, tool, other: base } => {
                let first = |table: &Table| middle(table, other.unwrap_or(tool), table.headline());
                divided(first(table(workload)?)?, first(table(base)?)?)
            }
        }
    }

    /// Whether its tool had a round without an equal copy.
    fn fell_short(&self, results: &Results) -> bool {
        let (Self::Value { workload, tool, .. }
        | Self::OfLimit { workload, tool }
        | Self::Quotient { workload, tool, .. }
        | Self::Between { workload, tool, .. }) = self;
        let row = results.table(workload, Place::Tmpfs).and_then(|table| table.row(tool));
        row.is_some_and(|row| row.shortfalls().next().is_some())
    }

    fn best_peer(&self, results: &Results) -> Option<f64> {
        let peers = results.machine.tools.iter().map(|(name, ..)| name).filter(|name| !is_ours(name));
        // Who was still at work has not used all that it will use.
        let counted = |name: &&String| match self {
            Self::Value { workload, measure: Measure::Cpu | Measure::Runs, .. } => {
                let row = results.table(workload, Place::Tmpfs).and_then(|table| table.row(name));
                row.is_some_and(|row| row.outcomes.iter().all(|outcome| outcome.remark.is_none()))
            }
            _ => true,
        };
        peers.filter(counted).filter_map(|name| self.of(results, Some(name))).min_by(f64::total_cmp)
    }
}

/// A tool's median, if its copy came out equal in every round.
fn middle(table: &Table, tool: &str, measure: Measure) -> Option<f64> {
    let row = table.row(tool).filter(|row| row.shortfalls().next().is_none())?;
    median(&row.values(measure))
}

/// Whether a row is one of ours: `sersync`, and its variants, `sersync …`.
pub fn is_ours(name: &str) -> bool {
    name == "sersync" || name.starts_with("sersync ")
}
