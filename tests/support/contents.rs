//! The list of what is installed where, packaging/contents, as tests read it: to hold a package against it, and to put
//! everything in place without one.

use super::project;
use std::fs;
use std::path::{Path, PathBuf};

/// A line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub mode: String,
    /// A pattern: files of the tree, below `@programs` what was built, below `@generated` what packaging makes.
    pub file: String,
    /// The directory as installed.
    pub place: String,
    /// The only package that has it.
    pub only: Option<String>,
}

/// All lines.
pub fn lines() -> Vec<Line> {
    let text = fs::read_to_string(project().join("packaging/contents")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut word = || words.next();
        let line = Line { mode: word().unwrap(), file: word().unwrap(), place: word().unwrap(), only: word() };
        assert_eq!(word(), None, "packaging/contents: a word too many behind {}", line.place);
        line
    };
    lines.map(read).collect()
}

/// The files below `base` that a pattern names; only its last part may hold an asterisk.
pub fn matching(base: &Path, pattern: &str) -> Vec<String> {
    let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let Ok(entries) = fs::read_dir(base.join(directory)) else { return Vec::new() };
    let files = entries.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_file());
    let names = files.map(|entry| entry.file_name().into_string().unwrap());
    let fits = |file: &str| match name.split_once('*') {
        Some((head, tail)) => file.len() >= head.len() + tail.len() && file.starts_with(head) && file.ends_with(tail),
        None => file == name,
    };
    let mut found: Vec<String> = names
        .filter(|file| fits(file))
        .map(|file| Path::new(directory).join(file).to_str().unwrap().to_owned())
        .collect();
    found.sort();
    found
}

/// What the .deb would install of the tree and of the programs that the tests run: the file, its path there, its mode.
/// What is made at packaging time alone (manual pages, completions) is not among it.
pub fn installed() -> Vec<(PathBuf, String, u32)> {
    let programs = [
        ("@programs/sersync", env!("CARGO_BIN_EXE_sersync")),
        ("@programs/sersyncctl", env!("CARGO_BIN_EXE_sersyncctl")),
        ("@programs/sersync-generator", env!("CARGO_BIN_EXE_sersync-generator")),
    ];
    let mut installed = Vec::new();
    for line in lines().iter().filter(|line| line.only.as_deref().is_none_or(|only| only == "deb")) {
        let mode = u32::from_str_radix(&line.mode, 8).unwrap();
        let files = match programs.iter().find(|(name, _)| *name == line.file) {
            Some((_, built)) => vec![PathBuf::from(built)],
            None => matching(project(), &line.file).iter().map(|file| project().join(file)).collect(),
        };
        assert!(line.file.starts_with("@generated/") || !files.is_empty(), "there is no {}", line.file);
        for file in files {
            let to = format!("{}/{}", line.place, file.file_name().unwrap().to_str().unwrap());
            installed.push((file, to, mode));
        }
    }
    installed
}
