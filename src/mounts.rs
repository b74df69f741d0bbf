//! The mounts of this process, read from the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use crate::path::RelPath;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The file with this process's mounts. Polling it for [`nix::poll::PollFlags::POLLPRI`] tells when they change.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The mount point that `path` lies on: the longest that is above it, or is it. `path` is absolute and free of links.
pub fn covering(mountinfo: &[u8], path: &Path) -> Option<PathBuf> {
    mounts(mountinfo)
        .map(|(_, point)| point)
        .filter(|point| path.starts_with(point))
        .max_by_key(|point| point.as_os_str().len())
}

/// The file system that `path` lies on, which is absolute and free of links.
pub fn file_system(mountinfo: &[u8], path: &Path) -> Option<Mounted> {
    let mounts = lines(mountinfo).filter(|mount| path.starts_with(&mount.point));
    // Of several mounts at one point the last one is on top.
    let mount = mounts.max_by_key(|mount| mount.point.as_os_str().len())?;
    let (kind, source) = (lossy(mount.kind), lossy(mount.from));
    Some(Mounted { device: lossy(mount.device), kind, source })
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// `major:minor`.
    pub device: String,
    /// Such as `ext4`.
    pub kind: String,
    /// Source of the mount, such as `/dev/sda1` or `nas:/export`.
    pub source: String,
}

fn lossy(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// The mount points below `root`, each with its mount's number: another number, another mount.
pub fn below(mountinfo: &[u8], root: &Path) -> BTreeMap<RelPath, u64> {
    let relative = |point: &Path| RelPath::new(point.strip_prefix(root).ok()?.as_os_str().as_bytes()).ok();
    mounts(mountinfo)
        .filter_map(|(number, point)| Some((relative(&point)?, number)))
        .filter(|(point, _)| !point.is_root())
        .collect()
}

/// The file system that `path` lies on, as `major:minor`, and the path in it: the same for each bind mount of one
/// directory. `path` is absolute and free of links.
pub fn on_device(mountinfo: &[u8], path: &Path) -> Option<(Vec<u8>, PathBuf)> {
    let mounts = lines(mountinfo).filter(|mount| path.starts_with(&mount.point));
    // Of several mounts at one point the last one is on top.
    let mount = mounts.max_by_key(|mount| mount.point.as_os_str().len())?;
    let below = path.strip_prefix(&mount.point).ok()?;
    Some((mount.device.to_vec(), mount.source.join(below)))
}

/// Number and mount point of each line that has them.
fn mounts(mountinfo: &[u8]) -> impl Iterator<Item = (u64, PathBuf)> + '_ {
    lines(mountinfo).map(|mount| (mount.number, mount.point))
}

/// One line of the file.
struct Mount<'a> {
    number: u64,
    /// `major:minor`.
    device: &'a [u8],
    /// The directory of the file system that is mounted.
    source: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
    /// The type of the file system.
    kind: &'a [u8],
    /// Source of the mount, as given to mount(8).
    from: &'a [u8],
}

fn lines(mountinfo: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let path = |field: &[u8]| PathBuf::from(OsString::from_vec(unescape(field)));
        let number = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let (device, source, point) = (fields.nth(1)?, path(fields.next()?), path(fields.next()?));
        // Any number of optional fields comes before the hyphen.
        let (kind, from) = match fields.find(|field| *field == b"-") {
            Some(_) => (fields.next().unwrap_or_default(), fields.next().unwrap_or_default()),
            None => Default::default(),
        };
        Some(Mount { number, device, source, point, kind, from })
    })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let byte = octal.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        plain.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 1 0:20 / / rw - ext4 /dev/vda rw\n\
        30 22 0:30 / /mnt/my\\040disk rw,relatime shared:2 - tmpfs tmpfs rw\n\
        31 30 0:31 / /mnt/my\\040disk/www/img rw - tmpfs tmpfs rw\n";

    #[test]
    fn finds_what_a_path_lies_on() {
        let on = |path: &str| covering(TEXT, Path::new(path)).unwrap();
        assert_eq!(on("/mnt/my disk/www"), Path::new("/mnt/my disk"));
        assert_eq!(on("/mnt/my disk/www/img"), Path::new("/mnt/my disk/www/img"));
        assert_eq!(on("/mnt/my diskette"), Path::new("/"), "whole components count");
    }

    #[test]
    fn names_the_file_system_of_a_path() {
        let on = |path: &str| file_system(TEXT, Path::new(path)).unwrap();
        let expected = |device: &str, kind: &str, source: &str| Mounted {
            device: device.to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
        };
        assert_eq!(on("/srv"), expected("0:20", "ext4", "/dev/vda"));
        assert_eq!(on("/mnt/my disk/www"), expected("0:30", "tmpfs", "tmpfs"), "behind an optional field");
    }

    #[test]
    fn bind_mounts_of_one_directory_are_one_place() {
        let bound = [TEXT, b"32 22 0:30 /www /srv/www rw - tmpfs tmpfs rw\n"].concat();
        let on = |path: &str| on_device(&bound, Path::new(path)).unwrap();
        assert_eq!(on("/srv/www/a"), on("/mnt/my disk/www/a"));
        assert_ne!(on("/srv/www/img/a"), on("/mnt/my disk/www/img/a"), "another one is mounted there");
        assert_eq!(on("/srv"), (b"0:20".to_vec(), "/srv".into()));
    }

    #[test]
    fn finds_the_mounts_below_a_root() {
        let below = below(TEXT, Path::new("/mnt/my disk/www"));
        assert_eq!(below.into_iter().collect::<Vec<_>>(), [(RelPath::new(b"img").unwrap(), 31)]);
    }
}
