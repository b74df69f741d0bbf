//! [`Clock`]: when full syncs are due by themselves, as `<crontab>` says.
//!
//! A full sync that is due becomes a job like one that somebody asked for, but for two things: it leaves out what
//! `<crontabfilter>` names, and it does not empty the remotes of an empty root. It is never begun beside another of
//! the same remote, nor while the agent is paused: then it is left out, and the next one comes when it is due.
//!
//! Many instances of one machine, and many machines with one config, are not to begin in the same moment: each begins
//! up to [`LONGEST_DELAY`] later than the config says, always by the same time, which follows from its name and the
//! machine's id.

use super::engine::Engine;
use crate::config::When;
use crate::time;
use std::time::{Duration, Instant, SystemTime};

/// A full sync begins so much later than the config says, at most; and at most a tenth of the time between two.
const LONGEST_DELAY: Duration = Duration::from_secs(5 * 60);

/// The wall clock may be set: what depends on it is looked at so often, at least.
const LOOK: Duration = Duration::from_secs(60);

/// Minimum difference between two times of the next full sync that are shown as two. The time that an interval ends at is
/// computed from two clocks, which are never read at the very same time.
const SHOWN_APART: Duration = Duration::from_secs(1);

/// When the next full sync is due.
#[derive(Debug)]
pub struct Clock {
    when: When,
    /// Which part of the longest delay is this instance's, from 0 to 1.
    share: f64,
    next: Next,
    /// The wall clock at the last look.
    looked: SystemTime,
    /// It was told that one was left out, and none has begun since.
    told: bool,
    /// The time of the next one as shown last.
    shown: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    /// Whatever the wall clock is set to meanwhile.
    In(Instant),
    At(SystemTime),
    Never,
}

impl Clock {
    /// A clock that is started now. `planned`: when the process before would have begun the next full sync. A restart does
    /// not postpone it, and one that fell into the time without an agent is due at once, as with systemd's
    /// `Persistent=true`.
    pub fn new(when: When, share: f64, planned: Option<SystemTime>, now: Instant, wall: SystemTime) -> Self {
        let mut clock = Self { when, share, next: Next::Never, looked: wall, told: false, shown: None };
        clock.next = match &clock.when {
            When::Every(interval) => {
                let wait = *interval + clock.delay(*interval);
                let planned = planned.map(|planned| planned.duration_since(wall).unwrap_or_default());
                Next::In(now + planned.map_or(wait, |planned| planned.min(wait)))
            }
            When::At(_) if planned.is_some_and(|planned| planned <= wall) => Next::At(wall),
            When::At(_) => clock.next_named(wall),
        };
        clock
    }

    /// When the next one is due, by the wall clock. Differences that the clocks' resolution makes are left out.
    pub fn next(&mut self, now: Instant, wall: SystemTime) -> Option<SystemTime> {
        let next = match self.next {
            Next::In(at) => Some(wall + at.saturating_duration_since(now)),
            Next::At(at) => Some(at),
            Next::Never => None,
        };
        let apart = |a: SystemTime, b: SystemTime| a.duration_since(b).unwrap_or_else(|error| error.duration());
        match (next, self.shown) {
            (Some(next), Some(shown)) if apart(next, shown) < SHOWN_APART => {}
            _ => self.shown = next,
        }
        self.shown
    }

    /// When to look again.
    pub fn wake(&self, now: Instant, wall: SystemTime) -> Option<Instant> {
        match self.next {
            Next::In(at) => Some(at),
            Next::At(at) => Some(now + at.duration_since(wall).unwrap_or_default().min(LOOK)),
            Next::Never => None,
        }
    }

