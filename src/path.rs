//! [`RelPath`]: a path below a watched root, as bytes, checked once at the door.
//!
//! Everything inside the agent speaks of files in these terms: relative to the root, no `.` or `..`
//! component, no leading or trailing slash, no NUL. The root itself is the empty path. Names are bytes,
//! as Linux has them; only [`RelPath::display`] makes text of them.

use crate::printable;
use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Maximum length of a directory's path below its root, in bytes. Directories with longer paths are not mirrored.
///
/// rsync takes paths of up to 4,094 bytes, whatever the length of the remote's own directory (measured with rsync 3.5.0:
/// daemon, ssh, and local directory), and a name has up to 255. So each entry of a directory that is mirrored can be sent,
/// and rsync, which refuses to delete anything after it has met a longer path, meets none.
pub const LONGEST_DIRECTORY: usize = 4_094 - 255 - 2;

/// Maximum number of components of a directory's path below its root. Directories below that are not mirrored.
///
/// rsync cannot list a directory with more (measured with rsync 3.5.0: `opendir` fails with `ENOMEM`), and refuses to
/// delete anything after it has met one.
pub const DEEPEST_DIRECTORY: usize = 1_023;

/// The size of a path, as far as it decides whether a directory is mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Its length in bytes.
    pub bytes: usize,
    /// The number of its components.
    pub components: usize,
}

impl Extent {
    /// That of the root.
    pub const ROOT: Self = Self { bytes: 0, components: 0 };

    /// Whether a directory of this size is not mirrored.
    pub fn is_too_long(self) -> bool {
        self.bytes > LONGEST_DIRECTORY || self.components > DEEPEST_DIRECTORY
    }

    /// That of the entry with a name of this length.
    pub fn with_name(self, length: usize) -> Self {
        Self { bytes: self.bytes + usize::from(self.components > 0) + length, components: self.components + 1 }
    }

    /// That of the directory that holds this entry, whose name has this length.
    pub fn without_name(self, length: usize) -> Self {
        let components = self.components.saturating_sub(1);
        Self { bytes: self.bytes.saturating_sub(usize::from(components > 0) + length), components }
    }
}

/// A path below a watched root. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelPath(Arc<[u8]>);

/// Why some bytes are no path below a root.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RelPathError {
    /// The path starts with a slash.
    #[error("{0:?} is absolute; a path below the root is relative")]
    Absolute(String),
    /// A component is empty, `.` or `..`, or holds a NUL byte.
    #[error("{0:?} has a component that is empty, \".\", \"..\" or holds a NUL byte")]
    Component(String),
}

