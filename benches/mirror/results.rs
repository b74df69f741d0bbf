//! [`Results`]: everything that was measured on one machine, round by round. Kept as JSON, so that the report can be made
//! from several runs of the command, and by others.

use crate::figures::{Measure, Outcome};
use crate::machine::Machine;
use crate::stand::Place;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub tables: Vec<Table>,
}

/// One workload on one file system.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Table {
    pub workload: String,
    pub about: String,
    pub place: Place,
    /// The day, `2026-01-31`.
    pub date: String,
    /// The columns. The first is what ratios, plots and targets are about.
    pub measures: Vec<Measure>,
    /// Limits first, then tools.
    pub rows: Vec<Row>,
}

/// One tool, or one limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    pub limit: bool,
    /// A round each.
    pub outcomes: Vec<Outcome>,
}

impl Results {
    /// What was measured before, with what is new in its place. Nothing is kept of another machine: figures of two make no
    /// comparison.
    pub fn merge(mut self, newer: Self) -> Self {
        if !self.machine.is_like(&newer.machine) {
            return newer;
        }
        for table in newer.tables {
            match self.tables.iter_mut().find(|old| old.workload == table.workload && old.place == table.place) {
                Some(old) => *old = table,
                None => self.tables.push(table),
            }
        }
        Self { machine: newer.machine.with_tools_of(self.machine), tables: self.tables }
    }

    /// Puts the tables in the order of these workloads.
    pub fn arrange(&mut self, workloads: &[&str]) {
        let rank = |table: &Table| workloads.iter().position(|name| *name == table.workload);
        self.tables.sort_by_key(|table| (rank(table).unwrap_or(usize::MAX), table.place));
    }

    pub fn table(&self, workload: &str, place: Place) -> Option<&Table> {
        self.tables.iter().find(|table| table.workload == workload && table.place == place)
    }
}

impl Table {
    pub fn headline(&self) -> Measure {
        self.measures[0]
    }

    /// What ratios are to.
    pub fn limit(&self) -> Option<&Row> {
        self.rows.iter().find(|row| row.limit)
    }

    pub fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    pub fn add(&mut self, name: &str, limit: bool, outcome: Outcome) {
        match self.rows.iter_mut().find(|row| row.name == name && row.limit == limit) {
            Some(row) => row.outcomes.push(outcome),
            None => self.rows.push(Row { name: name.to_owned(), limit, outcomes: vec![outcome] }),
        }
    }
}

impl Row {
    /// One value for each round that has it.
    pub fn values(&self, measure: Measure) -> Vec<f64> {
        self.outcomes.iter().filter_map(|outcome| outcome.values.get(&measure).copied()).collect()
    }

    /// Why there is less than a figure for each round.
    pub fn shortfalls(&self) -> impl Iterator<Item = &str> {
        self.outcomes.iter().filter_map(|outcome| outcome.shortfall.as_deref())
    }
}
