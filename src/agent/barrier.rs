//! Barriers: callers that wait until every change made before their call has reached every remote.
//!
//! The kernel queues an inotify event before the system call that caused it returns. So once a watch has read its
//! descriptor empty after the request came, every change made before the request is in the pending sets, and the
//! number of the last report so far divides what the caller waits for from what came later.

use super::handle::{Answer, CommandError};
use super::root::WatchId;
use crate::pending::Seq;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// All callers that wait. Their number is limited where they come from (`bus/authority.rs`).
#[derive(Debug, Default)]
pub struct Barriers {
    next_token: u64,
    /// Callers for whom a watch has not been drained yet.
    draining: Vec<Draining>,
    /// Callers that wait for the same report share an entry.
    waiting: BTreeMap<Seq, Vec<Caller>>,
}

#[derive(Debug)]
struct Draining {
    token: u64,
    /// Watches that have not said that they were drained.
    undrained: BTreeSet<WatchId>,
    caller: Caller,
}

#[derive(Debug)]
struct Caller {
    deadline: Option<Instant>,
    answer: Answer<()>,
}

impl Caller {
    /// Whether it is answered now, whatever the remotes have.
    fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now) || self.answer.is_closed()
    }

    fn answer(self, answer: Result<(), CommandError>) {
        // A caller that has gone needs no answer.
        let _ = self.answer.send(answer);
    }
}

impl Barriers {
    /// Adds a caller. Each watch of `watches` has to be drained with the token returned.
    pub fn add(&mut self, watches: BTreeSet<WatchId>, deadline: Option<Instant>, answer: Answer<()>, seq: Seq) -> u64 {
        self.next_token += 1;
        self.draining.push(Draining {
            token: self.next_token,
            undrained: watches,
            caller: Caller { deadline, answer },
        });
        self.drained_all(seq);
        self.next_token
    }

    /// `watch` was drained for `token`; `seq` is the last report so far.
    pub fn drained(&mut self, watch: WatchId, token: u64, seq: Seq) {
        for barrier in self.draining.iter_mut().filter(|barrier| barrier.token == token) {
            barrier.undrained.remove(&watch);
        }
        self.drained_all(seq);
    }

    /// `watch` has ended: nothing more comes from it.
    pub fn watch_gone(&mut self, watch: WatchId, seq: Seq) {
        for barrier in &mut self.draining {
            barrier.undrained.remove(&watch);
        }
        self.drained_all(seq);
    }

    /// Callers whose watches are all drained wait for what was reported up to `seq`.
    fn drained_all(&mut self, seq: Seq) {
        for barrier in self.draining.extract_if(.., |barrier| barrier.undrained.is_empty()) {
            self.waiting.entry(seq).or_default().push(barrier.caller);
        }
    }

    /// `new` watches what `old` did. Returns the tokens with which it has to be drained in its place.
    pub fn watch_replaced(&mut self, old: WatchId, new: WatchId) -> Vec<u64> {
        let waiting = self.draining.iter_mut().filter_map(|barrier| {
            barrier.undrained.remove(&old).then(|| {
                barrier.undrained.insert(new);
                barrier.token
            })
        });
        waiting.collect()
    }

    /// Answers everybody who waits for a remote, since the instance is paused. `behind` names the remotes that are behind.
    pub fn paused(&mut self, oldest: Option<Seq>, behind: impl Fn() -> String) {
        let Some(oldest) = oldest else { return };
        let behind_by = self.waiting.split_off(&oldest);
        if behind_by.is_empty() {
            return;
        }
        let behind = behind();
        for caller in behind_by.into_values().flatten() {
            caller.answer(Err(CommandError::Paused(behind.clone())));
        }
    }

    /// The tokens with which `watch` has to be drained.
    pub fn waiting_for(&self, watch: WatchId) -> Vec<u64> {
        let waiting = self.draining.iter().filter(|barrier| barrier.undrained.contains(&watch));
        waiting.map(|barrier| barrier.token).collect()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.draining.is_empty() && self.waiting.is_empty()
    }