/// Equal, ordered and hashed as its bytes are.
impl Borrow<[u8]> for RelPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for &RelPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for RelPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl RelPath {
    /// The root itself.
    pub fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }

    /// Checks `bytes`; the empty string is the root.
    pub fn new(bytes: &[u8]) -> Result<Self, RelPathError> {
        if bytes.is_empty() {
            return Ok(Self::root());
        }
        if bytes[0] == b'/' {
            return Err(RelPathError::Absolute(lossy(bytes)));
        }
        if bytes.split(|b| *b == b'/').all(is_name) {
            Ok(Self(Arc::from(bytes)))
        } else {
            Err(RelPathError::Component(lossy(bytes)))
        }
    }

    /// The entry `name` of this directory. `name` comes from the kernel: one component, not `.` or `..`.
    pub fn join(&self, name: &OsStr) -> Self {
        debug_assert!(is_name(name.as_bytes()), "{name:?} is one component");
        if self.is_root() {
            return Self(Arc::from(name.as_bytes()));
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(name.as_bytes());
        Self(Arc::from(bytes))
    }

    /// The path of these components, joined by slashes; none is the root. Each came from the kernel: one component, not
    /// `.` or `..`.
    pub fn of_names(joined: &[u8]) -> Self {
        debug_assert!(joined.is_empty() || joined.split(|byte| *byte == b'/').all(is_name), "components: {joined:?}");
        Self(Arc::from(joined))
    }

    /// The bytes, as the kernel and rsync want them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as a [`Path`], to be joined to the root.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Where this path lies on disk under `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        if self.is_root() { root.to_path_buf() } else { root.join(self.as_path()) }
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds this entry; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|b| *b == b'/') {
            Some(slash) => Self(Arc::from(&self.0[..slash])),
            None => Self::root(),
        })
    }

    /// The last component; empty for the root.
    pub fn file_name(&self) -> &OsStr {
        let start = self.0.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
        OsStr::from_bytes(&self.0[start..])
    }

    /// This path's proper ancestors, topmost first, without the root. Each is a copy: to look something up, use
    /// [`RelPath::prefixes`].
    pub fn ancestors_below_root(&self) -> impl Iterator<Item = RelPath> + '_ {
        self.prefixes().map(|prefix| Self(Arc::from(prefix)))
    }

    /// The bytes of this path's proper ancestors, topmost first, without the root.
    pub fn prefixes(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| &self.0[..slash])
    }

    /// The proper ancestors of this path, without the root, for which `find` has something: the deepest first. `find`
    /// searches a sorted collection for the last path that is not greater than some bytes.
    ///
    /// It takes one search for each ancestor that is found and for each of their neighbours that come up instead. The
    /// number of the path's components does not count: a path may have 2,000 of them.
    pub fn ancestors_in<'a, T>(
        &'a self,
        find: impl Fn(&[u8]) -> Option<(&'a RelPath, T)>,
    ) -> impl Iterator<Item = (&'a RelPath, T)> {
        let mut rest = above(&self.0);
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let (found, value) = find(rest)?;
                if found.is_root() {
                    return None;
                }
                let common = found.0.iter().zip(rest).take_while(|(found, own)| found == own).count();
                // All paths between an ancestor and this path begin as the ancestor does.
                let is_ancestor = common == found.0.len() && rest.get(common).is_none_or(|next| *next == b'/');
                rest = if is_ancestor { above(&rest[..common]) } else { above(&self.0[..=common.min(rest.len() - 1)]) };
                if is_ancestor {
                    return Some((found, value));
                }
            }
            None
        })
    }

    /// The proper ancestors of this path, without the root, that are in `sorted`: the deepest first.
    pub fn ancestors_among<'a>(&'a self, sorted: &'a BTreeSet<RelPath>) -> impl Iterator<Item = &'a RelPath> {
        let find = |bytes: &[u8]| {
            let mut up_to = sorted.range::<[u8], _>((Bound::Unbounded, Bound::Included(bytes)));
            up_to.next_back().map(|found| (found, ()))
        };
        self.ancestors_in(find).map(|(ancestor, ())| ancestor)
    }

    /// Whether one of the `sorted` paths lies inside this directory.
    pub fn holds_any_of(&self, sorted: &BTreeSet<&RelPath>) -> bool {
        let first_inside = [self.as_bytes(), if self.is_root() { b"" } else { b"/" }].concat();
        let rest = sorted.range::<[u8], _>((Bound::Included(first_inside.as_slice()), Bound::Unbounded));
        rest.into_iter().find(|path| !path.is_root()).is_some_and(|path| path.is_inside(self))
    }

    /// Its size.
    pub fn extent(&self) -> Extent {
        let components = if self.is_root() { 0 } else { 1 + self.0.iter().filter(|byte| **byte == b'/').count() };
        Extent { bytes: self.0.len(), components }
    }

    /// Whether a directory at this path is not mirrored because of the path's size.
    pub fn is_too_long_for_a_directory(&self) -> bool {
        self.extent().is_too_long()
    }

    /// Whether this path lies inside `directory`, at any depth; a path does not lie inside itself.
    pub fn is_inside(&self, directory: &RelPath) -> bool {
        if directory.is_root() {
            return !self.is_root();
        }
        self.0.len() > directory.0.len() && self.0.starts_with(&directory.0) && self.0[directory.0.len()] == b'/'
    }

    /// For people: lossy, with escapes for what may not be printed, never over several lines. The root is `.`.
    pub fn display(&self) -> impl fmt::Display + '_ {
        Shown(&self.0)
    }
}

