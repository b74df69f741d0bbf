//! Addresses of remotes: hosts as configs and people write them, and rsync's own destination syntax.
//!
//! A host or user that ssh or rsync could take for an option, or for anything but a name, is refused here, so that
//! nothing later has to ask.

use super::{Destination, Secret, overlap};
use std::net::Ipv6Addr;
use std::path::{Component, Path, PathBuf};

/// Why a text is no address of a remote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing where the host should be.
    #[error("the host is missing")]
    NoHost,
    /// Nothing where the user should be.
    #[error("the user before `@` is missing")]
    NoUser,
    /// A colon that makes no IPv6 address.
    #[error("\"{0}\" is no host and no IPv6 address")]
    NotIpv6(String),
    /// A port behind the host.
    #[error("\"{0}\" is a host with a port")]
    PortInHost(String),
    /// `[` without `]`, or something between `]` and the colon.
    #[error("the brackets of \"{0}\" do not hold an IPv6 address")]
    Brackets(String),
    /// A character no name has.
    #[error("\"{0}\" holds {1:?}, which no host and no user has")]
    Character(String, char),
    /// A name that would be read as an option.
    #[error("\"{0}\" starts with `-`: it would be read as an option")]
    Option(String),
    /// No module after `::` or in `rsync://`.
    #[error("the module is missing")]
    NoModule,
    /// No directory after `host:`.
    #[error("the directory after `{0}:` is missing")]
    NoDirectory(String),
    /// No directory in `ssh://`.
    #[error("\"{0}\" has no directory: write ssh://[user@]host[:port]/directory")]
    NoDirectoryInUrl(String),
    /// A port that is none.
    #[error("\"{0}\" is no port: a port is a number from 1 to 65535")]
    BadPort(String),
    /// A control character, which no file name in a config means.
    #[error("it holds the control character {0:?}")]
    Control(char),
    /// The text is empty.
    #[error("it is empty")]
    Empty,
}

impl AddressError {
    /// What would be right.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::PortInHost(_) => "the port has its own element: <userDefinedPort start=\"true\" port=\"…\"/>",
            Self::NotIpv6(text) | Self::Character(text, '/') if text.contains('/') => {
                "only the host stands here; the module, or the directory under ssh, stands in `name`"
            }
            Self::Character(_, ',') => "write one <remote> for each host",
            Self::NotIpv6(_) | Self::Brackets(_) => "an IPv6 address looks like fe80::1 or [fe80::1]",
            _ => "a host name, an IP address, or user@host",
        }
    }
}

/// `[user@]host`, the host without brackets.
pub(super) fn login(text: &str) -> Result<(Option<String>, String), AddressError> {
    match text.rsplit_once('@') {
        None => Ok((None, host(text)?)),
        Some((user, text)) => Ok((Some(self::user(user)?), host(text)?)),
    }
}

/// A user's name.
pub(super) fn user(text: &str) -> Result<String, AddressError> {
    if text.is_empty() {
        return Err(AddressError::NoUser);
    }
    name(text, &['/', ':'])
}

