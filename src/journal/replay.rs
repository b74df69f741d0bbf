//! What a journal that was left says: which paths were pending for which remote, and how far that can be trusted.

use super::record::{self, HEAD, Next, Record, Standing};
use crate::path::RelPath;
use crate::pending::Kind;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

/// What an earlier process left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Each remote's pending paths.
    pub remotes: Vec<LeftRemote>,
    /// Changes since then may be missing, if nobody watched on: the time of an orderly end, or of a crash the last time
    /// at which all was in sync.
    pub since: SystemTime,
    /// Whether the process ended in order.
    pub orderly: bool,
    /// Why the list may lack something that was pending; `None`: it lacks nothing.
    pub doubt: Option<Doubt>,
}

/// One remote's pending paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRemote {
    /// The watched root.
    pub root: PathBuf,
    /// The remote's name.
    pub name: String,
    /// What is pending, by path.
    pub paths: BTreeMap<RelPath, Kind>,
}

/// Why a list of pending paths may lack some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The machine went down while the process ran: what it wrote last may not have reached the disk.
    #[error("the machine went down without an orderly stop of the agent")]
    OtherBoot,
    /// It could not write everything.
    #[error("the earlier agent could not write down all that was pending")]
    Gaps,
}

/// The bytes are no journal of this version, or a broken one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is damaged, or was written by another version")]
pub struct Damaged;

/// Reads a journal. A record that was cut short at the very end is as if it had never been begun.
pub fn replay(bytes: &[u8], boot_id: &str) -> Result<Left, Damaged> {
    let (standing, boot) = record::read_head(bytes).ok_or(Damaged)?;
    let doubt = match standing {
        Standing::Gaps => Some(Doubt::Gaps),
        Standing::Running if boot != boot_id => Some(Doubt::OtherBoot),
        Standing::Running | Standing::Stopped => None,
    };
    let orderly = standing == Standing::Stopped;
    let mut left = Left { remotes: Vec::new(), since: SystemTime::UNIX_EPOCH, orderly, doubt };
    let mut log = &bytes[HEAD..];
    let mut is_whole = false;
    loop {
        let (record, rest) = match record::next(log) {
            Next::Record(record, rest) => (record, rest),
            // What precedes the end of the rewrite was there before anybody could be killed while appending.
            Next::End | Next::Torn if is_whole => return Ok(left),
            Next::End | Next::Torn | Next::Damaged => return Err(Damaged),
        };
        log = rest;
        match record {
            Record::Remote(root, name) => left.remotes.push(LeftRemote { root, name, paths: BTreeMap::new() }),
            Record::Since(since) => left.since = since,
            Record::Pending(remote, path, kind) => {
                left.remotes.get_mut(remote as usize).ok_or(Damaged)?.paths.insert(path, kind);
            }
            Record::Done(remote, path) => {
                left.remotes.get_mut(remote as usize).ok_or(Damaged)?.paths.remove(&path);
            }
            Record::End => is_whole = true,
        }
    }
}