/// The path of the directory that holds the entry at `path`; empty for the root's entries.
fn above(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(b"", |slash| &path[..slash])
}

/// One component as the kernel may name it.
fn is_name(component: &[u8]) -> bool {
    !component.is_empty() && component != b"." && component != b".." && !component.contains(&0)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str(".");
        }
        for chunk in self.0.utf8_chunks() {
            printable::push_escaped(f, chunk.valid(), &[])?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).unwrap()
    }

    #[test]
    fn refuses_what_could_leave_the_root() {
        for bad in ["/etc", "../x", "a/../b", "a//b", "a/", ".", "./a", "a/.", "a\0b"] {
            assert!(RelPath::new(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(path("").is_root());
        assert!(RelPath::new(b"-rf/\xff\n").is_ok());
    }

    #[test]
    fn knows_its_family() {
        let deep = path("a/b/c");
        assert_eq!(deep.parent(), Some(path("a/b")));
        assert_eq!(path("a").parent(), Some(RelPath::root()));
        assert_eq!(RelPath::root().parent(), None);
        assert_eq!(deep.ancestors_below_root().collect::<Vec<_>>(), [path("a"), path("a/b")]);
        assert!(deep.is_inside(&path("a/b")) && deep.is_inside(&RelPath::root()));
        assert!(!deep.is_inside(&deep) && !path("ab").is_inside(&path("a")));
        assert_eq!(path("a/b").join(OsStr::new("c")), deep);
        assert_eq!(deep.file_name(), "c");
    }

    #[test]
    fn the_size_of_a_path_follows_that_of_its_directory() {
        for text in ["a", "ab/c", "a/b/c"] {
            let own = path(text);
            let (above, name) = (own.parent().unwrap().extent(), own.file_name().len());
            assert_eq!(above.with_name(name), own.extent(), "{text}");
            assert_eq!(own.extent().without_name(name), above, "{text}");
        }
        let is_too_long = |text: &str| path(text).is_too_long_for_a_directory();
        assert!(!is_too_long(&"a".repeat(3_837)) && is_too_long(&"a".repeat(3_838)));
        assert!(!is_too_long(&["a"; 1_023].join("/")) && is_too_long(&["a"; 1_024].join("/")));
    }

    #[test]
    fn finds_its_ancestors_among_sorted_paths() {
        let names = ["a", "a-b", "a/b", "a/b/c", "a/b!", "ab"];
        let all: Vec<RelPath> = (0..5_usize)
            .flat_map(|depth| (0..names.len().pow(depth as u32)).map(move |number| (depth, number)))
            .step_by(7)
            .map(|(depth, number)| {
                let parts: Vec<&str> =
                    (0..depth as u32).map(|at| names[number / names.len().pow(at) % names.len()]).collect();
                path(&parts.join("/"))
            })
            .collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        let find = |bytes: &[u8]| {
            let after = sorted.partition_point(|held| held.as_bytes() <= bytes);
            Some((sorted.get(after.checked_sub(1)?)?, ()))
        };
        for own in &all {
            let mut expected: Vec<RelPath> = own.ancestors_below_root().filter(|above| all.contains(above)).collect();
            expected.reverse();
            let found: Vec<RelPath> = own.ancestors_in(find).map(|(above, ())| above.clone()).collect();
            assert_eq!(found, expected, "{own:?}");
        }
    }

    #[test]
    fn shows_on_one_line() {
        let odd = RelPath::new(b"a\nb\xff\"c").unwrap();
        assert_eq!(odd.display().to_string(), "a\\nb\\xff\"c");
        assert_eq!(RelPath::root().display().to_string(), ".");
    }
}
