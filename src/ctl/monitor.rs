//! `monitor`: prints what an instance signals, until Ctrl-C or the instance's end.

use super::Session;
use super::error::CtlError;
use super::sentences::reason;
use super::signals::Signals;
use super::view::{now_usec, path_json, shown};
use super::words;
use crate::bus::names;
use crate::human::{bytes, count, rough, safe, without_path};
use jiff::ZonedDateTime;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tr::tr;
use zbus::{Message, OwnedVariant};

/// Prints until Ctrl-C.
pub async fn run(session: &Session, name: &str) -> Result<(), CtlError> {
    let mut signals = Signals::of(session, name).await?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CtlError::CtrlC)?;
    loop {
        tokio::select! {
            signal = signals.next() => {
                let signal = signal?;
                // A signal of a later version that we cannot read is no reason to stop.
                let Ok(Some(event)) = Event::read(&signal) else { continue };
                let mut out = anstream::stdout();
                if session.json {
                    writeln!(out, "{}", event.to_json())?;
                } else if let Some(line) = event.to_line() {
                    writeln!(out, "{} {line}", ZonedDateTime::now().strftime("%H:%M:%S"))?;
                }
            }
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

/// One signal, understood.
enum Event {
    Batch { remote: String, paths: u64, bytes: u64, duration_usec: u64, success: bool },
    Failure { remote: String, path: Vec<u8>, error: String, message: String },
    Cleared { remote: String, path: Vec<u8> },
    FullSync { job: u64, success: bool, result: String },
    Overflow { root: Vec<u8> },
    Changed { object: String, properties: BTreeMap<String, OwnedVariant> },
}

impl Event {
    fn read(signal: &Message) -> zbus::Result<Option<Self>> {
        let header = signal.header();
        let (Some(interface), Some(member), Some(path)) = (header.interface(), header.member(), header.path()) else {
            return Ok(None);
        };
        let body = signal.body();
        Ok(Some(match (interface.as_str(), member.as_str()) {
            (names::AGENT, "BatchFinished") => {
                let (remote, paths, bytes, duration_usec, success) = body.deserialize()?;
                Self::Batch { remote, paths, bytes, duration_usec, success }
            }
            (names::AGENT, "FailureAdded") => {
                let (remote, path, error, message) = body.deserialize()?;
                Self::Failure { remote, path, error, message }
            }
            (names::AGENT, "FailureCleared") => {
                let (remote, path) = body.deserialize()?;
                Self::Cleared { remote, path }
            }
            (names::AGENT, "FullSyncFinished") => {
                let (job, success, result): (zbus::OwnedObjectPath, _, _) = body.deserialize()?;
                Self::FullSync { job: last_element(job.as_str()).parse().unwrap_or_default(), success, result }
            }
            (names::AGENT, "Overflowed") => Self::Overflow { root: body.deserialize()? },
            ("org.freedesktop.DBus.Properties", "PropertiesChanged") => {
                let (_, properties, _): (String, BTreeMap<String, OwnedVariant>, Vec<String>) = body.deserialize()?;
                Self::Changed { object: object(path.as_str()), properties }
            }
            _ => return Ok(None),
        }))
    }

    /// Remote and path, where it has them, and what happened; `None` for changes that only programs need.
    fn to_line(&self) -> Option<String> {
        Some(match self {
            Self::Batch { remote, paths, bytes: sent, duration_usec, success } => {
                let paths = tr!("{paths} path" | "{paths} paths" % *paths, paths = count(*paths));
                let time = rough(Duration::from_micros(*duration_usec));
                let (remote, bytes) = (safe(remote), bytes(*sent));
                match success {
                    true => tr!("{remote}: {paths} sent, {bytes}, {time}", remote, paths, bytes, time),
                    false => tr!("{remote}: run with {paths} failed after {time}", remote, paths, time),
                }
            }
            Self::Failure { remote, path, error, message } => {
                let first = without_path(message.lines().next().unwrap_or_default(), path);
                let (remote, path, error, reason) = (safe(remote), shown(path), safe(error), reason(&first));
                tr!("{remote}: {path} failed: {error}: {reason}", remote, path, error, reason)
            }
            Self::Cleared { remote, path } => {
                tr!("{remote}: {path} succeeded after a failure", remote = safe(remote), path = shown(path))
            }
            Self::FullSync { job, success, result } => match success {
                true => tr!("full sync {job} done: {result}", job, result = safe(result)),
                false => tr!("full sync {job} not done: {result}", job, result = safe(result)),
            },
            Self::Overflow { root } => {
                let root = safe(&String::from_utf8_lossy(root));
                tr!("{root}: the kernel's event queue overflowed, the tree is walked again", root)
            }
            Self::Changed { object, properties } => {
                let state = text_of(properties, "State")?;
                let state = words::state(&state);
                match object.split_once(' ') {
                    None => tr!("the instance is {state}", state),
                    Some(("remote", remote)) => match text_of(properties, "LastErrorName") {
                        Some(error) if !error.is_empty() => {
                            tr!("{remote}: {state}: {error}", remote = safe(remote), state, error = safe(&error))
                        }
                        _ => tr!("{remote}: {state}", remote = safe(remote), state),
                    },
                    Some((_, job)) => tr!("full sync {job}: {state}", job = safe(job), state),
                }
            }
        })
    }

    fn to_json(&self) -> Value {
        let mut value = match self {
            Self::Batch { remote, paths, bytes, duration_usec, success } => {
                json!({"event": "batch", "remote": remote, "paths": paths, "bytes": bytes,
                       "duration_usec": duration_usec, "success": success})
            }
            Self::Failure { remote, path, error, message } => {
                let mut value = path_json("path", path);
                value["event"] = "failure".into();
                value["remote"] = remote.as_str().into();
                value["error"] = error.as_str().into();
                value["message"] = message.as_str().into();
                value
            }
            Self::Cleared { remote, path } => {
                let mut value = path_json("path", path);
                value["event"] = "cleared".into();
                value["remote"] = remote.as_str().into();
                value
            }
            Self::FullSync { job, success, result } => {
                json!({"event": "full_sync", "job": job, "success": success, "result": result})
            }
            Self::Overflow { root } => {
                let mut value = path_json("root", root);
                value["event"] = "overflow".into();
                value
            }
            Self::Changed { object, properties } => {
                let properties: Map<_, _> =
                    properties.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
                json!({"event": "changed", "object": object, "properties": properties})
            }
        };
        value["at_usec"] = now_usec().into();
        value
    }
}

/// `agent`, `remote NAME` or `job N`.
fn object(path: &str) -> String {
    let below = path.strip_prefix(names::PATH_PREFIX).and_then(|rest| rest.split_once('/'));
    match below.and_then(|(_, below)| below.split_once('/')) {
        Some((kind, name)) => format!("{kind} {}", names::unescape(name).unwrap_or_else(|| name.to_owned())),
        None => "agent".to_owned(),
    }
}

/// A property that is a text, if it is among those that changed.
fn text_of(properties: &BTreeMap<String, OwnedVariant>, name: &str) -> Option<String> {
    String::try_from(properties.get(name)?.clone()).ok()
}

fn last_element(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// The kinds of values that our properties have; others as zbus writes them.
fn to_json(value: &OwnedVariant) -> Value {
    use zbus::Variant;
    fn plain(value: &Variant<'_>) -> Value {
        match value {
            Variant::Str(text) => text.as_str().into(),
            Variant::U64(number) => (*number).into(),
            Variant::U32(number) => (*number).into(),
            Variant::F64(number) => (*number).into(),
            Variant::Bool(truth) => (*truth).into(),
            Variant::Array(array) => {
                let bytes: Result<Vec<u8>, _> = array.inner().iter().map(u8::try_from).collect();
                match bytes {
                    // A path; an empty list of anything is an empty list.
                    Ok(bytes) if !bytes.is_empty() => String::from_utf8_lossy(&bytes).into_owned().into(),
                    _ => array.inner().iter().map(plain).collect(),
                }
            }
            other => other.to_string().into(),
        }
    }
    plain(value)
}
