//! [`History`]: facts that the status shows and that a restart must not reset: a pause, the times of the last runs and full
//! syncs, the time of the next full sync, and since when each remote is behind.
//!
//! They are in `history.json` in the state directory, which is replaced at most every [`WRITE_INTERVAL`], at the end of the
//! agent, and at once when the agent is paused or resumed. Nothing but the pause and the status depends on them: a missing or
//! damaged file counts as an empty one. What is pending is the journal's (`write_down`).
//!
//! A pause stays in force until `Resume`: an administrator who pauses a mirror, to repair a remote for instance, does not
//! expect a crash to end it.

use super::engine::Engine;
use super::remote::Remote;
use super::snapshot::Pause;
use crate::state_file::{self, Durability};
use crate::time;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// Minimum time between two replacements of the file. A crash loses what changed in that time.
const WRITE_INTERVAL: Duration = Duration::from_secs(10);

/// The file in the state directory.
const FILE: &str = "history.json";

/// The content of the file. Times are microseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Facts {
    paused: Option<PauseFacts>,
    last_sync_at: Option<u64>,
    next_full_sync_at: Option<u64>,
    remotes: Vec<RemoteFacts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PauseFacts {
    since: u64,
    by: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RemoteFacts {
    /// The watched root, as text.
    root: String,
    name: String,
    last_success_at: Option<u64>,
    last_full_sync_at: Option<u64>,
    /// Time of its oldest pending report.
    behind_since: Option<u64>,
}

/// The facts of the process before, and the file that keeps those of this one.
#[derive(Debug)]
pub struct History {
    file: PathBuf,
    /// What the file holds, as far as this process knows.
    written: Facts,
    /// When it was last written, or the attempt failed.
    written_at: Option<Instant>,
    /// Facts that differ from the file.
    unwritten: Option<Facts>,
}

impl History {
    /// Reads the file of `directory`.
    pub fn read(directory: &Path) -> Self {
        let file = directory.join(FILE);
        let written = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("{}: {error}; the times in the status start anew", file.display());
                Facts::default()
            }),
            // Where the directory cannot be used, the journal reports that.
            Err(_) => Facts::default(),
        };
        Self { file, written, written_at: None, unwritten: None }
    }

    /// The pause of the process before.
    pub fn paused(&self) -> Option<Pause> {
        let pause = self.written.paused.as_ref()?;
        Some(Pause { since: time(pause.since), by: pause.by.clone() })
    }

    /// When the process before last delivered something.
    pub fn last_sync_at(&self) -> Option<SystemTime> {
        self.written.last_sync_at.map(time)
    }

    /// When the process before would have begun the next full sync.
    pub fn next_full_sync_at(&self) -> Option<SystemTime> {
        self.written.next_full_sync_at.map(time)
    }

    /// Sets the times of `remote`. Returns since when it is behind.
    pub fn restore(&self, remote: &mut Remote) -> Option<SystemTime> {
        let known = self
            .written
            .remotes
            .iter()
            .find(|known| known.root == remote.root.to_string_lossy() && known.name == remote.name)?;
        remote.last_success = known.last_success_at.map(time);
        remote.last_full_sync = known.last_full_sync_at.map(time);
        known.behind_since.map(time)
    }

    /// When the file is due.
    pub fn wake(&self) -> Option<Instant> {
        self.unwritten.as_ref()?;
        self.written_at.map(|at| at + WRITE_INTERVAL)
    }

    fn write(&mut self, durability: Durability, now: Instant) -> io::Result<()> {
        let Some(facts) = self.unwritten.take() else { return Ok(()) };
        self.written_at = Some(now);
        let written = state_file::replace(&self.file, &serde_json::to_vec(&facts)?, durability);
        match &written {
            Ok(()) => self.written = facts,
            Err(_) => self.unwritten = Some(facts),
        }
        written
    }
}

impl Engine {
    /// Notes the facts of now; to be called with each snapshot.
    pub(super) fn note_history(&mut self, now: Instant) {
        let of_remote = |remote: &Remote| RemoteFacts {
            root: remote.root.to_string_lossy().into_owned(),
            name: remote.name.clone(),
            last_success_at: remote.last_success.map(usec),
            last_full_sync_at: remote.last_full_sync.map(usec),
            behind_since: remote.set.oldest_pending().map(|(_, since)| usec(since)),
        };
        let facts = Facts {
            paused: self.paused.as_ref().map(|pause| PauseFacts { since: usec(pause.since), by: pause.by.clone() }),
            last_sync_at: self.last_sync_at.map(usec),
            next_full_sync_at: self.next_full_sync_at(now).map(usec),
            remotes: self.remotes.iter().map(of_remote).collect(),
        };
        self.history.unwritten = (facts != self.history.written).then_some(facts);
    }

    /// Replaces the file if it is due.
    pub(super) fn write_history_if_due(&mut self, now: Instant) {
        if self.history.written_at.is_none_or(|at| now >= at + WRITE_INTERVAL) {
            self.write_history(now);
        }
    }

    /// Replaces the file if the facts differ from it.
    pub(super) fn write_history(&mut self, now: Instant) {
        // The journal reports failures: it writes to the same directory all the time.
        if let Err(error) = self.history.write(Durability::Process, now) {
            tracing::debug!("{}: {error}", self.history.file.display());
        }
    }

    /// Pauses the agent, or resumes it where `pause` is `None`. A second pause leaves the first one as it is.
    pub(super) fn set_pause(&mut self, pause: Option<Pause>) {
        match (&self.paused, &pause) {
            (Some(_), Some(_)) | (None, None) => return,
            (None, Some(pause)) => tracing::info!("paused by {}: changes gather, nothing is sent", pause.by),
            (Some(_), None) => tracing::info!("resumed"),
        }
        self.plugins.pause(pause.is_some() && self.config.alone.is_some());
        self.paused = pause;
        let now = time::now();
        self.note_history(now);
        if let Err(error) = self.history.write(Durability::PowerLoss, now) {
            let file = self.history.file.display();
            tracing::warn!("{file} cannot be written: {error}; a restart forgets whether the agent is paused");
        }
    }
}

fn time(usec: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(usec)
}

fn usec(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_counts_as_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["", "{", "[]", "{\"paused\": 1}", "{\"remotes\": [{}]}", "{}", "{\"a\": 1}"] {
            std::fs::write(directory.path().join(FILE), content).unwrap();
            let history = History::read(directory.path());
            assert_eq!(history.written, Facts::default(), "{content}");
            assert!(history.paused().is_none() && history.wake().is_none());
        }
    }
}
