//! sersync: a real-time file mirror that is a citizen of systemd and D-Bus.
//!
//! How a change travels: the kernel tells `watch`, which names paths that may differ; `filter` drops what is
//! excluded; `pending` keeps, for each remote, the set of paths that may differ there; `agent` takes batches from
//! that set and hands them to `transport`, which makes the remote equal to what is on disk now with one rsync run.
//! `plugin` is told of each path that has arrived.
//! `bus` and `service` show the agent's snapshot on D-Bus and to systemd, and send commands; `ctl` is `sersyncctl`.
//! `generator` tells systemd what an instance needs before it starts.

#![deny(missing_docs)]

pub mod agent;
pub mod aside;
mod beneath;
pub mod bus;
pub mod calendar;
pub mod cli;
pub mod config;
pub mod ctl;
mod failpoint;
mod file_system;
pub mod filter;
#[cfg(test)]
mod forks;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod generator;
mod heap;
pub mod human;
pub mod journal;
pub mod language;
pub mod message_ids;
mod mounts;
pub mod path;
pub mod pending;
pub mod plugin;
pub mod print;
mod printable;
mod probe_name;
pub mod repeats;
pub mod service;
mod state_file;
mod time;
pub mod transport;
pub mod watch;
