//! [`Unclosed`]: files that were modified and not closed since.
//!
//! A write is followed by the close of the file, which reports it. truncate(2) by name is followed by nothing, and so is
//! a write to a file that stays open, such as a database. inotify cannot tell them apart, and nothing tells an
//! unprivileged process whether a file is open. So a file is reported when nothing has modified it for a second. If it is
//! modified again after that, still without a close, a program keeps it open: the pause that counts doubles each time, up
//! to [`LONGEST`], so that a log that is written to all day is sent about once a minute at most.
//!
//! New files whose creation was seen are not in this set: see [`super::open_files`]. One that may be new waits for its close,
//! or for the longest pause.
//!
//! A file is known by its directory's watch and its name, as in [`super::open_files`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

/// Maximum number of files. Further ones are reported at once.
const LIMIT: usize = 100_000;

/// Maximum pause after which a modified file is reported.
pub const LONGEST: Duration = Duration::from_secs(64);

/// Time without a modification after which a reported file is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug, Default)]
pub struct Unclosed {
    by_watch: HashMap<i32, HashMap<OsString, File>>,
    /// When each file is looked at. A modification does not move its file: most end with a close before.
    turns: BTreeMap<Turn, (i32, OsString)>,
    /// The numbers of the files that wait to be reported, new ones aside.
    waiting: BTreeSet<u64>,
    sequence: u64,
}

/// A time; the number distinguishes files with the same one.
type Turn = (Instant, u64);

#[derive(Debug)]
struct File {
    modified: Instant,
    turn: Turn,
    /// `None` once it is reported.
    number: Option<u64>,
    /// The pause after its last modification that it waits for.
    pause: Duration,
    /// It may be a new file, for which no barrier waits.
    is_new: bool,
}

/// A file that nothing has modified for a while.
#[derive(Debug, PartialEq, Eq)]
pub struct Due {
    /// The watch of its directory.
    pub key: i32,
    /// Its name there.
    pub name: OsString,
    /// For how long.
    pub pause: Duration,
    number: u64,
}

impl Unclosed {
    /// Takes in one more modification of a file that waits. Returns `false` for any other file.
    ///
    /// `renumber`: callers that wait for earlier modifications do not wait for this one.
    pub fn touch(&mut self, key: i32, name: &OsStr, now: Instant, renumber: bool) -> bool {
        let Some(file) = self.by_watch.get_mut(&key).and_then(|files| files.get_mut(name)) else { return false };
        let Some(number) = file.number else { return false };
        file.modified = now;
        if renumber && !file.is_new {
            self.sequence += 1;
            self.waiting.remove(&number);
            self.waiting.insert(self.sequence);
            file.number = Some(self.sequence);
        }
        true
    }

    /// The file `name` of the directory with the watch `key` was modified. Returns `false` if there are too many.
    ///
    /// `pause`: the pause that the first report waits for.
    #[must_use]
    pub fn modified(&mut self, key: i32, name: &OsStr, now: Instant, pause: Duration) -> bool {
        if self.touch(key, name, now, false) {
            return true;
        }
        let pause = match self.take(key, name) {
            Some(reported) => (reported.pause * 2).min(LONGEST.max(pause)),
            None if self.turns.len() >= LIMIT => return false,
            None => pause,
        };
        self.add(key, name, now, pause, false);
        true
    }

    /// The same for a file that may be a new one, whose close is what counts. Returns `false` if there are too many.
    #[must_use]
    pub fn new_modified(&mut self, key: i32, name: &OsStr, now: Instant) -> bool {
        let has_room = self.turns.len() < LIMIT;
        if has_room {
            self.take(key, name);
            self.add(key, name, now, LONGEST, true);
        }
        has_room
    }

    fn add(&mut self, key: i32, name: &OsStr, modified: Instant, pause: Duration, is_new: bool) {
        self.sequence += 1;
        let (turn, number) = ((modified + pause, self.sequence), Some(self.sequence));
        self.put(key, name.to_owned(), File { modified, turn, number, pause, is_new });
    }

    /// Whether the file waits, and may be a new one.
    pub fn is_new(&self, key: i32, name: &OsStr) -> bool {
        let file = self.by_watch.get(&key).and_then(|files| files.get(name));
        file.is_some_and(|file| file.is_new && file.number.is_some())
    }

    /// Has a file wait for a longer pause instead of being reported. `is_new`: it may be a new file, whose close is what
    /// counts.
    pub fn put_back(&mut self, due: Due, pause: Duration, is_new: bool) {
        let Due { key, name, number, .. } = due;
        if let Some(file) = self.take(key, &name) {
            let turn = (file.modified + pause, file.turn.1);
            self.put(key, name, File { turn, number: Some(number), pause, is_new, ..file });
        }
    }

    fn put(&mut self, key: i32, name: OsString, file: File) {
        self.waiting.extend(file.number.filter(|_| !file.is_new));
        self.turns.insert(file.turn, (key, name.clone()));
        self.by_watch.entry(key).or_default().insert(name, file);
    }

    /// Forgets the file: it was closed, renamed or removed. Returns whether it waited to be reported.
    pub fn remove(&mut self, key: i32, name: &OsStr) -> bool {
        self.take(key, name).is_some_and(|file| file.number.is_some())
    }

    fn take(&mut self, key: i32, name: &OsStr) -> Option<File> {
        let files = self.by_watch.get_mut(&key)?;
        let file = files.remove(name)?;
        if files.is_empty() {
            self.by_watch.remove(&key);
        }
        self.turns.remove(&file.turn);
        if let Some(number) = file.number {
            self.waiting.remove(&number);
        }
        Some(file)
    }

