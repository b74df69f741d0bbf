//! `<commonParams>`: the rsync options of the config, each as [`super::rsync_options`] judges it.
//!
//! What a run transfers, deletes and reports is the agent's business: an option of the config that says otherwise
//! is left out, or refused if a mirror cannot do what it asks for.

use super::rsync_options::{self, Kind, Reason, RsyncOption, Written};

/// The options that are passed on, and what is to be said about the others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) kept: Vec<String>,
    /// One sentence for each reason to leave options out, with their names.
    pub(super) notes: Vec<String>,
    /// Options that keep entries from the remotes, with what never arrives.
    pub(super) selections: Vec<String>,
}

/// Why options cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// A quotation mark or a backslash stands alone.
    #[error("a quotation mark or a backslash at the end stands alone")]
    Unbalanced,
    /// rsync would take the word for something to send.
    #[error("\"{0}\" is no option: rsync would take it for a file to send")]
    NoOption(String),
    /// The last option wants a value.
    #[error("`{0}` wants a value after it")]
    NoValue(String),
    /// rsync has no such option.
    #[error("`{option}` is not an option of rsync")]
    Unknown {
        /// The option, with its hyphens.
        option: String,
        /// A known one that is close to it.
        nearest: Option<String>,
    },
    /// A mirror cannot keep its promise with the option.
    #[error("`{option}` cannot be used: {why}")]
    Refused {
        /// The option as it is written, with its value.
        option: String,
        /// The damage that it would do.
        why: &'static str,
        /// The alternative.
        instead: &'static str,
    },
    /// A mirror cannot keep its promise with both options.
    #[error("`{one}` and `{other}` cannot be used together: {why}")]
    Conflict {
        /// The first, with its hyphens.
        one: String,
        /// The second, with its hyphens.
        other: String,
        /// The damage that it would do.
        why: &'static str,
        /// The alternative.
        instead: &'static str,
    },
}

impl ParamsError {
    /// What to write instead.
    pub(super) fn help(&self) -> String {
        match self {
            Self::Unbalanced => "quote as in a shell: --rsh='ssh -p 22'".to_owned(),
            Self::NoOption(_) => "only options stand here, each with `-` or `--`".to_owned(),
            Self::NoValue(_) => "write the value, or leave the option out".to_owned(),
            Self::Unknown { nearest: Some(nearest), .. } => format!("did you mean `{nearest}`?"),
            Self::Unknown { nearest: None, .. } => "`rsync --help` lists the options".to_owned(),
            Self::Refused { instead, .. } | Self::Conflict { instead, .. } => (*instead).to_owned(),
        }
    }
}

/// Why an rsync option cannot be used in a mirror; `name` is its long name without hyphens.
pub fn refusal(name: &str) -> Option<&'static str> {
    match rsync_options::long(name)?.kind() {
        Kind::Refused { why, .. } => Some(why),
        _ => None,
    }
}

/// Whether the long option `name` of rsync has a value, which may be the next word.
pub fn takes_value(name: &str) -> bool {
    rsync_options::long(name).is_some_and(Written::has_value)
}

/// Whether the short option `letter` of rsync has a value: the rest of its word, or the next word.
pub fn takes_short_value(letter: char) -> bool {
    rsync_options::short(letter).is_some_and(Written::has_value)
}

/// The options of `words` that have a value, each by its long name.
pub fn option_values(words: &[String]) -> Vec<(&str, &str)> {
    let mut values = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            match long.split_once('=') {
                Some(both) => values.push(both),
                None if takes_value(long) => values.extend(words.next().map(|value| (long, value.as_str()))),
                None => {}
            }
        } else if let Some(at) = word.find(takes_short_value).filter(|_| word.starts_with('-')) {
            let name = match word.as_bytes()[at] {
                b'e' => "rsh",
                b'f' => "filter",
                b'T' => "temp-dir",
                // No caller needs the others.
                _ => "",
            };
            let glued = &word[at + 1..];
            let value = if glued.is_empty() { words.next().map(String::as_str) } else { Some(glued) };
            values.extend(value.map(|value| (name, value)));
        }
    }
    values
}

/// Whether `words` have an option without a value, by its letter or its long name.
pub fn has_option(words: &[String], short: char, long: &str) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix("--") {
            if name == long {
                return true;
            }
            if takes_value(name) {
                words.next();
            }
        } else if let Some(bundle) = word.strip_prefix('-') {
            let flags = bundle.split(takes_short_value).next().unwrap_or_default();
            if flags.contains(short) {
                return true;
            }
            if bundle.ends_with(takes_short_value) && flags.len() + 1 == bundle.len() {
                words.next();
            }
        }
    }
    false
}

