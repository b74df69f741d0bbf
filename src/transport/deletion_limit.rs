//! How much a run may delete on a remote without consent.
//!
//! A path that is missing here was removed, or the file system that it is on is not mounted. A comparison cannot tell the
//! one from the other, so it first counts what it would delete: [`Compared::excess`] says when that is too much. Nothing
//! at all is deleted where another file system is mounted than the one that the remote mirrors ([`Order::keep`]).

use super::output;
use super::plan::{self, Plan};
use super::{Kind, Order};
use crate::beneath;
use crate::path::RelPath;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

/// Number of deletions that a comparison makes without consent, however few entries the remote has.
const FEW: u64 = 1_000;

/// Percentage of the remote's entries up to which it makes more.
const PERCENT: u64 = 10;

/// Maximum number of withheld paths that are named.
pub const SAMPLE: usize = 20;

/// Why deletions need consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Excess {
    /// The root, or a directory below it, is not on the file system that the remote mirrors.
    NotMounted,
    /// Nothing that the remote has is here.
    Everything,
    /// They are this percentage of what the remote has.
    Percent(u64),
}

/// Paths of a batch that do not exist here and stay on the remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spared {
    /// Number of paths below a directory whose file system is not mounted.
    pub not_mounted: u64,
    /// Number of paths above the limit for one batch.
    pub over_limit: u64,
    /// Some of them.
    pub sample: Vec<RelPath>,
    /// Number of paths that are deleted.
    pub deleted: u64,
}

/// What a comparison says of the entries that it compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Entries here, the root among them.
    pub listed: u64,
    /// Those of them that the remote did not have.
    created: u64,
}

impl Compared {
    /// Takes in one line of `--stats`; a new attempt (`None`) starts anew.
    pub fn take_line(&mut self, line: Option<&[u8]>) {
        match line {
            None => *self = Self::default(),
            Some(line) => {
                self.listed = output::count(line, b"Number of files: ").unwrap_or(self.listed);
                self.created = output::count(line, b"Number of created files: ").unwrap_or(self.created);
            }
        }
    }

    /// Number of entries below the root, if `order` compared all of it.
    pub fn entries(self, order: &Order) -> Option<u64> {
        (compares_root(order) && self.listed > 0).then(|| self.listed - 1)
    }

    /// Whether `withheld` deletions are too many for a comparison that nobody is asked about.
    pub fn excess(self, withheld: u64, order: &Order) -> Option<Excess> {
        let common = self.listed.saturating_sub(1).saturating_sub(self.created);
        // A remote that was never equal may have had something else before.
        let may_differ = order.entries.is_none() && self.listed > 1;
        let had = match compares_root(order) {
            true if common == 0 && !may_differ => return Some(Excess::Everything),
            true => common.saturating_add(withheld),
            false => order.entries.unwrap_or(self.listed).max(withheld),
        };
        let percent = u64::try_from(u128::from(withheld) * 100 / u128::from(had.max(1))).unwrap_or(100);
        (withheld > FEW && percent > PERCENT).then_some(Excess::Percent(percent))
    }
}

fn compares_root(order: &Order) -> bool {
    order.kind >= Kind::Tree && order.paths.iter().any(RelPath::is_root)
}

/// Whether `kept` is one of `paths`, or lies above or below one of them.
pub(super) fn meets_any(kept: &RelPath, paths: &[RelPath]) -> bool {
    paths.iter().any(|path| meets(kept, path))
}

fn meets(kept: &RelPath, path: &RelPath) -> bool {
    kept.is_root() || path.is_root() || kept == path || path.is_inside(kept) || kept.is_inside(path)
}

/// Adds to `keep` the mount points below `root` at which something else than their device is.
pub(super) fn not_mounted(root: BorrowedFd<'_>, keep: Vec<RelPath>, mounts: &BTreeMap<RelPath, u64>) -> Vec<RelPath> {
    let is_mounted = |point: &RelPath, device: u64| beneath::stat(root, point).is_ok_and(|stat| stat.st_dev == device);
    let gone = mounts.iter().filter(|(point, device)| !keep.contains(point) && !is_mounted(point, **device));
    let gone: Vec<RelPath> = gone.map(|(point, _)| point.clone()).collect();
    keep.into_iter().chain(gone).collect()
}

