//! [`Disk`]: looks at what is below the root, without ever leaving it through a symbolic link.
//!
//! Paths are resolved by the kernel, below a descriptor of the root, with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`
//! (openat2(2)): a directory that is swapped for a link while it is looked at is not there, rather than elsewhere.
//! The descriptor is closed whenever the watch has nothing to do, so that the file system can be unmounted.

use crate::path::RelPath;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// How a directory is opened, to be watched and listed.
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// How a directory is opened on the way to another one.
const WAYPOINT: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Device and inode number: which directory a path leads to.
pub type Identity = (u64, u64);

/// The tree on disk.
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    /// The root that is watched; another one at its place is not looked at.
    identity: Option<Identity>,
    open: Option<OwnedFd>,
}

impl Disk {
    /// For the tree at `root`.
    pub fn new(root: PathBuf) -> Self {
        Self { root, identity: None, open: None }
    }

    /// From now on the root is this directory; `None`: there is none.
    pub fn set_identity(&mut self, identity: Option<Identity>) {
        self.identity = identity;
        self.open = None;
    }

    /// Closes the root until it is needed again.
    pub fn rest(&mut self) {
        self.open = None;
    }

    /// Opens the directory at `path` to be read. Fails with `ENOENT`, `ENOTDIR`, `ELOOP` or `EXDEV` when there is none
    /// at this very path.
    pub fn open(&mut self, path: &RelPath) -> Result<OwnedFd, Errno> {
        let root = self.root()?;
        if path.is_root() {
            return openat(root, ".", DIRECTORY, Mode::empty());
        }
        let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        match openat2(root, path.as_bytes(), OpenHow::new().flags(DIRECTORY).resolve(beneath)) {
            // Linux before 5.6, or a path longer than PATH_MAX: the same step by step.
            Err(Errno::ENOSYS | Errno::EPERM | Errno::ENAMETOOLONG) => self.open_by_steps(path),
            result => result,
        }
    }

    /// lstat(2) of what is at `path`.
    pub fn stat(&mut self, path: &RelPath) -> Result<FileStat, Errno> {
        fstatat(self.root()?, path.as_bytes(), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn open_by_steps(&mut self, path: &RelPath) -> Result<OwnedFd, Errno> {
        let root = self.root()?;
        let mut directory: Option<OwnedFd> = None;
        for above in path.ancestors_below_root() {
            directory = Some(match &directory {
                None => openat(root, above.file_name(), WAYPOINT, Mode::empty())?,
                Some(at) => openat(at, above.file_name(), WAYPOINT, Mode::empty())?,
            });
        }
        match &directory {
            None => openat(root, path.file_name(), DIRECTORY, Mode::empty()),
            Some(at) => openat(at, path.file_name(), DIRECTORY, Mode::empty()),
        }
    }

    fn root(&mut self) -> Result<&OwnedFd, Errno> {
        let root = match self.open.take() {
            Some(root) => root,
            None => {
                // The root itself may be given as a link: it is followed.
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                let root = open(&self.root, flags, Mode::empty())?;
                let stat = fstat(&root)?;
                if self.identity != Some((stat.st_dev, stat.st_ino)) {
                    return Err(Errno::ENOENT);
                }
                root
            }
        };
        Ok(self.open.insert(root))
    }
}
