//! What is on disk now at the paths of a batch: the one look that decides what a run is told.
//!
//! A path that exists is sent, a path that does not is deleted, and a missing path below a missing directory gives
//! way to that directory (rsync would refuse it). A path that is reached through a symbolic link is none of ours.

use crate::beneath::{self, Looker};
use crate::failpoint::may_panic_here;
use crate::filter::{EntryKind, Filter};
use crate::path::RelPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use rustix::fs::RawDir;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Files of this size and more travel in runs of their own.
pub const BULK_BYTES: u64 = 8 * 1024 * 1024;

/// Which directory a root is: what has another identity, such as the bare mount point after an unmount, is not it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootIdentity {
    device: u64,
    inode: u64,
}

impl RootIdentity {
    /// Of an open directory.
    pub(super) fn of(directory: BorrowedFd<'_>) -> Result<Self, Errno> {
        let stat = fstat(directory)?;
        Ok(Self { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// What tells one state of a file from another, and a file from a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// `st_ino`.
    pub inode: u64,
    /// Bytes.
    pub size: i64,
    /// `st_mtim`, in nanoseconds.
    pub modified: i128,
}

impl Stamp {
    fn of(stat: &FileStat) -> Self {
        let modified = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        Self { inode: stat.st_ino, size: stat.st_size, modified }
    }

    /// Whether `other` may be that of a copy of this file that keeps its time.
    pub fn is_of_a_copy(self, other: Self) -> bool {
        self.inode != other.inode && (self.size, self.modified) == (other.size, other.modified)
    }
}

/// So many files of a batch are stamped.
const STAMPED_AT_MOST: usize = 64;

/// A batch's paths by what is to be done about them. Each list is sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Not directories.
    pub entries: Vec<RelPath>,
    /// Directories.
    pub directories: Vec<RelPath>,
    /// Gone; none lies below another.
    pub missing: Vec<RelPath>,
    /// Too large to travel with others.
    pub bulk: Vec<RelPath>,
    /// Some of the regular files, as they were found.
    pub stamps: Vec<(RelPath, Stamp)>,
    /// Directories to go by their own names alone, where there are enough of them to be worth it.
    pub whole: Option<Whole>,
}

/// A batch in which directories go with all that is below them, so that nothing in them has to be named.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// What is named: the directories that hold nothing, at any depth, that is not in the batch, none of them below
    /// another; and what is in none of them, but for directories above something that is named: they come with it.
    pub named: Vec<RelPath>,
    /// Directories that cannot be named without sending more than is pending in them: for another batch.
    pub later: Vec<RelPath>,
}

impl Plan {
    /// Leaves out what is excluded but was pending: the filter may be newer than the report. What is missing is left to
    /// be struck out of what a run would delete.
    pub fn without_excluded(mut self, filter: &Filter) -> Self {
        if !filter.is_empty() {
            self.directories.retain(|path| !filter.excludes(path, EntryKind::Directory));
            self.entries.retain(|path| !filter.excludes(path, EntryKind::NonDirectory));
            self.bulk.retain(|path| !filter.excludes(path, EntryKind::NonDirectory));
        }
        self
    }

    /// Leaves out the paths of which `is_left_out` is true: they are neither sent nor deleted.
    pub fn without(mut self, is_left_out: impl Fn(&RelPath) -> bool) -> Self {
        for list in [&mut self.entries, &mut self.directories, &mut self.missing, &mut self.bulk] {
            list.retain(|path| !is_left_out(path));
        }
        self
    }

