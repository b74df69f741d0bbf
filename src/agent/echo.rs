//! [`Echoes`]: notices that what is sent comes back.
//!
//! Where a remote mirrors to this machine in turn, a file that is sent there is sent back, and replaced here by a copy
//! of itself. That is a change like any other, so it is sent again, and so on without end. The mark of such a copy is
//! that it has the size and the very modification time of what was sent a moment before, and is another file.
//!
//! A file may be replaced in that way by something else, and with another content at that. So what looks like an echo is
//! reported, and goes on being sent, but with pauses that grow: a loop turns ever slower, and nothing is lost.

use crate::path::RelPath;
use crate::transport::Stamp;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// So many echoes of one path in a row make a loop.
const LOOP: u32 = 4;

/// What comes back later than this has another reason.
const QUICK: Duration = Duration::from_secs(10);

/// So many paths are listened for; the rest of a loop behaves as these do.
const PATHS_AT_MOST: usize = 1_000;

/// A loop that was not heard of for so long, beyond its pause, has ended.
const SILENCE: Duration = Duration::from_secs(60);

/// What was sent of the files of all roots lately.
#[derive(Debug, Default)]
pub struct Echoes {
    sent: HashMap<(PathBuf, RelPath), Sent>,
}

#[derive(Debug)]
struct Sent {
    stamp: Stamp,
    at: Instant,
    /// How often in a row it came back.
    echoes: u32,
    /// It is not sent again before.
    until: Instant,
}

impl Echoes {
    /// A run sent `path` below `root` as `stamp` has it. Says so when that makes a loop of it.
    pub fn sent(&mut self, root: &Path, path: &RelPath, stamp: Stamp, longest: Duration, now: Instant) -> bool {
        if self.sent.len() >= PATHS_AT_MOST {
            self.sent.retain(|_, sent| now < sent.until + QUICK);
        }
        let key = (root.to_path_buf(), path.clone());
        let Some(before) = self.sent.get_mut(&key) else {
            if self.sent.len() < PATHS_AT_MOST {
                self.sent.insert(key, Sent { stamp, at: now, echoes: 0, until: now });
            }
            return false;
        };
        if before.stamp == stamp {
            // To another remote, or once more for a reason of our own.
            before.at = now;
            return false;
        }
        let is_echo = before.stamp.is_of_a_copy(stamp) && now < before.until.max(before.at) + QUICK;
        before.echoes = if is_echo { before.echoes + 1 } else { 0 };
        (before.stamp, before.at) = (stamp, now);
        let over = before.echoes.checked_sub(LOOP);
        let pause = over.map_or(Duration::ZERO, |over| crate::pending::backoff(over + 1, longest));
        before.until = now + pause;
        before.echoes == LOOP
    }

    /// Until when `path` below `root` had better wait, if it has to.
    pub fn pause(&self, root: &Path, path: &RelPath, now: Instant) -> Option<Instant> {
        if self.sent.is_empty() {
            return None;
        }
        let sent = self.sent.get(&(root.to_path_buf(), path.clone()))?;
        (sent.echoes >= LOOP && sent.until > now).then_some(sent.until)
    }

    /// A path of a loop that turns now, with its root, and how often it came back.
    pub fn heard(&self, now: Instant) -> Option<(&Path, &RelPath, u32)> {
        let turns = |sent: &&Sent| sent.echoes >= LOOP && now < sent.until + SILENCE;
        let loops = self.sent.iter().filter(|(_, sent)| turns(sent));
        loops.map(|((root, path), sent)| (root.as_path(), path, sent.echoes)).max_by_key(|(_, _, echoes)| *echoes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(300);

    #[test]
    fn only_a_quick_copy_over_and_over_is_a_loop() {
        let (root, path, start) = (Path::new("/r"), RelPath::new(b"f").unwrap(), Instant::now());
        let stamp = |inode, modified| Stamp { inode, size: 5, modified };
        let tell = |echoes: &mut Echoes, turns: &[(Stamp, u64)]| -> Vec<bool> {
            turns
                .iter()
                .map(|(stamp, seconds)| {
                    echoes.sent(root, &path, *stamp, LONGEST, start + Duration::from_secs(*seconds))
                })
                .collect()
        };
        let mut echoes = Echoes::default();
        let copies: Vec<_> = (0..6).map(|turn| (stamp(turn, 1), turn)).collect();
        assert_eq!(tell(&mut echoes, &copies), [false, false, false, false, true, false]);
        let now = start + Duration::from_secs(5);
        assert_eq!(echoes.pause(root, &path, now), Some(now + Duration::from_secs(2)));
        assert_eq!(echoes.heard(now), Some((root, &path, 5)));
        assert_eq!(echoes.heard(now + LONGEST), None, "it has ended");

        let written: Vec<_> = (0..9).map(|turn| (stamp(turn, i128::from(turn)), turn)).collect();
        assert!(!tell(&mut Echoes::default(), &written).contains(&true), "a file that is replaced with a new time");
        let slow: Vec<_> = (0..9).map(|turn| (stamp(turn, 1), turn * 11)).collect();
        assert!(!tell(&mut Echoes::default(), &slow).contains(&true), "a copy now and then");
        let same: Vec<_> = (0..9).map(|turn| (stamp(1, 1), turn)).collect();
        assert!(!tell(&mut Echoes::default(), &same).contains(&true), "one file to many remotes");
    }
}
