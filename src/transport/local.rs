//! What this machine has too little of, by name: descriptors, processes, memory. None of it is the remote's doing, and
//! none of it is taken for a sign of what is in the tree.

use super::fault::{Fault, name};
use std::io;

/// The fault that `error` is, where a limit of this machine is behind it.
pub(super) fn limit(error: &io::Error) -> Option<Fault> {
    use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
    let (name, remedy) = match error.raw_os_error()? {
        EMFILE => (name::TOO_MANY_OPEN_FILES, "raise LimitNOFILE= of the unit (ulimit -n)"),
        ENFILE => (name::TOO_MANY_OPEN_FILES, "raise the machine's limit with `sysctl fs.file-max`"),
        EAGAIN => (name::TOO_MANY_PROCESSES, "raise TasksMax= and LimitNPROC= of the unit (ulimit -u)"),
        ENOMEM => (name::OUT_OF_MEMORY, "this machine, or MemoryMax= of the unit, has too little memory"),
        _ => return None,
    };
    Some(Fault::new(name, format!("{error}; {remedy}")))
}

/// The same; any other error keeps the system's words.
pub(super) fn fault(what: &str, error: &io::Error) -> Fault {
    limit(error).unwrap_or_else(|| Fault::new(name::RSYNC_FAILED, format!("{what}: {error}")))
}
