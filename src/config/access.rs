//! How all remotes of a config are reached: the elements `<ssh>`, `<auth>` and `<userDefinedPort>`.
//!
//! A password and a private key come from a file that the config names, or from a credential that systemd gives the unit.

use super::reading::Reading;
use super::tree::Element;
use super::{Secret, address, credential, password};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What `<ssh identity credential options>` adds to ssh's command line.
pub(super) fn ssh_options(reading: &mut Reading<'_>, ssh: Option<&Element>) -> Vec<String> {
    let Some(ssh) = ssh else { return Vec::new() };
    let mut words = Vec::new();
    let key = match ssh.attribute("identity") {
        _ if credential::is_named(reading, ssh, "identity") => credential::file(reading, ssh).map(|(path, _)| path),
        Some(_) => reading.absolute_path(ssh, "identity", "the private key's file"),
        None => None,
    };
    if let Some(path) = key {
        words.extend(["-i".to_owned(), path.display().to_string()]);
    }
    if let Some(options) = ssh.attribute("options") {
        match shlex::split(&options.value) {
            Some(split) if split.iter().all(|word| !word.contains(['"', '\''])) => words.extend(split),
            Some(_) => {
                let message = "a word for ssh holds a quotation mark, which rsync cannot hand on";
                let help = "put this option into the ~/.ssh/config of the agent's user";
                reading.error(options.value_span.clone(), message, help);
            }
            None => {
                let help = "close it, as in options=\"-o 'ProxyCommand=nc %h 22'\"";
                reading.error(options.value_span.clone(), "a quotation mark is not closed", help);
            }
        }
    }
    words
}

/// How all remotes of a config are reached.
pub(super) struct Access {
    pub(super) ssh: bool,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    /// Where the password was read from, if people can read it there too.
    pub(super) password_file: Option<PathBuf>,
    pub(super) port: Option<u16>,
}

impl Access {
    pub(super) fn read(reading: &mut Reading<'_>, rsync: Option<&Element>) -> Self {
        let child = |name| rsync.and_then(|rsync| rsync.child(name));
        let ssh = reading.flag(child("ssh"), "start", false);
        let port = reading.port(child("userDefinedPort"), "port").unwrap_or(874);
        let port = reading.flag(child("userDefinedPort"), "start", false).then_some(port);
        let port = if ssh { reading.port(child("ssh"), "port").or(port) } else { port };
        let (user, password, password_file) = match child("auth") {
            Some(auth) if reading.flag(Some(auth), "start", false) => Self::auth(reading, auth, ssh),
            _ => (None, None, None),
        };
        Self { ssh, user, password, password_file, port }
    }

    /// The user, the password, and the file that it is from.
    fn auth(reading: &mut Reading<'_>, auth: &Element, ssh: bool) -> (Option<String>, Option<Secret>, Option<PathBuf>) {
        let user = reading.text_of(auth, "users", "the user that rsyncd.conf names in `auth users`").and_then(
            |(text, span)| {
                address::user(text).map_err(|error| reading.error(span, error.to_string(), "one user's name")).ok()
            },
        );
        if ssh {
            for name in ["passwordfile", "credential"] {
                if let Some(attribute) = auth.attribute(name) {
                    let message = format!("`{name}` is not used: ssh asks for no rsync password");
                    let help = "remove it; ssh needs a key that works without questions";
                    reading.warn(attribute.value_span.clone(), message, help);
                }
            }
            return (user, None, None);
        }
        if credential::is_named(reading, auth, "passwordfile") {
            let found = credential::file(reading, auth);
            // systemd keeps it from everybody else, and its own way to do so would look like a group's right to it.
            let password = found.and_then(|found| Self::password(reading, found, password::read_credential));
            return (user, password, None);
        }
        let help = "the file that holds the rsyncd password, mode 0600";
        let path = reading.absolute_path(auth, "passwordfile", help);
        let span = auth.attribute("passwordfile").map(|attribute| attribute.value_span.clone());
        let found = path.clone().zip(span);
        let password = found.and_then(|found| Self::password(reading, found, password::read));
        let file = path.filter(|_| password.is_some());
        (user, password, file)
    }

    fn password(
        reading: &mut Reading<'_>,
        (path, span): (PathBuf, Range<usize>),
        read: fn(&Path) -> Result<Secret, password::PasswordError>,
    ) -> Option<Secret> {
        read(&path).map_err(|error| reading.error_elsewhere(span, error.to_string(), error.help(&path))).ok()
    }
}
