//! [`Guard`]: whether comparisons with a remote may delete what only the remote has.
//!
//! Two mirrors that meet (a circle of hosts, two addresses of one directory, a module that serves a watched root)
//! delete each other's files, and already the first comparison deletes the only copy. So:
//!
//! 1. A comparison with a remote that is not proven leaves deletions out and counts them; everything else
//!    that differs is sent. If the count is zero, no proof is needed and the comparison is complete.
//! 2. Otherwise its paths wait, and a round of probes finds out where the remotes of the instance lead
//!    (`transport::probe_places`). A round serves every remote that waits; rounds do not overlap.
//! 3. A remote that leads to no other mirror is proven for [`PROOF_LASTS`], and what waited is compared again. One that
//!    meets another mirror gets no deletions by comparison until the config is read again, and the agent reports that as
//!    a problem. One that leads into another watched root of this machine, and not back, or that takes no probe, gets
//!    them by `FullSync` only.
//!
//! A probe of another agent is forwarded at once, despite a pause, a busy remote or a full sync: the agent that waits for
//! it takes silence for proof.
//!
//! A path that is removed from the tree is deleted on the remote by name, whatever the guard says: in a circle both
//! sides expect that.
//!
//! Invariant: a run of [`Kind::Pruned`] and above deletes by comparison only where [`Guard::withholds`] was false when it
//! started.

use super::engine::Engine;
use super::remote::RemoteId;
use crate::config::overlap::{self, Conflict, Mirror, Places};
use crate::human;
use crate::message_ids;
use crate::path::RelPath;
use crate::pending::{Kind, Lane};
use crate::probe_name;
use crate::time;
use crate::transport::{Findings, Order, Outcome, Probed, fault_name};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;

/// Time that a probe gets to come back from other hosts, each of which sends it on at once. Only a comparison that found
/// something to delete waits so long.
const RETURN_TIME: Duration = Duration::from_secs(3);

/// Time after which a comparison that would delete something needs another proof: meanwhile a circle may have been closed.
const PROOF_LASTS: Duration = Duration::from_secs(60);

/// Time after which a path that waits for a round is ready again, should no round end.
const ROUND_AT_MOST: Duration = Duration::from_secs(600);

/// rsync's exit statuses where a remote answers and does not take the probe; see "EXIT VALUES" in rsync(1).
const NOT_TAKEN: [i32; 3] = [3, 4, 23];

/// Maximum number of probes of other agents that are sent on at once; the rest goes with the other changes.
const SENT_AT_ONCE: usize = 64;

/// Maximum number of probe names that are remembered, for those that come back late.
const NAMES_AT_MOST: usize = 10_000;

/// The place that a remote leads to, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// Nothing yet.
    #[default]
    Unknown,
    /// A comparison left deletions out: the next round of probes decides.
    ToBeProbed,
    /// No other mirror, as a round found at that time.
    Apart(Instant),
    /// It takes no probe, for the reason that the text gives.
    Closed(String),
    /// Another watched directory of this machine, from which no way leads back.
    Watched(PathBuf),
    /// It meets another mirror, as the text says.
    Meets(String),
}

/// Whether comparisons with a remote may delete.
#[derive(Debug, Default)]
pub struct Guard {
    place: Place,
    /// Deletions that the last comparison left out.
    withheld: u64,
    /// Paths that are parked until the next round of probes ends.
    parked: Vec<RelPath>,
}

impl Guard {
    /// Whether a comparison leaves deletions out. `requested`: a caller asked for this full sync.
    pub fn withholds(&self, requested: bool, now: Instant) -> bool {
        match &self.place {
            Place::Apart(proven) => now.duration_since(*proven) > PROOF_LASTS,
            Place::Watched(_) | Place::Closed(_) => !requested,
            Place::Unknown | Place::ToBeProbed | Place::Meets(_) => true,
        }
    }

