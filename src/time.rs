//! The clocks of the engine: [`now`] for pauses and limits, [`wall`] for people and for the times of files.
//!
//! Both are the machine's, except in the simulation of the agent: there tokio's paused clock moves the first one, and
//! the second one follows it.

use std::time::{Instant, SystemTime};

/// The monotonic clock.
pub fn now() -> Instant {
    // tokio's clock is std's, except in a test that pauses it.
    tokio::time::Instant::now().into_std()
}

/// The wall clock.
pub fn wall() -> SystemTime {
    #[cfg(test)]
    if let Some(simulated) = simulated::wall() {
        return simulated;
    }
    SystemTime::now()
}

/// The wall clock of a simulation, for the thread that runs it.
#[cfg(test)]
pub mod simulated {
    use std::cell::Cell;
    use std::time::{Duration, Instant, SystemTime};

    thread_local! {
        /// A moment of the monotonic clock, and the wall clock's time at that moment.
        static ANCHOR: Cell<Option<(Instant, SystemTime)>> = const { Cell::new(None) };
    }

    pub(super) fn wall() -> Option<SystemTime> {
        let (instant, time) = ANCHOR.get()?;
        Some(time + super::now().duration_since(instant))
    }

    /// Whether this thread runs a simulation.
    pub fn is_on() -> bool {
        ANCHOR.get().is_some()
    }

    /// Sets the wall clock of this thread.
    pub fn set_wall(time: SystemTime) {
        ANCHOR.set(Some((super::now(), time)));
    }

    /// Moves the wall clock of this thread ahead, or back where `back` is true.
    pub fn step_wall(by: Duration, back: bool) {
        let time = super::wall();
        set_wall(if back { time - by } else { time + by });
    }

    /// This thread has the machine's wall clock again.
    pub fn end() {
        ANCHOR.set(None);
    }
}
