//! What happens again and again is told in few lines: [`Repeats`] for what goes on, [`Ration`] for many of a kind.
//!
//! The first time is told at once, and nothing that goes on is left untold for longer than the pause that has been
//! reached. Whoever tells less has to count: each line says how many it stands for. Neither knows what is told, nor has
//! a clock of its own.

use crate::human;
use std::fmt;
use std::time::{Duration, Instant};

/// The pause after the first telling; each later one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(60);

/// Told once a day at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// What has no end of its own has ended when it did not happen for so long.
const QUIET: Duration = Duration::from_secs(600);

/// At most so many lines of a kind within [`FIRST_PAUSE`].
const LINES: usize = 10;

/// Something that goes on: a remote that is down, a queue that overflows.
///
/// It is told when it begins, and then at growing intervals. When it ends and begins again within a minute of the last
/// telling, it is told once that minute is over and it still happens: what comes and goes all the time is no more than
/// a line a minute. Where it goes on for another reason than those told, that reason is told at once, each once.
#[derive(Debug, Default)]
pub struct Repeats {
    count: u64,
    began: Option<Instant>,
    happened: Option<Instant>,
    told: Option<Instant>,
    /// How often it was told since it began.
    tellings: u32,
    /// The reasons told, each with when it was told first.
    reasons: Vec<(&'static str, Instant)>,
}

/// How often something happened, and in which time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// So often since it began.
    pub count: u64,
    /// Since it began.
    pub within: Duration,
}

/// `412 tries in 33 h`.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", human::plural(self.count, "try", "tries"), human::rough(self.within))
    }
}

impl Repeats {
    /// It happened. Returns what to tell, when it is time to.
    pub fn happened(&mut self, now: Instant) -> Option<Times> {
        self.count += 1;
        self.happened = Some(now);
        let began = *self.began.get_or_insert(now);
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tellings.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        if self.told.is_some_and(|told| now < told + pause) {
            return None;
        }
        self.told = Some(now);
        self.tellings += 1;
        Some(Times { count: self.count, within: now - began })
    }

    /// It happened, for `reason`: one of few.
    pub fn happened_for(&mut self, reason: &'static str, now: Instant) -> Option<Times> {
        let is_news = self.reasons.iter().all(|(told, _)| *told != reason);
        let times = self.happened(now);
        if !is_news {
            return times;
        }
        self.reasons.push((reason, now));
        times.or_else(|| {
            self.told = Some(now);
            self.tellings = self.tellings.max(1);
            Some(Times { count: self.count, within: self.began.map_or(Duration::ZERO, |began| now - began) })
        })
    }

    /// The same as [`Repeats::happened`] for what nobody sees the end of.
    pub fn happened_again(&mut self, now: Instant) -> Option<Times> {
        if self.happened.is_some_and(|last| now - last > QUIET) {
            self.ended(now);
        }
        self.happened(now)
    }

    /// It is over. Returns what to tell, if it was told at all.
    pub fn ended(&mut self, now: Instant) -> Option<Times> {
        let Self { count, began, tellings, told, mut reasons, .. } = std::mem::take(self);
        reasons.retain(|(_, told)| now < *told + FIRST_PAUSE);
        (self.told, self.reasons) = (told, reasons);
        (tellings > 0).then(|| Times { count, within: began.map_or(Duration::ZERO, |began| now - began) })
    }
}

/// Many of a kind, each of which deserves a line: files that fail.
#[derive(Debug, Default)]
pub struct Ration {
    since: Option<Instant>,
    lines: usize,
    untold: usize,
}

/// What of many may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// So many may have a line now.
    pub lines: usize,
    /// So many others came before, or now, that nobody was told of. Told with these lines, if there are any.
    pub others: usize,
}

