//! What rsync prints: totals, progress, deletions, and complaints that name a path.
//!
//! Written against the output of rsync 3.0.6 to 3.5.0 in the C locale. rsync writes bytes that it takes for
//! unprintable as `\#` and three octal digits; everything here undoes that.

use super::fault::{DELETIONS_STOPPED, Fault, name};
use crate::path::RelPath;
use std::path::Path;

/// The totals that `--stats` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Bytes sent, protocol included.
    pub bytes_sent: u64,
    /// Entries made, changed or deleted.
    pub entries: u64,
}

impl Totals {
    /// Adds those of another run.
    pub fn add(&mut self, other: Self) {
        self.bytes_sent = self.bytes_sent.saturating_add(other.bytes_sent);
        self.entries = self.entries.saturating_add(other.entries);
    }

    /// Takes in one line of stdout.
    pub(super) fn take_line(&mut self, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(line) else { return };
        let Some((label, value)) = line.split_once(": ") else { return };
        let number = || {
            let digits = value.split_whitespace().next().unwrap_or("").replace([',', '.'], "");
            digits.parse::<u64>().unwrap_or(0)
        };
        let mut told = Self::default();
        match label {
            "Total bytes sent" => told.bytes_sent = number(),
            // 3.0 says "Number of files transferred", later ones count the kinds apart.
            "Number of files transferred" | "Number of regular files transferred" | "Number of deleted files" => {
                told.entries = number();
            }
            // "12 (reg: 10, dir: 2)": the regular ones are counted as transferred.
            "Number of created files" => told.entries = number().saturating_sub(labelled(value, "reg: ")),
            _ => {}
        }
        self.add(told);
    }
}

fn labelled(value: &str, label: &str) -> u64 {
    let Some((_, rest)) = value.split_once(label) else { return 0 };
    rest.chars().filter(|c| *c != ',').take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// How far a run is, by rsync's own estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// From 0.0 to 1.0: the larger one of the shares of bytes sent and of entries checked.
    pub fraction: f64,
    /// Bytes sent so far.
    pub bytes: u64,
    /// Entries checked so far.
    pub checked: u64,
    /// Entries to check; grows until rsync has listed all.
    pub total: u64,
}

impl Progress {
    /// From a line that `--info=progress2` prints: `  1,238,099  42%  146.38kB/s  0:00:08 …`.
    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
        let bytes = words.next()?.replace([',', '.'], "").parse().ok()?;
        // A whole number: as a fraction even "NaN%" would be one.
        let percent: u8 = words.next()?.strip_suffix('%')?.parse().ok()?;
        // `(xfr#5, to-chk=990/1000)`; `ir-chk` while the list still grows. A line within a file has none.
        let entries = words.filter_map(|word| word.strip_suffix(')')?.split_once("-chk=")).next_back();
        let (is_listed, checked, total) = entries.map_or((false, 0, 0), |(kind, counts)| {
            let (left, total) = counts.split_once('/').unwrap_or_default();
            let (left, total) = (left.parse().unwrap_or(0), total.parse().unwrap_or(0_u64));
            (kind == "to", total.saturating_sub(left), total)
        });
        let of_entries = if is_listed && total > 0 { checked as f64 / total as f64 } else { 0.0 };
        Some(Self { fraction: (f64::from(percent) / 100.0).max(of_entries).min(1.0), bytes, checked, total })
    }
}

/// How many entries a run deleted, from the line of `--stats` that says so.
pub(super) fn deleted(line: &[u8]) -> Option<u64> {
    count(line, b"Number of deleted files: ")
}

