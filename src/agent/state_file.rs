//! The state file: what was pending when the agent stopped, kept over a restart.
//!
//! A plain file, `pending` in the state directory, replaced as a whole: at start by one that says "running", at an
//! orderly stop by one that lists what is unfinished. A file that still says "running" at the next start was left by
//! a crash, and tells nothing but since when changes may be missing. A file that cannot be read is set aside.
//!
//! Form: a first line `sersync-pending 1 STATE SECONDS` (STATE `running` or `stopped`; since when, Unix time), then
//! for each remote a record `@ROOT NUL NAME NUL`, followed by its paths, each `KIND PATH NUL` with KIND one of
//! `a` attributes, `e` entry, `t` tree, `v` verified tree.

use crate::path::RelPath;
use crate::pending::Kind;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const NAME: &str = "pending";
const MAGIC: &str = "sersync-pending 1";

/// What an earlier run of the agent left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// It stopped in order: nothing but what is listed is missing up to `since`.
    pub orderly: bool,
    /// Changes since then were not seen by anybody.
    pub since: SystemTime,
    /// Each remote's unfinished paths.
    pub remotes: Vec<SavedRemote>,
}

/// One remote's unfinished paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedRemote {
    /// The watched root.
    pub root: PathBuf,
    /// The remote's name.
    pub name: String,
    /// What is unfinished, by path.
    pub paths: Vec<(RelPath, Kind)>,
}

/// The state directory's file.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The file in `directory`, which is made if it is not there.
    pub fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        Ok(Self { path: directory.join(NAME) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What an earlier run left; `None` if there was none. A damaged file is renamed to `pending.damaged`, and the
    /// error says so.
    pub fn load(&self) -> io::Result<Option<Saved>> {
        let bytes = match std::fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        match parse(&bytes) {
            Some(saved) => Ok(Some(saved)),
            None => {
                let aside = self.path.with_extension("damaged");
                std::fs::rename(&self.path, &aside)?;
                let message = format!("{} is damaged, set aside as {}", self.path.display(), aside.display());
                Err(io::Error::new(io::ErrorKind::InvalidData, message))
            }
        }
    }

    /// Replaces the file. After a failure the old one is still there, unless it says that nothing was missed: that is
    /// true no more, and the next start finds it damaged.
    pub fn save(&self, saved: &Saved) -> io::Result<()> {
        self.replace(saved).inspect_err(|_| {
            let is_orderly = |bytes: Vec<u8>| parse(&bytes).is_some_and(|old| old.orderly);
            if std::fs::read(&self.path).is_ok_and(is_orderly) {
                // To empty it takes no room on a full disk. Where not even that works, the failure is told all the same.
                let _ = std::fs::OpenOptions::new().write(true).truncate(true).open(&self.path);
            }
        })
    }

    fn replace(&self, saved: &Saved) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        let mut writer = io::BufWriter::new(file);
        write(&mut writer, saved)?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        std::fs::rename(&fresh, &self.path)
    }
}

fn write(writer: &mut impl Write, saved: &Saved) -> io::Result<()> {
    let state = if saved.orderly { "stopped" } else { "running" };
    let since = saved.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    writeln!(writer, "{MAGIC} {state} {since}")?;
    for remote in &saved.remotes {
        writer.write_all(b"@")?;
        writer.write_all(remote.root.as_os_str().as_bytes())?;
        writer.write_all(b"\0")?;
        writer.write_all(remote.name.as_bytes())?;
        writer.write_all(b"\0")?;
        for (path, kind) in &remote.paths {
            writer.write_all(match kind {
                Kind::Attributes => b"a ",
                Kind::Entry => b"e ",
                Kind::Tree => b"t ",
                Kind::VerifiedTree => b"v ",
            })?;
            writer.write_all(path.as_bytes())?;
            writer.write_all(b"\0")?;
        }
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Option<Saved> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let first = std::str::from_utf8(&bytes[..end]).ok()?;
    let (state, since) = first.strip_prefix(MAGIC)?.strip_prefix(' ')?.split_once(' ')?;
    let orderly = match state {
        "stopped" => true,
        "running" => false,
        _ => return None,
    };
    let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(since.parse().ok()?))?;
    let mut remotes: Vec<SavedRemote> = Vec::new();
    let body = &bytes[end + 1..];
    let mut records = match body.strip_suffix(b"\0") {
        Some(body) => body.split(|byte| *byte == 0),
        None if body.is_empty() => return Some(Saved { orderly, since, remotes }),
        None => return None,
    };
    while let Some(record) = records.next() {
        if let [b'@', root @ ..] = record {
            let name = String::from_utf8(records.next()?.to_vec()).ok()?;
            remotes.push(SavedRemote { root: PathBuf::from(OsStr::from_bytes(root)), name, paths: Vec::new() });
            continue;
        }
        let (kind, path) = record.split_first_chunk::<2>()?;
        let kind = match kind {
            b"a " => Kind::Attributes,
            b"e " => Kind::Entry,
            b"t " => Kind::Tree,
            b"v " => Kind::VerifiedTree,
            _ => return None,
        };
        remotes.last_mut()?.paths.push((RelPath::new(path).ok()?, kind));
    }
    Some(Saved { orderly, since, remotes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saved() -> Saved {
        let odd = RelPath::new(b"a\n@b\xff c").unwrap();
        Saved {
            orderly: true,
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            remotes: vec![
                SavedRemote {
                    root: "/data/www".into(),
                    name: "backup@web1::www".into(),
                    paths: vec![(odd, Kind::Entry), (RelPath::root(), Kind::VerifiedTree)],
                },
                SavedRemote { root: "/data/www".into(), name: "web2".into(), paths: vec![] },
            ],
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::open(&dir.path().join("a/b")).unwrap();
        assert_eq!(file.load().unwrap(), None);
        file.save(&saved()).unwrap();
        assert_eq!(file.load().unwrap(), Some(saved()));
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::open(dir.path()).unwrap();
        std::fs::write(file.path(), "sersync-pending 1 stopped 17\n@/x\0y\0e cut sho").unwrap();
        assert!(file.load().unwrap_err().to_string().contains("set aside"));
        assert!(dir.path().join("pending.damaged").exists() && file.load().unwrap().is_none());
    }

    #[test]
    fn what_could_not_be_replaced_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let file = StateFile::open(dir.path()).unwrap();
        file.save(&saved()).unwrap();
        std::fs::create_dir_all(dir.path().join("pending.new/in the way")).unwrap();
        assert!(file.save(&Saved { orderly: false, ..saved() }).is_err());
        assert!(file.load().is_err(), "the old file says that all was in order");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_stumble(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..120usize) {
            parse(&bytes);
            let mut whole = Vec::new();
            write(&mut whole, &saved()).unwrap();
            whole.truncate(whole.len().saturating_sub(cut));
            parse(&whole);
        }
    }
}
