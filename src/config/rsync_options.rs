//! The options of rsync 3.0 to 3.5, each by what it does to a mirror.
//!
//! A mirror promises that a remote becomes equal to the disk. Options that break this promise without an error are
//! refused, options that leave entries out are accepted with a warning, options that each run sets itself are left out,
//! and all others are passed on.

/// One option.
#[derive(Debug)]
pub(super) struct RsyncOption {
    /// Short form, without its hyphen.
    pub(super) short: Option<char>,
    /// Long form, without its hyphens; empty if there is none.
    pub(super) long: &'static str,
    /// Whether it takes a value.
    pub(super) has_value: bool,
    /// Whether rsync knows a `--no-` form.
    is_negatable: bool,
    /// Entries that never arrive with the `--no-` form.
    without: Option<&'static str>,
    kind: Kind,
}

/// Effect of an option on a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Passed on to rsync.
    Passed,
    /// Each run sets it, or the agent does: left out.
    Decided(Reason),
    /// Copies would differ, or nothing would be mirrored.
    Refused {
        /// What would go wrong.
        why: &'static str,
        /// The alternative.
        instead: &'static str,
    },
    /// As `Refused` if the value is a path that does not start with `/`.
    RefusedRelative {
        /// What would go wrong.
        why: &'static str,
        /// The alternative.
        instead: &'static str,
    },
    /// Passed on with a warning: it keeps entries from the remotes.
    Selecting(&'static str),
}

/// Why an option is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Scope,
    Deletion,
    Output,
    Update,
}

impl Reason {
    pub(super) const ALL: [Self; 4] = [Self::Scope, Self::Deletion, Self::Output, Self::Update];

    pub(super) fn text(self) -> &'static str {
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

impl RsyncOption {
    const fn new(long: &'static str, kind: Kind) -> Self {
        Self { short: None, long, has_value: false, is_negatable: false, without: None, kind }
    }

    const fn passed(long: &'static str) -> Self {
        Self::new(long, Kind::Passed)
    }

    const fn decided(long: &'static str, reason: Reason) -> Self {
        Self::new(long, Kind::Decided(reason))
    }

    const fn refused(long: &'static str, why: &'static str, instead: &'static str) -> Self {
        Self::new(long, Kind::Refused { why, instead })
    }

    const fn selecting(long: &'static str, what: &'static str) -> Self {
        Self::new(long, Kind::Selecting(what))
    }

    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn value(mut self) -> Self {
        self.has_value = true;
        self
    }

    const fn no(mut self) -> Self {
        self.is_negatable = true;
        self
    }

    /// Negatable; then `what` never arrives.
    const fn no_leaves_out(mut self, what: &'static str) -> Self {
        self.without = Some(what);
        self.no()
    }

    /// Name for messages, with hyphens.
    fn name(&self) -> String {
        match self.short {
            Some(letter) if self.long.is_empty() => format!("-{letter}"),
            _ => format!("--{}", self.long),
        }
    }
}

/// An option as it is written: itself, or its `--no-` form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) option: &'static RsyncOption,
    pub(super) is_negated: bool,
}

impl Written {
    /// What it does to a mirror.
    pub(super) fn kind(self) -> Kind {
        match (self.is_negated, self.option.kind) {
            (false, kind) | (true, kind @ Kind::Decided(_)) => kind,
            (true, _) => self.option.without.map_or(Kind::Passed, Kind::Selecting),
        }
    }

    /// Whether it takes a value: no `--no-` form does.
    pub(super) fn has_value(self) -> bool {
        self.option.has_value && !self.is_negated
    }
}

/// The option with the long name `name`, such as `delete` or `no-links`.
pub(super) fn long(name: &str) -> Option<Written> {
    let known = |name: &str| OPTIONS.iter().find(|option| !option.long.is_empty() && option.long == name);
    if let Some(option) = known(name) {
        return Some(Written { option, is_negated: false });
    }
    let base = name.strip_prefix("no-")?;
    let mut letters = base.chars();
    let by_letter = || match (letters.next(), letters.next()) {
        (Some(letter), None) => OPTIONS.iter().find(|option| option.short == Some(letter)),
        _ => None,
    };
    let option = known(base).or_else(by_letter).filter(|option| option.is_negatable)?;
    Some(Written { option, is_negated: true })
}

/// The option with the letter `letter`.
pub(super) fn short(letter: char) -> Option<Written> {
    let option = OPTIONS.iter().find(|option| option.short == Some(letter))?;
    Some(Written { option, is_negated: false })
}

