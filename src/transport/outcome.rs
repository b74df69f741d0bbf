//! [`Outcome`]: how a batch ended, told in the batch's own paths.

use super::deletion_limit::{Excess, Spared};
use super::output::{Complaints, Totals};
use super::plan::{Plan, Stamp};
use super::{Capabilities, Fault, Lesson, Order, Synced};
use crate::path::RelPath;
use crate::pending::Kind;
use std::collections::BTreeSet;

/// How a batch ended. A path of the batch that none of the lists names has succeeded, unless there is a `fault`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Paths that failed by themselves; some may lie below a path of the batch.
    pub failed: Vec<(RelPath, Fault)>,
    /// Paths that were not sent, or may not have been, without a change of their own.
    pub again: Vec<RelPath>,
    /// Paths that changed or vanished while they were sent; each such change is reported by itself, too.
    pub changed: Vec<RelPath>,
    /// Paths that were not sent because they are large and the batch was not.
    pub bulk: Vec<RelPath>,
    /// Directories that were sent with all that is in them, though the batch is not recursive.
    pub whole: Vec<RelPath>,
    /// The batch failed as a whole.
    pub fault: Option<Fault>,
    /// What was learned of the remote.
    pub lesson: Lesson,
    /// What was sent, also by a run that failed later.
    pub totals: Totals,
    /// What was made equal, if the order wants it named: the batch's own paths but those of the lists above, and what
    /// rsync changed below its directories.
    pub synced: Vec<Synced>,
    /// Some of the files of the batch, as they were when it began.
    pub stamps: Vec<(RelPath, Stamp)>,
    /// The run that was started ahead had no connection any more.
    pub ahead_was_gone: bool,
    /// Number of deletions that [`Order::compared_at_most`] or [`Order::keep`] left out of a comparison: entries that only
    /// the remote has.
    pub withheld: u64,
    /// Some of them, where they are too many.
    pub withheld_paths: Vec<RelPath>,
    /// They are more than a comparison makes without consent.
    pub excess: Option<Excess>,
    /// Number of entries below the root, where all of it was compared.
    pub entries: Option<u64>,
    /// Paths of the batch that do not exist and were not deleted.
    pub spared: Spared,
}

impl Outcome {
    /// That of a run that did nothing and learned nothing.
    pub fn empty(order: &Order) -> Self {
        Self {
            failed: Vec::new(),
            again: Vec::new(),
            changed: Vec::new(),
            bulk: Vec::new(),
            whole: Vec::new(),
            fault: None,
            lesson: Lesson { before: order.capabilities, after: order.capabilities },
            totals: Totals::default(),
            synced: Vec::new(),
            stamps: Vec::new(),
            ahead_was_gone: false,
            withheld: 0,
            withheld_paths: Vec::new(),
            excess: None,
            entries: None,
            spared: Spared::default(),
        }
    }

    pub(super) fn faulty(order: &Order, fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::empty(order) }
    }

    /// Brings what rsync said of its paths back to the paths of the batch.
    pub(super) fn new(
        order: &Order,
        plan: Plan,
        complaints: Complaints,
        fault: Option<Fault>,
        capabilities: Capabilities,
        totals: Totals,
    ) -> Self {
        let mut failed: Vec<(RelPath, Fault)> = Vec::new();
        let (mut again, mut changed) = (BTreeSet::new(), BTreeSet::new());
        let (withheld, withheld_paths) = (complaints.withheld, complaints.withheld_paths);
        for (path, fault) in complaints.failed {
            let owners = owners(order, &path);
            failed.extend(owners.into_iter().map(|owner| (owner, fault.clone())));
        }
        for path in complaints.vanished {
            // What is above it has not changed.
            let (above, owners): (Vec<_>, Vec<_>) =
                owners(order, &path).into_iter().partition(|owner| path.is_inside(owner));
            again.extend(above);
            changed.extend(owners);
        }
        for path in complaints.unsent {
            again.extend(owners(order, &path));
        }
        failed.sort_by(|a, b| a.0.cmp(&b.0));
        failed.dedup_by(|a, b| a.0 == b.0);
        let is_bad = |path: &RelPath| failed.binary_search_by(|(bad, _)| bad.cmp(path)).is_ok();
        let changed = changed.into_iter().filter(|path| !is_bad(path) && !again.contains(path)).collect();
        let again = again.iter().filter(|path| !is_bad(path)).cloned().collect();
        let lesson = Lesson { before: order.capabilities, after: capabilities };
        let (bulk, stamps) = (plan.bulk, plan.stamps);
        Self {
            failed,
            again,
            changed,
            bulk,
            fault,
            lesson,
            totals,
            stamps,
            withheld,
            withheld_paths,
            ..Self::empty(order)
        }
    }
}