    /// A comparison left out `count` deletions. Returns whether its paths have to wait for a round of probes.
    pub fn withheld(&mut self, count: u64) -> bool {
        self.withheld = count;
        if count > 0 && matches!(self.place, Place::Unknown | Place::Apart(_)) {
            self.place = Place::ToBeProbed;
        }
        count > 0 && self.place == Place::ToBeProbed
    }

    /// Voids an earlier proof, and an earlier refusal of a probe: files that were sent came back, a caller asked for a full
    /// sync, or another remote was reached for the first time. That the remote meets another mirror stays known: the next
    /// probe may be lost, and then silence would count as proof.
    pub fn reconsider(&mut self) {
        if let Place::Apart(_) | Place::Closed(_) = self.place {
            self.place = Place::Unknown;
        }
    }

    /// The config was read again: nothing of before counts.
    pub fn forget(&mut self) {
        self.place = Place::Unknown;
    }

    /// Deletions that are left out for good, and why.
    pub fn problem(&self) -> Option<(u64, String)> {
        match &self.place {
            Place::Meets(why) => Some((self.withheld, why.clone())),
            Place::Watched(root) if self.withheld > 0 => Some((
                self.withheld,
                format!("it leads into {}, which is watched; `sersyncctl resync` deletes", root.display()),
            )),
            Place::Closed(why) if self.withheld > 0 => Some((
                self.withheld,
                format!("whether it meets another mirror cannot be found out ({why}); `sersyncctl resync` deletes"),
            )),
            _ => None,
        }
    }
}

/// The remotes of a round with their probes, in the order of the indexes in its findings, and the findings.
type Round = (Vec<(RemoteId, String)>, Findings);

/// The probes of this process, and the round that is under way.
#[derive(Debug, Default)]
pub struct Probes {
    /// Whose each probe is, by its name.
    names: HashMap<String, RemoteId>,
    /// Probes that the watches reported, with the root in which each appeared.
    returned: BTreeMap<RemoteId, BTreeSet<PathBuf>>,
    round: JoinSet<Round>,
    /// Looks into roots for probes of other agents: the root and the names found.
    looks: JoinSet<(PathBuf, Vec<OsString>)>,
    /// Probes of other agents on their way.
    sending: JoinSet<()>,
}

/// Something that the engine waited for.
#[derive(Debug)]
pub enum Ended {
    /// A round of probes; nothing, where it panicked: then what waits is compared again, and finds the same.
    Round(Vec<(RemoteId, String)>, Findings),
    /// A look into a root for probes of other agents.
    Look(PathBuf, Vec<OsString>),
}

impl Probes {
    /// The next round or look that ends; pending where none is under way.
    pub async fn ended(&mut self) -> Ended {
        tokio::select! {
            biased;
            Some(round) = self.round.join_next() => {
                let (round, findings) = round.unwrap_or_default();
                Ended::Round(round, findings)
            }
            Some(Ok((root, names))) = self.looks.join_next() => Ended::Look(root, names),
            else => std::future::pending().await,
        }
    }

    /// Ends the round.
    pub fn stop(&mut self) {
        self.round.abort_all();
        self.sending.abort_all();
    }
}

impl Engine {
    /// Compares the mirrors of this instance with each other and with its neighbours'. Returns the first conflict; if there
    /// is none, notes for each remote whether it leads into a watched directory.
    pub(super) fn compare_places(&mut self) -> Option<Conflict> {
        let own = overlap::mirrors(&self.instance, &self.config.roots);
        let places = Places::new(own.clone(), self.neighbours.clone());
        if let Some(conflict) = places.conflicts(self.config.events.delete).into_iter().next() {
            return Some(conflict);
        }
        let chains: Vec<(Mirror, PathBuf)> =
            places.chains().into_iter().map(|(at, watched)| (own[at].clone(), watched)).collect();
        for remote in &mut self.remotes {
            let into = chains.iter().find(|(mirror, _)| {
                mirror.root == remote.root && mirror.destination.to_string() == remote.destination().to_string()
            });
            match into {
                Some((_, watched)) => remote.guard.place = Place::Watched(watched.clone()),
                None if matches!(remote.guard.place, Place::Watched(_)) => remote.guard.place = Place::Unknown,
                None => {}
            }
        }
        None
    }

