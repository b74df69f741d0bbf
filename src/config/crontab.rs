//! The element `<crontab>`: when full syncs are due by themselves, and what they leave out.

use super::confxml::MINUTES;
use super::reading::{Reading, severity_in};
use super::tree::Element;
use super::{Crontab, When};
use crate::calendar::Calendar;
use crate::filter::Filter;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Reads `<crontab>`; `filter` is what every run leaves out.
pub(super) fn read(reading: &mut Reading<'_>, element: Option<&Element>, filter: &Arc<Filter>) -> Option<Crontab> {
    let minutes = reading.number(element, "schedule", MINUTES, "minutes").unwrap_or(600);
    let calendar = element.and_then(|crontab| calendar(reading, crontab));
    let started = reading.flag(element, "start", false);
    let filter = element.map_or_else(|| filter.clone(), |crontab| filtered(reading, crontab, filter));
    let when = calendar.map_or(When::Every(Duration::from_secs(minutes * 60)), When::At);
    started.then_some(Crontab { when, filter })
}

fn calendar(reading: &mut Reading<'_>, crontab: &Element) -> Option<Calendar> {
    let attribute = crontab.attribute("calendar")?;
    if let Some(schedule) = crontab.attribute("schedule") {
        let message = "`schedule` is not used: `calendar` says when";
        reading.warn(schedule.value_span.clone(), message, "keep one of them");
    }
    match attribute.value.parse::<Calendar>() {
        Ok(calendar) => {
            // A date that has passed must not keep the agent from its next start.
            if calendar.next(SystemTime::now()).is_none() {
                let message = format!("\"{calendar}\" names no moment that is still to come");
                reading.warn(attribute.value_span.clone(), message, "write * for the year");
            }
            Some(calendar)
        }
        Err(error) => {
            reading.refuse(crontab, attribute, error.to_string(), error.help());
            None
        }
    }
}

/// `filter`, and what the patterns of `<crontabfilter start="true">` name.
fn filtered(reading: &mut Reading<'_>, crontab: &Element, filter: &Arc<Filter>) -> Arc<Filter> {
    let element = crontab.child("crontabfilter");
    if !reading.flag(element, "start", false) {
        return filter.clone();
    }
    let mut patterns = Vec::new();
    for exclude in element.into_iter().flat_map(|filter| filter.children("exclude")) {
        let help = "an rsync exclude pattern, such as *.log";
        let Some((pattern, span)) = reading.text_of(exclude, "expression", help) else { continue };
        if !reading.affords(pattern, &span) {
            continue;
        }
        match Filter::check_pattern(pattern) {
            Ok(()) => patterns.push((pattern, span)),
            Err(error) => reading.complain(severity_in(crontab), span, format!("\"{pattern}\": {error}"), error.help()),
        }
    }
    // Compiled once: each pattern takes its time with all the others.
    match filter.and_excluding(patterns.iter().map(|(pattern, _)| pattern)) {
        Ok(all) => Arc::new(all),
        Err(error) => {
            let span = patterns.last().map_or(0..0, |(_, span)| span.clone());
            reading.complain(severity_in(crontab), span, format!("the patterns up to here: {error}"), error.help());
            filter.clone()
        }
    }
}
