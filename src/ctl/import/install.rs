//! [`Draft`]: a config to be; its name among the instances, and the one place that writes it.
//!
//! A config that is there and differs is not replaced unless asked for, a file is there whole or not at all, and what
//! may hold a password is for its owner only from its first byte on.

use super::{ImportError, Line, Remark};
use crate::config::{self, Mistake, PluginName};
use std::collections::{HashMap, HashSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A config that is not written yet.
#[derive(Debug)]
pub struct Draft {
    /// What the instance is to be called; [`name_drafts`] makes it one of its own.
    pub name: String,
    /// What it was made of, for mistakes and for people: a file, or a file and a line.
    pub origin: PathBuf,
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// A plugin that `-m` names, where the bytes do not say so themselves.
    pub judged_as: Option<PluginName>,
    /// Its text is that of `origin`, not ours.
    pub is_copy: bool,
    /// What is wrong with it.
    pub mistakes: Vec<Mistake>,
    /// What is different here, and what could not be kept.
    pub remarks: Vec<Remark>,
}

impl Draft {
    /// One of our own text.
    pub fn of_text(name: String, origin: PathBuf, text: String, remarks: Vec<Remark>) -> Self {
        let (bytes, mistakes) = (text.into_bytes(), Vec::new());
        Self { name, origin, bytes, judged_as: None, is_copy: false, mistakes, remarks }
    }

    /// 0600 where a password may stand in it.
    fn mode(&self) -> u32 {
        let text = String::from_utf8_lossy(&self.bytes).to_ascii_lowercase();
        let is_open = ["passwd", "password=", "<header", "body="].iter().all(|mark| !text.contains(mark))
            && !text.split("://").skip(1).any(|rest| rest.split(['/', '"', '\'']).next().unwrap_or("").contains('@'));
        if is_open { 0o644 } else { 0o600 }
    }
}

/// What was read of one source.
#[derive(Debug, Default)]
pub struct Harvest {
    /// The configs to be.
    pub drafts: Vec<Draft>,
    /// What belongs to none of them.
    pub remarks: Vec<Remark>,
    /// Lines that start sersync 2.5.4.
    pub lines: Vec<Line>,
}

/// What became of a draft.
#[derive(Debug)]
pub enum Written {
    /// It is there, with this mode.
    New(u32),
    /// It was there, byte for byte.
    Same,
    /// `--dry-run`.
    Shown,
    /// Another file is there.
    Occupied,
    /// It is no config that can be used.
    Refused,
    /// It could not be written.
    Failed(io::Error),
}

/// A name that is an instance's without escapes: on the bus, for systemd, and in a shell.
pub fn plain_name(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    match name.trim_matches('_') {
        "" => "sersync".to_owned(),
        name if name.starts_with(|c: char| c.is_ascii_digit() || c == '-') => format!("_{name}"),
        name => name.to_owned(),
    }
}

/// The name that a watched directory gives.
pub fn directory_name(directory: &Path) -> String {
    directory.file_name().map_or_else(|| "root".to_owned(), |name| plain_name(&name.to_string_lossy()))
}

/// Gives each draft a name that no other has: what `--name` says, or its own with a number behind it.
pub fn name_drafts(drafts: &mut [Draft], given: Option<&str>) -> Result<(), ImportError> {
    if let Some(name) = given {
        config::check_instance_name(name)?;
        match drafts {
            [] => {}
            [one] => name.clone_into(&mut one.name),
            many => {
                let names: Vec<&str> = many.iter().map(|draft| draft.name.as_str()).collect();
                let (count, names) = (many.len(), names.join(", "));
                return Err(ImportError::OneName { name: name.to_owned(), count, names });
            }
        }
    }
    let mut taken: HashSet<String> = HashSet::with_capacity(drafts.len());
    // The number to try next for each name: all below it are taken.
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for draft in drafts {
        if taken.contains(&draft.name) {
            let number = numbers.entry(draft.name.clone()).or_insert(2);
            let numbered = std::iter::repeat_with(|| {
                let name = format!("{}-{number}", draft.name);
                *number += 1;
                name
            });
            if let Some(name) = numbered.into_iter().find(|name| !taken.contains(name)) {
                draft.name = name;
            }
        }
        taken.insert(draft.name.clone());
    }
    Ok(())
}

/// Writes a draft to `target`.
pub fn write(draft: &Draft, target: &Path, force: bool) -> Written {
    match try_write(draft, target, force) {
        Ok(written) => written,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Written::Occupied,
        Err(error) => Written::Failed(error),
    }
}

fn try_write(draft: &Draft, target: &Path, force: bool) -> io::Result<Written> {
    match fs::read(target) {
        Ok(bytes) if bytes == draft.bytes => return Ok(Written::Same),
        Ok(_) if !force => return Ok(Written::Occupied),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let mode = draft.mode();
    let (mut file, beside) = create_beside(directory, &draft.name, mode)?;
    let written = file.write_all(&draft.bytes).and_then(|()| file.sync_all()).and_then(|()| match force {
        true => fs::rename(&beside, target),
        // A link is refused where a file has appeared meanwhile; a rename would replace it.
        false => fs::hard_link(&beside, target).and_then(|()| fs::remove_file(&beside)),
    });
    if written.is_err() {
        // The error above is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written.map(|()| Written::New(mode))
}

/// A new file in `directory` that the agent takes for no config.
fn create_beside(directory: &Path, name: &str, mode: u32) -> io::Result<(fs::File, PathBuf)> {
    loop {
        let path = directory.join(format!(".{name}.xml.{:08x}", fastrand::u32(..)));
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn drafts<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Draft> {
        let draft = |name: &str| Draft::of_text(name.to_owned(), PathBuf::new(), String::new(), Vec::new());
        names.into_iter().map(draft).collect()
    }

    #[test]
    fn each_draft_gets_a_name_of_its_own() {
        let mut drafts = drafts(["a", "a-2", "b", "a", "a", "a-2"]);
        name_drafts(&mut drafts, None).unwrap();
        let names: Vec<&str> = drafts.iter().map(|draft| draft.name.as_str()).collect();
        assert_eq!(names, ["a", "a-2", "b", "a-3", "a-4", "a-2-2"]);
    }

    #[test]
    fn many_drafts_of_one_name_are_named_in_linear_time() {
        // Comparing each with each takes minutes.
        let mut drafts = drafts(std::iter::repeat_n("in", 200_000));
        let start = Instant::now();
        name_drafts(&mut drafts, None).unwrap();
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
        assert_eq!(drafts[199_999].name, "in-200000");
    }
}
