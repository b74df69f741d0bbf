//! From the text of a calendar expression to a [`Calendar`]: `[WEEKDAYS] [[YEAR-]MONTH-DAY] [HOUR:MINUTE[:SECOND]] [ZONE]`,
//! or a word such as `daily` for it.

use super::field::{Field, Item};
use super::{Calendar, Days, YEARS};
use jiff::tz::TimeZone;

/// What is wrong with an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CalendarError {
    /// Nothing is written.
    #[error("the expression is empty")]
    Empty,
    /// A word that is neither a weekday nor a shorthand nor a time zone of this machine.
    #[error("\"{0}\" is no weekday, no shorthand, and no time zone that this machine knows")]
    Word(String),
    /// A range of weekdays that is none.
    #[error("\"{0}\" is no list of weekdays")]
    Weekdays(String),
    /// Neither a date nor a time.
    #[error("\"{0}\" is no date and no time")]
    Form(String),
    /// A part that is no list of numbers.
    #[error("\"{value}\" is no {part}")]
    Value {
        /// As written.
        value: String,
        /// What it should be.
        part: &'static str,
    },
    /// A number that is too large or too small, or a range or repetition that does not fit.
    #[error("\"{value}\" is no {part}: it goes from {from} to {to}")]
    Range {
        /// As written.
        value: String,
        /// What it should be.
        part: &'static str,
        /// The least.
        from: i64,
        /// The greatest.
        to: i64,
    },
    /// Fractions of a second.
    #[error("\"{0}\": only whole seconds can be named")]
    Fraction(String),
}

impl CalendarError {
    /// What would be right.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Empty => "write when, as for OnCalendar= of systemd: daily, 02:30, Sat 04:00",
            Self::Word(_) => {
                "weekdays are Mon or Monday to Sun; shorthands minutely, hourly, daily, weekly, monthly, quarterly, \
                 semiannually, yearly; time zones UTC or as Europe/Berlin"
            }
            Self::Weekdays(_) => "write Mon,Wed or Mon..Fri; a range goes forward within a week that starts on Monday",
            Self::Form(_) => {
                "a time is 02:30 or 02:30:00, a date 2027-12-24, 12-24 or *-*-01; `systemd-analyze calendar` explains"
            }
            Self::Value { .. } => {
                "write *, a number, a range 1..5, a repetition 0/15 or 9..17/2, or a list of these: 0,30"
            }
            Self::Range { .. } => "a range goes forward, and a repetition happens at least once more before the end",
            Self::Fraction(_) => "leave the fraction out",
        }
    }
}

const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Each shorthand with what it stands for.
const SHORTHANDS: [(&[&str], &str); 8] = [
    (&["minutely"], "*-*-* *:*:00"),
    (&["hourly"], "*-*-* *:00:00"),
    (&["daily"], "*-*-* 00:00:00"),
    (&["weekly"], "Mon *-*-* 00:00:00"),
    (&["monthly"], "*-*-01 00:00:00"),
    (&["quarterly"], "*-01,04,07,10-01 00:00:00"),
    (&["semiannually", "semi-annually", "biannually", "bi-annually"], "*-01,07-01 00:00:00"),
    (&["yearly", "annually"], "*-01-01 00:00:00"),
];

/// One part of an expression.
struct Part {
    name: &'static str,
    from: i64,
    to: i64,
    /// Counted from the month's end, so that steps without an end go down.
    from_end: bool,
}

const YEAR: Part = Part { name: "year", from: *YEARS.start() as i64, to: *YEARS.end() as i64, from_end: false };
const MONTH: Part = Part { name: "month", from: 1, to: 12, from_end: false };
const DAY: Part = Part { name: "day of a month", from: 1, to: 31, from_end: false };
/// Further from its end a month may have no such day.
const DAY_FROM_END: Part = Part { to: 28, from_end: true, ..DAY };
const HOUR: Part = Part { name: "hour", from: 0, to: 23, from_end: false };
const MINUTE: Part = Part { name: "minute", from: 0, to: 59, from_end: false };
const SECOND: Part = Part { name: "second", ..MINUTE };

/// Reads an expression.
pub(super) fn calendar(text: &str) -> Result<Calendar, CalendarError> {
    let trimmed = text.trim_matches(' ');
    let (rest, zone) = split_zone(trimmed)?;
    let expanded = shorthand(rest).unwrap_or(rest);
    let mut words = expanded.split(' ').filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return Err(CalendarError::Empty);
    }
    let weekdays = match words.next_if(|word| word.starts_with(|first: char| first.is_alphabetic())) {
        Some(word) => weekdays(word)?,
        None => [true; 7],
    };
    let is_time = |word: &&str| word.contains(':');
    let date = match words.next_if(|word| !is_time(word)) {
        Some(word) => date(word)?,
        None => (Field::Any, Field::Any, Days { field: Field::Any, from_end: false }),
    };
    let time = match words.next_if(is_time) {
        Some(word) => time(word)?,
        None => (Field::only(0), Field::only(0), Field::only(0)),
    };
    if let Some(more) = words.next() {
        return Err(CalendarError::Form(more.to_owned()));
    }
    let ((years, months, days), (hours, minutes, seconds)) = (date, time);
    Ok(Calendar { text: trimmed.to_owned(), weekdays, years, months, days, hours, minutes, seconds, zone })
}

