//! [`Report`]: what a check found, as people and as programs read it.

use crate::config::{Mistake, Severity};
use crate::ctl::table::padded;
use crate::human::safe;
use anstyle::{AnsiColor, Style};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use tr::tr;
use unicode_width::UnicodeWidthStr;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// It works, and could fail or work better.
    Warning,
    /// It does not work.
    Error,
}

impl Level {
    /// As programs read it.
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    fn shown(self) -> String {
        match self {
            Self::Good => tr!("ok"),
            Self::Note => tr!("note"),
            Self::Warning => tr!("warning"),
            Self::Error => tr!("error"),
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default().bold(),
            Self::Note => Style::new(),
            Self::Warning => AnsiColor::Yellow.on_default().bold(),
            Self::Error => AnsiColor::Red.on_default().bold(),
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    level: Level,
    /// What it is about: a root, a remote, a limit.
    about: String,
    text: String,
    /// What to do.
    next: Option<String>,
}

impl Finding {
    /// Without a remedy.
    pub fn new(level: Level, about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level, about: about.into(), text: text.into(), next: None }
    }

    /// With one.
    pub fn next(self, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..self }
    }

    /// A mistake in the file, at its place.
    pub fn of_mistake(mistake: &Mistake) -> Self {
        let level = match mistake.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        };
        let about = match &mistake.place {
            Some(place) => tr!("line {line}, column {column}", line = place.line, column = place.column),
            None => tr!("the file"),
        };
        let help = mistake.help.clone().filter(|help| !help.is_empty());
        Self { level, about, text: mistake.message.clone(), next: help }
    }
}

/// What was found out about one config.
#[derive(Debug)]
pub struct Report {
    file: PathBuf,
    findings: Vec<Finding>,
    /// What to type when all was read.
    next: String,
}

impl Report {
    /// Nothing was found yet.
    pub fn new(file: &Path) -> Self {
        Self { file: file.to_path_buf(), findings: Vec::new(), next: String::new() }
    }

    /// Ends it: with `correct`, where something has to be corrected first, else with `start`.
    pub fn end(mut self, correct: String, start: String) -> Self {
        self.next = if self.worst() == Level::Error { correct } else { start };
        self
    }

    /// What to type when all was read.
    pub fn next(&self) -> &str {
        &self.next
    }

    /// One more.
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The finding.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Whether nothing was found yet.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty()
    }

    /// The worst of it.
    pub fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good)
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "level": finding.level.word(),
                "about": finding.about,
                "text": finding.text,
                "next": finding.next,
            })
        });
        json!({
            "config": self.file.to_string_lossy(),
            "level": self.worst().word(),
            "findings": findings.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        writeln!(f, "{bold}{}{bold:#}", safe(&self.file.to_string_lossy()))?;
        let width = self.findings.iter().map(|finding| finding.about.width()).max().unwrap_or(0).min(40);
        for Finding { level, about, text, next } in &self.findings {
            let style = level.style();
            let (level, about) = (padded(&level.shown(), 7), padded(&safe(about), width));
            writeln!(f, "  {style}{level}{style:#} {about}  {}", safe(text))?;
            if let Some(next) = next {
                writeln!(f, "  {:<7} {:<width$}  → {}", "", "", safe(next))?;
            }
        }
        Ok(())
    }
}
