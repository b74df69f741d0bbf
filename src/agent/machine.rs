//! [`Machine`]: what the engine reaches the rest of the machine by. [`Real`] watches with inotify and sends with rsync;
//! the simulation has one of its own below the same engine.

use crate::aside::aside;
use crate::probe_name;
use crate::transport::{self, Ahead, Endpoint, Findings, Order, Outcome, Probed, Sign};
use crate::watch::{self, Kept, Report, Spec, Watch};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// Something under way on the machine. Dropping it ends it.
pub type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Takes in the signs of life of a run.
pub type OnSign = Box<dyn Fn(Sign) + Send + Sync>;

/// The machine below the engine.
pub trait Machine: fmt::Debug + Send + Sync {
    /// See [`watch::spawn`].
    fn watch(&self, spec: Spec, kept: Option<Kept>, reports: UnboundedSender<Report>) -> io::Result<Box<dyn Watching>>;

    /// See [`transport::carry_out`]. Gives back `ahead` where the run has not taken it.
    fn carry_out(
        &self,
        endpoint: Arc<Endpoint>,
        order: Order,
        ahead: Option<Ahead>,
        on_sign: OnSign,
    ) -> Task<(Outcome, Option<Ahead>)>;

    /// See [`transport::probe_places`].
    fn probe_places(&self, probed: Vec<Probed>, roots: Vec<PathBuf>, time: Duration) -> Task<Findings>;

    /// See [`transport::send_probe_on`].
    fn send_probe_on(&self, probed: Probed) -> Task<()>;

    /// The names of probes in the directory `root`.
    fn probes_in(&self, root: PathBuf) -> Task<Vec<OsString>>;
}

/// A running watch, see [`Watch`]. Dropping it ends the watch.
pub trait Watching: fmt::Debug + Send + Sync {
    /// See [`Watch::drain`].
    fn drain(&self, token: u64);
    /// See [`Watch::mark`].
    fn mark(&self);
    /// See [`Watch::may_be_resumed`].
    fn may_be_resumed(&self) -> bool;
    /// See [`Watch::written_down`].
    fn written_down(&self, reports: u64);
    /// See [`Watch::watched_directories`].
    fn watched_directories(&self) -> u64;
    /// See [`Watch::events_seen`].
    fn events_seen(&self) -> u64;
    /// See [`Watch::overflows`].
    fn overflows(&self) -> u64;
}

/// inotify, rsync and ssh.
#[derive(Debug)]
pub struct Real;

impl Machine for Real {
    fn watch(&self, spec: Spec, kept: Option<Kept>, reports: UnboundedSender<Report>) -> io::Result<Box<dyn Watching>> {
        Ok(Box::new(watch::spawn(spec, kept, reports)?))
    }

    fn carry_out(
        &self,
        endpoint: Arc<Endpoint>,
        order: Order,
        mut ahead: Option<Ahead>,
        on_sign: OnSign,
    ) -> Task<(Outcome, Option<Ahead>)> {
        Box::pin(async move {
            let outcome = transport::carry_out(&endpoint, order, &mut ahead, on_sign).await;
            (outcome, ahead)
        })
    }

    fn probe_places(&self, probed: Vec<Probed>, roots: Vec<PathBuf>, time: Duration) -> Task<Findings> {
        Box::pin(transport::probe_places(probed, roots, time))
    }

    fn send_probe_on(&self, probed: Probed) -> Task<()> {
        Box::pin(transport::send_probe_on(probed))
    }

    fn probes_in(&self, root: PathBuf) -> Task<Vec<OsString>> {
        Box::pin(async move {
            let names = aside(move || {
                let names = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.file_name());
                names.filter(|name| probe_name::is_one(name.as_encoded_bytes())).collect::<Vec<_>>()
            });
            // Without a thread for it, they go with the full sync.
            names.await.unwrap_or_default()
        })
    }
}

impl Watching for Watch {
    fn drain(&self, token: u64) {
        self.drain(token);
    }

    fn mark(&self) {
        self.mark();
    }

    fn may_be_resumed(&self) -> bool {
        self.may_be_resumed()
    }

    fn written_down(&self, reports: u64) {
        self.written_down(reports);
    }

    fn watched_directories(&self) -> u64 {
        self.watched_directories()
    }

    fn events_seen(&self) -> u64 {
        self.events_seen()
    }

    fn overflows(&self) -> u64 {
        self.overflows()
    }
}
