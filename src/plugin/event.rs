//! What happened to a path, in inotify's terms.
//!
//! The kernel's event is a hint that is merged with others on its way (two writes and a rename are one path that may
//! differ), so it is not handed through: what is on disk now, and the little that is known of the cause, make the event.

use super::queue::Place;
use crate::beneath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag};
use std::io;
use std::os::fd::AsFd;

/// What is known of why a path is told of. Causes of one path are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cause {
    /// Nothing but mode, owner or times.
    pub attributes_only: bool,
    /// A directory came here by a rename.
    pub arrived: bool,
    /// It was a directory.
    pub was_directory: bool,
}

impl Cause {
    /// The cause of two reports of one path, told as one.
    pub fn merge(self, other: Self) -> Self {
        Self {
            attributes_only: self.attributes_only && other.attributes_only,
            arrived: self.arrived || other.arrived,
            was_directory: self.was_directory || other.was_directory,
        }
    }
}

/// inotify(7).
const IN_ATTRIB: u32 = 0x4;
const IN_CLOSE_WRITE: u32 = 0x8;
const IN_MOVED_TO: u32 = 0x80;
const IN_CREATE: u32 = 0x100;
const IN_DELETE: u32 = 0x200;
const IN_ISDIR: u32 = 0x4000_0000;

/// An event as plugins are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    kind: u32,
    pub is_directory: bool,
}

impl Event {
    /// Looks at `place`, without following a link below the watched directory.
    pub fn look(cause: Cause, place: &Place) -> io::Result<Self> {
        let root = open(&*place.root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        match root.and_then(|root| beneath::stat(root.as_fd(), &place.path)) {
            Ok(found) => Ok(Self::of(cause, Some(SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT))),
            Err(error) if beneath::is_elsewhere(error) => Ok(Self::of(cause, None)),
            Err(error) => Err(Errno::into(error)),
        }
    }

    fn of(cause: Cause, found: Option<SFlag>) -> Self {
        let Some(found) = found else { return Self { kind: IN_DELETE, is_directory: cause.was_directory } };
        let is_directory = found == SFlag::S_IFDIR;
        let kind = match () {
            () if cause.attributes_only => IN_ATTRIB,
            () if is_directory && cause.arrived => IN_MOVED_TO,
            () if is_directory => IN_CREATE,
            () if found == SFlag::S_IFREG => IN_CLOSE_WRITE,
            () => IN_CREATE,
        };
        Self { kind, is_directory }
    }

    /// The decimal mask that the form of sersync 2.5.4 has.
    pub fn mask(self) -> u32 {
        self.kind | if self.is_directory { IN_ISDIR } else { 0 }
    }

    /// The words that inotifywait has for it.
    pub fn words(self) -> &'static str {
        match (self.kind, self.is_directory) {
            (IN_ATTRIB, false) => "ATTRIB",
            (IN_ATTRIB, true) => "ATTRIB,ISDIR",
            (IN_DELETE, false) => "DELETE",
            (IN_DELETE, true) => "DELETE,ISDIR",
            (IN_CREATE, false) => "CREATE",
            (IN_CREATE, true) => "CREATE,ISDIR",
            (IN_MOVED_TO, _) => "MOVED_TO,ISDIR",
            _ => "CLOSE_WRITE",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_decides_what_happened() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let named =
            |name: &str| Place { root: place.path().into(), path: crate::path::RelPath::new(name.as_bytes()).unwrap() };
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        std::os::unix::fs::symlink(".", at("dir-link")).unwrap();
        let none = Cause::default();
        let attributes = Cause { attributes_only: true, ..none };
        let arrived = Cause { arrived: true, was_directory: true, ..none };
        for (name, cause, mask, words) in [
            ("file", none, 8, "CLOSE_WRITE"),
            ("file", attributes, 4, "ATTRIB"),
            ("file", attributes.merge(none), 8, "CLOSE_WRITE"),
            ("dir", none, 0x4000_0100, "CREATE,ISDIR"),
            ("dir", arrived, 0x4000_0080, "MOVED_TO,ISDIR"),
            ("link", none, 0x100, "CREATE"),
            ("gone", none, 0x200, "DELETE"),
            ("gone", arrived, 0x4000_0200, "DELETE,ISDIR"),
            ("file/below", none, 0x200, "DELETE"),
            ("dir-link/file", none, 0x200, "DELETE"),
        ] {
            let event = Event::look(cause, &named(name)).unwrap();
            assert_eq!((event.mask(), event.words()), (mask, words), "{name} {cause:?}");
        }
    }
}
