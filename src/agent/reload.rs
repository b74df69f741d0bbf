//! A new config for a running agent: what both have in common goes on untouched.

use super::engine::Engine;
use super::handle::{Answer, CommandError};
use super::mount_guard::MountGuard;
use super::remote::{Remote, RemoteId};
use super::reserve::Reserve;
use super::root::{Root, start_watch};
use crate::config::{Config, Destination};
use crate::filter::EntryKind;
use crate::message_ids;
use crate::path::RelPath;
use crate::pending::Kind;
use crate::time;
use crate::transport::{Endpoint, SharedConnection};
use crate::watch::Kept;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

impl Engine {
    /// Each remote of the config with its root and its name: the address, with a number behind it where two of the
    /// same root or of different roots would have the same.
    pub(super) fn named_remotes(&self) -> Vec<(PathBuf, String, Destination)> {
        let mut seen: HashMap<String, u32> = HashMap::new();
        let all = self.config.roots.iter().flat_map(|root| root.remotes.iter().map(move |remote| (root, remote)));
        all.map(|(root, destination)| {
            let address = destination.to_string();
            let nth = seen.entry(address.clone()).and_modify(|nth| *nth += 1).or_insert(1);
            let name = if *nth == 1 { address } else { format!("{address}#{nth}") };
            (root.path.clone(), name, destination.clone())
        })
        .collect()
    }

    pub(super) fn new_remote(&mut self, root: PathBuf, name: String, destination: Destination) -> Remote {
        self.next_remote += 1;
        let number = self.next_remote;
        let shared =
            SharedConnection::new(&destination, &self.config.rsync.ssh, &self.state_directory, number as usize);
        let mut endpoint = Endpoint::new(destination, &self.config.rsync);
        if let Some(shared) = &shared {
            endpoint = endpoint.with_control_socket(shared.socket().to_path_buf());
        }
        let remembered = self.memory.of(&root, &name);
        let shape = self.roots.iter().find(|known| known.path == root).and_then(|known| known.shape.clone());
        let mut remote = Remote::new(RemoteId(number), name, root, endpoint, self.config.agent.pending_limit);
        remote.mount_guard = MountGuard::new(remembered);
        if let Some(shape) = shape {
            // It is compared as a new one.
            remote.mount_guard.mounted(&shape);
        }
        remote.set.set_longest_pause(self.longest_pause());
        remote.shared = shared;
        remote.reserve = Reserve::new(self.config.agent.ahead);
        remote
    }

    /// The config was read again for `callers`.
    pub(super) fn loaded(&mut self, config: Result<Config, CommandError>, callers: Vec<Answer<()>>) {
        let result = self.reload(config);
        self.reload_refused = match &result {
            Err(CommandError::BadConfig(mistakes)) => mistakes.lines().next().map(str::to_owned),
            _ => None,
        };
        self.dirty = true;
        // An answer must not be older than what the caller reads next.
        self.publish(time::now());
        for caller in callers {
            // A caller that has gone needs no answer.
            let _ = caller.send(result.clone());
        }
        self.loading.begin();
    }

