//! [`Loading`]: the config is read on a thread; mirroring continues meanwhile.

use super::handle::{Answer, CommandError};
use crate::aside::aside;
use crate::config::Config;
use std::io;
use std::sync::Arc;
use tokio::task::{JoinError, JoinSet};

/// Reads the config.
pub type Load = Arc<dyn Fn() -> Result<Config, CommandError> + Send + Sync>;

/// The config that is being read, and the callers that wait for it.
pub(super) struct Loading {
    load: Load,
    /// At most one.
    running: JoinSet<io::Result<Result<Config, CommandError>>>,
    /// Callers whose config is being read.
    callers: Vec<Answer<()>>,
    /// Callers that came meanwhile: the file may have changed after it was read.
    next: Vec<Answer<()>>,
}

impl Loading {
    pub fn new(load: Load) -> Self {
        Self { load, running: JoinSet::new(), callers: Vec::new(), next: Vec::new() }
    }

    /// Reads the config for `caller`.
    pub fn ask(&mut self, caller: Answer<()>) {
        self.next.push(caller);
        self.begin();
    }

    /// Reads it for the callers that came while it was read for others.
    pub fn begin(&mut self) {
        if self.running.is_empty() && !self.next.is_empty() {
            self.callers = std::mem::take(&mut self.next);
            let load = self.load.clone();
            self.running.spawn(aside(move || load()));
        }
    }

    /// The config, once it is read, and the callers that wait for it. Never returns while none is being read.
    pub async fn ended(&mut self) -> (Result<Config, CommandError>, Vec<Answer<()>>) {
        match self.running.join_next().await {
            Some(read) => (config(read), std::mem::take(&mut self.callers)),
            None => std::future::pending().await,
        }
    }
}

fn config(read: Result<io::Result<Result<Config, CommandError>>, JoinError>) -> Result<Config, CommandError> {
    let error = match read {
        Ok(Ok(config)) => return config,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    Err(CommandError::BadConfig(format!("the config file cannot be read: {error}")))
}
