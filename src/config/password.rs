//! The rsyncd password, from the file that `<auth>` names, or from the one that holds a credential of the unit.
//!
//! A file is refused unless its owner alone can read it: rsync itself would refuse it when others can, and a
//! password that a group knows is none. This is the one place that reads a password from a file.

use super::Secret;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Longer files are no password files.
const SIZE_LIMIT: u64 = 64 * 1024;

/// Why a password file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It cannot be found, opened or read.
    #[error("the password file cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// A directory, a pipe, a device.
    #[error("the password file is no regular file")]
    NotRegular,
    /// Its group or others may read or change it.
    #[error("the password file has mode {0:04o}: others than its owner can use it")]
    Open(u32),
    /// Nothing on its first line.
    #[error("the first line of the password file is empty")]
    Empty,
    /// Its first line is not UTF-8, holds a NUL byte, or it is far too long.
    #[error("the first line of the password file is no password: it is not plain text")]
    NotText,
}

impl PasswordError {
    /// What would be right.
    pub(super) fn help(&self, file: &Path) -> String {
        let path = file.display();
        match self {
            Self::Unreadable(error) if error.kind() == ErrorKind::NotFound => {
                format!(
                    "write the password into it: install -m 600 /dev/stdin {path}, and see that the agent's user may read it"
                )
            }
            Self::Unreadable(_) => {
                "name a file that holds the password and that the agent's user can read, such as one in /etc/sersync"
                    .to_owned()
            }
            Self::NotRegular => "name a plain file that holds the password on its first line".to_owned(),
            // The file is whichever the config names: only one of ours is ours to change.
            Self::Open(_) if super::is_own_file(file) => format!("chmod 600 {path}"),
            Self::Open(_) => "name a file that only its owner can read, such as one in /etc/sersync".to_owned(),
            Self::Empty | Self::NotText => "write the password, and nothing else, on the first line".to_owned(),
        }
    }
}

/// The first line of the file at `path`, without its end.
pub(super) fn read(path: &Path) -> Result<Secret, PasswordError> {
    read_line(path, true)
}

/// The same of a file in the unit's own directory of credentials. systemd lets the unit's user in by an access control
/// list, whose mask stands in the place of the group's rights: the mode says nothing here.
pub(super) fn read_credential(path: &Path) -> Result<Secret, PasswordError> {
    read_line(path, false)
}

fn read_line(path: &Path, owner_alone: bool) -> Result<Secret, PasswordError> {
    // A pipe would block until a writer comes.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let opened = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(PasswordError::Unreadable)?;
    if !file.metadata().map_err(PasswordError::Unreadable)?.is_file() {
        return Err(PasswordError::NotRegular);
    }
    let mode = file.metadata().map_err(PasswordError::Unreadable)?.mode() & 0o7777;
    if owner_alone && mode & 0o077 != 0 {
        return Err(PasswordError::Open(mode));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_LIMIT).read_to_end(&mut bytes).map_err(PasswordError::Unreadable)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        _ if line.is_empty() => Err(PasswordError::Empty),
        Ok(password) if !password.contains('\0') => Ok(Secret::new(password.to_owned())),
        _ => Err(PasswordError::NotText),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn takes_one_line_of_a_private_file_and_nothing_else() {
        let place = tempfile::tempdir().unwrap();
        let file = |content: &[u8], mode| {
            let path = place.path().join("password");
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read(&path)
        };
        assert_eq!(file(b" s3cret \r\nmore\n", 0o600).unwrap().reveal(), " s3cret ");
        assert_eq!(file(b"s3cret", 0o400).unwrap().reveal(), "s3cret");
        assert!(matches!(file(b"s3cret", 0o640), Err(PasswordError::Open(0o640))));
        assert!(matches!(file(b"s3cret", 0o604), Err(PasswordError::Open(0o604))));
        assert_eq!(read_credential(&place.path().join("password")).unwrap().reveal(), "s3cret");
        assert!(matches!(file(b"\ns3cret", 0o600), Err(PasswordError::Empty)));
        assert!(matches!(file(b"", 0o600), Err(PasswordError::Empty)));
        assert!(matches!(file(b"\xff\xfe", 0o600), Err(PasswordError::NotText)));
        assert!(matches!(read(place.path()), Err(PasswordError::NotRegular)));
        assert!(matches!(read(&place.path().join("none")), Err(PasswordError::Unreadable(_))));
    }
}
