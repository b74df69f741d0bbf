//! What the watches report, taken in: changes become pending, all else is told.

use super::engine::Engine;
use super::remote::{Moves, Remote};
use super::root::{Condition, WatchId};
use super::snapshot::{Notice, StartedFrom};
use crate::config::Deletions;
use crate::failpoint::may_die_here;
use crate::human;
use crate::message_ids;
use crate::path::RelPath;
use crate::pending::Kind;
use crate::time;
use crate::watch::{Change, Report, TooLong};
use std::collections::HashSet;

impl Engine {
    pub(super) fn take_report(&mut self, watch: WatchId, report: Report) {
        let Some(at) = self.roots.iter().position(|root| root.id == watch) else {
            // A watch that is being replaced speaks of changes only, and knows nothing of the filter in force.
            if let Report::Changes(mut changes) = report
                && let Some(at) = self.roots.iter().position(|root| root.is_replacing(watch))
            {
                self.dirty = true;
                changes.retain(|change| !self.config.filter.excludes(&change.path, change.hint.entry_kind()));
                self.take_changes(at, changes);
            }
            return;
        };
        self.dirty = true;
        self.roots[at].report_taken();
        match report {
            Report::Changes(changes) => self.take_changes(at, changes),
            // Not asked for.
            Report::Events(_) => {}
            Report::Overflowed => {
                let root = self.roots[at].path.clone();
                if let Some(times) = self.roots[at].overflows_told.happened_again(time::now()) {
                    let again = match times.count {
                        1 => String::new(),
                        count => format!(" ({count} times in {})", human::rough(times.within)),
                    };
                    tracing::warn!(
                        message_id = message_ids::OVERFLOW,
                        "{}: more events than the kernel's queue holds{again}; the tree is walked again, nothing is \
                         lost. `sysctl fs.inotify.max_queued_events` sets the queue's length",
                        root.display()
                    );
                }
                self.notify(Notice::Overflowed { root });
            }
            Report::Mounted(shape) => self.root_mounted(at, shape),
            Report::RootMissing(why) => {
                self.mirrors_of(at).for_each(|remote| {
                    remote.set.doubt();
                    remote.mount_guard.root_lost();
                });
                let root = &mut self.roots[at];
                tracing::warn!(
                    message_id = message_ids::ROOT_MISSING,
                    "{}: {why}; waiting for it",
                    root.path.display()
                );
                root.missing(why, time::now());
                self.publish(time::now());
            }
            Report::RootReady { returned, resumed } => self.root_ready(at, returned, resumed),
            Report::Unwatched { directory, reason } => {
                let root = &mut self.roots[at];
                if root.unwatched.is_empty() {
                    tracing::warn!(
                        message_id = message_ids::WATCH_LIMIT,
                        sersync_path = %directory.display(),
                        "{} is not watched: {reason}",
                        directory.under(&root.path).display()
                    );
                }
                root.unwatched.insert(directory, reason);
            }
            Report::TooLong(too_long) => self.too_long(at, too_long),
            Report::AllWatched => {
                tracing::info!("{}: all of it is watched again", self.roots[at].path.display());
                self.roots[at].unwatched.clear();
            }
            Report::Marked => {
                if let Some(told) = self.roots[at].marked(time::now()) {
                    self.mirrors_of(at).for_each(|remote| remote.set.all_told(told));
                }
            }
            Report::MarkedHeld => {
                if let Some(told) = self.roots[at].marked_held() {
                    self.mirrors_of(at).for_each(|remote| remote.set.nothing_held(told));
                }
            }
            // Of a root that is not there nothing is known.
            Report::Drained(_) if !self.roots[at].is_there() => {}
            Report::Drained(token) => {
                self.barriers.drained(watch, token, self.seq);
                // The caller does not wait for a pause that a path has for changing again and again.
                let now = time::now();
                self.remotes.iter_mut().for_each(|remote| remote.try_restless(now));
            }
        }
    }

