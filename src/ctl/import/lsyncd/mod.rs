//! Configs of lsyncd: each `sync{…}` becomes a config, those of one source that differ in nothing but their target
//! become one with several remotes.
//!
//! Where an exclusion or a setting of deletions cannot be kept, the whole `sync` is left out: without it more would be
//! sent, or deleted. docs/from-lsyncd.md lists every option; tests hold that table and this file together.

mod options;

use super::confxml::Sketch;
use super::install::{Draft, Harvest, directory_name};
use super::lua::{self, Field, Item, Value};
use super::rsync_words::{self, reason_against};
use super::said::Remark;
use super::{ImportError, bytes_of};
use crate::config::{self, Deletions, Destination};
use crate::filter::Filter;
use options::{FLAGS, GUARD_OPTIONS, GUARDS, IN_ARCHIVE, LOST, NEEDLESS, NEEDLESS_FLAGS, OTHER_RSYNC, VALUES};
use std::path::{Path, PathBuf};
use tr::tr;

/// Reads a config of lsyncd.
pub fn read(file: &Path) -> Result<Harvest, ImportError> {
    let bytes = bytes_of(file)?;
    let Ok(text) = String::from_utf8(bytes) else {
        let remark = Remark::lost(0, tr!("the file is not UTF-8: save it as UTF-8")).of(file);
        return Ok(Harvest { remarks: vec![remark], ..Harvest::default() });
    };
    let items = lua::read(&text);
    let mut harvest = Harvest::default();
    let mut general = Sketch::new(PathBuf::new());
    // Settings hold for every sync, wherever they stand.
    for item in &items {
        if let Item::Settings(fields) = item {
            settings(fields, &mut general, &mut harvest.remarks);
        }
    }
    let mut made: Vec<Made> = Vec::new();
    for item in items {
        match item {
            Item::Settings(_) => {}
            Item::Skipped(line, why) => harvest.remarks.push(Remark::lost(line, why)),
            Item::Sync(line, fields) => {
                let mut sync = Sync { sketch: general.clone(), remarks: Vec::new(), is_safe: true };
                let is_made = sync.read(line, &fields);
                if !(is_made && sync.is_safe) {
                    let why = match is_made {
                        true => tr!("the sync is left out: without that more would be sent, or deleted"),
                        false => tr!("the sync is left out"),
                    };
                    sync.remarks.push(Remark::lost(line, why));
                    harvest.remarks.append(&mut sync.remarks);
                    continue;
                }
                match made.iter_mut().find_map(|made| made.sketch.merge(&sync.sketch).then_some(made)) {
                    Some(known) => {
                        known.lines.push(line);
                        known.remarks.append(&mut sync.remarks);
                    }
                    None => made.push(Made { lines: vec![line], sketch: sync.sketch, remarks: sync.remarks }),
                }
            }
        }
    }
    harvest.remarks.iter_mut().for_each(|remark| remark.file = Some(file.to_path_buf()));
    harvest.drafts = made.into_iter().map(|made| made.draft(file)).collect();
    Ok(harvest)
}

/// A config, and the syncs that it does.
struct Made {
    lines: Vec<usize>,
    sketch: Sketch,
    remarks: Vec<Remark>,
}

impl Made {
    fn draft(mut self, file: &Path) -> Draft {
        self.remarks.dedup();
        let lines = self.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        let text = self.sketch.text(&format!("{name}, line {lines}"));
        let origin = PathBuf::from(format!("{}:{lines}", file.display()));
        Draft::of_text(directory_name(&self.sketch.watch), origin, text, self.remarks)
    }
}

fn needless(name: &str) -> Option<&'static str> {
    NEEDLESS.iter().find(|(known, _)| *known == name).map(|(_, instead)| *instead)
}

