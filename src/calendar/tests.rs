use super::*;
use std::process::Command;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn time(text: &str) -> SystemTime {
    at(text).try_into().unwrap()
}

/// The clocks of Berlin, on a machine without a time zone database too: forward at 02:00 on the last Sunday of March,
/// back at 03:00 on the last of October.
fn berlin() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// The first `count` moments of `expression` after `after`, as UTC.
fn moments(expression: &str, zone: &TimeZone, after: &str, count: usize) -> Vec<String> {
    let calendar: Calendar = expression.parse().unwrap();
    let mut last = Some(at(after));
    let next = || {
        last = last.and_then(|last| calendar.next_in(zone, last));
        last.map(|at| at.to_string())
    };
    std::iter::from_fn(next).take(count).collect()
}

#[test]
fn what_the_clocks_leave_out_happens_once() {
    let zone = berlin();
    // 02:30 does not exist on 29 March: 03:00 in summer time, 01:00 UTC, comes in its place.
    assert_eq!(
        moments("02:30", &zone, "2026-03-27T12:00:00Z", 3),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    assert_eq!(
        moments("2..3:0/30", &zone, "2026-03-28T12:00:00Z", 3),
        ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"],
        "02:00, 02:30 and 03:00 are one moment"
    );
    assert_eq!(moments("hourly", &zone, "2026-03-29T00:30:00Z", 2), ["2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]);
}

#[test]
fn what_comes_twice_happens_in_both_hours_only_where_any_hour_is_meant() {
    let zone = berlin();
    assert_eq!(
        moments("02:30", &zone, "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
        "the first 02:30 only"
    );
    assert_eq!(
        moments("02:30", &zone, "2026-10-25T01:10:00Z", 1),
        ["2026-10-26T01:30:00Z"],
        "also when asked between the two"
    );
    assert_eq!(
        moments("hourly", &zone, "2026-10-24T23:30:00Z", 4),
        ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z", "2026-10-25T03:00:00Z"],
        "no hour without one"
    );
}

#[test]
fn a_zone_of_its_own_goes_before_the_local_one() {
    let calendar: Calendar = "12:00 UTC".parse().unwrap();
    let noon = time("2026-11-21T12:00:00Z");
    assert_eq!(calendar.next(time("2026-11-21T11:59:59.5Z")), Some(noon));
    assert_eq!(calendar.next(noon), Some(time("2026-11-22T12:00:00Z")), "after it, not at it");
}

#[test]
fn what_is_over_does_not_come() {
    let calendar: Calendar = "Thu,Fri 2012-*-1,5 11:12:13".parse().unwrap();
    assert_eq!(calendar.next(time("2026-01-01T00:00:00Z")), None);
    let impossible: Calendar = "*-02-30".parse().unwrap();
    assert_eq!(impossible.next(time("2026-01-01T00:00:00Z")), None);
}

#[test]
fn mistakes_are_told_by_their_kind() {
    let told = |text: &str| text.parse::<Calendar>().unwrap_err().to_string();
    assert_eq!(told(" "), "the expression is empty");
    assert_eq!(told("dayly"), "\"dayly\" is no weekday, no shorthand, and no time zone that this machine knows");
    assert_eq!(
        told("daily Mars/Phobos"),
        "\"Mars/Phobos\" is no weekday, no shorthand, and no time zone that this machine knows"
    );
    assert_eq!(told("Sun..Mon"), "\"Sun..Mon\" is no list of weekdays");
    assert_eq!(told("Mon 12"), "\"12\" is no date and no time");
    assert_eq!(told("*/5:00"), "\"*/5\" is no hour");
    assert_eq!(told("24:00"), "\"24\" is no hour: it goes from 0 to 23");
    assert_eq!(told("12:05:0.5"), "\"0.5\": only whole seconds can be named");
}

/// One part of an expression, often right.
fn random_part(random: &mut fastrand::Rng, from: i64, to: i64) -> String {
    let mut value = || random.i64(from - 1..=to + 1).max(0);
    let (one, other) = (value(), value());
    let step = random.i64(0..=(to - from) / 2 + 2);
    let item = |random: &mut fastrand::Rng| match random.u8(..5) {
        0 => format!("{}..{}", one.min(other), one.max(other)),
        1 => format!("{one}/{step}"),
        2 => format!("{}..{}/{step}", one.min(other), one.max(other)),
        _ => one.to_string(),
    };
    match random.u8(..6) {
        0..3 => "*".to_owned(),
        3 => format!("{},{other}", item(random)),
        _ => item(random),
    }
}

fn random_expression(random: &mut fastrand::Rng) -> String {
    let mut words = Vec::new();
    if random.u8(..3) == 0 {
        let day = |random: &mut fastrand::Rng| {
            ["Mon", "tue", "Wednesday", "Thu", "FRI", "saturday", "Sun"][random.usize(..7)]
        };
        words.push(match random.u8(..4) {
            0 => format!("{}..{}", day(random), day(random)),
            1 => format!("{},{}", day(random), day(random)),
            _ => day(random).to_owned(),
        });
    }
    if random.bool() {
        let year = match random.u8(..5) {
            0 => random_part(random, 2024, 2030) + "-",
            1 => "*-".to_owned(),
            2 => "27-".to_owned(),
            _ => String::new(),
        };
        let (month, tilde) = (random_part(random, 1, 12), random.u8(..3) == 0);
        let day = random_part(random, 1, if tilde { 28 } else { 31 });
        words.push(format!("{year}{month}{}{day}", if tilde { '~' } else { '-' }));
    }
    if random.u8(..4) > 0 || words.is_empty() {
        let second = if random.bool() { format!(":{}", random_part(random, 0, 59)) } else { String::new() };
        words.push(format!("{}:{}{second}", random_part(random, 0, 23), random_part(random, 0, 59)));
    }
    words.join(" ")
}

/// What systemd makes of an expression: the next moments in UTC; `None`: it is none.
fn systemd(expression: &str, base: &str, iterations: usize) -> Option<Vec<String>> {
    let _turn = crate::forks::some();
    let output = Command::new("systemd-analyze")
        .args(["calendar", &format!("--base-time={base}"), &format!("--iterations={iterations}"), "--", expression])
        .envs([("TZ", "UTC"), ("LC_ALL", "C")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let moment = |line: &str| {
        let (label, value) = line.split_once(": ")?;
        let is_moment = label.trim() == "Next elapse" || label.trim().starts_with("Iter. #");
        let mut words = value.split(' ').skip(1);
        (is_moment && value != "never").then(|| format!("{}T{}Z", words.next().unwrap(), words.next().unwrap()))
    };
    output.status.success().then(|| text.lines().filter_map(moment).collect())
}

#[test]
fn means_what_systemd_means() {
    let turn = crate::forks::some();
    let is_there =
        Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success());
    drop(turn);
    if !is_there {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI=true allows no skip");
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    }
    let base = "2026-02-27 22:58:57 UTC";
    let shorthands =
        ["minutely", "hourly", "DAILY", "weekly", "monthly", "quarterly", "semiannually", "yearly", "annually"];
    // Away from the hours at which clocks change, see the head of the module.
    let zones = ["Mon,Wed *-*-1..7 12:15 Europe/Berlin", "*-*~3 5,6:30 America/New_York", "*-*-* 23:0/20 Asia/Kolkata"];
    let edges = [
        "*-02-29",
        "*-2~1",
        "*-*~07/1",
        "*-*~1..3",
        "*-*~28/27",
        "Mon, 0:0",
        "*:*:0/1",
        "5..5:00",
        "9..10/5:00",
        "Mon-Fri 8:00",
    ];
    let mut random = fastrand::Rng::with_seed(20_261_121);
    let random = std::iter::repeat_with(|| random_expression(&mut random)).take(250);
    let fixed = shorthands.into_iter().chain(zones).chain(edges).map(str::to_owned);
    let (mut valid, mut wrong) = (0, Vec::new());
    for expression in fixed.chain(random) {
        let theirs = systemd(&expression, base, 3);
        let ours = expression.parse::<Calendar>().ok().map(|calendar| {
            let zone = calendar.zone.clone().unwrap_or(TimeZone::UTC);
            moments(&expression, &zone, "2026-02-27T22:58:57Z", 3)
        });
        valid += usize::from(theirs.is_some());
        if ours != theirs {
            wrong.push(format!("{expression}: {ours:?}, systemd says {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(valid > 80, "only {valid} were valid: the test tests little");
}
