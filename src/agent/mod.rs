//! The agent: joins watch, pending and transport, and answers for itself through one [`Handle`].
//!
//! # Theory
//!
//! One task, the engine, owns all state. Watch threads send it paths that may differ; it puts them into the pending
//! set of each remote of that root; when a remote may start a run, it takes a batch from the set and gives it to a
//! task of its own, which returns an outcome and nothing else. Commands come in through [`Handle`], snapshots and
//! notices go out through it. So nothing is shared, nothing is locked, and whatever happens has happened in one order.
//!
//! The engine knows nothing of D-Bus and systemd. It beats a heart that its owner gives it: an engine that is stuck
//! falls silent.

mod backoff;
mod barrier;
mod clock;
mod commands;
mod deletion_guard;
mod echo;
mod engine;
mod fail_log;
mod flights;
mod gather;
pub mod handle;
mod history;
mod jobs;
mod keeper;
mod link;
mod loading;
mod machine;
mod memory;
mod mount_guard;
mod pruning;
mod publish;
mod reload;
mod remote;
mod report_file;
mod reports;
mod reserve;
mod root;
#[cfg(test)]
mod simulation;
pub mod snapshot;
mod telling;
mod write_down;

pub use engine::{Heart, Launch, LaunchError, launch};
pub use handle::{CommandError, Handle};
pub use keeper::Keeper;
pub use loading::Load;
pub use snapshot::Snapshot;
