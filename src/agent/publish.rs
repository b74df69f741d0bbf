//! Snapshots: the agent's state as others see it, made when something changed, but not for each change.

use super::engine::Engine;
use super::root::{Condition, Root};
use super::snapshot::{Protection, Snapshot, State};
use crate::human::shortened;
use crate::pending::Lane;
use crate::time;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Maximum length of a problem, in bytes.
const LONGEST_PROBLEM: usize = 8 << 10;

/// A new snapshot at most so often.
pub(super) const SNAPSHOT_INTERVAL: Duration = Duration::from_millis(100);

impl Engine {
    pub(super) fn publish_if_due(&mut self, now: Instant) {
        if self.jobs.is_active() {
            for remote in &self.remotes {
                let full = remote.flights.values().find(|flight| flight.lane == Lane::Background);
                if let Some(progress) = full.and_then(|flight| flight.pulse.borrow().progress) {
                    self.jobs.progressed(&remote.name, progress);
                    self.dirty = true;
                }
            }
        }
        if self.dirty && now.duration_since(self.snapshot_at) >= SNAPSHOT_INTERVAL {
            self.publish(now);
        }
    }

    pub(super) fn publish(&mut self, now: Instant) {
        let remotes: Vec<_> = self.remotes.iter().map(|remote| remote.snapshot(self.paused.is_some(), now)).collect();
        let problems = self.problems();
        let sum = |count: fn(&Root) -> u64| self.roots.iter().map(count).sum::<u64>();
        let plugins = self.plugins.status();
        // Where a plugin only hears of what was mirrored, its troubles are none of the mirror's.
        let alone = self.config.alone.is_some();
        let pending = remotes.iter().any(|remote| remote.queue_depth + remote.in_flight > 0)
            || alone && plugins.iter().any(|plugin| plugin.waiting + plugin.running > 0);
        let failing = remotes.iter().any(|remote| remote.attempts > 0 || remote.failures > 0)
            || alone && plugins.iter().any(|plugin| !plugin.last_error.is_empty());
        let state = match () {
            () if self.stopping => State::Stopping,
            () if self.paused.is_some() => State::Paused,
            () if !problems.is_empty() || failing => State::Degraded,
            () if self.roots.iter().any(|root| root.condition == Condition::Starting) => State::Starting,
            () if pending => State::Syncing,
            () => State::Idle,
        };
        let full: Option<Vec<SystemTime>> = self.remotes.iter().map(|remote| remote.last_full_sync).collect();
        let snapshot = Snapshot {
            instance: self.instance.clone(),
            config_path: self.config.file.clone(),
            watch_roots: self.roots.iter().map(|root| root.path.clone()).collect(),
            state,
            paused: self.paused.clone(),
            problems,
            watched_directories: sum(|root| root.watch().watched_directories()),
            too_long_directories: sum(|root| root.too_long.directories),
            events_seen: self.past_events + sum(|root| root.watch().events_seen()),
            overflows: self.past_overflows + sum(|root| root.watch().overflows()),
            files_synced: self.totals.entries,
            bytes_sent: self.totals.bytes_sent,
            started_at: self.started_at,
            started_from: self.started_from,
            confinement: self.confinement(),
            never_sent: self.config.rsync.selections.clone(),
            last_sync_at: self.last_sync_at,
            last_full_sync_at: full.and_then(|times| times.into_iter().min()),
            next_full_sync_at: self.next_full_sync_at(now),
            remotes,
            jobs: self.jobs.snapshot(),
            plugins,
        };
        self.fail_log.look(&self.remotes);
        self.note_history(now);
        self.snapshots.send_replace(Arc::new(snapshot));
        self.snapshot_at = now;
        self.dirty = false;
    }

    /// The confinement that holds for every remote.
    fn confinement(&self) -> Protection {
        let of_remotes = self.remotes.iter().map(|remote| remote.endpoint.protection()).min();
        of_remotes.unwrap_or_else(Protection::of_kernel)
    }

    /// Logs which confinement is in force, if that is not what was logged last.
    pub(super) fn log_confinement(&mut self) {
        let confinement = self.confinement();
        if self.remotes.is_empty() || self.confinement_logged.replace(confinement) == Some(confinement) {
            return;
        }
        match confinement {
            Protection::Landlock => tracing::info!(
                "confinement: rsync and ssh can read the watched directories and what they need to start, nothing else \
                 (Landlock)"
            ),
            Protection::Permissions => tracing::info!(
                "confinement: rsync and ssh can read what the agent's user can read, by its permissions: this kernel has no \
                 Landlock, or one too old for a local copy with hard links (5.19)"
            ),
            Protection::None => tracing::warn!(
                "no confinement: this kernel has no Landlock (Linux 5.13, enabled at boot), or one too old for a local \
                 copy with hard links (5.19). A user who can write to a watched directory may have any file sent that \
                 the agent can read; see WHAT IT MAY DO in `man sersync@.service`"
            ),
        }
    }

    fn problems(&self) -> Vec<String> {
        let missing = self.roots.iter().filter_map(|root| match &root.condition {
            Condition::Missing(why) => Some(format!("{}: {why}; waiting for it", root.path.display())),
            _ => None,
        });
        let unwatched = self.roots.iter().filter_map(|root| {
            let (directory, reason) = root.unwatched.first_key_value()?;
            let more = root.unwatched.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" (and {more} more directories)") };
            Some(format!("{} is not watched: {reason}{more}", directory.under(&root.path).display()))
        });
        let too_long = self.roots.iter().filter_map(|root| {
            let holder = root.too_long.holder.as_ref()?;
            let more = match root.too_long.directories {
                0 | 1 => String::new(),
                directories => format!(" ({directories} such directories in all)"),
            };
            Some(root.too_long_problem(holder) + &more)
        });
        let withheld = self.mount_problems().chain(self.withheld_problems());
        let refused = self.reload_refused.iter().map(|mistake| {
            format!("the config file cannot be used, an older config is in force until a reload succeeds: {mistake}")
        });
        let echo = self.echo_problem(time::now());
        let all = missing.chain(unwatched).chain(too_long).chain(self.ledger.problem.clone());
        let all = all.chain(withheld).chain(refused).chain(echo);
        all.map(|problem| shortened(problem, LONGEST_PROBLEM)).collect()
    }
}
