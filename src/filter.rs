//! [`Filter`]: which paths never reach a remote and are never deleted there.
//!
//! The `<filter>` expressions of confxml.xml: regular expressions that must match the whole path, relative to the
//! root, without a leading slash. A directory is matched with a trailing slash and without. What lies below an
//! excluded directory is excluded.
//!
//! A scheduled full sync leaves out rsync's `--exclude` patterns as well (`rsync_pattern`).
//!
//! Names are bytes: `.` matches every byte, also a newline and what is no UTF-8, as it did in sersync 2.5.4.

mod rsync_pattern;

pub use rsync_pattern::PatternError;

use crate::path::RelPath;
use crate::probe_name;
use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

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

/// A regular expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{expression}\" is no regular expression: {reason}")]
pub struct ExpressionError {
    /// As written.
    pub expression: String,
    /// One line.
    pub reason: String,
}

impl ExpressionError {
    /// What to do.
    pub fn help(&self) -> &'static str {
        if self.reason.contains("look-around") || self.reason.contains("backreference") {
            "look-around and back-references are not supported: write several expressions, or name what to exclude instead of what to keep"
        } else if self.reason.contains("repetition operator missing") {
            "this is a regular expression, not a shell pattern: write .* where a shell has *"
        } else {
            "the syntax is that of https://docs.rs/regex; a backslash before a special character takes it as it is"
        }
    }
}

/// Two filters are equal when they were made of the same expressions.
impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        self.expressions.patterns() == other.expressions.patterns()
    }
}

impl Filter {
    /// Excludes nothing.
    pub fn none() -> Self {
        Self { expressions: RegexSet::empty() }
    }

    /// The expressions, as they are matched.
    pub fn expressions(&self) -> &[String] {
        self.expressions.patterns()
    }

    /// Whether nothing is excluded at all.
    pub fn is_empty(&self) -> bool {
        self.expressions.is_empty()
    }

    /// Compiles `expressions`, each to match a whole path. The error names the first that does not compile.
    pub fn new<S: AsRef<str>>(expressions: impl IntoIterator<Item = S>) -> Result<Self, ExpressionError> {
        let mut anchored = Vec::new();
        let mut last = String::new();
        for expression in expressions {
            anchored.push(whole_path(expression.as_ref())?);
            last = expression.as_ref().to_owned();
        }
        Ok(Self { expressions: set(&anchored).map_err(|error| ExpressionError::new(&last, &error))? })
    }

    /// Excludes what rsync's `--exclude` patterns name as well. The error names the first that cannot be used.
    pub fn and_excluding<S: AsRef<str>>(&self, patterns: impl IntoIterator<Item = S>) -> Result<Self, PatternError> {
        let mut anchored = self.expressions.patterns().to_vec();
        for pattern in patterns {
            let expression = rsync_pattern::expression(pattern.as_ref())?;
            anchored.push(whole_path(&expression).map_err(|_| PatternError::Large)?);
        }
        Ok(Self { expressions: set(&anchored).map_err(|_| PatternError::Large)? })
    }

    /// Whether `expression` compiles.
    pub fn check(expression: &str) -> Result<(), ExpressionError> {
        whole_path(expression).map(drop)
    }

    /// Whether `pattern` can be used as one of rsync's.
    pub fn check_pattern(pattern: &str) -> Result<(), PatternError> {
        let expression = rsync_pattern::expression(pattern)?;
        whole_path(&expression).map(drop).map_err(|_| PatternError::Large)
    }

