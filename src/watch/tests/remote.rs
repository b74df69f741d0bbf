//! [`Remote`]: a model of a remote, which acts on changes as the agent does: by looking at what is on disk now.

use crate::path::RelPath;
use crate::watch::{Change, Hint};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    Directory { mode: u32 },
    File { mode: u32, time: (i64, i64), content: Vec<u8> },
    Link(PathBuf),
    Other,
}

#[derive(Debug, Default)]
pub struct Remote {
    items: BTreeMap<RelPath, Item>,
}

impl Remote {
    /// What a full sync makes of it.
    pub fn equal_to(root: &Path) -> Self {
        let mut remote = Self::default();
        remote.apply(root, &Change { path: RelPath::root(), hint: Hint::Arrived, from: None });
        remote
    }

    /// Acts on all of `changes` except those that a later one makes obsolete.
    pub fn apply_all(&mut self, root: &Path, changes: &[Change]) {
        let is_entry = |hint: Hint| matches!(hint, Hint::Entry | Hint::Removed | Hint::Attributes);
        for (at, change) in changes.iter().enumerate() {
            let later = &changes[at..];
            let has_successor = |later: &Change| later.hint == Hint::BeingWritten && later.path == change.path;
            if !(is_entry(change.hint) && later.iter().any(has_successor)) {
                self.apply(root, change);
            }
        }
    }

    fn apply(&mut self, root: &Path, change: &Change) {
        if change.hint == Hint::BeingWritten {
            return;
        }
        let path = &change.path;
        for above in path.ancestors_below_root() {
            if let Some(item) = read(&above.under(root)) {
                let is_directory = matches!(item, Item::Directory { .. });
                self.put(above, item);
                // What is behind a link is not in the tree.
                if !is_directory {
                    return;
                }
            }
        }
        let Some(item) = read(&path.under(root)) else {
            self.items.remove(path);
            self.items.retain(|item, _| !item.is_inside(path));
            return;
        };
        let Item::Directory { .. } = item else {
            self.items.retain(|item, _| !item.is_inside(path));
            return self.send(path.clone(), item, change.hint);
        };
        if !path.is_root() {
            self.put(path.clone(), item);
        }
        let below: Vec<_> = walk(&path.under(root)).into_iter().map(|(name, _)| extend(path, &name)).collect();
        match change.hint {
            Hint::Rescan | Hint::Missed | Hint::Arrived => {
                self.items.retain(|item, _| !item.is_inside(path) || below.contains(item));
                for path in below {
                    if let Some(item) = read(&path.under(root)) {
                        self.send(path, item, change.hint);
                    }
                }
            }
            // What is superfluous directly in it goes: a sync of a directory above it may have brought that just
            // before the directory was watched.
            Hint::NewDirectory => {
                let gone = |item: &RelPath| item.parent().as_ref() == Some(path) && !below.contains(item);
                let gone: Vec<_> = self.items.keys().filter(|item| gone(item)).cloned().collect();
                self.items.retain(|item, _| !gone.iter().any(|gone| gone == item || item.is_inside(gone)));
            }
            Hint::Entry | Hint::Removed | Hint::Attributes | Hint::Passed | Hint::BeingWritten => {}
        }
    }

    /// Sends one entry as rsync would: on attributes only no content, on a rescan only what looks different.
    fn send(&mut self, path: RelPath, item: Item, hint: Hint) {
        let item = match (hint, item, self.items.get(&path)) {
            (Hint::Attributes, Item::File { mode, time, .. }, Some(Item::File { content, .. })) => {
                Item::File { mode, time, content: content.clone() }
            }
            (
                Hint::Rescan | Hint::Missed,
                Item::File { mode, time, content },
                Some(Item::File { time: before, content: old, .. }),
            ) if time == *before && content.len() == old.len() => Item::File { mode, time, content: old.clone() },
            (_, item, _) => item,
        };
        self.put(path, item);
    }

    fn put(&mut self, path: RelPath, item: Item) {
        if !matches!(item, Item::Directory { .. }) {
            self.items.retain(|item, _| !item.is_inside(&path));
        }
        self.items.insert(path, item);
    }

    /// The paths at which this differs from what is on disk.
    pub fn differences(&self, root: &Path) -> Vec<RelPath> {
        let disk = Self::equal_to(root);
        let paths = self.items.keys().chain(disk.items.keys());
        let mut different: Vec<_> =
            paths.filter(|path| self.items.get(*path) != disk.items.get(*path)).cloned().collect();
        different.dedup();
        different
    }
}

fn extend(path: &RelPath, below: &Path) -> RelPath {
    below.iter().fold(path.clone(), |path, name| path.join(name))
}

fn read(path: &Path) -> Option<Item> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let mode = metadata.permissions().mode() & 0o7777;
    Some(if metadata.is_dir() {
        Item::Directory { mode }
    } else if metadata.is_file() {
        Item::File { mode, time: (metadata.mtime(), metadata.mtime_nsec()), content: fs::read(path).ok()? }
    } else if metadata.is_symlink() {
        Item::Link(fs::read_link(path).ok()?)
    } else {
        Item::Other
    })
}

/// All that is below `directory`, parents first, each with whether it is a directory.
pub fn walk(directory: &Path) -> Vec<(PathBuf, bool)> {
    let mut found = Vec::new();
    let mut rest = vec![PathBuf::new()];
    while let Some(below) = rest.pop() {
        for entry in fs::read_dir(directory.join(&below)).into_iter().flatten().flatten() {
            let path = below.join(entry.file_name());
            let is_directory = entry.file_type().unwrap().is_dir();
            debug_assert!(!path.as_os_str().as_bytes().is_empty());
            found.push((path.clone(), is_directory));
            if is_directory {
                rest.push(path);
            }
        }
    }
    found
}
