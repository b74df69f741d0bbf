//! [`Pruning`]: once a day, after a run that succeeded, a remote deletes what it has kept for longer than
//! `<keepDeleted days="…"/>`. A failure is logged and holds nothing up.

use crate::transport::{Endpoint, RootIdentity};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::AbortHandle;

/// Minimum time between two attempts.
const BETWEEN: Duration = Duration::from_secs(3600);

/// Length of a day, in seconds.
const DAY: u64 = 24 * 3600;

/// When one remote deleted last what was over. Dropped, it ends a run that is under way.
#[derive(Debug, Default)]
pub struct Pruning {
    /// Number of the day of the last success, counted from 1970 on.
    done: Arc<AtomicU64>,
    last: Option<(Instant, AbortHandle)>,
}

impl Pruning {
    /// Starts it, if it is due. `root` is the watched directory that the remote called `name` mirrors.
    pub fn start_if_due(
        &mut self,
        (name, endpoint): (&str, &Arc<Endpoint>),
        (root, identity): (PathBuf, Option<RootIdentity>),
        now: Instant,
        wall: SystemTime,
    ) {
        let today = wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY);
        let is_recent = |(last, task): &(Instant, AbortHandle)| !task.is_finished() || now < *last + BETWEEN;
        let is_done = self.done.load(Ordering::Relaxed) == today;
        if !endpoint.keeps_deleted() || is_done || self.last.as_ref().is_some_and(is_recent) {
            return;
        }
        let (name, endpoint, done) = (name.to_owned(), endpoint.clone(), self.done.clone());
        let task = tokio::spawn(async move {
            match endpoint.prune_kept(&root, identity).await {
                Ok(()) => done.store(today, Ordering::Relaxed),
                Err(fault) => tracing::warn!(
                    sersync_remote = name,
                    "{name}: cannot delete the days in .sersync-deleted that are over: {}; trying again in an hour",
                    fault.message
                ),
            }
        });
        self.last = Some((now, task.abort_handle()));
    }
}

impl Drop for Pruning {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.last {
            task.abort();
        }
    }
}