/// The number behind `label` in a line of `--stats`.
pub(super) fn count(line: &[u8], label: &[u8]) -> Option<u64> {
    let count = line.strip_prefix(label)?;
    let digits = count.iter().take_while(|byte| **byte != b' ').filter(|byte| byte.is_ascii_digit());
    Some(digits.fold(0_u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

/// A path that would be deleted, and whether it is a directory, from a line of a dry run.
pub(super) fn deletion(line: &[u8]) -> Option<(RelPath, bool)> {
    // The itemized column is eleven wide and a blank follows it; a name may begin with blanks of its own.
    let bytes = unescape(line.strip_prefix(b"*deleting   ")?);
    let (bytes, is_directory) = match bytes.strip_suffix(b"/") {
        Some(directory) => (directory, true),
        None => (bytes.as_slice(), false),
    };
    Some((RelPath::new(bytes).ok()?, is_directory))
}

/// Undoes `\#ooo`.
pub(super) fn unescape(printed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(printed.len());
    let mut rest = printed;
    while let Some((first, tail)) = rest.split_first() {
        if let [b'\\', b'#', digits @ ..] = rest
            && let Some(octal) = digits.get(..3).filter(|octal| octal.iter().all(u8::is_ascii_digit))
            && let Some(byte) = std::str::from_utf8(octal).ok().and_then(|octal| u8::from_str_radix(octal, 8).ok())
        {
            bytes.push(byte);
            rest = &digits[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

/// What rsync complained of, path by path.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Complaints {
    /// Paths that failed, with the words about them.
    pub failed: Vec<(RelPath, Fault)>,
    /// Paths that changed or vanished while they were sent.
    pub vanished: Vec<RelPath>,
    /// Paths that were not sent, or may not have been, without a change of their own.
    pub unsent: Vec<RelPath>,
    /// A directory could not be read, or deletions were skipped: recursive paths are not done.
    pub trees_incomplete: bool,
    /// There were complaints that do not matter.
    pub overlooked: bool,
    /// Deletions by comparison that were left out.
    pub withheld: u64,
    /// Some of them.
    pub withheld_paths: Vec<RelPath>,
    /// A complaint about something that could not be told to be a path of ours.
    pub unnamed: Option<Fault>,
}

/// What is needed to tell which path of ours a complaint is about.
pub(super) struct Reader<'a> {
    /// The root, as the kernel knows it: rsync names local files so.
    pub root: &'a Path,
    /// What the remote puts before our paths ([`super::Endpoint`]).
    pub prefix: &'a [u8],
    /// Whether a path has to do with the batch.
    pub concerns: &'a dyn Fn(&RelPath) -> bool,
    /// Whether it does not matter here that a directory cannot be read.
    pub overlook: &'a dyn Fn(&RelPath) -> bool,
    /// Whether a path is on disk.
    pub exists: &'a dyn Fn(&RelPath) -> bool,
}

/// The number in `Deletions stopped due to --max-delete limit (5 skipped)`, over all lines that say so.
pub(super) fn skipped_deletions(stderr: &str) -> u64 {
    let counts = stderr.lines().filter_map(|line| {
        let count =
            line.trim().strip_prefix(DELETIONS_STOPPED)?.trim_start().strip_prefix('(')?.strip_suffix(" skipped)")?;
        count.parse().ok()
    });
    counts.fold(0, u64::saturating_add)
}

/// The line about deletions left out; rsync prints it among its results.
pub(super) const DELETIONS_SKIPPED: &[u8] = b"IO error encountered -- skipping file deletion";

impl Reader<'_> {
    /// Reads the complaints of a partial run.
    pub fn complaints(&self, stderr: &str) -> Complaints {
        let mut found = Complaints::default();
        for line in stderr.lines().map(str::trim_end) {
            if line.is_empty() || line.starts_with("rsync error:") || line.starts_with("rsync warning:") {
                continue;
            }
            // A name may hold any words: only those around it are rsync's.
            let name = name_in(line);
            let frame = name.as_ref().map_or(line.to_owned(), |name| [&line[..name.start], &line[name.end..]].concat());
            let path = name.and_then(|name| self.path(&line[name], &frame));
            let paths = path.as_ref().map(|path| self.paths(path, &frame)).unwrap_or_default();
            // The path went, became something else between our look and rsync's (ENOENT, ENOTDIR, EISDIR, ELOOP), or was
            // written while it was sent: rsync reports a file that became shorter as ENODATA.
            let changed = ["(2)", "(20)", "(21)", "(40)"].iter().any(|errno| frame.ends_with(errno))
                || frame.contains("read errors mapping") && frame.ends_with("(61)");
            let vanished = frame.starts_with("file has vanished: ")
                || frame.starts_with("directory has vanished: ")
                || frame.contains("failed verification -- update discarded.")
                || changed && frame.contains("[sender]");
            if vanished && !paths.is_empty() {
                found.vanished.extend(paths);
                continue;
            }
            // rsync looks at all that is beside what it was asked for. What went there is none of this run's concern.
            let is_of_others = vanished && path.is_some_and(|path| !(self.concerns)(&path));
            if is_of_others || !paths.is_empty() && paths.iter().all(self.overlook) {
                found.overlooked = true;
                continue;
            }
            if frame.contains("skipping file deletion") || frame.contains("opendir") || frame.contains("readdir") {
                found.trees_incomplete = true;
            }
            if is_informational(&frame) {
                continue;
            }
            let fault = Fault::from_frame(&frame, line).unwrap_or_else(|| Fault::new(name::PARTIAL_TRANSFER, line));
            match paths.is_empty() {
                false => found.failed.extend(paths.into_iter().map(|path| (path, fault.clone()))),
                true => found.unnamed = Some(fault),
            }
        }
        found
    }

    /// The path that a printed name stands for, or of which it is a temporary name; `None`, if that cannot be told.
    fn path(&self, printed: &str, frame: &str) -> Option<RelPath> {
        let bytes = unescape(printed.as_bytes());
        let of_the_remote = ["[receiver]", "[generator]", " (in "].iter().any(|mark| frame.contains(mark));
        let below = match bytes.strip_prefix(self.root.as_os_str().as_encoded_bytes()) {
            Some([b'/', below @ ..]) if !of_the_remote => Some(below),
            Some([]) if !of_the_remote => Some(&[][..]),
            _ => match bytes.strip_prefix(b"/") {
                Some(absolute) => absolute.strip_prefix(self.prefix).or_else(|| behind(&bytes, self.prefix)),
                None => Some(bytes.as_slice()),
            },
        };
        below.and_then(|below| RelPath::new(below.strip_suffix(b"/").unwrap_or(below)).ok())
    }

    /// The paths of ours that `path` may stand for; none, if this run has nothing to do with it.
    fn paths(&self, path: &RelPath, frame: &str) -> Vec<RelPath> {
        let mut originals = match frame.contains("[sender]") {
            true => Vec::new(),
            false => originals(path),
        };
        originals.retain(|original| (self.concerns)(original));
        if (self.concerns)(path) && (originals.is_empty() || (self.exists)(path)) {
            return vec![path.clone()];
        }
        if originals.iter().any(|original| (self.exists)(original)) {
            originals.retain(|original| (self.exists)(original));
        }
        originals
    }
}

/// What follows `/prefix` in `bytes`: a directory given relative to the remote's home is named from `/` on.
fn behind<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let whole = [b"/", prefix].concat();
    let at = bytes.windows(whole.len()).position(|window| window == whole)?;
    (!prefix.is_empty()).then(|| &bytes[at + whole.len()..])
}

/// Lines that tell of nothing that stays undone, or of what another line names.
fn is_informational(frame: &str) -> bool {
    const BEGINNINGS: [&str; 6] = [
        "skipping non-regular file",
        "skipping directory",
        "IO error encountered -- skipping file deletion",
        "cannot delete non-empty directory",
        "WARNING: ",
        // rsync 3.5 of a link that was swapped in; the next line names the path.
        "refusing to follow a symlink owned by an untrusted user",
    ];
    BEGINNINGS.iter().any(|beginning| frame.starts_with(beginning)) || frame.contains("(will try again)")
}

/// Where in a line the name is that it is about: in quotes, or in brackets behind a function's name.
fn name_in(line: &str) -> Option<std::ops::Range<usize>> {
    if let (Some(start), Some(end)) = (line.find('"'), quote_end(line))
        && start < end
    {
        return Some(start + 1..end);
    }
    let called = ["unlink(", "rmdir(", "readlink_stat(", "mkdir(", "stat("].iter();
    if let Some(start) = called.filter_map(|call| Some(line.find(call)? + call.len())).min() {
        return line.rfind(") failed").filter(|end| start <= *end).map(|end| start..end);
    }
    // "could not make way for new regular file: a/b", "ERROR: a/b failed verification -- update discarded."
    if let Some(rest) = line.strip_prefix("could not make way for ") {
        return Some(line.len() - rest.split_once(": ")?.1.len()..line.len());
    }
    let start = "ERROR: ".len();
    line.strip_prefix("ERROR: ")?.rfind(" failed verification").map(|end| start..start + end)
}

/// The quote that closes the first name: rename complaints name two, and a name may hold quotes itself.
fn quote_end(line: &str) -> Option<usize> {
    let renamed = line.find("\" -> \"");
    let closed = ["\" (in ", "\" failed", "\": ", "\""].iter().find_map(|end| line.rfind(end));
    renamed.or(closed)
}

/// What `path` may be a temporary name of: rsync writes `NAME`, and `.NAME` as well, into `.NAME.XXXXXX` beside it.
fn originals(path: &RelPath) -> Vec<RelPath> {
    use std::os::unix::ffi::OsStrExt;
    let name = path.file_name().as_bytes();
    let Some((hidden, random)) = name.len().checked_sub(7).and_then(|at| name.split_at_checked(at)) else {
        return Vec::new();
    };
    let is_random = random[0] == b'.' && random[1..].iter().all(u8::is_ascii_alphanumeric);
    match (hidden.strip_prefix(b"."), path.parent()) {
        (Some(stem), Some(parent)) if is_random && !stem.is_empty() => {
            [stem, hidden].map(|name| parent.join(std::ffi::OsStr::from_bytes(name))).into()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    fn complaints(stderr: &str, prefix: &[u8]) -> Complaints {
        let exists = |path: &RelPath| [".env.secret", "b/c", "x\"y"].iter().any(|there| *path == rel(there));
        Reader { root: Path::new("/data/www"), prefix, concerns: &|_| true, overlook: &|_| false, exists: &exists }
            .complaints(stderr)
    }

    #[test]
    fn totals_are_read_from_old_and_new() {
        let mut totals = Totals::default();
        for line in [
            "Number of files: 5 (reg: 3, dir: 2)",
            "Number of created files: 4 (reg: 1, dir: 2, link: 1)",
            "Number of deleted files: 2",
            "Number of regular files transferred: 1,003",
            "Total bytes sent: 12345",
        ] {
            totals.take_line(line.as_bytes());
        }
        assert_eq!(totals, Totals { bytes_sent: 12_345, entries: 1_003 + 2 + 3 });
    }

    #[test]
    fn progress_is_read() {
        let line = b"      1,238,099  42%  146.38kB/s    0:00:08 (xfr#5, to-chk=169/396)";
        let listed = Progress { fraction: 227.0 / 396.0, bytes: 1_238_099, checked: 227, total: 396 };
        assert_eq!(Progress::from_line(line), Some(listed));
        let line = b"1,238,099  42%  146.38kB/s    0:00:08 (xfr#5, ir-chk=169/396)";
        let growing = Progress { fraction: 0.42, bytes: 1_238_099, checked: 227, total: 396 };
        assert_eq!(Progress::from_line(line), Some(growing));
        assert_eq!(Progress::from_line(b"Number of files: 5"), None);
    }

    #[test]
    fn no_figure_is_too_large_and_none_is_no_number() {
        assert_eq!(Progress::from_line(b"1 NaN% 0kB/s"), None);
        assert_eq!(deleted(b"Number of deleted files: 99,999,999,999,999,999,999"), Some(u64::MAX));
        let mut totals = Totals::default();
        for _ in 0..2 {
            totals.take_line(b"Total bytes sent: 18446744073709551615");
            totals.take_line(b"Number of deleted files: 18446744073709551615");
        }
        assert_eq!(totals, Totals { bytes_sent: u64::MAX, entries: u64::MAX });
    }

    #[test]
    fn deletions_are_read_with_all_their_bytes() {
        assert_eq!(deletion(b"*deleting   d/sub/"), Some((rel("d/sub"), true)));
        assert_eq!(deletion(b"*deleting     two blanks"), Some((rel("  two blanks"), false)));
        assert_eq!(deletion(b"*deleting   a\\#012b\\#377"), Some((RelPath::new(b"a\nb\xff").unwrap(), false)));
        assert_eq!(deletion(b".d..t...... ./"), None);
    }

    #[test]
    fn complaints_name_their_paths() {
        let stderr = r#"rsync: [sender] send_files failed to open "/data/www/a/secret": Permission denied (13)
rsync: [receiver] mkstemp "/b/.c.Ab12Cd" (in www) failed: No space left on device (28)
rsync: [generator] delete_file: rmdir(d/e) failed: Directory not empty (39)
rsync: [receiver] rename "/.x"y.Ab12Cd" -> "x"y": Permission denied (13)
rsync: [sender] link_stat "/data/www/now/a/file" failed: Not a directory (20)
ERROR: busy: file failed verification -- update discarded.
cannot delete non-empty directory: was a directory
could not make way for new regular file: was a directory
ERROR: daemon refused to receive file "for\#001bidden"
file has vanished: "/data/www/gone"
rsync: [sender] read errors mapping "/data/www/journal": No data available (61)
rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338) [sender=3.5.0]"#;
        let found = complaints(stderr, b"");
        let failed: Vec<_> = found.failed.iter().map(|(path, fault)| (path.clone(), fault.name)).collect();
        assert_eq!(
            failed,
            [
                (rel("a/secret"), name::PERMISSION_DENIED),
                (rel("b/c"), name::NO_SPACE),
                (rel("d/e"), name::PARTIAL_TRANSFER),
                (rel("x\"y"), name::PERMISSION_DENIED),
                (rel("was a directory"), name::IN_THE_WAY),
                (rel("for\u{1}bidden"), name::PERMISSION_DENIED),
            ]
        );
        assert_eq!(found.vanished, [rel("now/a/file"), rel("busy: file"), rel("gone"), rel("journal")]);
        assert_eq!((found.trees_incomplete, found.unnamed), (false, None));
    }

    #[test]
    fn an_unreadable_directory_leaves_its_tree_undone() {
        let stderr = "rsync: [sender] opendir \"/data/www/a\" failed: Permission denied (13)\nIO error encountered -- skipping file deletion\n";
        let found = complaints(stderr, b"");
        assert!(found.trees_incomplete);
        assert_eq!(found.failed[0].0, rel("a"));
    }

    #[test]
    fn a_name_is_never_taken_for_another() {
        let failed = |line: &str, prefix: &[u8]| -> Vec<_> {
            complaints(line, prefix).failed.into_iter().map(|(path, _)| path).collect()
        };
        let opened = r#"rsync: [sender] send_files failed to open "/data/www/.env.secret": Permission denied (13)"#;
        assert_eq!(failed(opened, b""), [rel(".env.secret")], "a name of the user's own");
        let set = r#"rsync: [generator] failed to set times on "/.env.secret" (in www): Operation not permitted (1)"#;
        assert_eq!(failed(set, b""), [rel(".env.secret")]);
        let made = r#"rsync: [receiver] mkstemp "/.other.Ab12Cd" (in www) failed: Permission denied (13)"#;
        assert_eq!(failed(made, b""), [rel("other"), rel(".other")], "either may be meant");
        let plus = r#"rsync: [sender] send_files failed to open "/data/www/a\#+12": Permission denied (13)"#;
        assert_eq!(failed(plus, b""), [rel(r"a\#+12")]);
        let inside = "rsync: [generator] delete_file: unlink(sub/x) failed: Permission denied (13)";
        assert_eq!(failed(inside, b"sub/"), [rel("sub/x")], "a relative name bears no prefix");
        let same = r#"rsync: [receiver] mkstemp "/data/www/b/x" (in m) failed: Permission denied (13)"#;
        assert_eq!(failed(same, b""), [rel("data/www/b/x")], "the remote knows nothing of our root");
        let home = r#"rsync: [receiver] mkstemp "/home/web/srv/a/x" failed: Permission denied (13)"#;
        assert_eq!(failed(home, b"srv/"), [rel("a/x")]);
        let foreign = r#"rsync: [receiver] mkstemp "/home/web/x" failed: Permission denied (13)"#;
        let found = complaints(foreign, b"srv/");
        assert!(found.failed.is_empty() && found.unnamed.is_some(), "{found:?}");
    }

    #[test]
    fn words_in_a_name_are_not_rsyncs() {
        for name in ["WARNING: ", "skipping directory", "x (will try again)", "could not make way", "opendir"] {
            let line =
                format!("rsync: [sender] send_files failed to open \"/data/www/{name}\": Permission denied (13)");
            let found = complaints(&line, b"");
            assert_eq!(found.failed.len(), 1, "{line}");
            assert_eq!((found.failed[0].0.clone(), found.failed[0].1.name), (rel(name), name::PERMISSION_DENIED));
            assert!(!found.trees_incomplete);
        }
    }

    #[test]
    fn a_temporary_name_stands_for_the_file_of_the_run_though_its_directory_is_not_in_it() {
        let stderr = "rsync: [receiver] mkstemp \"d/.mine.kOLMz9\" (in copy) failed: Permission denied (13)\n";
        let concerns = |path: &RelPath| *path == rel("d/mine") || *path == rel("other");
        let exists = |path: &RelPath| *path == rel("d/mine");
        let reader = Reader {
            root: Path::new("/data/www"),
            prefix: b"",
            concerns: &concerns,
            overlook: &|_| false,
            exists: &exists,
        };
        let found = reader.complaints(stderr);
        assert!(found.unnamed.is_none(), "{found:?}");
        assert_eq!(found.failed.into_iter().map(|(path, _)| path).collect::<Vec<_>>(), [rel("d/mine")]);
    }

    #[test]
    fn what_vanished_beside_the_paths_of_a_run_is_no_failure_of_theirs() {
        let stderr = "file has vanished: \"/data/www/d/other\"\nrsync: [sender] link_stat \"/data/www/d/third\" failed: No such file or directory (2)\n";
        let concerns = |path: &RelPath| *path == rel("d/mine");
        let reader = Reader {
            root: Path::new("/data/www"),
            prefix: b"",
            concerns: &concerns,
            overlook: &|_| false,
            exists: &|_| false,
        };
        let found = reader.complaints(stderr);
        assert_eq!(found, Complaints { overlooked: true, ..Complaints::default() });
        let unreadable = "rsync: [sender] opendir \"/data/www/d/other\" failed: Permission denied (13)\n";
        assert!(reader.complaints(unreadable).unnamed.is_some(), "it may hide something");
    }

    #[test]
    fn a_complaint_without_a_path_is_kept() {
        let found = complaints("rsync: something failed: Odd (99)", b"");
        assert!(found.unnamed.is_some());
    }

    proptest! {
        #[test]
        fn no_output_makes_it_stumble(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            deletion(&bytes);
            Progress::from_line(&bytes);
            Totals::default().take_line(&bytes);
            complaints(&String::from_utf8_lossy(&bytes), b"x/");
        }
    }
}