/// Options while they are read.
#[derive(Default)]
struct Sorter {
    kept: Vec<String>,
    left_out: Vec<(Reason, String)>,
    selections: Vec<String>,
    /// Options in force, the last word counting.
    present: Vec<&'static RsyncOption>,
}

impl Sorter {
    /// Judges one option, shown as `shown`; returns whether it is passed on.
    fn judge(
        &mut self,
        written: Written,
        shown: &str,
        value: Option<&str>,
        keep_newer: bool,
    ) -> Result<bool, ParamsError> {
        let refused = |why, instead| Err(ParamsError::Refused { option: shown.to_owned(), why, instead });
        self.present.retain(|option| !std::ptr::eq(*option, written.option));
        if !written.is_negated {
            self.present.push(written.option);
        }
        match written.kind() {
            Kind::Refused { why, instead } => return refused(why, instead),
            Kind::RefusedRelative { why, instead } if !value.is_some_and(|value| value.starts_with('/')) => {
                return refused(why, instead);
            }
            Kind::Decided(Reason::Update) if keep_newer => {}
            Kind::Decided(reason) => {
                self.left_out.push((reason, shown.split_once('=').map_or(shown, |(name, _)| name).to_owned()));
                return Ok(false);
            }
            Kind::Selecting(what) => self.selections.push(format!("`{shown}`: {what}")),
            Kind::Passed | Kind::RefusedRelative { .. } => {}
        }
        // rsync hands it to the remote's rsync, where it does the same harm.
        if let ("remote-option", Some(value)) = (written.option.long, value)
            && let Some(Kind::Refused { why, instead }) = remote_option(value).map(Written::kind)
        {
            return refused(why, instead);
        }
        Ok(true)
    }

    fn has(&self, long: &str) -> bool {
        self.present.iter().any(|option| option.long == long)
    }

    /// Looks at all options together.
    fn finish(self) -> Result<Params, ParamsError> {
        if let Some((one, other, why, instead)) = rsync_options::conflict(&self.present) {
            return Err(ParamsError::Conflict { one, other, why, instead });
        }
        if self.has("backup") && !self.has("backup-dir") {
            return Err(ParamsError::Refused {
                option: "--backup".to_owned(),
                why: "copies of deleted files stay in the mirror, and keep removed directories there",
                instead: "add --backup-dir=/DIRECTORY, outside of the remote's directory",
            });
        }
        Ok(Params { kept: self.kept, notes: notes(&self.left_out), selections: self.selections })
    }
}

/// The option that a `--remote-option` names.
fn remote_option(word: &str) -> Option<Written> {
    match word.strip_prefix("--") {
        Some(long) => rsync_options::long(long.split_once('=').map_or(long, |(name, _)| name)),
        None => rsync_options::short(word.strip_prefix('-')?.chars().next()?),
    }
}

impl Params {
    /// Splits `text` as a shell would, and sorts its options. With `keep_newer`, `-u` is kept, or added.
    pub(super) fn read(text: &str, keep_newer: bool) -> Result<Self, ParamsError> {
        let mut words = shlex::split(text).ok_or(ParamsError::Unbalanced)?.into_iter();
        let mut sorter = Sorter::default();
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, attached) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                if name.is_empty() {
                    return Err(ParamsError::NoOption(word));
                }
                let Some(written) = rsync_options::long(name) else {
                    let nearest = rsync_options::nearest(name);
                    return Err(ParamsError::Unknown { option: format!("--{name}"), nearest });
                };
                let detached = match attached.is_none() && written.has_value() {
                    true => Some(words.next().ok_or_else(|| ParamsError::NoValue(word.clone()))?),
                    false => None,
                };
                let value = attached.or(detached.as_deref());
                let shown = detached.as_ref().map_or_else(|| word.clone(), |value| format!("{word}={value}"));
                if sorter.judge(written, &shown, value, keep_newer)? {
                    sorter.kept.push(word);
                    sorter.kept.extend(detached);
                }
            } else if let Some(bundle) = word.strip_prefix('-').filter(|bundle| !bundle.is_empty()) {
                sorter.read_bundle(bundle, &mut words, keep_newer)?;
            } else {
                return Err(ParamsError::NoOption(word));
            }
        }
        if keep_newer && !sorter.has("update") {
            sorter.kept.push("-u".to_owned());
        }
        sorter.finish()
    }
}

