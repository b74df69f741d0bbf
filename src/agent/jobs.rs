//! Full syncs as jobs: which remotes each still waits for, how far they are, and how each ended.

use super::snapshot::{Job, JobId, JobState};
use crate::transport::Progress;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// So many ended jobs are remembered.
const REMEMBERED: usize = 16;

/// How far one remote of a job is.
#[derive(Debug, Clone, PartialEq)]
enum Part {
    Waiting,
    Running(Progress),
    Done { bytes: u64, entries: u64 },
    Failed { why: String },
    Canceled,
}

#[derive(Debug)]
struct Entry {
    parts: BTreeMap<String, Part>,
    created_at: SystemTime,
    finished_at: Option<SystemTime>,
}

/// All full syncs that run, wait, or ended lately.
#[derive(Debug, Default)]
pub struct Jobs {
    last: u64,
    jobs: BTreeMap<JobId, Entry>,
}

impl Jobs {
    /// A new job over the remotes named.
    pub fn create(&mut self, remotes: Vec<String>, now: SystemTime) -> JobId {
        self.last += 1;
        let id = JobId(self.last);
        let parts = remotes.into_iter().map(|name| (name, Part::Waiting)).collect();
        self.jobs.insert(id, Entry { parts, created_at: now, finished_at: None });
        self.forget();
        id
    }

    /// Whether a job that still waits or runs covers `remote`.
    pub fn wants(&self, remote: &str) -> bool {
        self.jobs.values().any(|job| matches!(job.parts.get(remote), Some(Part::Waiting | Part::Running(_))))
    }

    /// A full run to `remote` starts: it serves every job that waits for it.
    pub fn started(&mut self, remote: &str) {
        for part in self.parts_of(remote).filter(|part| **part == Part::Waiting) {
            *part = Part::Running(Progress { fraction: 0.0, bytes: 0, checked: 0, total: 0 });
        }
    }

    /// The full run to `remote` goes on.
    pub fn progressed(&mut self, remote: &str, progress: Progress) {
        for part in self.parts_of(remote) {
            if let Part::Running(so_far) = part {
                // A line that rsync prints within a file names no entries.
                let (checked, total) = match progress.total {
                    0 => (so_far.checked, so_far.total),
                    total => (progress.checked, total),
                };
                // With entries that differ late in the list the share of bytes falls behind.
                let fraction = progress.fraction.max(so_far.fraction);
                *so_far = Progress { fraction, checked, total, ..progress };
            }
        }
    }

    /// The full run to `remote` ended well, or with an error. Returns the jobs that ended with it.
    pub fn ended(&mut self, remote: &str, result: Result<u64, String>, now: SystemTime) -> Vec<JobId> {
        for part in self.parts_of(remote) {
            if let Part::Running(so_far) = *part {
                *part = match &result {
                    Ok(bytes) => Part::Done { bytes: *bytes, entries: so_far.total },
                    Err(why) => Part::Failed { why: why.clone() },
                };
            }
        }
        self.finish(now)
    }

    /// What waits for a full run to `remote` ends without one, for the reason `why`. Returns the jobs that ended with it.
    pub fn given_up(&mut self, remote: &str, why: &str, now: SystemTime) -> Vec<JobId> {
        let mut any = false;
        for part in self.parts_of(remote).filter(|part| **part == Part::Waiting) {
            *part = Part::Failed { why: why.to_owned() };
            any = true;
        }
        if any { self.finish(now) } else { Vec::new() }
    }

    /// Gives up what `id` still waits for. Returns the remotes that no other job wants now; `None`: no such job.
    pub fn cancel(&mut self, id: JobId, now: SystemTime) -> Option<Vec<String>> {
        let job = self.jobs.get_mut(&id)?;
        let mut freed = Vec::new();
        for (remote, part) in &mut job.parts {
            if matches!(part, Part::Waiting | Part::Running(_)) {
                *part = Part::Canceled;
                freed.push(remote.clone());
            }
        }
        self.finish(now);
        freed.retain(|remote| !self.wants(remote));
        Some(freed)
    }

    /// A remote is gone from the config. Returns the jobs that ended with it.
    pub fn remote_removed(&mut self, remote: &str, now: SystemTime) -> Vec<JobId> {
        for part in self.parts_of(remote).filter(|part| matches!(part, Part::Waiting | Part::Running(_))) {
            *part = Part::Canceled;
        }
        self.finish(now)
    }

    /// Whether any job has not ended.
    pub fn is_active(&self) -> bool {
        self.jobs.values().any(|job| job.finished_at.is_none())
    }

    /// What there is to show, oldest first.
    pub fn snapshot(&self) -> Vec<Job> {
        self.jobs.iter().map(|(id, job)| job.show(*id)).collect()
    }

    /// One job as it is to be shown.
    pub fn show(&self, id: JobId) -> Option<Job> {
        self.jobs.get(&id).map(|job| job.show(id))
    }

    fn parts_of<'a>(&'a mut self, remote: &'a str) -> impl Iterator<Item = &'a mut Part> {
        self.jobs.values_mut().filter_map(move |job| job.parts.get_mut(remote))
    }

