//! [`Spool`]: the memory into which events are read, made so that no event is lost with the process.
//!
//! read(2) of an inotify descriptor takes events out of the kernel's queue. From then on until what follows from them
//! is written down, they exist in this process alone, and `kill -9` ends it at any instant. So they are read straight
//! into memory that outlives the process: a memfd that systemd's file descriptor store holds as well. The call that
//! takes an event from the queue puts it there; there is no instant at which it is in neither.
//!
//! Two segments take turns. Events are appended to one; when it is full the other begins. What is no longer needed is
//! forgotten: all of it in a quiet moment, or the older segment once everything in it is surely settled. When the other
//! segment is still needed when one is full, the older one is given up and [`Spool::is_complete`] says so until the
//! next quiet moment: a crash meanwhile costs a comparison of the tree, never a change.
//!
//! A segment is zero behind its last event, and no event is zero: the end needs no counter that could be wrong. The
//! header says what was watched, and whether the descriptor's queue and the segments together hold every change that
//! is not written down.

use super::EventMask;
use super::descriptor::Event;
use super::rescan::WallTime;
use memmap2::MmapMut;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{Ordering, compiler_fence};

/// Room for the header.
const HEADER: usize = 64 * 1024;
/// Bytes of a segment: some 30,000 events.
const SEGMENT: usize = 1024 * 1024;
const SIZE: usize = HEADER + 2 * SEGMENT;
/// Bytes read at once, at most: room for some 2,000 events.
const AT_ONCE: usize = 64 * 1024;
/// With less room left a segment counts as full. One event has 272 bytes at most: 16, and a name of 255 with its end.
const LEAST: usize = 4096;
/// `struct inotify_event` without the name, inotify(7).
const EVENT: usize = 16;

const MAGIC: &[u8; 16] = b"sersync-spool 1\n";
const COMPLETE: usize = 16;
const ROOT: usize = 20;
const CAUGHT_UP: usize = 24;
const TURNS: [usize; 2] = [32, 40];
const LABEL_LENGTH: usize = 48;
const LABEL: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Spool {
    map: MmapMut,
    /// The segment that is written to.
    current: usize,
    /// How far each segment is written. One whose last event was cut short counts as full.
    used: [usize; 2],
    /// Counts the segments begun.
    turn: u64,
    /// Events were given up that may not be settled.
    is_lossy: bool,
    /// The number of bytes read from the descriptor by this process.
    pub bytes_read: u64,
}

impl Spool {
    /// One that ends with the process: for an agent whose descriptors nobody keeps.
    pub fn mortal() -> io::Result<Self> {
        Ok(Self::around(MmapMut::map_anon(SIZE)?))
    }