impl Sorter {
    /// Short options in one word.
    fn read_bundle(
        &mut self,
        bundle: &str,
        words: &mut impl Iterator<Item = String>,
        keep_newer: bool,
    ) -> Result<(), ParamsError> {
        let mut left = String::from("-");
        let mut next_word = None;
        for (at, letter) in bundle.char_indices() {
            let Some(written) = rsync_options::short(letter) else {
                return Err(ParamsError::Unknown { option: format!("-{letter}"), nearest: None });
            };
            if written.has_value() {
                let attached = &bundle[at + letter.len_utf8()..];
                if attached.is_empty() {
                    next_word = Some(words.next().ok_or(ParamsError::NoValue(format!("-{letter}")))?);
                }
                let value = next_word.as_deref().unwrap_or(attached);
                if self.judge(written, &format!("-{letter} {value}"), Some(value), keep_newer)? {
                    left.push_str(&bundle[at..]);
                }
                break;
            }
            if letter == 'P' {
                // It stands for two options, one of them ours to decide.
                self.kept.push("--partial".to_owned());
                self.left_out.push((Reason::Output, "the --progress of -P".to_owned()));
            } else if self.judge(written, &format!("-{letter}"), None, keep_newer)? {
                left.push(letter);
            }
        }
        if left.len() > 1 {
            self.kept.push(left);
            self.kept.extend(next_word);
        }
        Ok(())
    }
}

