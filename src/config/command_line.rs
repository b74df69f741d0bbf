//! A config without a file: `sersync --watch DIRECTORY --to DESTINATION…`.

use super::address::{self, AddressError};
use super::{
    AgentSettings, Calls, CommandLine, CommandPlugin, Config, Deletions, Destination, EventSwitches, PluginName,
    Plugins, Root, RsyncOptions, Secret, overlap,
};
use crate::filter::Filter;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why `--watch` and `--to` make no config.
#[derive(Debug, thiserror::Error)]
pub enum CommandLineError {
    /// The watched directory is not there, or may not be looked at.
    #[error("--watch {path}: {source}; name a directory that exists", path = path.display())]
    Watch {
        /// As given.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The watched path is a file.
    #[error("--watch {}: not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// No `--to`.
    #[error("--watch {} lacks --to: name at least one destination, such as backup@web1::www, web2:/srv/www or /mnt/copy", .0.display())]
    NoDestination(PathBuf),
    /// A destination that cannot be read.
    #[error("--to {text:?}: {source}; write user@host::module, rsync://host/module, host:/directory or /directory")]
    Destination {
        /// As given.
        text: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// The copy and its source hold one another.
    #[error("--to {}: {} is being watched, and one of the two holds the other: the copy would be copied into itself, or the source deleted", directory.display(), watch.display())]
    Entangled {
        /// The destination.
        directory: PathBuf,
        /// The watched directory.
        watch: PathBuf,
    },
    /// One copy lies inside another.
    #[error("--to: {0}; mirror to places apart")]
    Overlap(Box<overlap::Conflict>),
    /// A command that cannot be read.
    #[error("--command: {0}; write a program and its first words, such as '/usr/local/bin/on-change --fast'")]
    Command(String),
    /// `RSYNC_PASSWORD` is no text.
    #[error("RSYNC_PASSWORD in the environment is not UTF-8")]
    Password,
}

/// The config of `--watch WATCH --to TO…`: rsync's own destination syntax, an exact copy (`-a`), defaults for the
/// rest. A daemon's password comes from `RSYNC_PASSWORD` in this process's environment.
pub fn from_command_line(watch: &Path, to: &[String]) -> Result<Config, CommandLineError> {
    let password = std::env::var_os("RSYNC_PASSWORD").filter(|password| !password.is_empty());
    let password = password.map(OsString::into_string).transpose().map_err(|_| CommandLineError::Password)?;
    config(watch, to, password.map(Secret::new).as_ref())
}

/// The config of `--watch WATCH -m command --command COMMAND`: every change goes to the command, and nowhere else.
pub fn alone_from_command_line(watch: &Path, command: &str, batch: bool) -> Result<Config, CommandLineError> {
    let line = CommandLine::read(command, "", batch).map_err(|error| CommandLineError::Command(error.to_string()))?;
    if line.before.is_empty() {
        return Err(CommandLineError::Command("it is empty".to_owned()));
    }
    let calls = Calls::default();
    let plugin = CommandPlugin { line, ignore_error: false, include: None, keep_capabilities: false, batch, calls };
    let plugins = Plugins { command: Some(plugin), ..Plugins::default() };
    let roots = vec![Root { path: watched(watch)?, remotes: Vec::new() }];
    Ok(Config { plugins, alone: Some(PluginName::Command), ..exact(roots) })
}

/// `watch` from `/` on; it has to be a directory that is there.
fn watched(watch: &Path) -> Result<PathBuf, CommandLineError> {
    let unreadable = |source| CommandLineError::Watch { path: watch.to_path_buf(), source };
    let here = std::env::current_dir().map_err(unreadable)?;
    if !std::fs::metadata(watch).map_err(unreadable)?.is_dir() {
        return Err(CommandLineError::NotADirectory(watch.to_path_buf()));
    }
    // `..` is resolved by the kernel, not by letters: a component before it may be a symbolic link.
    match watch.components().any(|component| component == std::path::Component::ParentDir) {
        true => watch.canonicalize().map_err(unreadable),
        false => Ok(address::absolute(watch, &here)),
    }
}

fn config(watch: &Path, to: &[String], password: Option<&Secret>) -> Result<Config, CommandLineError> {
    let path = watched(watch)?;
    let here = std::env::current_dir();
    let here = here.map_err(|source| CommandLineError::Watch { path: watch.to_path_buf(), source })?;
    if to.is_empty() {
        return Err(CommandLineError::NoDestination(watch.to_path_buf()));
    }
    let mut remotes: Vec<Destination> = Vec::new();
    for text in to {
        let destination = address::destination(text, password, &here)
            .map_err(|source| CommandLineError::Destination { text: text.clone(), source })?;
        if let Some(directory) = address::entangled(&path, &destination) {
            return Err(CommandLineError::Entangled { directory: directory.to_path_buf(), watch: path });
        }
        if !remotes.iter().any(|first| *first == destination || overlap::is_one_place(first, &destination)) {
            remotes.push(destination);
        }
    }
    let root = Root { path, remotes };
    let places = overlap::Places::new(overlap::mirrors("", [&root]), Vec::new());
    match places.conflicts(true).into_iter().next() {
        Some(conflict) => Err(CommandLineError::Overlap(Box::new(conflict))),
        None => Ok(exact(vec![root])),
    }
}

/// The defaults of a config without a file: exact copies.
fn exact(roots: Vec<Root>) -> Config {
    Config {
        file: None,
        debug: false,
        roots,
        events: EventSwitches::EXACT,
        deletions: Deletions::Always,
        delete_limit: None,
        filter: Arc::new(Filter::none()),
        // Not -H: to find hard links rsync has to remember every file of a run.
        rsync: RsyncOptions {
            params: vec!["-a".to_owned()],
            selections: Vec::new(),
            ssh: Vec::new(),
            timeout: None,
            password_file: None,
            may_read: Vec::new(),
            keep_deleted: None,
        },
        agent: AgentSettings::default(),
        fail_log: None,
        crontab: None,
        plugins: Plugins::default(),
        alone: None,
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(watch: &Path, to: &[&str]) -> Result<Config, CommandLineError> {
        let to: Vec<String> = to.iter().map(|text| (*text).to_owned()).collect();
        config(watch, &to, Some(&Secret::new("s3cret".to_owned())))
    }

    #[test]
    fn makes_an_exact_mirror() {
        let root = tempfile::tempdir().unwrap();
        let watch = root.path().join(".");
        let config = attempt(&watch, &["b@web1::www", "web2:/srv/www", "/mnt/copy", "web2:/srv/www/"]).unwrap();
        let [only] = config.roots.as_slice() else { panic!("one root") };
        assert_eq!(only.path, root.path());
        let names: Vec<String> = only.remotes.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["b@web1::www", "web2:/srv/www", "/mnt/copy"]);
        let Destination::Daemon { password: Some(password), .. } = &only.remotes[0] else { panic!("a password") };
        assert_eq!(password.reveal(), "s3cret");
        assert_eq!((config.rsync.params, config.events), (vec!["-a".to_owned()], EventSwitches::EXACT));
    }

    #[test]
    fn refuses_what_would_do_harm() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(matches!(attempt(&root.path().join("none"), &["/mnt/copy"]), Err(CommandLineError::Watch { .. })));
        assert!(matches!(attempt(&file, &["/mnt/copy"]), Err(CommandLineError::NotADirectory(_))));
        assert!(matches!(attempt(root.path(), &[]), Err(CommandLineError::NoDestination(_))));
        assert!(matches!(attempt(root.path(), &["web1::"]), Err(CommandLineError::Destination { .. })));
        let inside = root.path().join("copy").display().to_string();
        assert!(matches!(attempt(root.path(), &[&inside]), Err(CommandLineError::Entangled { .. })));
        assert!(matches!(attempt(root.path(), &["/"]), Err(CommandLineError::Entangled { .. })));
        assert!(matches!(attempt(root.path(), &["h::m", "u@H::m/sub"]), Err(CommandLineError::Overlap(_))));
        assert_eq!(attempt(root.path(), &["h::m", "H::m/x/.."]).unwrap().roots[0].remotes.len(), 1);
    }
}