fn settings(fields: &[Field], general: &mut Sketch, remarks: &mut Vec<Remark>) {
    for Field { line, name, value } in fields {
        let Some(name) = name.as_deref() else {
            remarks.push(Remark::lost(*line, tr!("settings has {value} without a name: write NAME = VALUE", value)));
            continue;
        };
        match (name, value) {
            ("maxProcesses", Value::Number(number)) => match whole(*number, 1.0, 1024.0) {
                Some(number) => general.workers = Some(number),
                None => remarks.push(Remark::lost(*line, tr!("maxProcesses = {value}: it is 1 to 1024 here", value))),
            },
            ("inotifyMode", Value::Text(mode)) => match mode.as_str() {
                "CloseWrite" => {}
                "Modify" => (general.events.modify, general.events.close_write) = (true, false),
                "CloseWrite or Modify" => general.events.modify = true,
                other => remarks.push(Remark::lost(*line, tr!("inotifyMode = \"{other}\" is not known", other))),
            },
            ("maxProcesses" | "inotifyMode", value) => {
                remarks.push(Remark::lost(*line, tr!("{name} is {value}, no constant that can be used", name, value)));
            }
            _ => remarks.push(match needless(name) {
                Some(instead) => {
                    Remark::note(*line, tr!("{name} is not needed: {instead}", name, instead = tr!(instead)))
                }
                None => unknown(*line, name, "settings"),
            }),
        }
    }
}

fn unknown(line: usize, name: &str, place: &str) -> Remark {
    match LOST.iter().find(|(known, _)| *known == name) {
        Some((_, why)) => Remark::lost(line, format!("{name}: {}", tr!(why))),
        None if name.starts_with("on") => {
            let why = LOST[0].1;
            Remark::lost(line, format!("{name}: {}", tr!(why)))
        }
        None => Remark::lost(line, tr!("{name} is no option of {place} that is known here", name, place)),
    }
}

fn whole(number: f64, least: f64, most: f64) -> Option<u64> {
    // A whole number in a small range, so the conversion is exact.
    (number.fract() == 0.0 && (least..=most).contains(&number)).then_some(number as u64)
}

/// One `sync{…}` while it is read.
struct Sync {
    sketch: Sketch,
    remarks: Vec<Remark>,
    /// No exclusion and no setting of deletions was lost.
    is_safe: bool,
}

impl Sync {
    fn lost(&mut self, line: usize, why: impl Into<String>) {
        self.remarks.push(Remark::lost(line, why));
    }

    fn note(&mut self, line: usize, what: impl Into<String>) {
        self.remarks.push(Remark::note(line, what));
    }

    /// Whether a config comes of it.
    fn read(&mut self, line: usize, fields: &[Field]) -> bool {
        let kind = fields.iter().find(|field| field.name.is_none());
        let kind = match kind.map(|field| &field.value) {
            Some(Value::Name(name)) if name.starts_with("default.") => &name["default.".len()..],
            Some(other) => {
                self.lost(line, tr!("{other} in place of default.rsync, default.rsyncssh or default.direct", other));
                return false;
            }
            None => "",
        };
        if !matches!(kind, "rsync" | "rsyncssh" | "direct") {
            self.lost(line, tr!("it is none of default.rsync, default.rsyncssh and default.direct"));
            return false;
        }
        let Some(watch) = self.text(line, fields, "source") else { return false };
        if !watch.starts_with('/') {
            self.lost(line, tr!("source = \"{watch}\" is a relative path: write it from / on", watch));
            return false;
        }
        self.sketch.watch = Path::new(&watch).components().collect();
        let target = match kind {
            "rsyncssh" => {
                let (host, directory) = (self.text(line, fields, "host"), self.text(line, fields, "targetdir"));
                host.zip(directory).map(|(host, directory)| format!("{host}:{directory}"))
            }
            _ => self.text(line, fields, "target"),
        };
        let Some(target) = target else { return false };
        if let Some(template) = template_in(&target) {
            let target = format_args!("{target:?}");
            self.lost(line, tr!("target {target} contains the template {template}: write its value", target, template));
            return false;
        }
        if kind != "rsyncssh" && !target.starts_with('/') && !target.contains(':') {
            let target = format_args!("{target:?}");
            self.lost(line, tr!("target {target} is a relative path: write /DIR, HOST::MODULE or HOST:/DIR", target));
            return false;
        }
        match config::destination(&target) {
            Ok(destination) => self.sketch.remotes.push(destination),
            Err(error) => {
                self.lost(line, tr!("the target {target}: {error}", target = format_args!("{target:?}"), error));
                return false;
            }
        }
        // What lsyncd gives rsync without being asked.
        let mut params = vec!["-l".to_owned(), "-t".to_owned()];
        if kind == "direct" {
            // It copies with `cp -p`, after an rsync that keeps all that it can.
            params = vec!["-a".to_owned()];
        }
        self.sketch.params = params;
        for field in fields {
            if let Some(name) = field.name.as_deref() {
                self.option(kind, name, field);
            }
        }
        self.sketch.params = bundled(&self.sketch.params);
        true
    }

