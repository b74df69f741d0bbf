//! What a remote lets us do, and what would make it better.

use super::report::{Finding, Level};
use super::scratch::Scratch;
use crate::ctl::sentences::remedied;
use crate::human::bytes;
use crate::transport::{Endpoint, Fault, Probe, probe};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;
use tr::tr;

/// A push that takes so much longer than the fastest waited for a delayed acknowledgement: Linux waits 40 ms.
const STALL: Duration = Duration::from_millis(30);

/// A clock that is further off is worth a word.
const SKEW: i64 = 3;

/// Less room than this is worth a word.
const LITTLE_ROOM: u64 = 1 << 30;

/// Probes a remote of the watched directory `root`, one of `roots`, until `stop` holds true. `deletes`: whether the config
/// has it delete anything.
pub async fn look(
    endpoint: &Endpoint,
    (root, roots): (&Path, &[PathBuf]),
    deletes: bool,
    timeout: Duration,
    mut stop: watch::Receiver<bool>,
) -> Vec<Finding> {
    let about = endpoint.destination().to_string();
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => {
            let text = tr!("cannot be probed: no temporary directory can be made: {error}", error);
            return vec![Finding::new(Level::Error, about, text).next(tr!("set TMPDIR to a directory with room"))];
        }
    };
    let stopped = async {
        // A sender that is gone stops nothing any more.
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let over = async {
        tokio::select! {
            () = tokio::time::sleep(timeout) => {}
            () = stopped => {}
        }
    };
    let found = probe(endpoint, scratch.path(), roots, over).await;
    let mut findings = judge(&about, &found, deletes);
    if let Some(watched) = &found.leads_to {
        findings.push(leading_to(&about, watched, watched == root));
    }
    if found.stopped {
        let text = tr!("no answer within {seconds} s", seconds = timeout.as_secs());
        let finding = Finding::new(Level::Error, about, text);
        findings.push(finding.next(tr!("check the network, the port and a firewall between")));
    }
    findings
}

/// The finding for a remote that leads to a watched directory of this machine. `is_own`: the remote mirrors that very
/// directory.
fn leading_to(about: &str, watched: &Path, is_own: bool) -> Finding {
    let root = watched.display();
    if is_own {
        let text = tr!("leads to {root}, which it is to mirror: what is sent would come back", root);
        return Finding::new(Level::Error, about, text).next(tr!("mirror to a place apart"));
    }
    let text = tr!("leads to {root}, which is watched: comparisons delete there by request only", root);
    Finding::new(Level::Warning, about, text).next(tr!("mirror to a place apart, unless the chain is meant"))
}

fn judge(about: &str, found: &Probe, deletes: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |level, text: String, next: Option<String>| {
        let finding = Finding::new(level, about, text);
        findings.push(match next {
            Some(next) => finding.next(next),
            None => finding,
        });
    };
    if let Some(took) = found.connected_in {
        let time = millis(took);
        let text = match found.protocol {
            Some(protocol) => tr!("an rsync daemon answers in {time} ms, protocol {protocol}", time, protocol),
            None => tr!("an rsync daemon answers in {time} ms", time),
        };
        add(Level::Good, text, None);
        if found.protocol.is_some_and(|protocol| protocol < 30) {
            let next = tr!("install rsync 3.1.3 or newer there");
            add(Level::Error, tr!("its rsync is older than 3.0"), Some(next));
        }
    }
    if !found.refused.is_empty() {
        let text = tr!("its rsync does not know {options}: done in another way", options = found.refused.join(", "));
        let next = tr!("rsync 3.1.3 or newer there takes fewer runs, and sees changes within a second");
        add(Level::Note, text, Some(next));
    }
    match &found.deletes {
        Some(Err(fault)) => {
            let (text, next) = explain(fault);
            add(Level::Error, text, next);
            return findings;
        }
        Some(Ok(())) if !deletes => add(Level::Note, tr!("may delete, which this config never does"), None),
        Some(Ok(())) | None => {}
    }
    match &found.writes {
        Some(Ok(())) => add(Level::Good, tr!("takes a file, and lets it be deleted"), None),
        Some(Err(fault)) => {
            let (text, next) = explain(fault);
            add(Level::Error, text, next);
        }
        None => {}
    }
    if found.root_missing {
        add(Level::Warning, tr!("the directory does not exist yet"), Some(tr!("create it, then check again")));
    }
    if found.leftovers > 0 {
        let files = found.leftovers as u64;
        let text =
            tr!("deleted {files} file of an earlier check" | "deleted {files} files of earlier checks" % files, files);
        add(Level::Note, text, None);
    }
    if let Some(name) = &found.left_behind {
        let text = tr!("the probe's file {name} is still there", name);
        add(Level::Warning, text, Some(tr!("remove it by hand, or by the next full sync")));
    }
    if found.time_changed {
        let text = tr!("the check changed the modification time of the directory, and could not restore it");
        add(Level::Note, text, Some(tr!("the next full sync sets it to that of the watched directory")));
    }
    if let (Some(fastest), Some(slowest)) = (found.pushes.iter().min(), found.pushes.iter().max()) {
        let mut sorted = found.pushes.clone();
        sorted.sort();
        let median = sorted[sorted.len() / 2];
        let (median, fastest_ms, slowest_ms) = (millis(median), millis(*fastest), millis(*slowest));
        let text = tr!(
            "a small push takes {median} ms, {fastest} to {slowest}",
            median,
            fastest = fastest_ms,
            slowest = slowest_ms
        );
        let stalls = found.pushes.iter().filter(|push| **push > *fastest + STALL).count();
        match stalls {
            0 => add(Level::Good, text, None),
            _ if found.connected_in.is_some() => add(
                Level::Note,
                tr!(
                    "{text}: {stalls} of {pushes} waited, as for a delayed acknowledgement",
                    text,
                    stalls,
                    pushes = found.pushes.len()
                ),
                Some(tr!("if that stays so, put `socket options = TCP_NODELAY` into the server's rsyncd.conf")),
            ),
            _ => add(Level::Note, text, None),
        }
    }
    if let Some(ahead) = found.clock_ahead {
        match ahead {
            ahead if ahead.abs() <= SKEW => add(Level::Good, tr!("its clock agrees with ours"), None),
            _ => {
                let seconds = ahead.unsigned_abs();
                let text = match ahead {
                    1.. => tr!("its clock is {seconds} s fast", seconds),
                    _ => tr!("its clock is {seconds} s slow", seconds),
                };
                let next = tr!("set both clocks by NTP; sersync itself does not compare them");
                add(Level::Warning, text, Some(next));
            }
        }
    }
    match found.free {
        Some(free) if free < LITTLE_ROOM => {
            add(Level::Warning, tr!("{bytes} free", bytes = bytes(free)), Some(tr!("make room")));
        }
        Some(free) => add(Level::Good, tr!("{bytes} free", bytes = bytes(free)), None),
        None if found.connected_in.is_some() && found.writes.is_some() => {
            add(Level::Note, tr!("an rsync daemon does not tell how much room is left"), None);
        }
        None => {}
    }
    findings
}

/// A fault's text ends in what to do.
fn explain(fault: &Fault) -> (String, Option<String>) {
    let other = || fault.message.rsplit_once("; ").map(|(what, next)| (what, next.to_owned()));
    match remedied(&fault.message).or_else(other) {
        Some((what, next)) => (format!("{}: {what}", fault.name), Some(next)),
        None => (format!("{}: {}", fault.name, fault.message), None),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}