/// The known long name that is closest to `name`, with its hyphens.
pub(super) fn nearest(name: &str) -> Option<String> {
    let (prefix, base) = match name.strip_prefix("no-") {
        Some(base) => ("--no-", base),
        None => ("--", name),
    };
    let of_form = |option: &&RsyncOption| !option.long.is_empty() && (prefix == "--" || option.is_negatable);
    let known = OPTIONS.iter().filter(of_form).map(|option| option.long);
    super::mistake::nearest(base, known).map(|nearest| format!("{prefix}{nearest}"))
}

/// Pairs of options that break a mirror together: names, consequence, alternative.
const CONFLICTS: [(&str, &str, &str, &str); 2] = [
    (
        "hard-links",
        "inplace",
        "a file that replaces one name of a hard link is written through all its names on the remote",
        "leave one of them out",
    ),
    (
        "link-dest",
        "inplace",
        "a changed file is written through its hard link into the directory of --link-dest",
        "leave one of them out, or use --copy-dest",
    ),
];

/// The first pair among `present` that breaks a mirror: names with hyphens, consequence, alternative.
pub(super) fn conflict(present: &[&RsyncOption]) -> Option<(String, String, &'static str, &'static str)> {
    let find = |name: &str| present.iter().find(|option| option.long == name).map(|option| option.name());
    CONFLICTS.iter().find_map(|(one, other, why, instead)| Some((find(one)?, find(other)?, *why, *instead)))
}

const DAEMON: &str = "it is an option of a server";
const NO_MIRROR: &str = "nothing would be mirrored";
const LEAVE_OUT: &str = "leave it out";
const STOPS: &str = "a run that takes longer is cut off, so that a full sync of a large tree never ends";
const SENT_TREE: &str = "the agent names the paths of each run";
const EXCLUDED: &str = "what the rule excludes";
const APPEND: &str = "a file that changed in its middle stays different on the remote";
const APPEND_INSTEAD: &str = "use --inplace: it sends what differs and writes into the file as well";
const BATCH: &str = "each run would overwrite the batch file of the one before";

use Reason::{Deletion, Output, Scope, Update};
use RsyncOption as O;

