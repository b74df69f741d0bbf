//! Where mirrors meet: destinations and watched directories that are the same place, or lie inside one another.
//!
//! Two mirrors that meet delete each other's files: each removes what only the other has put there. So every pair is
//! compared before anything is sent, without asking a remote: directories of this machine by the
//! file system that they lie on (symbolic links and bind mounts resolved), modules and ssh directories by their
//! address, where all names of this machine count as one. Some overlaps show in no address (two names of one host, a module that
//! serves a watched directory); a probe finds those later (`agent::deletion_guard`).
//!
//! Nothing here waits for a network or writes anything.

use super::{Destination, Root};
use crate::mounts;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Component, Path, PathBuf};

/// rsync's own port.
const RSYNC_PORT: u16 = 873;

/// ssh's own port. Behind another one, `localhost` may be a container.
const SSH_PORT: u16 = 22;

/// One root mirrored to one destination.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// The instance's name; empty while a config is read, before it has one.
    pub instance: String,
    /// The watched directory.
    pub root: PathBuf,
    /// Where it is mirrored to.
    pub destination: Destination,
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.root.display(), self.destination)?;
        if self.instance.is_empty() { Ok(()) } else { write!(f, " (instance {})", self.instance) }
    }
}

/// Every root with each of its destinations, as mirrors of `instance`.
pub fn mirrors<'a>(instance: &str, roots: impl IntoIterator<Item = &'a Root>) -> Vec<Mirror> {
    let of_root = |root: &'a Root| root.remotes.iter().map(move |remote| (&root.path, remote));
    let mirror = |(root, destination): (&PathBuf, &Destination)| Mirror {
        instance: instance.to_owned(),
        root: root.clone(),
        destination: destination.clone(),
    };
    roots.into_iter().flat_map(of_root).map(mirror).collect()
}

/// How two places lie to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They are one directory.
    Same,
    /// The first lies inside the second.
    Inside,
    /// The first contains the second.
    Contains,
}

/// Two mirrors that would delete each other's files. The text says what would happen; the remedy depends on the caller.
#[derive(Debug, Clone)]
pub enum Conflict {
    /// Mirrors of different roots, or of one root, put their copies into one place or inside one another.
    Destinations(Mirror, Mirror, Relation),
    /// Changes come back to where they began. The mirrors, in the order of a change's way.
    Circle(Vec<Mirror>),
    /// A destination contains a directory that is watched: the mirror would delete that directory.
    ContainsRoot(Mirror, PathBuf),
}

impl Conflict {
    /// The root of the mirror that is at fault, of those that compare.
    pub fn root(&self) -> &Path {
        match self {
            Self::Destinations(one, ..) | Self::ContainsRoot(one, _) => &one.root,
            Self::Circle(way) => way.first().map_or(Path::new("/"), |first| &first.root),
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Destinations(one, other, relation) => {
                let (to, from, what) =
                    (&one.destination, other.root.display(), "each would delete what the other sent");
                let instance = match other.instance.as_str() {
                    "" => String::new(),
                    name => format!(" (instance {name})"),
                };
                let lies = match relation {
                    Relation::Same if one.destination.to_string() == other.destination.to_string() => {
                        return write!(f, "{to} mirrors {from}{instance} already: {what}");
                    }
                    Relation::Same => "is the same place as",
                    Relation::Inside => "lies inside",
                    Relation::Contains => "contains",
                };
                write!(f, "{to} {lies} {}, which mirrors {from}{instance}: {what}", other.destination)
            }
            Self::Circle(way) => {
                let way: Vec<String> = way.iter().map(Mirror::to_string).collect();
                write!(
                    f,
                    "a loop: every change would come back, and each side would delete what only the other has: {}",
                    way.join(", ")
                )
            }
            Self::ContainsRoot(mirror, root) => write!(
                f,
                "{} contains {}, which is watched: the mirror of {} would delete it",
                mirror.destination,
                root.display(),
                mirror.root.display()
            ),
        }
    }
}

/// The mirrors to compare, each place resolved once.
#[derive(Debug)]
pub struct Places {
    own: usize,
    mirrors: Vec<(Mirror, Place, Place)>,
}

impl Places {
    /// Resolves the places of the mirrors of this instance, `own`, and of `others` on this machine.
    pub fn new(own: Vec<Mirror>, others: Vec<Mirror>) -> Self {
        let machine = Machine::read();
        let count = own.len();
        let resolve = |mirror: Mirror| {
            let (root, destination) = (machine.directory(&mirror.root), machine.destination(&mirror.destination));
            (mirror, root, destination)
        };
        Self { own: count, mirrors: own.into_iter().chain(others).map(resolve).collect() }
    }

