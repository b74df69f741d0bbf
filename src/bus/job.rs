//! `org.sersync.Job1`: one full sync, to follow and to cancel. dbus/org.sersync.Job1.xml says what each member means.

use super::agent::usec;
use super::authority::{Action, Authority};
use super::error::Error;
use crate::agent::Handle;
use crate::agent::snapshot::Job;
use std::sync::Arc;
use tokio::sync::watch;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, interface};

/// The object of one full sync: the job as the publisher saw it last.
pub struct JobObject {
    pub(super) job: watch::Receiver<Job>,
    pub(super) handle: Handle,
    pub(super) authority: Arc<Authority>,
}

impl JobObject {
    fn now(&self) -> watch::Ref<'_, Job> {
        self.job.borrow()
    }
}

#[interface(name = "org.sersync.Job1", introspection_docs = false)]
impl JobObject {
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> u64 {
        self.now().id.0
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn remotes(&self) -> Vec<String> {
        self.now().remotes.clone()
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.now().state.to_string()
    }

    #[zbus(property)]
    fn progress(&self) -> f64 {
        self.now().progress
    }

    #[zbus(property)]
    fn entries_checked(&self) -> u64 {
        self.now().entries_checked
    }

    #[zbus(property)]
    fn entries_total(&self) -> u64 {
        self.now().entries_total
    }

    #[zbus(property)]
    fn bytes_sent(&self) -> u64 {
        self.now().bytes_sent
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn created_at(&self) -> u64 {
        usec(Some(self.now().created_at))
    }

    #[zbus(property)]
    fn finished_at(&self) -> u64 {
        usec(self.now().finished_at)
    }

    #[zbus(property)]
    fn result(&self) -> String {
        self.now().result.clone()
    }

    async fn cancel(
        &self,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Header<'_>,
    ) -> Result<(), Error> {
        self.authority.authorize(bus, &call, Action::Manage).await?;
        let job = self.now().id;
        Ok(self.handle.cancel(job).await?)
    }

    #[zbus(signal)]
    pub(super) async fn finished(emitter: &SignalEmitter<'_>, success: bool, result: &str) -> zbus::Result<()>;
}
