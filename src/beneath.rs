//! Opening and looking at what lies beneath a directory that is open, without following a symbolic link anywhere.
//!
//! Users who can write to a watched tree can swap one of its directories for a link at any moment, and the agent can read
//! every file of the machine. So no path of the tree is resolved by name from `/` on, nor through a middle that may have
//! become a link: everything that reads by path below a root does it here.
//!
//! The kernel does it in one call (openat2(2), Linux 5.6, `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`); where there is none,
//! or a seccomp filter forbids it, each component is opened by itself with `O_NOFOLLOW`. Mounts are crossed: a file system
//! that is mounted in the tree belongs to it.

use crate::path::RelPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstatat};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// How a directory is opened to be listed.
pub const LISTED: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// How a directory is opened on the way to one of its entries.
const WAYPOINT: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(ALWAYS);

const ALWAYS: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC);

/// Opens what is at `path` beneath the directory `root`, with `flags` (`O_NOFOLLOW` and `O_CLOEXEC` are added).
///
/// # Errors
///
/// `ENOENT`, `ENOTDIR`, `ELOOP` or `EXDEV`: nothing is at this very path ([`is_elsewhere`]). Others as in open(2).
pub fn open(root: BorrowedFd<'_>, path: &RelPath, flags: OFlag) -> Result<OwnedFd, Errno> {
    let flags = flags | ALWAYS;
    if path.is_root() {
        return openat(root, ".", flags, Mode::empty());
    }
    let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match openat2(root, path.as_bytes(), OpenHow::new().flags(flags).resolve(beneath)) {
        // No such call, or a path longer than PATH_MAX: the same step by step.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::ENAMETOOLONG) => open_by_steps(root, path, flags),
        result => result,
    }
}

/// lstat(2) of what is at `path` beneath the directory `root`.
///
/// # Errors
///
/// As for [`open`].
pub fn stat(root: BorrowedFd<'_>, path: &RelPath) -> Result<FileStat, Errno> {
    match path.parent().filter(|parent| !parent.is_root()) {
        None => stat_entry(root, path),
        Some(parent) => stat_entry(open(root, &parent, WAYPOINT)?.as_fd(), path),
    }
}

/// lstat(2) of the last component of `path` in the directory `parent`, which holds it.
fn stat_entry(parent: BorrowedFd<'_>, path: &RelPath) -> Result<FileStat, Errno> {
    let name = if path.is_root() { ".".as_ref() } else { path.file_name() };
    fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Whether an error of [`open`] or [`stat`] says that nothing is at this very path: it is gone, or the way there leads
/// through something else than directories.
pub fn is_elsewhere(error: Errno) -> bool {
    matches!(error, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV)
}

fn open_by_steps(root: BorrowedFd<'_>, path: &RelPath, flags: OFlag) -> Result<OwnedFd, Errno> {
    let mut directory: Option<OwnedFd> = None;
    let mut names = path.as_bytes().split(|byte| *byte == b'/').peekable();
    while let Some(name) = names.next() {
        let at = directory.as_ref().map_or(root, AsFd::as_fd);
        let flags = if names.peek().is_some() { WAYPOINT } else { flags };
        directory = Some(openat(at, OsStr::from_bytes(name), flags, Mode::empty())?);
    }
    directory.ok_or(Errno::ENOENT)
}

/// [`stat`] of many paths of one directory after another: the last directory stays open.
pub struct Looker<'fd> {
    root: BorrowedFd<'fd>,
    parent: Option<(RelPath, OwnedFd)>,
}

impl<'fd> Looker<'fd> {
    /// Looks beneath the directory `root`.
    pub fn new(root: BorrowedFd<'fd>) -> Self {
        Self { root, parent: None }
    }

    /// lstat(2) of what is at `path`.
    ///
    /// # Errors
    ///
    /// As for [`open`].
    pub fn stat(&mut self, path: &RelPath) -> Result<FileStat, Errno> {
        let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else { return stat_entry(self.root, path) };
        let open = match self.parent.take() {
            Some((known, open)) if known == parent => open,
            _ => open(self.root, &parent, WAYPOINT)?,
        };
        let (_, open) = self.parent.insert((parent, open));
        stat_entry(open.as_fd(), path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    #[test]
    fn no_link_is_followed_anywhere_and_nothing_above_is_reached() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("root/a/b")).unwrap();
        fs::create_dir(at("out")).unwrap();
        fs::write(at("out/file"), "outside").unwrap();
        fs::write(at("root/a/b/file"), "inside").unwrap();
        symlink("../../out", at("root/a/away")).unwrap();
        symlink("b", at("root/a/near")).unwrap();
        symlink("file", at("root/a/b/link")).unwrap();
        let root = File::open(at("root")).unwrap();
        let both = |path: &str| {
            let path = rel(path);
            let whole = open(root.as_fd(), &path, OFlag::O_RDONLY).map(drop);
            assert_eq!(open_by_steps(root.as_fd(), &path, OFlag::O_RDONLY | ALWAYS).map(drop), whole, "{path:?}");
            whole
        };
        assert_eq!(both("a/b/file"), Ok(()));
        assert_eq!(both("a"), Ok(()));
        assert_eq!(both("a/b/link"), Err(Errno::ELOOP));
        assert_eq!(both("a/gone/file"), Err(Errno::ENOENT));
        assert_eq!(both("a/b/file/x"), Err(Errno::ENOTDIR));
        for link in ["a/away/file", "a/near/file"] {
            assert!(is_elsewhere(both_errors(&root, link)), "{link}");
            assert!(is_elsewhere(stat(root.as_fd(), &rel(link)).unwrap_err()), "{link}");
            assert!(is_elsewhere(Looker::new(root.as_fd()).stat(&rel(link)).unwrap_err()), "{link}");
        }
        assert!(open(root.as_fd(), &RelPath::root(), LISTED).is_ok());
        assert_eq!(stat(root.as_fd(), &rel("a/b/file")).unwrap().st_size, 6);
        assert_eq!(stat(root.as_fd(), &rel("a/away")).unwrap().st_size, 9, "the link itself");
        let mut looker = Looker::new(root.as_fd());
        assert!(looker.stat(&rel("a/b/file")).is_ok() && looker.stat(&rel("a/b/link")).is_ok());
        assert!(looker.stat(&rel("a")).is_ok() && looker.stat(&RelPath::root()).is_ok());
    }

    /// The error of both ways; they differ in which of the errors it is.
    fn both_errors(root: &File, path: &str) -> Errno {
        let by_steps = open_by_steps(root.as_fd(), &rel(path), OFlag::O_RDONLY | ALWAYS).unwrap_err();
        assert!(is_elsewhere(by_steps), "{path}: {by_steps}");
        open(root.as_fd(), &rel(path), OFlag::O_RDONLY).unwrap_err()
    }
}
