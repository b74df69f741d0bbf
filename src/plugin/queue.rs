//! The paths that one target is still to be told of.
//!
//! A path that waits waits once. A path that is being told of may wait again: it is not taken before that call has
//! ended. Above its limit the queue takes no new path. Pure: no I/O, no clock.

use super::event::Cause;
use crate::path::RelPath;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// A path of one watched directory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The watched directory.
    pub root: Arc<Path>,
    /// Below it.
    pub path: RelPath,
}

impl Place {
    /// From `/` on.
    pub fn absolute(&self) -> PathBuf {
        self.path.under(&self.root)
    }
}

/// A path that somebody is to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub place: Place,
    /// What is known of why.
    pub cause: Cause,
    /// The remotes that have it now and had not when it was told of before; none where there is no rsync.
    pub remotes: Vec<Arc<str>>,
}

/// A path of the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub told: Told,
    /// Calls that failed for its own sake.
    pub attempts: u32,
}

impl Item {
    /// All remotes of `items`, each once, one on a line.
    pub fn remotes(items: &[Item]) -> OsString {
        let names: BTreeSet<&str> = items.iter().flat_map(|item| &item.told.remotes).map(AsRef::as_ref).collect();
        names.into_iter().collect::<Vec<_>>().join("\n").into()
    }
}

#[derive(Debug)]
struct Waiting {
    item: Item,
    order: u64,
    /// Not before this moment.
    parked: Option<Instant>,
}

/// The paths that one target is still to be told of.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    waiting: HashMap<Place, Waiting>,
    ready: BTreeMap<u64, Place>,
    parked: BTreeSet<(Instant, u64, Place)>,
    running: HashMap<Place, ()>,
    next: u64,
}

