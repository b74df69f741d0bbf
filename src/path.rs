//! [`RelPath`]: a path below a watched root, as bytes, checked once at the door.
//!
//! Everything inside the agent speaks of files in these terms: relative to the root, no `.` or `..`
//! component, no leading or trailing slash, no NUL. The root itself is the empty path. Names are bytes,
//! as Linux has them; only [`RelPath::display`] makes text of them.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// This path's proper ancestors, topmost first, without the root.
    pub fn ancestors_below_root(&self) -> impl Iterator<Item = RelPath> + '_ {
        self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(slash, _)| Self(Arc::from(&self.0[..slash])))
    }

    /// Whether this path lies inside `directory`, at any depth; a path does not lie inside itself.
    pub fn is_inside(&self, directory: &RelPath) -> bool {
        if directory.is_root() {
            return !self.is_root();
        }
        self.0.len() > directory.0.len() && self.0.starts_with(&directory.0) && self.0[directory.0.len()] == b'/'
    }

    /// For people: lossy, with control characters escaped, never over several lines. The root is `.`.
    pub fn display(&self) -> impl fmt::Display + '_ {
        Shown(&self.0)
    }
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
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    fmt::Write::write_char(f, character)?;
                }
            }
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
    fn shows_on_one_line() {
        let odd = RelPath::new(b"a\nb\xff\"c").unwrap();
        assert_eq!(odd.display().to_string(), "a\\nb\\xff\"c");
        assert_eq!(RelPath::root().display().to_string(), ".");
    }
}
