//! [`line()`]: a snapshot in one line, for `StatusText` of `systemctl status`. Says first what needs attention, then
//! what is going on; never more than one remote's or one problem's words, since it is cut at the terminal's edge.

use crate::agent::snapshot::{JobState, Remote, RemoteState, Snapshot, State};
use crate::human::{count, plural, rough};
use std::time::SystemTime;

/// Such as `3 remotes in sync, 1204 directories` or `web2 down 3 min, 512 pending`.
pub fn line(snapshot: &Snapshot, now: SystemTime) -> String {
    let parts = match snapshot.state {
        State::Starting => vec![
            "setting watches".to_owned(),
            some(snapshot.watched_directories, "directory", "directories", " so far").unwrap_or_default(),
        ],
        State::Stopping => vec!["stopping".to_owned(), left(snapshot.queue_depth())],
        State::Paused => vec!["paused".to_owned(), pending(snapshot.queue_depth())],
        State::Idle | State::Syncing | State::Degraded => at_work(snapshot, now),
    };
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn at_work(snapshot: &Snapshot, now: SystemTime) -> Vec<String> {
    let mut parts = Vec::new();
    let down: Vec<_> = snapshot.remotes.iter().filter(|remote| is_down(remote)).collect();
    match down.as_slice() {
        [] => parts.extend(first_problem(snapshot)),
        [one] => parts.push(format!("{} down{}", one.name, down_for(one, now))),
        several if several.len() == snapshot.remotes.len() => {
            parts.push(format!("all {} remotes down{}", several.len(), longest_down(several, now)));
        }
        several => parts.push(format!("{} of {} remotes down", several.len(), snapshot.remotes.len())),
    }
    let full_sync = snapshot.jobs.iter().find(|job| job.state == JobState::Running);
    if let Some(job) = full_sync {
        parts.push(format!("full sync at {:.0} %", (job.progress * 100.0).floor()));
    }
    let queue = snapshot.queue_depth();
    if queue > 0 {
        if down.is_empty() && full_sync.is_none() && parts.is_empty() {
            parts.push("syncing".to_owned());
        }
        parts.push(pending(queue));
    } else if down.is_empty() {
        parts.push(format!("{} in sync", plural(snapshot.remotes.len() as u64, "remote", "remotes")));
        parts.push(plural(snapshot.watched_directories, "directory", "directories"));
    }
    parts.extend(some(snapshot.failure_count(), "failed path", "failed paths", ""));
    parts
}

/// A remote whose runs all fail; single paths that fail leave it up.
fn is_down(remote: &Remote) -> bool {
    remote.state == RemoteState::Waiting && remote.last_error.is_some()
}

fn down_for(remote: &Remote, now: SystemTime) -> String {
    let since = remote.failing_since.and_then(|since| now.duration_since(since).ok());
    since.map(|time| format!(" {}", rough(time))).unwrap_or_default()
}

fn longest_down(remotes: &[&Remote], now: SystemTime) -> String {
    remotes.iter().min_by_key(|remote| remote.failing_since).map(|first| down_for(first, now)).unwrap_or_default()
}

fn first_problem(snapshot: &Snapshot) -> Option<String> {
    let first = snapshot.problems.first()?.lines().next().unwrap_or_default().to_owned();
    Some(match snapshot.problems.len() {
        1 => first,
        more => format!("{first} (and {} more)", more - 1),
    })
}

fn some(number: u64, one: &str, many: &str, tail: &str) -> Option<String> {
    (number > 0).then(|| format!("{}{tail}", plural(number, one, many)))
}

fn pending(queue: u64) -> String {
    if queue == 0 { String::new() } else { format!("{} pending", count(queue)) }
}

fn left(queue: u64) -> String {
    match queue {
        0 => String::new(),
        1 => "1 path stays pending".to_owned(),
        many => format!("{} paths stay pending", count(many)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::snapshot::{Fault, Job, JobId, Protection, StartedFrom};
    use std::time::Duration;

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
    }

    fn remote(name: &str) -> Remote {
        Remote {
            name: name.into(),
            address: name.into(),
            port: None,
            root: "/data/www".into(),
            state: RemoteState::Idle,
            queue_depth: 0,
            in_flight: 0,
            failures: 0,
            oldest_pending: None,
            last_error: None,
            failing_since: None,
            attempts: 0,
            last_success: None,
            last_full_sync: None,
            next_try: None,
            bytes_sent: 0,
            files_synced: 0,
            deletions_withheld: 0,
            withheld_reason: String::new(),
            withheld_paths: Vec::new(),
            refused_options: Vec::new(),
        }
    }

    fn down(name: &str, minutes: u64) -> Remote {
        Remote {
            state: RemoteState::Waiting,
            last_error: Some(Fault::new("ConnectionRefused", "…")),
            failing_since: Some(now() - Duration::from_secs(minutes * 60)),
            queue_depth: 512,
            ..remote(name)
        }
    }

    fn snapshot(state: State, remotes: Vec<Remote>) -> Snapshot {
        Snapshot {
            instance: "www".into(),
            config_path: None,
            watch_roots: vec!["/data/www".into()],
            state,
            paused: None,
            problems: Vec::new(),
            watched_directories: 1204,
            too_long_directories: 0,
            events_seen: 0,
            overflows: 0,
            files_synced: 0,
            bytes_sent: 0,
            started_at: now(),
            started_from: StartedFrom::Full,
            confinement: Protection::Landlock,
            never_sent: Vec::new(),
            last_sync_at: None,
            last_full_sync_at: None,
            next_full_sync_at: None,
            remotes,
            jobs: Vec::new(),
            plugins: Vec::new(),
        }
    }

    fn three() -> Vec<Remote> {
        vec![remote("web1"), remote("web2"), remote("web3")]
    }

    fn says(snapshot: &Snapshot, text: &str) {
        assert_eq!(line(snapshot, now()), text);
    }

    #[test]
    fn reads_well_in_every_state() {
        says(&snapshot(State::Idle, three()), "3 remotes in sync, 1204 directories");
        let one = Snapshot { watched_directories: 1, ..snapshot(State::Idle, vec![remote("web1")]) };
        says(&one, "1 remote in sync, 1 directory");
        let start = Snapshot { watched_directories: 12_034, ..snapshot(State::Starting, three()) };
        says(&start, "setting watches, 12034 directories so far");
        says(&Snapshot { watched_directories: 0, ..start }, "setting watches");

        let mut busy = snapshot(State::Syncing, three());
        busy.remotes[0].queue_depth = 1000;
        busy.remotes[0].in_flight = 24;
        says(&busy, "syncing, 1024 pending");
        says(&Snapshot { state: State::Paused, ..busy.clone() }, "paused, 1024 pending");
        says(&Snapshot { state: State::Stopping, ..busy }, "stopping, 1024 paths stay pending");
        says(&snapshot(State::Stopping, three()), "stopping");
        says(&snapshot(State::Paused, three()), "paused");
    }

    #[test]
    fn names_the_remote_that_is_down() {
        let one = vec![remote("web1"), down("web2", 3)];
        says(&snapshot(State::Degraded, one), "web2 down 3 min, 512 pending");
        let two = vec![remote("web1"), down("web2", 3), down("web3", 5)];
        says(&snapshot(State::Degraded, two), "2 of 3 remotes down, 1024 pending");
        let all = vec![down("web2", 3), down("web3", 5)];
        says(&snapshot(State::Degraded, all), "all 2 remotes down 5 min, 1024 pending");
    }

    #[test]
    fn tells_problems_failures_and_full_syncs() {
        let mut lost = snapshot(State::Degraded, three());
        lost.problems = vec!["/data/www is missing: waiting for it".into()];
        says(&lost, "/data/www is missing: waiting for it, 3 remotes in sync, 1204 directories");
        lost.problems.push("no more watches".into());
        assert!(line(&lost, now()).starts_with("/data/www is missing: waiting for it (and 1 more), "));

        let mut full = snapshot(State::Syncing, three());
        full.remotes[1].failures = 2;
        full.remotes[1].queue_depth = 2;
        full.jobs.push(Job {
            id: JobId(1),
            remotes: vec!["web1".into()],
            state: JobState::Running,
            progress: 0.429,
            entries_checked: 0,
            entries_total: 0,
            bytes_sent: 0,
            created_at: now(),
            finished_at: None,
            result: String::new(),
        });
        says(&full, "full sync at 42 %, 2 pending, 2 failed paths");
    }
}