    /// Takes the probes out of what a watch reported: those of this process came back.
    pub(super) fn take_probe(&mut self, root: &Path, path: &RelPath) -> bool {
        if !probe_name::is_probe(path) {
            return false;
        }
        let Some(id) = path.file_name().to_str().and_then(|name| self.probes.names.get(name)).copied() else {
            // A probe of another agent is mirrored like any other directory, and faster.
            self.send_on(root, path);
            return false;
        };
        self.probes.returned.entry(id).or_default().insert(root.to_path_buf());
        let source = self.remotes.iter().find(|remote| remote.id == id).map(|remote| remote.root.clone());
        let closes_circle = || source.is_some_and(|source| self.comes_back(&source, id).is_some());
        // A circle is certain at once; that there is none, only at the end of the round.
        if self.probes.round.is_empty() || closes_circle() {
            self.judge(id, &BTreeMap::new(), time::now());
        }
        true
    }

    /// Makes the probe of another agent on each remote of `root` at once, whatever else keeps the remote busy.
    fn send_on(&mut self, root: &Path, path: &RelPath) {
        let Some(name) = path.parent().filter(RelPath::is_root).and_then(|_| path.file_name().to_str()) else { return };
        while self.probes.sending.try_join_next().is_some() {}
        for remote in self.remotes.iter().filter(|remote| remote.root == root) {
            if self.probes.sending.len() >= SENT_AT_ONCE {
                return;
            }
            let order = Order::comparison(&remote.root, None, self.config.filter.clone(), remote.capabilities);
            let (endpoint, name) = (remote.endpoint.clone(), name.to_owned());
            let probed = Probed { endpoint, order, name, is_compared: false };
            self.probes.sending.spawn(self.machine.send_probe_on(probed));
        }
    }

    /// Looks for probes of other agents in the root `at`: they came before the watch, and an agent that waits for one
    /// does not wait for the end of a full sync.
    pub(super) fn look_for_probes(&mut self, at: usize) {
        let root = self.roots[at].path.clone();
        let names = self.machine.probes_in(root.clone());
        self.probes.looks.spawn(async move { (root, names.await) });
    }

    fn take_probes_of_others(&mut self, root: &Path, names: Vec<OsString>, now: Instant, wall: SystemTime) {
        for path in names.iter().filter_map(|name| RelPath::new(name.as_encoded_bytes()).ok()) {
            if self.take_probe(root, &path) {
                continue;
            }
            let seq = self.next_seq();
            for remote in self.remotes.iter_mut().filter(|remote| remote.root == root) {
                remote.report(path.clone(), Kind::Entry, seq, now, wall, false);
            }
        }
    }

    /// Starts a round of probes, if a remote waits for one.
    pub(super) fn probe_if_due(&mut self, now: Instant) {
        if !self.probes.round.is_empty() || self.paused.is_some() || self.stopping {
            return;
        }
        let waits = |remote: &super::remote::Remote| remote.guard.place == Place::ToBeProbed;
        if !self.remotes.iter().any(|remote| waits(remote) && remote.backoff.attempts() == 0) {
            return;
        }
        if self.probes.names.len() > NAMES_AT_MOST {
            self.probes.names.clear();
        }
        let (mut ids, mut probed, wall) = (Vec::new(), Vec::new(), time::wall());
        let seq = self.next_seq();
        for at in 0..self.remotes.len() {
            let Some(root) = self.roots.iter().find(|root| root.path == self.remotes[at].root && root.is_there())
            else {
                continue;
            };
            let (identity, filter) = (root.identity, self.config.filter.clone());
            let remote = &mut self.remotes[at];
            if remote.backoff.attempts() > 0 {
                continue;
            }
            let name = probe_name::new();
            // Should this process end before it has removed the probe, the next one does: the path is missing in the root.
            if let Ok(path) = RelPath::new(name.as_bytes()) {
                remote.report(path.clone(), Kind::Entry, seq, now, wall, false);
                remote.set.park(&path, now + ROUND_AT_MOST);
                remote.guard.parked.push(path);
            }
            let order = Order::comparison(&remote.root, identity, filter, remote.capabilities);
            let is_compared = remote.guard.place == Place::ToBeProbed;
            self.probes.names.insert(name.clone(), remote.id);
            ids.push((remote.id, name.clone()));
            probed.push(Probed { endpoint: remote.endpoint.clone(), order, name, is_compared });
        }
        self.write_down(now);
        let roots = self.roots.iter().map(|root| root.path.clone()).collect();
        self.probes.returned.clear();
        let findings = self.machine.probe_places(probed, roots, RETURN_TIME);
        self.probes.round.spawn(async move { (ids, findings.await) });
    }