    /// Finds the directories below the open directory `root` that are here with all that they hold.
    ///
    /// What appears in one afterwards is sent with it, and once more when it is reported, as with any run that looks
    /// into directories by itself.
    pub fn with_whole(mut self, root: BorrowedFd<'_>) -> Self {
        if self.directories.first().is_some_and(RelPath::is_root) {
            return self;
        }
        let mut held: HashMap<RelPath, usize> = HashMap::new();
        for parent in self.entries.iter().chain(&self.directories).filter_map(RelPath::parent) {
            *held.entry(parent).or_default() += 1;
        }
        // What a directory holds comes after it.
        let mut whole = HashSet::new();
        let mut partial = HashSet::new();
        for path in self.directories.iter().rev() {
            let expected = held.get(path).copied().unwrap_or(0);
            if !partial.contains(path) && holds_no_more_than(root, path, expected) {
                whole.insert(path.clone());
            } else {
                partial.extend([path.clone()].into_iter().chain(path.parent()));
            }
        }
        let topmost: BTreeSet<RelPath> = topmost_only(whole).into_iter().collect();
        let (spared, named): (Vec<&RelPath>, Vec<&RelPath>) = self
            .entries
            .iter()
            .chain(&self.directories)
            .partition(|path| !topmost.contains(*path) && is_within(path, &topmost));
        if spared.iter().map(|path| path.as_bytes().len() + 1).sum::<usize>() < WORTH_WHILE {
            return self;
        }
        let (directories, kept): (Vec<&RelPath>, Vec<&RelPath>) =
            named.into_iter().partition(|path| partial.contains(*path));
        let sorted: BTreeSet<&RelPath> = kept.iter().copied().collect();
        let later = directories.into_iter().filter(|path| !path.holds_any_of(&sorted)).cloned().collect();
        let mut named: Vec<RelPath> = kept.into_iter().cloned().collect();
        named.sort_unstable();
        self.whole = Some(Whole { named, later });
        self
    }
}

/// So many bytes of names that rsync need not be told are worth it: rsync reads them one by one, with two system calls
/// for each (measured: half a microsecond).
const WORTH_WHILE: usize = 4 * 1024;

/// Bytes of a directory read at once.
const LISTED_AT_ONCE: usize = 16 * 1024;

/// Whether there are at most `expected` entries in the directory at `path`. What cannot be seen counts as more.
fn holds_no_more_than(root: BorrowedFd<'_>, path: &RelPath, expected: usize) -> bool {
    let Ok(directory) = beneath::open(root, path, beneath::LISTED) else { return false };
    let mut buffer = [MaybeUninit::uninit(); LISTED_AT_ONCE];
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut found = 0;
    while let Some(entry) = listing.next() {
        let Ok(entry) = entry else { return false };
        found += usize::from(!matches!(entry.file_name().to_bytes(), b"." | b".."));
        if found > expected {
            return false;
        }
    }
    true
}

/// Opens a root, so that what follows is about this very directory.
pub(super) fn open_root(root: &Path) -> Result<(OwnedFd, RootIdentity), Errno> {
    let directory = open(root, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let identity = RootIdentity::of(directory.as_fd())?;
    Ok((directory, identity))
}

/// The identity of the directory that `root` names now.
pub fn root_identity(root: &Path) -> Option<RootIdentity> {
    // No descriptor is needed for that: one that cannot be had would look like a root that is not there.
    let metadata = std::fs::metadata(root).ok().filter(std::fs::Metadata::is_dir)?;
    Some(RootIdentity { device: metadata.dev(), inode: metadata.ino() })
}

/// Whether there is anything at `path`, below the open directory `root`.
pub(super) fn exists(root: BorrowedFd<'_>, path: &RelPath) -> bool {
    beneath::stat(root, path).is_ok()
}

/// Looks at `paths` below the open directory `root`. With `split_bulk`, large files are set aside.
pub(super) fn look(root: BorrowedFd<'_>, paths: &[RelPath], split_bulk: bool) -> Plan {
    may_panic_here!("look");
    let mut look = Look { disk: Looker::new(root), directories: HashMap::new() };
    let mut plan = Plan::default();
    let mut entries = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for path in paths {
        match look.at(path) {
            Found::Directory => plan.directories.push(path.clone()),
            Found::Entry { bytes, .. } if split_bulk && bytes >= BULK_BYTES => plan.bulk.push(path.clone()),
            Found::Entry { stamp, .. } => {
                if let Some(stamp) = stamp.filter(|_| plan.stamps.len() < STAMPED_AT_MOST) {
                    plan.stamps.push((path.clone(), stamp));
                }
                entries.insert(path.clone());
            }
            Found::Missing(topmost) => {
                missing.insert(topmost);
            }
            Found::BehindEntry(entry) => {
                entries.insert(entry);
            }
        }
    }
    plan.entries = entries.into_iter().collect();
    plan.missing = topmost_only(missing);
    plan
}

/// Whether `path` is one of `directories`, or in one.
pub(super) fn is_within(path: &RelPath, directories: &BTreeSet<RelPath>) -> bool {
    directories.contains(path)
        || directories.contains(&RelPath::root())
        || path.ancestors_among(directories).next().is_some()
}

/// Drops what lies inside another path of the set.
pub(super) fn topmost_only(paths: impl IntoIterator<Item = RelPath>) -> Vec<RelPath> {
    let mut kept: Vec<RelPath> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut paths: Vec<RelPath> = paths.into_iter().collect();
    paths.sort_by_cached_key(|path| path.as_bytes().iter().filter(|byte| **byte == b'/').count());
    for path in paths {
        if !is_within(&path, &seen) {
            seen.insert(path.clone());
            kept.push(path);
        }
    }
    kept.sort_unstable();
    kept
}

enum Found {
    Directory,
    Entry {
        bytes: u64,
        /// Of a regular file.
        stamp: Option<Stamp>,
    },
    /// Nothing is there; nor at any path above it down from this one.
    Missing(RelPath),
    /// Something that is no directory stands in the way.
    BehindEntry(RelPath),
}

/// What a directory of the way to a path turned out to be.
#[derive(Clone)]
enum Way {
    Open,
    Missing(RelPath),
    Entry(RelPath),
}

struct Look<'fd> {
    disk: Looker<'fd>,
    directories: HashMap<RelPath, Way>,
}

impl Look<'_> {
    fn at(&mut self, path: &RelPath) -> Found {
        let Some(parent) = path.parent() else { return Found::Directory };
        match self.way(&parent) {
            Way::Missing(topmost) => return Found::Missing(topmost),
            Way::Entry(entry) => return Found::BehindEntry(entry),
            Way::Open => {}
        }
        match self.disk.stat(path) {
            Ok(stat) if is_directory(&stat) => Found::Directory,
            Ok(stat) => Found::Entry {
                bytes: u64::try_from(stat.st_size).unwrap_or(0),
                stamp: is_kind(&stat, SFlag::S_IFREG).then(|| Stamp::of(&stat)),
            },
            // A directory of the way that is a link by now will be reported by itself.
            Err(error) if beneath::is_elsewhere(error) => Found::Missing(path.clone()),
            // rsync will say what is wrong with it.
            Err(_) => Found::Entry { bytes: 0, stamp: None },
        }
    }

