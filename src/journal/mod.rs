//! The journal: which paths are pending for which remote, on disk, as it changes.
//!
//! # What it promises
//!
//! Whoever calls [`Journal::commit`] and gets `Ok` may be killed at once: the next process finds every path that was
//! pending then. It may find some that were not any more; to send them again does no harm. After a power loss (the boot
//! id differs) it says that it may lack some, because nothing is forced to the disk while the agent runs: a forced
//! write takes milliseconds, and every change would wait for it. An orderly end is forced.
//!
//! A journal that is damaged is set aside as `journal.damaged` and told of, never a reason to refuse to start. One that
//! cannot be written (a full disk) says so in its head, in place, and is written anew as soon as that is possible.
//!
//! # How it works
//!
//! `journal` in the state directory is a log (`record`): a path became pending, a path is not pending any more. It is
//! appended to with one write(2) for each turn of the agent's engine. When it is much longer than what is pending, all
//! that is pending is written to a new file, which takes its place by rename(2); so it is bounded by what is pending.
//! `replay` reads it. The state is idempotent: what counts is the last record of each path, so a path is written down by
//! what is true of it now, however it became so.
//!
//! Why a log of our own and no database: the load is 20,000 paths in a second and each of them gone a moment later, a
//! torn tail is harmless here, and the only reader reads all of it once. docs/reliability.md has the figures.

pub(crate) mod record;
pub(crate) mod replay;

#[cfg(test)]
mod tests;

pub use replay::{Damaged, Doubt, Left, LeftRemote};

use crate::failpoint::may_die_here;
use crate::path::RelPath;
use crate::pending::Kind;
use record::{Record, STANDING_AT, Standing};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const NAME: &str = "journal";
/// Below this length a rewrite is not worth its while.
const SHORT: u64 = 256 * 1024;
/// A log so many times as long as what is pending is rewritten.
const SLACK: u64 = 4;

/// One remote's pending paths, as a rewrite takes them.
pub struct Content<'a> {
    /// The watched root.
    pub root: &'a Path,
    /// The remote's name.
    pub name: &'a str,
    /// What is pending.
    pub paths: Box<dyn Iterator<Item = (&'a RelPath, Kind)> + 'a>,
}

/// The state directory's journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    boot_id: String,
    /// The file that is appended to; `None`: it has to be rewritten first.
    file: Option<File>,
    length: u64,
    /// The length when it was last rewritten.
    rewritten: u64,
    /// What is to be appended by the next [`Journal::commit`].
    buffer: Vec<u8>,
}

impl Journal {
    /// The journal in `directory`, which is made if it is not there, and what an earlier process left in it: `None` if
    /// there was nothing. Nothing can be appended before [`Journal::rewrite`].
    ///
    /// # Errors
    ///
    /// The directory cannot be used.
    pub fn open(directory: &Path) -> io::Result<(Self, Option<Result<Left, Damaged>>)> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self::open_as(directory, boot_id.trim())
    }

    fn open_as(directory: &Path, boot_id: &str) -> io::Result<(Self, Option<Result<Left, Damaged>>)> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join(NAME);
        let journal =
            Self { path, boot_id: boot_id.to_owned(), file: None, length: 0, rewritten: 0, buffer: Vec::new() };
        let left = match std::fs::read(&journal.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(replay::replay(&read?, boot_id)),
        };
        if let Some(Err(_)) = left {
            std::fs::rename(&journal.path, journal.set_aside())?;
        }
        Ok((journal, left))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a damaged one is put.
    pub fn set_aside(&self) -> PathBuf {
        self.path.with_extension("damaged")
    }

    /// A path is pending for the remote of that number.
    pub fn pending(&mut self, remote: u32, path: &RelPath, kind: Kind) {
        record::pending(&mut self.buffer, remote, path, kind);
    }

    /// A path is not pending any more.
    pub fn done(&mut self, remote: u32, path: &RelPath) {
        record::done(&mut self.buffer, remote, path);
    }

    /// From now on a crash makes doubtful only what changed since then.
    pub fn since(&mut self, since: SystemTime) {
        Record::Since(since).write(&mut self.buffer);
    }

    /// Whether there is nothing to write down.
    pub fn is_clean(&self) -> bool {
        self.buffer.is_empty() && self.file.is_some()
    }

    /// Whether everything has to be written anew: after an error, or because the log has grown long.
    pub fn wants_rewrite(&self) -> bool {
        self.file.is_none() || self.length > SHORT.max(self.rewritten.saturating_mul(SLACK))
    }

    /// Appends what was told since the last commit.
    ///
    /// # Errors
    ///
    /// It could not be written; the journal says of itself that it has gaps, and wants to be rewritten.
    pub fn commit(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the journal has to be written anew first"));
        };
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = file.write_all(&self.buffer) {
            self.has_gaps();
            return Err(error);
        }
        may_die_here!("journal-appended");
        self.length += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Replaces the journal by one that holds exactly this. `since`: see [`Left::since`].
    ///
    /// # Errors
    ///
    /// The new one could not be written; the old one stays, and says of itself that it has gaps.
    pub fn rewrite<'a>(&mut self, since: SystemTime, content: impl IntoIterator<Item = Content<'a>>) -> io::Result<()> {
        self.replace(Standing::Running, since, content).inspect_err(|_| self.has_gaps())
    }

    /// The last word of a process that ends in order: replaces the journal, and sees it reach the disk.
    ///
    /// # Errors
    ///
    /// As [`Journal::rewrite`].
    pub fn stop<'a>(&mut self, since: SystemTime, content: impl IntoIterator<Item = Content<'a>>) -> io::Result<()> {
        let written = self.replace(Standing::Stopped, since, content);
        let on_disk = written.and_then(|()| match &self.file {
            Some(file) => file.sync_all().and_then(|()| sync_directory(&self.path)),
            None => Ok(()),
        });
        on_disk.inspect_err(|_| self.has_gaps())
    }

    fn replace<'a>(
        &mut self,
        standing: Standing,
        since: SystemTime,
        content: impl IntoIterator<Item = Content<'a>>,
    ) -> io::Result<()> {
        let mut log = record::head(standing, &self.boot_id).to_vec();
        Record::Since(since).write(&mut log);
        for (number, remote) in (0..).zip(content) {
            Record::Remote(remote.root.to_path_buf(), remote.name.to_owned()).write(&mut log);
            for (path, kind) in remote.paths {
                record::pending(&mut log, number, path, kind);
            }
        }
        Record::End.write(&mut log);
        let fresh = self.path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&fresh)?;
        let written = file.write_all(&log);
        may_die_here!("journal-rewritten");
        if let Err(error) = written.and_then(|()| std::fs::rename(&fresh, &self.path)) {
            // Half of one is of no use, and would keep a full disk full.
            let _ = std::fs::remove_file(&fresh);
            return Err(error);
        }
        (self.length, self.rewritten) = (log.len() as u64, log.len() as u64);
        self.file = Some(file);
        // What was told meanwhile is part of the content.
        self.buffer.clear();
        Ok(())
    }

    /// What the file says is not all there is. To write one byte in its place takes no room on a full disk.
    fn has_gaps(&mut self) {
        self.file = None;
        self.buffer.clear();
        let file = OpenOptions::new().write(true).open(&self.path);
        let noted = file.and_then(|file| file.write_all_at(&[Standing::Gaps.byte()], STANDING_AT));
        if noted.is_err() {
            // Without the file nothing claims to be complete. Where not even that works, the error is told all the same.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}
