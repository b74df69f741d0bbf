//! Attacks on an agent, one module for each kind of attacker. Each attack prints memory, the latency of what it is not
//! aimed at, and the time to recover.

#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "only the bus is used here, not the engine that plays a script")]
#[path = "../support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "../support/ward.rs"]
mod ward;

mod privileges;
mod trees;