/// Takes out of `plan` what is missing and must stay on the remote.
pub(super) fn spare(plan: &mut Plan, paths: &[RelPath], keep: &[RelPath], at_most: Option<u64>) -> Spared {
    let mut spared = Spared::default();
    if plan.missing.is_empty() || keep.is_empty() && at_most.is_none() {
        return spared;
    }
    let (kept, missing): (Vec<_>, Vec<_>) =
        std::mem::take(&mut plan.missing).into_iter().partition(|path| keep.iter().any(|kept| meets(kept, path)));
    // Each path of the batch counts, not only the topmost of those that are missing.
    let count = |missing: &[RelPath]| {
        let missing: BTreeSet<RelPath> = missing.iter().cloned().collect();
        paths.iter().filter(|path| plan::is_within(path, &missing)).count() as u64
    };
    spared.not_mounted = count(&kept);
    spared.deleted = count(&missing);
    spared.sample = kept;
    if at_most.is_some_and(|most| spared.deleted > most) {
        spared.over_limit = std::mem::take(&mut spared.deleted);
        spared.sample.extend(missing);
    } else {
        plan.missing = missing;
    }
    spared.sample.truncate(SAMPLE);
    spared
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    fn order(path: &str) -> Order {
        Order { entries: Some(50_000), ..Order::plain(Path::new("/data"), Kind::Tree, vec![rel(path)]) }
    }

    fn compared(listed: u64, created: u64) -> Compared {
        Compared { listed, created }
    }

    #[test]
    fn everything_is_too_much_and_so_is_a_tenth_of_many() {
        let root = order("");
        assert_eq!(compared(1, 0).excess(1, &root), Some(Excess::Everything), "the root is empty");
        assert_eq!(compared(2, 1).excess(500, &root), Some(Excess::Everything), "one new file");
        assert_eq!(compared(2, 0).excess(500, &root), None, "few");
        assert_eq!(compared(1_001, 0).excess(1_000, &root), None, "few, though half");
        assert_eq!(compared(1_002, 0).excess(1_001, &root), Some(Excess::Percent(50)));
        assert_eq!(compared(9_011, 0).excess(1_001, &root), None, "a tenth");
        assert_eq!(compared(100_001, 100_000).excess(1, &root), Some(Excess::Everything));
        let first = Order { entries: None, ..root };
        assert_eq!(compared(2, 1).excess(500, &first), None, "the first comparison with a remote");
        assert_eq!(compared(1, 0).excess(1, &first), Some(Excess::Everything), "but for an empty root");
    }

    #[test]
    fn a_directory_is_measured_by_the_whole_remote() {
        let directory = order("d");
        assert_eq!(compared(1, 0).excess(5_000, &directory), None, "a tenth of all");
        assert_eq!(compared(1, 0).excess(10_000, &directory), Some(Excess::Percent(20)));
        let unknown = Order { entries: None, ..directory };
        assert_eq!(compared(2, 0).excess(1_001, &unknown), Some(Excess::Percent(100)));
    }

    #[test]
    fn what_is_not_mounted_keeps_its_paths_and_a_limit_those_of_a_batch() {
        let plan = || Plan { missing: ["d", "disk/a", "e"].map(rel).into(), ..Plan::default() };
        let paths = ["d", "d/x", "d/y", "disk/a", "e", "other"].map(rel);
        let mut kept = plan();
        let spared = spare(&mut kept, &paths, &[rel("disk")], None);
        assert_eq!((kept.missing, spared.not_mounted, spared.deleted), (["d", "e"].map(rel).into(), 1, 4));
        let mut all = plan();
        assert_eq!(spare(&mut all, &paths, &[RelPath::root()], None).not_mounted, 5);
        assert!(all.missing.is_empty());
        let mut limited = plan();
        let spared = spare(&mut limited, &paths, &[], Some(4));
        assert_eq!((limited.missing.len(), spared.over_limit, spared.deleted), (0, 5, 0));
        let mut allowed = plan();
        assert_eq!(spare(&mut allowed, &paths, &[], Some(5)).deleted, 5);
        assert_eq!(allowed.missing.len(), 3);
    }
}