    /// Whether the directory at `path` can be gone through.
    fn way(&mut self, path: &RelPath) -> Way {
        let mut missing = Vec::new();
        let mut next = Some(path.clone());
        // Mostly the first look finds a directory, and what is above it need not be looked at.
        let way = loop {
            let Some(at) = next.filter(|at| !at.is_root()) else { break Way::Open };
            if let Some(known) = self.directories.get(&at) {
                break known.clone();
            }
            let way = match self.disk.stat(&at) {
                Ok(stat) if is_directory(&stat) => Way::Open,
                Ok(_) => Way::Entry(at.clone()),
                Err(error) if beneath::is_elsewhere(error) => {
                    next = at.parent();
                    missing.push(at);
                    continue;
                }
                Err(_) => Way::Open,
            };
            self.directories.insert(at, way.clone());
            break way;
        };
        let way = match (way, missing.last()) {
            (Way::Open, Some(topmost)) => Way::Missing(topmost.clone()),
            (way, _) => way,
        };
        self.directories.extend(missing.into_iter().map(|path| (path, way.clone())));
        way
    }
}

fn is_directory(stat: &FileStat) -> bool {
    is_kind(stat, SFlag::S_IFDIR)
}

fn is_kind(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    #[test]
    fn each_path_goes_where_the_disk_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("d/sub")).unwrap();
        std::fs::write(dir.path().join("d/file"), "x").unwrap();
        std::fs::File::create(dir.path().join("big")).unwrap().set_len(BULK_BYTES).unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("link")).unwrap();
        let (root, _) = open_root(dir.path()).unwrap();
        let asked = ["big", "d", "d/file", "d/file/x", "d/gone", "gone/a/b", "gone/c", "link/passwd"].map(rel);

        let plan = look(root.as_fd(), &asked, true);

        assert_eq!(plan.directories, [rel("d")]);
        assert_eq!(plan.entries, [rel("d/file"), rel("link")], "never through a link, nor through a file");
        assert_eq!(plan.missing, [rel("d/gone"), rel("gone")]);
        assert_eq!(plan.bulk, [rel("big")]);
        assert_eq!(look(root.as_fd(), &[rel("big")], false).entries, [rel("big")]);
    }

    #[test]
    fn a_directory_is_whole_with_nothing_in_it_that_is_not_pending() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(200);
        let mut pending = Vec::new();
        for directory in ["done", "done/deep", "open", "open/done", "empty", "few"] {
            std::fs::create_dir(dir.path().join(directory)).unwrap();
            pending.push(directory.to_owned());
        }
        for directory in ["done", "done/deep", "open", "open/done"] {
            for nth in 0..50 {
                let path = format!("{directory}/{long}{nth}");
                std::fs::write(dir.path().join(&path), "x").unwrap();
                pending.push(path);
            }
        }
        std::fs::write(dir.path().join("open/still being written"), "x").unwrap();
        let mut pending: Vec<RelPath> = pending.iter().map(|path| rel(path)).collect();
        pending.sort_unstable();
        let (root, _) = open_root(dir.path()).unwrap();
        let whole = |pending: &[RelPath]| look(root.as_fd(), pending, true).with_whole(root.as_fd()).whole;
        let is_short = |path: &&RelPath| path.as_bytes().len() < 100;
        let short = |pending: &[RelPath]| {
            let whole = whole(pending).unwrap();
            (whole.named.iter().filter(is_short).cloned().collect::<Vec<_>>(), whole.later)
        };

        assert_eq!(short(&pending), (["done", "empty", "few", "open/done"].map(rel).into(), vec![]));
        assert_eq!(whole(&pending).unwrap().named.len(), 54, "and the files beside the one that is being written");
        let without = |dropped: fn(&RelPath) -> bool| -> Vec<RelPath> {
            pending.iter().filter(|path| !dropped(path)).cloned().collect()
        };
        let directory_alone =
            without(|path| path.as_bytes().starts_with(b"open/x") || path.as_bytes().starts_with(b"open/d"));
        assert_eq!(short(&directory_alone), (["done", "empty", "few"].map(rel).into(), [rel("open")].into()));
        let but_one = without(|path| *path == rel("done/deep"));
        assert_eq!(short(&but_one).0, ["empty", "few", "open/done"].map(rel), "a directory that is not pending itself");
        assert_eq!(whole(&["empty", "few"].map(rel)), None, "not worth it");
        // What is a link now is no directory, wherever it leads.
        std::fs::rename(dir.path().join("done"), dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", dir.path().join("done")).unwrap();
        assert_eq!(short(&pending), (["done", "empty", "few", "open/done"].map(rel).into(), vec![]));
        assert!(!look(root.as_fd(), &pending, true).directories.contains(&rel("done")));
        assert!(!holds_no_more_than(root.as_fd(), &rel("done"), 1_000));
    }

    #[test]
    fn what_was_pending_before_it_was_excluded_is_left_out() {
        let plan = Plan {
            entries: ["tmp", "a.log", "b"].map(rel).into(),
            directories: ["cache", "d/tmp"].map(rel).into(),
            ..Plan::default()
        };
        let filter = Filter::new([r".*\.log", "cache/", "tmp/", "(.*/)?tmp/"]).unwrap();
        let plan = plan.without_excluded(&filter);
        assert_eq!((plan.entries, plan.directories), ([rel("tmp"), rel("b")].into(), vec![]), "tmp is a file");
    }

    #[test]
    fn what_lies_inside_another_is_not_named_twice() {
        let paths = ["a/b", "a", "ab", "c/d/e", "c/d"].map(rel);
        assert_eq!(topmost_only(paths), [rel("a"), rel("ab"), rel("c/d")]);
    }
}
