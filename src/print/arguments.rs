//! The command line of inotifywait(1), as `sersync --print` takes it: `-mrq`, `-e create`, `-t 5`, `-o FILE`, and the
//! directory as a word of its own. Some of these letters mean something else without `--print`.

use std::ffi::{OsStr, OsString};

/// The words of a command line with `--print`, its options of inotifywait as options of our own; any other command line
/// is returned as it is.
pub fn translated(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let words: Vec<OsString> = words.into_iter().collect();
    if !words.iter().any(|word| word == "--print") {
        return words;
    }
    let mut line = Line { words: Vec::new(), monitors: false, is_inotifywaits: false };
    let has_watch = words.iter().any(|word| word == "--watch" || word.as_encoded_bytes().starts_with(b"--watch="));
    let mut rest = words.into_iter();
    line.words.extend(rest.next());
    while let Some(word) = rest.next() {
        match word.to_str() {
            Some(long) if long.starts_with("--") => line.long(&word, long, &mut rest),
            Some(bundle) if bundle.len() > 1 && bundle.starts_with('-') => line.short(&word, &bundle[1..], &mut rest),
            _ if has_watch => line.words.push(word),
            _ => line.words.extend(["--watch".into(), word]),
        }
    }
    // inotifywait ends after one event, unless it is told to monitor.
    if line.is_inotifywaits && !line.monitors {
        line.words.push("--single".into());
    }
    line.words
}

struct Line {
    words: Vec<OsString>,
    monitors: bool,
    /// It has options that only inotifywait has.
    is_inotifywaits: bool,
}

impl Line {
    fn long(&mut self, word: &OsStr, long: &str, rest: &mut impl Iterator<Item = OsString>) {
        match long {
            "--monitor" => (self.monitors, self.is_inotifywaits) = (true, true),
            "--recursive" | "--quiet" => self.is_inotifywaits = true,
            "--daemon" => self.daemon(),
            "--event" => self.words.push("--events".into()),
            _ => match long.strip_prefix("--event=") {
                Some(event) => self.words.push(format!("--events={event}").into()),
                None => self.words.push(word.to_owned()),
            },
        }
        const WITH_VALUE: [&str; 11] = [
            "--event",
            "--events",
            "--format",
            "--timefmt",
            "--timeout",
            "--outfile",
            "--exclude",
            "--excludei",
            "--include",
            "--includei",
            "--watch",
        ];
        if WITH_VALUE.contains(&long) {
            self.words.extend(rest.next());
        }
    }

    fn daemon(&mut self) {
        (self.monitors, self.is_inotifywaits) = (true, true);
        self.words.push("--background".into());
    }

    fn short(&mut self, word: &OsStr, bundle: &str, rest: &mut impl Iterator<Item = OsString>) {
        if !bundle.chars().all(|letter| "mrqdcetoPs0".contains(letter)) && !bundle.starts_with(['e', 't', 'o']) {
            // `-h` and what is wrong: clap has the words for it.
            return self.words.push(word.to_owned());
        }
        for (at, letter) in bundle.char_indices() {
            match letter {
                'm' => (self.monitors, self.is_inotifywaits) = (true, true),
                'r' | 'q' | 'P' | 's' => self.is_inotifywaits = true,
                'd' => self.daemon(),
                'c' => self.words.push("--csv".into()),
                '0' => self.words.push("-0".into()),
                _ => {
                    self.words.push(
                        if letter == 'e' {
                            "-e"
                        } else if letter == 't' {
                            "--timeout"
                        } else {
                            "--outfile"
                        }
                        .into(),
                    );
                    let attached = &bundle[at + 1..];
                    self.is_inotifywaits |= letter == 't';
                    self.words.extend(if attached.is_empty() { rest.next() } else { Some(attached.into()) });
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        let words = translated(text.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn inotifywaits_words_become_our_own() {
        for (written, meant) in [
            ("sersync --print -mrq -e create /data", "sersync --print -e create --watch /data"),
            ("sersync --print -rq -e create /data", "sersync --print -e create --watch /data --single"),
            ("sersync --print --watch /data", "sersync --print --watch /data"),
            ("sersync --print -mrqe create,delete -t5 /d", "sersync --print -e create,delete --timeout 5 --watch /d"),
            (
                "sersync --print -rdo /log --event move --exclude \\.git /d",
                "sersync --print --background --outfile /log --events move --exclude \\.git --watch /d",
            ),
            ("sersync --print -m -c /d", "sersync --print --csv --watch /d"),
            ("sersync --print -h", "sersync --print -h"),
            ("sersync -m command -r", "sersync -m command -r"),
        ] {
            assert_eq!(line(written), meant);
        }
    }
}
