//! [`Filter`]: which paths never reach a remote and are never deleted there.
//!
//! The `<filter>` expressions of confxml.xml: regular expressions that must match the whole path, relative to the
//! root, without a leading slash. A directory is matched with a trailing slash and without. What lies below an
//! excluded directory is excluded.

use crate::path::RelPath;
use regex::bytes::RegexSet;

/// The excluded paths of one config.
#[derive(Debug, Clone)]
pub struct Filter {
    expressions: RegexSet,
}

/// What is known of the entry at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// Anything but a directory.
    NonDirectory,
    /// It is gone: it may have been either.
    Unknown,
}

impl Filter {
    /// Excludes nothing.
    pub fn none() -> Self {
        Self { expressions: RegexSet::empty() }
    }

    /// Whether nothing is excluded at all.
    pub fn is_empty(&self) -> bool {
        self.expressions.is_empty()
    }

    /// Compiles `expressions`, each to match a whole path.
    pub fn new<S: AsRef<str>>(expressions: impl IntoIterator<Item = S>) -> Result<Self, regex::Error> {
        let anchored = expressions.into_iter().map(|expression| format!("^(?:{})$", expression.as_ref()));
        Ok(Self { expressions: RegexSet::new(anchored)? })
    }

    /// Whether `path` itself matches; says nothing of the directories above it.
    pub fn matches(&self, path: &RelPath, kind: EntryKind) -> bool {
        if self.is_empty() || path.is_root() {
            return false;
        }
        if self.expressions.is_match(path.as_bytes()) {
            return true;
        }
        kind != EntryKind::NonDirectory && {
            let with_slash = [path.as_bytes(), b"/"].concat();
            self.expressions.is_match(&with_slash)
        }
    }

    /// Whether `path` or a directory above it matches.
    pub fn excludes(&self, path: &RelPath, kind: EntryKind) -> bool {
        !self.is_empty()
            && (self.matches(path, kind)
                || path.ancestors_below_root().any(|above| self.matches(&above, EntryKind::Directory)))
    }
}
