//! Single files: how long until the remotes have one whole?

use crate::stand::Stand;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// After this a file is taken for lost.
pub const LOST: Duration = Duration::from_secs(15);

/// Quiet before the next one, and of uneven length, so that no timer of either side beats in step.
pub fn pause(sample: usize) {
    sleep(Duration::from_millis(40 + (sample * 7 % 31) as u64));
}

/// The time from before the file is opened until the first remote has it whole: rsync puts it in place by a rename.
/// `None`, if it is taken for lost.
pub fn arrival(stand: &Stand, name: &str, bytes: &[u8], lost: Duration) -> Option<Duration> {
    let name = name.trim_start_matches('/');
    let arrived = stand.copy(0).join(name);
    let start = Instant::now();
    fs::write(stand.source().join(name), bytes).expect("room for a file");
    while !arrived.exists() {
        if start.elapsed() > lost {
            return None;
        }
        // Short against what is measured, long enough to leave the processor to those who are measured.
        sleep(Duration::from_micros(100));
    }
    Some(start.elapsed())
}
