//! [`Reading`]: a config file while it is read: its text, and the mistakes found so far. Also the typed values that
//! attributes hold, each refused with what would be right.
//!
//! In an element that is switched off (`start="false"`) a wrong value is only a warning: nothing depends on it.

use super::allowance::{Allowance, Spent};
use super::mistake::{Mistake, Severity, nearest};
use super::source::Source;
use super::tree::{Attribute, Element};
use crate::printable;
use std::ops::{Range, RangeInclusive};
use std::path::{Component, Path, PathBuf};

/// A file with more mistakes is no config; to go on would only take time.
const LIMIT: usize = 500;

/// A config file while it is read.
pub(super) struct Reading<'a> {
    source: &'a Source,
    found: Vec<(usize, Mistake)>,
    expressions: Allowance,
    credentials: Option<PathBuf>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, found: Vec::new(), expressions: Allowance::new(), credentials: None }
    }

    /// The same, where credentials are files of that directory.
    pub(super) fn with_credentials(self, directory: Option<PathBuf>) -> Self {
        Self { credentials: directory, ..self }
    }

    /// The directory of credentials, if there is one.
    pub(super) fn credentials(&self) -> Option<&Path> {
        self.credentials.as_deref()
    }

    pub(super) fn text(&self) -> &'a str {
        &self.source.text
    }

    pub(super) fn error(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.complain(Severity::Error, span, message, help);
    }

    pub(super) fn warn(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        self.complain(Severity::Warning, span, message, help);
    }

    /// Notes a mistake; an empty `help` is none.
    pub(super) fn complain(
        &mut self,
        severity: Severity,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        if self.is_full() {
            return;
        }
        let help = one_line(&help.into());
        let mistake = Mistake {
            severity,
            file: self.source.file.clone(),
            place: Some(self.source.place(&span)),
            elsewhere: false,
            message: one_line(&message.into()),
            help: (!help.is_empty()).then_some(help),
        };
        self.found.push((span.start, mistake));
    }

    /// Whether `expression` may be compiled: none may once all those before it were too much.
    pub(super) fn affords(&mut self, expression: &str, span: &Range<usize>) -> bool {
        let taken = self.expressions.take(expression);
        if taken == Err(Spent::Now) {
            let help = "name directories, or put several into one as (a|b|c); repetitions such as {90} make one large";
            self.error(span.clone(), "the expressions up to here are too many, or too large once compiled", help);
        }
        taken.is_ok()
    }

    /// An error in a file that this one names.
    pub(super) fn error_elsewhere(&mut self, span: Range<usize>, message: impl Into<String>, help: impl Into<String>) {
        let before = self.found.len();
        self.error(span, message, help);
        self.found[before..].iter_mut().for_each(|(_, mistake)| mistake.elsewhere = true);
    }

    /// Whether so much was found that nothing more is noted.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= LIMIT
    }

    /// Whether anything was found so far that is more than a warning.
    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(|(_, mistake)| mistake.severity == Severity::Error)
    }

    /// All mistakes, in the file's order.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        if self.is_full() {
            let (severity, file) = (Severity::Error, self.source.file.clone());
            let message = format!("{LIMIT} mistakes were found, and reading ended there");
            let help = Some("is this a config of sersync?".to_owned());
            self.found.push((usize::MAX, Mistake { severity, file, place: None, elsewhere: false, message, help }));
        }
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, mistake)| mistake).collect()
    }

    /// Says that `element` lacks an attribute, unless its tag is broken and was told of.
    pub(super) fn lacks(&mut self, element: &Element, attribute: &str, help: &str) {
        if !element.broken {
            let message = format!("<{}> lacks `{attribute}`", element.name);
            self.complain(severity_in(element), element.name_span(), message, help);
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, element: Option<&Element>, name: &str, default: bool) -> bool {
        self.one_of(element, name, &[("true", true), ("false", false)]).unwrap_or(default)
    }

    /// One of the words of `choices`, without case.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        element: Option<&Element>,
        name: &str,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let (element, attribute) = written(element, name)?;
        let value = attribute.value.trim();
        if let Some((_, choice)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)) {
            return Some(*choice);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let help = match meant(value, &words) {
            Some(word) => format!("did you mean \"{word}\"?"),
            None => format!("write one of: {}", words.join(", ")),
        };
        self.refuse(element, attribute, format!("`{name}` is one of {}, not \"{value}\"", words.join(", ")), help);
        None
    }

    /// A whole number in `range`; `unit` completes "a number of …".
    pub(super) fn number(
        &mut self,
        element: Option<&Element>,
        name: &str,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> Option<u64> {
        let (element, attribute) = written(element, name)?;
        let value = attribute.value.trim();
        match value.parse::<u64>() {
            Ok(number) if range.contains(&number) => Some(number),
            parsed => {
                let what = if parsed.is_ok() { "is out of range" } else { "is no whole number" };
                let help = format!("`{name}` is a number of {unit} from {} to {}", range.start(), range.end());
                self.refuse(element, attribute, format!("\"{value}\" {what}"), help);
                None
            }
        }
    }

    /// A TCP port.
    pub(super) fn port(&mut self, element: Option<&Element>, name: &str) -> Option<u16> {
        let (element, attribute) = written(element, name)?;
        let value = attribute.value.trim();
        match value.parse::<u16>() {
            Ok(port) if port > 0 => Some(port),
            _ => {
                self.refuse(
                    element,
                    attribute,
                    format!("\"{value}\" is no port"),
                    "a port is a number from 1 to 65535",
                );
                None
            }
        }
    }

    /// A text that is not empty, without blanks at its ends.
    pub(super) fn text_of<'e>(
        &mut self,
        element: &'e Element,
        name: &str,
        help: &str,
    ) -> Option<(&'e str, Range<usize>)> {
        let Some(attribute) = element.attribute(name) else {
            self.lacks(element, name, help);
            return None;
        };
        let value = attribute.value.trim();
        if value.is_empty() {
            self.refuse(element, attribute, format!("`{name}` is empty"), help);
            return None;
        }
        Some((value, attribute.value_span.clone()))
    }

    /// An absolute path; slashes at the end and double ones go.
    pub(super) fn absolute_path(&mut self, element: &Element, name: &str, help: &str) -> Option<PathBuf> {
        let (value, span) = self.text_of(element, name, help)?;
        if !value.starts_with('/') {
            let message = format!("`{name}` is a relative path: \"{value}\"");
            self.complain(severity_in(element), span, message, "write the whole path, from `/` on");
            return None;
        }
        if value.len() > LONGEST_PATH {
            let message = format!("`{name}` is a path of {} bytes: Linux takes at most {LONGEST_PATH}", value.len());
            self.complain(severity_in(element), span, message, "name a directory by a shorter path");
            return None;
        }
        Some(tidy(Path::new(value)))
    }

    /// Refuses an attribute's value.
    pub(super) fn refuse(
        &mut self,
        element: &Element,
        attribute: &Attribute,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.complain(severity_in(element), attribute.value_span.clone(), message, help);
    }
}

