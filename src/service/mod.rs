//! The agent as a service: what it tells systemd (`notify`, `status`), what systemd keeps for it (`fd_store`), what it
//! logs and where (`log`); one agent for each state directory (`state_lock`).
//!
//! Everything here works without systemd too, and then says nothing to it.

pub mod fd_store;
pub mod log;
pub mod notify;
pub mod state_lock;
pub mod status;
