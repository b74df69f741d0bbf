//! [`LongPaths`]: the directories that are not mirrored because their paths are too long for rsync.
//!
//! They are neither watched nor reported. Only their number is known, by the directory that holds them: a writer can make
//! millions of them.

use super::TooLong;
use super::tree::{NodeId, Tree};
use crate::path::{DEEPEST_DIRECTORY, Extent, LONGEST_DIRECTORY, RelPath};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of directories that a [`TooLong`] names. With rsync's longest path each, they fit on a command line
/// several times.
const NAMED: usize = 64;

/// Delay between a change and the count that follows.
const COUNT_AFTER: Duration = Duration::from_secs(1);

/// Minimum ratio of the time between two counts and the time that one takes.
const COUNT_RATIO: u32 = 10;

/// The known directories with paths that are too long.
#[derive(Debug)]
pub struct LongPaths {
    /// The number of them in each directory that holds any, as it was last counted.
    holders: HashMap<NodeId, u64>,
    /// Something has changed that was not reported.
    is_news: bool,
    /// Holders that have changed since they were counted.
    uncounted: HashSet<NodeId>,
    /// When they are counted.
    count_at: Instant,
    /// The longest and the deepest path that was ever watched.
    largest: Extent,
}

impl LongPaths {
    /// None is known.
    pub fn new() -> Self {
        let (holders, uncounted) = (HashMap::new(), HashSet::new());
        Self { holders, is_news: false, uncounted, count_at: Instant::now(), largest: Extent::ROOT }
    }

    /// A directory at `path` is watched.
    pub fn watched(&mut self, path: &RelPath) {
        let Extent { bytes, components } = path.extent();
        self.largest.bytes = self.largest.bytes.max(bytes);
        self.largest.components = self.largest.components.max(components);
    }

    /// A directory in `holder` has too long a path, or had.
    pub fn changed(&mut self, holder: NodeId, now: Instant) {
        if self.uncounted.is_empty() {
            self.count_at = self.count_at.max(now + COUNT_AFTER);
        }
        self.uncounted.insert(holder);
        if let std::collections::hash_map::Entry::Vacant(unknown) = self.holders.entry(holder) {
            unknown.insert(1);
            self.is_news = true;
        }
    }

    /// `holder` holds this number of them. To count them took from `start` to `end`.
    pub fn counted(&mut self, holder: NodeId, number: u64, start: Instant, end: Instant) {
        self.uncounted.remove(&holder);
        let before = if number == 0 { self.holders.remove(&holder) } else { self.holders.insert(holder, number) };
        self.is_news |= before.unwrap_or(0) != number;
        self.count_at = self.count_at.max(end + (end - start) * COUNT_RATIO);
    }

    /// The holders to count now.
    pub fn due(&mut self, now: Instant) -> Vec<NodeId> {
        if self.uncounted.is_empty() || self.count_at > now { Vec::new() } else { self.uncounted.drain().collect() }
    }

    /// When holders are counted.
    pub fn next(&self) -> Option<Instant> {
        (!self.uncounted.is_empty()).then_some(self.count_at)
    }

    /// Forgets holders that are gone.
    pub fn forget(&mut self, is_alive: impl Fn(NodeId) -> bool) {
        let known = self.holders.len();
        self.holders.retain(|holder, _| is_alive(*holder));
        self.uncounted.retain(|holder| is_alive(*holder));
        self.is_news |= self.holders.len() != known;
    }

    /// A directory was renamed, from a path of the size `old` to one of `new`. Whether that changes which directories in it
    /// have too long a path, as far as is known without a look at each.
    pub fn change_by_rename(&mut self, tree: &Tree, renamed: NodeId, old: Extent, new: Extent) -> bool {
        let holds_any = self.holders.keys().any(|holder| tree.is_alive(*holder) && tree.is_in(*holder, renamed));
        self.is_news |= holds_any;
        let moved = Extent {
            bytes: self.largest.bytes + new.bytes.saturating_sub(old.bytes),
            components: self.largest.components + new.components.saturating_sub(old.components),
        };
        let grows = new.bytes > old.bytes || new.components > old.components;
        holds_any || grows && moved.is_too_long()
    }

    /// The new state, if it has changed since the last call.
    pub fn news(&mut self, tree: &mut Tree) -> Option<TooLong> {
        if !std::mem::take(&mut self.is_news) {
            return None;
        }
        let named = named(tree, self.holders.keys().copied());
        let path = |(directory, whole): (NodeId, bool)| {
            let directory = tree.path(directory)?;
            Some(if whole { Arc::from(below(&directory)) } else { Arc::from(too_long_in(&directory)) })
        };
        let patterns = named.into_iter().filter_map(path).collect();
        let holder = self.holders.keys().find_map(|holder| tree.path(*holder));
        Some(TooLong { directories: self.holders.values().sum(), holder, patterns })
    }
}

/// At most [`NAMED`] directories that stand for `holders`, with whether they stand for all that is in them. Where there are
/// more holders, the deepest give way to the directories above them.
fn named(tree: &Tree, holders: impl Iterator<Item = NodeId>) -> Vec<(NodeId, bool)> {
    let mut by_depth: BTreeMap<usize, BTreeSet<(NodeId, bool)>> = BTreeMap::new();
    let mut count = 0;
    for holder in holders.filter(|holder| tree.is_alive(*holder)) {
        let depth = std::iter::successors(tree.parent(holder), |node| tree.parent(*node)).count();
        by_depth.entry(depth).or_default().insert((holder, false));
        count += 1;
    }
    while count > NAMED
        && let Some((depth, deepest)) = by_depth.pop_last()
        && depth > 1
    {
        count -= deepest.len();
        let above = by_depth.entry(depth - 1).or_default();
        for parent in deepest.into_iter().filter_map(|(node, _)| tree.parent(node)) {
            count -= usize::from(above.remove(&(parent, false)));
            count += usize::from(above.insert((parent, true)));
        }
    }
    by_depth.into_values().flatten().take(NAMED).collect()
}

/// rsync's pattern for the directories in `holder` that have too long a path.
///
/// An escape would make it longer. A question mark in its place matches other paths of the same length as well: their
/// directories are too long, too.
fn too_long_in(holder: &RelPath) -> Vec<u8> {
    let Extent { bytes, components } = holder.extent();
    let shortest = if components < DEEPEST_DIRECTORY { LONGEST_DIRECTORY.saturating_sub(bytes) } else { 0 };
    [b"/".to_vec(), without_wildcards(holder), b"/".to_vec(), vec![b'?'; shortest], b"*/".to_vec()].concat()
}

/// rsync's pattern for all that is in `directory`.
fn below(directory: &RelPath) -> Vec<u8> {
    [b"/".to_vec(), without_wildcards(directory), b"/*".to_vec()].concat()
}

fn without_wildcards(path: &RelPath) -> Vec<u8> {
    let is_special = |byte: u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    path.as_bytes().iter().map(|byte| if is_special(*byte) { b'?' } else { *byte }).collect()
}
