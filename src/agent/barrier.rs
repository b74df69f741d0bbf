//! Barriers: callers that wait until every change made before their call has reached every remote.
//!
//! The kernel queues an inotify event before the system call that caused it returns. So once a watch has read its
//! descriptor empty after the request came, every change made before the request is in the pending sets, and the
//! number of the last report so far divides what the caller waits for from what came later.

use super::handle::{Answer, CommandError};
use super::root::WatchId;
use crate::pending::Seq;
use std::collections::BTreeSet;
use std::time::Instant;

/// All callers that wait.
#[derive(Debug, Default)]
pub struct Barriers {
    next_token: u64,
    waiting: Vec<Barrier>,
}

#[derive(Debug)]
struct Barrier {
    token: u64,
    /// Watches that have not said that they were drained.
    undrained: BTreeSet<WatchId>,
    /// What was reported up to here is waited for; set when all watches are drained.
    upto: Option<Seq>,
    deadline: Option<Instant>,
    answer: Answer<()>,
}

impl Barrier {
    fn is_reached(&self, oldest: Option<Seq>) -> bool {
        self.upto.is_some_and(|upto| oldest.is_none_or(|oldest| oldest > upto))
    }
}

impl Barriers {
    /// Adds a caller. Each watch of `watches` has to be drained with the token returned.
    pub fn add(&mut self, watches: BTreeSet<WatchId>, deadline: Option<Instant>, answer: Answer<()>, seq: Seq) -> u64 {
        self.next_token += 1;
        let upto = watches.is_empty().then_some(seq);
        self.waiting.push(Barrier { token: self.next_token, undrained: watches, upto, deadline, answer });
        self.next_token
    }

    /// `watch` was drained for `token`; `seq` is the last report so far.
    pub fn drained(&mut self, watch: WatchId, token: u64, seq: Seq) {
        for barrier in self.waiting.iter_mut().filter(|barrier| barrier.token == token) {
            barrier.undrained.remove(&watch);
            if barrier.undrained.is_empty() {
                barrier.upto.get_or_insert(seq);
            }
        }
    }

    /// `watch` has ended: nothing more comes from it.
    pub fn watch_gone(&mut self, watch: WatchId, seq: Seq) {
        let tokens: Vec<u64> = self.waiting.iter().map(|barrier| barrier.token).collect();
        for token in tokens {
            self.drained(watch, token, seq);
        }
    }

    /// `new` watches what `old` did. Returns the tokens with which it has to be drained in its place.
    pub fn watch_replaced(&mut self, old: WatchId, new: WatchId) -> Vec<u64> {
        let waiting = self.waiting.iter_mut().filter_map(|barrier| {
            barrier.undrained.remove(&old).then(|| {
                barrier.undrained.insert(new);
                barrier.token
            })
        });
        waiting.collect()
    }

    /// Answers everybody who waits for a remote, since the instance is paused. `behind` names the remotes that are behind.
    pub fn paused(&mut self, oldest: Option<Seq>, behind: impl Fn() -> String) {
        let waits = |barrier: &mut Barrier| barrier.upto.is_some() && !barrier.is_reached(oldest);
        for barrier in self.waiting.extract_if(.., waits) {
            let _ = barrier.answer.send(Err(CommandError::Paused(behind())));
        }
    }

    /// The tokens with which `watch` has to be drained.
    pub fn waiting_for(&self, watch: WatchId) -> Vec<u64> {
        let waiting = self.waiting.iter().filter(|barrier| barrier.undrained.contains(&watch));
        waiting.map(|barrier| barrier.token).collect()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether [`Barriers::settle`] would tell anybody that all is in sync.
    pub fn is_settled(&self, oldest: Option<Seq>) -> bool {
        self.waiting.iter().any(|barrier| barrier.is_reached(oldest))
    }

    /// Answers everybody who has waited long enough. `oldest`: the oldest report not served by every remote yet;
    /// `behind` tells which remotes are behind.
    pub fn settle(&mut self, oldest: Option<Seq>, now: Instant, behind: impl Fn() -> String) {
        let (ended, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|barrier: &Barrier| {
            barrier.is_reached(oldest)
                || barrier.deadline.is_some_and(|deadline| deadline <= now)
                || barrier.answer.is_closed()
        });
        self.waiting = waiting;
        for barrier in ended {
            let answer = if barrier.is_reached(oldest) { Ok(()) } else { Err(CommandError::TimedOut(behind())) };
            // Who has gone needs no answer.
            let _ = barrier.answer.send(answer);
        }
    }

    /// Answers everybody: what they wait for may never come, for the reason `why`.
    pub fn give_up(&mut self, why: &str) {
        for barrier in self.waiting.drain(..) {
            // Who has gone needs no answer.
            let _ = barrier.answer.send(Err(CommandError::RootMissing(why.to_owned())));
        }
    }

    /// When the next caller has waited too long.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.iter().filter_map(|barrier| barrier.deadline).min()
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
}
