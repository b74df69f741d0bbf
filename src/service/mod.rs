//! The agent as a service: what it tells systemd (`notify`), what it logs and where (`log`), the fixed numbers of its
//! journal messages (`message_ids`), and the one line that `systemctl status` shows (`status`).
//!
//! Everything here works without systemd too, and then says nothing to it.

pub mod log;
pub mod message_ids;
pub mod notify;
pub mod status;