/// Whether a complaint about `path` can come from a run of `order`.
pub(super) fn concerns(order: &Order, path: &RelPath) -> bool {
    let held = |path: &[u8]| order.paths.binary_search_by(|held| held.as_bytes().cmp(path)).is_ok();
    if path.is_root() || held(path.as_bytes()) || held(b"") {
        return !order.paths.is_empty();
    }
    // What lies inside it stands together in the sorted list, though not right behind it: "a", "a-b", "a/b".
    let directory = [path.as_bytes(), b"/"].concat();
    let inside = order.paths.partition_point(|held| held.as_bytes() < directory.as_slice());
    order.paths.get(inside).is_some_and(|held| held.as_bytes().starts_with(&directory)) || path.prefixes().any(held)
}

/// The paths that `path` of a complaint stands for: itself where the batch names it; else those of the batch inside
/// it (they gave way to their topmost missing directory); else itself, found below a directory of the batch.
fn owners(order: &Order, path: &RelPath) -> Vec<RelPath> {
    if order.paths.binary_search(path).is_ok() || order.kind >= Kind::Pruned {
        return vec![path.clone()];
    }
    let inside: Vec<RelPath> = order.paths.iter().filter(|held| held.is_inside(path)).cloned().collect();
    if !inside.is_empty() {
        return inside;
    }
    // A deleted directory's entry that would not go, or an attribute of a directory on the way.
    let above: Vec<RelPath> =
        path.ancestors_below_root().filter(|above| order.paths.binary_search(above).is_ok()).collect();
    if above.is_empty() { vec![path.clone()] } else { above }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::synced;
    use std::path::Path;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    fn order(paths: &[&str]) -> Order {
        let paths = paths.iter().map(|path| rel(path)).collect();
        Order { name_synced: true, ..Order::plain(Path::new("/data"), Kind::Tree, paths) }
    }

    #[test]
    fn a_batch_is_concerned_with_its_paths_and_what_is_above_and_below_them() {
        let order = order(&["a", "a-b", "c/d", "c/d.x/e"]);
        for path in ["", "a", "a/x/y", "a-b", "c", "c/d", "c/d/x", "c/d.x", "c/d.x/e/f"] {
            assert!(concerns(&order, &rel(path)), "{path:?}");
        }
        for path in ["a-", "a.b", "b", "c/d.", "c/d.x/f", "c/e", "ca"] {
            assert!(!concerns(&order, &rel(path)), "{path:?}");
        }
        assert!(concerns(&self::order(&[""]), &rel("any/thing")), "the root holds all");
        assert!(!concerns(&self::order(&[]), &rel("")));
    }

    #[test]
    fn a_remote_names_nothing_that_it_was_not_sent() {
        let order = order(&["a"]);
        let synced = |line: &[u8]| synced::of_batch(&order, line).map(|synced| synced.path);
        assert_eq!(synced(b"<f+++++++++ a/b"), Some(rel("a/b")));
        assert_eq!(synced(b"<f+++++++++ elsewhere"), None);
        assert_eq!(synced(b"*deleting   elsewhere/"), None);
    }
}