    /// Everything that forbids the mirrors of this instance to start. Mirrors that delete nothing (`deletes` is false)
    /// can only form circles.
    pub fn conflicts(&self, deletes: bool) -> Vec<Conflict> {
        let mut found: Vec<Conflict> = self.shortest_circle().map(Conflict::Circle).into_iter().collect();
        if !deletes {
            return found;
        }
        for (at, (mirror, _, place)) in self.mirrors[..self.own].iter().enumerate() {
            // An own pair is compared once; a neighbour starts or has started without us.
            let earlier = self.mirrors[..at].iter().chain(&self.mirrors[self.own..]);
            for (other, _, other_place) in earlier {
                let relation = place.relation_to(other_place);
                // One place for one root, named twice: nothing differs there.
                let is_twice = relation == Some(Relation::Same) && mirror.root == other.root;
                if let Some(relation) = relation.filter(|_| !is_twice) {
                    found.push(Conflict::Destinations(mirror.clone(), other.clone(), relation));
                }
            }
            let mut named = HashSet::new();
            for (other, root, _) in &self.mirrors {
                if place.relation_to(root) == Some(Relation::Contains) && named.insert(&other.root) {
                    found.push(Conflict::ContainsRoot(mirror.clone(), other.root.clone()));
                }
            }
        }
        found
    }

    /// The own mirrors whose destination is watched, or lies inside a directory that is: `(index, watched directory)`.
    /// A chain is allowed, but a comparison would delete files that came from elsewhere.
    pub fn chains(&self) -> Vec<(usize, PathBuf)> {
        let own = self.mirrors[..self.own].iter().enumerate();
        own.filter_map(|(at, (_, _, place))| {
            let is_in = |root: &Place| matches!(place.relation_to(root), Some(Relation::Same | Relation::Inside));
            self.mirrors.iter().find(|(_, root, _)| is_in(root)).map(|(other, ..)| (at, other.root.clone()))
        })
        .collect()
    }

    /// A way from an own mirror back to its root; the shortest there is.
    fn shortest_circle(&self) -> Option<Vec<Mirror>> {
        let feeds = |from: usize, to: usize| {
            let (_, _, place) = &self.mirrors[from];
            place.relation_to(&self.mirrors[to].1).is_some()
        };
        let back = |start: usize| {
            let (mut ways, mut seen) = (vec![vec![start]], BTreeSet::from([start]));
            while !ways.is_empty() {
                if let Some(done) = ways.iter().find(|way| way.last().is_some_and(|last| feeds(*last, start))) {
                    return Some(done.clone());
                }
                let mut longer = Vec::new();
                for way in ways {
                    let Some(last) = way.last().copied() else { continue };
                    for next in (0..self.mirrors.len()).filter(|next| feeds(last, *next)) {
                        if seen.insert(next) {
                            longer.push(way.iter().copied().chain([next]).collect());
                        }
                    }
                }
                ways = longer;
            }
            None
        };
        let way = (0..self.own).filter_map(back).min_by_key(Vec::len)?;
        Some(way.into_iter().map(|at| self.mirrors[at].0.clone()).collect())
    }
}

/// A place, in a form that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A directory of this machine: by its path, and by the file system and the path in it.
    Here { real: PathBuf, on_device: Option<(Vec<u8>, PathBuf)> },
    /// A module of an rsync daemon, and a path below it.
    Module { host: Host, port: u16, path: PathBuf },
    /// A directory of another host. A relative one starts in the home of `user`.
    Ssh { host: Host, port: u16, home_of: Option<Option<String>>, path: PathBuf },
}

/// A host, as far as its name tells.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    ThisMachine,
    Named(String),
}

impl Place {
    fn relation_to(&self, other: &Self) -> Option<Relation> {
        match (self, other) {
            (Self::Here { real, on_device }, Self::Here { real: other_real, on_device: other_device }) => {
                relation(real, other_real).or_else(|| match (on_device, other_device) {
                    (Some((device, path)), Some((other_device, other_path))) if device == other_device => {
                        relation(path, other_path)
                    }
                    _ => None,
                })
            }
            (
                Self::Module { host, port, path },
                Self::Module { host: other_host, port: other_port, path: other_path },
            ) if (host, port) == (other_host, other_port) => relation(path, other_path),
            (
                Self::Ssh { host, port, home_of, path },
                Self::Ssh { host: other_host, port: other_port, home_of: other_home, path: other_path },
            ) if (host, port, home_of) == (other_host, other_port, other_home) => relation(path, other_path),
            _ => None,
        }
    }
}

fn relation(one: &Path, other: &Path) -> Option<Relation> {
    match () {
        () if one == other => Some(Relation::Same),
        () if one.starts_with(other) => Some(Relation::Inside),
        () if other.starts_with(one) => Some(Relation::Contains),
        () => None,
    }
}

