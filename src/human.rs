//! How numbers, times, sizes and foreign text read to people: in `systemctl status` and in `sersyncctl`. Plain
//! functions of their arguments and of the language that is spoken; nothing here knows where a value comes from.

use std::time::Duration;
use tr::tr;

/// `1204`: digits alone, so that `cut` and `awk` see one word.
pub fn count(number: u64) -> String {
    number.to_string()
}

/// rsync's words about `path`, without the quoted name of that path: a line that names it already.
pub fn without_path(message: &str, path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    // rsync writes `failed to open "/srv/www/a": Permission denied` and `"/a" (in www)`.
    while let Some((before, quoted)) = rest.split_once('"') {
        let Some((name, behind)) = quoted.split_once('"') else { break };
        text.push_str(before);
        match name.strip_suffix(&*path) {
            Some("") | Some("/") => text.push_str("it"),
            Some(root) if root.ends_with('/') => text.push_str("it"),
            _ => text.extend(["\"", name, "\""]),
        }
        rest = behind;
    }
    text + rest
}

/// `text` without its middle, if it is longer than `most` bytes: its end says what to do.
pub fn shortened(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let half = (most - '…'.len_utf8()) / 2;
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let start = (0..=half).rfind(boundary).unwrap_or(0);
    let end = (text.len() - half..text.len()).find(boundary).unwrap_or(text.len());
    format!("{}…{}", &text[..start], &text[end..])
}

/// `1 remote`, `3 remotes`.
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `3 min`: one unit, rounded down, as one says it.
pub fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        0 if duration.is_zero() => tr!("{seconds} s", seconds = 0),
        0 if duration.as_millis() == 0 => tr!("under 1 ms"),
        0 => tr!("{milliseconds} ms", milliseconds = duration.as_millis()),
        s @ 1..60 => tr!("{seconds} s", seconds = s),
        s @ 60..3600 => tr!("{minutes} min", minutes = s / 60),
        s @ 3600..172_800 => tr!("{hours} h", hours = s / 3600),
        s => tr!("{days} days", days = count(s / 86_400)),
    }
}

/// `3 min ago`, `in 5 s`, `never`: a time of D-Bus (microseconds since 1970, 0 for never) seen from `now`.
pub fn when(usec: u64, now_usec: u64) -> String {
    if usec == 0 {
        return tr!("never");
    }
    let apart = rough(Duration::from_micros(usec.abs_diff(now_usec)));
    match usec.cmp(&now_usec) {
        std::cmp::Ordering::Greater => tr!("in {time}", time = apart),
        _ if now_usec - usec < 1_000_000 => tr!("just now"),
        _ => tr!("{time} ago", time = apart),
    }
}

/// `1.5 GiB`: binary units, as systemd shows them.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = 0;
    let mut value = number as f64;
    // 1023.95 would be shown as 1024.0.
    while value >= if unit == 0 { 1024.0 } else { 1023.95 } {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Text of others for a terminal: on one line, with escapes for what may not be printed.
pub use crate::printable::escaped as safe;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("short".into(), 5), "short");
        assert_eq!(shortened("0123456789".into(), 9), "012…789");
        let cut = shortened("é".repeat(1000), 100);
        assert!(cut.len() <= 100 && cut.starts_with('é') && cut.ends_with('é') && cut.contains('…'), "{cut}");
    }

    #[test]
    fn a_message_does_not_name_a_path_twice() {
        for (message, said) in [
            ("open \"/srv/www/d/a\": Permission denied (13)", "open it: Permission denied (13)"),
            ("open \"d/a\" (in www): denied", "open it (in www): denied"),
            ("mkdir \"/srv/xd/a\" failed", "mkdir \"/srv/xd/a\" failed"),
            ("rename \"/srv/.a.x\" -> \"d/a\": no", "rename \"/srv/.a.x\" -> it: no"),
            ("a \" alone", "a \" alone"),
        ] {
            assert_eq!(without_path(message, b"d/a"), said);
        }
    }

    #[test]
    fn numbers_read_well() {
        for (number, text) in [(0, "0"), (999, "999"), (1204, "1204"), (1_000_000, "1000000")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(plural(1, "remote", "remotes"), "1 remote");
        assert_eq!(plural(1204, "directory", "directories"), "1204 directories");
    }

    #[test]
    fn durations_take_one_unit() {
        let text = |micros| rough(Duration::from_micros(micros));
        assert_eq!(text(0), "0 s");
        assert_eq!(text(900), "under 1 ms");
        assert_eq!(text(340_000), "340 ms");
        assert_eq!(text(59_999_999), "59 s");
        assert_eq!(text(60_000_000), "1 min");
        assert_eq!(text(3_600_000_000), "1 h");
        assert_eq!(text(47 * 3_600_000_000), "47 h");
        assert_eq!(text(48 * 3_600_000_000), "2 days");
    }

    #[test]
    fn times_are_seen_from_now() {
        let now = 1_000_000_000_000;
        assert_eq!(when(0, now), "never");
        assert_eq!(when(now - 180_000_000, now), "3 min ago");
        assert_eq!(when(now - 1, now), "just now");
        assert_eq!(when(now + 5_000_000, now), "in 5 s");
    }

    #[test]
    fn sizes_are_binary() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (1_073_741_823, "1.0 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }

    #[test]
    fn foreign_text_moves_no_cursor() {
        assert_eq!(safe("a\x1b[2J\nb ü"), "a\\u{1b}[2J\\nb ü");
    }
}
