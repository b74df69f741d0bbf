//! [`Outcome`]: what an import did and could not do, for people and for programs.

use super::install::{Draft, Written};
use crate::config::Severity;
use crate::ctl::next::{Scope, quoted};
use crate::ctl::words;
use crate::human::safe;
use anstyle::Style;
use serde_json::{Value, json};
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::path::PathBuf;
use tr::tr;
use unicode_width::UnicodeWidthStr;

/// Something to know of one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The line that it is about; 0 for none.
    pub line: usize,
    /// The file, where the remark belongs to no draft.
    pub file: Option<PathBuf>,
    /// It could not be taken over.
    pub lost: bool,
    /// What is different, or why.
    pub text: String,
}

impl Remark {
    /// It is taken over, and is not quite the same.
    pub fn note(line: usize, text: impl Into<String>) -> Self {
        Self { line, file: None, lost: false, text: text.into() }
    }

    /// It is not taken over.
    pub fn lost(line: usize, text: impl Into<String>) -> Self {
        Self { line, file: None, lost: true, text: text.into() }
    }

    /// The same, with its file.
    pub fn of(self, file: &std::path::Path) -> Self {
        Self { file: Some(file.to_path_buf()), ..self }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), 0) => write!(f, "{}: ", safe(&file.to_string_lossy()))?,
            (Some(file), line) => write!(f, "{}:{line}: ", safe(&file.to_string_lossy()))?,
            (None, 0) => {}
            (None, line) => f.write_str(&tr!("line {line}: ", line))?,
        }
        if self.lost {
            f.write_str(&tr!("not taken over: "))?;
        }
        f.write_str(&safe(&self.text))
    }
}

/// A line that starts sersync 2.5.4, and what stands for it.
#[derive(Debug)]
pub struct Line {
    /// Its file.
    pub file: PathBuf,
    /// Counted from 1.
    pub number: usize,
    /// As written.
    pub text: String,
    /// Where the drafts are that were made of its config, among all drafts; empty: its config was not imported.
    pub drafts: Vec<usize>,
    /// What to do where there is none.
    pub otherwise: String,
}

/// A draft, and what became of it.
#[derive(Debug)]
pub struct Settled {
    /// It.
    pub draft: Draft,
    /// Where it is to be.
    pub target: PathBuf,
    /// What became of it.
    pub written: Written,
}

impl Settled {
    fn is_there(&self) -> bool {
        matches!(self.written, Written::New(_) | Written::Same | Written::Shown)
    }

    fn fate(&self) -> String {
        match &self.written {
            Written::New(mode) => tr!("written, mode {mode}", mode = format_args!("{mode:04o}")),
            Written::Same => tr!("is there already"),
            Written::Shown => tr!("not written: --dry-run"),
            Written::Occupied => tr!("NOT written: another file is there; compare them, and repeat with --force"),
            Written::Refused => tr!("NOT written: mend it, then import it again"),
            Written::Failed(error) => tr!("NOT written: {error}", error),
        }
    }
}

/// What an import did.
#[derive(Debug)]
pub struct Outcome {
    scope: Scope,
    at_home: bool,
    dry_run: bool,
    settled: Vec<Settled>,
    /// What belongs to no draft.
    pub remarks: Vec<Remark>,
    /// Lines that start sersync 2.5.4.
    pub lines: Vec<Line>,
}

impl Outcome {
    /// Nothing yet. `at_home`: the configs go where the units look for them.
    pub fn new(scope: Scope, at_home: bool, dry_run: bool) -> Self {
        Self { scope, at_home, dry_run, settled: Vec::new(), remarks: Vec::new(), lines: Vec::new() }
    }

    /// One more.
    pub fn add(&mut self, settled: Settled) {
        self.settled.push(settled);
    }

    /// Whether all was taken over.
    pub fn is_whole(&self) -> bool {
        let mut remarks = self.settled.iter().flat_map(|one| &one.draft.remarks).chain(&self.remarks);
        !self.settled.is_empty() && self.settled.iter().all(Settled::is_there) && !remarks.any(|remark| remark.lost)
    }

    /// Tells it all. With `--dry-run` the configs alone go to standard output.
    pub fn print(&self, json: bool) -> io::Result<()> {
        if json {
            return writeln!(anstream::stdout(), "{:#}", self.to_json());
        }
        let text = self.to_string();
        if !self.dry_run {
            return write!(anstream::stdout(), "{text}");
        }
        let mut out = io::stdout();
        for one in self.settled.iter().filter(|one| one.is_there()) {
            out.write_all(&one.draft.bytes)?;
            if !one.draft.bytes.ends_with(b"\n") {
                out.write_all(b"\n")?;
            }
        }
        out.flush()?;
        write!(anstream::stderr(), "{text}")
    }

