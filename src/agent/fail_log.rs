//! The fail log: a file that says what has not reached its remote, in the form of a script that would bring it there:
//! the paths that failed, and of a remote that takes no run at all everything that waits for it.
//!
//! It is written anew when the list of failures changes, not more often than each [`WRITTEN_EVERY`], and emptied when
//! all is well. The agent never runs it: it tries again by itself. The engine only collects what is to be said; the
//! disk is looked at and written to on a thread that nobody waits for.

use super::engine::Engine;
use super::remote::Remote;
use super::report_file::{ReportError, ReportFile};
use crate::aside::aside;
use crate::config::{Config, Deletions};
use crate::human;
use crate::time;
use crate::transport::{Chore, Endpoint};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// So often, at most.
const WRITTEN_EVERY: Duration = Duration::from_secs(5);

/// So many failed paths are in it, at most: who has more mends what is behind them first.
const PATHS_AT_MOST: usize = 10_000;

/// It is not longer than this, in bytes, or by one path.
const BYTES_AT_MOST: usize = 4 * 1024 * 1024;

/// The engine's end of it.
#[derive(Debug)]
pub struct FailLog {
    reports: watch::Sender<Arc<Report>>,
    /// The list of failures may be another than what was last written.
    changed: bool,
    /// Not written before this.
    not_before: Instant,
    /// How many paths there were to write of at the last look.
    paths: u64,
}

/// What there is to say.
#[derive(Debug, Default)]
struct Report {
    /// Where it goes; `None`: nowhere any more.
    path: Option<PathBuf>,
    instance: String,
    remotes: Vec<FailedRemote>,
    left_out: u64,
}

#[derive(Debug)]
struct FailedRemote {
    name: String,
    /// The name of one of its errors.
    fault: &'static str,
    endpoint: Arc<Endpoint>,
    chore: Chore,
}

impl FailLog {
    /// Has to be called on a runtime: the writer is a task of its own, and ends with this.
    pub fn new() -> Self {
        let (reports, mut incoming) = watch::channel(Arc::new(Report::default()));
        tokio::spawn(async move {
            let writer = Arc::new(Mutex::new(Writer::default()));
            // What came while the disk was slow is not written, but the last of it.
            while incoming.changed().await.is_ok() {
                let report = incoming.borrow_and_update().clone();
                let writing = Arc::clone(&writer);
                let written = aside(move || writing.lock().unwrap_or_else(PoisonError::into_inner).write(&report));
                if let Err(error) = written.await {
                    tracing::error!("the list of failures is not written: {error}");
                }
            }
        });
        // What an earlier run left may be no longer true.
        Self { reports, changed: true, not_before: time::now(), paths: 0 }
    }

    /// The list of failures is another.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// Looks whether there is more or less to write of.
    pub fn look(&mut self, remotes: &[Remote]) {
        let paths = remotes.iter().map(|remote| overdue(remote) as u64).sum();
        self.changed |= std::mem::replace(&mut self.paths, paths) != paths;
    }

    /// When there is something to write.
    pub fn wake(&self) -> Option<Instant> {
        self.changed.then_some(self.not_before)
    }
}

impl Engine {
    /// Hands what there is to say to the writer, if it is time.
    pub(super) fn report_failures_if_due(&mut self, now: Instant) {
        if self.fail_log.wake().is_none_or(|at| at > now) {
            return;
        }
        self.fail_log.changed = false;
        self.fail_log.not_before = now + WRITTEN_EVERY;
        let mut report = Report { instance: self.instance.clone(), ..Report::default() };
        if let Some(log) = &self.config.fail_log {
            report.path = Some(log.path.clone());
            let mut room = PATHS_AT_MOST;
            for remote in self.remotes.iter().filter(|remote| overdue(remote) > 0) {
                let failed = FailedRemote::new(remote, &self.config, room);
                room -= failed.chore.paths.len();
                report.left_out += (overdue(remote) - failed.chore.paths.len()) as u64;
                report.remotes.push(failed);
            }
        }
        self.fail_log.reports.send_replace(Arc::new(report));
    }
}

/// How many paths of `remote` belong into the fail log.
fn overdue(remote: &Remote) -> usize {
    match is_down(remote) {
        true => remote.set.waiting() + remote.set.in_flight(),
        false => remote.set.failures(),
    }
}