    /// A text that must be there.
    fn text(&mut self, line: usize, fields: &[Field], name: &str) -> Option<String> {
        let found = fields.iter().find(|field| field.name.as_deref() == Some(name));
        match found.map(|field| (&field.value, field.line)) {
            Some((Value::Text(text), _)) if !text.is_empty() => return Some(text.clone()),
            Some((value, line)) => self.lost(line, tr!("{name} is {value}: expected a text in quotes", name, value)),
            None => self.lost(line, tr!("{name} is missing", name)),
        }
        None
    }

    fn option(&mut self, kind: &str, name: &str, field: &Field) {
        let Field { line, value, .. } = field;
        let before = self.remarks.iter().filter(|remark| remark.lost).count();
        match (name, value) {
            ("source", _) => {}
            ("target", _) if kind != "rsyncssh" => {}
            ("host" | "targetdir", _) if kind == "rsyncssh" => {}
            ("delay", Value::Number(0.0)) => {}
            ("delay", Value::Number(seconds)) if (0.0..=3600.0).contains(seconds) => {
                // Within an hour, so the conversion is exact to the millisecond.
                self.sketch.gather = Some((seconds * 1000.0).round() as u64);
            }
            ("maxProcesses", Value::Number(number)) => match whole(*number, 1.0, 64.0) {
                Some(number) => self.sketch.streams = Some(number),
                None => self.lost(*line, tr!("maxProcesses = {value}: it is 1 to 64 for one remote here", value)),
            },
            ("delete", Value::Bool(deletes)) => self.sketch.events.delete = *deletes,
            ("delete", Value::Text(when)) if when == "startup" => self.sketch.deletions = Deletions::FullSyncs,
            ("delete", Value::Text(when)) if when == "running" => self.sketch.deletions = Deletions::Live,
            ("init", Value::Bool(init)) => self.sketch.never_at_start = !init,
            ("exclude", Value::Text(pattern)) => self.exclude(*line, pattern),
            ("exclude", Value::Table(patterns)) => {
                for pattern in patterns {
                    match &pattern.value {
                        Value::Text(text) => self.exclude(pattern.line, text),
                        other => self.lost(pattern.line, tr!("{other} in exclude: expected a text in quotes", other)),
                    }
                }
            }
            ("excludeFrom", Value::Text(file)) if file.starts_with('/') => {
                self.sketch.pattern_files.push(file.clone());
            }
            ("excludeFrom", Value::Text(file)) => {
                self.lost(*line, tr!("excludeFrom = \"{file}\" is a relative path: write it from / on", file));
            }
            ("rsync", Value::Table(options)) => options.iter().for_each(|option| self.rsync_option(option)),
            ("rsyncOpts" | "rsyncOps", Value::Text(words)) => match shlex::split(words) {
                Some(words) => self.extra(*line, &words),
                None => self.lost(*line, tr!("{name}: a quote is not closed", name)),
            },
            ("rsyncOpts" | "rsyncOps", Value::Table(words)) => self.extra_of(*line, words),
            ("ssh", Value::Table(options)) => options.iter().for_each(|option| self.ssh_option(option)),
            (_, Value::Nil) => {}
            (
                "delay" | "maxProcesses" | "delete" | "init" | "exclude" | "excludeFrom" | "rsync" | "rsyncOpts"
                | "rsyncOps" | "ssh",
                value,
            ) => {
                self.lost(*line, tr!("{name} is {value}, no constant that can be used", name, value));
            }
            _ => self.remarks.push(match needless(name) {
                Some(instead) => {
                    Remark::note(*line, tr!("{name} is not needed: {instead}", name, instead = tr!(instead)))
                }
                None => unknown(*line, name, "sync"),
            }),
        }
        if GUARDS.contains(&name) && self.remarks.iter().filter(|remark| remark.lost).count() > before {
            self.is_safe = false;
        }
    }

