//! What an instance says of itself on the bus: its properties, and those of its remotes, read in two calls.

use crate::bus::{PluginRow, names};
use crate::human::safe;
use crate::path::RelPath;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};
use zbus::{Connection, DeserializeDict, OwnedObjectPath, Type};

/// The properties of `org.sersync.Agent1`.
#[derive(Debug, Clone, Default, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct Agent {
    pub(super) instance: String,
    pub(super) version: String,
    pub(super) config_path: Vec<u8>,
    pub(super) watch_roots: Vec<Vec<u8>>,
    pub(super) state: String,
    /// An older agent has none; so below.
    pub(super) paused_at: Option<u64>,
    pub(super) paused_by: Option<String>,
    pub(super) problems: Vec<String>,
    pub(super) queue_depth: u64,
    pub(super) failure_count: u64,
    pub(super) watched_directories: u64,
    /// An older agent has none.
    pub(super) too_long_directories: Option<u64>,
    pub(super) events_seen: u64,
    pub(super) overflows: u64,
    pub(super) files_synced: u64,
    pub(super) bytes_sent: u64,
    pub(super) started_at: u64,
    pub(super) started_from: String,
    /// An older agent has none.
    pub(super) confinement: Option<String>,
    /// An older agent has none.
    pub(super) never_sent: Option<Vec<String>>,
    pub(super) last_sync_at: u64,
    pub(super) last_full_sync_at: u64,
    pub(super) next_full_sync_at: u64,
    #[zbus(rename = "LagUSec")]
    pub(super) lag_usec: u64,
    pub(super) plugins: Vec<PluginRow>,
}

/// The properties of `org.sersync.Remote1`.
#[derive(Debug, Clone, Default, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct Remote {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) root: Vec<u8>,
    pub(super) state: String,
    pub(super) queue_depth: u64,
    pub(super) in_flight: u64,
    pub(super) failure_count: u64,
    #[zbus(rename = "LagUSec")]
    pub(super) lag_usec: u64,
    pub(super) last_error_name: String,
    pub(super) last_error: String,
    pub(super) failing_since: u64,
    pub(super) attempts: u32,
    pub(super) last_success_at: u64,
    /// An older agent has none.
    pub(super) last_full_sync_at: Option<u64>,
    pub(super) next_try_at: u64,
    pub(super) bytes_sent: u64,
    pub(super) files_synced: u64,
    pub(super) deletions_withheld: u64,
    /// An older agent has neither this nor the paths.
    pub(super) deletions_withheld_reason: Option<String>,
    pub(super) deletions_withheld_paths: Option<Vec<Vec<u8>>>,
    pub(super) refused_options: Vec<String>,
}

/// The properties of `org.sersync.Job1`.
#[derive(Debug, Clone, Default, PartialEq, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub struct Job {
    pub(super) id: u64,
    pub(super) remotes: Vec<String>,
    pub(super) state: String,
    pub(super) progress: f64,
    /// An older agent has neither count.
    pub(super) entries_checked: Option<u64>,
    pub(super) entries_total: Option<u64>,
    pub(super) bytes_sent: u64,
    pub(super) created_at: u64,
    pub(super) finished_at: u64,
    pub(super) result: String,
}

/// The interfaces of one object below an instance's.
#[derive(Debug, Default, DeserializeDict, Type)]
#[zbus(signature = "a{sa{sv}}")]
struct Interfaces {
    #[zbus(rename = "org.sersync.Remote1")]
    remote: Option<Remote>,
    #[zbus(rename = "org.sersync.Job1")]
    job: Option<Job>,
}

/// An instance with its remotes and the full syncs that run or wait.
#[derive(Debug, Clone)]
pub struct View {
    pub(super) agent: Agent,
    /// In the order of their names: the bus has none.
    pub(super) remotes: Vec<Remote>,
    pub(super) jobs: Vec<Job>,
}