    /// Marks as finished what has nothing left to do.
    fn finish(&mut self, now: SystemTime) -> Vec<JobId> {
        let mut ended = Vec::new();
        for (id, job) in &mut self.jobs {
            if job.finished_at.is_none() && job.state().is_final() {
                job.finished_at = Some(now);
                ended.push(*id);
            }
        }
        ended
    }

    fn forget(&mut self) {
        let ended: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| job.finished_at.is_some()).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(REMEMBERED)) {
            self.jobs.remove(id);
        }
    }
}

impl Entry {
    fn state(&self) -> JobState {
        let any = |wanted: fn(&Part) -> bool| self.parts.values().any(wanted);
        if any(|part| matches!(part, Part::Running(_))) {
            JobState::Running
        } else if any(|part| matches!(part, Part::Waiting)) {
            let begun = any(|part| !matches!(part, Part::Waiting));
            if begun { JobState::Running } else { JobState::Queued }
        } else if any(|part| matches!(part, Part::Failed { .. })) {
            JobState::Failed
        } else if any(|part| matches!(part, Part::Canceled)) {
            JobState::Canceled
        } else {
            JobState::Done
        }
    }

    fn show(&self, id: JobId) -> Job {
        let fraction = |part: &Part| match part {
            Part::Waiting | Part::Canceled => 0.0,
            Part::Running(progress) => progress.fraction,
            Part::Done { .. } | Part::Failed { .. } => 1.0,
        };
        let bytes = |part: &Part| match part {
            Part::Running(progress) => progress.bytes,
            Part::Done { bytes, .. } => *bytes,
            _ => 0,
        };
        let entries = |part: &Part| match part {
            Part::Running(progress) => (progress.checked, progress.total),
            Part::Done { entries, .. } => (*entries, *entries),
            _ => (0, 0),
        };
        Job {
            id,
            remotes: self.parts.keys().cloned().collect(),
            state: self.state(),
            progress: self.parts.values().map(fraction).sum::<f64>() / self.parts.len().max(1) as f64,
            bytes_sent: self.parts.values().map(bytes).sum(),
            entries_checked: self.parts.values().map(|part| entries(part).0).sum(),
            entries_total: self.parts.values().map(|part| entries(part).1).sum(),
            created_at: self.created_at,
            finished_at: self.finished_at,
            result: self.finished_at.map_or(String::new(), |_| self.result()),
        }
    }

    fn result(&self) -> String {
        let failed: Vec<String> = self
            .parts
            .iter()
            .filter_map(|(remote, part)| match part {
                Part::Failed { why } => Some(format!("{remote}: {why}")),
                _ => None,
            })
            .collect();
        match self.state() {
            JobState::Done if self.parts.len() == 1 => "the remote is equal now".to_owned(),
            JobState::Done => format!("all {} remotes are equal now", self.parts.len()),
            JobState::Canceled => "canceled".to_owned(),
            _ => format!("tried again by itself: {}", failed.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_job_ends_with_its_last_remote() {
        let mut jobs = Jobs::default();
        let id = jobs.create(vec!["a".into(), "b".into()], NOW);
        assert_eq!(jobs.show(id).unwrap().state, JobState::Queued);
        jobs.started("a");
        jobs.progressed("a", Progress { fraction: 0.5, bytes: 10, checked: 5, total: 10 });
        jobs.progressed("a", Progress { fraction: 0.4, bytes: 15, checked: 0, total: 0 });
        let job = jobs.show(id).unwrap();
        assert_eq!((job.progress, job.bytes_sent, job.entries_checked, job.entries_total), (0.25, 15, 5, 10));
        assert!(jobs.ended("a", Ok(20), NOW).is_empty());
        assert!(jobs.is_active() && jobs.wants("b") && !jobs.wants("a"));
        jobs.started("b");
        assert_eq!(jobs.ended("b", Err("down".into()), NOW), [id]);
        let job = jobs.show(id).unwrap();
        assert_eq!((job.state, job.bytes_sent), (JobState::Failed, 20));
        assert!(job.result.contains("b: down"), "{}", job.result);
    }

    #[test]
    fn a_canceled_job_frees_only_what_no_other_wants() {
        let mut jobs = Jobs::default();
        let first = jobs.create(vec!["a".into(), "b".into()], NOW);
        jobs.create(vec!["b".into()], NOW);
        assert_eq!(jobs.cancel(first, NOW), Some(vec!["a".into()]));
        assert_eq!(jobs.show(first).unwrap().state, JobState::Canceled);
        assert_eq!(jobs.cancel(JobId(99), NOW), None);
    }

    #[test]
    fn a_run_that_started_before_the_request_does_not_serve_it() {
        let mut jobs = Jobs::default();
        jobs.started("a");
        let id = jobs.create(vec!["a".into()], NOW);
        jobs.ended("a", Ok(0), NOW);
        assert_eq!(jobs.show(id).unwrap().state, JobState::Queued);
    }
}