    /// Whether one is due. If so the clock goes on to the next; those that nobody looked for are left out.
    pub fn is_due(&mut self, now: Instant, wall: SystemTime) -> bool {
        // The clock was set back: what it names comes once more. A second or two back is none of that.
        if wall + LOOK < self.looked && self.next != Next::Never {
            self.next = match self.next {
                Next::At(_) => self.next_named(wall),
                other => other,
            };
        }
        self.looked = wall;
        let is_due = match self.next {
            Next::In(at) => at <= now,
            Next::At(at) => at <= wall,
            Next::Never => false,
        };
        if is_due {
            self.next = match (&self.when, self.next) {
                (When::Every(interval), Next::In(at)) => {
                    let late = now.duration_since(at).as_nanos() % interval.as_nanos().max(1);
                    Next::In(now + *interval - Duration::from_nanos(u64::try_from(late).unwrap_or(0)))
                }
                _ => self.next_named(wall),
            };
        }
        is_due
    }

    fn next_named(&self, wall: SystemTime) -> Next {
        let When::At(calendar) = &self.when else { return Next::Never };
        let Some(at) = calendar.next(wall) else { return Next::Never };
        let following = calendar.next(at).and_then(|following| following.duration_since(at).ok());
        Next::At(at + self.delay(following.unwrap_or(Duration::MAX)))
    }

    fn delay(&self, interval: Duration) -> Duration {
        LONGEST_DELAY.min(interval / 10).mul_f64(self.share)
    }
}

/// A number from 0 to 1 that the instance called `name` has on the machine with this id, now and after every start.
fn share(name: &str, machine: &[u8]) -> f64 {
    // FNV-1a, its bits mixed once more at the end: names that differ in one letter have to lie far apart.
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.bytes().chain(machine.iter().copied()).fold(0xcbf2_9ce4_8422_2325, step);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash >> 40) as f64 / (1_u64 << 24) as f64
}

impl Engine {
    /// When the next full sync is due by the config's clock.
    pub(super) fn next_full_sync_at(&mut self, now: Instant) -> Option<SystemTime> {
        self.clock.as_mut().and_then(|clock| clock.next(now, time::wall()))
    }

    /// Starts the clock as the config has it, if it has one. `planned`: see [`Clock::new`].
    pub(super) fn start_clock(&mut self, planned: Option<SystemTime>) {
        // machine-id(5); without one the name has to do.
        let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
        let share = share(&self.instance, machine.trim_ascii());
        // Alone with a plugin there is nothing to compare.
        let crontab = self.config.crontab.as_ref().filter(|_| self.config.alone.is_none());
        let when = crontab.map(|crontab| crontab.when.clone());
        self.clock = when.map(|when| Clock::new(when, share, planned, time::now(), time::wall()));
    }

