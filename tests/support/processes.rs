//! Reads `/proc`: who descends from whom, who still lives, what stands on a command line, how much a process used.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// A process told apart from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Process {
    pub pid: i32,
    start: u64,
}

/// The fields of `/proc/PID/stat` after the command's name, the first being the state (field 3 of proc(5)).
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

impl Process {
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, start: stat(pid)?.get(19)?.parse().ok()? })
    }

    /// Whether it still runs; a zombie does not.
    pub fn lives(&self) -> bool {
        Self::of(self.pid) == Some(*self) && stat(self.pid).is_some_and(|fields| fields[0] != "Z")
    }

    /// Its arguments, separated by blanks.
    pub fn command_line(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    /// How much it gives way to others.
    pub fn niceness(&self) -> Option<i32> {
        stat(self.pid)?.get(16)?.parse().ok()
    }

    /// The number of its scheduling policy, sched(7).
    pub fn scheduling_policy(&self) -> Option<i32> {
        stat(self.pid)?.get(38)?.parse().ok()
    }

    /// CPU ticks of this process and of all its children that have ended and were waited for.
    pub fn cpu_ticks(self) -> u64 {
        self.sum(11..15)
    }

    /// CPU ticks of its children that have ended and were waited for.
    pub fn waited_cpu_ticks(self) -> u64 {
        self.sum(13..15)
    }

    fn sum(self, fields: std::ops::Range<usize>) -> u64 {
        let all = stat(self.pid).unwrap_or_default();
        all.get(fields).map_or(0, |times| times.iter().filter_map(|time| time.parse::<u64>().ok()).sum())
    }

    /// A line of `/proc/PID/status` in kB, such as `VmRSS`.
    pub fn status_kb(&self, field: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = text.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Bytes that it and all its children that have ended and were waited for have written, with write(2) and its kin:
    /// to files, pipes and sockets.
    pub fn written(self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/io", self.pid)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
    }

    /// How many inotify watches it has.
    pub fn watches(&self) -> usize {
        let descriptors = fs::read_dir(format!("/proc/{}/fdinfo", self.pid)).into_iter().flatten().flatten();
        let texts = descriptors.filter_map(|descriptor| fs::read_to_string(descriptor.path()).ok());
        texts.map(|text| text.lines().filter(|line| line.starts_with("inotify ")).count()).sum()
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }
}

/// All processes of this machine, with their parents.
fn all() -> Vec<(Process, i32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let (Some(process), Some(fields)) = (Process::of(pid), stat(pid)) {
            found.push((process, fields[1].parse().unwrap_or(0)));
        }
    }
    found
}

/// The living children of `pid`, and theirs, without itself.
pub fn descendants(pid: i32) -> Vec<Process> {
    let all = all();
    let mut family = HashSet::from([pid]);
    let mut found = Vec::new();
    loop {
        let before = found.len();
        for (process, parent) in &all {
            if family.contains(parent) && family.insert(process.pid) && process.lives() {
                found.push(*process);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// The living processes whose working directory is `directory`.
pub fn working_in(directory: &Path) -> Vec<Process> {
    let in_directory = |pid: i32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == directory);
    all()
        .into_iter()
        .map(|(process, _)| process)
        .filter(|process| in_directory(process.pid) && process.lives())
        .collect()
}

/// The living processes with `text` on their command line.
pub fn named(text: &str) -> Vec<Process> {
    all()
        .into_iter()
        .map(|(process, _)| process)
        .filter(|process| process.command_line().contains(text) && process.lives())
        .collect()
}
