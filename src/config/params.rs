//! `<commonParams>`: the rsync options of the config, without those that each run decides by itself.
//!
//! What a run transfers, deletes and reports is the agent's business: an option of the config that says otherwise
//! would break the promise that a remote becomes equal to the disk. It is left out, and its author is told.

/// The options that are kept, and what was left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) kept: Vec<String>,
    /// One sentence for each reason, each option named in it.
    pub(super) notes: Vec<String>,
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
    /// The option makes the sender delete what it sent.
    #[error("`{0}` would remove the watched files once they are sent, and then the copies")]
    RemovesSource(String),
}

/// Why an option is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Scope,
    Deletion,
    Output,
    Update,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Scope => "each run decides itself which paths it sends",
            Self::Deletion => "each run decides itself what it deletes; <delete start> switches deleting on and off",
            Self::Output => "the agent reads rsync's output, and tells it in its own way",
            Self::Update => {
                "a file that is newer on the remote would stay different; \
                 <newerOnRemote keep=\"true\"/> in <agent> brings it back"
            }
        }
    }
}

/// Short options that are left out.
const SHORT: &[(char, Reason)] = &[
    ('r', Reason::Scope),
    ('R', Reason::Scope),
    ('0', Reason::Scope),
    ('n', Reason::Scope),
    ('v', Reason::Output),
    ('q', Reason::Output),
    ('i', Reason::Output),
    ('h', Reason::Output),
    ('V', Reason::Output),
    ('u', Reason::Update),
];

/// Long options that are left out, `--delete…` apart.
const LONG: &[(&str, Reason)] = &[
    ("recursive", Reason::Scope),
    ("no-recursive", Reason::Scope),
    ("no-r", Reason::Scope),
    ("relative", Reason::Scope),
    ("no-relative", Reason::Scope),
    ("no-R", Reason::Scope),
    ("no-dirs", Reason::Scope),
    ("no-d", Reason::Scope),
    ("files-from", Reason::Scope),
    ("from0", Reason::Scope),
    ("no-from0", Reason::Scope),
    ("ignore-missing-args", Reason::Scope),
    ("dry-run", Reason::Scope),
    ("list-only", Reason::Scope),
    ("del", Reason::Deletion),
    ("verbose", Reason::Output),
    ("no-verbose", Reason::Output),
    ("no-v", Reason::Output),
    ("quiet", Reason::Output),
    ("progress", Reason::Output),
    ("no-progress", Reason::Output),
    ("info", Reason::Output),
    ("debug", Reason::Output),
    ("itemize-changes", Reason::Output),
    ("stats", Reason::Output),
    ("out-format", Reason::Output),
    ("log-format", Reason::Output),
    ("human-readable", Reason::Output),
    ("no-human-readable", Reason::Output),
    ("no-h", Reason::Output),
    ("help", Reason::Output),
    ("version", Reason::Output),
    ("update", Reason::Update),
    ("no-update", Reason::Update),
    ("no-u", Reason::Update),
];

/// Short options whose value is the rest of the word, or the next word.
const SHORT_WITH_VALUE: &str = "BefMT@";

/// Long options whose value may be the next word (rsync 3.5.0's manual page).
const LONG_WITH_VALUE: &[&str] = &[
    "address",
    "backup-dir",
    "block-size",
    "bwlimit",
    "cc",
    "checksum-choice",
    "checksum-seed",
    "chmod",
    "chown",
    "compare-dest",
    "compress-choice",
    "compress-level",
    "compress-threads",
    "config",
    "confine-root",
    "contimeout",
    "copy-as",
    "copy-dest",
    "debug",
    "dparam",
    "early-input",
    "exclude",
    "exclude-from",
    "files-from",
    "filter",
    "groupmap",
    "iconv",
    "include",
    "include-from",
    "info",
    "link-dest",
    "log-file",
    "log-file-format",
    "log-format",
    "max-alloc",
    "max-delete",
    "max-size",
    "min-size",
    "modify-window",
    "only-write-batch",
    "out-format",
    "outbuf",
    "partial-dir",
    "password-file",
    "port",
    "protocol",
    "read-batch",
    "remote-option",
    "rsh",
    "rsync-path",
    "skip-compress",
    "sockopts",
    "stderr",
    "stop-after",
    "stop-at",
    "suffix",
    "temp-dir",
    "time-limit",
    "timeout",
    "usermap",
    "write-batch",
    "zc",
    "zl",
    "zt",
];

/// Whether the long option `name` of rsync has a value, which may be the next word.
pub fn takes_value(name: &str) -> bool {
    LONG_WITH_VALUE.contains(&name)
}

