//! What each remote mirrors, kept in the state directory over restarts: the file systems of its root, about how many
//! entries it has, and whether deletions are withheld there.
//!
//! One small file, `mirrored`, as JSON. It is written to a new file that takes its place, and forced to the disk: after a
//! power loss a file system may be missing, and that is when it is needed. One that is damaged is reported, and counts as
//! nothing remembered.

use super::remote::Remote;
use crate::file_system::{FileSystem, Shape};
use crate::path::RelPath;
use crate::state_file::{self, Durability};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file in the state directory.
const NAME: &str = "mirrored";

/// Bytes of a path that are not written as they are.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Interval between two tries to write it.
const RETRY: Duration = Duration::from_secs(60);

/// A number of entries that differs by less than this part of it is not worth writing.
const PRECISION: u64 = 20;

/// What is remembered of one remote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The file systems that it mirrors.
    pub shape: Option<Shape>,
    /// Number of entries that it has.
    pub entries: Option<u64>,
    /// Deletions are withheld there.
    pub is_withholding: bool,
}

/// The root and the name of a remote.
type Key = (PathBuf, String);

/// The file, and what is in it.
#[derive(Debug)]
pub struct Memory {
    path: PathBuf,
    written: HashMap<Key, Remembered>,
    retry_at: Option<Instant>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    root: String,
    remote: String,
    file_system: Option<FileSystem>,
    inode: u64,
    below: BTreeMap<String, FileSystem>,
    entries: Option<u64>,
    withholding: bool,
}

impl Memory {
    /// Reads what an earlier process left in `directory`.
    pub fn open(directory: &Path) -> Self {
        let path = directory.join(NAME);
        let rows = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Vec<Row>>(&bytes).map_err(|error| error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error.to_string()),
        };
        let rows = rows.unwrap_or_else(|error| {
            tracing::error!(
                "{}: {error}; the agent does not know any more on which file systems the watched directories were, \
                 and takes those of now for them",
                path.display()
            );
            Vec::new()
        });
        let written = rows.into_iter().filter_map(Row::read).collect();
        Self { path, written, retry_at: None }
    }

    /// What is remembered of the remote `name` of `root`.
    pub fn of(&self, root: &Path, name: &str) -> Option<Remembered> {
        self.written.get(&(root.to_path_buf(), name.to_owned())).cloned()
    }

    /// Writes what is to be remembered of `remotes`, if it differs from what is written.
    pub fn write_down(&mut self, remotes: &mut [Remote], now: Instant) {
        let may_differ = remotes.iter_mut().fold(false, |any, remote| remote.mount_guard.take_changed() | any);
        let is_due = may_differ || remotes.len() != self.written.len() || self.retry_at.is_some();
        if !is_due || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let is_written = |remote: &Remote| {
            let new = remote.mount_guard.to_remember();
            let old = self.written.iter().find(|((root, name), _)| *root == remote.root && *name == remote.name);
            old.is_some_and(|(_, old)| is_about_the_same(old, &new))
        };
        if remotes.iter().all(is_written) && remotes.len() == self.written.len() {
            return;
        }
        let key = |remote: &Remote| (remote.root.clone(), remote.name.clone());
        let content: HashMap<Key, Remembered> =
            remotes.iter().map(|remote| (key(remote), remote.mount_guard.to_remember())).collect();
        let mut rows: Vec<Row> = content.iter().map(|(key, remembered)| Row::new(key, remembered)).collect();
        rows.sort_by(|a, b| (&a.root, &a.remote).cmp(&(&b.root, &b.remote)));
        match self.write(&rows) {
            Ok(()) => (self.written, self.retry_at) = (content, None),
            Err(error) => {
                if self.retry_at.replace(now + RETRY).is_none() {
                    tracing::error!(
                        "{} cannot be written: {error}; after the next start the agent does not notice that another \
                         file system is mounted",
                        self.path.display()
                    );
                }
            }
        }
    }

    fn write(&self, rows: &[Row]) -> io::Result<()> {
        state_file::replace(&self.path, &serde_json::to_vec_pretty(rows)?, Durability::PowerLoss)
    }
}

fn is_about_the_same(old: &Remembered, new: &Remembered) -> bool {
    let near = match (old.entries, new.entries) {
        (Some(old), Some(new)) => old.abs_diff(new) <= old / PRECISION,
        (old, new) => old == new,
    };
    near && old.shape == new.shape && old.is_withholding == new.is_withholding
}

impl Row {
    fn new((root, name): &Key, remembered: &Remembered) -> Self {
        let shape = remembered.shape.as_ref();
        let below = shape.into_iter().flat_map(|shape| &shape.below);
        Self {
            root: encode(root.as_os_str().as_bytes()),
            remote: name.clone(),
            file_system: shape.map(|shape| shape.file_system.clone()),
            inode: shape.map_or(0, |shape| shape.inode),
            below: below.map(|(point, found)| (encode(point.as_bytes()), found.clone())).collect(),
            entries: remembered.entries,
            withholding: remembered.is_withholding,
        }
    }

    fn read(self) -> Option<(Key, Remembered)> {
        let root = PathBuf::from(OsStr::from_bytes(&decode(&self.root)));
        let below = self.below.into_iter().map(|(point, found)| Some((RelPath::new(&decode(&point)).ok()?, found)));
        let below: BTreeMap<RelPath, FileSystem> = below.collect::<Option<_>>()?;
        let shape = self.file_system.map(|file_system| Shape { file_system, inode: self.inode, below });
        let remembered = Remembered { shape, entries: self.entries, is_withholding: self.withholding };
        Some(((root, self.remote), remembered))
    }
}

fn encode(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_unknown() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join(OsStr::from_bytes(b"a%\xff\n"));
        std::fs::create_dir(&root).unwrap();
        let metadata = root.metadata().unwrap();
        let mut shape = Shape::of(b"", &root, (metadata.dev(), metadata.ino()), []).unwrap();
        shape.below.insert(RelPath::new(b"b%\xfe").unwrap(), shape.file_system.clone());
        let remembered = Remembered { shape: Some(shape), entries: Some(7), is_withholding: true };
        let memory = Memory::open(directory.path());
        assert_eq!(memory.of(&root, "web1::www"), None);
        memory.write(&[Row::new(&(root.clone(), "web1::www".to_owned()), &remembered)]).unwrap();
        assert_eq!(Memory::open(directory.path()).of(&root, "web1::www"), Some(remembered));
        std::fs::write(directory.path().join(NAME), "[{\"root\":").unwrap();
        assert_eq!(Memory::open(directory.path()).of(&root, "web1::www"), None);
    }
}
