//! How the journal looks on disk: a head, then records, each whole or not there.
//!
//! The head is 64 bytes: the magic with its version, one byte that says how far the rest can be trusted ([`Standing`]),
//! the boot id, padding. It alone is ever written in place, and only its one byte, which takes no room on a full disk.
//!
//! A record is `LENGTH SUM SUM TYPE BODY`: the length of type and body (u32), the CRC-32 of the length, the CRC-32 of type
//! and body, a letter, the body. With a sum of its own a length that was damaged is not taken for one that reaches
//! beyond the end, as that of a record does whose writer was killed. Numbers are little-endian. Remotes are numbered by
//! the order of their `r` records.
//!
//! | type | body |
//! |---|---|
//! | `r` | a remote: ROOT NUL NAME |
//! | `t` | since when changes may be missing, should this process crash: microseconds since the epoch (u64) |
//! | `p` | pending: remote (u32), kind (a letter), path |
//! | `d` | not pending any more: remote (u32), path |
//! | `e` | the end of a rewrite: what is before it is all there is |

use crate::path::RelPath;
use crate::pending::Kind;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The length of the head.
pub const HEAD: usize = 64;
/// Where in the head the standing is.
pub const STANDING_AT: u64 = 18;
const MAGIC: &[u8; 18] = b"sersync-journal 1\n";
const BOOT_ID: usize = 36;
/// Length and sums.
const PREFIX: usize = 12;

/// How far a journal can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A process writes to it, or was killed while it did: all of it counts, on the same boot.
    Running,
    /// A process ended in order, and everything reached the disk: it counts after a power loss as well.
    Stopped,
    /// Something could not be written: what it says is true, but it does not say all.
    Gaps,
}

impl Standing {
    /// The byte in the head. No two of them are a few bits apart.
    pub fn byte(self) -> u8 {
        match self {
            Self::Running => 0x52,
            Self::Stopped => 0xad,
            Self::Gaps => 0x6b,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Running, Self::Stopped, Self::Gaps].into_iter().find(|standing| standing.byte() == byte)
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The remote of the next number.
    Remote(PathBuf, String),
    /// Since when changes may be missing after a crash.
    Since(SystemTime),
    /// Pending for the remote of that number.
    Pending(u32, RelPath, Kind),
    /// Not pending for it any more.
    Done(u32, RelPath),
    /// The end of a rewrite.
    End,
}

/// The head of a journal of the boot `boot_id`.
pub fn head(standing: Standing, boot_id: &str) -> [u8; HEAD] {
    let mut head = [b'\n'; HEAD];
    head[..MAGIC.len()].copy_from_slice(MAGIC);
    head[MAGIC.len()] = standing.byte();
    let boot_id = &boot_id.as_bytes()[..boot_id.len().min(BOOT_ID)];
    head[MAGIC.len() + 1..][..boot_id.len()].copy_from_slice(boot_id);
    head
}

/// What a head says: the standing and the boot id.
pub fn read_head(bytes: &[u8]) -> Option<(Standing, &str)> {
    let head = bytes.get(..HEAD)?;
    let standing = Standing::of(*head.strip_prefix(MAGIC)?.first()?)?;
    let boot_id = std::str::from_utf8(&head[MAGIC.len() + 1..][..BOOT_ID]).ok()?;
    Some((standing, boot_id.trim_end()))
}

impl Record {
    /// Appends the record to `log`.
    pub fn write(&self, log: &mut Vec<u8>) {
        match self {
            Self::Remote(root, name) => {
                frame(log, b'r', &[root.as_os_str().as_bytes(), b"\0", name.as_bytes()]);
            }
            Self::Since(since) => {
                let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
                frame(log, b't', &[&u64::try_from(since).unwrap_or(u64::MAX).to_le_bytes()]);
            }
            Self::Pending(remote, path, kind) => pending(log, *remote, path, *kind),
            Self::Done(remote, path) => done(log, *remote, path),
            Self::End => frame(log, b'e', &[]),
        }
    }

