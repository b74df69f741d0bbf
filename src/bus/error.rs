//! [`Error`]: what a method answers when it does not do what was asked, as D-Bus errors `org.sersync.Error.*`.

use crate::agent::CommandError;
use std::fmt;
use zbus::DBusError;

/// Why a method was not carried out. Each holds one sentence for people: what is wrong, and what to do.
#[derive(Debug, Clone, DBusError)]
#[zbus(prefix = "org.sersync.Error", impl_display = false)]
pub enum Error {
    /// The bus itself failed; only a client meets this one.
    #[zbus(error)]
    Bus(zbus::Error),
    /// The caller may not do that.
    NotAuthorized(String),
    /// The caller may do that after a password, and the call did not allow to ask for it.
    AuthenticationRequired(String),
    /// A remote of that name is not in the config.
    UnknownRemote(String),
    /// There is no such full sync, or it was forgotten long after its end.
    UnknownJob(String),
    /// The time ran out; the text names the remotes that are behind.
    TimedOut(String),
    /// The instance is paused; the text names the remotes that are behind.
    Paused(String),
    /// A watched directory is not there, so that nothing can be said about the remotes; the text says why.
    RootMissing(String),
    /// The new config has mistakes; the old one stays in force. The text is the list of mistakes.
    BadConfig(String),
    /// The instance has no config file to reload.
    NoConfigFile(String),
    /// The agent is on its way out.
    Stopping(String),
    /// The message is longer than any that the agent expects. It was not read.
    TooLarge(String),
    /// The caller, its user or all callers together have too many calls that wait for an answer.
    TooManyCalls(String),
    /// A value that the property does not take.
    InvalidValue(String),
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        let text = error.to_string();
        match error {
            CommandError::UnknownRemote(..) | CommandError::NoRemotes => Self::UnknownRemote(text),
            CommandError::UnknownJob(_) => Self::UnknownJob(text),
            CommandError::TimedOut(_) => Self::TimedOut(text),
            CommandError::Paused(_) => Self::Paused(text),
            CommandError::RootMissing(_) => Self::RootMissing(text),
            CommandError::BadConfig(_) | CommandError::Conflict(_) => Self::BadConfig(text),
            CommandError::NoConfigFile => Self::NoConfigFile(text),
            CommandError::Stopping => Self::Stopping(text),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bus(zbus::Error::MethodError(_, Some(text), _)) => f.write_str(text),
            Self::Bus(error) => write!(f, "{error}"),
            named => f.write_str(named.description().unwrap_or_default()),
        }
    }
}
