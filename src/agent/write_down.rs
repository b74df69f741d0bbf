//! Keeping the journal: what becomes pending, and what is not any more, is on disk at the end of each turn of the engine.
//!
//! Only then are the watches told that what they reported is written down. A report is taken from a watch's memory to
//! the journal without an instant in which it is in neither.

use super::engine::Engine;
use super::remote::Remote;
use crate::journal::{Content, Journal, Left};
use crate::pending::PendingSet;
use crate::time;
use crate::transport::Fault;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// After a failure to write, the next try comes so much later.
const RETRY: Duration = Duration::from_secs(5);

/// The journal, if the state directory can be used, and what became of the last try to write.
#[derive(Debug)]
pub struct Ledger {
    journal: Option<Journal>,
    directory: PathBuf,
    /// What is wrong with the state directory.
    pub problem: Option<String>,
    retry_at: Option<Instant>,
    /// The remotes are others than those that the journal has numbers for.
    renumber: bool,
}

/// What an earlier run of the agent left.
#[derive(Debug, Default)]
pub struct Found {
    /// Its list of what was pending, if there is one.
    pub left: Option<Left>,
    /// There may be something of which nobody can tell what it was.
    pub is_unknown: bool,
}

impl Ledger {
    /// Looks for what an earlier run left. Nothing that goes wrong here is worth a refusal to start.
    pub fn open(directory: &Path) -> (Self, Found) {
        let ledger = |journal, problem| Self {
            journal,
            directory: directory.to_path_buf(),
            problem,
            retry_at: None,
            renumber: true,
        };
        match Journal::open(directory) {
            Ok((journal, None)) => (ledger(Some(journal), None), Found::default()),
            Ok((journal, Some(Ok(left)))) => {
                if let Some(doubt) = left.doubt {
                    tracing::warn!("{doubt}; the whole tree is compared");
                }
                (ledger(Some(journal), None), Found { left: Some(left), is_unknown: false })
            }
            Ok((journal, Some(Err(damaged)))) => {
                let (path, aside) = (journal.path().display(), journal.set_aside());
                tracing::error!("{path}: {damaged}; set aside as {}, the whole tree is compared", aside.display());
                (ledger(Some(journal), None), Found { left: None, is_unknown: true })
            }
            Err(error) => {
                let problem = format!("the state directory {} cannot be used: {error}", directory.display());
                tracing::error!("{problem}; the whole tree is compared, after the next start too if it stays so");
                (ledger(None, Some(problem)), Found { left: None, is_unknown: true })
            }
        }
    }

    /// The remotes are about to be others.
    pub fn renumber(&mut self) {
        self.renumber = true;
    }

    /// A crash from now on makes doubtful only what changed since then.
    pub fn since(&mut self, since: SystemTime) {
        if let Some(journal) = &mut self.journal {
            journal.since(since);
        }
    }

    /// When to try again to write what could not be written.
    pub fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Writes down what changed. Says whether all of it is on disk now.
    fn write_down(&mut self, remotes: &mut [Remote], since: SystemTime, now: Instant) -> bool {
        if self.retry_at.is_some_and(|at| at > now) {
            // The next try writes everything anew. Without one, these paths would be kept forever.
            self.renumber = true;
            remotes.iter_mut().for_each(|remote| drop(remote.set.take_touched()));
            return false;
        }
        if self.journal.is_none() {
            // What an earlier run left there is of no use any more: when it could not be read, all became pending.
            match Journal::open(&self.directory) {
                Ok((journal, _)) => self.journal = Some(journal),
                Err(_) => self.retry_at = Some(now + RETRY),
            }
        }
        let Some(journal) = &mut self.journal else { return false };
        let anew = self.renumber || journal.wants_rewrite();
        for (number, remote) in (0..).zip(remotes.iter_mut()) {
            let touched = remote.set.take_touched();
            for path in touched.iter().filter(|_| !anew) {
                match remote.set.owed(path) {
                    Some(kind) => journal.pending(number, path, kind),
                    None => journal.done(number, path),
                }
            }
        }
        if !anew && journal.is_clean() {
            return true;
        }
        let written = if anew { journal.rewrite(since, content(remotes)) } else { journal.commit() };
        match written {
            Ok(()) => {
                (self.renumber, self.retry_at) = (false, None);
                if self.problem.take().is_some() {
                    tracing::info!("{} can be written again", journal.path().display());
                }
                true
            }
            Err(error) => {
                self.retry_at = Some(now + RETRY);
                let problem = format!("{} cannot be written: {error}", journal.path().display());
                if self.problem.is_none() {
                    tracing::error!("{problem}; should the agent crash before it can, the whole tree is compared");
                }
                self.problem = Some(problem);
                false
            }
        }
    }