    /// Whether `path` itself matches; says nothing of the directories above it.
    pub fn matches(&self, path: &RelPath, kind: EntryKind) -> bool {
        if self.is_empty() || path.is_root() || probe_name::is_probe(path) {
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
        if self.is_empty() {
            return false;
        }
        let bytes = path.as_bytes();
        // A directory above is the path up to a slash, without it and with it.
        let above =
            |slash: usize| self.expressions.is_match(&bytes[..slash]) || self.expressions.is_match(&bytes[..=slash]);
        bytes.iter().enumerate().any(|(at, byte)| *byte == b'/' && above(at)) || self.matches(path, kind)
    }
}

impl ExpressionError {
    fn new(expression: &str, error: &regex::Error) -> Self {
        let reason = match error {
            regex::Error::CompiledTooBig(_) => "it is too large once compiled".to_owned(),
            // The crate draws the expression with carets over several lines; what is wrong comes last.
            other => {
                let text = other.to_string();
                let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
        };
        Self { expression: expression.to_owned(), reason }
    }
}

/// Each compiled by itself within the crate's limit of 10 MiB, so the set gets as much for each, up to a limit of its own.
fn set(anchored: &[String]) -> Result<RegexSet, regex::Error> {
    const ONE: usize = 10 << 20;
    const ALL: usize = 256 << 20;
    RegexSetBuilder::new(anchored).size_limit(ONE.saturating_mul(1 + anchored.len()).min(ALL)).build()
}

/// Whether it takes next to nothing to compile `expression`; one that does not compile is found out as soon.
pub fn is_small(expression: &str) -> bool {
    const SMALL: usize = 64 << 10;
    let compiled = RegexBuilder::new(expression).size_limit(SMALL).build();
    !matches!(compiled, Err(regex::Error::CompiledTooBig(_)))
}

/// `expression` so that it matches whole paths only, in the sense of bytes if it can be read so.
fn whole_path(expression: &str) -> Result<String, ExpressionError> {
    between(expression, "^", "$")
}

/// `expression` as it is found somewhere in a path.
pub fn search(expression: &str) -> Result<Regex, ExpressionError> {
    Regex::new(&between(expression, "", "")?).map_err(|error| ExpressionError::new(expression, &error))
}

/// `expression` as it matches a whole path, whatever the path is relative to.
pub fn whole(expression: &str) -> Result<Regex, ExpressionError> {
    Regex::new(&whole_path(expression)?).map_err(|error| ExpressionError::new(expression, &error))
}

fn between(expression: &str, start: &str, end: &str) -> Result<String, ExpressionError> {
    // By itself first: "a)(b" would become valid between parentheses.
    Regex::new(expression).map_err(|error| ExpressionError::new(expression, &error))?;
    // Classes such as [图片] or \p{Han} mean characters, not bytes; they need the second form.
    let bytes = format!("{start}(?s-u:{expression}){end}");
    if Regex::new(&bytes).is_ok() {
        return Ok(bytes);
    }
    let characters = format!("{start}(?s:{expression}){end}");
    match Regex::new(&characters) {
        Ok(_) => Ok(characters),
        Err(error) => Err(ExpressionError::new(expression, &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EntryKind::{Directory, NonDirectory, Unknown};

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    fn excludes(expression: &str, bytes: &[u8], kind: EntryKind) -> bool {
        Filter::new([expression]).unwrap().excludes(&path(bytes), kind)
    }

    #[test]
    fn expressions_match_whole_paths_at_every_depth() {
        assert!(excludes(r"(.*)\.gz", b"a.gz", NonDirectory));
        assert!(excludes(r"(.*)\.gz", b"deep/er/a.gz", NonDirectory));
        assert!(!excludes(r"(.*)\.gz", b"a.gz.txt", NonDirectory));
        assert!(!excludes("cache", b"cache2", NonDirectory));
        assert!(!excludes("cache", b"sub/cache", NonDirectory));
        // 2.5.4 put a slash before paths below the root, so that this never matched.
        assert!(excludes("sub/[^/]*", b"sub/name", NonDirectory));
        assert!(excludes("^info/*", b"info/a/b", NonDirectory));
        // An alternative is anchored as a whole.
        assert!(!excludes("a|b", b"ab", NonDirectory) && excludes("a|b", b"b", NonDirectory));
    }

    #[test]
    fn directories_match_with_and_without_slash() {
        for expression in ["tmp", "tmp/"] {
            assert!(excludes(expression, b"tmp", Directory));
            assert!(excludes(expression, b"tmp", Unknown));
            assert!(excludes(expression, b"tmp/below/it", NonDirectory));
        }
        assert!(!excludes("tmp/", b"tmp", NonDirectory));
        assert!(!excludes("tmp/.+", b"tmp", Directory));
    }

    #[test]
    fn names_are_bytes() {
        assert!(excludes(r".*\.tmp", b"\xff\xfe.tmp", NonDirectory));
        assert!(excludes(r".*\.tmp", b"two\nlines.tmp", NonDirectory));
        assert!(excludes("图片/.*", "图片/a".as_bytes(), NonDirectory));
        assert!(excludes("[图片]+", "片图".as_bytes(), NonDirectory));
        assert!(excludes("(?i)TMP", b"tmp", NonDirectory));
    }

    #[test]
    fn the_root_and_no_filter_exclude_nothing() {
        assert!(!excludes(".*", b"", Directory));
        assert!(Filter::none().is_empty() && !Filter::none().excludes(&path(b"a/b"), Unknown));
        assert!(Filter::new::<&str>([]).unwrap().is_empty());
    }

    #[test]
    fn an_expression_that_does_not_compile_is_named() {
        let error = Filter::new(["fine", "*.gz"]).unwrap_err();
        assert_eq!(error.to_string(), "\"*.gz\" is no regular expression: repetition operator missing expression");
        assert!(error.help().contains(".*"));
        assert!(Filter::check("(?!x).*").unwrap_err().help().contains("look-around"));
        assert!(Filter::check(r"(a)\1").unwrap_err().help().contains("back-references"));
        assert!(Filter::check("a)(b").is_err());
        assert!(Filter::check("(a").unwrap_err().reason.contains("unclosed group"));
    }
}
