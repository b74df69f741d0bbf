//! [`StateLock`]: one agent for each state directory.
//!
//! Two agents that write one journal would lose each other's pending paths. The lock is a file of its own with the
//! owner's process number in it; the kernel releases it when the process ends, however it ends.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Maximum wait for an owner that is about to end, such as the process before a restart.
const WAIT: Duration = Duration::from_secs(5);

/// Interval between two tries.
const INTERVAL: Duration = Duration::from_millis(50);

/// The lock of a state directory, as long as it lives.
#[derive(Debug)]
pub struct StateLock {
    _file: Option<Flock<File>>,
}

/// Another agent uses the state directory.
#[derive(Debug, thiserror::Error)]
#[error(
    "the state directory {directory} is in use by process {owner}: stop that agent, or give this one another \
     directory with --state-dir"
)]
pub struct InUse {
    directory: PathBuf,
    /// As the lock file names it.
    owner: String,
}

impl StateLock {
    /// Takes the lock of `directory`, which is made if necessary. If the directory cannot be used, returns without
    /// a lock: the agent runs without state then, and reports it.
    ///
    /// # Errors
    ///
    /// Another process has the lock for longer than 5 seconds.
    pub async fn take(directory: &Path) -> Result<Self, InUse> {
        // As the journal makes it.
        let made = std::fs::create_dir_all(directory);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let Ok(mut file) = made.and_then(|()| options.open(directory.join("lock"))) else {
            return Ok(Self { _file: None });
        };
        let deadline = Instant::now() + WAIT;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut locked) => {
                    // Only people read it.
                    let _ = locked.set_len(0).and_then(|()| locked.rewind());
                    let _ = writeln!(locked, "{}", std::process::id());
                    return Ok(Self { _file: Some(locked) });
                }
                Err((unlocked, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = unlocked,
                Err((mut unlocked, Errno::EWOULDBLOCK)) => {
                    let mut owner = String::new();
                    let _ = unlocked.rewind().and_then(|()| unlocked.read_to_string(&mut owner).map(drop));
                    return Err(InUse { directory: directory.to_owned(), owner: owner.trim().to_owned() });
                }
                // A file system without locks.
                Err(_) => return Ok(Self { _file: None }),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::take(directory.path()).await.unwrap();
        let refused = StateLock::take(directory.path()).await.unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
        drop(first);
        StateLock::take(directory.path()).await.unwrap();
    }
}
