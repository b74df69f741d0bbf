//! The file that a report goes to, perhaps in a directory that everybody may write to, such as `/tmp`.
//!
//! It is replaced as a whole, by a file with mode 0600 that did not exist before, so that nobody ever reads half of it
//! and nothing is ever written through a link. What stands in its place and is no plain file of this user's is left
//! alone, and so is everything behind a link on the way that belongs to somebody else than root and this user.

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

const WAYPOINT: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const FRESH: OFlag =
    OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_EXCL).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Why a report was not written. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Something else is there.
    #[error("{0} is {1}, and is left alone: remove it, or name another file in <failLog path>")]
    NotOurs(PathBuf, &'static str),
    /// A link of somebody else's would lead elsewhere.
    #[error("{0} is a link that belongs to user {1}, and is not followed: name another file in <failLog path>")]
    ForeignLink(PathBuf, u32),
    /// The system refused.
    #[error("{0} cannot be written: {1}")]
    Refused(PathBuf, #[source] std::io::Error),
}

/// Where a report goes.
#[derive(Debug)]
pub struct ReportFile<'p> {
    path: &'p Path,
    directory: OwnedFd,
    name: &'p std::ffi::OsStr,
}

impl<'p> ReportFile<'p> {
    /// The file at `path`, whether it is there or not.
    pub fn at(path: &'p Path) -> Result<Self, ReportError> {
        let refused = |error: Errno| ReportError::Refused(path.to_owned(), error.into());
        let name = path.file_name().ok_or_else(|| refused(Errno::EISDIR))?;
        let mut directory = open("/", WAYPOINT, Mode::empty()).map_err(refused)?;
        let mut so_far = PathBuf::from("/");
        for step in path.parent().into_iter().flat_map(Path::components) {
            if step == Component::RootDir {
                continue;
            }
            let step = step.as_os_str();
            so_far.push(step);
            directory = match openat(&directory, step, WAYPOINT | OFlag::O_NOFOLLOW, Mode::empty()) {
                // Of a link O_DIRECTORY says that it is no directory.
                Err(Errno::ENOTDIR | Errno::ELOOP) => {
                    let owner = fstatat(&directory, step, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(refused)?.st_uid;
                    if owner != 0 && owner != geteuid().as_raw() {
                        return Err(ReportError::ForeignLink(so_far, owner));
                    }
                    openat(&directory, step, WAYPOINT, Mode::empty()).map_err(refused)?
                }
                opened => opened.map_err(refused)?,
            };
        }
        Ok(Self { path, directory, name })
    }

    /// Puts `text` in its place.
    pub fn replace(&self, text: &[u8]) -> Result<(), ReportError> {
        self.look()?;
        // The keys of the hash are the kernel's random bytes: nobody can be there before.
        let fresh = format!(".sersync-{:016x}", RandomState::new().hash_one(text.len()));
        let written = openat(&self.directory, fresh.as_str(), FRESH, Mode::from_bits_truncate(0o600))
            .map_err(std::io::Error::from)
            .and_then(|file| {
                let filled = fill(file, text)
                    .and_then(|()| Ok(renameat(&self.directory, fresh.as_str(), &self.directory, self.name)?));
                if filled.is_err() {
                    // What could not be put in place is of no use; that it was not put there is told.
                    let _ = unlinkat(&self.directory, fresh.as_str(), UnlinkatFlags::NoRemoveDir);
                }
                filled
            });
        written.map_err(|error| ReportError::Refused(self.path.to_owned(), error))
    }

    /// Empties it, if it is there.
    pub fn empty(&self) -> Result<(), ReportError> {
        match self.look()? {
            Some(found) if found.st_size > 0 => self.replace(b""),
            _ => Ok(()),
        }
    }

    /// What is there, if that may be replaced.
    fn look(&self) -> Result<Option<FileStat>, ReportError> {
        let found = match fstatat(&self.directory, self.name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(None),
            found => found.map_err(|error| ReportError::Refused(self.path.to_owned(), error.into()))?,
        };
        let what = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG if found.st_uid == geteuid().as_raw() => return Ok(Some(found)),
            SFlag::S_IFREG => "a file that belongs to somebody else",
            SFlag::S_IFLNK => "a symbolic link",
            SFlag::S_IFDIR => "a directory",
            _ => "no plain file",
        };
        Err(ReportError::NotOurs(self.path.to_owned(), what))
    }
}

fn fill(file: OwnedFd, text: &[u8]) -> std::io::Result<()> {
    // Exactly this mode, whatever the umask.
    fchmod(&file, Mode::from_bits_truncate(0o600))?;
    File::from(file).write_all(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};

    const NOBODY: u32 = 65_534;

    fn write(path: &Path, text: &str) -> Result<(), ReportError> {
        ReportFile::at(path)?.replace(text.as_bytes())
    }

    /// A directory as `/tmp` is.
    fn shared() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        place
    }

    #[test]
    fn a_report_is_a_private_file_and_leaves_nothing_else() {
        let place = shared();
        let path = place.path().join("report.sh");
        ReportFile::at(&path).unwrap().empty().unwrap();
        assert!(!path.exists(), "nothing to tell makes no file");
        // Such as 2.5.4 leaves it.
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        let old = fs::File::open(&path).unwrap();
        write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(old.metadata().unwrap().len(), 3, "who has the old one open sees the old one");
        ReportFile::at(&path).unwrap().empty().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_of_ours_is_left_alone() {
        let place = shared();
        let victim = place.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let path = |name: &str| place.path().join(name);
        symlink(&victim, path("link")).unwrap();
        symlink(path("nowhere"), path("dangling")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        nix::unistd::mkfifo(&path("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        for name in ["link", "dangling", "directory", "fifo"] {
            assert!(matches!(write(&path(name), "x"), Err(ReportError::NotOurs(..))), "{name}");
            let file = path(name);
            assert!(matches!(ReportFile::at(&file).unwrap().empty(), Err(ReportError::NotOurs(..))), "{name}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!path("nowhere").exists() && fs::read_link(path("link")).unwrap() == victim);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 5);
        if geteuid().is_root() {
            chown(&victim, Some(NOBODY), None).unwrap();
            assert!(matches!(write(&victim, "x"), Err(ReportError::NotOurs(..))));
        }
    }

    #[test]
    fn a_link_on_the_way_leads_on_only_if_it_is_to_be_trusted() {
        let place = shared();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = place.path().join("reports");
        symlink(elsewhere.path(), &link).unwrap();
        write(&link.join("report.sh"), "ours").unwrap();
        assert_eq!(fs::read_to_string(elsewhere.path().join("report.sh")).unwrap(), "ours");
        if geteuid().is_root() {
            lchown(&link, Some(NOBODY), None).unwrap();
            assert!(matches!(write(&link.join("report.sh"), "x"), Err(ReportError::ForeignLink(..))));
            assert_eq!(fs::read_to_string(elsewhere.path().join("report.sh")).unwrap(), "ours");
        }
        assert!(matches!(write(&elsewhere.path().join("report.sh/x"), "x"), Err(ReportError::Refused(..))));
        assert!(matches!(write(Path::new("/"), "x"), Err(ReportError::Refused(..))));
    }
}
