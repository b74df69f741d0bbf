//! The agent as a service: what it tells systemd (`notify`, `status`), what systemd keeps for it (`fd_store`), what it
//! logs and where (`log`).
//!
//! Everything here works without systemd too, and then says nothing to it.

pub mod fd_store;
pub mod log;
pub mod notify;
pub mod status;