    fn to_json(&self) -> Value {
        let remark = |remark: &Remark| {
            let file = remark.file.as_ref().map(|file| file.to_string_lossy());
            let line = (remark.line > 0).then_some(remark.line);
            json!({ "file": file, "line": line, "lost": remark.lost, "text": remark.text })
        };
        let configs = self.settled.iter().map(|one| {
            let mistakes = one.draft.mistakes.iter().map(|mistake| {
                let place = mistake.place.as_ref();
                json!({
                    "severity": mistake.severity.to_string(),
                    "line": place.map(|place| place.line),
                    "column": place.map(|place| place.column),
                    "text": mistake.message,
                    "help": mistake.help,
                })
            });
            json!({
                "instance": one.draft.name,
                "from": one.draft.origin.to_string_lossy(),
                "config": one.target.to_string_lossy(),
                "there": one.is_there() && !self.dry_run,
                "text": self.dry_run.then(|| String::from_utf8_lossy(&one.draft.bytes)),
                "mistakes": mistakes.collect::<Vec<_>>(),
                "remarks": one.draft.remarks.iter().map(remark).collect::<Vec<_>>(),
            })
        });
        let lines = self.lines.iter().map(|line| {
            json!({
                "file": line.file.to_string_lossy(),
                "line": line.number,
                "text": line.text,
                "instead": self.instead_of(line),
            })
        });
        json!({
            "configs": configs.collect::<Vec<_>>(),
            "remarks": self.remarks.iter().map(remark).collect::<Vec<_>>(),
            "lines": lines.collect::<Vec<_>>(),
            "next": self.next(),
        })
    }

    fn instead_of(&self, line: &Line) -> String {
        let all = line.drafts.iter().map(|at| &self.settled[*at]);
        let names: Vec<&str> = all.filter(|one| one.is_there()).map(|one| one.draft.name.as_str()).collect();
        match (names.as_slice(), line.drafts.as_slice()) {
            ([], []) => line.otherwise.clone(),
            ([], _) => tr!("nothing before its config is there"),
            (names, _) => self.enable(names),
        }
    }

    fn enable(&self, names: &[&str]) -> String {
        let units: Vec<String> = names.iter().map(|name| quoted(&format!("sersync@{name}"))).collect();
        format!("systemctl{} enable --now {}", self.scope.flag(), units.join(" "))
    }

    /// What to type next.
    fn next(&self) -> Vec<String> {
        let there: Vec<&Settled> = self.settled.iter().filter(|one| one.is_there()).collect();
        let mut next = Vec::new();
        if self.dry_run {
            next.push(tr!("the same without --dry-run"));
        }
        if there.is_empty() {
            return Vec::new();
        }
        let elsewhere = there.iter().flat_map(|one| &one.draft.mistakes).filter(|mistake| mistake.elsewhere);
        for help in elsewhere.filter_map(|mistake| mistake.help.as_ref()) {
            if help.starts_with("chmod ") && !next.contains(help) {
                next.push(help.clone());
            }
        }
        let mut check = format!("sersyncctl{} check", self.scope.flag());
        for one in &there {
            let given = match self.at_home {
                true => one.draft.name.clone(),
                false => one.target.to_string_lossy().into_owned(),
            };
            // Writing to a string cannot fail.
            let _ = write!(check, " {}", quoted(&given));
        }
        next.push(check);
        if !self.at_home {
            let home = match self.scope {
                Scope::System => "/etc/sersync",
                Scope::User => "~/.config/sersync",
            };
            next.push(tr!("put them into {directory}, where the units look for them", directory = home));
        }
        if !self.lines.is_empty() {
            next.push(tr!("remove the old start lines, and stop what they started: killall sersync2"));
        }
        let names: Vec<&str> = there.iter().map(|one| one.draft.name.as_str()).collect();
        next.push(self.enable(&names));
        next
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bold = Style::new().bold();
        for one in &self.settled {
            let from = safe(&one.draft.origin.to_string_lossy());
            writeln!(f, "{bold}{from} → {}{bold:#}: {}", safe(&one.target.to_string_lossy()), one.fate())?;
            for mistake in &one.draft.mistakes {
                let is_grave = mistake.severity == Severity::Error && matches!(one.written, Written::Refused);
                let style = if is_grave { bold } else { Style::new() };
                for line in mistake.to_string().lines() {
                    writeln!(f, "  {style}{line}{style:#}")?;
                }
            }
            for remark in &one.draft.remarks {
                writeln!(f, "  - {remark}")?;
            }
        }
        for remark in &self.remarks {
            writeln!(f, "{remark}")?;
        }
        for line in &self.lines {
            let place = format!("{}:{}", safe(&line.file.to_string_lossy()), line.number);
            let instead = tr!("in its place: {command}", command = self.instead_of(line));
            writeln!(f, "{place}: {}\n  {instead}", safe(line.text.trim()))?;
        }
        if self.settled.is_empty() {
            writeln!(f, "{}", tr!("there is nothing to import"))?;
        }
        for (index, step) in self.next().iter().enumerate() {
            let step = safe(step);
            match index {
                0 => writeln!(f, "{}", words::next(&step))?,
                _ => writeln!(f, "{:1$}{step}", "", words::next("").width())?,
            }
        }
        Ok(())
    }
}