    fn exclude(&mut self, line: usize, pattern: &str) {
        match Filter::none().and_excluding([pattern]) {
            Ok(_) => self.sketch.patterns.push(pattern.to_owned()),
            Err(error) => self.lost(line, format!("exclude \"{pattern}\": {error}")),
        }
    }

    fn rsync_option(&mut self, field: &Field) {
        let Field { line, name, value } = field;
        let Some(name) = name.as_deref() else {
            return self.lost(
                *line,
                tr!("rsync has {value} without a name: write NAME = VALUE, such as archive = true", value),
            );
        };
        if let Some((_, word)) = FLAGS.iter().find(|(known, _)| *known == name) {
            return match value {
                // As in Lua, any other value is true; `Name` and the like are not known here.
                Value::Bool(true) | Value::Number(_) | Value::Text(_) => self.sketch.params.push((*word).to_owned()),
                Value::Bool(false) | Value::Nil => {
                    self.sketch.params.retain(|known| known != word);
                    if IN_ARCHIVE.contains(&name) {
                        self.sketch.params.push(format!("--no-{name}"));
                    }
                }
                other => self.lost(*line, tr!("{name} is {other}, neither true nor false", name, other)),
            };
        }
        if let Some((_, word)) = VALUES.iter().find(|(known, _)| *known == name) {
            return match value {
                Value::Text(value) => self.sketch.params.push(format!("{word}={value}")),
                Value::Number(value) => self.sketch.params.push(format!("{word}={value}")),
                other => self.lost(*line, tr!("{name} is {other}: expected a text in quotes or a number", name, other)),
            };
        }
        let hyphened = name.replace('_', "-");
        match (name, value) {
            ("_extra", Value::Table(words)) => self.extra_of(*line, words),
            ("password_file", Value::Text(file)) => self.sketch.password_file = Some(file.clone()),
            ("timeout", Value::Number(seconds)) if whole(*seconds, 1.0, 604_800.0).is_some() => {
                self.sketch.timeout = whole(*seconds, 1.0, 604_800.0);
            }
            ("timeout", Value::Number(0.0)) => {}
            ("rsh", Value::Text(command)) => match rsync_words::ssh(command) {
                Ok(ssh) => self.sketch.ssh.take_in(ssh),
                Err(why) => self.lost(*line, format!("rsh = \"{command}\": {why}")),
            },
            ("update", Value::Bool(update)) => self.sketch.keep_newer = *update,
            ("update", Value::Number(_) | Value::Text(_)) => self.sketch.keep_newer = true,
            ("binary", Value::Text(binary)) if ["rsync", "/usr/bin/rsync", "/bin/rsync"].contains(&binary.as_str()) => {
            }
            ("binary", _) => self.lost(*line, tr!("binary: the rsync that PATH finds is run; a drop-in may set PATH")),
            (_, Value::Bool(false) | Value::Nil) if OTHER_RSYNC.contains(&name) => {}
            (_, Value::Bool(_)) if NEEDLESS_FLAGS.contains(&name) => {
                self.note(*line, tr!("{name} is not needed: each run decides it by itself", name));
            }
            _ => match reason_against(&hyphened) {
                Some(why) => {
                    self.is_safe &= !GUARD_OPTIONS.contains(&hyphened.as_str());
                    self.lost(*line, format!("{name}: {}", tr!(why)));
                }
                None if OTHER_RSYNC.contains(&name) || NEEDLESS_FLAGS.contains(&name) => {
                    self.lost(*line, tr!("{name} is {value}, no constant that can be used", name, value));
                }
                None => self.lost(*line, tr!("{name} is no option of rsync = {{…}} that is known here", name)),
            },
        }
    }

    fn extra_of(&mut self, line: usize, words: &[Field]) {
        let mut texts = Vec::new();
        for word in words {
            match &word.value {
                Value::Text(text) => texts.push(text.clone()),
                other => self.lost(word.line, tr!("{other} in rsync's options: expected a text in quotes", other)),
            }
        }
        self.extra(line, &texts);
    }

