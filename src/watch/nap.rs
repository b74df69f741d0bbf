//! [`Naps`]: how long the watch thread lets events gather before it reads them.
//!
//! To be woken for each event by itself costs the thread, those who hear its reports, and those who cause the events,
//! more than the work does. A single change is read at once.

use std::time::{Duration, Instant};

/// Events that wake the thread so soon after it fell asleep, so many times in a row, come in a burst.
const QUICK: Duration = Duration::from_millis(1);
const BURST: u32 = 16;
/// In a burst they gather for so many milliseconds.
const NAP: u16 = 2;
/// Events that come without a pause of that length, for so long, are a load that stays. By then runs of rsync are far
/// apart, and nobody waits for the watch.
const PAUSE: Duration = Duration::from_millis(30);
const STEADY: Duration = Duration::from_millis(500);
/// Then they gather for so many milliseconds, as long as no more than a few come at a time: meanwhile, the shortest
/// queue that the kernel makes by itself overflows from 800,000 events a second.
const LONG_NAP: u16 = 20;
const FEW: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub struct Naps {
    quick_wakes: u32,
    busy_since: Option<Instant>,
    last_read: usize,
}

impl Naps {
    /// So many events were read at once.
    pub fn read(&mut self, events: usize) {
        if events > 0 {
            self.last_read = events;
        }
    }

    /// How many milliseconds to wait for more, when something woke the thread `now` that had fallen asleep at that time.
    pub fn after(&mut self, asleep: Instant, now: Instant) -> Option<u16> {
        let slept = now.duration_since(asleep);
        self.quick_wakes = if slept < QUICK { self.quick_wakes.saturating_add(1) } else { 0 };
        let busy_since = *self.busy_since.insert(self.busy_since.filter(|_| slept < PAUSE).unwrap_or(now));
        match () {
            () if now.duration_since(busy_since) >= STEADY && self.last_read < FEW => Some(LONG_NAP),
            () if self.quick_wakes >= BURST => Some(NAP),
            () => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The naps of a thread that is woken again and again, each time after so many microseconds.
    fn naps(naps: &mut Naps, start: Instant, each: u64, times: u32) -> Vec<Option<u16>> {
        let each = Duration::from_micros(each);
        (0..times).map(|turn| naps.after(start + each * turn, start + each * (turn + 1))).collect()
    }

    #[test]
    fn nobody_waits_for_a_change_after_quiet() {
        let now = Instant::now();
        assert!(naps(&mut Naps::default(), now, 35_000, 100).iter().all(Option::is_none));
        assert!(naps(&mut Naps::default(), now, 5_000, 90).iter().all(Option::is_none), "not after a moment either");
    }

    #[test]
    fn a_burst_gathers_for_a_moment_and_a_load_that_stays_for_longer() {
        let (now, mut burst, mut load) = (Instant::now(), Naps::default(), Naps::default());
        burst.read(5_000);
        assert_eq!(naps(&mut burst, now, 500, 2_000).last(), Some(&Some(NAP)));
        load.read(2);
        assert_eq!(naps(&mut load, now, 5_000, 102).last(), Some(&Some(LONG_NAP)));
        load.read(FEW);
        let later = now + Duration::from_secs(1);
        assert_eq!(naps(&mut load, later, 5_000, 1), [None], "the queue fills fast");
        load.read(2);
        assert_eq!(naps(&mut load, later, 30_000, 1), [None], "a pause");
    }
}
