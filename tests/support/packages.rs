//! [`Packages`]: the packages that `packaging/build` made, for the tests that install them.

use super::{left_out, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The built packages.
#[derive(Debug)]
pub struct Packages {
    pub directory: PathBuf,
}

impl Packages {
    /// Those in the directory that `SERSYNC_TEST_PACKAGES` names. `None`, with the reason printed, where it names none.
    pub fn given() -> Option<Self> {
        match std::env::var_os("SERSYNC_TEST_PACKAGES") {
            Some(directory) => Some(Self { directory: fs::canonicalize(directory).unwrap() }),
            None => {
                left_out("SERSYNC_TEST_PACKAGES names no directory of built packages: packaging/build makes one");
                None
            }
        }
    }

    /// The only one of this kind.
    pub fn file(&self, extension: &str) -> PathBuf {
        let entries = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path());
        let found: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|is| is == extension)).collect();
        assert_eq!(found.len(), 1, "{found:?}: one .{extension} in {}", self.directory.display());
        found.into_iter().next().unwrap()
    }
}

/// A newer version of a .deb, of the same files, in the directory `place`.
pub fn newer(deb: &Path, place: &Path) -> PathBuf {
    let (tree, file) = (place.join("newer"), place.join("sersync_9.0.0-1.deb"));
    tool(Command::new("dpkg-deb").arg("-R").args([deb, &tree]));
    let control = tree.join("DEBIAN/control");
    let text = fs::read_to_string(&control).unwrap();
    let version = text.lines().find(|line| line.starts_with("Version: ")).unwrap();
    fs::write(&control, text.replace(version, "Version: 9.0.0-1")).unwrap();
    tool(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-b"]).args([&tree, &file]));
    file
}
