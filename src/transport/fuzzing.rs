//! What is made of an rsync run's output, without the run: for `fuzz/`.

use super::output::{self, Complaints, Progress, Reader, Totals};
use super::plan::Plan;
use super::{Capabilities, Fault, Order, Outcome, Synced, outcome, synced};
use crate::path::RelPath;
use crate::pending::Kind;
use std::path::Path;

/// A batch, and a remote that names its paths with something before them.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The watched root.
    pub root: &'a Path,
    /// Sorted.
    pub paths: &'a [RelPath],
    /// What they need.
    pub kind: Kind,
    /// What the remote puts before paths of ours.
    pub prefix: &'a [u8],
}

/// What was understood.
#[derive(Debug)]
pub struct Understood {
    /// Paths that rsync complained of.
    pub complained_of: Vec<RelPath>,
    /// Paths that a dry run would delete.
    pub doomed: Vec<RelPath>,
    /// Paths that were made equal.
    pub synced: Vec<Synced>,
    /// How far the run said it was, line by line.
    pub progress: Vec<Progress>,
    /// How many deletions it told of.
    pub deleted: u64,
    /// What is told to the engine.
    pub outcome: Outcome,
}

/// Reads all that a run of `batch` wrote.
pub fn understand(batch: Batch<'_>, stdout: &[u8], stderr: &str, exists: &dyn Fn(&RelPath) -> bool) -> Understood {
    let order = order(batch);
    let concerns = |path: &RelPath| outcome::concerns(&order, path);
    let (mut totals, mut deleted) = (Totals::default(), 0_u64);
    let (mut doomed, mut synced, mut progress) = (Vec::new(), Vec::new(), Vec::new());
    for line in stdout.split(|byte| matches!(byte, b'\n' | b'\r')) {
        totals.take_line(line);
        deleted = output::deleted(line).unwrap_or_default().saturating_add(deleted);
        progress.extend(Progress::from_line(line));
        doomed.extend(output::deletion(line).map(|(path, _)| path).filter(concerns));
        synced.extend(synced::of_batch(&order, line));
    }
    let reader = Reader { root: batch.root, prefix: batch.prefix, concerns: &concerns, overlook: &|_| false, exists };
    let complaints: Complaints = reader.complaints(stderr);
    let failed = complaints.failed.iter().map(|(path, _)| path);
    let complained_of = failed.chain(&complaints.vanished).cloned().collect();
    let fault = Some(Fault::from_exit(Some(1), stderr));
    let outcome = Outcome::new(&order, Plan::default(), complaints, fault, Capabilities::default(), totals);
    Understood { complained_of, doomed, synced, progress, deleted, outcome }
}

fn order(batch: Batch<'_>) -> Order {
    Order { name_synced: true, ..Order::plain(batch.root, batch.kind, batch.paths.to_vec()) }
}
