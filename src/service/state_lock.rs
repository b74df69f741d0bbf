//! [`StateLock`]: one agent for each state directory.
//!
//! Two agents that write one journal would lose each other's pending paths. The lock is a file of its own with the
//! owner's process number in it; the kernel releases it when the process ends, however it ends.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Uid, User};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
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

/// Why the state directory is not for this agent.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// Another agent uses it.
    #[error(
        "the state directory {directory} is in use by process {owner}: stop that agent, or give this one another \
         directory with --state-dir"
    )]
    InUse {
        /// It.
        directory: PathBuf,
        /// As the lock file names it.
        owner: String,
    },
    /// It belongs to another user, who could replace what this agent writes and reads there.
    #[error(
        "the state directory {directory} belongs to user {owner}, and this agent runs as user {user}: run it as user \
         {owner}, or give it another directory with --state-dir"
    )]
    OfAnotherUser {
        /// It.
        directory: PathBuf,
        /// Name or number of its owner.
        owner: String,
        /// The same of the calling user.
        user: String,
    },
}

impl StateLock {
    /// Takes the lock of `directory`, which is made if necessary. If the directory cannot be used, returns without
    /// a lock: the agent runs without state then, and reports it.
    ///
    /// # Errors
    ///
    /// Another process has the lock for longer than 5 seconds, or the directory belongs to another user than root and
    /// the calling one.
    pub async fn take(directory: &Path) -> Result<Self, NotOurs> {
        // As the journal makes it.
        let made = std::fs::create_dir_all(directory);
        if let Ok(metadata) = std::fs::metadata(directory) {
            check_owner(directory, Uid::from_raw(metadata.uid()), Uid::effective())?;
        }
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
                    return Err(NotOurs::InUse { directory: directory.to_owned(), owner: owner.trim().to_owned() });
                }
                // A file system without locks.
                Err(_) => return Ok(Self { _file: None }),
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// Nobody but root and the user of the agent may own its state directory: an owner can put links into it.
fn check_owner(directory: &Path, owner: Uid, user: Uid) -> Result<(), NotOurs> {
    if owner.is_root() || owner == user {
        return Ok(());
    }
    let name = |id: Uid| User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name);
    Err(NotOurs::OfAnotherUser { directory: directory.to_owned(), owner: name(owner), user: name(user) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_belongs_to_root_or_to_the_user_of_the_agent() {
        let [root, own, other] = [0, 4_000_000_001, 4_000_000_002].map(Uid::from_raw);
        let check = |owner, user| check_owner(Path::new("/state"), owner, user);
        assert!(check(root, root).is_ok() && check(root, own).is_ok() && check(own, own).is_ok());
        let refused = check(own, root).unwrap_err().to_string();
        assert!(refused.contains("/state belongs to user 4000000001, and this agent runs as user root"), "{refused}");
        assert!(check(other, own).is_err());
    }

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
