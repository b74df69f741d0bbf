//! What a remote lets us do, and what would make it better.

use super::report::{Finding, Level};
use super::scratch::Scratch;
use crate::human::bytes;
use crate::transport::{Endpoint, Fault, Probe, probe};
use std::time::Duration;

/// A push that takes so much longer than the fastest waited for a delayed acknowledgement: Linux waits 40 ms.
const STALL: Duration = Duration::from_millis(30);

/// A clock that is further off is worth a word.
const SKEW: i64 = 3;

/// Less room than this is worth a word.
const LITTLE_ROOM: u64 = 1 << 30;

/// Probes a remote. `deletes`: whether the config has it delete anything.
pub async fn look(endpoint: &Endpoint, deletes: bool, timeout: Duration) -> Vec<Finding> {
    let about = endpoint.destination().to_string();
    let scratch = match Scratch::new() {
        Ok(scratch) => scratch,
        Err(error) => {
            let text = format!("cannot be probed: no temporary directory can be made: {error}");
            return vec![Finding::new(Level::Error, about, text).next("set TMPDIR to a directory with room")];
        }
    };
    match tokio::time::timeout(timeout, probe(endpoint, scratch.path())).await {
        Ok(found) => judge(&about, &found, deletes),
        Err(_) => {
            let text = format!("no answer within {} s", timeout.as_secs());
            vec![Finding::new(Level::Error, about, text).next("check the network, the port and a firewall between")]
        }
    }
}

fn judge(about: &str, found: &Probe, deletes: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |level, text: String, next: Option<&str>| {
        let finding = Finding::new(level, about, text);
        findings.push(match next {
            Some(next) => finding.next(next),
            None => finding,
        });
    };
    if let Some(took) = found.connected_in {
        let protocol = found.protocol.map_or(String::new(), |protocol| format!(", protocol {protocol}"));
        add(Level::Good, format!("an rsync daemon answers in {} ms{protocol}", millis(took)), None);
        if found.protocol.is_some_and(|protocol| protocol < 30) {
            add(Level::Error, "its rsync is older than 3.0".to_owned(), Some("install rsync 3.1.3 or newer there"));
        }
    }
    if !found.refused.is_empty() {
        let text = format!("its rsync does not know {}: done in another way", found.refused.join(", "));
        add(Level::Note, text, Some("rsync 3.1.3 or newer there takes fewer runs, and sees changes within a second"));
    }
    match &found.deletes {
        Some(Err(fault)) => {
            let (text, next) = explain(fault);
            add(Level::Error, text, next.as_deref());
            return findings;
        }
        Some(Ok(())) if !deletes => add(Level::Note, "may delete, which this config never does".to_owned(), None),
        Some(Ok(())) | None => {}
    }
    match &found.writes {
        Some(Ok(())) => add(Level::Good, "takes a file, and lets it be deleted".to_owned(), None),
        Some(Err(fault)) => {
            let (text, next) = explain(fault);
            add(Level::Error, text, next.as_deref());
        }
        None => {}
    }
    if let Some(name) = &found.left_behind {
        let text = format!("the probe's file {name} is still there");
        add(Level::Warning, text, Some("remove it by hand, or by the next full sync"));
    }
    if let (Some(fastest), Some(slowest)) = (found.pushes.iter().min(), found.pushes.iter().max()) {
        let mut sorted = found.pushes.clone();
        sorted.sort();
        let median = sorted[sorted.len() / 2];
        let text = format!("a small push takes {} ms, {} to {}", millis(median), millis(*fastest), millis(*slowest));
        let stalls = found.pushes.iter().filter(|push| **push > *fastest + STALL).count();
        match stalls {
            0 => add(Level::Good, text, None),
            _ if found.connected_in.is_some() => add(
                Level::Note,
                format!("{text}: {stalls} of {} waited, as for a delayed acknowledgement", found.pushes.len()),
                Some("if that stays so, put `socket options = TCP_NODELAY` into the server's rsyncd.conf"),
            ),
            _ => add(Level::Note, text, None),
        }
    }
    if let Some(ahead) = found.clock_ahead {
        match ahead {
            ahead if ahead.abs() <= SKEW => add(Level::Good, "its clock agrees with ours".to_owned(), None),
            _ => {
                let (seconds, way) = (ahead.unsigned_abs(), if ahead > 0 { "fast" } else { "slow" });
                let next = "set both clocks by NTP; sersync itself does not compare them";
                add(Level::Warning, format!("its clock is {seconds} s {way}"), Some(next));
            }
        }
    }
    match found.free {
        Some(free) if free < LITTLE_ROOM => add(Level::Warning, format!("{} free", bytes(free)), Some("make room")),
        Some(free) => add(Level::Good, format!("{} free", bytes(free)), None),
        None if found.connected_in.is_some() && found.writes.is_some() => {
            add(Level::Note, "an rsync daemon does not tell how much room is left".to_owned(), None);
        }
        None => {}
    }
    findings
}

/// A fault's text ends in what to do.
fn explain(fault: &Fault) -> (String, Option<String>) {
    match fault.message.rsplit_once("; ") {
        Some((what, next)) => (format!("{}: {what}", fault.name), Some(next.to_owned())),
        None => (format!("{}: {}", fault.name, fault.message), None),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}
