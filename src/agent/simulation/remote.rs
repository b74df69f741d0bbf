//! The simulated rsync: does to a simulated remote what a run does to a real one, an entry at a time, and as unkindly as
//! it may. The list of a recursive run is made at its start, and what it deletes at any later time follows from that list.

use super::tree::{Body, Node};
use super::world::{Health, Shared};
use crate::agent::machine::OnSign;
use crate::path::RelPath;
use crate::pending::{Kind, Lane};
use crate::time;
use crate::transport::{Fault, Order, Outcome, Sign, fault_name, root_identity};
use std::collections::BTreeSet;
use std::time::Duration;

/// Time after which a run gives up a remote that says nothing, as the real one does.
const PATIENCE: Duration = Duration::from_secs(30);

/// One content in this number is large.
const LARGE: u64 = 9;

fn fault(name: &'static str) -> Fault {
    Fault::new(name, "as the simulation wants it")
}

fn is_large(node: Node) -> bool {
    matches!(node.body, Body::File { content, .. } if content % LARGE == 0)
}

/// One thing that a run does.
enum Step {
    /// Sends what is at the path, compared by content or by size and time; the node is that of the list.
    Send(RelPath, Node, bool),
    /// Deletes what is missing at the path.
    Delete(RelPath),
    /// Deletes below the directory what the list does not name.
    Sweep(RelPath, BTreeSet<RelPath>),
}

/// A run under way.
struct Run<'a> {
    world: &'a Shared,
    remote: String,
    order: &'a Order,
    outcome: Outcome,
}

/// Carries out `order` on `remote`.
pub async fn carry_out(world: Shared, remote: String, order: Order, on_sign: OnSign) -> Outcome {
    let outcome = Outcome::empty(&order);
    let mut run = Run { world: &world, remote, order: &order, outcome };
    if let Err(fault) = run.carry_out(&on_sign).await {
        run.outcome.fault = Some(fault);
    } else if order.lane == Lane::Background {
        world.lock().remotes.get_mut(&run.remote).expect("a remote of the simulation").full_syncs += 1;
    }
    run.outcome
}

