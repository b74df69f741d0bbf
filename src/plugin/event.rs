//! What happened to a path, in inotify's terms.
//!
//! The kernel's event is a hint that is merged with others on its way (two writes and a rename are one path that may
//! differ), so it is not handed through: what is on disk now, and the little that is known of the cause, make the event.

use std::fs::FileType;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

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
    /// Looks at `path`.
    pub fn look(cause: Cause, path: &Path) -> io::Result<Self> {
        match path.symlink_metadata() {
            Ok(found) => Ok(Self::of(cause, Some(found.file_type()))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(Self::of(cause, None))
            }
            Err(error) => Err(error),
        }
    }

    fn of(cause: Cause, found: Option<FileType>) -> Self {
        let Some(found) = found else { return Self { kind: IN_DELETE, is_directory: cause.was_directory } };
        let is_directory = found.is_dir();
        let kind = match () {
            () if cause.attributes_only => IN_ATTRIB,
            () if is_directory && cause.arrived => IN_MOVED_TO,
            () if is_directory => IN_CREATE,
            () if found.is_symlink() || found.is_fifo() || found.is_socket() => IN_CREATE,
            () if found.is_block_device() || found.is_char_device() => IN_CREATE,
            () => IN_CLOSE_WRITE,
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
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
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
        ] {
            let event = Event::look(cause, &at(name)).unwrap();
            assert_eq!((event.mask(), event.words()), (mask, words), "{name} {cause:?}");
        }
    }
}
