//! `org.sersync.Remote1`: one remote, for reading. dbus/org.sersync.Remote1.xml says what each member means.

use super::agent::{lag_usec, path_bytes, usec};
use crate::agent::snapshot::Remote;
use tokio::sync::watch;
use zbus::interface;

/// The object of one remote: the remote as the publisher saw it last.
pub struct RemoteObject(pub(super) watch::Receiver<Remote>);

impl RemoteObject {
    fn now(&self) -> watch::Ref<'_, Remote> {
        self.0.borrow()
    }
}

#[interface(name = "org.sersync.Remote1", introspection_docs = false)]
impl RemoteObject {
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.now().name.clone()
    }

    #[zbus(property)]
    fn address(&self) -> String {
        self.now().address.clone()
    }

    #[zbus(property)]
    fn port(&self) -> u16 {
        self.now().port.unwrap_or(0)
    }

    #[zbus(property)]
    fn deletions_withheld(&self) -> u64 {
        self.now().deletions_withheld
    }

    #[zbus(property)]
    fn deletions_withheld_reason(&self) -> String {
        self.now().withheld_reason.clone()
    }

    #[zbus(property)]
    fn deletions_withheld_paths(&self) -> Vec<Vec<u8>> {
        self.now().withheld_paths.iter().map(|path| path.as_bytes().to_vec()).collect()
    }

    #[zbus(property)]
    fn root(&self) -> Vec<u8> {
        path_bytes(&self.now().root)
    }

    #[zbus(property)]
    fn state(&self) -> String {
        self.now().state.to_string()
    }

    #[zbus(property)]
    fn queue_depth(&self) -> u64 {
        let remote = self.now();
        remote.queue_depth + remote.in_flight
    }

    #[zbus(property)]
    fn in_flight(&self) -> u64 {
        self.now().in_flight
    }

    #[zbus(property)]
    fn failure_count(&self) -> u64 {
        self.now().failures
    }

    #[zbus(property(emits_changed_signal = "false"), name = "LagUSec")]
    fn lag_usec(&self) -> u64 {
        lag_usec(self.now().oldest_pending)
    }

    #[zbus(property)]
    fn last_error_name(&self) -> String {
        self.now().last_error.as_ref().map(|fault| fault.name.to_owned()).unwrap_or_default()
    }

    #[zbus(property)]
    fn last_error(&self) -> String {
        self.now().last_error.as_ref().map(|fault| fault.message.clone()).unwrap_or_default()
    }

    #[zbus(property)]
    fn failing_since(&self) -> u64 {
        usec(self.now().failing_since)
    }

    #[zbus(property)]
    fn attempts(&self) -> u32 {
        self.now().attempts
    }

    #[zbus(property)]
    fn last_success_at(&self) -> u64 {
        usec(self.now().last_success)
    }

    #[zbus(property)]
    fn last_full_sync_at(&self) -> u64 {
        usec(self.now().last_full_sync)
    }

    #[zbus(property)]
    fn next_try_at(&self) -> u64 {
        usec(self.now().next_try)
    }

    #[zbus(property)]
    fn bytes_sent(&self) -> u64 {
        self.now().bytes_sent
    }

    #[zbus(property)]
    fn files_synced(&self) -> u64 {
        self.now().files_synced
    }

    #[zbus(property)]
    fn refused_options(&self) -> Vec<String> {
        self.now().refused_options.clone()
    }
}