    /// Begins the full sync that is due, if one is.
    pub(super) fn full_sync_if_due(&mut self, now: Instant) {
        let wall = time::wall();
        let Some(clock) = &mut self.clock else { return };
        if !clock.is_due(now, wall) {
            return;
        }
        self.dirty = true;
        if self.paused.is_some() {
            if !std::mem::replace(&mut clock.told, true) {
                tracing::info!("a full sync is due and left out: the agent is paused");
            }
            return;
        }
        let seq = self.next_seq();
        let scheduled = self.remotes.iter_mut().filter_map(|remote| {
            let is_new = remote.schedule(seq, now, wall);
            is_new.then(|| remote.name.clone())
        });
        let names: Vec<String> = scheduled.collect();
        let told = self.clock.as_mut().map(|clock| std::mem::replace(&mut clock.told, names.is_empty()));
        if !names.is_empty() {
            let job = self.jobs.create(names, wall);
            tracing::info!("full sync {}: due by the clock", job.0);
        } else if told == Some(false) {
            tracing::info!("a full sync is due and left out: the last one is not at its end yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const MINUTE: Duration = Duration::from_secs(60);

    fn start() -> (Instant, SystemTime) {
        (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000))
    }

    #[test]
    fn an_interval_is_kept_whatever_the_wall_clock_does_and_however_late_it_is_looked_at() {
        let (now, wall) = start();
        let mut clock = Clock::new(When::Every(10 * HOUR), 0.5, None, now, wall);
        let first = 10 * HOUR + 5 * MINUTE / 2;
        assert_eq!(clock.next(now, wall), Some(wall + first), "half of five minutes later");
        assert!(!clock.is_due(now + first - MINUTE, wall + 900 * HOUR));
        assert!(clock.is_due(now + first + MINUTE, wall));
        assert!(!clock.is_due(now + first + MINUTE, wall), "once");
        assert_eq!(clock.wake(now, wall), Some(now + first + 10 * HOUR), "not a minute later than without the delay");
        assert!(clock.is_due(now + first + 35 * HOUR, wall));
        assert_eq!(clock.wake(now, wall), Some(now + first + 40 * HOUR), "three that nobody looked for are one");
    }

    #[test]
    fn named_moments_follow_the_wall_clock() {
        let (now, wall) = start();
        let daily = || When::At("02:30 UTC".parse().unwrap());
        let mut clock = Clock::new(daily(), 0.0, None, now, wall);
        let first = clock.next(now, wall).unwrap();
        assert!(first > wall && first <= wall + 24 * HOUR);
        assert!(!clock.is_due(now, first - MINUTE) && clock.is_due(now, first + MINUTE));
        assert_eq!(clock.next(now, wall), Some(first + 24 * HOUR));
        assert!(!clock.is_due(now, first), "a minute back is no day back");
        assert!(!clock.is_due(now, first - HOUR), "set back by an hour,");
        assert_eq!(clock.next(now, wall), Some(first), "it comes at the hour that is shown then");
        assert_eq!(clock.wake(now, first - HOUR), Some(now + MINUTE), "it may be set at any time");
        assert_eq!(clock.wake(now, first + HOUR), Some(now));
        let late = Clock::new(daily(), 0.999, None, now, wall).next(now, wall).unwrap();
        assert!(late > first + 4 * MINUTE && late < first + 5 * MINUTE);
        let mut often = Clock::new(When::At("*:*:0/1 UTC".parse().unwrap()), 0.999, None, now, wall);
        assert!(
            often.next(now, wall).unwrap() < wall + Duration::from_millis(1_100),
            "a tenth of the time between two"
        );
    }

    #[test]
    fn the_time_of_the_next_full_sync_does_not_jitter() {
        let (now, wall) = start();
        let mut clock = Clock::new(When::Every(HOUR), 0.0, None, now, wall);
        let shown = clock.next(now, wall);
        for (late, wall_late) in [(0, 3), (1_000_000, 1_000_900), (2_000_007, 2_000_000)] {
            let micros = Duration::from_micros;
            assert_eq!(clock.next(now + micros(late), wall + micros(wall_late)), shown);
        }
        assert_eq!(clock.next(now, wall + MINUTE), Some(wall + MINUTE + HOUR), "the wall clock was set");
        assert_eq!(clock.next(now, wall), shown);
    }

    #[test]
    fn what_is_over_is_never_due() {
        let (now, wall) = start();
        let mut clock = Clock::new(When::At("2012-01-01 UTC".parse().unwrap()), 0.5, None, now, wall);
        assert_eq!((clock.next(now, wall), clock.wake(now, wall)), (None, None));
        assert!(!clock.is_due(now, wall));
    }

    #[test]
    fn instances_and_machines_lie_apart_and_each_stays_where_it_is() {
        assert_eq!(share("www", b"one"), share("www", b"one"));
        let shares = |names: &mut dyn Iterator<Item = (String, &'static [u8])>| {
            let mut shares: Vec<f64> = names.map(|(name, machine)| share(&name, machine)).collect();
            shares.sort_by(f64::total_cmp);
            shares
        };
        for found in [
            shares(&mut (0..50).map(|n| (format!("www{n}"), &b""[..]))),
            shares(&mut [&b"a"[..], b"b", b"c", b"d", b"e", b"f", b"g", b"h"].into_iter().map(|id| ("www".into(), id))),
        ] {
            assert!(found.iter().all(|share| (0.0..1.0).contains(share)));
            assert!(found[0] < 0.3 && found[found.len() - 1] > 0.7, "{found:?}");
            let widest = found.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
            assert!(widest < 0.5, "they lie in heaps: {found:?}");
        }
    }
}
