//! [`Scene`]: what most tests need. One source, one module, one agent between them.

use super::agent::{Agent, Launch};
use super::rsyncd::{Daemon, Plan};
use super::tree::{Judge, assert_converged};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The name of the module.
pub const MODULE: &str = "copy";

/// A source, a module, and an agent that mirrors the one to the other.
#[derive(Debug)]
pub struct Scene {
    // In the order of their ends: the agent first, its files last.
    pub agent: Agent,
    pub daemon: Daemon,
    pub source: PathBuf,
    pub copy: PathBuf,
    pub place: Place,
}

/// A temporary directory with an empty source.
#[derive(Debug)]
pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("sersync-").tempdir().unwrap();
        fs::create_dir(directory.path().join("source")).unwrap();
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A directory of that name, made.
    pub fn make(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// How to start this place's agent.
    pub fn launch(&self) -> Launch {
        Launch::new(&self.path("agent"))
    }

    /// A daemon with one module, [`MODULE`], at `copy`.
    pub fn plan(&self, settings: &[&str]) -> Plan {
        Plan::new(&self.path("rsyncd")).module(MODULE, &self.path("copy"), settings)
    }
}

impl Scene {
    /// An agent that mirrors exactly (`--watch/--to`), watching.
    pub fn start() -> Self {
        Self::prepared(|_, _| {})
    }

    /// The same, with something in source and copy before the agent starts.
    pub fn prepared(prepare: impl FnOnce(&Path, &Path)) -> Self {
        let place = Place::new();
        let daemon = place.plan(&[]).start();
        prepare(&place.source(), &place.path("copy"));
        let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
        Self { agent, daemon, source: place.source(), copy: place.path("copy"), place }
    }

    /// The same with a config file; `change` has the shipped switches to start from.
    pub fn configured(
        prepare: impl FnOnce(&Path, &Path),
        change: impl FnOnce(super::config::Confxml) -> super::config::Confxml,
    ) -> Self {
        let place = Place::new();
        let daemon = place.plan(&[]).start();
        prepare(&place.source(), &place.path("copy"));
        let config = super::config::Confxml::new(&place.source()).daemon(&daemon, MODULE);
        let file = change(config).write(&place.path("confxml.xml"));
        let agent = place.launch().config(&file).start();
        Self { agent, daemon, source: place.source(), copy: place.path("copy"), place }
    }

    /// A path in the source.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.source.join(path)
    }

    pub fn converged(&self) {
        assert_converged(&self.source, &self.copy);
    }

    /// Equality but for the times of directories and what is below `ignored`.
    pub fn converged_ignoring(&self, ignored: &str) {
        Judge::default().ignoring(ignored).assert_converged(&self.source, &self.copy, super::SOON);
    }
}