    /// Words for rsync's command line.
    fn extra(&mut self, line: usize, words: &[String]) {
        let taken = rsync_words::take(words, &mut self.sketch);
        for lost in taken.lost {
            let option = lost.split_once(':').map_or(lost.as_str(), |(option, _)| option);
            self.is_safe &= !GUARD_OPTIONS.contains(&option.trim_start_matches('-'));
            self.lost(line, lost);
        }
        for place in taken.places {
            self.lost(line, tr!("{word} is no option of rsync", word = format_args!("{place:?}")));
        }
        if taken.deletes {
            self.note(line, tr!("--delete is not needed: `delete` decides"));
        }
        if let (Some(given), Some(Destination::Daemon { port, .. })) = (taken.port, self.sketch.remotes.first_mut()) {
            *port = Some(given);
        }
    }

    fn ssh_option(&mut self, field: &Field) {
        let Field { line, name, value } = field;
        match (name.as_deref(), value) {
            (Some("port"), Value::Number(port)) if whole(*port, 1.0, 65_535.0).is_some() => {
                self.sketch.ssh.port = whole(*port, 1.0, 65_535.0).and_then(|port| u16::try_from(port).ok());
            }
            (Some("identityFile"), Value::Text(file)) => self.sketch.ssh.identity = Some(file.clone()),
            (Some("options"), Value::Table(options)) => {
                for option in options {
                    match (option.name.as_deref(), &option.value) {
                        (Some(key), Value::Text(value)) => self.ssh_word(format!("{key}={value}")),
                        (Some(key), Value::Number(value)) => self.ssh_word(format!("{key}={value}")),
                        (_, other) => self.lost(option.line, tr!("{other} in the options of ssh", other)),
                    }
                }
            }
            (Some("_extra"), Value::Table(words)) => {
                for word in words {
                    match &word.value {
                        Value::Text(text) => self.sketch.ssh.options.push(text.clone()),
                        other => {
                            self.lost(word.line, tr!("{other} in ssh's options: expected a text in quotes", other))
                        }
                    }
                }
            }
            (Some("binary"), Value::Text(binary)) if binary.rsplit('/').next() == Some("ssh") => {}
            (Some(name @ ("port" | "identityFile" | "options" | "_extra" | "binary")), other) => {
                self.lost(*line, tr!("{name} is {other}, no constant that can be used", name, other));
            }
            (Some(name), _) => self.lost(*line, tr!("{name} is no option of ssh = {{…}} that is known here", name)),
            (None, other) => self.lost(*line, tr!("ssh has {other} without a name: write NAME = VALUE", other)),
        }
    }

    fn ssh_word(&mut self, option: String) {
        self.sketch.ssh.options.extend(["-o".to_owned(), option]);
    }
}

/// The placeholder of a template language in `target`: `{{HOST}}`, `${HOST}` or `$host`.
fn template_in(target: &str) -> Option<&str> {
    for (start, end) in [("{{", "}}"), ("${", "}")] {
        if let Some(at) = target.find(start)
            && let Some(length) = target[at..].find(end)
        {
            return Some(&target[at..at + length + end.len()]);
        }
    }
    let at = target.find('$')?;
    let name = target[at + 1..].find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(target.len() - at - 1);
    Some(&target[at..at + 1 + name])
}

/// Short options in one word, those that others imply left out, and `--no-…` where there is nothing to take back.
fn bundled(words: &[String]) -> Vec<String> {
    let is_short = |word: &&String| word.len() == 2 && word.as_bytes()[1] != b'-';
    let archive = words.iter().any(|word| word == "-a");
    let mut letters = String::new();
    for letter in words.iter().filter(is_short).filter_map(|word| word.chars().nth(1)) {
        if !(letters.contains(letter) || archive && "rlptgoD".contains(letter)) {
            letters.push(letter);
        }
    }
    let short = (!letters.is_empty()).then(|| format!("-{letters}"));
    let is_needless =
        |word: &&String| !archive && word.strip_prefix("--no-").is_some_and(|name| IN_ARCHIVE.contains(&name));
    let long = words.iter().filter(|word| !is_short(word) && !is_needless(word)).cloned();
    short.into_iter().chain(long).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_options_are_bundled() {
        let words = ["-l", "-t", "-a", "-z", "-A", "--bwlimit=1"].map(str::to_owned);
        assert_eq!(bundled(&words), ["-azA", "--bwlimit=1"]);
        let words = ["-a", "--no-owner"].map(str::to_owned);
        assert_eq!(bundled(&words), words);
        assert_eq!(bundled(&["-t", "--no-links"].map(str::to_owned)), ["-t"]);
    }
}
