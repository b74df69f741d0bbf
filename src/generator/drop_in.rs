//! The text of a drop-in: each need of a config in the words of systemd.unit(5) and systemd.exec(5).

use crate::bus;
use crate::config::Needs;
use std::fmt::Write;
use std::path::Path;

/// Where systemd looks for the credentials of a unit; the first place that has one gives it.
#[derive(Debug, Clone, Copy)]
pub struct Stores<'s> {
    /// For those that it decrypts.
    pub encrypted: &'s [&'s str],
    /// For the others.
    pub plain: &'s [&'s str],
}

impl Stores<'_> {
    /// Those of systemd.exec(5).
    pub const SYSTEM: Self = Self {
        encrypted: &["/etc/credstore.encrypted", "/run/credstore.encrypted", "/usr/lib/credstore.encrypted"],
        plain: &["/etc/credstore", "/run/credstore", "/usr/lib/credstore"],
    };

    /// The encrypted file of the credential `name`, which goes before a plain one.
    pub fn encrypted(&self, name: &str) -> Option<String> {
        first(self.encrypted, name)
    }

    /// The plain file of the credential `name`.
    pub fn plain(&self, name: &str) -> Option<String> {
        first(self.plain, name)
    }
}

fn first(stores: &[&str], name: &str) -> Option<String> {
    let mut files = stores.iter().map(|store| format!("{store}/{name}"));
    files.find(|file| Path::new(file).symlink_metadata().is_ok())
}

/// The drop-in of the instance `name`; empty where the unit needs nothing more.
pub fn drop_in(name: &str, needs: &Needs, stores: &Stores<'_>) -> String {
    let (mut unit, mut service) = (String::new(), String::new());
    let add = |section: &mut String, line: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(section, "{line}");
    };
    for path in needs.watched.iter().filter_map(|path| word(path, "")) {
        add(&mut unit, format_args!("RequiresMountsFor={path}"));
    }
    // The others are mirrored to while the disk of one is away.
    for mount in needs.remotes.iter().flat_map(|path| mounts(path)) {
        add(&mut unit, format_args!("Wants={mount}\nAfter={mount}"));
    }
    let bus_name = bus::names::bus_name(name);
    if bus_name != format!("{}{name}", bus::names::BUS_NAME_PREFIX) {
        add(&mut service, format_args!("BusName={bus_name}"));
    }
    for path in needs.remotes.iter().chain(&needs.state).filter_map(|path| word(path, "-")) {
        add(&mut service, format_args!("ReadWritePaths={path}"));
    }
    if !needs.remotes.is_empty() {
        // rsync there makes files as they are here: with the modes of others, and their set-group-ID bits.
        add(&mut service, format_args!("UMask=0022\nRestrictSUIDSGID=no"));
    }
    let is_temporary = |path: &Path| path.starts_with("/tmp") || path.starts_with("/var/tmp");
    let named = needs.watched.iter().chain(&needs.remotes).chain(&needs.state).chain(&needs.files);
    if named.into_iter().any(|path| is_temporary(path)) {
        add(&mut service, format_args!("PrivateTmp=no"));
    }
    for name in &needs.credentials {
        // Older systemds do not look into the stores for a name alone. One that is nowhere yet may be there in time.
        match (stores.encrypted(name), stores.plain(name)) {
            (Some(file), _) => add(&mut service, format_args!("LoadCredentialEncrypted={name}:{file}")),
            (None, Some(file)) => add(&mut service, format_args!("LoadCredential={name}:{file}")),
            (None, None) => add(&mut service, format_args!("LoadCredential={name}")),
        }
    }
    let mut text = String::new();
    for (section, lines) in [("Unit", unit), ("Service", service)] {
        if !lines.is_empty() {
            add(&mut text, format_args!("[{section}]\n{lines}"));
        }
    }
    match text.is_empty() {
        true => text,
        false => format!("# Made by sersync-generator of /etc/sersync/{name}.xml.\n\n{text}"),
    }
}

/// `path` behind `prefix`, as one word of a unit's setting, none of it a specifier; `None` where a line of a unit cannot
/// hold it.
fn word(path: &Path, prefix: &str) -> Option<String> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control))?;
    let mut word = format!("\"{prefix}");
    for letter in text.chars() {
        match letter {
            '%' => word.push_str("%%"),
            '"' | '\\' => word.extend(['\\', letter]),
            other => word.push(other),
        }
    }
    word.push('"');
    Some(word)
}

/// The units of the mounts that `path` can lie on, from the top on, without the root's.
fn mounts(path: &Path) -> Vec<String> {
    let above = path.ancestors().filter(|above| above.parent().is_some());
    let mut units: Vec<String> = above.filter_map(mount_unit).collect();
    units.reverse();
    units
}

/// The name of the unit that mounts at `path`, escaped as systemd.unit(5) has it ("String escaping for inclusion in unit
/// names"); `None` where it would be too long for one.
fn mount_unit(path: &Path) -> Option<String> {
    let path = path.to_str()?.trim_start_matches('/');
    let mut unit = String::new();
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'/' => unit.push('-'),
            b'.' if at == 0 => unit.push_str("\\x2e"),
            b':' | b'_' | b'.' => unit.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => unit.push(char::from(byte)),
            other => {
                // Writing to a string cannot fail.
                let _ = write!(unit, "\\x{other:02x}");
            }
        }
    }
    unit.push_str(".mount");
    (unit.len() < 256).then_some(unit)
}