/// The names, addresses and mounts of this machine.
struct Machine {
    mountinfo: Vec<u8>,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl Machine {
    fn read() -> Self {
        let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
        let addresses = interfaces.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        });
        let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let own = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback", kernel.trim()];
        Self {
            mountinfo: std::fs::read(mounts::MOUNTINFO).unwrap_or_default(),
            names: own.iter().filter(|name| !name.is_empty()).map(|name| name.to_lowercase()).collect(),
            // Also in a namespace whose loopback interface is down.
            addresses: addresses.chain([IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()]).collect(),
        }
    }

    fn host(&self, name: &str) -> Host {
        let name = name.trim_end_matches('.').to_lowercase();
        let address = name.split('%').next().and_then(|name| name.parse::<IpAddr>().ok());
        let is_own = match address {
            Some(address) => {
                // Of 127.0.0.0/8 only 127.0.0.1 is set up by itself; a daemon at another address is one of its own.
                let address = address.to_canonical();
                address.is_unspecified() || self.addresses.contains(&address)
            }
            None => self.names.contains(&name),
        };
        match (is_own, address) {
            (true, _) => Host::ThisMachine,
            (false, Some(address)) => Host::Named(address.to_canonical().to_string()),
            (false, None) => Host::Named(name),
        }
    }

    fn destination(&self, destination: &Destination) -> Place {
        match destination {
            Destination::Local { directory } => self.directory(directory),
            Destination::Daemon { host, port, module, .. } => Place::Module {
                host: self.host(host),
                port: port.unwrap_or(RSYNC_PORT),
                // rsyncd lets no `..` lead out of a module, and takes names literally.
                path: normal(Path::new(module)),
            },
            Destination::Ssh { user, host, port, directory } => {
                let (host, port) = (self.host(host), port.unwrap_or(SSH_PORT));
                let directory = Path::new(directory);
                if host == Host::ThisMachine && port == SSH_PORT && directory.is_absolute() {
                    return self.directory(directory);
                }
                let home_of = (!directory.is_absolute()).then(|| user.clone());
                Place::Ssh { host, port, home_of, path: normal(directory) }
            }
        }
    }

    /// `path` with the symbolic links on its way followed, as far as it exists.
    fn directory(&self, path: &Path) -> Place {
        let real = resolved(path);
        let on_device = mounts::on_device(&self.mountinfo, &real);
        Place::Here { real, on_device }
    }
}

/// Whether two addresses are known to lead to one place.
pub(super) fn is_one_place(one: &Destination, other: &Destination) -> bool {
    let machine = Machine::read();
    machine.destination(one).relation_to(&machine.destination(other)) == Some(Relation::Same)
}

/// Whether `destination` is known to be `root`, or to lie inside it, or to contain it.
pub(super) fn meets(root: &Path, destination: &Destination) -> bool {
    let machine = Machine::read();
    let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let place = match destination {
        // A copy into the tree itself is refused even where another port may mean a container.
        Destination::Ssh { host, directory, .. }
            if directory.starts_with('/') && (machine.host(host) == Host::ThisMachine || is_loopback(host)) =>
        {
            machine.directory(Path::new(directory))
        }
        other => machine.destination(other),
    };
    place.relation_to(&machine.directory(root)).is_some()
}

/// `path` from `/` on, with symbolic links followed as far as it exists; what does not exist yet is taken literally.
fn resolved(path: &Path) -> PathBuf {
    for above in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (above.canonicalize(), path.strip_prefix(above)) {
            return normal(&real.join(rest));
        }
    }
    normal(path)
}