    /// Forgets all files of the watch `key`: it has ended.
    pub fn watch_ended(&mut self, key: i32) {
        for file in self.by_watch.remove(&key).into_iter().flat_map(HashMap::into_values) {
            self.turns.remove(&file.turn);
            if let Some(number) = file.number {
                self.waiting.remove(&number);
            }
        }
    }

    /// A file to report: the pause after its last modification was over by `now`.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        loop {
            let (turn, (key, name)) = self.turns.first_key_value().filter(|((until, _), _)| *until <= now)?;
            let (turn, key, name) = (*turn, *key, name.clone());
            let file = self.by_watch.get_mut(&key)?.get_mut(&name)?;
            let Some(number) = file.number else {
                self.take(key, &name);
                continue;
            };
            let over = file.modified + file.pause;
            let is_over = over <= now;
            let next = if is_over { now + FORGOTTEN } else { over };
            self.turns.remove(&turn);
            file.turn = (next, turn.1);
            self.turns.insert(file.turn, (key, name.clone()));
            if is_over {
                file.number = None;
                self.waiting.remove(&number);
                return Some(Due { key, name, pause: file.pause, number });
            }
        }
    }

    /// Has all files that wait, and were last modified before `before`, wait no longer than for `pause`.
    pub fn hurry(&mut self, before: Instant, pause: Duration) {
        let files =
            self.by_watch.iter_mut().flat_map(|(key, files)| files.iter_mut().map(|(name, file)| (*key, name, file)));
        let late = files.filter(|(_, _, file)| file.waits_since(before) && file.pause > pause);
        for (key, name, file) in late {
            self.turns.remove(&file.turn);
            (file.pause, file.turn) = (pause, (file.modified + pause, file.turn.1));
            self.turns.insert(file.turn, (key, name.clone()));
        }
    }

    /// Whether a file waits that was last modified before `before`.
    pub fn waits_since(&self, before: Instant) -> bool {
        self.by_watch.values().flat_map(HashMap::values).any(|file| file.waits_since(before))
    }

    /// Whether no file waits to be reported.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The number of the modification that has waited the longest; those that follow have greater numbers.
    pub fn oldest(&self) -> Option<u64> {
        self.waiting.first().copied()
    }

    /// The number of the last modification.
    pub fn last(&self) -> u64 {
        self.sequence
    }

    /// When the next file has to be looked at.
    pub fn next(&self) -> Option<Instant> {
        self.turns.first_key_value().map(|((until, _), _)| *until)
    }

    /// Forgets all files: the tree is gone.
    pub fn clear(&mut self) {
        let sequence = self.sequence;
        *self = Self { sequence, ..Self::default() };
    }
}

impl File {
    /// Whether it waits to be reported, was last modified before `before`, and is not new.
    fn waits_since(&self, before: Instant) -> bool {
        self.number.is_some() && self.modified <= before && !self.is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_file_is_due_after_a_pause_that_doubles_while_no_close_comes() {
        let (mut files, name, mut now) = (Unclosed::default(), OsStr::new("log"), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(files.modified(1, name, now, SECOND) && files.modified(1, name, now + SECOND / 2, SECOND));
            now += SECOND / 2;
            let (at, due) = loop {
                let at = files.next().unwrap();
                if let Some(due) = files.due(at) {
                    break (at, due);
                }
            };
            assert_eq!((due.key, due.name.as_os_str()), (1, name));
            pauses.push((at - now).as_secs());
            now = at;
            assert!(files.is_empty());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert!(!files.remove(1, name), "it was reported");
        assert!(files.modified(1, name, now, SECOND) && files.due(now + SECOND).is_some(), "a close makes it new");
        assert!(files.due(now + SECOND + FORGOTTEN).is_none() && files.turns.is_empty(), "forgotten");
    }

    #[test]
    fn files_end_one_by_one_or_with_their_watch_and_in_the_order_of_their_numbers() {
        let ([a, b], now) = (["a", "b"].map(OsStr::new), Instant::now());
        let mut files = Unclosed::default();
        for (key, name) in [(1, a), (1, b), (2, a)] {
            assert!(files.modified(key, name, now, SECOND));
        }
        let last = files.last();
        assert!(files.touch(1, a, now, true) && !files.touch(3, a, now, true));
        assert_eq!((files.oldest(), files.last()), (Some(2), last + 1));
        assert!(files.remove(1, b) && !files.remove(1, b));
        files.watch_ended(2);
        assert!(files.oldest() > Some(last), "only what was modified later is left");
        files.watch_ended(1);
        assert!(files.is_empty() && files.turns.is_empty() && files.by_watch.is_empty());
    }

    #[test]
    fn whoever_hurries_waits_for_the_shortest_pause() {
        let (mut files, name, now) = (Unclosed::default(), OsStr::new("log"), Instant::now());
        assert!(files.modified(1, name, now, 8 * SECOND));
        files.hurry(now - SECOND, SECOND);
        assert_eq!(files.due(now + SECOND), None, "modified later");
        assert!(files.waits_since(now) && !files.waits_since(now - SECOND));
        files.hurry(now, SECOND);
        let due = files.due(now + SECOND).unwrap();
        let number = due.number;
        files.put_back(due, 3 * SECOND, false);
        assert_eq!((files.oldest(), files.due(now + 2 * SECOND)), (Some(number), None), "still waited for");
        let due = files.due(now + 3 * SECOND).unwrap();
        files.put_back(due, LONGEST, true);
        assert_eq!((files.oldest(), files.waits_since(now)), (None, false), "nobody waits for a new file");
        assert!(files.due(now + LONGEST).is_some());
    }
}
