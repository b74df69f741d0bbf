//! [`Disk`]: looks at what is below the root, without ever leaving it through a symbolic link.
//!
//! Paths are resolved beneath a descriptor of the root ([`crate::beneath`]): a directory that is swapped for a link while
//! it is looked at is not there, rather than elsewhere.
//! The descriptor is closed whenever the watch has nothing to do, so that the file system can be unmounted.

use super::rescan::WallTime;
use crate::beneath;
use crate::path::RelPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};
use rustix::fs::{AtFlags, StatxFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

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
        beneath::open(self.root()?.as_fd(), path, beneath::LISTED)
    }

    /// lstat(2) of what is at `path`. Fails with `ENOENT` where the way there leads through a link or a file.
    pub fn stat(&mut self, path: &RelPath) -> Result<FileStat, Errno> {
        let found = beneath::stat(self.root()?.as_fd(), path);
        found.map_err(|error| if beneath::is_elsewhere(error) { Errno::ENOENT } else { error })
    }

    /// When the file at `path` was made, by the wall clock; `None` where there is none, or its file system does not record
    /// that.
    pub fn born(&mut self, path: &RelPath) -> Option<WallTime> {
        let file = beneath::open(self.root().ok()?.as_fd(), path, OFlag::O_PATH).ok()?;
        let stat = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
        let is_recorded = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
        is_recorded.then(|| stat.stx_btime.tv_sec.saturating_mul(1_000_000_000) + i64::from(stat.stx_btime.tv_nsec))
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
