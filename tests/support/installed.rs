//! What is installed where: one list, for the machines that tests boot and for whoever makes a package.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project at its place on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// In the project's tree, or where it was built.
    pub from: PathBuf,
    /// On the machine.
    pub to: String,
    pub mode: u32,
}

/// A folder of the tree, how the names in it end that are installed, and where they go.
const FOLDERS: &[(&str, &[&str], &str)] = &[
    ("systemd", &[".service", ".target", ".timer"], "/usr/lib/systemd/system"),
    ("systemd/user", &[".service", ".target", ".timer"], "/usr/lib/systemd/user"),
    ("systemd/system-preset", &[".preset"], "/usr/lib/systemd/system-preset"),
    ("systemd/user-preset", &[".preset"], "/usr/lib/systemd/user-preset"),
    ("systemd/sysusers.d", &[".conf"], "/usr/lib/sysusers.d"),
    ("systemd/tmpfiles.d", &[".conf"], "/usr/lib/tmpfiles.d"),
    ("systemd/sysctl.d", &[".conf"], "/usr/lib/sysctl.d"),
    ("systemd/drop-ins", &[".conf"], "/usr/share/doc/sersync/drop-ins"),
    ("dbus", &["org.sersync.Agent1.conf"], "/usr/share/dbus-1/system.d"),
    ("dbus", &[".xml"], "/usr/share/dbus-1/interfaces"),
    ("dbus", &[".policy"], "/usr/share/polkit-1/actions"),
    ("conf", &[".xml", ".conf"], "/usr/share/doc/sersync/examples"),
];

/// Everything that is installed, but for what is made at packaging time.
pub fn all() -> Vec<Installed> {
    let built = [
        (env!("CARGO_BIN_EXE_sersync"), "/usr/bin/sersync"),
        (env!("CARGO_BIN_EXE_sersyncctl"), "/usr/bin/sersyncctl"),
        (env!("CARGO_BIN_EXE_sersync-generator"), "/usr/lib/systemd/system-generators/sersync-generator"),
    ];
    let mut all: Vec<Installed> =
        built.map(|(from, to)| Installed { from: from.into(), to: to.to_owned(), mode: 0o755 }).into();
    for (folder, ends, place) in FOLDERS {
        let before = all.len();
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if ends.iter().any(|end| name.ends_with(end)) {
                all.push(Installed { from: entry.path(), to: format!("{place}/{name}"), mode: 0o644 });
            }
        }
        assert!(all.len() > before, "{folder} holds nothing to install");
    }
    all
}
