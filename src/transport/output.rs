//! What rsync prints: totals, progress, deletions, and complaints that name a path.
//!
//! Written against the output of rsync 3.0.6 to 3.5.0 in the C locale. rsync writes bytes that it takes for
//! unprintable as `\#` and three octal digits; everything here undoes that.

use super::fault::{Fault, name};
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
        self.bytes_sent += other.bytes_sent;
        self.entries += other.entries;
    }

    /// Takes in one line of stdout.
    pub(super) fn take_line(&mut self, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(line) else { return };
        let Some((label, value)) = line.split_once(": ") else { return };
        let number = || {
            let digits = value.split_whitespace().next().unwrap_or("").replace([',', '.'], "");
            digits.parse::<u64>().unwrap_or(0)
        };
        match label {
            "Total bytes sent" => self.bytes_sent += number(),
            // 3.0 says "Number of files transferred", later ones count the kinds apart.
            "Number of files transferred" | "Number of regular files transferred" | "Number of deleted files" => {
                self.entries += number();
            }
            // "12 (reg: 10, dir: 2)": the regular ones are counted as transferred.
            "Number of created files" => self.entries += number().saturating_sub(labelled(value, "reg: ")),
            _ => {}
        }
    }
}

fn labelled(value: &str, label: &str) -> u64 {
    let Some((_, rest)) = value.split_once(label) else { return 0 };
    rest.chars().filter(|c| *c != ',').take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
}

/// How far a run is, by rsync's own estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// From 0.0 to 1.0.
    pub fraction: f64,
    /// Bytes handled so far.
    pub bytes: u64,
}

