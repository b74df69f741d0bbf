//! The words of the bus, as people read them: states, kinds, how an agent started. A word of a later version, which is not
//! here, is shown as it came.

use super::instances::DISABLED;
use super::view::Job;
use crate::human::{bytes, count, safe};
use tr::tr;

/// The line that says how to go on.
pub fn next(command: &str) -> String {
    tr!("next: {command}", command)
}

/// The state of an instance, a remote or a full sync.
pub fn state(word: &str) -> String {
    match word {
        "starting" => tr!("starting"),
        "idle" => tr!("idle"),
        "syncing" => tr!("syncing"),
        "degraded" => tr!("degraded"),
        "paused" => tr!("paused"),
        "stopping" => tr!("stopping"),
        "waiting" => tr!("waiting"),
        "queued" => tr!("queued"),
        "running" => tr!("running"),
        "done" => tr!("done"),
        "failed" => tr!("failed"),
        "canceled" => tr!("canceled"),
        other => safe(other),
    }
}

/// How far a full sync is, such as `42 %, 5 of 12 entries checked, 2.0 KiB sent`.
pub fn progress(job: &Job) -> String {
    let (percent, bytes) = ((job.progress * 100.0).floor(), bytes(job.bytes_sent));
    match (job.entries_checked, job.entries_total) {
        (Some(checked), Some(total @ 1..)) => {
            let (checked, total) = (count(checked), count(total));
            tr!("{percent} %, {checked} of {total} entries checked, {bytes} sent", percent, checked, total, bytes)
        }
        _ => tr!("{percent} %, {bytes} sent", percent, bytes),
    }
}

/// What systemd says of an instance that is not on the bus, as [`super::instances`] words it.
pub fn presence(words: &str) -> String {
    match words {
        "stopped" => tr!("stopped"),
        DISABLED => tr!("disabled"),
        "running without the bus" => tr!("running without the bus"),
        other => match other.strip_prefix("stopped (").and_then(|rest| rest.strip_suffix(')')) {
            Some(file) => tr!("stopped ({file})", file = unit_file(file)),
            None => state(other),
        },
    }
}

/// A unit file's state, systemctl(1).
fn unit_file(word: &str) -> String {
    match word {
        "enabled" => tr!("enabled"),
        "disabled" => tr!("disabled"),
        other => safe(other),
    }
}

/// From where an agent started.
pub fn started_from(word: &str) -> String {
    match word {
        "resumed" => tr!("resumed"),
        "replayed" => tr!("replayed"),
        "full" => tr!("full"),
        other => safe(other),
    }
}

/// The confinement that keeps rsync from reading outside the watched directories.
pub fn confinement(word: Option<&str>) -> String {
    match word {
        Some("landlock") => tr!("rsync and ssh read the watched directories only (Landlock)"),
        Some("permissions") => tr!("rsync and ssh read what the agent's user can (permissions; no Landlock)"),
        Some("none") | None => tr!("no: rsync and ssh can read whatever the agent can"),
        Some(other) => safe(other),
    }
}

/// Whether a pending path is one entry or all that is below it.
pub fn kind(word: &str) -> String {
    match word {
        "entry" => tr!("entry"),
        "tree" => tr!("tree"),
        other => safe(other),
    }
}