/// Whether the short option `letter` of rsync has a value: the rest of its word, or the next word.
pub fn takes_short_value(letter: char) -> bool {
    SHORT_WITH_VALUE.contains(letter)
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
        } else if let Some(at) = word.find(|letter| SHORT_WITH_VALUE.contains(letter)).filter(|_| word.starts_with('-'))
        {
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
            let flags = bundle.split(|letter| SHORT_WITH_VALUE.contains(letter)).next().unwrap_or_default();
            if flags.contains(short) {
                return true;
            }
            if bundle.ends_with(|letter| SHORT_WITH_VALUE.contains(letter)) && flags.len() + 1 == bundle.len() {
                words.next();
            }
        }
    }
    false
}

impl Params {
    /// Splits `text` as a shell would, and sorts its options. With `keep_newer`, `-u` is kept, or added.
    pub(super) fn read(text: &str, keep_newer: bool) -> Result<Self, ParamsError> {
        let mut words = shlex::split(text).ok_or(ParamsError::Unbalanced)?.into_iter();
        let mut kept = Vec::new();
        let mut left_out: Vec<(Reason, String)> = Vec::new();
        let mut update = false;
        let stays = |reason: Reason| reason == Reason::Update && keep_newer;
        while let Some(word) = words.next() {
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                if name.is_empty() {
                    return Err(ParamsError::NoOption(word));
                }
                if matches!(name, "remove-source-files" | "remove-sent-files") {
                    return Err(ParamsError::RemovesSource(word));
                }
                update |= name == "update";
                let reason = match name.strip_prefix("no-").unwrap_or(name) {
                    deletion if deletion == "delete" || deletion.starts_with("delete-") => Some(Reason::Deletion),
                    _ => LONG.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason),
                };
                let detached = value.is_none() && LONG_WITH_VALUE.contains(&name);
                let value = match detached {
                    true => Some(words.next().ok_or_else(|| ParamsError::NoValue(word.clone()))?),
                    false => None,
                };
                match reason.filter(|reason| !stays(*reason)) {
                    Some(reason) => left_out.push((reason, word)),
                    None => {
                        kept.push(word);
                        kept.extend(value);
                    }
                }
            } else if let Some(bundle) = word.strip_prefix('-').filter(|bundle| !bundle.is_empty()) {
                let mut left = String::from("-");
                let mut letters = bundle.char_indices();
                let mut value = None;
                let mut partial = false;
                while let Some((at, letter)) = letters.next() {
                    if takes_short_value(letter) {
                        left.push_str(&bundle[at..]);
                        if letters.next().is_none() {
                            value = Some(words.next().ok_or(ParamsError::NoValue(format!("-{letter}")))?);
                        }
                        break;
                    }
                    if letter == 'P' {
                        // It stands for two options, one of them ours to decide.
                        partial = true;
                        left_out.push((Reason::Output, "the --progress of -P".to_owned()));
                        continue;
                    }
                    update |= letter == 'u';
                    match SHORT.iter().find(|(known, reason)| *known == letter && !stays(*reason)) {
                        Some((_, reason)) => left_out.push((*reason, format!("-{letter}"))),
                        None => left.push(letter),
                    }
                }
                if partial {
                    kept.push("--partial".to_owned());
                }
                if left.len() > 1 {
                    kept.push(left);
                    kept.extend(value);
                }
            } else {
                return Err(ParamsError::NoOption(word));
            }
        }
        if keep_newer && !update {
            kept.push("-u".to_owned());
        }
        Ok(Self { kept, notes: notes(&left_out) })
    }
}

fn notes(left_out: &[(Reason, String)]) -> Vec<String> {
    [Reason::Scope, Reason::Deletion, Reason::Output, Reason::Update]
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
            kept("-rRnv0iqu --del --delete --delete-missing-args --files-from x --from0 --debug ALL --stats")
                .is_empty()
        );
        assert_eq!(kept("-aP"), ["--partial", "-a"]);
        assert!(Params::read("-tz", false).unwrap().notes.is_empty());
    }

    #[test]
    fn a_value_is_not_a_bundle_of_options() {
        assert_eq!(kept("-are 'ssh -p 22 -u' -r"), ["-ae", "ssh -p 22 -u"]);
        assert_eq!(
            kept("-rTrun -e ssh -B 700 -f '- run' -M--verbose -@-1"),
            ["-Trun", "-e", "ssh", "-B", "700", "-f", "- run", "-M--verbose", "-@-1"]
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
    fn refuses_what_rsync_would_misread() {
        assert_eq!(Params::read("-a 'x", false), Err(ParamsError::Unbalanced));
        assert_eq!(Params::read("-a /etc", false), Err(ParamsError::NoOption("/etc".to_owned())));
        assert_eq!(Params::read("-a --", false), Err(ParamsError::NoOption("--".to_owned())));
        assert_eq!(Params::read("-ae", false), Err(ParamsError::NoValue("-e".to_owned())));
        assert_eq!(Params::read("--exclude", false), Err(ParamsError::NoValue("--exclude".to_owned())));
        assert!(matches!(Params::read("--remove-source-files", false), Err(ParamsError::RemovesSource(_))));
    }
}
