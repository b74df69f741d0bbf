//! The credentials of a config, for a check that is not the unit: gathered from where systemd takes them for it.
//!
//! They are copied, or decrypted by `systemd-creds`, into a directory that only the caller can read, and that goes with
//! the check. One that is nowhere may still come to the unit by a drop-in: that is told, and no remote is probed.

use super::report::{Finding, Level};
use super::scratch::Scratch;
use crate::config;
use crate::generator::Stores;
use nix::unistd::User;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use tr::tr;

/// What was gathered for one config.
#[derive(Debug)]
pub struct Gathered {
    directory: Scratch,
    /// Names, and why they could not be had.
    missing: Vec<(String, String)>,
}

impl Gathered {
    /// Those that the config `file` names, for `user` or the caller; `None` where it names none, or where this process
    /// has what systemd gave it.
    pub fn of(file: &Path, user: Option<&User>) -> io::Result<Option<Self>> {
        if std::env::var_os("CREDENTIALS_DIRECTORY").is_some() {
            return Ok(None);
        }
        // What else is wrong is told when the config is loaded.
        let needs = config::contents(file).ok().and_then(|bytes| config::needs(&bytes, file).ok()).unwrap_or_default();
        if needs.credentials.is_empty() {
            return Ok(None);
        }
        let mut gathered = Self { directory: Scratch::in_memory()?, missing: Vec::new() };
        for name in needs.credentials {
            let place = gathered.directory.path().join(&name);
            if let Err(why) = fetch(&name, &place) {
                // It stands in for the unknown one, so that the rest of the file can be looked at.
                fs::write(&place, "unknown\n")?;
                gathered.missing.push((name, why));
            }
            fs::set_permissions(&place, fs::Permissions::from_mode(0o600))?;
            give(&place, user)?;
        }
        give(gathered.directory(), user)?;
        Ok(Some(gathered))
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A finding for each that could not be had.
    pub fn findings(&self) -> impl Iterator<Item = Finding> {
        self.missing.iter().map(|(name, why)| {
            let next = tr!("if no drop-in of the unit gives it: install -m 600 /dev/stdin /etc/credstore/{name}", name);
            let about = tr!("credential {name}", name);
            Finding::new(Level::Warning, about, tr!("{why}; the remotes are not probed", why)).next(next)
        })
    }
}

fn give(path: &Path, user: Option<&User>) -> io::Result<()> {
    user.map_or(Ok(()), |user| chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())))
}

/// Copies the credential `name` to `place`, or says why not.
fn fetch(name: &str, place: &Path) -> Result<(), String> {
    if let Some(file) = Stores::SYSTEM.encrypted(name) {
        let mut decrypt = Command::new("systemd-creds");
        decrypt.args(["decrypt", &format!("--name={name}"), &file]).arg(place);
        let output = decrypt.stdin(Stdio::null()).output().map_err(|error| format!("systemd-creds: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default();
        return if output.status.success() {
            Ok(())
        } else {
            Err(tr!("{file} cannot be decrypted: {reason}", file, reason = last))
        };
    }
    match Stores::SYSTEM.plain(name) {
        Some(file) => {
            fs::copy(&file, place).map(drop).map_err(|error| tr!("{file} cannot be read: {error}", file, error))
        }
        None => Err(tr!("is neither in /etc/credstore nor in /etc/credstore.encrypted, as far as you may see")),
    }
}