fn is_down(remote: &Remote) -> bool {
    remote.backoff.attempts() > 0
}

impl FailedRemote {
    /// What of `remote` belongs into the fail log, `most` paths at most.
    fn new(remote: &Remote, config: &Config, most: usize) -> Self {
        let overdue = remote.set.paths().filter(|(_, entry, _)| is_down(remote) || entry.failed.is_some());
        let mut paths: Vec<_> = overdue.map(|(path, entry, _)| (path.clone(), entry.kind)).take(most).collect();
        paths.sort_unstable();
        let of_a_path = remote.set.paths().find_map(|(_, entry, _)| Some(&entry.failed.as_ref()?.fault));
        Self {
            name: remote.name.clone(),
            fault: remote.backoff.last().or(of_a_path).map_or("", |fault| fault.name),
            endpoint: remote.endpoint.clone(),
            chore: Chore {
                root: remote.root.clone(),
                delete: config.events.delete && config.deletions == Deletions::Always,
                is_filtered: !config.filter.is_empty(),
                capabilities: remote.capabilities,
                password_file: config.rsync.password_file.clone(),
                paths,
            },
        }
    }
}

/// The other end: keeps the file as the last report has it.
#[derive(Debug, Default)]
struct Writer {
    path: Option<PathBuf>,
    /// What was last put there.
    body: Vec<u8>,
    /// What was last told to be wrong.
    told: String,
}

impl Writer {
    fn write(&mut self, report: &Report) {
        let told = match self.try_to_write(report) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        if !told.is_empty() && told != self.told {
            tracing::warn!("the report of failed paths was not written: {told}");
        }
        self.told = told;
    }

    fn try_to_write(&mut self, report: &Report) -> Result<(), ReportError> {
        if let Some(old) = self.path.take_if(|old| report.path.as_ref() != Some(old)) {
            self.body.clear();
            ReportFile::at(&old)?.empty()?;
        }
        let Some(path) = &report.path else { return Ok(()) };
        let body = report.body();
        let is_first = self.path.replace(path.clone()).is_none();
        if body == self.body && !is_first && self.told.is_empty() {
            return Ok(());
        }
        self.body.clone_from(&body);
        let file = ReportFile::at(path)?;
        if body.is_empty() { file.empty() } else { file.replace(&report.with_head(&body)) }
    }
}

impl Report {
    /// The runs; nothing, when all is well.
    fn body(&self) -> Vec<u8> {
        let (mut body, mut left_out) = (Vec::new(), self.left_out);
        for remote in &self.remotes {
            let mut chore = remote.chore.clone();
            let all = chore.paths.len();
            let mut bytes = body.len();
            chore.paths.retain(|(path, _)| {
                let fits = bytes < BYTES_AT_MOST;
                // A byte takes four at most.
                bytes += path.as_bytes().len() * 4;
                fits
            });
            left_out += (all - chore.paths.len()) as u64;
            let (name, fault) = (human::safe(&remote.name), remote.fault);
            let paths = human::plural(all as u64, "path", "paths");
            body.extend_from_slice(format!("\n# {name}: {paths}, {fault}\n").as_bytes());
            body.extend_from_slice(&remote.endpoint.script(&chore));
        }
        if left_out > 0 {
            let more = human::plural(left_out, "more path is", "more paths are");
            body.extend_from_slice(
                format!("\n# {more} left out of this file, not of sersync's own list.\n").as_bytes(),
            );
        }
        body
    }

    fn with_head(&self, body: &[u8]) -> Vec<u8> {
        let instance = human::safe(&self.instance);
        let now = jiff::Timestamp::try_from(time::wall()).unwrap_or_default();
        let head = format!(
            "#!/bin/sh\n\
             # What sersync@{instance} has not brought to its remotes yet, as of {now:.0}.\n\
             # sersync tries all of this again by itself and never runs this file; `sersyncctl failures {instance}` says\n\
             # why each path failed. It writes this file anew when that changes, and empties it when all is well.\n\
             LC_ALL=C\nexport LC_ALL\nstatus=0\n"
        );
        [head.as_bytes(), body, b"\nexit \"$status\"\n"].concat()
    }
}
