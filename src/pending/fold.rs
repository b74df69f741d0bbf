//! Folding: when too many paths wait, siblings give way to one recursive entry of their directory.
//!
//! A folded directory is a [`Kind::VerifiedTree`]: the paths it stands for were reported as changed, and a comparison
//! by size and time could miss one of them. First the directories with the most waiting entries are folded; where
//! that does not help, because the paths are scattered, all paths are cut to the depth at which few enough remain.

use super::{Entry, Kind, PendingSet};
use crate::path::RelPath;
use std::collections::{HashMap, HashSet};

/// A directory with fewer waiting entries is not worth a recursive run of its own.
const WORTH_FOLDING: usize = 8;

impl<F> PendingSet<F> {
    /// Brings the number of waiting paths down to half the limit.
    pub(super) fn fold(&mut self) {
        self.folds += 1;
        self.forget_moves();
        let goal = (self.limit / 2).max(1);
        self.fold_crowded(goal);
        if self.waiting.len() > goal {
            self.fold_by_depth(goal);
        }
    }

    fn fold_crowded(&mut self, goal: usize) {
        let mut crowds: HashMap<RelPath, usize> = HashMap::new();
        for path in self.waiting.keys() {
            if let Some(parent) = path.parent() {
                *crowds.entry(parent).or_default() += 1;
            }
        }
        let mut crowds: Vec<(usize, RelPath)> =
            crowds.into_iter().filter(|(_, size)| *size >= WORTH_FOLDING).map(|(dir, size)| (size, dir)).collect();
        crowds.sort_unstable_by(|a, b| b.cmp(a));
        let mut excess = self.waiting.len().saturating_sub(goal);
        let mut chosen = HashSet::new();
        for (size, directory) in crowds {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(size);
            chosen.insert(directory);
        }
        self.replace(|path| path.parent().filter(|parent| chosen.contains(parent)));
    }

    fn fold_by_depth(&mut self, goal: usize) {
        let deepest = self.waiting.keys().map(depth).max().unwrap_or(0);
        for most in (0..deepest).rev() {
            let kept: HashSet<RelPath> = self.waiting.keys().map(|path| cut(path, most)).collect();
            if kept.len() <= goal || most == 0 {
                self.replace(|path| (depth(path) > most).then(|| cut(path, most)));
                return;
            }
        }
    }

    /// Replaces each waiting path for which `by` names a directory.
    fn replace(&mut self, by: impl Fn(&RelPath) -> Option<RelPath>) {
        let moves: Vec<(RelPath, RelPath)> =
            self.waiting.keys().filter_map(|path| Some((path.clone(), by(path)?))).collect();
        for (path, directory) in moves {
            if let Some(entry) = self.remove(&path) {
                self.touched.push(path);
                let (kind, purge) = (Kind::VerifiedTree, entry.purge.of_more());
                self.put(directory, Entry { kind, purge, requested: false, bulk: false, ..entry });
            }
        }
    }
}

fn depth(path: &RelPath) -> usize {
    if path.is_root() { 0 } else { 1 + path.as_bytes().iter().filter(|byte| **byte == b'/').count() }
}

/// The first `components` of `path`.
fn cut(path: &RelPath, components: usize) -> RelPath {
    match components {
        0 => RelPath::root(),
        _ => path.ancestors_below_root().nth(components - 1).unwrap_or_else(|| path.clone()),
    }
}
