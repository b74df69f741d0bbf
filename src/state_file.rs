//! Small files in a state directory, each replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Whether a replaced file has to survive a power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives the end of the process.
    Process,
    /// It survives a power loss too. Takes some milliseconds.
    PowerLoss,
}

/// Replaces `file` by one with this content, readable by its owner only. A symbolic link in its place, or in the place of
/// the temporary file, is replaced and never followed.
///
/// # Errors
///
/// The new file could not be written. The old one is unchanged.
pub fn replace(file: &Path, content: &[u8], durability: Durability) -> io::Result<()> {
    let new = file.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = out.write_all(content).and_then(|()| match durability {
        Durability::Process => Ok(()),
        Durability::PowerLoss => out.sync_all(),
    });
    if let Err(error) = written.and_then(|()| fs::rename(&new, file)) {
        // Half a file would keep a full disk full.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    match (durability, file.parent()) {
        (Durability::PowerLoss, Some(directory)) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let [victim, file, new] = ["victim", "facts.json", "facts.new"].map(|name| directory.path().join(name));
        fs::write(&victim, "precious").unwrap();
        for durability in [Durability::Process, Durability::PowerLoss] {
            let _ = fs::remove_file(&file);
            symlink(&victim, &file).unwrap();
            symlink(&victim, &new).unwrap();
            replace(&file, b"content", durability).unwrap();
            assert_eq!(fs::read(&victim).unwrap(), b"precious");
            assert!(!fs::symlink_metadata(&file).unwrap().is_symlink() && !new.exists());
            assert_eq!(fs::read(&file).unwrap(), b"content");
        }
    }
}
