//! One judgement for all tests: are two trees equal? Names, types, sizes, modes, owners, modification times to the
//! nanosecond, link targets, device numbers and bytes. The root directory itself is not compared, only what is in it.

use super::{SOON, eventually};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What else counts, or does not.
#[derive(Debug, Clone, Default)]
pub struct Judge {
    directory_times: bool,
    whole_seconds: bool,
    ignored: Vec<PathBuf>,
    remains: bool,
    contents_alone: bool,
}

impl Judge {
    /// Also the modification times of directories.
    pub fn directory_times(mut self) -> Self {
        self.directory_times = true;
        self
    }

    /// Modification times without their fractions, which old daemons cannot be told (protocol 30), or take for equal
    /// when the seconds are (before 3.1.3).
    pub fn whole_seconds(mut self) -> Self {
        self.whole_seconds = true;
        self
    }

    /// Not what an rsync that was killed on the copy's side left there, `.NAME.XXXXXX`: the next full sync takes it away.
    pub fn but_remains(mut self) -> Self {
        self.remains = true;
        self
    }

    /// Not modes, owners and modification times: names, types, sizes, link targets and bytes.
    pub fn contents_alone(mut self) -> Self {
        self.contents_alone = true;
        self
    }

    /// Not `path` and what is below it, on either side.
    pub fn ignoring(mut self, path: impl Into<PathBuf>) -> Self {
        self.ignored.push(path.into());
        self
    }

    /// Waits until the trees are equal; panics with the first differences when they do not become so.
    pub fn assert_converged(&self, source: &Path, copy: &Path, within: Duration) {
        eventually("the copy equals the source", within, || match self.differences(source, copy) {
            found if found.is_empty() => Ok(()),
            found => Err(report(&found)),
        });
    }

    /// Looks once; panics with the first differences.
    pub fn assert_equal_now(&self, source: &Path, copy: &Path) {
        let found = self.differences(source, copy);
        assert!(found.is_empty(), "the copy differs: {}", report(&found));
    }

    /// What differs, a line each.
    pub fn differences(&self, source: &Path, copy: &Path) -> Vec<String> {
        let sides = scan(source).and_then(|ours| Ok((ours, scan(copy)?)));
        let (ours, mut theirs) = match sides {
            Ok(sides) => sides,
            // Something vanished while it was looked at: they are not at rest.
            Err(error) => return vec![error.to_string()],
        };
        let mut found = Vec::new();
        let mut files = Vec::new();
        for (path, entry) in &ours {
            let there = theirs.remove(path);
            if self.ignored.iter().any(|ignored| path.starts_with(ignored)) {
                continue;
            }
            let Some(there) = there else {
                found.push(format!("{path:?}: missing ({})", entry.kind));
                continue;
            };
            entry.compare(&there, self, |what| found.push(format!("{path:?}: {what}")));
            if entry.kind == "file" && there.kind == "file" && entry.size == there.size {
                files.push(path);
            }
        }
        let superfluous = theirs.keys().filter(|path| {
            !(self.ignored.iter().any(|ignored| path.starts_with(ignored)) || self.remains && is_remains(path))
        });
        found.extend(superfluous.map(|path| format!("{path:?}: superfluous")));
        if found.is_empty() {
            for path in files {
                match (fs::read(source.join(path)), fs::read(copy.join(path))) {
                    (Ok(ours), Ok(theirs)) if ours == theirs => {}
                    (Ok(ours), Ok(theirs)) => {
                        found.push(format!("{path:?}: holds {}, not {}", excerpt(&theirs), excerpt(&ours)));
                    }
                    (Err(error), _) | (_, Err(error)) => found.push(format!("{path:?}: {error}")),
                }
            }
        }
        found
    }
}

/// [`Judge::assert_converged`] as nearly every test wants it.
pub fn assert_converged(source: &Path, copy: &Path) {
    Judge::default().assert_converged(source, copy, SOON);
}

fn report(found: &[String]) -> String {
    let first = found.iter().take(8).map(String::as_str).collect::<Vec<_>>().join("\n  ");
    format!("{} differences:\n  {first}", found.len())
}

fn excerpt(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(24)]))
}

struct Entry {
    kind: &'static str,
    size: u64,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    target: Option<OsString>,
    device: u64,
}

impl Entry {
    fn of(path: &Path, metadata: &Metadata) -> io::Result<Self> {
        let file_type = metadata.file_type();
        let kind = match () {
            () if file_type.is_dir() => "directory",
            () if file_type.is_file() => "file",
            () if file_type.is_symlink() => "link",
            () if file_type.is_fifo() => "fifo",
            () if file_type.is_socket() => "socket",
            () => "device",
        };
        Ok(Self {
            kind,
            size: if kind == "file" { metadata.len() } else { 0 },
            mode: if kind == "link" { 0 } else { metadata.mode() & 0o7777 },
            owner: (metadata.uid(), metadata.gid()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            target: if kind == "link" { Some(fs::read_link(path)?.into_os_string()) } else { None },
            device: if kind == "device" { metadata.rdev() } else { 0 },
        })
    }

    fn compare(&self, there: &Self, judge: &Judge, mut differs: impl FnMut(String)) {
        if self.kind != there.kind {
            return differs(format!("is a {}, not a {}", there.kind, self.kind));
        }
        if self.size != there.size {
            differs(format!("has {} bytes, not {}", there.size, self.size));
        }
        if self.target != there.target {
            differs(format!("points to {:?}, not {:?}", there.target, self.target));
        }
        if self.device != there.device {
            differs(format!("is device {:#x}, not {:#x}", there.device, self.device));
        }
        if judge.contents_alone {
            return;
        }
        if self.mode != there.mode {
            differs(format!("has mode {:o}, not {:o}", there.mode, self.mode));
        }
        if self.owner != there.owner {
            differs(format!("belongs to {:?}, not {:?}", there.owner, self.owner));
        }
        let same_time = match judge.whole_seconds {
            true => self.modified.0 == there.modified.0,
            false => self.modified == there.modified,
        };
        if !same_time && (self.kind != "directory" || judge.directory_times) {
            differs(format!("{} was modified at {:?}, not {:?}", self.kind, there.modified, self.modified));
        }
    }
}

fn scan(root: &Path) -> io::Result<BTreeMap<PathBuf, Entry>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(root.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                waiting.push(path.clone());
            }
            found.insert(path, Entry::of(&entry.path(), &metadata)?);
        }
    }
    Ok(found)
}

/// Sets a file's modification time, not following links.
pub fn set_modified(path: &Path, time: SystemTime) {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    let time = TimeSpec::from(time.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();
}

/// A name from bytes that may be no text.
pub fn name(bytes: &[u8]) -> OsString {
    OsString::from_vec(bytes.to_vec())
}

/// Puts `bytes` into a new file below directories that are made.
pub fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{:?}: {error}", path.as_os_str().as_bytes()));
}

/// Whether the name is one that rsync gives to a file while it arrives.
fn is_remains(path: &Path) -> bool {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let suffix = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    name.starts_with(b".") && suffix.len() == 6 && suffix.iter().all(u8::is_ascii_alphanumeric)
}
