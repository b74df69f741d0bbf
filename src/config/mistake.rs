//! [`Mistake`]: one thing that is wrong in a config file, told as a compiler tells it.
//!
//! File, line, column, the line itself with the place marked, what is wrong, what would be right. A mistake never
//! shows a secret: the line comes from [`super::source::Source`], which blots passwords out.

use std::fmt;
use std::path::PathBuf;

/// Whether a mistake stops the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not; it may still not be what its author meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One mistake in a config file. [`fmt::Display`] shows it over several lines, without a newline at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Whether it stops the start.
    pub severity: Severity,
    /// The config file.
    pub file: PathBuf,
    /// Where; `None` when the file as a whole is at fault.
    pub place: Option<Place>,
    /// What is wrong lies outside of the file, in one that it names: a password file, a file of patterns.
    pub elsewhere: bool,
    /// What is wrong: one line.
    pub message: String,
    /// What would be right: one line.
    pub help: Option<String>,
}

/// A marked place in a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, or the part of it around the place when it is very long.
    pub(super) excerpt: String,
    /// What stands below the excerpt: blanks and carets.
    pub(super) carets: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { severity, file, place, message, help, .. } = self;
        write!(f, "{}:", file.display())?;
        match place {
            None => {
                write!(f, " {severity}: {message}")?;
                if let Some(help) = help {
                    write!(f, "\n  = help: {help}")?;
                }
            }
            Some(Place { line, column, excerpt, carets }) => {
                let number = line.to_string();
                let margin = " ".repeat(number.len());
                writeln!(f, "{line}:{column}: {severity}: {message}")?;
                writeln!(f, " {number} | {excerpt}")?;
                write!(f, " {margin} | {carets}")?;
                if let Some(help) = help {
                    write!(f, "\n {margin} = help: {help}")?;
                }
            }
        }
        Ok(())
    }
}

/// All that is wrong in a file that cannot be used: at least one error, and the warnings, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The one of `known` that somebody who wrote `written` most likely meant.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // The distance takes room and time for each pair of characters.
    const LONG: usize = 100;
    if written.len() > LONG {
        return None;
    }
    let written = written.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&written, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_nothing_far() {
        let known = ["localpath", "remote", "users", "start"];
        assert_eq!(nearest("localPaht", known), Some("localpath"));
        assert_eq!(nearest("user", known), Some("users"));
        assert_eq!(nearest("xyz", known), None);
    }
}
