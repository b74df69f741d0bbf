//! rsync's `--exclude` patterns as the regular expressions of [`super::Filter`].
//!
//! What such a pattern excludes is decided by "PATTERN MATCHING RULES" of rsync(1): a slash at its start ties it to the
//! root, one at its end to directories; without any other slash it is about the last name of a path; `*` and `?` stop
//! at slashes, `**` does not, `dir/***` is `dir` and all in it. A test holds the translation against rsync.
//!
//! Patterns that take an exclusion back (`+ PATTERN`, `!`) depend on the order of all of them, which regular
//! expressions that stand side by side have not: they are refused.

use std::fmt::Write;

/// An exclude pattern that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing is left of it.
    #[error("the pattern excludes nothing")]
    Empty,
    /// `+ PATTERN` or `!`.
    #[error("only exclusions stand here, no inclusion (`+ `) and no `!`")]
    Inclusion,
    /// A bracket is not closed, or a class holds nothing.
    #[error("the `[` in it is never closed, or stands for no character: rsync would match nothing")]
    Class,
    /// A backslash at the end.
    #[error("it ends with a backslash that escapes nothing: rsync would match nothing")]
    Backslash,
    /// It compiles to too much.
    #[error("it is too large once compiled")]
    Large,
}

impl PatternError {
    /// What to do.
    pub fn help(self) -> &'static str {
        match self {
            Self::Empty => "write a pattern such as *.log or /cache/",
            Self::Inclusion => "name what is left out: *.log, /cache/",
            Self::Class => "write [abc] or [a-z]; a bracket that is meant as it stands is \\[",
            Self::Large => "write several shorter patterns",
            Self::Backslash => "write \\\\ for a backslash in a pattern that has *, ? or [",
        }
    }
}

/// The regular expression that matches whole paths below the root, directories with a slash behind them, as `pattern`
/// excludes them.
pub fn expression(pattern: &str) -> Result<String, PatternError> {
    let pattern = match pattern {
        "!" => return Err(PatternError::Inclusion),
        _ if pattern.starts_with("+ ") => return Err(PatternError::Inclusion),
        _ => pattern.strip_prefix("- ").unwrap_or(pattern),
    };
    let (pattern, directories_only) = match pattern.strip_suffix('/') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    let (pattern, anchored) = match pattern.strip_prefix('/') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    if pattern.is_empty() {
        return Err(PatternError::Empty);
    }
    let mut translation = Translation { rest: pattern.as_bytes(), text: String::new() };
    match () {
        () if anchored => {}
        // At the start two stars stand for the slash before the first name as well.
        () if pattern.starts_with("**") => {
            translation.rest = pattern.trim_start_matches('*').as_bytes();
            translation.text.push_str(match translation.rest {
                [] => ".*[^/]",
                [b'/', ..] => "(.*/)?",
                _ => ".*",
            });
            translation.rest = translation.rest.strip_prefix(b"/").unwrap_or(translation.rest);
        }
        () => translation.text.push_str("(.*/)?"),
    }
    if pattern.contains(['*', '?', '[']) {
        translation.wildcards(pattern.ends_with("***") && !directories_only)?;
    } else {
        pattern.bytes().for_each(|byte| translation.literal(byte));
    }
    if directories_only {
        translation.text.push('/');
    }
    Ok(translation.text)
}

/// A pattern on its way to a regular expression.
struct Translation<'p> {
    rest: &'p [u8],
    text: String,
}

