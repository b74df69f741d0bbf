//! The door by which the targets in `fuzz/` reach what is private otherwise: the readers of bytes that others wrote.
//!
//! It is there only in what `cargo fuzz` builds. It hands bytes in and what was understood out, and decides nothing: what
//! has to hold of that stands in the targets.

pub use crate::journal::replay::replay;
pub use crate::transport::fuzzing as rsync_output;

/// How the journal looks on disk.
pub mod journal_record {
    pub use crate::journal::record::{HEAD, Record, STANDING_AT, Standing, done, head, pending, read_head};
}

/// The text that the config parser makes of a file's bytes; the places of its mistakes are places in it.
pub fn config_text(bytes: &[u8]) -> String {
    crate::config::written_text(bytes)
}
