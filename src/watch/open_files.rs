//! [`OpenFiles`]: new files that a writer has modified and not closed yet.
//!
//! Such a file is not reported before its close. Nothing depends on this set for that: the kernel reports the close
//! whether or not this process, or an earlier one, remembers the creation. The set only answers whether an event before
//! the close, such as a change of the mode, would send an incomplete file.
//!
//! A file is known by its directory's watch and its name, so that renaming a directory changes nothing. The entry of a
//! file ends with its close, its removal or its rename, and all entries of a watch end with the watch.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};

/// Maximum number of files. Further ones are not remembered: a change of their mode may send them early.
const LIMIT: usize = 100_000;

/// See the module.
#[derive(Debug, Default)]
pub struct OpenFiles {
    by_watch: HashMap<i32, HashSet<OsString>>,
    count: usize,
}

impl OpenFiles {
    /// Adds the file `name` of the directory with the watch `key`.
    pub fn add(&mut self, key: i32, name: &OsStr) {
        if self.count < LIMIT && self.by_watch.entry(key).or_default().insert(name.to_owned()) {
            self.count += 1;
        }
    }

    /// Whether the file is known to be open.
    pub fn contains(&self, key: i32, name: &OsStr) -> bool {
        self.by_watch.get(&key).is_some_and(|names| names.contains(name))
    }

    /// Removes the file. Returns whether it was known to be open.
    pub fn remove(&mut self, key: i32, name: &OsStr) -> bool {
        let Some(names) = self.by_watch.get_mut(&key) else { return false };
        let removed = names.remove(name);
        self.count -= usize::from(removed);
        if names.is_empty() {
            self.by_watch.remove(&key);
        }
        removed
    }

    /// Removes all files of the watch `key`: it has ended, and no close will be reported by it.
    pub fn watch_ended(&mut self, key: i32) {
        self.count -= self.by_watch.remove(&key).map_or(0, |names| names.len());
    }

    /// Removes all files: the kernel lost events, and closes may be among them.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_end_one_by_one_or_with_their_watch() {
        let [a, b] = ["a", "b"].map(OsStr::new);
        let mut files = OpenFiles::default();
        for (key, name) in [(1, a), (1, a), (1, b), (2, a)] {
            files.add(key, name);
        }
        assert_eq!(files.count, 3);
        assert!(files.contains(1, a) && files.contains(2, a) && !files.contains(2, b));
        assert!(files.remove(1, a) && !files.remove(1, a) && !files.remove(3, a));
        files.watch_ended(1);
        assert!(!files.contains(1, b) && files.contains(2, a));
        files.clear();
        assert_eq!((files.count, files.by_watch.len()), (0, 0));
    }
}
