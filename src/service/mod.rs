//! The agent as a service: what it tells systemd (`notify`), what it logs and where (`log`), the fixed numbers of its
//!
//! Everything here works without systemd too, and then says nothing to it.

pub mod log;
pub mod notify;
pub mod status;
