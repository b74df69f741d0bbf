//! What plugins are told, and when.
//!
//! A path is told of once it is on every remote of its root that answers. One that does not answer is not waited for:
//! the path is told of without it, and once more when that remote has it. With a plugin in rsync's place every change is
//! told of as it comes. Nothing here waits for a plugin.

use super::engine::Engine;
use crate::human;
use crate::path::RelPath;
use crate::plugin::{Cause, Place, Told, unfinished};
use crate::transport::{Deed, Synced};
use crate::watch::{Change, Hint};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So often it is looked whether what some remotes have is still awaited by others.
const REVIEW_INTERVAL: Duration = Duration::from_millis(250);

/// So many paths at most are kept until all remotes have them; others are told of at once.
const KEPT_AT_MOST: usize = 20_000;

/// Paths that some remotes have and others are about to have.
#[derive(Debug, Default)]
pub(super) struct Partial {
    paths: HashMap<Place, (Cause, Vec<Arc<str>>)>,
    reviewed: Option<Instant>,
}

impl Engine {
    /// Starts the plugins, with what they had not been told when the agent stopped.
    pub(super) fn begin_plugins(&mut self) {
        self.plugins.follow(&self.config, &self.instance);
        match unfinished::read(&self.state_directory) {
            Ok(unfinished) => {
                self.unfinished_on_disk = !unfinished.is_empty();
                self.plugins.resume(unfinished);
            }
            Err(error) => tracing::error!(
                "what plugins were still to be told of cannot be read in {}: {error}; they will not hear of it",
                self.state_directory.display()
            ),
        }
    }

    /// Removes the list of what an earlier process had not delivered, once all of it is delivered.
    pub(super) fn forget_unfinished(&mut self) {
        if !self.unfinished_on_disk || !self.plugins.is_idle() {
            return;
        }
        self.unfinished_on_disk = false;
        if let Err(error) = unfinished::save(&self.state_directory, &[]) {
            tracing::warn!(
                "the list of what plugins were still to be told of cannot be removed in {}: {error}; after the next start \
                 they are told of it once more",
                self.state_directory.display()
            );
        }
    }

    /// Ends the plugins. Returns whether what they were not told of is kept for the next start.
    pub(super) async fn end_plugins(&mut self, within: Duration) -> bool {
        // What only some remotes have is told of now: the next life does not know which.
        let partial = std::mem::take(&mut self.partial).paths;
        let told = partial.into_iter().map(|(place, (cause, remotes))| Told { place, cause, remotes });
        self.plugins.tell(told.collect());
        let left = self.plugins.stop(within).await;
        let untold: usize = left.iter().map(|target| target.told.len()).sum();
        let saved = unfinished::save(&self.state_directory, &left);
        match &saved {
            Ok(()) if untold > 0 => {
                tracing::info!(
                    sersync_paths = untold,
                    "{} not reported to plugins yet",
                    human::plural(untold as u64, "path is", "paths are")
                )
            }
            Ok(()) => {}
            Err(error) => tracing::error!(
                sersync_paths = untold,
                "{} not reported to plugins yet, and the list cannot be saved in {}: {error}",
                human::plural(untold as u64, "path is", "paths are"),
                self.state_directory.display()
            ),
        }
        saved.is_ok()
    }

    /// A run to the remote at `at` made these paths equal.
    pub(super) fn tell_synced(&mut self, at: usize, synced: Vec<Synced>) {
        if synced.is_empty() || self.plugins.is_empty() {
            return;
        }
        let (root, name): (Arc<Path>, Arc<str>) =
            (self.remotes[at].root.as_path().into(), self.remotes[at].name.as_str().into());
        let mut told = Vec::new();
        for Synced { path, deed } in synced {
            let place = Place { root: root.clone(), path };
            let cause = match deed {
                Deed::Sent => Cause::default(),
                Deed::Attributes => Cause { attributes_only: true, ..Cause::default() },
                Deed::Deleted { directory } => Cause { was_directory: directory, ..Cause::default() },
            };
            let (cause, mut remotes) = match self.partial.paths.remove(&place) {
                Some((before, remotes)) => (before.merge(cause), remotes),
                None => (cause, Vec::new()),
            };
            if !remotes.contains(&name) {
                remotes.push(name.clone());
            }
            if self.partial.paths.len() < KEPT_AT_MOST && self.is_awaited(&place, &remotes) {
                self.partial.paths.insert(place, (cause, remotes));
            } else {
                told.push(Told { place, cause, remotes });
            }
        }
        self.plugins.tell(told);
    }

    /// Tells of what nobody waits for any more: a remote may have gone down, or have got a path with its directory.
    pub(super) fn review_partial(&mut self, now: Instant) {
        if self.next_review().is_none_or(|at| at > now) {
            return;
        }
        self.partial.reviewed = Some(now);
        let places: Vec<Place> = self
            .partial
            .paths
            .iter()
            .filter(|(place, (_, remotes))| !self.is_awaited(place, remotes))
            .map(|(place, _)| place.clone())
            .collect();
        let told = places.into_iter().filter_map(|place| {
            let (cause, remotes) = self.partial.paths.remove(&place)?;
            Some(Told { place, cause, remotes })
        });
        let told = told.collect();
        self.plugins.tell(told);
    }

    /// When [`Engine::review_partial`] has something to look at.
    pub(super) fn next_review(&self) -> Option<Instant> {
        let last = self.partial.reviewed.unwrap_or(self.snapshot_at);
        (!self.partial.paths.is_empty()).then(|| last + REVIEW_INTERVAL)
    }

    /// Whether a remote that answers is about to have it too.
    fn is_awaited(&self, place: &Place, have: &[Arc<str>]) -> bool {
        self.remotes.iter().any(|remote| {
            remote.root == *place.root
                && remote.backoff.attempts() == 0
                && !have.iter().any(|name| **name == *remote.name)
                && remote.set.is_on_its_way(&place.path)
        })
    }

    /// With a plugin in rsync's place: changes as they come.
    pub(super) fn tell_changes(&mut self, at: usize, changes: Vec<Change>) {
        let root: Arc<Path> = self.roots[at].path.as_path().into();
        let told = changes.into_iter().filter_map(|Change { path, hint, .. }| {
            let cause = cause_of(&path, hint)?;
            Some(Told { place: Place { root: root.clone(), path }, cause, remotes: Vec::new() })
        });
        self.plugins.tell(told.collect());
    }
}

/// What is known of why a change is told of; `None`: it is nothing to be told of.
fn cause_of(path: &RelPath, hint: Hint) -> Option<Cause> {
    let cause = Cause::default();
    match hint {
        _ if path.is_root() => None,
        Hint::Passed | Hint::BeingWritten => None,
        Hint::Attributes => Some(Cause { attributes_only: true, ..cause }),
        Hint::Entry | Hint::Removed => Some(cause),
        Hint::NewDirectory | Hint::Rescan | Hint::Missed => Some(Cause { was_directory: true, ..cause }),
        Hint::Arrived => Some(Cause { was_directory: true, arrived: true, ..cause }),
    }
}