impl View {
    /// Reads all of it.
    pub async fn read(bus: &Connection, bus_name: &str, instance: &str) -> zbus::Result<Self> {
        let path = names::agent_path(instance);
        let agent = properties(bus, bus_name, path.as_str(), names::AGENT).await?;
        let reply = bus
            .call_method(
                Some(bus_name),
                path.as_str(),
                Some("org.freedesktop.DBus.ObjectManager"),
                "GetManagedObjects",
                &(),
            )
            .await?;
        let objects: HashMap<OwnedObjectPath, Interfaces> = reply.body().deserialize()?;
        let (mut remotes, mut jobs) = (Vec::new(), Vec::new());
        for object in objects.into_values() {
            remotes.extend(object.remote);
            jobs.extend(object.job.filter(|job| !job.is_over()));
        }
        remotes.sort_by(|a, b| a.name.cmp(&b.name));
        jobs.sort_by_key(|job| job.id);
        Ok(Self { agent, remotes, jobs })
    }

    /// Remotes that have all there is.
    pub fn remotes_in_sync(&self) -> usize {
        self.remotes.iter().filter(|remote| remote.is_in_sync()).count()
    }

    /// Whether nothing is behind and nothing needs attention.
    pub fn is_in_sync(&self) -> bool {
        matches!(self.agent.state.as_str(), "idle" | "paused")
            && self.agent.queue_depth == 0
            && self.agent.failure_count == 0
            && self.agent.problems.is_empty()
    }

    /// All of it for programs. Times are microseconds since 1970, or null.
    pub fn to_json(&self) -> Value {
        let agent = &self.agent;
        let roots: Vec<_> = agent.watch_roots.iter().map(|root| path_json("path", root)).collect();
        json!({
            "instance": agent.instance,
            "version": agent.version,
            "config": if agent.config_path.is_empty() { Value::Null } else { path_json("path", &agent.config_path) },
            "watch_roots": roots,
            "state": agent.state,
            "in_sync": self.is_in_sync(),
            "paused_at": time_json(agent.paused_at.unwrap_or(0)),
            "paused_by": agent.paused_by.as_deref().filter(|by| !by.is_empty()),
            "problems": agent.problems,
            "pending": agent.queue_depth,
            "failures": agent.failure_count,
            "watched_directories": agent.watched_directories,
            "too_long_directories": agent.too_long_directories.unwrap_or(0),
            "events_seen": agent.events_seen,
            "overflows": agent.overflows,
            "files_synced": agent.files_synced,
            "bytes_sent": agent.bytes_sent,
            "started_at": time_json(agent.started_at),
            "started_from": agent.started_from,
            "confinement": agent.confinement.as_deref().unwrap_or("none"),
            "never_sent": agent.never_sent.as_deref().unwrap_or_default(),
            "last_sync_at": time_json(agent.last_sync_at),
            "last_full_sync_at": time_json(agent.last_full_sync_at),
            "next_full_sync_at": time_json(agent.next_full_sync_at),
            "lag_usec": agent.lag_usec,
            "remotes": self.remotes.iter().map(Remote::to_json).collect::<Vec<_>>(),
            "jobs": self.jobs.iter().map(Job::to_json).collect::<Vec<_>>(),
            "plugins": agent.plugins.iter().map(plugin_json).collect::<Vec<_>>(),
        })
    }
}

impl Remote {
    /// Whether it has all there is.
    pub fn is_in_sync(&self) -> bool {
        self.queue_depth == 0
            && self.failure_count == 0
            && self.last_error_name.is_empty()
            && self.deletions_withheld == 0
    }

    /// Some of the paths that are not deleted there.
    pub fn withheld_paths(&self) -> impl Iterator<Item = &[u8]> {
        self.deletions_withheld_paths.iter().flatten().map(Vec::as_slice)
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "address": self.address,
            "root": path_json("path", &self.root),
            "state": self.state,
            "in_sync": self.is_in_sync(),
            "pending": self.queue_depth,
            "in_flight": self.in_flight,
            "failures": self.failure_count,
            "lag_usec": self.lag_usec,
            "last_error_name": self.last_error_name,
            "last_error": self.last_error,
            "failing_since": time_json(self.failing_since),
            "attempts": self.attempts,
            "last_success_at": time_json(self.last_success_at),
            "last_full_sync_at": time_json(self.last_full_sync_at.unwrap_or(0)),
            "next_try_at": time_json(self.next_try_at),
            "bytes_sent": self.bytes_sent,
            "files_synced": self.files_synced,
            "deletions_withheld": self.deletions_withheld,
            "deletions_withheld_reason": self.deletions_withheld_reason.as_deref().unwrap_or_default(),
            "deletions_withheld_paths": self.withheld_paths().map(|path| path_json("path", path)).collect::<Vec<_>>(),
            "refused_options": self.refused_options,
        })
    }
}

