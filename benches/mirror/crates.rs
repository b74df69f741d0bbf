//! A real source tree that every machine has on which this was built: the crates that it was built from.

use crate::support::project;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Copies a tree of some `entries` files and directories to `root`: crates as cargo unpacked them, in the order of their
/// names, with a symbolic link to each. Where cargo has none it is this project's own folders, again and again.
pub fn copy(root: &Path, entries: usize) {
    let links = root.join("current");
    fs::create_dir_all(&links).expect("a new directory");
    let unpacked = unpacked();
    let own = ["src", "tests", "docs"].map(|folder| project().join(folder));
    let parts: Box<dyn Iterator<Item = PathBuf>> =
        if unpacked.is_empty() { Box::new(own.into_iter().cycle()) } else { Box::new(unpacked.into_iter()) };
    let mut found = 0;
    for (number, part) in parts.enumerate() {
        let name = format!("{number}-{}", part.file_name().unwrap_or_default().display());
        let status = Command::new("cp").arg("-a").arg(&part).arg(root.join(&name)).status();
        assert!(status.is_ok_and(|status| status.success()), "cp -a {} failed", part.display());
        symlink(Path::new("..").join(&name), links.join(&name)).expect("a new name");
        found += count(&part) + 1;
        if found >= entries {
            break;
        }
    }
}

/// The sources that cargo has unpacked, in the order of their names.
fn unpacked() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo"));
    let Some(cargo) = std::env::var_os("CARGO_HOME").map(PathBuf::from).or(home) else { return Vec::new() };
    let registries = fs::read_dir(cargo.join("registry/src")).into_iter().flatten().flatten();
    let crates = registries.flat_map(|registry| fs::read_dir(registry.path()).into_iter().flatten().flatten());
    let mut paths = crates.map(|one| one.path()).filter(|path| path.is_dir()).collect::<Vec<_>>();
    paths.sort();
    paths
}

fn count(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| 1 + if entry.path().is_dir() { count(&entry.path()) } else { 0 }).sum()
}
