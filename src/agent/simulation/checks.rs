//! The invariants that a simulation checks at each step.

use super::inbox::reports;
use super::run::{Simulation, Violation};
use super::tree::{Body, Node};
use super::world::{Health, World};
use crate::path::RelPath;
use crate::pending::Kind;
use crate::time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A healthy remote that is behind for longer is starved. The longest pause after a failure is five minutes.
const BEHIND_AT_MOST: Duration = Duration::from_secs(400);

/// Waiting paths of a remote, beyond the limit that is set, for what a fold cannot take.
const OVER_LIMIT: usize = 16;

/// A pending path of one remote: the path, its kind, and whether a run has it.
type Pending<'a> = (&'a RelPath, Kind, bool);

/// Whether what is pending makes `path` equal. `shows`: size and time show the difference.
fn covers(world: &World, pending: &[Pending<'_>], path: &RelPath, shows: bool) -> bool {
    let is_here = world.source.tree.get(path).is_some();
    let is_gone = |above: &RelPath| !world.source.tree.get(above).is_some_and(Node::is_directory);
    pending.iter().any(|(pending, kind, flies)| {
        if *pending == path {
            return shows || *flies || *kind >= Kind::Entry;
        }
        let is_above = pending.is_root() || path.is_inside(pending);
        is_above
            && (*flies && *kind >= Kind::Pruned
                || *kind == Kind::VerifiedTree
                || *kind >= Kind::Tree && shows
                || *kind == Kind::Pruned && !is_here
                || is_gone(pending))
    })
}

/// Whether the watch still has something to report that makes `path` equal.
fn is_unreported(world: &World, path: &RelPath, shows: bool) -> bool {
    world.inbox.iter().chain(&world.replaced).any(|inbox| inbox.covers(path, shows))
        || world.delivered.iter().any(|(_, change)| reports(change, path, shows))
}

impl Simulation {
    /// Checks what must hold at any time.
    pub fn check(&mut self) -> Result<(), Violation> {
        let Some(engine) = &self.engine else { return Ok(()) };
        let now = time::now();
        let mut world = self.world.lock();
        world.forget_delivered();
        self.summary.runs = world.remotes.values().map(|state| state.runs).sum();
        if !world.root_there {
            self.behind.clear();
            return Ok(());
        }
        let mut behind = BTreeMap::new();
        for remote in &engine.remotes {
            let (name, waiting) = (&remote.name, remote.set.waiting());
            if waiting > self.limit + OVER_LIMIT {
                return Err(format!("{name}: {waiting} paths wait, the limit is {}", self.limit));
            }
            let pending: Vec<Pending<'_>> =
                remote.set.paths().map(|(path, entry, flies)| (path, entry.kind, flies)).collect();
            for (path, shows) in world.differences(name).into_iter().filter(|(path, _)| !world.open.contains(path)) {
                if !covers(&world, &pending, &path, shows) && !is_unreported(&world, &path, shows) {
                    return Err(format!("{name} differs and nothing is pending: {}", world.states(name, &path)));
                }
                let deed = world.last_deed(&path);
                let state = &world.remotes[name];
                let is_healthy =
                    state.health == Health::Up && engine.paused.is_none() && !world.unreadable.contains(&path);
                let key = (name.clone(), path);
                let since = self.behind.get(&key).filter(|(_, known)| *known == deed).map_or(now, |(since, _)| *since);
                let from = since.max(self.calm_since).max(state.up_since);
                if is_healthy && now.duration_since(from) > BEHIND_AT_MOST {
                    let seconds = now.duration_since(since).as_secs();
                    return Err(format!("{name}: {} has waited for {seconds} s", key.1.display()));
                }
                behind.insert(key, (since, deed));
            }
        }
        self.behind = behind;
        Ok(())
    }
}

/// Whether each remote has nothing that is older than the deed `called`.
pub fn nothing_older(world: &World, called: u64, open: &BTreeSet<RelPath>) -> Result<(), Violation> {
    for (name, state) in &world.remotes {
        let paths: BTreeSet<&RelPath> = world.history.keys().chain(state.tree.0.keys()).collect();
        for path in paths.into_iter().filter(|path| !open.contains(*path)) {
            let Some(states) = world.states_since(path, called) else { continue };
            // A new file takes the place of what was there before, once its writer closes it.
            if world.opened.get(path).is_some_and(|deed| *deed > called) {
                continue;
            }
            // One that vanished while it was sent counts as changed after the call: its removal arrives by itself.
            if states[1..].contains(&None) {
                continue;
            }
            let there = state.tree.get(path);
            let content = |body: Body| match body {
                Body::Directory => None,
                Body::File { content, .. } => Some(content),
            };
            // A run that meets a change sends the present content with the attributes of its list.
            let fits = match there {
                None => states.iter().any(Option::is_none),
                Some(there) => {
                    let new =
                        |state: &Option<Node>| state.is_some_and(|node| content(node.body) == content(there.body));
                    let attributes =
                        |state: &Option<Node>| state.is_some_and(|node| node.attributes == there.attributes);
                    states.iter().any(new) && states.iter().any(attributes)
                }
            };
            if !fits {
                return Err(format!(
                    "a barrier was answered early: {name} has {there:?} at {}, since deed {called} there was {states:?}",
                    path.display()
                ));
            }
        }
    }
    Ok(())
}
