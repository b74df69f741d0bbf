//! [`Rescans`]: when the whole tree is walked again because events were lost.
//!
//! One that is owed is always done, but a queue that overflows over and over must not keep the machine busy with
//! walks: the distance between them grows from a second to a minute, and shrinks again after a quiet time.

use std::time::{Duration, Instant};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Nanoseconds since the epoch, by the wall clock, as ctimes are.
pub type WallTime = i64;

/// What is owed, and when the last one was.
#[derive(Debug)]
pub struct Rescans {
    owed: Option<Owed>,
    running: bool,
    last_end: Option<Instant>,
    distance: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Owed {
    due: Instant,
    since: WallTime,
}

impl Rescans {
    /// None is owed.
    pub fn new() -> Self {
        Self { owed: None, running: false, last_end: None, distance: SHORTEST }
    }

    /// Events were lost after `since`.
    pub fn overflowed(&mut self, now: Instant, since: WallTime) {
        let due = match self.last_end {
            _ if self.owed.is_some() => now,
            None => now,
            Some(end) => {
                let quiet = now.saturating_duration_since(end) > self.distance * 10;
                self.distance = if quiet { SHORTEST } else { (self.distance * 2).min(LONGEST) };
                end + self.distance
            }
        };
        self.owe(due, since);
    }

    /// Somebody asks for one now.
    pub fn asked(&mut self, now: Instant, since: WallTime) {
        self.owe(now, since);
        self.owed = self.owed.map(|owed| Owed { due: now, ..owed });
    }

    /// One more loss while one is owed already changes only how far back it looks.
    fn owe(&mut self, due: Instant, since: WallTime) {
        self.owed = Some(match self.owed {
            None => Owed { due, since },
            Some(owed) => Owed { due: owed.due, since: owed.since.min(since) },
        });
    }

    /// Starts one if it is due; gives back from when on changes may have been lost.
    pub fn start(&mut self, now: Instant) -> Option<WallTime> {
        let owed = self.owed.filter(|owed| !self.running && owed.due <= now)?;
        self.owed = None;
        self.running = true;
        Some(owed.since)
    }

    /// The one that was started is complete.
    pub fn ended(&mut self, now: Instant) {
        self.running = false;
        self.last_end = Some(now);
    }

    /// Nothing is owed any more: the tree is gone.
    pub fn forget(&mut self) {
        self.owed = None;
        self.running = false;
    }

    /// Whether one is owed or under way.
    pub fn is_owed(&self) -> bool {
        self.running || self.owed.is_some()
    }

    /// When the next one is due.
    pub fn next(&self) -> Option<Instant> {
        self.owed.filter(|_| !self.running).map(|owed| owed.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_distance_and_forgets_nothing() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut rescans = Rescans::new();
        rescans.overflowed(at(0), 5);
        assert_eq!(rescans.start(at(0)), Some(5), "the first is done at once");
        rescans.overflowed(at(0), 8);
        assert_eq!(rescans.start(at(0)), None, "one at a time");
        rescans.ended(at(1));
        rescans.overflowed(at(1), 7);
        assert_eq!(rescans.start(at(1)), Some(7), "owed since the one before ran, from the earliest loss on");
        rescans.ended(at(2));
        let mut now = at(2);
        for _ in 0..20 {
            rescans.overflowed(now, 9);
            now = rescans.next().unwrap();
            assert_eq!(rescans.start(now), Some(9));
            rescans.ended(now);
        }
        rescans.overflowed(now, 9);
        assert_eq!(rescans.next(), Some(now + LONGEST));
        rescans.asked(now, 4);
        assert_eq!(rescans.start(now), Some(4), "who asks does not wait");
        rescans.ended(now);
        rescans.overflowed(now + Duration::from_secs(3600), 1);
        assert!(rescans.next().unwrap() <= now + Duration::from_secs(3600));
    }
}