    /// Takes in what a round or a look found.
    pub(super) fn probes_ended(&mut self, ended: Ended, now: Instant, wall: SystemTime) {
        self.dirty = true;
        match ended {
            Ended::Round(round, findings) => self.take_findings(&round, findings, now, wall),
            Ended::Look(root, names) => self.take_probes_of_others(&root, names, now, wall),
        }
    }

    /// A round ended: decides on every remote that took part.
    fn take_findings(&mut self, round: &[(RemoteId, String)], findings: Findings, now: Instant, wall: SystemTime) {
        let ids: Vec<RemoteId> = round.iter().map(|(id, _)| *id).collect();
        for (at, root) in &findings.inside {
            self.probes.returned.entry(ids[*at]).or_default().insert(root.clone());
        }
        let mut meets: BTreeMap<RemoteId, String> = BTreeMap::new();
        for (at, root) in &findings.above {
            let text = format!("it contains {}, which is watched", root.display());
            meets.insert(ids[*at], text);
        }
        for (at, names) in &findings.listed {
            for name in names {
                match self.probes.names.get(name).copied() {
                    Some(own) if own == ids[*at] => {}
                    Some(other) => {
                        let name_of = |id: RemoteId| self.remotes.iter().find(|remote| remote.id == id);
                        let names = [ids[*at], other].map(|id| name_of(id).map(|remote| remote.name.clone()));
                        if let [Some(one), Some(other_name)] = names {
                            meets.insert(ids[*at], format!("it is, or contains, the place of {other_name}"));
                            meets.insert(other, format!("it is the place of {one}, or lies inside it"));
                        }
                    }
                    // One of another agent may have been left behind by a crash long ago.
                    None => {}
                }
            }
        }
        for (at, fault) in findings.faults {
            let Some(at) = self.remotes.iter().position(|remote| remote.id == ids[at]) else { continue };
            if self.remotes[at].guard.place != Place::ToBeProbed {
                continue;
            }
            if fault.exit.is_some_and(|exit| NOT_TAKEN.contains(&exit)) {
                self.remotes[at].guard.place = Place::Closed(fault.message);
                let not_made = round.iter().filter(|(id, _)| *id == self.remotes[at].id);
                let not_made = not_made.filter_map(|(_, name)| RelPath::new(name.as_bytes()).ok()).collect::<Vec<_>>();
                not_made.iter().for_each(|path| self.remotes[at].set.withdraw(path));
            } else {
                self.remotes[at].guard.place = Place::Unknown;
                self.remote_failed(at, fault, now, wall);
            }
        }
        for id in ids {
            self.judge(id, &meets, now);
        }
        for at in findings.removed {
            let (id, name) = &round[at];
            if let Ok(path) = RelPath::new(name.as_bytes())
                && let Some(remote) = self.remotes.iter_mut().find(|remote| remote.id == *id)
            {
                remote.set.withdraw(&path);
            }
        }
        for remote in &mut self.remotes {
            // Paths that waited for the round, and probes that could not be removed.
            for path in std::mem::take(&mut remote.guard.parked) {
                remote.set.ready_at_once(&path);
            }
            remote.changed(now);
        }
    }