fn notes(left_out: &[(Reason, String)]) -> Vec<String> {
    Reason::ALL
        .into_iter()
        .filter_map(|reason| {
            let mut options: Vec<&str> = Vec::new();
            for (why, option) in left_out {
                if *why == reason && !options.contains(&option.as_str()) {
                    options.push(option);
                }
            }
            (!options.is_empty()).then(|| format!("commonParams: {} left out: {}", options.join(", "), reason.text()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Vec<String> {
        Params::read(text, false).unwrap().kept
    }

    #[test]
    fn takes_out_what_runs_decide_and_says_why() {
        let params = Params::read("-artuz --delete-after --info=progress2", false).unwrap();
        assert_eq!(params.kept, ["-atz"]);
        assert_eq!(params.notes.len(), 4, "{:?}", params.notes);
        assert!(params.notes[0].starts_with("commonParams: -r left out:"), "{:?}", params.notes);
        assert_eq!(Params::read("-a", true).unwrap().kept, ["-a", "-u"]);
        assert_eq!(Params::read("-artuz --update", true).unwrap().kept, ["-atuz", "--update"]);
        assert!(
            kept("-rRv0iqu --del --delete --delete-missing-args --from0 --debug ALL --stats --force --stderr c")
                .is_empty()
        );
        assert_eq!(kept("-aP"), ["--partial", "-a"]);
        assert!(Params::read("-tz", false).unwrap().notes.is_empty());
    }

    #[test]
    fn a_value_is_not_a_bundle_of_options() {
        assert_eq!(kept("-are 'ssh -p 22 -u' -r"), ["-ae", "ssh -p 22 -u"]);
        assert_eq!(
            kept("-rT/run -e ssh -B 700 -f '- run' -M--verbose -@-1"),
            ["-T/run", "-e", "ssh", "-B", "700", "-f", "- run", "-M--verbose", "-@-1"]
        );
        assert_eq!(
            kept("--exclude -r --exclude='a b' --chmod D755"),
            ["--exclude", "-r", "--exclude=a b", "--chmod", "D755"]
        );
        assert_eq!(kept("--log-format '%n' -z"), ["-z"]);
    }

    #[test]
    fn values_and_flags_are_found_wherever_they_stand() {
        let words = |text: &str| shlex::split(text).unwrap();
        let found = words("-aLe 'ssh -k' -T/tmp/x --log-file /l --exclude=-H --filter='. /f' -f '- H' --temp-dir=k -z");
        assert_eq!(
            option_values(&found),
            [
                ("rsh", "ssh -k"),
                ("temp-dir", "/tmp/x"),
                ("log-file", "/l"),
                ("exclude", "-H"),
                ("filter", ". /f"),
                ("filter", "- H"),
                ("temp-dir", "k")
            ]
        );
        assert!(has_option(&found, 'L', "copy-links") && has_option(&found, 'z', "compress"));
        assert!(!has_option(&found, 'H', "hard-links") && !has_option(&found, 'k', "copy-dirlinks"));
        assert!(has_option(&words("--copy-links"), 'L', "copy-links"));
        assert!(!has_option(&words("--exclude --copy-links"), 'L', "copy-links"));
    }

    #[test]
    fn options_that_break_a_mirror_are_refused_by_name() {
        for (text, named) in [
            ("-a --append", "`--append` cannot be used: "),
            ("--append-verify", "`--append-verify` "),
            ("--ignore-existing", "`--ignore-existing` "),
            ("--size-only", "`--size-only` "),
            ("-an", "`-n` "),
            ("--list-only", "`--list-only` "),
            ("--files-from=/list", "`--files-from=/list` "),
            ("--files-from /list", "`--files-from=/list` "),
            ("--remove-source-files", "`--remove-source-files` "),
            ("--write-batch=/b", "`--write-batch=/b` "),
            ("--compare-dest=/d", "`--compare-dest=/d` "),
            ("--stop-after 5", "`--stop-after=5` "),
            ("-aTtmp", "`-T tmp` "),
            ("--temp-dir=tmp", "`--temp-dir=tmp` "),
            ("-b --backup-dir=old", "`--backup-dir=old` "),
            ("-ab", "`--backup` "),
            ("-M--append", "`-M --append` "),
            ("--remote-option=--remove-source-files", "`--remote-option=--remove-source-files` "),
            ("-aH --inplace", "`--hard-links` and `--inplace` "),
            ("--inplace --link-dest=/d", "`--link-dest` and `--inplace` "),
            ("--daemon", "`--daemon` "),
        ] {
            let error = Params::read(text, false).unwrap_err();
            assert!(error.to_string().starts_with(named) && !error.help().is_empty(), "{text}: {error}");
        }
        assert_eq!(kept("-aH --inplace --no-inplace --no-append").len(), 4);
        assert_eq!(kept("-ab --no-backup -T/tmp --copy-dest=/d").len(), 4);
        assert_eq!(kept("-b --backup-dir /old -M--fake-super"), ["-b", "--backup-dir", "/old", "-M--fake-super"]);
    }

    #[test]
    fn options_that_leave_entries_out_are_named_with_what_never_arrives() {
        let params =
            Params::read("-axm --max-size=1g --exclude '*.o' -C -f '- x' --existing --no-D --no-l -O", false).unwrap();
        let named: Vec<&str> = params.selections.iter().map(|said| said.split_once(": ").unwrap().0).collect();
        assert_eq!(
            named,
            [
                "`-x`",
                "`-m`",
                "`--max-size=1g`",
                "`--exclude=*.o`",
                "`-C`",
                "`-f - x`",
                "`--existing`",
                "`--no-D`",
                "`--no-l`"
            ]
        );
        assert!(params.selections.iter().all(|said| said.len() > said.find(": ").unwrap() + 10));
        assert_eq!(params.kept.len(), 11, "{:?}", params.kept);
    }

    #[test]
    fn an_unknown_option_is_an_error_with_the_nearest_known_name() {
        for (text, option, nearest) in [
            ("--bogus", "--bogus", None),
            ("--compres", "--compres", Some("--compress")),
            ("--no-prems", "--no-prems", Some("--no-perms")),
            ("--bwlimt=5", "--bwlimt", Some("--bwlimit")),
            ("-aY", "-Y", None),
        ] {
            let nearest = nearest.map(str::to_owned);
            assert_eq!(Params::read(text, false), Err(ParamsError::Unknown { option: option.to_owned(), nearest }));
        }
    }

    #[test]
    fn usual_params_are_taken_as_before() {
        for (text, expected) in [
            ("-artuz", "-atz"),
            ("-avz", "-az"),
            ("-rlptDz", "-lptDz"),
            ("-rtuzl --bwlimit=500", "-tzl --bwlimit=500"),
            ("-aruz --no-perms --no-owner --no-group", "-az --no-perms --no-owner --no-group"),
            ("-auvzP --progress", "--partial -az"),
            ("-az --chmod=D755,F644 --chown www:www", "-az --chmod=D755,F644 --chown www:www"),
            ("-avHAXS --numeric-ids -e 'ssh -p 22'", "-aHAXS --numeric-ids -e ssh -p 22"),
            ("-az --rsync-path='sudo rsync' --timeout=60", "-az --rsync-path=sudo rsync --timeout=60"),
        ] {
            let params = Params::read(text, false).unwrap();
            assert_eq!(params.kept.join(" "), expected, "{text}");
            assert!(params.selections.is_empty(), "{text}");
        }
    }

    #[test]
    fn refuses_what_rsync_would_misread() {
        assert_eq!(Params::read("-a 'x", false), Err(ParamsError::Unbalanced));
        assert_eq!(Params::read("-a /etc", false), Err(ParamsError::NoOption("/etc".to_owned())));
        assert_eq!(Params::read("-a --", false), Err(ParamsError::NoOption("--".to_owned())));
        assert_eq!(Params::read("-ae", false), Err(ParamsError::NoValue("-e".to_owned())));
        assert_eq!(Params::read("--exclude", false), Err(ParamsError::NoValue("--exclude".to_owned())));
    }
}
