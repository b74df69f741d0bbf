//! The other instances on the bus: their roots and destinations, so that mirrors that meet are found at start.
//!
//! Only instances that are on the bus count. One that starts at the same time sees this one, or is seen by it: both
//! are on the bus before either of them asks.

use super::{Which, names};
use crate::config::{self, Destination, overlap::Mirror};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::Duration;
use zbus::Connection;
use zbus::OwnedVariant;
use zbus::fdo::{DBusProxy, ObjectManagerProxy};

/// Time for one answer. An agent answers from memory; one that takes longer is stuck, and mirrors nothing.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// The mirrors of the other instances on the bus. An instance that does not answer counts as one without mirrors.
pub async fn mirrors(which: &Which, own_name: &str) -> Vec<Mirror> {
    let asking = async {
        let bus = which.builder().method_timeout(ANSWER_TIME).build().await?;
        let names = DBusProxy::new(&bus).await?.list_names().await?;
        let mut asked = tokio::task::JoinSet::new();
        for name in names.into_iter().filter(|name| name.as_str() != own_name) {
            if let Some(instance) = names::instance_of(name.as_str()) {
                let bus = bus.clone();
                asked.spawn(async move { mirrors_of(&bus, name.as_str(), &instance).await.unwrap_or_default() });
            }
        }
        Ok::<_, zbus::Error>(asked.join_all().await.concat())
    };
    // The connection and the list of names take a part of it, and the answers, all at once, the rest.
    tokio::time::timeout(ANSWER_TIME * 3, asking).await.ok().and_then(Result::ok).unwrap_or_default()
}

async fn mirrors_of(bus: &Connection, name: &str, instance: &str) -> zbus::Result<Vec<Mirror>> {
    let manager = ObjectManagerProxy::new(bus, name.to_owned(), names::agent_path(instance)).await?;
    let objects = manager.get_managed_objects().await?;
    let remotes = objects.values().filter_map(|interfaces| interfaces.get("org.sersync.Remote1"));
    Ok(remotes.filter_map(|remote| mirror_of(remote, instance)).collect())
}

fn mirror_of(remote: &HashMap<String, OwnedVariant>, instance: &str) -> Option<Mirror> {
    let address: &str = remote.get("Address")?.downcast_ref().ok()?;
    let root: Vec<u8> = remote.get("Root")?.try_clone().ok()?.try_into().ok()?;
    let mut destination = config::destination(address).ok()?;
    if let Destination::Daemon { port, .. } | Destination::Ssh { port, .. } = &mut destination {
        let number: u16 = remote.get("Port").and_then(|port| port.downcast_ref().ok()).unwrap_or(0);
        *port = (number != 0).then_some(number);
    }
    Some(Mirror { instance: instance.to_owned(), root: PathBuf::from(OsString::from_vec(root)), destination })
}