impl Ration {
    /// `many` came at once.
    pub fn share(&mut self, many: usize, now: Instant) -> Share {
        if self.since.is_none_or(|since| now - since >= FIRST_PAUSE) {
            (self.since, self.lines) = (Some(now), 0);
        }
        let lines = many.min(LINES - self.lines);
        self.lines += lines;
        self.untold += many - lines;
        let others = if lines > 0 { std::mem::take(&mut self.untold) } else { 0 };
        Share { lines, others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn another_reason_is_news_but_once() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let told =
            |repeats: &mut Repeats, reason, second| repeats.happened_for(reason, start + second * SECOND).is_some();
        assert!(told(&mut repeats, "lost", 0));
        assert!(!told(&mut repeats, "lost", 1));
        assert!(told(&mut repeats, "refused", 2), "another reason");
        assert!(!told(&mut repeats, "refused", 3) && !told(&mut repeats, "lost", 4), "both are known");
        assert!(repeats.ended(start + 5 * SECOND).is_some());
        assert!(!told(&mut repeats, "refused", 10), "it comes and goes");
        assert!(told(&mut repeats, "password", 11));
        let alternating: Vec<u32> = (0..2_000)
            .filter(|hour| told(&mut repeats, ["lost", "refused"][*hour as usize % 2], 3_600 * (hour + 1)))
            .collect();
        assert!(alternating.len() < 100, "once a day: {alternating:?}");
    }

    #[test]
    fn what_goes_on_for_days_is_told_in_few_lines() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        // A try every five minutes, for a week.
        let told: Vec<_> = (0..7 * 288).filter_map(|nth| repeats.happened(start + nth * 300 * SECOND)).collect();
        assert_eq!(told[0], Times { count: 1, within: Duration::ZERO });
        assert_eq!(told[1], Times { count: 2, within: 300 * SECOND });
        assert!(told.len() < 20, "{told:?}");
        let gaps = told.windows(2).map(|pair| pair[1].within - pair[0].within);
        assert!(gaps.max().unwrap() <= LONGEST_PAUSE + 300 * SECOND, "once a day at least: {told:?}");
        let end = start + 7 * LONGEST_PAUSE;
        let times = repeats.ended(end).unwrap();
        assert_eq!(times, Times { count: 7 * 288, within: 7 * LONGEST_PAUSE });
        assert_eq!(times.to_string(), "2016 tries in 7 days");
        assert_eq!(repeats.ended(end), None, "it is over already");
    }

    #[test]
    fn what_comes_and_goes_is_a_line_a_minute() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        let mut lines = 0;
        for nth in 0..3600 {
            let now = start + nth * SECOND;
            lines += u32::from(repeats.happened(now).is_some());
            lines += u32::from(repeats.ended(now).is_some());
        }
        assert!((60..=2 * 60).contains(&lines), "{lines}");
        // And when it then stays: a minute at most.
        let stays = start + 3600 * SECOND;
        let told = (0..=60).find_map(|nth| repeats.happened(stays + nth * SECOND));
        assert!(told.is_some());
    }

    #[test]
    fn after_quiet_it_is_told_at_once() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        assert!(repeats.happened_again(start).is_some());
        assert_eq!(repeats.happened_again(start + SECOND), None);
        let times = repeats.happened_again(start + 61 * SECOND).unwrap();
        assert_eq!(times, Times { count: 3, within: 61 * SECOND });
        let later = start + 61 * SECOND + QUIET + SECOND;
        assert_eq!(repeats.happened_again(later), Some(Times { count: 1, within: Duration::ZERO }));
    }

    #[test]
    fn of_many_a_few_have_lines_and_all_are_counted() {
        let (mut ration, start) = (Ration::default(), Instant::now());
        assert_eq!(ration.share(3, start), Share { lines: 3, others: 0 });
        assert_eq!(ration.share(1000, start + SECOND), Share { lines: 7, others: 993 });
        assert_eq!(ration.share(500, start + 2 * SECOND), Share { lines: 0, others: 0 });
        assert_eq!(ration.share(2, start + 60 * SECOND), Share { lines: 2, others: 500 });
    }
}
