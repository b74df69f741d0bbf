//! [`CtlError`]: why a command of `sersyncctl` did not do its work. Each ends in what to type next.

use super::next::{Scope, as_root};
use super::{sentences, words};
use crate::bus;
use std::fmt;
use tr::tr;
use zbus::fdo;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// No bus, no answers.
    NoBus(Scope, #[source] zbus::Error),
    /// Neither the bus nor systemd knows the instance.
    NoInstance(Scope, String),
    /// A pattern that matches several instances, for a command that takes one.
    Several(Scope, String, Vec<String>),
    /// systemd knows it, the bus does not.
    NotRunning {
        /// Whose it is.
        scope: Scope,
        /// Its name.
        instance: String,
        /// What systemd says.
        state: String,
    },
    /// It went away meanwhile.
    Gone(Scope, String),
    /// It is on the bus and does not answer.
    Silent(Scope, String),
    /// The agent's own words.
    Agent {
        /// Whose it is.
        scope: Scope,
        /// Its name.
        instance: String,
        /// What it answered.
        source: bus::Error,
    },
    /// The agent's own words, on a full sync.
    JobFailed {
        /// Whose it is.
        scope: Scope,
        /// The instance.
        instance: String,
        /// `failed` or `canceled`.
        state: String,
        /// The sentence of the job.
        result: String,
    },
    /// Without a terminal nobody can be asked.
    NotConfirmed(Scope, String),
    /// Nothing could be imported.
    Import(#[from] super::import::ImportError),
    /// The bus broke.
    Bus(#[from] zbus::Error),
    /// No way to hear Ctrl-C.
    CtrlC(std::io::Error),
    /// Output failed, such as a full disk; a closed pipe is none.
    Output(#[from] std::io::Error),
}

impl CtlError {
    fn what(&self) -> String {
        match self {
            Self::NoBus(Scope::System, source) => tr!("no connection to the system bus: {source}", source),
            Self::NoBus(Scope::User, source) => tr!("no connection to the user bus: {source}", source),
            Self::NoInstance(_, name) => tr!("there is no instance {name}", name = format_args!("{name:?}")),
            Self::Several(_, pattern, names) => {
                let pattern = format_args!("{pattern:?}");
                tr!("{pattern} means several instances: {names}; name one", pattern, names = names.join(", "))
            }
            Self::NotRunning { instance, state, .. } => {
                tr!("{instance} is not running: {state}", instance, state = words::presence(state))
            }
            Self::Gone(_, instance) => tr!("{instance} stopped meanwhile", instance),
            Self::Silent(_, instance) => {
                tr!("{instance} has not answered for 30 s: its process hangs, or is stopped", instance)
            }
            Self::Agent { source, .. } => sentences::answer(source),
            Self::JobFailed { state, result, .. } => match state.as_str() {
                "canceled" => tr!("the full sync was canceled: {result}", result),
                _ => tr!("the full sync failed: {result}", result),
            },
            Self::NotConfirmed(..) => {
                tr!("deletions are only carried out after a question on a terminal, or with --yes: nothing is deleted")
            }
            Self::Import(error) => error.what(),
            Self::Bus(error) => tr!("the message bus failed: {error}", error),
            Self::CtrlC(error) => tr!("cannot listen for Ctrl-C: {error}", error),
            Self::Output(error) => tr!("cannot write: {error}", error),
        }
    }

    /// What to type next.
    fn next(&self) -> String {
        match self {
            Self::NoBus(scope, _) => format!("systemctl{} status dbus.socket", scope.flag()),
            Self::NoInstance(scope, _) | Self::Several(scope, ..) => format!("sersyncctl{} list", scope.flag()),
            Self::NotRunning { scope, instance, state } => scope.bring_up(instance, state),
            Self::Gone(scope, instance) | Self::Silent(scope, instance) => scope.systemctl("status", instance),
            Self::Agent { scope, instance, source } => after_answer(*scope, instance, source),
            Self::JobFailed { scope, instance, state, .. } => match state.as_str() {
                "canceled" => scope.ctl("resync", instance),
                _ => scope.ctl("status", instance),
            },
            Self::NotConfirmed(scope, instance) => scope.ctl("status", instance),
            Self::Import(error) => error.next(),
            Self::Bus(_) => "systemctl status dbus".to_owned(),
            Self::CtrlC(_) => "ulimit -n".to_owned(),
            Self::Output(_) => "df -h .".to_owned(),
        }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what(), words::next(&self.next()))
    }
}

fn after_answer(scope: Scope, instance: &str, error: &bus::Error) -> String {
    match error {
        bus::Error::NotAuthorized(_) | bus::Error::AuthenticationRequired(_) if scope == Scope::System => as_root(),
        bus::Error::NotAuthorized(_) | bus::Error::AuthenticationRequired(_) => scope.systemctl("status", instance),
        // What it has, and what is behind.
        bus::Error::UnknownRemote(_)
        | bus::Error::UnknownJob(_)
        | bus::Error::TimedOut(_)
        | bus::Error::RootMissing(_) => scope.ctl("status", instance),
        bus::Error::Paused(_) => scope.ctl("resume", instance),
        bus::Error::BadConfig(_) => scope.ctl("check", instance),
        bus::Error::NoConfigFile(_) => scope.systemctl("enable --now", instance),
        bus::Error::Stopping(_) => scope.systemctl("start", instance),
        bus::Error::TooManyCalls(_) => scope.ctl("status", instance),
        bus::Error::InvalidValue(_) | bus::Error::TooLarge(_) | bus::Error::Bus(_) => scope.journal(instance),
    }
}

/// Whether an error means that nobody owns the bus name.
pub fn is_absent(error: &zbus::Error) -> bool {
    let zbus::Error::FDO(error) = error else { return false };
    matches!(**error, fdo::Error::ServiceUnknown(_) | fdo::Error::NameHasNoOwner(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ends_in_what_to_type_next() {
        let (system, user) = (Scope::System, Scope::User);
        let stopped = |scope, state: &str| CtlError::NotRunning { scope, instance: "www".into(), state: state.into() };
        let answered = |scope, source| CtlError::Agent { scope, instance: "www".into(), source };
        let ended = |state: &str| CtlError::JobFailed {
            scope: system,
            instance: "www".into(),
            state: state.into(),
            result: "web2 refused".into(),
        };
        for (error, next) in [
            (CtlError::NoBus(system, zbus::Error::InvalidReply), "systemctl status dbus.socket"),
            (CtlError::NoInstance(user, "www".into()), "sersyncctl --user list"),
            (stopped(system, "stopped (enabled)"), "systemctl start sersync@www"),
            (stopped(user, "disabled"), "systemctl --user enable --now sersync@www"),
            (stopped(system, "failed"), "journalctl -u sersync@www -xe"),
            (CtlError::Gone(system, "www".into()), "systemctl status sersync@www"),
            (CtlError::Silent(user, "www".into()), "systemctl --user status sersync@www"),
            (answered(user, bus::Error::NotAuthorized("no".into())), "systemctl --user status sersync@www"),
            (answered(system, bus::Error::InvalidValue("no".into())), "journalctl -u sersync@www -xe"),
            (answered(system, bus::Error::UnknownJob("no job 3".into())), "sersyncctl status www"),
            (answered(system, bus::Error::Paused("web2 has 3 pending".into())), "sersyncctl resume www"),
            (ended("failed"), "sersyncctl status www"),
            (ended("canceled"), "sersyncctl resync www"),
            (CtlError::Bus(zbus::Error::InvalidReply), "systemctl status dbus"),
            (CtlError::Output(std::io::Error::from(std::io::ErrorKind::StorageFull)), "df -h ."),
        ] {
            let text = error.to_string();
            assert_eq!(text.lines().last(), Some(format!("next: {next}").as_str()), "{text}");
        }
        let refused = answered(system, bus::Error::NotAuthorized("user 1000 may not call Pause".into())).to_string();
        assert!(refused.starts_with("not authorized: user 1000 may not"), "{refused}");
        assert!(refused.contains("\nnext: sudo sersyncctl"), "{refused}");
    }
}