    /// New memory for [`Spool::open`]. Its size is sealed, so that nobody who holds it can pull it from under a mapping.
    pub fn memory() -> io::Result<OwnedFd> {
        let memory = memfd_create("sersync-spool", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&memory, SIZE as i64)?;
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals()))?;
        Ok(memory)
    }

    /// The spool in `memory`, new or left by a process before.
    ///
    /// # Errors
    ///
    /// It was not made by [`Spool::memory`], or cannot be mapped.
    pub fn open(memory: &OwnedFd) -> io::Result<Self> {
        let sealed = SealFlag::from_bits_truncate(fcntl(memory, FcntlArg::F_GET_SEALS)?);
        if !sealed.contains(seals()) || nix::sys::stat::fstat(memory)?.st_size != SIZE as i64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a spool of this version"));
        }
        // SAFETY: a file mapping is sound as long as nobody else changes or shrinks the file. The seals just checked
        // forbid to shrink it. It has no name in any file system: it is held by this process, which maps it once, and by
        // systemd's store, which only keeps it.
        let map = unsafe { MmapMut::map_mut(memory.as_raw_fd())? };
        Ok(Self::around(map))
    }

    fn around(map: MmapMut) -> Self {
        let mut spool = Self { map, current: 0, used: [0; 2], turn: 0, is_lossy: false, bytes_read: 0 };
        let [first, second] = [0, 1].map(|segment| spool.turn_of(segment));
        spool.current = usize::from(second > first);
        spool.turn = first.max(second);
        for segment in [0, 1] {
            spool.used[segment] = parse(spool.segment(segment), |_| ()).unwrap_or(SEGMENT);
        }
        spool
    }

    /// Whether it holds, together with the descriptor's queue, every change below what `label` describes that was not
    /// settled when its process ended.
    pub fn is_complete(&self, label: &[u8]) -> bool {
        let length = u32::from_ne_bytes(self.field(LABEL_LENGTH)) as usize;
        self.map[..MAGIC.len()] == *MAGIC
            && self.map[COMPLETE] == 1
            && length == label.len()
            && self.map.get(LABEL..LABEL + length) == Some(label)
    }

    /// Begins anew, for what `label` describes; not complete yet. A label that is too long never becomes so.
    pub fn begin(&mut self, label: &[u8]) {
        self.set_complete(false);
        self.forget();
        let fits = label.len() <= HEADER - LABEL;
        let kept = if fits { label } else { &[] };
        self.map[LABEL..LABEL + kept.len()].copy_from_slice(kept);
        self.put(LABEL_LENGTH, &(kept.len() as u32).to_ne_bytes());
        self.put(0, if fits { MAGIC } else { &[0; 16] });
    }

    /// Reads one buffer of `descriptor`'s events, and appends them to `events`; false when none were waiting.
    pub fn read(&mut self, descriptor: &impl AsFd, events: &mut VecDeque<Event>) -> nix::Result<bool> {
        if SEGMENT - self.used[self.current] < LEAST {
            self.switch();
        }
        if self.turn == 0 {
            self.turn = 1;
            self.put(TURNS[self.current], &1_u64.to_ne_bytes());
        }
        let start = HEADER + self.current * SEGMENT + self.used[self.current];
        let room = AT_ONCE.min(SEGMENT - self.used[self.current]);
        compiler_fence(Ordering::SeqCst);
        match nix::unistd::read(descriptor.as_fd(), &mut self.map[start..start + room]) {
            Ok(length) => {
                self.used[self.current] += length;
                self.bytes_read += length as u64;
                parse(&self.map[start..start + length], |event| events.push_back(event));
                Ok(length > 0)
            }
            Err(nix::Error::EAGAIN) => Ok(false),
            Err(nix::Error::EINTR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// All events that were not forgotten, oldest first. Where one was cut short, an overflow stands for it.
    pub fn events(&self) -> VecDeque<Event> {
        let mut order = [0, 1];
        order.sort_by_key(|segment| self.turn_of(*segment));
        let mut events = VecDeque::new();
        for segment in order.into_iter().filter(|segment| self.turn_of(*segment) != 0) {
            if parse(self.segment(segment), |event| events.push_back(event)).is_none() {
                events.push_back(Event::overflow());
            }
        }
        events
    }

    /// Whether there is anything to forget.
    pub fn is_used(&self) -> bool {
        self.turn != 0 || self.is_lossy
    }

    /// Whether there is an older segment beside the one that is written to.
    pub fn has_older(&self) -> bool {
        self.turn_of(1 - self.current) != 0
    }

    /// Everything read so far is settled.
    pub fn forget(&mut self) {
        self.discard(1 - self.current);
        self.discard(self.current);
        self.turn = 0;
        self.is_lossy = false;
    }

    /// What is in the older segment is settled.
    pub fn forget_older(&mut self) {
        self.discard(1 - self.current);
    }

    /// Says for a process to come whether all that is not settled is in here and in the queue.
    pub fn set_complete(&mut self, complete: bool) {
        let complete = complete && !self.is_lossy;
        if self.map[COMPLETE] != u8::from(complete) {
            self.put(COMPLETE, &[u8::from(complete)]);
        }
    }

    /// The number of the root's watch.
    pub fn root(&self) -> i32 {
        i32::from_ne_bytes(self.field(ROOT))
    }

    /// See [`Spool::root`].
    pub fn set_root(&mut self, watch: i32) {
        self.put(ROOT, &watch.to_ne_bytes());
    }

    /// When the queue was last seen empty.
    pub fn caught_up(&self) -> WallTime {
        WallTime::from_ne_bytes(self.field(CAUGHT_UP))
    }

    /// See [`Spool::caught_up`].
    pub fn set_caught_up(&mut self, at: WallTime) {
        self.put(CAUGHT_UP, &at.to_ne_bytes());
    }

    /// The segment is full: the other one begins.
    fn switch(&mut self) {
        if self.has_older() {
            self.is_lossy = true;
            self.set_complete(false);
            self.forget_older();
        }
        self.current = 1 - self.current;
        self.turn += 1;
        self.put(TURNS[self.current], &self.turn.to_ne_bytes());
    }

    /// Empties a segment. Its turn goes first: half of it must not be taken for the whole.
    fn discard(&mut self, segment: usize) {
        if self.turn_of(segment) != 0 {
            self.put(TURNS[segment], &0_u64.to_ne_bytes());
        }
        let start = HEADER + segment * SEGMENT;
        self.map[start..start + std::mem::take(&mut self.used[segment])].fill(0);
    }

    /// The number under which a segment was begun; 0: there is nothing in it.
    fn turn_of(&self, segment: usize) -> u64 {
        u64::from_ne_bytes(self.field(TURNS[segment]))
    }

    fn segment(&self, segment: usize) -> &[u8] {
        let start = HEADER + segment * SEGMENT;
        &self.map[start..start + SEGMENT]
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.map[at..at + N]);
        bytes
    }

    /// Writes a field. What was written before is there before it: whoever comes after a `kill` must not see them in
    /// another order. (The processor keeps the order for whoever runs after the process has ended; the compiler must be
    /// told.)
    fn put(&mut self, at: usize, bytes: &[u8]) {
        compiler_fence(Ordering::SeqCst);
        self.map[at..at + bytes.len()].copy_from_slice(bytes);
        compiler_fence(Ordering::SeqCst);
    }
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Hands out the events in `bytes` up to where they are zero, and gives back where that is; `None`: the last event was
/// cut short.
fn parse(bytes: &[u8], mut event: impl FnMut(Event)) -> Option<usize> {
    let mut at = 0;
    loop {
        let Some((head, rest)) = bytes[at..].split_first_chunk::<EVENT>() else { return Some(at) };
        let word = |nth: usize| [head[4 * nth], head[4 * nth + 1], head[4 * nth + 2], head[4 * nth + 3]];
        let key = i32::from_ne_bytes(word(0));
        if key == 0 {
            return Some(at);
        }
        let length = u32::from_ne_bytes(word(3)) as usize;
        let name = rest.get(..length)?.split(|byte| *byte == 0).next().unwrap_or_default();
        // The kernel writes the head first: a name that is not there yet is all zeros.
        if length > 0 && name.is_empty() {
            return None;
        }
        event(Event {
            key,
            mask: EventMask::from_bits_retain(u32::from_ne_bytes(word(1))),
            cookie: u32::from_ne_bytes(word(2)),
            name: (length > 0).then(|| OsString::from(OsStr::from_bytes(name))),
        });
        at += EVENT + length;
    }
}
