//! Attacks on a running agent, with real parts: no remote, user or directory tree starves, floods or stops it. Each module
//! is one attacker. Each attack prints the agent's memory, the latency of the healthy side and the time to recover;
//! docs/reliability.md has the table.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "only the bus is needed here, not the scripted engine")]
#[path = "../support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "../support/ward.rs"]
mod ward;

mod siege;

#[path = "bus.rs"]
mod callers;
mod privileges;
mod remotes;
mod start;
mod trees;