    fn read(kind: u8, body: &[u8]) -> Option<Self> {
        match kind {
            b'r' => {
                let cut = body.iter().position(|byte| *byte == 0)?;
                let name = std::str::from_utf8(&body[cut + 1..]).ok()?;
                let root = Path::new(OsStr::from_bytes(&body[..cut]));
                Some(Self::Remote(root.to_path_buf(), name.to_owned()))
            }
            b't' => {
                let since = Duration::from_micros(u64::from_le_bytes(body.try_into().ok()?));
                Some(Self::Since(SystemTime::UNIX_EPOCH.checked_add(since)?))
            }
            b'p' => {
                let (remote, rest) = body.split_first_chunk()?;
                let (letter, path) = rest.split_first()?;
                Some(Self::Pending(u32::from_le_bytes(*remote), RelPath::new(path).ok()?, kind_of(*letter)?))
            }
            b'd' => {
                let (remote, path) = body.split_first_chunk()?;
                Some(Self::Done(u32::from_le_bytes(*remote), RelPath::new(path).ok()?))
            }
            b'e' if body.is_empty() => Some(Self::End),
            _ => None,
        }
    }
}

/// Appends a [`Record::Pending`] without making one.
pub fn pending(log: &mut Vec<u8>, remote: u32, path: &RelPath, kind: Kind) {
    frame(log, b'p', &[&remote.to_le_bytes(), &[letter(kind)], path.as_bytes()]);
}

/// Appends a [`Record::Done`] without making one.
pub fn done(log: &mut Vec<u8>, remote: u32, path: &RelPath) {
    frame(log, b'd', &[&remote.to_le_bytes(), path.as_bytes()]);
}

fn frame(log: &mut Vec<u8>, kind: u8, body: &[&[u8]]) {
    let start = log.len();
    log.extend_from_slice(&[0; PREFIX]);
    log.push(kind);
    for part in body {
        log.extend_from_slice(part);
    }
    // A path of 4 GiB does not fit into memory's limits long before it does not fit in here.
    let length = ((log.len() - start - PREFIX) as u32).to_le_bytes();
    let sum = crc32fast::hash(&log[start + PREFIX..]);
    for (word, at) in [length, crc32fast::hash(&length).to_le_bytes(), sum.to_le_bytes()].into_iter().zip([0, 4, 8]) {
        log[start + at..start + at + 4].copy_from_slice(&word);
    }
}

fn letter(kind: Kind) -> u8 {
    match kind {
        Kind::Attributes => b'a',
        Kind::Entry => b'e',
        Kind::Pruned => b'p',
        Kind::Tree => b't',
        Kind::VerifiedTree => b'v',
    }
}

fn kind_of(byte: u8) -> Option<Kind> {
    [Kind::Attributes, Kind::Entry, Kind::Pruned, Kind::Tree, Kind::VerifiedTree]
        .into_iter()
        .find(|kind| letter(*kind) == byte)
}

/// What comes next in a log.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A record, and what follows it.
    Record(Record, &'a [u8]),
    /// Nothing more.
    End,
    /// The beginning of a record: whoever wrote it was killed in the middle.
    Torn,
    /// No record: somebody else wrote this, or the disk broke it.
    Damaged,
}

/// Reads the record at the start of `log`.
pub fn next(log: &[u8]) -> Next<'_> {
    if log.is_empty() {
        return Next::End;
    }
    let Some((prefix, rest)) = log.split_first_chunk::<PREFIX>() else { return Next::Torn };
    let word = |at: usize| [prefix[at], prefix[at + 1], prefix[at + 2], prefix[at + 3]];
    if crc32fast::hash(&word(0)) != u32::from_le_bytes(word(4)) {
        return Next::Damaged;
    }
    let (length, sum) = (u32::from_le_bytes(word(0)) as usize, u32::from_le_bytes(word(8)));
    if length == 0 {
        return Next::Damaged;
    }
    let Some((record, rest)) = rest.split_at_checked(length) else { return Next::Torn };
    if crc32fast::hash(record) != sum {
        return Next::Damaged;
    }
    match Record::read(record[0], &record[1..]) {
        Some(record) => Next::Record(record, rest),
        None => Next::Damaged,
    }
}
