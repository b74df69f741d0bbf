//! Which instances there are: those on the bus, and those that systemd knows but that do not run.

use super::Session;
use super::check::configs_of;
use super::completion::configured;
use super::error::{CtlError, is_absent};
use super::proxy::{SystemdProxy, UnitRow};
use super::view::View;
use crate::bus::names;
use glob::Pattern;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use zbus::Connection;
use zbus::fdo::DBusProxy;

/// An agent answers from memory; one that takes longer is stuck.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// State of an instance that has a config, does not run, and is not started at boot.
pub const DISABLED: &str = "disabled";

/// One instance.
#[derive(Debug)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Whether it runs.
    pub presence: Presence,
}

/// Whether an instance runs.
#[derive(Debug)]
pub enum Presence {
    /// On the bus, and this is what it says.
    Running(Box<View>),
    /// On the bus, and it says nothing.
    Silent,
    /// Not on the bus; what systemd says, such as `stopped (enabled)`, `failed` or [`DISABLED`].
    Stopped(String),
}

/// All instances, by name. One that stops while we look is left out or shown as stopped.
pub async fn all(session: &Session) -> Result<Vec<Instance>, CtlError> {
    let owned = DBusProxy::new(&session.bus).await?.list_names().await.map_err(zbus::Error::from)?;
    let mut found = BTreeMap::new();
    for bus_name in owned {
        let Some(name) = names::instance_of(bus_name.as_str()) else { continue };
        // One that leaves the bus meanwhile, or answers with an error, is a row of its own; the others are shown as usual.
        let silent = Instance { name: name.clone(), presence: Presence::Silent };
        if let Some(instance) = ask(session, bus_name.as_str(), &name).await.unwrap_or(Some(silent)) {
            found.insert(instance.name.clone(), instance);
        }
    }
    for (name, state) in stopped(session).await {
        found.entry(name.clone()).or_insert(Instance { name, presence: Presence::Stopped(state) });
    }
    for name in configured(&configs_of(session.scope)) {
        if !found.contains_key(&name) {
            let state = unit_file_state(session, &name).await;
            found.insert(name.clone(), Instance { name, presence: Presence::Stopped(state) });
        }
    }
    Ok(found.into_values().collect())
}

