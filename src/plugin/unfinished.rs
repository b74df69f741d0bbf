//! What targets had not been told when the agent stopped, kept for its next start.
//!
//! Written when the agent stops, read when it starts, and removed once its paths have been delivered or the agent stops
//! again: an agent that is killed in between delivers some of them twice and loses none. A file that cannot be read is
//! logged and removed: it never keeps the agent from starting.

use super::event::Cause;
use super::queue::{Place, Told};
use crate::path::RelPath;
use crate::state_file::{self, Durability};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const FILE: &str = "plugins.json";

/// Paths of which one target was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The plugin and its target, as its status names them.
    pub target: (String, String),
    /// In the order in which they waited.
    pub told: Vec<Told>,
}

#[derive(Serialize, Deserialize)]
struct SavedTarget {
    plugin: String,
    target: String,
    paths: Vec<SavedPath>,
}

/// Paths are any bytes: in hexadecimal.
#[derive(Serialize, Deserialize)]
struct SavedPath {
    root: String,
    path: String,
    attributes_only: bool,
    arrived: bool,
    was_directory: bool,
    remotes: Vec<String>,
}

/// Writes `unfinished` into `directory`, or removes the file when there is nothing to write.
pub fn save(directory: &Path, unfinished: &[Unfinished]) -> io::Result<()> {
    let file = directory.join(FILE);
    if unfinished.iter().all(|target| target.told.is_empty()) {
        return match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let path = |told: &Told| SavedPath {
        root: hex(told.place.root.as_os_str().as_bytes()),
        path: hex(told.place.path.as_bytes()),
        attributes_only: told.cause.attributes_only,
        arrived: told.cause.arrived,
        was_directory: told.cause.was_directory,
        remotes: told.remotes.iter().map(|remote| remote.to_string()).collect(),
    };
    let saved: Vec<SavedTarget> = unfinished
        .iter()
        .map(|one| SavedTarget {
            plugin: one.target.0.clone(),
            target: one.target.1.clone(),
            paths: one.told.iter().map(path).collect(),
        })
        .collect();
    state_file::replace(&file, &serde_json::to_vec(&saved)?, Durability::Process)
}

/// Reads what [`save`] left in `directory`. A damaged file is removed.
pub fn read(directory: &Path) -> io::Result<Vec<Unfinished>> {
    let file = directory.join(FILE);
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let saved: Vec<SavedTarget> = match serde_json::from_slice(&bytes) {
        Ok(saved) => saved,
        Err(damaged) => {
            fs::remove_file(&file)?;
            return Err(damaged.into());
        }
    };
    Ok(saved
        .into_iter()
        .map(|one| Unfinished {
            target: (one.plugin, one.target),
            told: one.paths.into_iter().filter_map(SavedPath::read).collect(),
        })
        .collect())
}

impl SavedPath {
    fn read(self) -> Option<Told> {
        let root = PathBuf::from(OsString::from_vec(bytes(&self.root)?));
        let path = RelPath::new(&bytes(&self.path)?).ok()?;
        let (attributes_only, arrived, was_directory) = (self.attributes_only, self.arrived, self.was_directory);
        Some(Told {
            place: Place { root: root.into(), path },
            cause: Cause { attributes_only, arrived, was_directory },
            remotes: self.remotes.into_iter().map(Into::into).collect(),
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_is_read_until_it_is_saved_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place { root: Path::new("/data").into(), path: RelPath::new(b"a\n\xff").unwrap() };
        let cause = Cause { was_directory: true, ..Cause::default() };
        let told = vec![Told { place, cause, remotes: vec!["web1::www".into()] }];
        let unfinished = vec![Unfinished { target: ("http".into(), "POST http://x/".into()), told }];
        save(directory.path(), &unfinished).unwrap();
        assert_eq!(read(directory.path()).unwrap(), unfinished);
        assert_eq!(read(directory.path()).unwrap(), unfinished);
        save(directory.path(), &[]).unwrap();
        assert_eq!(read(directory.path()).unwrap(), [], "an older file would be delivered again");
        fs::write(directory.path().join(FILE), "damaged").unwrap();
        assert!(read(directory.path()).is_err());
        assert_eq!(read(directory.path()).unwrap(), [], "once");
    }
}