    /// Other directories of the root `at` than before are not mirrored because of the length of their paths.
    fn too_long(&mut self, at: usize, too_long: TooLong) {
        let root = &mut self.roots[at];
        match (root.too_long.directories, &too_long) {
            (0, TooLong { directories: 1.., holder: Some(holder), .. }) => tracing::warn!(
                message_id = message_ids::PATH_TOO_LONG,
                sersync_path = %holder.display(),
                "{}",
                root.too_long_problem(holder)
            ),
            (1.., TooLong { directories: 0, .. }) => {
                tracing::info!("{}: no directory has too long a path any more", root.path.display());
            }
            _ => {}
        }
        root.too_long = too_long;
    }

    /// The remotes of the root `at`.
    fn mirrors_of(&mut self, at: usize) -> impl Iterator<Item = &mut Remote> {
        let root = &self.roots[at].path;
        self.remotes.iter_mut().filter(move |remote| remote.root == *root)
    }

    fn take_changes(&mut self, at: usize, changes: Vec<Change>) {
        let (now, wall) = (time::now(), time::wall());
        if tracing::enabled!(tracing::Level::DEBUG) {
            for Change { path, hint, .. } in &changes {
                tracing::debug!(sersync_path = %path.display(), "pending: {} ({hint:?})", path.display());
            }
        }
        if self.config.alone.is_some() {
            return self.tell_changes(at, changes);
        }
        may_die_here!("changes-reported");
        let moves = self.moves();
        let origins: HashSet<RelPath> = match moves {
            Moves::None => HashSet::new(),
            Moves::OfFiles | Moves::All => changes.iter().filter_map(|change| change.from.clone()).collect(),
        };
        let root = self.roots[at].path.clone();
        for change in changes {
            if self.take_probe(&root, &change.path) {
                continue;
            }
            let seq = self.next_seq();
            let departs = origins.contains(&change.path);
            let pause = self.echoes.pause(&self.roots[at].path, &change.path, now);
            for remote in self.remotes.iter_mut().filter(|remote| remote.root == self.roots[at].path) {
                if departs {
                    remote.departs(&change, moves);
                }
                remote.change(&change, moves, seq, now, wall);
                if let Some(until) = pause {
                    remote.set.park(&change.path, until);
                }
            }
        }
    }

    /// What may be moved on remotes: nothing, where nothing may be removed from its place as it happens; files, where
    /// a directory may hold what is excluded at one of its places and not at the other.
    fn moves(&self) -> Moves {
        match (self.config.events.delete && self.config.deletions != Deletions::FullSyncs, &self.config.filter) {
            (false, _) => Moves::None,
            (true, filter) if filter.is_empty() => Moves::All,
            (true, _) => Moves::OfFiles,
        }
    }

    fn root_ready(&mut self, at: usize, returned: bool, resumed: bool) {
        let now = time::now();
        let root = &mut self.roots[at];
        let was_starting = root.condition == Condition::Starting;
        let was_replaced = root.ready();
        let (path, directories) = (root.path.clone(), root.watch().watched_directories());
        if returned {
            tracing::info!(message_id = message_ids::ROOT_BACK, "{}: is back", path.display());
        } else if was_starting {
            tracing::info!(
                message_id = message_ids::AGENT_STARTED,
                "watching {}: {}",
                path.display(),
                human::plural(directories, "directory", "directories")
            );
        }
        if resumed {
            self.roots[at].mark(now);
        }
        let (seq, wall) = (self.next_seq(), time::wall());
        for remote in self.remotes.iter_mut().filter(|remote| remote.root == path) {
            if resumed {
                remote.set.taken_over(now);
            }
            let missed = std::mem::take(&mut remote.unless_resumed) && !resumed;
            if missed {
                self.started_from = self.started_from.max(StartedFrom::Replayed);
            }
            if was_replaced || missed {
                remote.report(RelPath::root(), Kind::Tree, seq, now, wall, false);
            }
            remote.changed(now);
        }
        for token in self.barriers.waiting_for(self.roots[at].id) {
            self.roots[at].watch().drain(token);
        }
        self.roots[at].mark(now);
        if self.config.alone.is_none() && !resumed {
            self.look_for_probes(at);
        }
        // Whoever waits for the agent to be ready waits for this.
        self.publish(now);
    }
}
