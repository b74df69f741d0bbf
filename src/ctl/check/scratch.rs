//! [`Scratch`]: a directory of our own, removed at the end.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A directory that nobody else can read.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// In the directory for temporary files.
    pub fn new() -> io::Result<Self> {
        Self::below(&std::env::temp_dir())
    }

    /// Where nothing reaches a disk, if that may be written to.
    pub fn in_memory() -> io::Result<Self> {
        Self::below(Path::new("/run")).or_else(|_| Self::new())
    }

    fn below(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!("sersync-check-{:016x}", fastrand::u64(..)));
        // It must not be there yet: somebody else might own it.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left in a temporary directory does no harm.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
