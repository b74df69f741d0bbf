//! The agent: joins watch, pending and transport, and answers for itself through one [`Handle`].

pub mod handle;
pub mod snapshot;

pub use handle::{CommandError, Handle};
pub use snapshot::Snapshot;
