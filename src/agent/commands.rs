//! Commands: what callers ask of the agent through [`super::Handle`], and the answers.

use super::engine::Engine;
use super::handle::{Command, CommandError, PAGE};
use super::root::WatchId;
use super::snapshot::{JobId, Pause, PendingPath};
use crate::path::RelPath;
use crate::pending::{Kind, Lane};
use crate::time;
use std::collections::BTreeSet;
use std::time::Instant;

/// The first `limit` rows, or fewer if their texts are longer than a page; at least one, if there is one.
fn page<T>(rows: impl Iterator<Item = T>, limit: usize, length: impl Fn(&T) -> usize) -> Vec<T> {
    let mut left = PAGE;
    let mut page = Vec::new();
    for row in rows.take(limit) {
        let length = length(&row);
        if length > left && !page.is_empty() {
            break;
        }
        left = left.saturating_sub(length);
        page.push(row);
    }
    page
}

impl Engine {
    pub(super) fn obey(&mut self, command: Command) {
        self.dirty = true;
        // Who asked may have gone; the command stands.
        match command {
            Command::FullSync(names, answer) => drop(answer.send(self.full_sync(&names, false))),
            Command::FullSyncDelete(names, answer) => drop(answer.send(self.full_sync(&names, true))),
            Command::AcceptDeletions(names, answer) => {
                let chosen = self.chosen(&names);
                drop(answer.send(chosen.map(|chosen| self.accept_deletions(&chosen))));
            }
            Command::Cancel(job, answer) => drop(answer.send(self.cancel(job))),
            Command::Retry(names, answer) => drop(answer.send(self.retry(&names))),
            Command::Failures(offset, limit, answer) => drop(answer.send(Ok(self.failures(offset, limit)))),
            Command::Pending(offset, limit, answer) => drop(answer.send(Ok(self.pending(offset, limit)))),
            Command::Pause(by, answer) => {
                self.set_pause(Some(Pause { since: time::wall(), by }));
                drop(answer.send(Ok(())));
            }
            Command::Resume(answer) => {
                self.set_pause(None);
                drop(answer.send(Ok(())));
            }
            Command::Reload(answer) => self.loading.ask(answer),
            Command::WaitSynced(timeout, answer) => {
                // One that is not there is drained when it is back, unless `give_up_on_missing_roots` answers first.
                let watches: BTreeSet<WatchId> = self.roots.iter().map(|root| root.id).collect();
                let deadline = time::now().checked_add(timeout);
                let token = self.barriers.add(watches, deadline, answer, self.seq);
                for root in self.roots.iter().filter(|root| root.is_there()) {
                    root.watch().drain(token);
                }
            }
            Command::Begin(neighbours, answer) => {
                self.neighbours = neighbours;
                let conflict = self.compare_places();
                self.begun = conflict.is_none();
                drop(answer.send(conflict.map_or(Ok(()), |found| Err(CommandError::Conflict(found.to_string())))));
            }
            // The loop looks for it.
            Command::Stop => {}
        }
        // An answer must not be older than what the caller reads next.
        self.publish(time::now());
    }

    /// The remotes named, or all.
    fn chosen(&self, names: &[String]) -> Result<Vec<usize>, CommandError> {
        if names.is_empty() {
            return Ok((0..self.remotes.len()).collect());
        }
        let find = |name: &String| {
            self.remotes.iter().position(|remote| remote.name == *name).ok_or_else(|| {
                let all: Vec<&str> = self.remotes.iter().map(|remote| remote.name.as_str()).collect();
                CommandError::UnknownRemote(name.clone(), all.join(", "))
            })
        };
        names.iter().map(find).collect()
    }

    fn full_sync(&mut self, names: &[String], delete: bool) -> Result<JobId, CommandError> {
        let chosen = self.chosen(names)?;
        if chosen.is_empty() {
            return Err(CommandError::NoRemotes);
        }
        let (now, wall) = (time::now(), time::wall());
        let seq = self.next_seq();
        let names = chosen.iter().map(|at| self.remotes[*at].name.clone()).collect();
        for at in chosen {
            self.remotes[at].backoff.cut_short();
            self.remotes[at].guard.reconsider();
            match delete {
                true => self.accept_comparison(at, now, wall),
                false => self.remotes[at].report(RelPath::root(), Kind::Tree, seq, now, wall, true),
            }
        }
        Ok(self.jobs.create(names, wall))
    }

    fn cancel(&mut self, job: JobId) -> Result<(), CommandError> {
        let had_ended = self.jobs.show(job).is_some_and(|job| job.state.is_final());
        let freed = self.jobs.cancel(job, time::wall()).ok_or(CommandError::UnknownJob(job.0))?;
        if had_ended {
            return Ok(());
        }
        for remote in self.remotes.iter_mut().filter(|remote| freed.contains(&remote.name)) {
            remote.set.withdraw_request();
            let full = remote.flights.iter().find(|(_, flight)| flight.lane == Lane::Background);
            if let Some((id, flight)) = full
                && remote.set.is_only_requested(*id)
            {
                flight.abort.abort();
            }
        }
        self.tell_jobs(&[job]);
        Ok(())
    }

    fn retry(&mut self, names: &[String]) -> Result<u64, CommandError> {
        let now = time::now();
        let chosen = self.chosen(names)?;
        Ok(chosen.into_iter().map(|at| self.remotes[at].retry(now)).sum())
    }

    fn failures(&self, offset: usize, limit: usize) -> Vec<super::snapshot::Failure> {
        let (now, wall) = (time::now(), time::wall());
        let all = self.remotes.iter().flat_map(|remote| {
            let failed = remote.set.paths().filter(|(_, entry, _)| entry.failed.is_some());
            failed.map(move |(path, entry, _)| (remote, path, entry))
        });
        let rows = all.skip(offset).filter_map(|(remote, path, entry)| remote.failure(path, entry, now, wall));
        page(rows, limit, |row| row.remote.len() + row.path.as_bytes().len() + row.fault.message.len())
    }

    fn pending(&self, offset: usize, limit: usize) -> Vec<PendingPath> {
        let all = self.remotes.iter().flat_map(|remote| remote.set.paths().map(move |path| (remote, path)));
        let rows = all.skip(offset).map(|(remote, (path, entry, in_flight))| PendingPath {
            remote: remote.name.clone(),
            path: path.clone(),
            kind: entry.kind.word(),
            since: entry.since,
            in_flight,
        });
        page(rows, limit, |row| row.remote.len() + row.path.as_bytes().len())
    }

    pub(super) fn settle_barriers(&mut self, now: Instant) {
        if self.barriers.is_empty() {
            return;
        }
        let oldest = self.remotes.iter().filter_map(|remote| remote.set.oldest()).min().map(|(seq, _)| seq);
        // Who was told that all is in sync must not read in the properties that it is not.
        if self.dirty && self.barriers.is_settled(oldest) {
            self.publish(now);
        }
        let remotes = &self.remotes;
        let behind = || {
            let behind = remotes.iter().filter(|remote| remote.set.oldest().is_some()).map(|remote| {
                let paths = remote.set.waiting() + remote.set.in_flight();
                match remote.backoff.last() {
                    Some(fault) => format!("{} has {paths} pending ({})", remote.name, fault.name),
                    None => format!("{} has {paths} pending", remote.name),
                }
            });
            behind.collect::<Vec<_>>().join("; ")
        };
        // What is in flight may be all that is missing.
        if self.paused.is_some() && self.runs.is_empty() {
            self.barriers.paused(oldest, behind);
        }
        self.barriers.settle(oldest, now, behind);
    }
}