    /// Follows `config`. A bad one changes nothing.
    fn reload(&mut self, config: Result<Config, CommandError>) -> Result<(), CommandError> {
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(message_id = message_ids::CONFIG_REFUSED, "{error}");
                return Err(error);
            }
        };
        let old = std::mem::replace(&mut self.config, config);
        if let Some(conflict) = self.compare_places() {
            self.config = old;
            let error = CommandError::BadConfig(format!("{conflict}; leave one of them out"));
            tracing::error!(message_id = message_ids::CONFIG_REFUSED, "{error}");
            return Err(error);
        }
        self.reload_roots(&old)?;
        self.reload_remotes(&old);
        self.remotes.iter_mut().for_each(|remote| remote.guard.forget());
        self.compare_places();
        let when = |config: &Config| config.crontab.as_ref().map(|crontab| crontab.when.clone());
        self.fail_log.changed();
        if when(&self.config) != when(&old) {
            self.start_clock(None);
        }
        self.ledger.renumber();
        self.plugins.follow(&self.config, &self.instance);
        self.log_confinement();
        tracing::info!(message_id = message_ids::CONFIG_RELOADED, "the config was read again");
        Ok(())
    }

    fn reload_roots(&mut self, old: &Config) -> Result<(), CommandError> {
        let wanted: Vec<PathBuf> = self.config.roots.iter().map(|root| root.path.clone()).collect();
        let changed = self.config.events != old.events
            || self.config.filter != old.filter
            || self.config.agent.temporary_names != old.agent.temporary_names;
        let mut fresh = Vec::new();
        for path in &wanted {
            if self.roots.iter().any(|root| root.path == *path) {
                continue;
            }
            let id = self.new_watch_id();
            let keeper = self.keeper.as_deref_mut();
            match Root::start(&*self.machine, path.clone(), id, &self.config, None, keeper, &self.report_sender) {
                Ok(root) => fresh.push(root),
                Err(error) => {
                    self.config = old.clone();
                    self.forget_all_but_watched(&wanted);
                    return Err(CommandError::BadConfig(format!("{} cannot be watched: {error}", path.display())));
                }
            }
        }
        // All that can fail comes first: a config is in force as a whole or not at all.
        let mut anew = Vec::new();
        for at in 0..self.roots.len() {
            if !changed || !wanted.contains(&self.roots[at].path) {
                continue;
            }
            let id = self.new_watch_id();
            let kept = self.keeper.is_some().then(Kept::new).transpose();
            let watch = kept.and_then(|kept| {
                let again = kept.as_ref().map(Kept::try_clone).transpose()?;
                let (path, reports) = (&self.roots[at].path, &self.report_sender);
                Ok((start_watch(&*self.machine, path, id, &self.config, None, kept, reports)?, again))
            });
            match watch {
                Ok((watch, kept)) => anew.push((at, id, watch, kept)),
                Err(error) => {
                    let path = self.roots[at].path.display().to_string();
                    self.config = old.clone();
                    self.forget_all_but_watched(&wanted);
                    return Err(CommandError::BadConfig(format!("{path} cannot be watched: {error}")));
                }
            }
        }
        for (at, id, watch, kept) in anew {
            let root = &mut self.roots[at];
            // From now on this one is the watch to be resumed; until it is ready, there is nothing to resume.
            if let (Some(keeper), Some(kept)) = (&mut self.keeper, kept) {
                keeper.keep(&root.path, &kept);
            }
            self.past_events += root.watch().events_seen();
            self.past_overflows += root.watch().overflows();
            let tokens = self.barriers.watch_replaced(root.id, id);
            root.replace_watch(id, watch);
            for token in tokens {
                root.watch().drain(token);
            }
        }
        for root in self.roots.iter().filter(|root| !wanted.contains(&root.path)) {
            self.past_events += root.watch().events_seen();
            self.past_overflows += root.watch().overflows();
            self.barriers.watch_gone(root.id, self.seq);
            if let Some(keeper) = &mut self.keeper {
                keeper.forget(&root.path);
            }
        }
        self.roots.retain(|root| wanted.contains(&root.path));
        self.roots.extend(fresh);
        Ok(())
    }

    /// A root that was to be watched and will not be has nothing to be resumed.
    fn forget_all_but_watched(&mut self, wanted: &[PathBuf]) {
        let Some(keeper) = &mut self.keeper else { return };
        for path in wanted.iter().filter(|path| self.roots.iter().all(|root| root.path != **path)) {
            keeper.forget(path);
        }
    }

    fn reload_remotes(&mut self, old: &Config) {
        let (now, wall) = (time::now(), time::wall());
        // What was excluded is missing on the remotes; what no event told of, or was sent in another way, may differ.
        let compare = self.config.filter != old.filter
            || self.config.events != old.events
            || self.config.deletions != old.deletions
            || self.config.rsync.params != old.rsync.params;
        let mut before = std::mem::take(&mut self.remotes);
        for (root, name, destination) in self.named_remotes() {
            let kept = before.iter().position(|remote| remote.name == name && remote.root == root);
            let Some(mut remote) = kept.map(|at| before.swap_remove(at)) else {
                let mut remote = self.new_remote(root, name, destination);
                let seq = self.next_seq();
                remote.report(RelPath::root(), Kind::Tree, seq, now, wall, false);
                self.remotes.push(remote);
                continue;
            };
            let moved = !leads_to_the_same(remote.destination(), &destination);
            if self.config.rsync.ssh != old.rsync.ssh {
                let (ssh, number) = (&self.config.rsync.ssh, remote.id.0 as usize);
                remote.shared = SharedConnection::new(&destination, ssh, &self.state_directory, number);
            }
            let mut endpoint = Endpoint::new(destination, &self.config.rsync);
            if let Some(shared) = &remote.shared {
                endpoint = endpoint.with_control_socket(shared.socket().to_path_buf());
            }
            remote.reserve = Reserve::new(self.config.agent.ahead);
            if *remote.endpoint != endpoint {
                remote.endpoint = Arc::new(endpoint);
                // What failed may have failed for what was just mended.
                remote.retry(now);
            }
            remote.set.set_limit(self.config.agent.pending_limit);
            remote.set.set_longest_pause(self.longest_pause());
            if !self.config.filter.is_empty() {
                // What is excluded as a directory alone may be none: the run looks.
                let filter = self.config.filter.clone();
                remote.set.drop_waiting(|path| filter.excludes(path, EntryKind::NonDirectory));
            }
            // A run that began under another filter would bring what is excluded now. All it has is pending again.
            if self.config.filter != old.filter {
                remote.flights.values().for_each(|flight| flight.abort.abort());
            }
            if compare || moved {
                let seq = self.next_seq();
                remote.report(RelPath::root(), Kind::Tree, seq, now, wall, false);
            }
            self.remotes.push(remote);
        }
        for gone in before {
            for flight in gone.flights.values() {
                flight.abort.abort();
            }
            let ended = self.jobs.remote_removed(&gone.name, wall);
            self.tell_jobs(&ended);
        }
    }
}

/// Whether two addresses lead to the same place, whatever password opens it.
fn leads_to_the_same(a: &Destination, b: &Destination) -> bool {
    match (a, b) {
        (
            Destination::Daemon { user, host, port, module, .. },
            Destination::Daemon { user: user_b, host: host_b, port: port_b, module: module_b, .. },
        ) => (user, host, port, module) == (user_b, host_b, port_b, module_b),
        _ => a == b,
    }
}
