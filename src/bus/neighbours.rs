//! Instances of this machine that feed each other: found on the bus, before they turn in a circle.
//!
//! What an instance mirrors to a directory of this machine may be what another one watches, and so on back to the first.
//! Only running instances count, and only directories of this machine: where a remote is an rsync daemon or an ssh
//! host, nobody here knows what lies behind it, and the agent listens for echoes.

use super::{Which, names};
use std::collections::HashMap;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zbus::Connection;
use zbus::OwnedVariant;
use zbus::fdo::{DBusProxy, ObjectManagerProxy};

/// An agent answers from memory; one that takes longer is stuck, and feeds nobody.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// One directory of this machine that an instance mirrors to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The instance.
    pub instance: String,
    /// The watched directory.
    pub root: PathBuf,
    /// The mirror of it.
    pub copy: PathBuf,
}

impl Link {
    /// With the symbolic links on the way to both followed, as far as they lead somewhere.
    pub fn new(instance: String, root: &Path, copy: &Path) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        Self { instance, root: real(root), copy: real(copy) }
    }

    /// Whether what it writes is what `other` watches, all of it or a part.
    fn feeds(&self, other: &Self) -> bool {
        self.copy.starts_with(&other.root) || other.root.starts_with(&self.copy)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {} (instance {})", self.root.display(), self.copy.display(), self.instance)
    }
}

/// A way from one of `own` back to it, by `own` and `others`; the shortest there is.
pub fn find_loop(own: &[Link], others: &[Link]) -> Option<Vec<Link>> {
    let all: Vec<&Link> = own.iter().chain(others).collect();
    let back = |start: &&Link| {
        let mut ways = vec![vec![*start]];
        let mut seen = vec![*start];
        while !ways.is_empty() {
            let done = ways.iter().find(|way| way.last().is_some_and(|last| last.feeds(start)));
            if let Some(way) = done {
                return Some(way.iter().map(|link| (*link).clone()).collect::<Vec<_>>());
            }
            let mut longer = Vec::new();
            for way in ways {
                let Some(last) = way.last() else { continue };
                for next in all.iter().filter(|next| last.feeds(next)) {
                    if !seen.contains(next) {
                        seen.push(next);
                        longer.push(way.iter().copied().chain([*next]).collect());
                    }
                }
            }
            ways = longer;
        }
        None
    };
    own.iter().collect::<Vec<_>>().iter().filter_map(back).min_by_key(Vec::len)
}

/// What the other instances on the bus mirror to directories of this machine. Who does not answer has none.
pub async fn links(which: &Which, own_name: &str) -> Vec<Link> {
    let asking = async {
        let bus = which.builder().method_timeout(ANSWER_TIME).build().await?;
        let names = DBusProxy::new(&bus).await?.list_names().await?;
        let mut links = Vec::new();
        for name in names.iter().filter(|name| name.as_str() != own_name) {
            if let Some(instance) = names::instance_of(name.as_str()) {
                links.extend(links_of(&bus, name.as_str(), &instance).await.unwrap_or_default());
            }
        }
        Ok::<_, zbus::Error>(links)
    };
    asking.await.unwrap_or_default()
}

async fn links_of(bus: &Connection, name: &str, instance: &str) -> zbus::Result<Vec<Link>> {
    let manager = ObjectManagerProxy::new(bus, name.to_owned(), names::agent_path(instance)).await?;
    let objects = manager.get_managed_objects().await?;
    let remotes = objects.values().filter_map(|interfaces| interfaces.get("org.sersync.Remote1"));
    Ok(remotes.filter_map(|remote| link_of(remote, instance)).collect())
}

fn link_of(remote: &HashMap<String, OwnedVariant>, instance: &str) -> Option<Link> {
    let address: &str = remote.get("Address")?.downcast_ref().ok()?;
    let root: Vec<u8> = remote.get("Root")?.try_clone().ok()?.try_into().ok()?;
    let root = PathBuf::from(std::ffi::OsString::from_vec(root));
    address.starts_with('/').then(|| Link::new(instance.to_owned(), &root, Path::new(address)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(instance: &str, root: &str, copy: &str) -> Link {
        Link { instance: instance.into(), root: root.into(), copy: copy.into() }
    }

    #[test]
    fn a_circle_is_found_through_any_number_of_instances() {
        let own = [link("www", "/a", "/b"), link("www", "/a", "/mnt/copy")];
        let found = |others: &[Link]| find_loop(&own, others).map(|way| way.len());
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[link("x", "/b", "/c")]), None, "a chain");
        assert_eq!(
            found(&[link("x", "/a", "/c"), link("y", "/b2", "/a")]),
            None,
            "two of one root, and a neighbour's name"
        );
        assert_eq!(found(&[link("x", "/b", "/a")]), Some(2));
        assert_eq!(found(&[link("x", "/b/part", "/c"), link("y", "/c", "/a/part")]), Some(3), "in parts");
        assert_eq!(found(&[link("x", "/c", "/d"), link("y", "/d", "/c")]), None, "none of ours");
        assert_eq!(find_loop(&[link("www", "/a", "/b"), link("www", "/b", "/a")], &[]).map(|way| way.len()), Some(2));
    }
}