/// Takes a time zone off the end, if there is one: the last of several words that begins with a letter, or the only
/// one behind a shorthand.
fn split_zone(text: &str) -> Result<(&str, Option<TimeZone>), CalendarError> {
    let Some((rest, last)) = text.rsplit_once(' ') else { return Ok((text, None)) };
    if !last.starts_with(|first: char| first.is_alphabetic()) {
        return Ok((text, None));
    }
    let rest = rest.trim_end_matches(' ');
    if last.eq_ignore_ascii_case("UTC") {
        return Ok((rest, Some(TimeZone::UTC)));
    }
    match TimeZone::get(last) {
        Ok(zone) => Ok((rest, Some(zone))),
        Err(_) => Err(CalendarError::Word(last.to_owned())),
    }
}

fn shorthand(text: &str) -> Option<&'static str> {
    let is = |names: &[&str]| names.iter().any(|name| name.eq_ignore_ascii_case(text));
    SHORTHANDS.iter().find(|(names, _)| is(names)).map(|(_, meaning)| *meaning)
}

fn weekdays(word: &str) -> Result<[bool; 7], CalendarError> {
    let wrong = || CalendarError::Weekdays(word.to_owned());
    let number = |name: &str| {
        let name = name.to_ascii_lowercase();
        WEEKDAYS.iter().position(|day| *day == name || day[..3] == name)
    };
    let mut named = [false; 7];
    // A comma at the end is allowed, as in systemd.
    for item in word.strip_suffix(',').unwrap_or(word).split(',') {
        // A hyphen is how ranges were once written there.
        let range = item.split_once("..").or_else(|| item.split_once('-'));
        let (first, last) = match range {
            Some((first, last)) => (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?),
            None => {
                let day = number(item).ok_or_else(|| match word.contains([',', '.', '-']) {
                    true => wrong(),
                    false => CalendarError::Word(word.to_owned()),
                })?;
                (day, day)
            }
        };
        if first > last {
            return Err(wrong());
        }
        named[first..=last].fill(true);
    }
    Ok(named)
}

fn date(word: &str) -> Result<(Field, Field, Days), CalendarError> {
    // `~` stands before the day only, and counts it from the month's end.
    let (before, day, from_end) = match (word.rsplit_once('~'), word.rsplit_once('-')) {
        (Some((before, day)), _) => (before, day, true),
        (None, Some((before, day))) => (before, day, false),
        (None, None) => return Err(CalendarError::Form(word.to_owned())),
    };
    let (year, month) = before.split_once('-').map_or((None, before), |(year, month)| (Some(year), month));
    let years = year.map_or(Ok(Field::Any), |year| YEAR.read(year))?;
    let days = if from_end { DAY_FROM_END } else { DAY }.read(day)?;
    Ok((years, MONTH.read(month)?, Days { field: days, from_end }))
}

/// Two digits are a year of this century or the last.
fn full_year(year: i64) -> i64 {
    match year {
        0..70 => year + 2000,
        70..100 => year + 1900,
        _ => year,
    }
}

fn time(word: &str) -> Result<(Field, Field, Field), CalendarError> {
    let mut parts = word.split(':');
    let (Some(hour), Some(minute), second, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(CalendarError::Form(word.to_owned()));
    };
    let seconds = match second {
        Some(second) if second.replace("..", "").contains('.') => {
            return Err(CalendarError::Fraction(second.to_owned()));
        }
        Some(second) => SECOND.read(second)?,
        None => Field::only(0),
    };
    Ok((HOUR.read(hour)?, MINUTE.read(minute)?, seconds))
}

impl Part {
    /// Reads `*`, or a list of `FIRST[..LAST][/STEP]`.
    fn read(&self, written: &str) -> Result<Field, CalendarError> {
        if written == "*" {
            return Ok(Field::Any);
        }
        let mut items = Vec::new();
        for item in written.split(',') {
            let item =
                self.item(item).ok_or_else(|| CalendarError::Value { value: written.to_owned(), part: self.name })?;
            if !self.holds(item) {
                let Self { name: part, from, to, .. } = *self;
                return Err(CalendarError::Range { value: written.to_owned(), part, from, to });
            }
            items.push(item);
        }
        Ok(Field::List(items))
    }

    fn item(&self, written: &str) -> Option<Item> {
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let value =
            |text: &str| number(text).map(|value| if self.name == YEAR.name { full_year(value) } else { value });
        let (values, step) = match written.split_once('/') {
            Some((values, step)) => (values, Some(number(step)?)),
            None => (written, None),
        };
        let (first, last) = match values.split_once("..") {
            Some((first, last)) => (value(first)?, Some(value(last)?)),
            None => (value(values)?, None),
        };
        Some(Item { first, last, step: step.or(last.map(|_| 1)) }.simplified())
    }

    /// Whether the values of `item` lie within the part, and a repetition happens at least once more before the end.
    fn holds(&self, item: Item) -> bool {
        let fits = |value| (self.from..=self.to).contains(&value);
        let Item { first, last, step } = item;
        let repeats = |step| match last {
            _ if !(1..=self.to - self.from).contains(&step) => false,
            Some(last) => first + step <= last,
            None if self.from_end => first - step >= self.from,
            None => first + step <= self.to,
        };
        fits(first) && last.is_none_or(fits) && step.is_none_or(repeats)
    }
}