impl Queue {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: HashMap::new(),
            ready: BTreeMap::new(),
            parked: BTreeSet::new(),
            running: HashMap::new(),
            next: 0,
        }
    }

    /// A path is to be told of. Returns whether there was room for it.
    pub fn push(&mut self, told: Told) -> bool {
        let has_room = self.waiting.contains_key(&told.place) || self.waiting.len() < self.limit;
        if has_room {
            self.put(Item { told, attempts: 0 }, None);
        }
        has_room
    }

    /// A call is over: its path waits no more, unless it was told again meanwhile.
    pub fn done(&mut self, place: &Place) {
        self.running.remove(place);
    }

    /// A call failed: its path waits again, until `parked` at least. It never has to be refused for that.
    pub fn again(&mut self, item: Item, parked: Option<Instant>) {
        self.running.remove(&item.told.place);
        self.put(item, parked);
    }

    fn put(&mut self, item: Item, parked: Option<Instant>) {
        let place = item.told.place.clone();
        let (item, order, parked) = match self.waiting.remove(&place) {
            None => {
                self.next += 1;
                (item, self.next, parked)
            }
            Some(known) => {
                self.unlist(&place, &known);
                let mut merged = known.item;
                merged.told.cause = merged.told.cause.merge(item.told.cause);
                for remote in item.told.remotes {
                    if !merged.told.remotes.contains(&remote) {
                        merged.told.remotes.push(remote);
                    }
                }
                // What changed since may be what mends it.
                merged.attempts = merged.attempts.min(item.attempts);
                (merged, known.order, None)
            }
        };
        match parked {
            Some(until) => drop(self.parked.insert((until, order, place.clone()))),
            None => drop(self.ready.insert(order, place.clone())),
        }
        self.waiting.insert(place, Waiting { item, order, parked });
    }

    fn unlist(&mut self, place: &Place, known: &Waiting) {
        match known.parked {
            Some(until) => drop(self.parked.remove(&(until, known.order, place.clone()))),
            None => drop(self.ready.remove(&known.order)),
        }
    }

    /// Takes the oldest `most` paths that may be told of now.
    pub fn take(&mut self, most: usize, now: Instant) -> Vec<Item> {
        while self.parked.first().is_some_and(|(until, ..)| *until <= now) {
            let Some((_, order, place)) = self.parked.pop_first() else { break };
            if let Some(waiting) = self.waiting.get_mut(&place) {
                waiting.parked = None;
            }
            self.ready.insert(order, place);
        }
        let free = self.ready.iter().filter(|(_, place)| !self.running.contains_key(place));
        let chosen: Vec<u64> = free.take(most).map(|(order, _)| *order).collect();
        let mut taken = Vec::with_capacity(chosen.len());
        for order in chosen {
            let Some(place) = self.ready.remove(&order) else { continue };
            let Some(waiting) = self.waiting.remove(&place) else { continue };
            self.running.insert(place, ());
            taken.push(waiting.item);
        }
        taken
    }

    /// When a parked path is ready.
    pub fn next_unpark(&self) -> Option<Instant> {
        self.parked.first().map(|(until, ..)| *until)
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// All that waits, the oldest first.
    pub fn into_told(self) -> Vec<Told> {
        let mut waiting: Vec<Waiting> = self.waiting.into_values().collect();
        waiting.sort_by_key(|waiting| waiting.order);
        waiting.into_iter().map(|waiting| waiting.item.told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn told(path: &str, remote: &str) -> Told {
        let place = Place { root: Path::new("/data").into(), path: RelPath::new(path.as_bytes()).unwrap() };
        Told { place, cause: Cause::default(), remotes: vec![remote.into()] }
    }

    fn names(items: &[Item]) -> Vec<String> {
        items.iter().map(|item| item.told.place.path.display().to_string()).collect()
    }

    #[test]
    fn a_path_waits_once_and_again_while_it_is_told_of() {
        let (mut queue, now) = (Queue::new(10), Instant::now());
        for (path, remote) in [("a", "x"), ("b", "x"), ("a", "y"), ("a", "x")] {
            assert!(queue.push(told(path, remote)));
        }
        let taken = queue.take(1, now);
        assert_eq!(names(&taken), ["a"]);
        assert_eq!(Item::remotes(&taken), "x\ny");
        queue.push(told("a", "z"));
        assert_eq!(names(&queue.take(5, now)), ["b"], "`a` is being told of");
        assert_eq!((queue.waiting(), queue.running()), (1, 2));
        queue.done(&taken[0].told.place);
        let again = queue.take(5, now);
        assert_eq!((names(&again), Item::remotes(&again)), (vec!["a".to_owned()], "z".into()));
    }

    #[test]
    fn what_failed_waits_until_its_time_or_its_next_change() {
        let (mut queue, now) = (Queue::new(10), Instant::now());
        queue.push(told("a", "x"));
        let mut failed = queue.take(1, now).remove(0);
        failed.attempts = 1;
        let later = now + Duration::from_secs(1);
        queue.again(failed.clone(), Some(later));
        assert!(queue.take(1, now).is_empty());
        assert_eq!(queue.next_unpark(), Some(later));
        let mut second = queue.take(1, later).remove(0);
        assert_eq!(second.attempts, 1);
        second.attempts = 2;
        queue.again(second, Some(later + Duration::from_secs(1)));
        queue.push(told("a", "y"));
        let mended = queue.take(1, later);
        assert_eq!((mended[0].attempts, Item::remotes(&mended)), (0, "x\ny".into()));
    }

    #[test]
    fn a_full_queue_refuses_but_keeps_what_it_has() {
        let (mut queue, now) = (Queue::new(2), Instant::now());
        assert!(queue.push(told("a", "x")) && queue.push(told("b", "x")) && !queue.push(told("c", "x")));
        assert!(queue.push(told("a", "y")), "it waits already");
        let taken = queue.take(1, now).remove(0);
        assert!(queue.push(told("d", "x")));
        queue.again(taken, None);
        assert_eq!(queue.waiting(), 3, "what was taken has its place");
    }
}
