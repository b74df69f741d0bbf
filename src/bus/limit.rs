//! [`Limit`]: how many calls of one caller, and of all, are answered at the same time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts calls that are being answered.
#[derive(Debug)]
pub(super) struct Limit<K> {
    each: usize,
    all: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

impl<K: Clone + Eq + Hash> Limit<K> {
    /// At most `each` of one caller and `all` of all callers together.
    pub fn new(each: usize, all: usize) -> Self {
        Self { each, all, taken: Arc::default() }
    }

    /// A place for a call of `caller`, unless all are taken.
    pub fn take(&self, caller: K) -> Option<Place<K>> {
        let mut taken = lock(&self.taken);
        if taken.values().sum::<usize>() >= self.all {
            return None;
        }
        let count = taken.entry(caller.clone()).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { taken: Arc::clone(&self.taken), caller })
    }
}

fn lock<K>(taken: &Mutex<HashMap<K, usize>>) -> MutexGuard<'_, HashMap<K, usize>> {
    // The map is whole after any panic: every change to it is one call.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of one call. It is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place<K: Eq + Hash> {
    taken: Arc<Mutex<HashMap<K, usize>>>,
    caller: K,
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_with_many_calls_leaves_room_for_others() {
        let limit = Limit::new(3, 5);
        let mut places: Vec<_> = (0..3).map(|_| limit.take(1000).unwrap()).collect();
        assert!(limit.take(1000).is_none());
        places.extend((0..2).map(|_| limit.take(1001).unwrap()));
        assert!(limit.take(1002).is_none(), "all places are taken");
        places.remove(0);
        assert!(limit.take(1002).is_some());
        places.clear();
        assert!(lock(&limit.taken).is_empty(), "nothing is kept of callers that have gone");
    }
}
