//! Every name that the agent has on D-Bus: one list, for the agent, for `sersyncctl`, and for whoever reads.
//! What is here is stable from the first release.

use crate::agent::snapshot::JobId;
use zbus::OwnedObjectPath;

/// What the bus name of every instance starts with; the dot included, the escaped instance follows.
pub const BUS_NAME_PREFIX: &str = "org.sersync.Agent1.";
/// The name for which all instances queue: by it the bus policy knows whom callers may talk to. To talk to one, use its
/// own name.
pub const COMMON_BUS_NAME: &str = "org.sersync.Agent1";
/// What the object path of every instance starts with; the slash included, the escaped instance follows.
pub const PATH_PREFIX: &str = "/org/sersync/Agent1/";
/// The interface of the agent itself.
pub const AGENT: &str = "org.sersync.Agent1";
/// The interface of each remote.
pub const REMOTE: &str = "org.sersync.Remote1";
/// The interface of each full sync.
pub const JOB: &str = "org.sersync.Job1";
/// What each of the agent's error names starts with; a dot and the error follow.
pub const ERRORS: &str = "org.sersync.Error";
/// The object of `org.freedesktop.LogControl1`, fixed by org.freedesktop.LogControl1(5).
pub const LOG_CONTROL_PATH: &str = "/org/freedesktop/LogControl1";
/// The property that grows by itself: read it when you want it, no signal tells of it.
pub const LAG: &str = "LagUSec";

/// The bus name of an instance: `org.sersync.Agent1.www`.
///
/// An instance that is a valid element of a bus name stands there as it is; any other is escaped by [`escape`].
pub fn bus_name(instance: &str) -> String {
    format!("{BUS_NAME_PREFIX}{}", element(instance, is_bus_element))
}

/// The object of an instance: `/org/sersync/Agent1/www`, escaped as in [`bus_name`].
///
/// Object paths allow less than bus names: `my-site` is `org.sersync.Agent1.my-site` at
/// `/org/sersync/Agent1/my_2dsite`.
pub fn agent_path(instance: &str) -> OwnedObjectPath {
    path(format!("{PATH_PREFIX}{}", element(instance, is_path_element)))
}

/// The object of a remote. Remotes are addresses, so their names are always escaped.
pub fn remote_path(instance: &str, remote: &str) -> OwnedObjectPath {
    path(format!("{}/remote/{}", agent_path(instance), escape(remote)))
}

/// The object of a full sync.
pub fn job_path(instance: &str, job: JobId) -> OwnedObjectPath {
    path(format!("{}/job/{}", agent_path(instance), job.0))
}

/// The instance that a bus name belongs to; `None` for the name of something else.
///
/// An instance whose own name looks like an escaped one (`a_2eb`) is taken for what it looks like (`a.b`): the
/// property `Instance` has the truth.
pub fn instance_of(bus_name: &str) -> Option<String> {
    let element = bus_name.strip_prefix(BUS_NAME_PREFIX).filter(|element| !element.is_empty())?;
    Some(match unescape(element) {
        Some(name) if !is_bus_element(&name) => name,
        _ => element.to_owned(),
    })
}

/// The escape of `sd_bus_path_encode(3)`: every byte but ASCII letters and digits, and a digit at the start, becomes
/// `_` and two hexadecimal digits; the empty string becomes `_`.
pub fn escape(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let mut escaped = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("_{byte:02x}"));
        }
    }
    escaped
}

/// Undoes [`escape`]; `None` for what [`escape`] never makes.
pub fn unescape(element: &str) -> Option<String> {
    if element == "_" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(element.len());
    let mut rest = element.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            plain => plain,
        });
    }
    // One comparison refuses all the rest: needless escapes, stray bytes, a digit at the start.
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty() && escape(name) == element)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn element(name: &str, valid: fn(&str) -> bool) -> String {
    if valid(name) { name.to_owned() } else { escape(name) }
}

/// An element of a well-known bus name: `[A-Za-z_-][A-Za-z0-9_-]*`.
fn is_bus_element(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

/// An element of an object path that stands for itself: `[A-Za-z_][A-Za-z0-9_]*`. The specification would allow a
/// digit at the start; bus name and path then differ for no good reason.
fn is_path_element(name: &str) -> bool {
    is_bus_element(name) && !name.contains('-')
}

fn path(text: String) -> OwnedObjectPath {
    OwnedObjectPath::try_from(text).expect("made of fixed elements and escaped ones, which are valid by construction")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn common_instances_stand_for_themselves() {
        for name in ["www", "web_backup", "www_2026", "_x"] {
            assert_eq!(bus_name(name), format!("org.sersync.Agent1.{name}"));
            assert_eq!(agent_path(name).as_str(), format!("/org/sersync/Agent1/{name}"));
        }
        assert_eq!(bus_name("my-site"), "org.sersync.Agent1.my-site");
        assert_eq!(agent_path("my-site").as_str(), "/org/sersync/Agent1/my_2dsite");
    }

    #[test]
    fn escapes_as_sd_bus_path_encode_does() {
        // The example of sd_bus_path_encode(3), and its rules for digits and the empty string.
        assert_eq!(escape("foo.bar"), "foo_2ebar");
        assert_eq!(escape("1a1"), "_31a1");
        assert_eq!(escape("a_b"), "a_5fb");
        assert_eq!(escape(""), "_");
        assert_eq!(bus_name("www.example.org"), "org.sersync.Agent1.www_2eexample_2eorg");
        assert_eq!(bus_name("2026"), "org.sersync.Agent1._32026");
    }

    #[test]
    fn knows_its_own_bus_names() {
        assert_eq!(instance_of("org.sersync.Agent1.www").as_deref(), Some("www"));
        assert_eq!(instance_of("org.sersync.Agent1.web_backup").as_deref(), Some("web_backup"));
        assert_eq!(instance_of("org.sersync.Agent1."), None);
        assert_eq!(instance_of("org.sersync.Agent12.www"), None);
    }

    proptest! {
        #[test]
        fn escape_comes_back(name in any::<String>()) {
            let escaped = escape(&name);
            prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{escaped}");
            prop_assert_eq!(unescape(&escaped), Some(name));
        }

        #[test]
        fn unescape_takes_only_what_escape_makes(element in "[a-z0-9_]{0,8}") {
            if let Some(name) = unescape(&element) {
                prop_assert_eq!(escape(&name), element);
            }
        }

        #[test]
        fn an_instance_comes_back_from_its_bus_name(name in "\\PC{1,15}") {
            if !is_bus_element(&name) {
                prop_assert_eq!(instance_of(&bus_name(&name)), Some(name.clone()));
            } else {
                prop_assert_eq!(bus_name(&name), format!("{BUS_NAME_PREFIX}{name}"));
            }
            prop_assert!(zbus::names::WellKnownName::try_from(bus_name(&name)).is_ok());
            // Both names of one agent lead to the same object.
            prop_assert_eq!(agent_path(&instance_of(&bus_name(&name)).unwrap()), agent_path(&name));
        }
    }
}