impl Progress {
    /// From a line that `--info=progress2` prints: `  1,238,099  42%  146.38kB/s  0:00:08 …`.
    pub(super) fn from_line(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
        let bytes = words.next()?.replace([',', '.'], "").parse().ok()?;
        let percent: f64 = words.next()?.strip_suffix('%')?.parse().ok()?;
        Some(Self { fraction: (percent / 100.0).clamp(0.0, 1.0), bytes })
    }
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
fn unescape(printed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(printed.len());
    let mut rest = printed;
    while let Some((first, tail)) = rest.split_first() {
        if let [b'\\', b'#', digits @ ..] = rest
            && let Some(octal) = digits.get(..3)
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
    /// Paths that vanished while they were sent.
    pub vanished: Vec<RelPath>,
    /// A directory could not be read, or deletions were skipped: recursive paths are not done.
    pub trees_incomplete: bool,
    /// A complaint about something that could not be told to be a path of ours.
    pub unnamed: Option<Fault>,
}

/// Reads the complaints of a partial run. `prefix` is what the remote puts before our paths ([`super::Endpoint`]).
pub(super) fn complaints(stderr: &str, root: &Path, prefix: &[u8]) -> Complaints {
    let mut found = Complaints::default();
    for line in stderr.lines().map(str::trim_end) {
        if line.is_empty() || line.starts_with("rsync error:") || line.starts_with("rsync warning:") {
            continue;
        }
        if let Some(quoted) =
            line.strip_prefix("file has vanished: ").or_else(|| line.strip_prefix("directory has vanished: "))
        {
            match path_in(quoted, root, prefix) {
                Some(path) => found.vanished.push(path),
                None => found.unnamed = Some(Fault::new(name::PARTIAL_TRANSFER, line)),
            }
            continue;
        }
        // The path became something else between our look and rsync's (ENOENT, ENOTDIR, EISDIR, ELOOP), or was written
        // while it was sent.
        let changed = ["(2)", "(20)", "(21)", "(40)"].iter().any(|errno| line.ends_with(errno));
        let written_meanwhile = line.contains("failed verification -- update discarded.");
        if (changed && line.contains("[sender]") || written_meanwhile)
            && let Some(path) = path_in(line, root, prefix)
        {
            found.vanished.push(path);
            continue;
        }
        if line.contains("skipping file deletion") || line.contains("opendir") || line.contains("readdir") {
            found.trees_incomplete = true;
        }
        if is_informational(line) {
            continue;
        }
        let fault = Fault::from_words(line).unwrap_or_else(|| Fault::new(name::PARTIAL_TRANSFER, line));
        match path_in(line, root, prefix) {
            Some(path) => found.failed.push((path, fault)),
            None => found.unnamed = Some(fault),
        }
    }
    found
}

/// Lines that tell of nothing that stays undone, or of what another line names.
fn is_informational(line: &str) -> bool {
    const PHRASES: [&str; 6] = [
        "skipping non-regular file",
        "skipping directory",
        "skipping file deletion",
        "cannot delete non-empty directory",
        "(will try again)",
        "WARNING: ",
    ];
    PHRASES.iter().any(|phrase| line.contains(phrase))
}

/// The path of ours that a line is about: in quotes, or in brackets behind a function's name.
fn path_in(line: &str, root: &Path, prefix: &[u8]) -> Option<RelPath> {
    let printed = match (line.find('"'), quote_end(line)) {
        (Some(start), Some(end)) if start < end => &line[start + 1..end],
        _ => {
            let called = ["unlink(", "rmdir(", "readlink_stat(", "mkdir(", "stat("].iter();
            let start = called.filter_map(|call| Some(line.find(call)? + call.len())).min();
            match start {
                Some(start) => &line[start..line.rfind(") failed")?],
                None => unquoted(line)?,
            }
        }
    };
    let bytes = unescape(printed.as_bytes());
    let root = root.as_os_str().as_encoded_bytes();
    let below = match bytes.strip_prefix(root) {
        Some([b'/', below @ ..]) => below.to_vec(),
        Some([]) => Vec::new(),
        _ => {
            let bytes = bytes.strip_prefix(b"/").unwrap_or(&bytes);
            bytes.strip_prefix(prefix).unwrap_or(bytes).to_vec()
        }
    };
    let path = RelPath::new(below.strip_suffix(b"/").unwrap_or(&below)).ok()?;
    Some(without_temporary_name(path))
}

/// The complaints that name a path in no quotes: "ERROR: a/b failed verification -- update discarded.", "could not make
/// way for new regular file: a/b".
fn unquoted(line: &str) -> Option<&str> {
    if let Some(rest) = line.strip_prefix("could not make way for ") {
        return Some(rest.split_once(": ")?.1);
    }
    Some(line.strip_prefix("ERROR: ")?.split_once(" failed verification")?.0)
}

/// The quote that closes the first name: rename complaints name two, and a name may hold quotes itself.
fn quote_end(line: &str) -> Option<usize> {
    let renamed = line.find("\" -> \"");
    let closed = ["\" (in ", "\" failed", "\": ", "\""].iter().find_map(|end| line.rfind(end));
    renamed.or(closed)
}

/// rsync writes into `.NAME.XXXXXX` beside `NAME`.
fn without_temporary_name(path: RelPath) -> RelPath {
    use std::os::unix::ffi::OsStrExt;
    let name = path.file_name().as_bytes();
    let original = name.strip_prefix(b".").and_then(|name| {
        let (stem, random) = name.split_at_checked(name.len().checked_sub(7)?)?;
        let is_random = random[0] == b'.' && random[1..].iter().all(u8::is_ascii_alphanumeric);
        (is_random && !stem.is_empty()).then(|| std::ffi::OsStr::from_bytes(stem))
    });
    match (original, path.parent()) {
        (Some(original), Some(parent)) => parent.join(original),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
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
        assert_eq!(Progress::from_line(line), Some(Progress { fraction: 0.42, bytes: 1_238_099 }));
        assert_eq!(Progress::from_line(b"Number of files: 5"), None);
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
rsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1338) [sender=3.5.0]"#;
        let found = complaints(stderr, Path::new("/data/www"), b"");
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
        assert_eq!(found.vanished, [rel("now/a/file"), rel("busy: file"), rel("gone")]);
        assert_eq!((found.trees_incomplete, found.unnamed), (false, None));
    }

    #[test]
    fn an_unreadable_directory_leaves_its_tree_undone() {
        let stderr = "rsync: [sender] opendir \"/data/www/a\" failed: Permission denied (13)\nIO error encountered -- skipping file deletion\n";
        let found = complaints(stderr, Path::new("/data/www"), b"");
        assert!(found.trees_incomplete);
        assert_eq!(found.failed[0].0, rel("a"));
    }

    #[test]
    fn a_complaint_without_a_path_is_kept() {
        let found = complaints("rsync: something failed: Odd (99)", Path::new("/data/www"), b"");
        assert!(found.unnamed.is_some());
    }

    proptest! {
        #[test]
        fn no_output_makes_it_stumble(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            deletion(&bytes);
            Progress::from_line(&bytes);
            Totals::default().take_line(&bytes);
            complaints(&String::from_utf8_lossy(&bytes), Path::new("/data"), b"x/");
        }
    }
}
