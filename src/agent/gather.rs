//! [`Gathering`]: how long live changes of one remote wait for their siblings before a run takes them.
//!
//! After quiet, for the few milliseconds that the config names. Under load for as long as the last run took, and longer
//! the longer the load lasts: a burst is over before that counts, and of a load that stays, ten runs a second take what
//! fifty would take for five times the price. A tree that is being removed is waited for until it is gone, since one
//! name stands for all of it then. A crowd waits for nothing: it is a run's worth of work as it is.
//!
//! Nothing here knows what waits, only how much; who asks says so.

use crate::pending::CROWD;
use crate::watch::Hint;
use std::time::{Duration, Instant};

/// Under load changes gather for a quarter of the time that it has lasted, but no longer than this.
const LONGEST: Duration = Duration::from_millis(100);

/// A run that takes longer than this is no reason to wait for longer.
const SHORT_RUN: Duration = Duration::from_millis(40);

/// After so long without a change and without a run the load is over.
const QUIET: Duration = Duration::from_millis(30);

/// So many paths that were removed, and nothing else, are a tree that is being removed.
const REMOVAL: usize = 100;

/// It is over when nothing was removed for so long.
const REMOVED: Duration = Duration::from_millis(30);

/// It is waited for no longer than this.
const LONGEST_REMOVAL: Duration = Duration::from_millis(300);

/// When what waits for a live run has gathered.
#[derive(Debug, Default)]
pub struct Gathering {
    /// Since when live paths wait without a break.
    since: Option<Instant>,
    /// The last live run: when it ended, how long it took.
    last_run: Option<(Instant, Duration)>,
    /// When something last changed.
    last_change: Option<Instant>,
    /// Since when live runs follow one another without a rest.
    busy_since: Option<Instant>,
    /// What was removed since the last live run started.
    removals: Removals,
}

/// What was removed lately.
#[derive(Debug, Default, Clone, Copy)]
struct Removals {
    count: usize,
    last: Option<Instant>,
    /// Something else has changed as well.
    mixed: bool,
}

impl Gathering {
    /// Something new waits. `at_rest`: no live run is in flight.
    pub fn changed(&mut self, at_rest: bool, now: Instant) {
        self.since.get_or_insert(now);
        // What returns from a run is no load.
        let last = self.last_run.map(|(ended, _)| ended).max(self.last_change);
        let quiet = last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        if quiet && at_rest {
            self.busy_since = None;
        }
        self.last_change = Some(now);
    }

    /// What has changed, for those changes that the watch told of.
    pub fn told(&mut self, hint: Hint, now: Instant) {
        match hint {
            Hint::Removed => {
                self.removals.count += 1;
                self.removals.last = Some(now);
            }
            Hint::Attributes | Hint::Passed | Hint::BeingWritten => {}
            Hint::Entry | Hint::NewDirectory | Hint::Rescan | Hint::Missed | Hint::Arrived => {
                self.removals.mixed = true;
            }
        }
    }

    /// A live run takes what waits. `left`: not all of it, since the rest needs another run; that has gathered as long.
    pub fn taken(&mut self, left: bool) {
        self.removals = Removals::default();
        self.since = self.since.filter(|_| left);
    }

    /// A live run that started then has ended.
    pub fn landed(&mut self, started: Instant, now: Instant) {
        self.last_run = Some((now, now.duration_since(started)));
        self.busy_since.get_or_insert(started);
    }

    /// A run of any kind has ended, and may have given something back: whether anything waits for a live run.
    pub fn counted(&mut self, waits: bool, now: Instant) {
        self.since = waits.then(|| self.since.unwrap_or(now));
    }

    /// When what waits, so many paths, has gathered: `least` after the first of them, or later. `None`, if nothing waits.
    pub fn until(&self, least: Duration, waiting: usize) -> Option<Instant> {
        let since = self.since?;
        if let Some(until) = self.removed_at(waiting) {
            return Some(until.min(since + LONGEST_REMOVAL));
        }
        if waiting >= CROWD {
            return Some(since);
        }
        let busy = self.last_run.filter(|(ended, _)| since.saturating_duration_since(*ended) < QUIET);
        let gather = match busy {
            Some((_, took)) => {
                let lasted = self.busy_since.map_or(Duration::ZERO, |busy| since.saturating_duration_since(busy));
                took.min(SHORT_RUN).max(lasted / 4).min(LONGEST).max(least)
            }
            None => least,
        };
        Some(since + gather)
    }

    /// Whether so many paths that wait are a tree that is being removed.
    pub fn is_removal(&self, waiting: usize) -> bool {
        self.removed_at(waiting).is_some()
    }

    /// When a tree that is being removed counts as removed, where that is all that waits.
    fn removed_at(&self, waiting: usize) -> Option<Instant> {
        let Removals { count, last, mixed } = self.removals;
        // Some may be left of a run that ended meanwhile.
        let is_all = !mixed && count >= REMOVAL && waiting <= count + count / 4;
        last.filter(|_| is_all).map(|last| last + REMOVED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(5);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_comes_after_quiet_waits_for_its_siblings_and_a_crowd_for_nothing() {
        let (mut gathering, start) = (Gathering::default(), Instant::now());
        assert_eq!(gathering.until(LEAST, 0), None);
        gathering.changed(true, start);
        gathering.changed(true, start + millis(3));
        assert_eq!(gathering.until(LEAST, 2), Some(start + LEAST), "counted from the first");
        assert_eq!(gathering.until(LEAST, CROWD), Some(start));
        gathering.taken(false);
        assert_eq!(gathering.until(LEAST, 0), None);
    }

    #[test]
    fn right_after_a_run_changes_gather_for_as_long_as_that_took_and_no_longer_than_a_short_one_takes() {
        let start = Instant::now();
        let after = |took: Duration, pause: Duration| {
            let mut gathering = Gathering::default();
            gathering.changed(true, start);
            gathering.taken(false);
            let ended = start + took;
            gathering.landed(start, ended);
            gathering.counted(false, ended);
            gathering.changed(true, ended + pause);
            gathering.until(LEAST, 1).unwrap() - (ended + pause)
        };
        assert_eq!(after(millis(20), millis(1)), millis(20));
        assert_eq!(after(millis(1), millis(1)), LEAST);
        assert_eq!(after(millis(90), millis(1)), SHORT_RUN, "which is more than a quarter of its time");
        assert_eq!(after(Duration::from_secs(9), millis(1)), LONGEST);
        assert_eq!(after(millis(20), QUIET), LEAST, "all is quiet again");
    }

    #[test]
    fn a_removal_is_waited_for_until_it_pauses_but_not_for_ever() {
        let start = Instant::now();
        let removal = |files: usize, each: Duration| {
            let mut gathering = Gathering::default();
            for nth in 0..files {
                let now = start + each * nth as u32;
                gathering.told(Hint::Removed, now);
                gathering.changed(true, now);
            }
            gathering
        };
        let each = Duration::from_micros(100);
        let mut all = removal(1_000, each);
        let last = start + each * 999;
        assert_eq!(all.until(LEAST, 1_000), Some(last + REMOVED));
        assert_eq!(removal(REMOVAL - 1, each).until(LEAST, REMOVAL - 1), Some(start + LEAST), "these are few");
        assert_eq!(removal(1_000, millis(1)).until(LEAST, 1_000), Some(start + LONGEST_REMOVAL));
        assert_eq!(all.until(LEAST, 2_000), Some(start), "there is more that waits");
        all.told(Hint::Entry, last);
        all.changed(true, last);
        assert_eq!(all.until(LEAST, 1_001), Some(start), "something else waits, too");
    }
}