    /// The last word before an orderly end.
    fn stop(&mut self, remotes: &[Remote], since: SystemTime) -> bool {
        let Some(journal) = &mut self.journal else { return false };
        let written = journal.stop(since, content(remotes));
        if let Err(error) = &written {
            let path = journal.path().display();
            tracing::error!("{path} cannot be written: {error}; after the next start the whole tree is compared");
        }
        written.is_ok()
    }
}

fn content(remotes: &[Remote]) -> impl Iterator<Item = Content<'_>> {
    fn owed(set: &PendingSet<Fault>) -> Box<dyn Iterator<Item = (&crate::path::RelPath, crate::pending::Kind)> + '_> {
        Box::new(set.all_owed())
    }
    remotes.iter().map(|remote| Content { root: &remote.root, name: &remote.name, paths: owed(&remote.set) })
}

impl Engine {
    /// To be called at the end of each turn, when all that was heard in it is in the sets.
    pub(super) fn write_down(&mut self, now: Instant) {
        let problem = self.ledger.problem.is_some();
        // What only a plugin is told of is in no journal: until it has been, the watches have to remember it.
        let is_told = self.config.alone.is_none() || self.plugins.is_idle();
        if self.ledger.write_down(&mut self.remotes, self.missed_since, now) && is_told {
            self.roots.iter_mut().for_each(super::root::Root::written_down);
        }
        self.dirty |= problem != self.ledger.problem.is_some();
    }

    /// The last word before an orderly end. `since`: what changes after that is seen by nobody.
    pub(super) fn write_last(&mut self, orderly: bool, since: SystemTime) {
        let written = match orderly {
            true => self.ledger.stop(&self.remotes, since),
            false => self.ledger.write_down(&mut self.remotes, self.missed_since, time::now() + RETRY),
        };
        if written {
            self.roots.iter_mut().for_each(super::root::Root::written_down);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::remote::RemoteId;
    use crate::path::RelPath;
    use crate::pending::{Kind, Seq};
    use crate::transport::Endpoint;
    use std::slice::from_mut;

    #[test]
    fn without_a_journal_no_path_is_remembered_for_it() {
        let place = tempfile::tempdir().unwrap();
        let (source, directory) = (place.path().join("source"), place.path().join("state"));
        std::fs::create_dir(&source).unwrap();
        // A file where the directory would be.
        std::fs::write(&directory, "").unwrap();
        let copy = place.path().join("copy").display().to_string();
        let config = crate::config::from_command_line(&source, &[copy]).unwrap();
        let endpoint = Endpoint::new(config.roots[0].remotes[0].clone(), &config.rsync);
        let mut remote = Remote::new(RemoteId(1), "copy".into(), source, endpoint, 1000);
        let (mut ledger, _) = Ledger::open(&directory);
        let (now, wall) = (Instant::now(), SystemTime::now());
        assert!(!ledger.write_down(from_mut(&mut remote), wall, now));
        let path = RelPath::new(b"changed").unwrap();
        remote.report(path.clone(), Kind::Entry, Seq(1), now, wall, false);
        assert!(!ledger.write_down(from_mut(&mut remote), wall, now));
        assert!(remote.set.take_touched().is_empty());
        // The path is written nevertheless, as soon as there is a journal.
        std::fs::remove_file(&directory).unwrap();
        assert!(ledger.write_down(from_mut(&mut remote), wall, now + RETRY));
        let (_, found) = Ledger::open(&directory);
        let left = found.left.unwrap();
        assert_eq!(left.remotes[0].paths, [(path, Kind::Entry)].into());
    }
}