impl Run<'_> {
    async fn carry_out(&mut self, on_sign: &OnSign) -> Result<(), Fault> {
        self.connect().await?;
        on_sign(Sign::Answered);
        let steps = self.look()?;
        for step in steps {
            self.go_on().await?;
            self.take(step);
            on_sign(Sign::Moved);
        }
        if self.order.kind >= Kind::Tree && self.order.paths.iter().any(RelPath::is_root) {
            self.outcome.entries = Some(self.world.lock().source.tree.0.len() as u64);
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), Fault> {
        let delay = {
            let mut world = self.world.lock();
            let state = world.remotes.get_mut(&self.remote).expect("a remote of the simulation");
            state.runs += 1;
            state.tries += u64::from(state.health != Health::Up);
            Duration::from_millis(world.rng.u64(1..40))
        };
        tokio::time::sleep(delay).await;
        match self.health() {
            Health::Refused => Err(fault(fault_name::CONNECTION_REFUSED)),
            _ => self.answer(fault_name::NO_ANSWER).await,
        }
    }

    fn health(&self) -> Health {
        self.world.lock().remotes[&self.remote].health
    }

    /// Waits while the remote says nothing.
    async fn answer(&self, name: &'static str) -> Result<(), Fault> {
        let began = time::now();
        loop {
            match self.health() {
                Health::Up => return Ok(()),
                Health::Refused => return Err(fault(fault_name::CONNECTION_LOST)),
                Health::Hung if time::now().duration_since(began) >= PATIENCE => return Err(fault(name)),
                Health::Hung => {
                    let changed = self.world.lock().health_changed.clone();
                    // Whether it changed or not, the remote is looked at again.
                    let _ = tokio::time::timeout_at((began + PATIENCE).into(), changed.notified()).await;
                }
            }
        }
    }

    async fn go_on(&self) -> Result<(), Fault> {
        let pace = {
            let mut world = self.world.lock();
            let pace = world.remotes[&self.remote].pace;
            if world.rng.u8(..) < 128 { pace } else { Duration::ZERO }
        };
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
        if self.world.lock().rng.u32(0..3_000) == 0 {
            return Err(fault(fault_name::CONNECTION_LOST));
        }
        self.answer(fault_name::TIMEOUT).await
    }

    /// The one look at the paths of the batch.
    fn look(&mut self) -> Result<Vec<Step>, Fault> {
        let mut world = self.world.lock();
        let is_root = self.order.identity.is_none_or(|identity| root_identity(&self.order.root) == Some(identity));
        if !world.root_there || !is_root {
            return Err(fault(fault_name::ROOT_MISSING));
        }
        let (mut sent, mut deleted, mut swept) = (Vec::new(), Vec::new(), Vec::new());
        let may_be_bulk = self.order.lane == Lane::Live && self.order.kind == Kind::Entry;
        for path in &self.order.paths {
            let Some(node) = world.source.tree.get(path) else {
                deleted.push(Step::Delete(path.clone()));
                continue;
            };
            if may_be_bulk && is_large(node) {
                self.outcome.bulk.push(path.clone());
                continue;
            }
            let below = if self.order.kind >= Kind::Pruned { world.source.tree.below(path) } else { Vec::new() };
            if self.order.kind >= Kind::Pruned && node.is_directory() {
                swept.push(Step::Sweep(path.clone(), below.iter().cloned().collect()));
            }
            // A file that the batch names is sent even if size and time are equal, unless only its attributes are pending.
            let by_content = self.order.kind != Kind::Attributes;
            if !path.is_root() {
                sent.push(Step::Send(path.clone(), node, by_content));
            }
            if self.order.kind >= Kind::Tree {
                let listed = below.into_iter().map(|path| {
                    let node = world.source.tree.0[&path];
                    Step::Send(path, node, self.order.kind == Kind::VerifiedTree)
                });
                sent.extend(listed);
            }
        }
        // Deletions go first, last, or in between.
        deleted.extend(swept);
        for step in deleted {
            let at = world.rng.usize(..=sent.len());
            sent.insert(at, step);
        }
        Ok(sent)
    }

    fn take(&mut self, step: Step) {
        let mut world = self.world.lock();
        let world = &mut *world;
        let copy = &mut world.remotes.get_mut(&self.remote).expect("a remote of the simulation").tree;
        match step {
            Step::Send(path, listed, by_content) => {
                if world.unreadable.contains(&path) && !listed.is_directory() {
                    return self.outcome.failed.push((path, fault(fault_name::PERMISSION_DENIED)));
                }
                let Some(now) = world.source.tree.get(&path).filter(|now| now.is_directory() == listed.is_directory())
                else {
                    return self.outcome.changed.push(path);
                };
                let there = copy.get(&path);
                let body = match (listed.body, now.body, there.map(|there| there.body)) {
                    // The time that it gets is that of the list.
                    (Body::File { stamp, .. }, Body::File { content, .. }, there) => match there {
                        Some(Body::File { stamp: known, content: kept }) if known == stamp && !by_content => {
                            Body::File { content: kept, stamp }
                        }
                        _ => Body::File { content, stamp },
                    },
                    (listed, _, _) => listed,
                };
                let node = Node { body, attributes: listed.attributes };
                if there != Some(node) {
                    copy.put(&path, node);
                    self.outcome.totals.entries += 1;
                }
            }
            Step::Delete(path) => {
                if copy.get(&path).is_some() {
                    copy.remove(&path);
                    self.outcome.totals.entries += 1;
                }
            }
            Step::Sweep(directory, listed) => {
                let extra: Vec<RelPath> =
                    copy.below(&directory).into_iter().filter(|path| !listed.contains(path)).collect();
                // A run that is not recursive sees what is in the directory itself.
                let is_seen =
                    |path: &&RelPath| self.order.kind >= Kind::Pruned || path.parent().as_ref() == Some(&directory);
                let extra: Vec<&RelPath> = extra.iter().filter(is_seen).collect();
                let count = extra.len() as u64;
                if self.order.compared_at_most.is_some_and(|most| count > most) {
                    self.outcome.withheld += count;
                } else {
                    extra.into_iter().for_each(|path| copy.remove(path));
                    self.outcome.totals.entries += count;
                }
            }
        }
    }
}
