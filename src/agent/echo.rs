//! [`Echoes`]: notices that what is sent comes back.
//!
//! Where a remote mirrors to this machine in turn, a file that is sent there is sent back, and replaced here by a copy
//! of itself. That is a change like any other, so it is sent again, and so on without end. The mark of such a copy is
//! that it has the size and the very modification time of what was sent a moment before, and is another file.
//!
//! Where a remote lies inside the tree itself, behind an rsync daemon or ssh, what is sent comes back below it: `a`, then
//! `copy/a`, `copy/copy/a`, ever deeper. The mark of that is a directory that repeats itself, with the same file in it.
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
    /// By root and directory: what seems to be a remote inside its own tree.
    nests: HashMap<(PathBuf, RelPath), Nest>,
}

#[derive(Debug)]
struct Nest {
    /// How often it was found to go deeper.
    turns: u32,
    /// What is in it below itself is not sent before.
    until: Instant,
}

/// So often a directory repeats itself in a path before it is taken for a remote inside its own tree.
const NESTED: usize = 3;

/// What was found to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// This file was replaced by a copy of itself, so often.
    Echo(&'a Path, &'a RelPath, u32),
    /// This directory is a remote of the tree that it lies in.
    Nest(&'a Path, &'a RelPath),
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
        if let Some(directory) = self.nest_of(root, path, stamp, now) {
            let nest = self.nests.entry((root.to_path_buf(), directory));
            let nest = nest.or_insert(Nest { turns: 0, until: now });
            if nest.until > now {
                return false;
            }
            nest.turns += 1;
            nest.until = now + crate::pending::backoff(nest.turns, longest);
            return nest.turns == 1;
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
        let inside = |directory: &RelPath| {
            let bytes = path.as_bytes();
            directory.as_bytes().len() + 1 < bytes.len()
                && path.is_inside(directory)
                && RelPath::new(&bytes[directory.as_bytes().len() + 1..]).is_ok_and(|rest| rest.is_inside(directory))
        };
        let nests = self.nests.iter().filter(|((of, directory), _)| of == root && inside(directory));
        if let Some(until) = nests.map(|(_, nest)| nest.until).max().filter(|until| *until > now) {
            return Some(until);
        }
        let sent = self.sent.get(&(root.to_path_buf(), path.clone()))?;
        (sent.echoes >= LOOP && sent.until > now).then_some(sent.until)
    }

    /// The directory that `path`, just sent, repeats at its beginning, where the same file was sent from one directory
    /// less a moment ago.
    fn nest_of(&mut self, root: &Path, path: &RelPath, stamp: Stamp, now: Instant) -> Option<RelPath> {
        let components: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
        let repeats = |length: &usize| {
            let directory = &components[..*length];
            components.chunks(*length).take(NESTED).filter(|chunk| *chunk == directory).count() == NESTED
        };
        let length = (1..=(components.len() - 1) / NESTED).find(repeats)?;
        let above = RelPath::new(&components[length..].join(&b'/')).ok()?;
        let before = self.sent.get(&(root.to_path_buf(), above));
        let is_copy = before.is_some_and(|before| before.stamp.is_of_a_copy(stamp));
        let directory = RelPath::new(&components[..length].join(&b'/')).ok()?;
        // Remembered, so that what lies one deeper is known for a copy of this one.
        let at = Sent { stamp, at: now, echoes: 0, until: now };
        self.sent.insert((root.to_path_buf(), path.clone()), at);
        is_copy.then_some(directory)
    }

    /// A loop that turns now.
    pub fn heard(&self, now: Instant) -> Option<Heard<'_>> {
        if let Some(((root, directory), _)) = self.nests.iter().find(|(_, nest)| now < nest.until + SILENCE) {
            return Some(Heard::Nest(root, directory));
        }
        let turns = |sent: &&Sent| sent.echoes >= LOOP && now < sent.until + SILENCE;
        let loops = self.sent.iter().filter(|(_, sent)| turns(sent));
        let loudest = loops.max_by_key(|(_, sent)| sent.echoes);
        loudest.map(|((root, path), sent)| Heard::Echo(root, path, sent.echoes))
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
        assert_eq!(echoes.heard(now), Some(Heard::Echo(root, &path, 5)));
        assert_eq!(echoes.heard(now + LONGEST), None, "it has ended");

        let written: Vec<_> = (0..9).map(|turn| (stamp(turn, i128::from(turn)), turn)).collect();
        assert!(!tell(&mut Echoes::default(), &written).contains(&true), "a file that is replaced with a new time");
        let slow: Vec<_> = (0..9).map(|turn| (stamp(turn, 1), turn * 11)).collect();
        assert!(!tell(&mut Echoes::default(), &slow).contains(&true), "a copy now and then");
        let same: Vec<_> = (0..9).map(|turn| (stamp(1, 1), turn)).collect();
        assert!(!tell(&mut Echoes::default(), &same).contains(&true), "one file to many remotes");
    }

    #[test]
    fn a_directory_that_repeats_itself_with_the_same_file_is_a_remote_inside_its_tree() {
        let (root, now) = (Path::new("/r"), Instant::now());
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let stamp = |inode| Stamp { inode, size: 5, modified: 1 };
        let mut echoes = Echoes::default();
        let deeper = ["f", "x/y/f", "x/y/x/y/f", "x/y/x/y/x/y/f", "x/y/x/y/x/y/x/y/f"];
        let told: Vec<bool> = deeper
            .iter()
            .zip(0..)
            .map(|(deep, inode)| echoes.sent(root, &path(deep), stamp(inode), LONGEST, now))
            .collect();
        assert_eq!(told, [false, false, false, true, false], "a copy of a copy may be meant");
        assert_eq!(echoes.heard(now), Some(Heard::Nest(root, &path("x/y"))));
        assert!(echoes.pause(root, &path("x/y/x/y/other"), now).is_some());
        assert_eq!(echoes.pause(root, &path("x/y/f"), now), None, "what is in it once may be the tree's own");

        let mut echoes = Echoes::default();
        let others = ["a/a/a/f", "a/a/a/a/g"].iter().zip(0..);
        others.for_each(|(deep, inode)| assert!(!echoes.sent(root, &path(deep), stamp(inode), LONGEST, now)));
    }
}
