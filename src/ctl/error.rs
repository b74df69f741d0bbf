//! [`CtlError`]: why a command of `sersyncctl` did not do its work. Each ends in what to type next.

use crate::bus;
use zbus::fdo;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// No bus, no answers.
    #[error("no connection to the {bus} bus: {source}\nnext: systemctl{user} status dbus.socket")]
    NoBus {
        /// `system` or `user`.
        bus: &'static str,
        /// ` --user` or nothing.
        user: &'static str,
        /// Why.
        source: zbus::Error,
    },
    /// Neither the bus nor systemd knows the instance.
    #[error("there is no instance {0:?}\nnext: sersyncctl{1} list")]
    NoInstance(String, &'static str),
    /// systemd knows it, the bus does not.
    #[error("{0} is {1}\nnext: systemctl{2} start sersync@{0}")]
    NotRunning(String, String, &'static str),
    /// It runs and does not answer.
    #[error("{0} does not answer\nnext: journalctl{1} -u sersync@{0}")]
    NoAnswer(String, &'static str),
    /// It went away meanwhile.
    #[error("{0} stopped meanwhile\nnext: systemctl{1} status sersync@{0}")]
    Gone(String, &'static str),
    /// The agent's own words.
    #[error("{0}")]
    Agent(bus::Error),
    /// The agent's own words, on a full sync.
    #[error("the full sync is {state}: {result}\nnext: sersyncctl{user} status {instance}")]
    JobFailed {
        /// The instance.
        instance: String,
        /// `failed` or `canceled`.
        state: String,
        /// The sentence of the job.
        result: String,
        /// ` --user` or nothing.
        user: &'static str,
    },
    /// Nothing could be imported.
    #[error(transparent)]
    Import(#[from] super::import::ImportError),
    /// The bus broke.
    #[error("the message bus failed: {0}")]
    Bus(#[from] zbus::Error),
    /// No way to hear Ctrl-C.
    #[error("cannot listen for Ctrl-C: {0}")]
    CtrlC(std::io::Error),
    /// Output failed, such as a full disk; a closed pipe is none.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Whether an error means that nobody owns the bus name.
pub fn is_absent(error: &zbus::Error) -> bool {
    let zbus::Error::FDO(error) = error else { return false };
    matches!(**error, fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_))
}