/// The instances that `words` mean, each once: a name, a unit such as `sersync@www.service`, or a pattern of names, in
/// which `*`, `?` and `[…]` are what they are in a shell. A pattern that matches none is an error.
pub async fn meant(session: &Session, words: &[String]) -> Result<Vec<String>, CtlError> {
    let mut found: Vec<String> = Vec::new();
    for word in words {
        let word = instance_of_word(word);
        let matching = match word.contains(['*', '?', '[']).then(|| Pattern::new(word)) {
            Some(Ok(pattern)) => known(session).await?.into_iter().filter(|name| pattern.matches(name)).collect(),
            _ => vec![word.to_owned()],
        };
        if matching.is_empty() {
            return Err(CtlError::NoInstance(session.scope, word.to_owned()));
        }
        for name in matching {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// The one instance that `word` means, for a command that takes one.
pub async fn only(session: &Session, word: &str) -> Result<String, CtlError> {
    let mut found = meant(session, &[word.to_owned()]).await?;
    match found.pop() {
        Some(name) if found.is_empty() => Ok(name),
        last => {
            found.extend(last);
            Err(CtlError::Several(session.scope, word.to_owned(), found))
        }
    }
}

/// Names of all instances.
async fn known(session: &Session) -> Result<BTreeSet<String>, CtlError> {
    let owned = DBusProxy::new(&session.bus).await?.list_names().await.map_err(zbus::Error::from)?;
    let mut found: BTreeSet<String> = owned.iter().filter_map(|name| names::instance_of(name.as_str())).collect();
    found.extend(names_of_units(&session.bus).await);
    found.extend(configured(&configs_of(session.scope)));
    Ok(found)
}

/// The name in a word that may be a unit's.
pub fn instance_of_word(word: &str) -> &str {
    let Some(name) = word.strip_prefix("sersync@") else { return word };
    let name = name.strip_suffix(".service").unwrap_or(name);
    if name.is_empty() { word } else { name }
}

/// One instance by its name; `None` when nobody knows it.
pub async fn one(session: &Session, name: &str) -> Result<Option<Instance>, CtlError> {
    if let Some(instance) = ask(session, &names::bus_name(name), name).await? {
        return Ok(Some(instance));
    }
    let state = stopped(session).await.remove(name);
    let state = match state {
        Some(state) => Some(state),
        None => {
            let state = unit_file_state(session, name).await;
            let is_configured = configs_of(session.scope).join(format!("{name}.xml")).is_file();
            (is_configured || state != DISABLED).then_some(state)
        }
    };
    Ok(state.map(|state| Instance { name: name.to_owned(), presence: Presence::Stopped(state) }))
}

async fn ask(session: &Session, bus_name: &str, name: &str) -> Result<Option<Instance>, CtlError> {
    let view = tokio::time::timeout(ANSWER_TIME, View::read(&session.bus, bus_name, name)).await;
    Ok(match view {
        Ok(Ok(view)) => {
            // The escaped name may be ambiguous, the property is not.
            Some(Instance { name: view.agent.instance.clone(), presence: Presence::Running(Box::new(view)) })
        }
        Ok(Err(error)) if is_absent(&error) => None,
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => Some(Instance { name: name.to_owned(), presence: Presence::Silent }),
    })
}

/// The units in systemd's memory: one that is enabled is, through its target. Without systemd on the bus there are
/// none, and that is no error.
async fn stopped(session: &Session) -> BTreeMap<String, String> {
    let Ok(systemd) = SystemdProxy::new(&session.bus).await else { return BTreeMap::new() };
    let mut found = BTreeMap::new();
    for unit in units(&systemd).await {
        let Some(name) = instance_of_unit(&unit.0) else { continue };
        let file = systemd.get_unit_file_state(&unit.0).await.unwrap_or_default();
        found.insert(name, stopped_state(&unit.3, &file));
    }
    found
}

/// The instances whose units systemd has in memory, running or not.
pub async fn names_of_units(bus: &Connection) -> Vec<String> {
    let Ok(systemd) = SystemdProxy::new(bus).await else { return Vec::new() };
    units(&systemd).await.iter().filter_map(|unit| instance_of_unit(&unit.0)).collect()
}

/// Our units in systemd's memory; none where it does not answer.
async fn units(systemd: &SystemdProxy<'_>) -> Vec<UnitRow> {
    systemd.list_units_by_patterns(&[], &["sersync@*.service"]).await.unwrap_or_default()
}

/// State of an instance whose unit is not in systemd's memory. Without systemd nothing starts it.
async fn unit_file_state(session: &Session, name: &str) -> String {
    let file = match SystemdProxy::new(&session.bus).await {
        Ok(systemd) => systemd.get_unit_file_state(&unit_of(name)).await.unwrap_or_default(),
        Err(_) => String::new(),
    };
    if file.starts_with("enabled") { stopped_state("inactive", &file) } else { DISABLED.to_owned() }
}

fn unit_of(instance: &str) -> String {
    format!("sersync@{instance}.service")
}

fn instance_of_unit(unit: &str) -> Option<String> {
    unit.strip_prefix("sersync@")?.strip_suffix(".service").filter(|name| !name.is_empty()).map(str::to_owned)
}

/// An instance that is not on the bus, by its unit's active state and its unit file's.
fn stopped_state(active: &str, file: &str) -> String {
    match active {
        "failed" => "failed".to_owned(),
        // On its way to the bus or away from it, or run without one.
        "active" | "reloading" => "running without the bus".to_owned(),
        "activating" => "starting".to_owned(),
        "deactivating" => "stopping".to_owned(),
        _ if file.is_empty() => "stopped".to_owned(),
        _ if file == DISABLED => DISABLED.to_owned(),
        _ => format!("stopped ({file})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_systemd_means() {
        assert_eq!(stopped_state("inactive", "enabled"), "stopped (enabled)");
        assert_eq!(stopped_state("inactive", "disabled"), "disabled");
        assert_eq!(stopped_state("inactive", ""), "stopped");
        assert_eq!(stopped_state("failed", "enabled"), "failed");
        assert_eq!(stopped_state("active", "enabled"), "running without the bus");
    }

    #[test]
    fn units_name_their_instances() {
        assert_eq!(instance_of_unit("sersync@www.service").as_deref(), Some("www"));
        assert_eq!(instance_of_unit(&unit_of("a.b-c")).as_deref(), Some("a.b-c"));
        assert_eq!(instance_of_unit("sersync@.service"), None);
        for word in ["www", "sersync@www", "sersync@www.service"] {
            assert_eq!(instance_of_word(word), "www");
        }
        assert_eq!(instance_of_word("sersync@"), "sersync@");
        assert_eq!(instance_of_unit("sersync.target"), None);
    }
}
