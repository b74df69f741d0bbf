//! [`Calendar`]: an expression in the syntax of systemd's `OnCalendar=`, and the moments that it names.
//!
//! The syntax is that of systemd.time(7), "CALENDAR EVENTS", without fractions of a second, `@TIMESTAMP`, and local
//! abbreviations of a time zone such as `CET`. What an expression means is tested against `systemd-analyze calendar`.
//!
//! A moment without a time zone is local time. Where clocks go forward, what falls into the hour that is left out
//! happens when the clocks have gone forward, once. Where they go back, an expression with any hour (`*`) happens in
//! both hours, every other one in the first of them only. (systemd leaves the first out and the second too.)

mod field;
mod parse;

use field::Field;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

pub use parse::CalendarError;

/// The years that an expression can name, as systemd has it.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=2199;

/// Moments that come again and again, or once.
#[derive(Clone)]
pub struct Calendar {
    /// As written.
    text: String,
    /// Monday first.
    weekdays: [bool; 7],
    years: Field,
    months: Field,
    days: Days,
    hours: Field,
    minutes: Field,
    seconds: Field,
    /// `None`: whatever is local when it is asked.
    zone: Option<TimeZone>,
}

/// The days of a month.
#[derive(Debug, Clone)]
struct Days {
    field: Field,
    /// Counted from the month's end: 1 is the last day.
    from_end: bool,
}

impl Calendar {
    /// The first moment after `moment`; `None` if there is none any more.
    pub fn next(&self, moment: SystemTime) -> Option<SystemTime> {
        let after = Timestamp::try_from(moment).ok()?;
        SystemTime::try_from(self.next_in(&self.zone.clone().unwrap_or_else(TimeZone::system), after)?).ok()
    }

    /// Goes from one change of the zone's offset to the next: between two, local time runs as evenly as time itself.
    fn next_in(&self, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
        let mut offset = zone.to_offset(after);
        // Local times are whole seconds; the first after a fraction of one is the next.
        let now = offset.to_datetime(after).with().subsec_nanosecond(0).build().ok()?;
        let mut from = now.checked_add(1.second()).ok()?;
        if !self.hours.is_any()
            && let Some(change) = zone.preceding(after.checked_add(1.nanosecond()).ok()?).next()
        {
            // Clocks that went back a moment ago show times that have been.
            let before = zone.to_offset(change.timestamp().checked_sub(1.nanosecond()).ok()?);
            from = from.max(before.to_datetime(change.timestamp()));
        }
        let mut found = self.next_local(from)?;
        for change in zone.following(after) {
            let at = change.timestamp();
            let (ends, begins) = (offset.to_datetime(at), change.offset().to_datetime(at));
            if found < ends {
                break;
            }
            // What is left out falls on this moment, and so does what is named for it.
            if found < begins {
                return Some(at);
            }
            offset = change.offset();
            if begins < ends && self.hours.is_any() {
                found = self.next_local(begins)?;
            }
        }
        offset.to_timestamp(found).ok()
    }

    /// The first local time at `from` or after it.
    fn next_local(&self, from: DateTime) -> Option<DateTime> {
        let mut time = Some(from.time());
        let mut year = i64::from(from.year());
        let (mut first_month, mut first_day) = (from.month(), from.day());
        while let Some(named) = self.years.at_or_after(year, i64::from(*YEARS.end())) {
            if named > year {
                (time, first_month, first_day) = (None, 1, 1);
            }
            year = named;
            for month in first_month..=12 {
                if month > first_month {
                    (time, first_day) = (None, 1);
                }
                if !self.months.has(i64::from(month), 12) {
                    continue;
                }
                let month = Date::new(i16::try_from(year).ok()?, month, 1).ok()?;
                for day in first_day..=month.days_in_month() {
                    let date = Date::new(month.year(), month.month(), day).ok()?;
                    if self.has_day(date)
                        && let Some(found) = self.next_time(time.unwrap_or(jiff::civil::Time::midnight()))
                    {
                        return Some(date.to_datetime(found));
                    }
                    time = None;
                }
            }
            (time, first_month, first_day) = (None, 1, 1);
            year += 1;
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let weekday = usize::from(date.weekday().to_monday_zero_offset().unsigned_abs());
        let length = i64::from(date.days_in_month());
        let day = i64::from(date.day());
        self.weekdays[weekday]
            && match self.days.from_end {
                false => self.days.field.has(day, length),
                true => self.days.field.counted_from(length + 1).has(day, length),
            }
    }

    /// The first time of a day at `from` or after it.
    fn next_time(&self, from: jiff::civil::Time) -> Option<jiff::civil::Time> {
        let [first_hour, first_minute, first_second] = [from.hour(), from.minute(), from.second()].map(i64::from);
        let mut hour = self.hours.at_or_after(first_hour, 23)?;
        loop {
            let (minute, second) = if hour == first_hour { (first_minute, first_second) } else { (0, 0) };
            let mut named = self.minutes.at_or_after(minute, 59);
            while let Some(at) = named {
                let second = if hour == first_hour && at == first_minute { second } else { 0 };
                if let Some(second) = self.seconds.at_or_after(second, 59) {
                    let [hour, minute, second] = [hour, at, second].map(|part| i8::try_from(part).ok());
                    return jiff::civil::Time::new(hour?, minute?, second?, 0).ok();
                }
                named = self.minutes.at_or_after(at + 1, 59);
            }
            hour = self.hours.at_or_after(hour + 1, 23)?;
        }
    }
}

impl FromStr for Calendar {
    type Err = CalendarError;

    fn from_str(text: &str) -> Result<Self, CalendarError> {
        parse::calendar(text)
    }
}

/// Two are equal when they are written the same.
impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Calendar {}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({:?})", self.text)
    }
}

#[cfg(test)]
mod tests;
