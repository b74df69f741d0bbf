//! [`Target`]: who is told, and the one call that tells it.

use super::command::Command;
use super::event::Event;
use super::http::Http;
use super::queue::{Item, Place};
use super::refresh_cdn::RefreshCdn;
use super::socket::Socket;
use crate::aside::aside;
use crate::config::{Calls, PluginName, Plugins};
use crate::human::shortened;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// So many paths at most are read by one start of a batch command.
const BATCH: usize = 10_000;

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Command(Command),
    Socket(Socket),
    Http(Http),
    RefreshCdn(RefreshCdn),
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct CallError {
    /// What happened, in one line.
    pub message: String,
    /// Any other path would have failed as well: the target does not answer, or takes nobody.
    pub is_target_down: bool,
}

/// Maximum length of a message, in bytes: a server or a command may have written it.
const LONGEST: usize = 1024;

impl CallError {
    /// The target as a whole does not do its work.
    pub fn down(message: String) -> Self {
        Self { message: shortened(message, LONGEST), is_target_down: true }
    }

    /// It does not like this path.
    pub fn path(message: String) -> Self {
        Self { message: shortened(message, LONGEST), is_target_down: false }
    }

    /// The work on it was not done. What the system refuses it refuses to every path.
    pub fn aside(what: &str, error: &io::Error) -> Self {
        Self { message: format!("{what}: {error}"), is_target_down: error.raw_os_error().is_some() }
    }
}

/// A path as a call tells of it.
#[derive(Debug, Clone)]
pub(super) struct News {
    pub place: Place,
    pub absolute: PathBuf,
    pub event: Event,
    pub remotes: Vec<Arc<str>>,
}

impl Target {
    /// All targets of the plugin `name`.
    pub fn of(plugins: &Plugins, name: PluginName) -> Vec<Self> {
        match name {
            PluginName::Command => plugins.command.iter().cloned().map(Command::new).map(Self::Command).collect(),
            PluginName::Socket => plugins.socket.iter().cloned().map(Socket).map(Self::Socket).collect(),
            PluginName::Http => plugins.http.iter().cloned().map(Http::new).map(Self::Http).collect(),
            PluginName::RefreshCdn => {
                plugins.refresh_cdn.iter().cloned().map(RefreshCdn::new).map(Self::RefreshCdn).collect()
            }
        }
    }

    pub fn plugin(&self) -> PluginName {
        match self {
            Self::Command(_) => PluginName::Command,
            Self::Socket(_) => PluginName::Socket,
            Self::Http(_) => PluginName::Http,
            Self::RefreshCdn(_) => PluginName::RefreshCdn,
        }
    }

    /// Where it is, for people; holds no secret.
    pub fn address(&self) -> String {
        match self {
            Self::Command(command) => command.address(),
            Self::Socket(socket) => socket.address(),
            Self::Http(http) => http.address(),
            Self::RefreshCdn(cdn) => cdn.address(),
        }
    }

    pub fn calls(&self) -> Calls {
        match self {
            Self::Command(command) => command.calls(),
            Self::Socket(socket) => socket.0.calls,
            Self::Http(http) => http.calls(),
            Self::RefreshCdn(cdn) => cdn.calls(),
        }
    }

    /// How many paths one call may tell of.
    pub fn paths_per_call(&self) -> usize {
        if self.is_batch() { BATCH } else { 1 }
    }

    /// How many calls may run at once: batches gather while one runs.
    pub fn calls_at_once(&self) -> usize {
        if self.is_batch() { 1 } else { self.calls().concurrency }
    }

    fn is_batch(&self) -> bool {
        matches!(self, Self::Command(command) if command.is_batch())
    }

    /// Whether it is to be told of `place`.
    pub fn wants(&self, place: &Place) -> bool {
        let absolute = place.absolute();
        match self {
            Self::Command(command) => command.wants(&absolute),
            Self::Socket(socket) => absolute.starts_with(&socket.0.watch),
            Self::Http(http) => absolute.starts_with(http.watch()),
            Self::RefreshCdn(cdn) => cdn.url(&absolute).is_some(),
        }
    }

    /// Tells it, within its time limit. `items` is what [`Target::paths_per_call`] allows, at least one.
    pub async fn call(&self, items: &[Item], instance: &str) -> Result<(), CallError> {
        if let Self::Command(command) = self
            && command.is_batch()
        {
            return command.run_batch(items, instance).await;
        }
        for item in items {
            let news = self.in_time(look(item), CallError::path).await?;
            match self {
                // A program is asked to end, a request has a limit of its own.
                Self::Command(command) => command.run(&news, instance).await?,
                Self::Http(http) => http.send(news, instance).await?,
                Self::Socket(socket) => self.in_time(socket.send(&news), CallError::down).await?,
                Self::RefreshCdn(cdn) => self.in_time(cdn.send(&news), CallError::down).await?,
            }
        }
        Ok(())
    }

    async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, CallError>>,
        late: fn(String) -> CallError,
    ) -> Result<T, CallError> {
        let limit = self.calls().timeout;
        let seconds = limit.as_secs();
        let result = tokio::time::timeout(limit, step).await;
        result.unwrap_or_else(|_| Err(late(format!("{}: not done within {seconds} s", self.address()))))
    }
}

/// Finds out what there is to tell. A disk that does not answer holds up nobody but this call.
async fn look(item: &Item) -> Result<News, CallError> {
    let (place, cause) = (item.told.place.clone(), item.told.cause);
    let absolute = place.absolute();
    let looking = aside(move || {
        let event = Event::look(cause, &place);
        (event, place)
    });
    match looking.await {
        Ok((Ok(event), place)) => Ok(News { place, absolute, event, remotes: item.told.remotes.clone() }),
        Ok((Err(error), _)) => Err(CallError::path(format!("{} cannot be looked at: {error}", absolute.display()))),
        Err(error) => Err(CallError::aside("looking at the path", &error)),
    }
}