fn host(text: &str) -> Result<String, AddressError> {
    if text.is_empty() {
        return Err(AddressError::NoHost);
    }
    if let Some(inner) = text.strip_prefix('[') {
        let address = inner.strip_suffix(']').filter(|address| is_ipv6(address));
        return address.map(str::to_owned).ok_or_else(|| AddressError::Brackets(text.to_owned()));
    }
    if text.contains(':') {
        return match text.split_once(':') {
            _ if is_ipv6(text) => Ok(text.to_owned()),
            Some((_, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
                Err(AddressError::PortInHost(text.to_owned()))
            }
            _ => Err(AddressError::NotIpv6(text.to_owned())),
        };
    }
    name(text, &['/', '[', ']', '\\', ','])
}

fn name(text: &str, forbidden: &[char]) -> Result<String, AddressError> {
    if text.starts_with('-') {
        return Err(AddressError::Option(text.to_owned()));
    }
    match text.chars().find(|c| c.is_whitespace() || c.is_control() || forbidden.contains(c)) {
        Some(character) => Err(AddressError::Character(text.to_owned(), character)),
        None => Ok(text.to_owned()),
    }
}

/// With or without a zone, such as `fe80::1%eth0`.
fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok()
        && !zone.is_empty()
        && zone.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// A module, perhaps with a path below it, without slashes at the ends.
pub(super) fn module(text: &str) -> Result<String, AddressError> {
    let module = text.trim_matches('/');
    if module.is_empty() {
        return Err(AddressError::NoModule);
    }
    printable(module).map(str::to_owned)
}

/// A remote directory of `host`; slashes at its end go.
pub(super) fn directory(text: &str, host: &str) -> Result<String, AddressError> {
    if text.is_empty() {
        return Err(AddressError::NoDirectory(host.to_owned()));
    }
    let trimmed = text.trim_end_matches('/');
    printable(if trimmed.is_empty() { "/" } else { trimmed }).map(str::to_owned)
}

fn printable(text: &str) -> Result<&str, AddressError> {
    text.chars().find(|c| c.is_control()).map_or(Ok(text), |control| Err(AddressError::Control(control)))
}

/// Reads rsync's destination syntax: `[user@]host::module[/path]`, `rsync://[user@]host[:port]/module[/path]`,
/// `[user@]host:directory`, `ssh://[user@]host[:port]/directory`, or a directory of this machine, which has no colon before its first slash.
/// `password` goes to daemons. A relative directory of this machine starts in `here`.
pub(super) fn destination(text: &str, password: Option<&Secret>, here: &Path) -> Result<Destination, AddressError> {
    if text.is_empty() {
        return Err(AddressError::Empty);
    }
    if let Some(rest) = after_scheme(text, "rsync://") {
        let (authority, path) = rest.split_once('/').ok_or(AddressError::NoModule)?;
        let (user, host, port) = authority_of(authority)?;
        return Ok(Destination::Daemon { user, host, port, module: module(path)?, password: password.cloned() });
    }
    if let Some(rest) = after_scheme(text, "ssh://") {
        let slash = rest.find('/').ok_or_else(|| AddressError::NoDirectoryInUrl(text.to_owned()))?;
        let (user, host, port) = authority_of(&rest[..slash])?;
        let directory = directory(&rest[slash..], &host)?;
        return Ok(Destination::Ssh { user, host, port, directory });
    }
    let Some(colon) = host_colon(text) else {
        printable(text)?;
        return Ok(Destination::Local { directory: absolute(Path::new(text), here) });
    };
    let (address, rest) = (&text[..colon], &text[colon + 1..]);
    let (user, host) = login(address)?;
    match rest.strip_prefix(':') {
        Some(module_path) => {
            let module = module(module_path)?;
            Ok(Destination::Daemon { user, host, port: None, module, password: password.cloned() })
        }
        None => {
            let directory = directory(rest, &host)?;
            Ok(Destination::Ssh { user, host, port: None, directory })
        }
    }
}

/// The rest of `text` behind `scheme`, which may be in upper or lower case.
fn after_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let found = text.get(..scheme.len())?;
    found.eq_ignore_ascii_case(scheme).then(|| &text[scheme.len()..])
}

/// `[user@]host[:port]` of a URL.
fn authority_of(authority: &str) -> Result<(Option<String>, String, Option<u16>), AddressError> {
    let (authority, port) = match authority.rsplit_once(':') {
        // The colons of a bare or bracketed IPv6 address are its own.
        Some((before, port)) if !port.contains(']') && (!before.contains(':') || before.ends_with(']')) => {
            let number = port.parse::<u16>().ok().filter(|number| *number > 0);
            (before, Some(number.ok_or_else(|| AddressError::BadPort(port.to_owned()))?))
        }
        _ => (authority, None),
    };
    let (user, host) = login(authority)?;
    Ok((user, host, port))
}

/// Where the colon after the host stands; `None` when there is none before the first slash.
fn host_colon(text: &str) -> Option<usize> {
    let bracket = text.find('[').filter(|at| *at == 0 || text[..*at].ends_with('@'));
    let from = bracket.and_then(|open| text[open..].find(']').map(|length| open + length)).unwrap_or(0);
    let colon = from + text[from..].find(':')?;
    (!text[from..colon].contains('/')).then_some(colon)
}

/// `path` from `/` on, with `.` and `..` taken out by their letters.
pub(super) fn absolute(path: &Path, here: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    for component in here.join(path).components() {
        match component {
            Component::ParentDir => {
                whole.pop();
            }
            Component::Normal(name) => whole.push(name),
            _ => {}
        }
    }
    whole
}