/// Maximum length of a path that the kernel takes, in bytes: `PATH_MAX` counts the NUL at the end.
const LONGEST_PATH: usize = 4_095;

/// What of a sentence a line of a terminal shows: the file's own words in it may be megabytes, or move the cursor.
fn one_line(text: &str) -> String {
    const LONG: usize = 500;
    let mut characters = text.chars().map(printable::replaced);
    let mut line: String = characters.by_ref().take(LONG).collect();
    if characters.next().is_some() {
        line.push('…');
    }
    line
}

/// How grave a wrong value in `element` is.
pub(super) fn severity_in(element: &Element) -> Severity {
    let off = element.attribute("start").is_some_and(|start| start.value.trim().eq_ignore_ascii_case("false"));
    if off { Severity::Warning } else { Severity::Error }
}

/// `path` without double slashes, `.` components and slashes at its end.
pub(super) fn tidy(path: &Path) -> PathBuf {
    path.components().filter(|component| *component != Component::CurDir).collect()
}

fn written<'e>(element: Option<&'e Element>, name: &str) -> Option<(&'e Element, &'e Attribute)> {
    let element = element?;
    Some((element, element.attribute(name)?))
}

/// The word that was meant by `value`: other programs' words for yes and no count.
fn meant<'w>(value: &str, words: &[&'w str]) -> Option<&'w str> {
    let lower = value.to_lowercase();
    let usual = match lower.as_str() {
        "yes" | "y" | "on" | "1" | "enable" | "enabled" => "true",
        "no" | "n" | "off" | "0" | "disable" | "disabled" => "false",
        other => other,
    };
    nearest(usual, words.iter().copied())
}