/// `path` without `.`, `..` and doubled slashes. `..` goes back by one name; above the first name it does nothing.
fn normal(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir if whole.file_name().is_some() => drop(whole.pop()),
            Component::ParentDir | Component::CurDir => {}
            other => whole.push(other),
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn to(text: &str) -> Destination {
        crate::config::destination(text).unwrap()
    }

    fn mirror(root: &str, destination: &str) -> Mirror {
        Mirror { instance: String::new(), root: root.into(), destination: to(destination) }
    }

    fn places(own: &[(&str, &str)], others: &[(&str, &str)]) -> Places {
        let all = |mirrors: &[(&str, &str)]| mirrors.iter().map(|(root, to)| mirror(root, to)).collect();
        Places::new(all(own), all(others))
    }

    fn circle(own: &[(&str, &str)], others: &[(&str, &str)]) -> Option<usize> {
        places(own, others).shortest_circle().map(|way| way.len())
    }

    #[test]
    fn a_circle_is_found_through_any_number_of_mirrors() {
        let own = [("/none/a", "/none/b"), ("/none/a", "/none/copy")];
        assert_eq!(circle(&own, &[]), None);
        assert_eq!(circle(&own, &[("/none/b", "/none/c")]), None, "a chain");
        let side_by_side = [("/none/a", "/none/c"), ("/none/b2", "/none/a")];
        assert_eq!(circle(&own, &side_by_side), None, "two of one root, and a name that begins alike");
        assert_eq!(circle(&own, &[("/none/b", "/none/a")]), Some(2));
        assert_eq!(circle(&own, &[("/none/b/part", "/none/c"), ("/none/c", "/none/a/part")]), Some(3), "in parts");
        assert_eq!(circle(&own, &[("/none/c", "/none/d"), ("/none/d", "/none/c")]), None, "none of ours");
        assert_eq!(circle(&[("/none/a", "/none/b"), ("/none/b", "/none/a")], &[]), Some(2), "in one config");
        assert_eq!(circle(&[("/none/a", "localhost:/none/b"), ("/none/b", "127.0.0.1:/none/a")], &[]), Some(2), "ssh");
    }

    fn relation_of(one: &str, other: &str) -> Option<Relation> {
        let machine = Machine::read();
        machine.destination(&to(one)).relation_to(&machine.destination(&to(other)))
    }

    #[test]
    fn one_place_has_many_names() {
        let own = format!("{}::m", std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim());
        for (one, other) in [
            ("127.0.0.1::m", "localhost::m"),
            ("127.0.0.1::m", "rsync://[::1]:873/m/"),
            ("127.0.0.1::m", "LOCALHOST.::m"),
            ("127.0.0.1::m", own.as_str()),
            ("[::ffff:192.0.2.1]::m", "192.0.2.1::m"),
            ("h::m/c", "u@H::m/x/../c"),
            ("u@h:/srv/c", "h:/srv//./x/../c/"),
            ("u@h:c", "u@H:./c"),
            ("localhost:/srv/none", "/srv/none"),
        ] {
            assert_eq!(relation_of(one, other), Some(Relation::Same), "{one} {other}");
        }
        assert_eq!(relation_of("h::m/sub", "h::m"), Some(Relation::Inside));
        assert_eq!(relation_of("/srv", "localhost:/srv/none"), Some(Relation::Contains));
        for (one, other) in [
            ("h::m", "h::m2"),
            ("h::m", "g::m"),
            ("h::m", "rsync://h:874/m"),
            ("u@h:c", "v@h:c"),
            ("h:/m", "h::m"),
            ("h:c", "h:/c"),
            ("127.0.0.1::m", "127.0.0.2::m"),
        ] {
            assert_eq!(relation_of(one, other), None, "{one} {other}");
        }
    }

    #[test]
    fn links_are_followed_and_what_is_missing_is_taken_literally() {
        let directory = tempfile::tempdir().unwrap();
        let (real, link) = (directory.path().join("real"), directory.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        let own = [(real.to_str().unwrap(), "/none/x"), ("/none/other", link.to_str().unwrap())];
        assert_eq!(places(&own, &[]).chains(), [(1, real.clone())]);
        let below = link.join("new/directory");
        assert_eq!(relation_of(below.to_str().unwrap(), real.to_str().unwrap()), Some(Relation::Inside));
    }

    #[test]
    fn mirrors_that_would_delete_each_others_files_are_conflicts() {
        let found = |own: &[(&str, &str)], others: &[(&str, &str)]| {
            let conflicts = places(own, others).conflicts(true);
            conflicts.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let nested = found(&[("/none/a", "h::m"), ("/none/b", "h::m/sub")], &[]);
        assert_eq!(nested, ["h::m/sub lies inside h::m, which mirrors /none/a: each would delete what the other sent"]);
        let of_one_root = found(&[("/none/a", "h::m"), ("/none/a", "h::m/sub")], &[]);
        assert_eq!(of_one_root.len(), 1, "a copy inside the other is not in the tree: {of_one_root:?}");
        assert_eq!(found(&[("/none/a", "h::m"), ("/none/a", "H::m")], &[]), [""; 0], "the same, named twice");
        assert_eq!(found(&[("/none/a", "h::m")], &[("/none/b", "h::m")]).len(), 1, "with another instance");
        let of_others = [("/none/b", "h::n"), ("/none/c", "h::n")];
        assert_eq!(found(&[("/none/a", "h::m")], &of_others), [""; 0], "what others do is theirs");
        let contains = found(&[("/none/a", "/none/backup"), ("/none/backup/d", "h::m")], &[]);
        assert_eq!(
            contains,
            ["/none/backup contains /none/backup/d, which is watched: the mirror of /none/a would delete it"]
        );
        assert!(places(&[("/none/a", "h::m"), ("/none/b", "h::m/sub")], &[]).conflicts(false).is_empty());
    }
}
