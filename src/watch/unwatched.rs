//! [`Unwatched`]: the directories that could not be watched, and when they are tried again.

use super::rescan::WallTime;
use super::tree::NodeId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// So often they are tried again.
const RETRY: Duration = Duration::from_secs(10);

/// So soon they are tried again when watches became free.
const RETRY_FREED: Duration = Duration::from_secs(1);

/// Why a directory is not watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// This user's watches are used up: the others of this cause will fail like this one.
    Limit,
    /// Something with this very directory, such as its mode.
    Directory,
}

/// The directories that could not be watched.
#[derive(Debug)]
pub struct Unwatched {
    failed: HashMap<NodeId, (Cause, WallTime)>,
    /// Whether anything was told since all were watched.
    told: bool,
    limit_told: bool,
    retry_at: Instant,
    /// How many of those that failed for the limit are tried at once: more after each success.
    probes: usize,
}

impl Unwatched {
    /// All are watched.
    pub fn new() -> Self {
        Self { failed: HashMap::new(), told: false, limit_told: false, retry_at: Instant::now(), probes: 1 }
    }

    /// Watching `node` failed; its changes are missed from `since` on. Says whether to report it: each directory once,
    /// but the limit once for all.
    #[must_use]
    pub fn add(&mut self, node: NodeId, cause: Cause, since: WallTime, now: Instant) -> bool {
        if self.failed.is_empty() {
            self.retry_at = now + RETRY;
        }
        if cause == Cause::Limit {
            self.probes = 1;
        }
        let since = self.failed.get(&node).map_or(since, |(_, before)| *before);
        let is_news = self.failed.insert(node, (cause, since)).is_none();
        self.told = true;
        match cause {
            Cause::Limit => !std::mem::replace(&mut self.limit_told, true),
            Cause::Directory => is_news,
        }
    }

    /// `node` is watched now. If it was not before, gives back since when its changes were missed.
    pub fn mended(&mut self, node: NodeId, now: Instant) -> Option<WallTime> {
        let (cause, since) = self.failed.remove(&node)?;
        if cause == Cause::Limit {
            self.probes = self.probes.saturating_mul(2);
            self.retry_at = now;
        }
        Some(since)
    }

    /// Watches were ended: those that failed for the limit may succeed now.
    pub fn watches_freed(&mut self, now: Instant) {
        if self.limit_told {
            self.retry_at = self.retry_at.min(now + RETRY_FREED);
        }
    }

    /// The directories to try again now, each with the time since when its changes are missed.
    pub fn retry(&mut self, now: Instant) -> Vec<(NodeId, WallTime)> {
        if self.failed.is_empty() || self.retry_at > now {
            return Vec::new();
        }
        self.retry_at = now + RETRY;
        let limited = self.failed.iter().filter(|(_, (cause, _))| *cause == Cause::Limit).take(self.probes);
        let others = self.failed.iter().filter(|(_, (cause, _))| *cause == Cause::Directory);
        limited.chain(others).map(|(node, (_, since))| (*node, *since)).collect()
    }

    /// Since when the changes of `node` are missed, if they are.
    pub fn since(&self, node: NodeId) -> Option<WallTime> {
        self.failed.get(&node).map(|(_, since)| *since)
    }

    /// Forgets the directories that are gone. True if none is left of those that were told: once.
    pub fn all_mended(&mut self, is_alive: impl Fn(NodeId) -> bool) -> bool {
        if !self.told {
            return false;
        }
        self.failed.retain(|node, _| is_alive(*node));
        if self.failed.is_empty() {
            (self.told, self.limit_told) = (false, false);
            return true;
        }
        false
    }

    /// When to try again.
    pub fn next(&self) -> Option<Instant> {
        (!self.failed.is_empty()).then_some(self.retry_at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::Tree;
    use super::*;

    #[test]
    fn tells_the_limit_once_and_tries_few_at_a_time() {
        let mut tree = Tree::new();
        let root = tree.root();
        let nodes: Vec<_> = (0..100).map(|number: u32| tree.insert(root, number.to_string().as_bytes())).collect();
        let start = Instant::now();
        let mut unwatched = Unwatched::new();
        let news: Vec<_> = nodes.iter().filter(|node| unwatched.add(**node, Cause::Limit, 5, start)).collect();
        assert_eq!(news.len(), 1, "one report for the limit");
        assert!(unwatched.retry(start).is_empty());
        let mut now = start + RETRY;
        let mut rounds = 0;
        while !unwatched.all_mended(|_| true) {
            let due = unwatched.retry(now);
            assert!(!due.is_empty() && due.len() <= nodes.len(), "{} in round {rounds}", due.len());
            assert!(rounds > 0 || due.len() == 1, "a single one to begin with");
            for (node, since) in due {
                assert_eq!((since, unwatched.mended(node, now)), (5, Some(5)));
            }
            rounds += 1;
        }
        assert!(rounds < 10, "more at a time after each success");
        now += RETRY;
        assert!(unwatched.add(nodes[0], Cause::Limit, 6, now), "told again after all were watched");
        assert!(unwatched.all_mended(|_| false), "a directory that is gone needs no watch");
    }

    #[test]
    fn a_directory_is_told_once_and_missed_since_the_first_failure() {
        let mut tree = Tree::new();
        let root = tree.root();
        let node = tree.insert(root, b"a");
        let start = Instant::now();
        let mut unwatched = Unwatched::new();
        assert!(unwatched.add(node, Cause::Directory, 5, start));
        assert!(!unwatched.add(node, Cause::Directory, 9, start + RETRY));
        assert_eq!(unwatched.mended(node, start), Some(5));
    }
}