impl Translation<'_> {
    /// `with_directory`: three stars at the end reach the directory itself as well.
    fn wildcards(&mut self, with_directory: bool) -> Result<(), PatternError> {
        let mut last = None;
        while let Some((byte, rest)) = self.rest.split_first() {
            self.rest = rest;
            match byte {
                b'*' if rest.first() == Some(&b'*') => {
                    let stars = rest.iter().take_while(|byte| **byte == b'*').count();
                    self.rest = &rest[stars..];
                    // A path does not end with a slash; only a directory may be tried with one.
                    self.text.push_str(match (self.rest, last) {
                        ([], _) if with_directory => ".*",
                        ([], None | Some(b'/')) => ".*[^/]",
                        ([], _) => "(.*[^/])?",
                        _ => ".*",
                    });
                }
                // No name is empty, but what a directory is tried with ends with a slash.
                b'*' if rest.is_empty() && last == Some(b'/') => self.text.push_str("[^/]+"),
                b'*' => self.text.push_str("[^/]*"),
                b'?' => self.text.push_str("[^/]"),
                b'[' => self.class()?,
                b'\\' => {
                    let (escaped, rest) = self.rest.split_first().ok_or(PatternError::Backslash)?;
                    self.rest = rest;
                    self.literal(*escaped);
                }
                byte => self.literal(*byte),
            }
            last = Some(*byte);
        }
        Ok(())
    }

    fn literal(&mut self, byte: u8) {
        // Writing to a string cannot fail; so below.
        let _ = match byte {
            b'/' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => write!(self.text, "{}", byte as char),
            other => write!(self.text, "\\x{other:02X}"),
        };
    }

    /// What follows an opening bracket: the class of all bytes that it stands for, a slash never among them.
    fn class(&mut self) -> Result<(), PatternError> {
        let mut named = [false; 256];
        let negated = matches!(self.rest.first(), Some(b'!' | b'^'));
        if negated {
            self.rest = &self.rest[1..];
        }
        let (mut first, mut before) = (true, None);
        loop {
            let byte = self.take()?;
            match byte {
                b']' if !first => break,
                b'[' if self.rest.first() == Some(&b':') => {
                    self.posix_class(&mut named)?;
                    before = None;
                }
                b'-' if before.is_some() && !matches!(self.rest.first(), None | Some(b']')) => {
                    let to = match self.take()? {
                        b'\\' => self.take()?,
                        to => to,
                    };
                    if let Some(from) = before.take() {
                        (from..=to).for_each(|byte| named[usize::from(byte)] = true);
                    }
                }
                byte => {
                    let byte = if byte == b'\\' { self.take()? } else { byte };
                    named[usize::from(byte)] = true;
                    before = Some(byte);
                }
            }
            first = false;
        }
        named.iter_mut().for_each(|named| *named ^= negated);
        named[usize::from(b'/')] = false;
        let bytes: Vec<u8> = (0..=u8::MAX).filter(|byte| named[usize::from(*byte)]).collect();
        if bytes.is_empty() {
            return Err(PatternError::Class);
        }
        self.text.push('[');
        for run in bytes.chunk_by(|one, next| one + 1 == *next) {
            let _ = write!(self.text, "\\x{:02X}-\\x{:02X}", run[0], run[run.len() - 1]);
        }
        self.text.push(']');
        Ok(())
    }

    fn take(&mut self) -> Result<u8, PatternError> {
        let (byte, rest) = self.rest.split_first().ok_or(PatternError::Class)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// `:alpha:]` and its like, the bracket before it taken.
    fn posix_class(&mut self, named: &mut [bool; 256]) -> Result<(), PatternError> {
        let end = self.rest.windows(2).position(|pair| pair == b":]").ok_or(PatternError::Class)?;
        let is: fn(&u8) -> bool = match self.rest.get(1..end) {
            Some(b"alnum") => u8::is_ascii_alphanumeric,
            Some(b"alpha") => u8::is_ascii_alphabetic,
            Some(b"blank") => |byte| matches!(byte, b' ' | b'\t'),
            Some(b"cntrl") => u8::is_ascii_control,
            Some(b"digit") => u8::is_ascii_digit,
            Some(b"graph") => u8::is_ascii_graphic,
            Some(b"lower") => u8::is_ascii_lowercase,
            Some(b"print") => |byte| matches!(byte, b' '..=b'~'),
            Some(b"punct") => u8::is_ascii_punctuation,
            Some(b"space") => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
            Some(b"upper") => u8::is_ascii_uppercase,
            Some(b"xdigit") => u8::is_ascii_hexdigit,
            _ => return Err(PatternError::Class),
        };
        (0..=u8::MAX).filter(is).for_each(|byte| named[usize::from(byte)] = true);
        self.rest = &self.rest[end + 2..];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{EntryKind, Filter};
    use crate::path::RelPath;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::process::Command;

    const FILES: &[&str] = &[
        "a",
        "b.log",
        "foo",
        "foo.d/foo",
        "foo.d/bar",
        "bar/foo/bar",
        "bar/foo/baz.log",
        "bar/a/foo",
        "x/y/z/a.log",
        "x/y/a",
        "x/a",
        "cache/a",
        "x/cache/a",
        "x/cache.log",
        "[x]",
        "a*b",
        "a\\b",
        "-a",
        "A",
        "a b",
        "x/]",
        "#a",
        "foo bar/a/b",
        "x/-",
        "1",
        "x/12",
        "x/y/ab/a",
    ];
    const DIRECTORIES: &[&str] = &["empty", "x/empty", "empty.log", "bar/empty/empty"];

    fn plant(root: &Path) -> Vec<(String, bool)> {
        let mut all = BTreeSet::new();
        for path in FILES {
            let path = Path::new(path);
            std::fs::create_dir_all(root.join(path.parent().unwrap())).unwrap();
            std::fs::write(root.join(path), "").unwrap();
            all.insert((path.display().to_string(), false));
            all.extend(path.ancestors().skip(1).map(|above| (above.display().to_string(), true)));
        }
        for path in DIRECTORIES {
            std::fs::create_dir_all(root.join(path)).unwrap();
            all.extend(Path::new(path).ancestors().map(|above| (above.display().to_string(), true)));
        }
        all.into_iter().filter(|(path, _)| !path.is_empty()).collect()
    }

    /// What rsync sends with `pattern` excluded.
    fn sent(root: &Path, nowhere: &Path, pattern: &str) -> BTreeSet<String> {
        let turn = crate::forks::some();
        let output = Command::new("rsync")
            .args(["-rn", "--out-format=%n", &format!("--exclude={pattern}"), "--", "./"])
            .arg(nowhere)
            .current_dir(root)
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        drop(turn);
        assert!(output.status.success(), "{pattern}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        // A backslash is printed so where an octal number would follow; none does here.
        text.lines().map(|line| line.trim_end_matches('/').to_owned()).filter(|line| line != ".").collect()
    }

    fn random_pattern(random: &mut fastrand::Rng) -> String {
        const PIECES: &[&str] = &[
            "*",
            "**",
            "***",
            "?",
            "/",
            "/",
            "foo",
            "a",
            "x",
            "bar",
            "cache",
            ".log",
            "y",
            "empty",
            "[a-f]",
            "[!a]",
            "[^b-y]",
            "[]x]",
            "[[:alpha:]]",
            "[[:digit:]x]",
            "\\*",
            "\\\\",
            "\\[",
            "a b",
            "-",
            "[a\\]-]",
            "1",
            "b",
        ];
        (0..random.usize(1..5)).map(|_| PIECES[random.usize(..PIECES.len())]).collect()
    }

    #[test]
    fn excludes_what_rsync_excludes() {
        let place = tempfile::tempdir().unwrap();
        let (root, nowhere) = (place.path().join("root"), place.path().join("nowhere"));
        std::fs::create_dir(&nowhere).unwrap();
        let all = plant(&root);
        let fixed = [
            "*.log", "/cache/", "cache/", "foo", "/foo", "foo/", "bar/foo", "/bar/foo", "foo/bar", "x/**/a", "**/a",
            "/**/a", "x/**", "x/***", "/x/*", "**", "*", "a\\b", "a\\\\b*", "- *.log", "[x]", "\\[x]", "foo.d/*",
            "info/*", "**.log", "x**a", "x/**/", "/**", "*/", "**/", "#a", "***", "/***", "x***",
        ];
        let mut random = fastrand::Rng::with_seed(20_261_121);
        let random = std::iter::repeat_with(|| random_pattern(&mut random)).take(120);
        let (mut tried, mut wrong) = (0, Vec::new());
        for pattern in fixed.into_iter().map(str::to_owned).chain(random) {
            let Ok(expression) = expression(&pattern) else { continue };
            let filter = Filter::new([&expression]).unwrap();
            let theirs = sent(&root, &nowhere, &pattern);
            let kept = |(path, is_directory): &&(String, bool)| {
                let kind = if *is_directory { EntryKind::Directory } else { EntryKind::NonDirectory };
                !filter.excludes(&RelPath::new(path.as_bytes()).unwrap(), kind)
            };
            let ours: BTreeSet<String> = all.iter().filter(kept).map(|(path, _)| path.clone()).collect();
            tried += 1;
            if ours != theirs {
                let differ: Vec<_> = ours.symmetric_difference(&theirs).take(4).collect();
                wrong.push(format!("{pattern} as {expression}: {differ:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} of {tried} differ:\n{}", wrong.len(), wrong.join("\n"));
        assert!(tried > 100, "only {tried} were patterns");
    }

    #[test]
    fn what_would_exclude_nothing_is_told() {
        assert_eq!(expression("/"), Err(PatternError::Empty));
        assert_eq!(expression("+ *.log"), Err(PatternError::Inclusion));
        assert_eq!(expression("!"), Err(PatternError::Inclusion));
        assert_eq!(expression("a[b"), Err(PatternError::Class));
        assert_eq!(expression("*\\"), Err(PatternError::Backslash));
    }
}
