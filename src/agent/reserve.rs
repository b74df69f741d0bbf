//! [`Reserve`]: has one rsync of a remote started ahead of the next change (`<ahead seconds="…"/>`).
//!
//! One at a time, and only while nothing live runs there: in a burst the next run is started when its paths are known.
//! One that has waited for its time is replaced by another, before the server or a firewall on the way loses patience.
//! Where one was gone when it was fed, the time is halved; where that does not help, or the server has no connection to
//! spare, none is started ahead any more until the config is read again.

use crate::transport::{Ahead, Endpoint, Readiness};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// A server that does not wait this long has none started ahead.
const SHORTEST: Duration = Duration::from_secs(5);

/// After one that could not be started, or ended by itself, none is for so long.
const PAUSE: Duration = Duration::from_secs(60);

/// The run that waits for a remote's next change, and what was learned of such runs.
#[derive(Debug)]
pub struct Reserve {
    ready: Option<Ahead>,
    /// One is replaced after so long; `None`: none is started.
    longest: Option<Duration>,
    not_before: Option<Instant>,
}

impl Reserve {
    /// One that keeps a run ready for `longest` at a time; zero: none at all.
    pub fn new(longest: Duration) -> Self {
        Self { ready: None, longest: Some(longest).filter(|longest| !longest.is_zero()), not_before: None }
    }

    /// Sees to it that one waits that was started for `readiness`.
    pub fn keep(&mut self, endpoint: &Endpoint, root: &Path, readiness: Readiness, now: Instant) {
        let Some(longest) = self.longest else { return };
        if let Some(ahead) = &self.ready {
            if !ahead.is_alive() {
                // Whatever it met, another would meet it too.
                (self.ready, self.not_before) = (None, Some(now + PAUSE));
            } else if ahead.readiness() == readiness && now < ahead.started() + longest {
                return;
            }
        }
        if self.not_before.is_some_and(|at| now < at) {
            return;
        }
        match Ahead::start(endpoint, root, readiness) {
            Ok(ahead) => (self.ready, self.not_before) = (Some(ahead), None),
            // After the next run.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready = None,
            Err(_) => (self.ready, self.not_before) = (None, Some(now + PAUSE)),
        }
    }

    /// Takes it for a run.
    pub fn take(&mut self) -> Option<Ahead> {
        self.ready.take()
    }

    /// The run did not need it.
    pub fn put_back(&mut self, unused: Option<Ahead>) {
        if self.ready.is_none() && self.longest.is_some() {
            self.ready = unused;
        }
    }

    /// Ends it: nothing is to be sent for a while.
    pub fn rest(&mut self) {
        self.ready = None;
    }

    /// It was gone when it was fed. Returns whether none is started ahead from now on.
    pub fn was_gone(&mut self) -> bool {
        let Some(longest) = self.longest else { return false };
        self.ready = None;
        self.longest = Some(longest / 2).filter(|longest| *longest >= SHORTEST);
        self.longest.is_none()
    }

    /// The server has no connection to spare. If the one that waits holds one, that and all others are given up: returns
    /// whether they are.
    pub fn give_up(&mut self) -> bool {
        self.ready.take().is_some() && self.longest.take().is_some()
    }

    /// When [`Reserve::keep`] has something to replace.
    pub fn next_wake(&self) -> Option<Instant> {
        Some(self.ready.as_ref()?.started() + self.longest?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_impatient_is_asked_less_and_then_not_at_all() {
        let mut reserve = Reserve::new(Duration::from_secs(30));
        let given_up: Vec<bool> = (0..4).map(|_| reserve.was_gone()).collect();
        assert_eq!(given_up, [false, false, true, false], "15 s, 7.5 s, none");
        assert!(!Reserve::new(Duration::from_secs(30)).give_up(), "it holds no connection that others lack");
    }
}