    /// Whether [`Barriers::settle`] would tell anybody that all is in sync.
    pub fn is_settled(&self, oldest: Option<Seq>) -> bool {
        self.waiting.first_key_value().is_some_and(|(upto, _)| oldest.is_none_or(|oldest| oldest > *upto))
    }

    /// Answers everybody who has waited long enough. `oldest`: the oldest report not served by every remote yet;
    /// `behind` tells which remotes are behind.
    pub fn settle(&mut self, oldest: Option<Seq>, now: Instant, behind: impl Fn() -> String) {
        let unreached = oldest.map_or_else(BTreeMap::new, |oldest| self.waiting.split_off(&oldest));
        let reached = std::mem::replace(&mut self.waiting, unreached);
        reached.into_values().flatten().for_each(|caller| caller.answer(Ok(())));
        let mut over = Vec::new();
        for callers in self.waiting.values_mut() {
            over.extend(callers.extract_if(.., |caller| caller.is_over(now)));
        }
        self.waiting.retain(|_, callers| !callers.is_empty());
        let draining = self.draining.extract_if(.., |barrier| barrier.caller.is_over(now));
        over.extend(draining.map(|barrier| barrier.caller));
        if over.is_empty() {
            return;
        }
        let behind = behind();
        over.into_iter().for_each(|caller| caller.answer(Err(CommandError::TimedOut(behind.clone()))));
    }

    /// Answers everybody: what they wait for may never come, for the reason `why`.
    pub fn give_up(&mut self, why: &str) {
        let waiting = std::mem::take(&mut self.waiting).into_values().flatten();
        for caller in self.draining.drain(..).map(|barrier| barrier.caller).chain(waiting) {
            caller.answer(Err(CommandError::RootMissing(why.to_owned())));
        }
    }

    /// When the next caller has waited too long.
    pub fn next_deadline(&self) -> Option<Instant> {
        let draining = self.draining.iter().map(|barrier| &barrier.caller);
        draining.chain(self.waiting.values().flatten()).filter_map(|caller| caller.deadline).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_is_replaced_hands_its_callers_over() {
        let (old, new, other) = (WatchId(1), WatchId(2), WatchId(3));
        let (answer, mut answered) = tokio::sync::oneshot::channel();
        let mut barriers = Barriers::default();
        let token = barriers.add(BTreeSet::from([old, other]), None, answer, Seq(1));
        assert_eq!(barriers.watch_replaced(old, new), [token]);
        barriers.drained(other, token, Seq(2));
        barriers.drained(old, token, Seq(2));
        barriers.settle(None, Instant::now(), String::new);
        assert!(answered.try_recv().is_err(), "the new watch may have something to tell");
        barriers.drained(new, token, Seq(3));
        barriers.settle(Some(Seq(3)), Instant::now(), String::new);
        assert!(answered.try_recv().is_err(), "what it told is not served yet");
        barriers.settle(None, Instant::now(), String::new);
        assert_eq!(answered.try_recv(), Ok(Ok(())));
    }
    #[test]
    fn equal_barriers_share_an_entry_and_callers_that_have_gone_leave_nothing() {
        let mut barriers = Barriers::default();
        let mut callers = Vec::new();
        for seq in [4, 4, 4, 7] {
            let (answer, answered) = tokio::sync::oneshot::channel();
            barriers.add(BTreeSet::new(), None, answer, Seq(seq));
            callers.push(answered);
        }
        assert_eq!(barriers.waiting.len(), 2);
        let now = Instant::now();
        drop(callers.remove(0));
        barriers.settle(Some(Seq(4)), now, String::new);
        assert_eq!(barriers.waiting[&Seq(4)].len(), 2);
        barriers.settle(Some(Seq(5)), now, String::new);
        assert_eq!(callers[0].try_recv(), Ok(Ok(())));
        drop(callers);
        barriers.settle(Some(Seq(5)), now, String::new);
        assert!(barriers.is_empty());
    }
}
