//! [`Backoff`]: when a remote that failed is tried again.

use super::snapshot::Fault;
use crate::pending::{LONGEST_PAUSE, backoff};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// One remote's failures since its last success. All times in pairs: one clock for people, one for pauses.
#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
    last: Option<Arc<Fault>>,
    failing_since: Option<SystemTime>,
    next_try: Option<(Instant, SystemTime)>,
    /// When the next run may start if something changes.
    next_try_for_change: Option<(Instant, SystemTime)>,
}

impl Backoff {
    /// Failed runs since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The last error.
    pub fn last(&self) -> Option<&Arc<Fault>> {
        self.last.as_ref()
    }

    /// Since when runs fail.
    pub fn failing_since(&self) -> Option<SystemTime> {
        self.failing_since
    }

    /// When the next run may start, if it may not yet.
    pub fn next_try(&self, now: Instant) -> Option<(Instant, SystemTime)> {
        self.next_try.filter(|(at, _)| *at > now)
    }

    /// A run failed as a whole. The pause is a second, doubled with each failure to `longest` at most, less up to a
    /// quarter of it by chance: so that remotes that went down together are not called together.
    pub fn failed(&mut self, fault: Arc<Fault>, longest: Duration, now: Instant, wall: SystemTime) {
        // Runs side by side that fail together are one failure.
        if self.next_try(now).is_none() {
            self.attempts += 1;
            let pause = backoff(self.attempts, longest).mul_f64(1.0 - fastrand::f64() / 4.0);
            let for_change = pause.min(LONGEST_PAUSE);
            self.next_try = Some((now + pause, wall + pause));
            self.next_try_for_change = Some((now + for_change, wall + for_change));
        }
        self.failing_since.get_or_insert(wall);
        self.last = Some(fault);
    }

    /// Something changed since the failure: however long what failed may wait, a change waits for minutes at most.
    pub fn changed(&mut self) {
        self.next_try = self.next_try.min(self.next_try_for_change);
    }

    /// A run succeeded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The next run may start at once.
    pub fn cut_short(&mut self) {
        self.next_try = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_and_success_ends_them() {
        let (mut now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let fault = Arc::new(Fault::new("Timeout", "x"));
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            backoff.failed(fault.clone(), LONGEST_PAUSE, now, wall);
            let (next, _) = backoff.next_try(now).unwrap();
            pauses.push((next - now).as_secs_f64());
            now = next;
        }
        for (pause, full) in
            pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0, 300.0, 300.0])
        {
            assert!(*pause <= full && *pause >= full * 0.75, "{pause} of {full}");
        }
        backoff.failed(fault.clone(), LONGEST_PAUSE, now, wall);
        backoff.failed(fault, LONGEST_PAUSE, now, wall);
        assert_eq!(backoff.attempts(), 13, "failures at once count once");
        backoff.succeeded();
        assert_eq!((backoff.attempts(), backoff.next_try(now)), (0, None));
    }

    #[test]
    fn a_change_does_not_wait_as_long_as_what_failed() {
        let (mut now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let (hour, fault) = (Duration::from_secs(3600), Arc::new(Fault::new("Timeout", "x")));
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            now = backoff.next_try(now).map_or(now, |(at, _)| at);
            backoff.failed(fault.clone(), hour, now, wall);
        }
        let pause = |backoff: &Backoff| backoff.next_try(now).unwrap().0 - now;
        assert!(pause(&backoff) <= hour && pause(&backoff) >= hour.mul_f64(0.75));
        backoff.changed();
        assert!(pause(&backoff) <= LONGEST_PAUSE);
        backoff.cut_short();
        backoff.changed();
        assert_eq!(backoff.next_try(now), None, "what may start at once is not put off");
    }
}