    /// Decides on the remote `id`, of which a probe came back or a round ended.
    fn judge(&mut self, id: RemoteId, meets: &BTreeMap<RemoteId, String>, now: Instant) {
        let Some(at) = self.remotes.iter().position(|remote| remote.id == id) else { return };
        let circle = || {
            let came_back = self.comes_back(&self.remotes[at].root, id)?;
            Some(format!("a loop: what is sent there comes back to {}", came_back.display()))
        };
        let before = self.remotes[at].guard.place.clone();
        let place = match meets.get(&id).cloned().or_else(circle) {
            Some(why) => Place::Meets(why),
            None => match (self.probes.returned.get(&id).and_then(BTreeSet::first), &before) {
                (Some(watched), _) => Place::Watched(watched.clone()),
                (None, Place::ToBeProbed) => Place::Apart(now),
                (None, other) => other.clone(),
            },
        };
        let remote = &mut self.remotes[at];
        if let Place::Meets(why) = &place
            && before != place
        {
            tracing::error!(
                message_id = message_ids::MIRRORS_MEET,
                sersync_remote = remote.name,
                "{}: comparisons delete nothing there: {why}",
                remote.name
            );
        }
        remote.guard.place = place;
        self.dirty = true;
    }

    /// The root in which the probe of `id` appeared, if a way leads from there to `root`.
    fn comes_back(&self, root: &Path, id: RemoteId) -> Option<PathBuf> {
        let (mut reached, mut seen) = (vec![id], BTreeSet::new());
        while let Some(id) = reached.pop() {
            for landed in self.probes.returned.get(&id).into_iter().flatten() {
                if landed == root {
                    return Some(landed.clone());
                }
                let onwards = self.remotes.iter().filter(|remote| remote.root == *landed).map(|remote| remote.id);
                reached.extend(onwards.filter(|id| seen.insert(*id)));
            }
        }
        None
    }

    /// Deletions that comparisons leave out for good, one sentence for each remote.
    pub(super) fn withheld_problems(&self) -> impl Iterator<Item = String> {
        self.remotes.iter().filter_map(|remote| {
            let (count, why) = remote.guard.problem()?;
            Some(match count {
                0 => format!("{}: comparisons delete nothing there: {why}", remote.name),
                _ => {
                    format!("{}: {} withheld: {why}", remote.name, human::plural(count, "deletion is", "deletions are"))
                }
            })
        })
    }

    /// A comparison of the remote `at` ended. Where it left deletions out and the remote is not probed yet, its `paths`
    /// return to the set, to wait for a round; returns whether they do.
    pub(super) fn note_withheld(&mut self, at: usize, outcome: &mut Outcome, paths: &[RelPath]) -> bool {
        if outcome.fault.is_some() || !self.remotes[at].guard.withheld(outcome.withheld) {
            return false;
        }
        outcome.failed.retain(|(_, fault)| fault.name != fault_name::IN_THE_WAY);
        let kept: Vec<RelPath> = paths.iter().filter(|path| !outcome.again.contains(path)).cloned().collect();
        outcome.again.extend(kept);
        true
    }

    /// Has the paths of an ended comparison wait for the round of probes.
    pub(super) fn wait_for_round(&mut self, at: usize, paths: &[RelPath], now: Instant) {
        let remote = &mut self.remotes[at];
        for path in paths {
            remote.set.park(path, now + ROUND_AT_MOST);
        }
        remote.guard.parked.extend_from_slice(paths);
    }
}

/// Whether a run in `lane` of `kind` compares, so that it could delete what only the remote has.
pub(super) fn compares(lane: Lane, kind: Kind) -> bool {
    lane == Lane::Background || kind >= Kind::Pruned
}