/// The directory of this machine, if `destination` is one, that holds `root` or lies in it: the copy would be mirrored
/// into itself, or a full sync would delete the source as something the source does not hold.
pub(super) fn entangled<'d>(root: &Path, destination: &'d Destination) -> Option<&'d Path> {
    let directory = match destination {
        Destination::Local { directory } => directory.as_path(),
        Destination::Ssh { directory, .. } => Path::new(directory),
        Destination::Daemon { .. } => return None,
    };
    overlap::meets(root, destination).then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Result<String, AddressError> {
        destination(text, None, Path::new("/here")).map(|destination| format!("{destination:?}"))
    }

    #[test]
    fn reads_what_rsync_reads() {
        let daemon = |user: Option<&str>, host: &str, port, module: &str| Destination::Daemon {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            module: module.to_owned(),
            password: None,
        };
        let ssh = |user: Option<&str>, host: &str, directory: &str| Destination::Ssh {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port: None,
            directory: directory.to_owned(),
        };
        let at_port = |user: Option<&str>, host: &str, port, directory: &str| Destination::Ssh {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port: Some(port),
            directory: directory.to_owned(),
        };
        let local = |directory: &str| Destination::Local { directory: PathBuf::from(directory) };
        for (text, expected) in [
            ("backup@web1::www", daemon(Some("backup"), "web1", None, "www")),
            ("web1::www/site/", daemon(None, "web1", None, "www/site")),
            ("[fe80::1%eth0]::www", daemon(None, "fe80::1%eth0", None, "www")),
            ("rsync://b@web1:8873/www/", daemon(Some("b"), "web1", Some(8873), "www")),
            ("RSYNC://[::1]:8873/www/a", daemon(None, "::1", Some(8873), "www/a")),
            ("rsync://[::1]/www", daemon(None, "::1", None, "www")),
            ("rsync://fe80::1/www", daemon(None, "fe80::1", None, "www")),
            ("web2:/srv/www", ssh(None, "web2", "/srv/www")),
            ("me@web2:www/", ssh(Some("me"), "web2", "www")),
            ("me@[::1]:/srv", ssh(Some("me"), "::1", "/srv")),
            ("web2:/", ssh(None, "web2", "/")),
            ("ssh://me@web2:2222/srv/www/", at_port(Some("me"), "web2", 2222, "/srv/www")),
            ("SSH://[::1]:22/", at_port(None, "::1", 22, "/")),
            ("ssh://web2/srv/www", ssh(None, "web2", "/srv/www")),
            ("/mnt/copy/", local("/mnt/copy")),
            ("copy/../other", local("/here/other")),
            ("./a:b", local("/here/a:b")),
        ] {
            assert_eq!(destination(text, None, Path::new("/here")), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_address() {
        assert_eq!(shown("web1::"), Err(AddressError::NoModule));
        assert_eq!(shown("rsync://web1"), Err(AddressError::NoModule));
        assert_eq!(shown("rsync://web1/"), Err(AddressError::NoModule));
        assert_eq!(shown("rsync://web1:0/www"), Err(AddressError::BadPort("0".to_owned())));
        assert_eq!(shown("ssh://web1"), Err(AddressError::NoDirectoryInUrl("ssh://web1".to_owned())));
        assert_eq!(shown("ssh://web1:ssh/srv"), Err(AddressError::BadPort("ssh".to_owned())));
        assert_eq!(shown("ssh:///srv"), Err(AddressError::NoHost));
        assert_eq!(shown("web1:"), Err(AddressError::NoDirectory("web1".to_owned())));
        assert_eq!(shown("@web1::www"), Err(AddressError::NoUser));
        assert_eq!(shown("::www"), Err(AddressError::NoHost));
        assert_eq!(shown("-oProxyCommand=x:/a"), Err(AddressError::Option("-oProxyCommand=x".to_owned())));
        assert_eq!(shown("a b:/x"), Err(AddressError::Character("a b".to_owned(), ' ')));
        assert_eq!(shown("[nonsense]:/x"), Err(AddressError::Brackets("[nonsense]".to_owned())));
        assert_eq!(login("10.0.0.1:873"), Err(AddressError::PortInHost("10.0.0.1:873".to_owned())));
        assert_eq!(login("fe80::1"), Ok((None, "fe80::1".to_owned())));
        assert_eq!(shown(""), Err(AddressError::Empty));
    }

    #[test]
    fn knows_when_a_copy_and_its_source_hold_one_another() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("www");
        std::fs::create_dir(&root).unwrap();
        std::os::unix::fs::symlink(&root, place.path().join("link")).unwrap();
        let local = |directory: PathBuf| entangled(&root, &Destination::Local { directory }).is_some();
        assert!(local(root.join("not/there")));
        assert!(local(place.path().join("link/copy")));
        assert!(local(place.path().to_path_buf()));
        assert!(!local(place.path().join("www2")));
        let ssh = |host: &str| {
            let text = format!("{host}:{}/copy", root.display());
            entangled(&root, &destination(&text, None, &root).unwrap()).is_some()
        };
        assert!(ssh("localhost") && ssh("me@127.0.0.1") && ssh("[::1]") && !ssh("web1"));
    }
}
