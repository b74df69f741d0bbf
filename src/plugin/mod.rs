//! Plugins: somebody is told of each path, once it has reached the remotes or as it changes.
//!
//! # Theory
//!
//! Each *target* (the command, one `<deshost>`, one CDN account) is a task of its own (`worker`) around a queue of
//! paths (`queue`), much as a remote is a set of pending paths: a path that waits waits once, a path that changes while
//! it is told of waits again and is told of afterwards. What happened to it is decided when the call is made, by what
//! is on disk then (`event`): a queue that took long tells no stale news.
//!
//! A target that is down, as a whole, is tried again with growing pauses and its paths are kept. A call that fails for
//! the path's own sake is repeated a few times, then given up and counted. Queues are bounded; what no longer fits is
//! counted too.
//!
//! Whoever tells ([`Plugins::tell`]) never waits: not for a call, not for a lock, not for a disk. No name reaches a
//! shell, a request line or a header unencoded. This module knows nothing of remotes, D-Bus or systemd.

mod command;
mod event;
mod http;
mod queue;
mod refresh_cdn;
mod socket;
mod target;
pub mod unfinished;
mod url;
mod worker;

pub use event::Cause;
pub use queue::{Place, Told};
pub use worker::Status;

use crate::config::{Config, PluginName};
use std::sync::Arc;
use std::time::Duration;
use target::Target;
use tokio::sync::{Notify, watch};
use unfinished::Unfinished;
use worker::Running;

/// All targets that are told.
#[derive(Debug, Default)]
pub struct Plugins {
    running: Vec<Running>,
    changed: Arc<Notify>,
    paused: watch::Sender<bool>,
}

impl Plugins {
    /// No target.
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows `config`: a target that is in it as it was goes on with its queue, others start or end. Has to be
    /// called on a tokio runtime.
    pub fn follow(&mut self, config: &Config, instance: &str) {
        let names: Vec<PluginName> = match config.alone {
            Some(name) => vec![name],
            None => config.plugins.started.clone(),
        };
        let mut before = std::mem::take(&mut self.running);
        for target in names.into_iter().flat_map(|name| Target::of(&config.plugins, name)) {
            match before.iter().position(|running| running.target() == &target) {
                Some(at) => self.running.push(before.swap_remove(at)),
                None => {
                    self.running.push(Running::start(target, instance, self.changed.clone(), self.paused.subscribe()))
                }
            }
        }
    }

    /// Whether no more calls are to start; those that run end.
    pub fn pause(&self, pause: bool) {
        self.paused.send_replace(pause);
    }

    /// Whether nobody is told of anything.
    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Tells every target that wants to hear of it.
    pub fn tell(&self, told: Vec<Told>) {
        if told.is_empty() || self.is_empty() {
            return;
        }
        let told: Arc<[Told]> = told.into();
        self.running.iter().for_each(|running| running.tell(told.clone()));
    }

    /// Rung when a status may have changed, at most ten times a second for each target.
    pub fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// How each target is doing, in the config's order.
    pub fn status(&self) -> Vec<Status> {
        self.running.iter().map(Running::status).collect()
    }

    /// Whether every target has been told everything.
    pub fn is_idle(&self) -> bool {
        self.running.iter().all(Running::is_idle)
    }

    /// Tells the targets what they had not been told when the agent stopped; those that are gone need not hear of it.
    pub fn resume(&self, unfinished: Vec<Unfinished>) {
        for Unfinished { target, told } in unfinished {
            if let Some(running) = self.running.iter().find(|running| running.name() == target) {
                running.tell(told.into());
            }
        }
    }

    /// Starts no more calls, lets those that run end `within` this time, ends the others. Returns what nobody was told
    /// of.
    pub async fn stop(&mut self, within: Duration) -> Vec<Unfinished> {
        let ending: Vec<_> = std::mem::take(&mut self.running).into_iter().map(|one| one.stop(within)).collect();
        let mut unfinished = Vec::new();
        for end in ending {
            unfinished.push(end.await);
        }
        unfinished
    }
}
