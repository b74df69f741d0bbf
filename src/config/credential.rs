//! The attribute `credential` of `<auth>` and `<ssh>`: a password or a key that systemd gives the unit, by its name.
//!
//! systemd.exec(5) (`LoadCredential=`) keeps it in a directory that the unit alone can read, and names that directory in
//! `$CREDENTIALS_DIRECTORY`. This is the one place that makes a path of such a name. Nothing is read here.

use super::reading::Reading;
use super::tree::Element;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longer names are no names of files.
const NAME_AT_MOST: usize = 255;

/// Why a credential cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CredentialError {
    /// systemd would refuse the name.
    #[error("\"{0}\" cannot name a credential")]
    Name(String),
    /// The process was given none at all.
    #[error("credential \"{0}\": systemd gave this process no credentials")]
    NoneAtAll(String),
    /// The process was given others.
    #[error("credential \"{0}\" is not among those that systemd gave the unit")]
    Missing(String),
}

impl CredentialError {
    /// What would be right.
    fn help(&self) -> String {
        match self {
            Self::Name(_) => "letters, digits, `.`, `_` and `-`, as in sersync.www.password".to_owned(),
            Self::NoneAtAll(name) | Self::Missing(name) => format!(
                "put it into /etc/credstore/{name}, then `systemctl daemon-reload` and restart the unit; or write into \
                 `systemctl edit` of the unit: [Service] LoadCredential={name}:/the/file"
            ),
        }
    }
}

/// Whether `element` names a credential; `other`, the attribute in whose place it stands, is then a mistake.
pub(super) fn is_named(reading: &mut Reading<'_>, element: &Element, other: &str) -> bool {
    let named = element.attribute("credential").is_some();
    if let (true, Some(attribute)) = (named, element.attribute(other)) {
        let message = format!("`{other}` and `credential` are both given");
        reading.refuse(element, attribute, message, "which one counts? Keep one of them");
    }
    named
}

/// The file of the credential that `element` names, and where its name stands. Says what is wrong; nothing is looked for
/// while the element is off.
pub(super) fn file(reading: &mut Reading<'_>, element: &Element) -> Option<(PathBuf, Range<usize>)> {
    let (name, span) = reading.text_of(element, "credential", "the name of a credential of the unit")?;
    let is_on = element.attribute("start").is_some_and(|start| start.value.trim().eq_ignore_ascii_case("true"));
    if !is_name(name) {
        let error = CredentialError::Name(name.to_owned());
        reading.complain(super::reading::severity_in(element), span, error.to_string(), error.help());
        return None;
    }
    if !is_on {
        return None;
    }
    match find(reading.credentials(), name) {
        Ok(path) => Some((path, span)),
        Err(error) => {
            reading.error_elsewhere(span, error.to_string(), error.help());
            None
        }
    }
}

/// Whether systemd takes `name` for a credential's; no such name leads out of a directory.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= NAME_AT_MOST && !name.starts_with('.') && name.bytes().all(plain)
}

fn find(directory: Option<&Path>, name: &str) -> Result<PathBuf, CredentialError> {
    let directory = directory.ok_or_else(|| CredentialError::NoneAtAll(name.to_owned()))?;
    let path = directory.join(name);
    if path.is_file() { Ok(path) } else { Err(CredentialError::Missing(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_of_the_directory_and_of_no_other() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("sersync.www.password"), "s3cret").unwrap();
        let inner = place.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        assert_eq!(find(Some(place.path()), "sersync.www.password"), Ok(place.path().join("sersync.www.password")));
        assert_eq!(
            find(Some(&inner), "sersync.www.password"),
            Err(CredentialError::Missing("sersync.www.password".into()))
        );
        assert_eq!(find(None, "key"), Err(CredentialError::NoneAtAll("key".into())));
        for odd in ["", ".", "..", "../sersync.www.password", "a/b", "a:b", "a b", "%n", "ü", &"a".repeat(256)] {
            assert!(!is_name(odd), "{odd}");
        }
        assert!(is_name("sersync.www.key") && is_name("my_key-2"));
    }
}
