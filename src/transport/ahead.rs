//! [`Ahead`]: an rsync run that was started before its paths are known.
//!
//! It is connected and authenticated, and waits for its list: a change that comes then pays neither for three new
//! processes nor for a handshake. Meanwhile it holds one connection to the remote, and the watched root and the remote's
//! directory as its working directories.
//!
//! It takes the place of a run only where that would be started with the same command line, in the same directory, now.
//! It reads no file before it has its list, so that all that was reported before is in what it sends. What goes wrong
//! with it says nothing of the remote: the server may have closed the connection, or a firewall on the way forgotten it.
//! Then a fresh run is started as if it had never been.

use super::endpoint::Form;
use super::process::Run;
use super::{Capabilities, Endpoint, plan};
use crate::transport::RootIdentity;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A run that was fed and moves nothing for so long has no connection any more.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What a run is to be started for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Which directory the root is.
    pub identity: RootIdentity,
    /// Whether anything may be deleted on the remote.
    pub delete: bool,
    /// Whether there is no filter.
    pub unfiltered: bool,
    /// Whether small files are better sent whole than as what differs in them.
    pub whole_files: bool,
    /// What is known of the remote.
    pub capabilities: Capabilities,
}

impl Readiness {
    /// The form of a live run of changed entries. It deletes the missing ones too, where the remote is known to do so:
    /// whether there will be any is not known.
    fn form(self) -> Form {
        Form::Entries {
            below: false,
            ignore_times: true,
            delete: self.delete && self.unfiltered && self.capabilities.deletes_missing(),
            force: self.delete && self.unfiltered,
            brief: true,
            whole: self.whole_files,
            progress: false,
        }
    }
}

/// A run that waits for its list.
#[derive(Debug)]
pub struct Ahead {
    run: Run,
    readiness: Readiness,
    started: Instant,
}

impl Ahead {
    /// Starts a run at `endpoint` for the directory `root`, which must be the one that is wanted. An error of the kind
    /// `WouldBlock`: no run in this directory has shown yet what it may reach.
    pub fn start(endpoint: &Endpoint, root: &Path, readiness: Readiness) -> io::Result<Self> {
        let (root, identity) = plan::open_root(root)?;
        if identity != readiness.identity {
            return Err(io::ErrorKind::NotFound.into());
        }
        let ruleset = endpoint.confinement().last(identity).ok_or(io::ErrorKind::WouldBlock)?;
        let line = endpoint.command_line(readiness.form(), readiness.capabilities);
        let run = Run::start("rsync", &line.arguments, &line.environment, &Arc::new(root), false, &ruleset)?;
        Ok(Self { run, readiness, started: Instant::now() })
    }

    /// What it was started for.
    pub fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether it still runs. Where the server has closed the connection, rsync notices only when it is fed.
    pub fn is_alive(&self) -> bool {
        self.run.is_alive()
    }

    /// The form in which it serves a run of `form` in the directory `identity` at a remote of which `capabilities` are
    /// known; `None` where it does not.
    pub(super) fn serves(&self, form: Form, identity: RootIdentity, capabilities: Capabilities) -> Option<Form> {
        let own = self.readiness.form();
        let Form::Entries { below, ignore_times, delete, force, brief, whole, progress } = form else { return None };
        // One that would delete the missing serves as well where nothing is missing.
        let deleting = Form::Entries { below, ignore_times, delete: true, force, brief, whole, progress };
        let same = own == form || !delete && own == deleting;
        (same && identity == self.readiness.identity && capabilities == self.readiness.capabilities).then_some(own)
    }

    /// The run itself.
    pub(super) fn into_run(self) -> Run {
        self.run
    }
}
