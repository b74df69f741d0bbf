//! [`FileSystem`]: identity of a file system, also after a restart of the machine; [`Shape`]: the file
//! systems that a watched root is made of.
//!
//! Device numbers are given anew at each boot and at each mount, so they prove nothing by themselves. A UUID does; the
//! number that statfs(2) returns as `f_fsid` does for most file systems that live on a disk; a network file system has
//! neither, and is known by what is mounted, such as `nas:/export`.

use crate::mounts::{self, Mounted};
use crate::path::RelPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Where udev keeps what it found out about a block device.
const UDEV: &str = "/run/udev/data";

/// Identity of a file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// Such as `ext4`.
    kind: String,
    /// Source of the mount, such as `/dev/sda1` or `nas:/export`.
    source: String,
    /// `f_fsid` of statfs(2); 0 where the file system has none.
    number: u64,
    /// As udev read it from the device.
    uuid: Option<String>,
    /// `st_dev`, valid until the file system is unmounted.
    device: u64,
}

impl FileSystem {
    /// The one that `path` lies on; `mounted` is what the kernel says of it.
    fn of(path: &Path, device: u64, mounted: Option<Mounted>) -> io::Result<Self> {
        let number = nix::sys::statvfs::statvfs(path)?.filesystem_id();
        let uuid = mounted.as_ref().and_then(|mounted| uuid(&mounted.device));
        let (kind, source) = mounted.map_or_else(Default::default, |mounted| (mounted.kind, mounted.source));
        Ok(Self { kind, source, number, uuid, device })
    }

    /// Whether it is the same file system as `other`, judged by UUID, `f_fsid` or source.
    pub fn is(&self, other: &Self) -> bool {
        let named = |one: &Self| one.source.contains(['/', ':']);
        self.kind == other.kind
            && match (&self.uuid, &other.uuid) {
                (Some(uuid), Some(other)) => uuid == other,
                _ if self.number != 0 && other.number != 0 => self.number == other.number,
                _ => self.source == other.source && (named(self) || self.device == other.device),
            }
    }

    /// `st_dev` of its files, as long as it stays mounted.
    pub fn device(&self) -> u64 {
        self.device
    }
}

/// The UUID that udev has read from the block device `major:minor`.
fn uuid(device: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("{UDEV}/b{device}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("E:ID_FS_UUID=")).map(str::to_owned)
}

/// The file systems that a watched root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The one that the root lies on.
    pub file_system: FileSystem,
    /// The inode number of the root.
    pub inode: u64,
    /// Those that are mounted below it.
    pub below: BTreeMap<RelPath, FileSystem>,
}

impl Shape {
    /// That of the directory `root`, whose device and inode number are `identity`. `points`: mount points below it;
    /// those that cannot be reached, because something is mounted above them, are left out.
    pub fn of<'p>(
        mountinfo: &[u8],
        root: &Path,
        identity: (u64, u64),
        points: impl IntoIterator<Item = &'p RelPath>,
    ) -> io::Result<Self> {
        let (device, inode) = identity;
        let real = root.canonicalize()?;
        let file_system = FileSystem::of(&real, device, mounts::file_system(mountinfo, &real))?;
        let mut below = BTreeMap::new();
        for point in points {
            let path = point.under(&real);
            if let Some(found) = mounted_at(mountinfo, &path) {
                below.insert(point.clone(), found);
            }
        }
        Ok(Self { file_system, inode, below })
    }

    /// The directories of this root, by the file systems in `mirrored`, that are another file system now: the root, or
    /// mount points below it.
    pub fn differs_at(&self, mirrored: &Self) -> Vec<RelPath> {
        if !self.file_system.is(&mirrored.file_system) {
            return vec![RelPath::root()];
        }
        let is_same = |point: &RelPath, before: &FileSystem| self.below.get(point).is_some_and(|now| now.is(before));
        let others = mirrored.below.iter().filter(|(point, before)| !is_same(point, before));
        others.map(|(point, _)| point.clone()).collect()
    }
}

/// The file system that is mounted at `path`, if the path leads to it.
fn mounted_at(mountinfo: &[u8], path: &Path) -> Option<FileSystem> {
    use std::os::unix::fs::MetadataExt;
    let metadata = path.symlink_metadata().ok().filter(std::fs::Metadata::is_dir)?;
    FileSystem::of(path, metadata.dev(), mounts::file_system(mountinfo, path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_system(number: u64, uuid: Option<&str>, source: &str, device: u64) -> FileSystem {
        let (kind, source, uuid) = ("xfs".to_owned(), source.to_owned(), uuid.map(str::to_owned));
        FileSystem { kind, source, number, uuid, device }
    }

    #[test]
    fn the_strongest_mark_that_both_have_decides() {
        let disk = file_system(1, Some("a"), "/dev/sda1", 1);
        assert!(disk.is(&file_system(2, Some("a"), "/dev/sdb1", 2)), "the disk got another name");
        assert!(!disk.is(&file_system(1, Some("b"), "/dev/sda1", 1)), "another disk at its place");
        assert!(disk.is(&file_system(1, None, "/dev/sdb1", 2)), "without udev");
        let share = file_system(0, None, "nas:/export", 1);
        assert!(share.is(&file_system(0, None, "nas:/export", 2)), "mounted again");
        assert!(!share.is(&file_system(0, None, "nas:/other", 1)));
        let memory = file_system(0, None, "none", 1);
        assert!(!memory.is(&file_system(0, None, "none", 2)));
        assert!(!disk.is(&FileSystem { kind: "tmpfs".to_owned(), ..disk.clone() }));
    }

    #[test]
    fn what_is_mounted_nowhere_differs() {
        let shape = |root: u64, below: &[(&str, u64)]| Shape {
            file_system: file_system(root, None, "/dev/sda1", 1),
            inode: 2,
            below: below
                .iter()
                .map(|(point, number)| {
                    let point = RelPath::new(point.as_bytes()).unwrap();
                    (point, file_system(*number, None, "/dev/sdb1", 2))
                })
                .collect(),
        };
        let points = |found: Vec<RelPath>| found.iter().map(|point| point.display().to_string()).collect::<Vec<_>>();
        let mirrored = shape(1, &[("a", 2), ("b", 3)]);
        assert_eq!(points(shape(1, &[("a", 2), ("b", 3), ("c", 4)]).differs_at(&mirrored)), [""; 0]);
        assert_eq!(points(shape(1, &[("a", 9)]).differs_at(&mirrored)), ["a", "b"]);
        assert_eq!(shape(7, &[]).differs_at(&mirrored), [RelPath::root()]);
    }
}
