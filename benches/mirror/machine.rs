//! What the figures were measured on, and with what.

use crate::stand::Place;
use crate::tools::{Tool, first_line};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;

/// Where and with what a run took place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub processor: String,
    /// Bytes.
    pub memory: u64,
    pub system: String,
    pub kernel: String,
    /// The places and their file systems.
    pub file_systems: BTreeMap<Place, String>,
    pub rsync: String,
    /// The tools that are installed, with their versions and how they were set up.
    pub tools: Vec<(String, String, String)>,
    /// Those that are not, with the reason.
    pub absent: Vec<(String, String)>,
}

impl Machine {
    /// This one.
    pub fn here(tools: &[Box<dyn Tool>]) -> Self {
        let (mut present, mut absent) = (Vec::new(), Vec::new());
        for tool in tools {
            match tool.version() {
                Ok(version) => present.push((tool.name().to_owned(), version, tool.setup())),
                Err(reason) => absent.push((tool.name().to_owned(), reason)),
            }
        }
        let said =
            |program: &str, arguments: &[&str]| first_line(program, arguments).unwrap_or_else(|_| "?".to_owned());
        let file_system =
            |place: Place| (place, said("stat", &["-f", "-c", "%T", &place.directory().display().to_string()]));
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: line("/proc/cpuinfo", "model name").unwrap_or_else(|| "?".to_owned()),
            memory: line("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kb| kb * 1024),
            system: line("/etc/os-release", "PRETTY_NAME").map_or_else(|| "?".to_owned(), |name| name.replace('"', "")),
            kernel: said("uname", &["-r"]),
            file_systems: [Place::Tmpfs, Place::Disk].map(file_system).into(),
            rsync: said("rsync", &["--version"]).split("  ").take(2).collect::<Vec<_>>().join(" "),
            tools: present,
            absent,
        }
    }

    /// Whether figures of both can stand in one report.
    pub fn is_like(&self, other: &Self) -> bool {
        let traits = |machine: &Self| {
            let Self { cores, processor, memory, kernel, rsync, .. } = machine.clone();
            (cores, processor, memory, kernel, rsync)
        };
        traits(self) == traits(other)
    }

    /// Also knows the tools that an earlier run had and this one has not.
    pub fn with_tools_of(mut self, earlier: Self) -> Self {
        let missed =
            earlier.tools.into_iter().filter(|(name, ..)| self.absent.iter().any(|(absent, _)| absent == name));
        self.tools.extend(missed.collect::<Vec<_>>());
        self.absent.retain(|(name, _)| !self.tools.iter().any(|(present, ..)| present == name));
        self
    }
}

/// What stands behind a name in a file of `name: value` or `name=value` lines.
fn line(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.trim_start_matches(|mark: char| mark.is_whitespace() || mark == ':' || mark == '=').to_owned())
}