impl Job {
    /// Reads one job.
    pub async fn read(bus: &Connection, bus_name: &str, path: &str) -> zbus::Result<Self> {
        properties(bus, bus_name, path, names::JOB).await
    }

    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        !matches!(self.state.as_str(), "queued" | "running")
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "job": self.id,
            "remotes": self.remotes,
            "state": self.state,
            "progress": self.progress,
            "entries_checked": self.entries_checked.unwrap_or(0),
            "entries_total": self.entries_total.unwrap_or(0),
            "bytes_sent": self.bytes_sent,
            "created_at": time_json(self.created_at),
            "finished_at": time_json(self.finished_at),
            "result": self.result,
        })
    }
}

fn plugin_json((plugin, target, waiting, done, failed, error, since, next_try): &PluginRow) -> Value {
    json!({
        "plugin": plugin,
        "target": target,
        "waiting": waiting,
        "done": done,
        "failed": failed,
        "last_error": error,
        "failing_since": time_json(*since),
        "next_try_at": time_json(*next_try),
    })
}

async fn properties<T>(bus: &Connection, bus_name: &str, path: &str, interface: &str) -> zbus::Result<T>
where
    T: Type + serde::de::DeserializeOwned,
{
    let reply =
        bus.call_method(Some(bus_name), path, Some("org.freedesktop.DBus.Properties"), "GetAll", &interface).await?;
    reply.body().deserialize()
}

/// A time of the bus for programs.
pub fn time_json(usec: u64) -> Value {
    if usec == 0 { Value::Null } else { usec.into() }
}

/// A path of the bus for programs: text under `key`, lossy, and where it is lossy the bytes in hexadecimal too.
pub fn path_json(key: &str, path: &[u8]) -> Value {
    let mut object = serde_json::Map::new();
    object.insert(key.to_owned(), String::from_utf8_lossy(path).into_owned().into());
    if std::str::from_utf8(path).is_err() {
        let hex: String = path.iter().map(|byte| format!("{byte:02x}")).collect();
        object.insert(format!("{key}_hex"), hex.into());
    }
    object.into()
}

/// A path of the bus for people: on one line, and safe on a terminal.
pub fn shown(path: &[u8]) -> String {
    match RelPath::new(path) {
        Ok(path) => path.display().to_string(),
        // Not a path that an agent of ours names; shown all the same.
        Err(_) => safe(&String::from_utf8_lossy(path)),
    }
}

/// Now, as the bus has it.
pub fn now_usec() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_bytes_that_text_loses() {
        assert_eq!(path_json("path", "ü\n".as_bytes()), json!({"path": "ü\n"}));
        assert_eq!(path_json("path", b"a\xff"), json!({"path": "a\u{fffd}", "path_hex": "61ff"}));
    }

    #[test]
    fn in_sync_means_nothing_is_behind() {
        let idle =
            View { agent: Agent { state: "idle".into(), ..Agent::default() }, remotes: Vec::new(), jobs: Vec::new() };
        assert!(idle.is_in_sync());
        for agent in [
            Agent { state: "syncing".into(), queue_depth: 1, ..Agent::default() },
            Agent { state: "idle".into(), failure_count: 1, ..Agent::default() },
            Agent { state: "degraded".into(), ..Agent::default() },
            Agent { state: "starting".into(), ..Agent::default() },
            Agent { state: "paused".into(), queue_depth: 1, ..Agent::default() },
        ] {
            assert!(!View { agent: agent.clone(), ..idle.clone() }.is_in_sync(), "{agent:?}");
        }
    }
}