/// In the order of `rsync --help` of 3.5.0; then older names.
static OPTIONS: &[RsyncOption] = &[
    O::decided("verbose", Output).short('v').no(),
    O::decided("info", Output).value(),
    O::decided("debug", Output).value(),
    O::decided("stderr", Output).value(),
    O::decided("quiet", Output).short('q'),
    O::passed("motd").no(),
    O::passed("checksum").short('c').no(),
    O::passed("archive").short('a'),
    O::decided("recursive", Scope).short('r').no(),
    O::passed("inc-recursive").no(),
    O::passed("i-r").no(),
    O::decided("relative", Scope).short('R').no(),
    O::decided("implied-dirs", Scope).no(),
    O::decided("i-d", Scope).no(),
    O::passed("backup").short('b').no(),
    O::new(
        "backup-dir",
        Kind::RefusedRelative {
            why: "the directory lies in the mirror, and a full sync deletes it or moves it into itself",
            instead: "write a path from / on, outside of the remote's directory",
        },
    )
    .value(),
    O::passed("suffix").value(),
    O::decided("update", Update).short('u').no(),
    O::passed("inplace").no(),
    O::refused("append", APPEND, APPEND_INSTEAD).no(),
    O::refused("append-verify", APPEND, APPEND_INSTEAD),
    O::decided("dirs", Scope).short('d').no(),
    O::decided("old-dirs", Scope),
    O::decided("old-d", Scope),
    O::passed("mkpath").no(),
    O::passed("links").short('l').no_leaves_out("symbolic links"),
    O::passed("copy-links").short('L'),
    O::passed("copy-unsafe-links"),
    O::selecting("safe-links", "symbolic links that point outside of the tree"),
    O::passed("insecure-links").no(),
    O::passed("confine-root").value(),
    O::passed("munge-links").no(),
    O::passed("copy-dirlinks").short('k'),
    O::passed("keep-dirlinks").short('K'),
    O::passed("hard-links").short('H').no(),
    O::passed("perms").short('p').no(),
    O::passed("executability").short('E'),
    O::passed("chmod").value(),
    O::passed("acls").short('A').no(),
    O::passed("xattrs").short('X').no(),
    O::passed("owner").short('o').no(),
    O::passed("group").short('g').no(),
    O::passed("devices").no_leaves_out("device files"),
    O::passed("copy-devices"),
    O::refused("write-devices", "a device of the remote would be overwritten", "leave it out: -a sends device files")
        .no(),
    O::passed("specials").no_leaves_out("sockets and FIFOs"),
    O::selecting("drop-D", "device files, sockets and FIFOs"),
    O::passed("").short('D').no_leaves_out("device files, sockets and FIFOs"),
    O::passed("times").short('t').no(),
    O::passed("atimes").short('U').no(),
    O::passed("open-noatime").no(),
    O::passed("crtimes").short('N').no(),
    O::passed("omit-dir-times").short('O').no(),
    O::passed("omit-link-times").short('J').no(),
    O::passed("super").no(),
    O::passed("fake-super"),
    O::passed("sparse").short('S').no(),
    O::passed("preallocate"),
    O::refused("dry-run", NO_MIRROR, "sersyncctl check tries each remote and changes nothing").short('n'),
    O::passed("whole-file").short('W').no(),
    O::passed("checksum-choice").value(),
    O::passed("cc").value(),
    O::selecting("one-file-system", "the contents of file systems that are mounted inside of the tree").short('x').no(),
    O::passed("block-size").short('B').value(),
    O::passed("rsh").short('e').value(),
    O::passed("rsync-path").value(),
    O::selecting("existing", "new files and directories"),
    O::selecting("ignore-non-existing", "new files and directories"),
    O::refused("ignore-existing", "a changed file stays different on the remote", LEAVE_OUT),
    O::refused(
        "remove-source-files",
        "it removes the watched files once they are sent, and then the copies",
        LEAVE_OUT,
    ),
    O::decided("del", Deletion),
    O::decided("delete", Deletion),
    O::decided("delete-before", Deletion),
    O::decided("delete-during", Deletion),
    O::decided("delete-delay", Deletion),
    O::decided("delete-after", Deletion),
    O::decided("delete-excluded", Deletion),
    O::decided("ignore-missing-args", Scope),
    O::decided("delete-missing-args", Deletion),
    O::decided("ignore-errors", Deletion).no(),
    O::decided("force", Deletion).no(),
    O::passed("max-delete").value(),
    O::selecting("max-size", "files larger than that").value(),
    O::selecting("min-size", "files smaller than that").value(),
    O::passed("max-alloc").value().no(),
    O::passed("partial").no(),
    O::passed("partial-dir").value(),
    O::passed("delay-updates").no(),
    O::selecting("prune-empty-dirs", "empty directories").short('m').no(),
    O::passed("numeric-ids").no(),
    O::passed("usermap").value(),
    O::passed("groupmap").value(),
    O::passed("chown").value(),
    O::passed("timeout").value().no(),
    O::passed("contimeout").value().no(),
    O::passed("ignore-times").short('I'),
    O::refused(
        "size-only",
        "a file that changes and keeps its size stays different on the remote",
        "use --checksum, or --modify-window=2 for a remote with coarse times",
    ),
    O::passed("modify-window").short('@').value(),
    O::new(
        "temp-dir",
        Kind::RefusedRelative {
            why: "the directory lies in the mirror, a full sync deletes it, and each run fails from then on",
            instead: "write a path from / on, outside of the remote's directory",
        },
    )
    .short('T')
    .value(),
    O::passed("fuzzy").short('y').no(),
    O::refused(
        "compare-dest",
        "a file that is equal to the one in that directory does not arrive",
        "use --copy-dest: it copies such a file on the remote",
    )
    .value(),
    O::passed("copy-dest").value(),
    O::passed("link-dest").value(),
    O::passed("compress").short('z').no(),
    O::passed("compress-choice").value(),
    O::passed("compress-level").value(),
    O::passed("compress-threads").value(),
    O::passed("skip-compress").value(),
    O::selecting("cvs-exclude", "object files, backups, .git and the like, and what .cvsignore files name").short('C'),
    O::selecting("filter", EXCLUDED).short('f').value(),
    O::selecting("", "what the files .rsync-filter in the tree exclude").short('F'),
    O::selecting("exclude", EXCLUDED).value(),
    O::selecting("exclude-from", EXCLUDED).value(),
    O::selecting("include", EXCLUDED).value(),
    O::selecting("include-from", EXCLUDED).value(),
    O::refused("files-from", SENT_TREE, "use <filter> to leave paths out").value(),
    O::decided("from0", Scope).short('0').no(),
    O::passed("old-args").no(),
    O::passed("secluded-args").short('s').no(),
    O::passed("trust-sender"),
    O::passed("copy-as").value(),
    O::passed("address").value(),
    O::passed("port").value(),
    O::passed("sockopts").value(),
    O::passed("blocking-io").no(),
    O::passed("outbuf").value(),
    O::decided("stats", Output),
    O::passed("8-bit-output").short('8').no(),
    O::decided("human-readable", Output).short('h').no(),
    O::decided("progress", Output).no(),
    // Two options in one: the reader of params keeps the first.
    O::passed("").short('P'),
    O::decided("itemize-changes", Output).short('i').no(),
    O::passed("remote-option").short('M').value(),
    O::decided("out-format", Output).value(),
    O::passed("log-file").value(),
    O::passed("log-file-format").value(),
    O::passed("password-file").value(),
    O::passed("early-input").value(),
    O::refused("list-only", NO_MIRROR, LEAVE_OUT),
    O::passed("bwlimit").value().no(),
    O::refused("stop-after", STOPS, LEAVE_OUT).value(),
    O::refused("stop-at", STOPS, LEAVE_OUT).value(),
    O::passed("fsync"),
    O::refused("write-batch", BATCH, "name the other host as another <remote>").value(),
    O::refused("only-write-batch", NO_MIRROR, "name the other host as another <remote>").value(),
    O::refused("read-batch", "the tree would not be read", LEAVE_OUT).value(),
    O::passed("protocol").value(),
    O::passed("iconv").value().no(),
    O::passed("checksum-seed").value(),
    O::passed("ipv4").short('4'),
    O::passed("ipv6").short('6'),
    O::decided("version", Output).short('V'),
    O::decided("help", Output),
    O::decided("msgs2stderr", Output).no(),
    O::decided("log-format", Output).value(),
    O::passed("old-compress"),
    O::passed("new-compress"),
    O::passed("zc").value(),
    O::passed("zl").value(),
    O::passed("zt").value(),
    O::passed("qsort"),
    O::passed("protect-args").no(),
    O::refused("time-limit", STOPS, LEAVE_OUT).value(),
    O::refused("remove-sent-files", "it removes the watched files once they are sent, and then the copies", LEAVE_OUT),
    O::refused("server", DAEMON, LEAVE_OUT),
    O::refused("sender", DAEMON, LEAVE_OUT),
    O::refused("daemon", DAEMON, LEAVE_OUT),
    O::refused("config", DAEMON, LEAVE_OUT).value(),
    O::refused("dparam", DAEMON, LEAVE_OUT).value(),
    O::refused("detach", DAEMON, LEAVE_OUT).no(),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn each_option_of_the_installed_rsync_is_known() {
        let output = Command::new("rsync").arg("--help").output().unwrap();
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let options = help.lines().skip_while(|line| *line != "Options").skip(1).take_while(|line| !line.is_empty());
        let mut seen = 0;
        for line in options.filter(|line| line.starts_with('-')) {
            let names = line.split("  ").next().unwrap_or_default();
            for word in names.split([',', ' ']).filter(|word| word.starts_with('-') && *word != "--no-OPTION") {
                let (name, has_value) = word.split_once('=').map_or((word, false), |(name, _)| (name, true));
                let known = match name.strip_prefix("--") {
                    Some(name) => long(name),
                    None => name.chars().nth(1).and_then(short),
                };
                let known = known.unwrap_or_else(|| panic!("{name} is not in the table"));
                assert!(known.has_value() || !has_value, "{name} takes a value");
                seen += 1;
            }
        }
        assert!(seen > 150, "only {seen} names were read from rsync --help");
    }

    #[test]
    fn the_table_agrees_with_the_installed_rsync_on_values_and_negations() {
        let accepts = |words: &[&str]| {
            // The version is printed after all options were read.
            let output = Command::new("rsync").args(words).args(["/", "a:", "b:"]).output().unwrap();
            !String::from_utf8_lossy(&output.stderr).contains("unknown option")
        };
        assert!(!accepts(&["--bogus"]));
        for option in OPTIONS.iter().filter(|option| option.is_negatable && !option.long.is_empty()) {
            // rsync 3.5.0 knows no such form; it was accepted, and left out, before there was a table.
            if !matches!(option.long, "update" | "max-alloc" | "detach") {
                let name = format!("--no-{}", option.long);
                assert!(accepts(&[&name]), "{name}");
            }
        }
    }

    #[test]
    fn no_name_stands_in_the_table_twice() {
        for (at, option) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[at + 1..] {
                assert!(option.long.is_empty() || option.long != other.long, "--{}", option.long);
                assert!(option.short.is_none() || option.short != other.short, "{:?}", option.short);
            }
        }
    }
}
