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
    /// Puts tables in the place of older ones of the same workload and file system. Those of another machine, or of
    /// other versions, go: figures of two machines make no comparison.
    pub fn merge(self, newer: Self) -> Self {
        let mut merged = newer;
        if self.machine == merged.machine {
            let known = |table: &Table| merged.tables.iter().any(|new| new.is_like(table));
            let kept: Vec<Table> = self.tables.into_iter().filter(|table| !known(table)).collect();
            merged.tables.extend(kept);
        }
        merged
    }

    pub fn table(&self, workload: &str, place: Place) -> Option<&Table> {
        self.tables.iter().find(|table| table.workload == workload && table.place == place)
    }
}

impl Table {
    fn is_like(&self, other: &Self) -> bool {
        (&self.workload, self.place) == (&other.workload, other.place)
    }

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
