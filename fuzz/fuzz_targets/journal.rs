//! Any bytes as a journal, and journals of the project's own, cut and broken.
//!
//! Three kinds of input: a file that begins as a journal does is read as it is; `r…` is a list of records of any content,
//! to which the sums are made (no mutation would ever guess them); anything else is a life of a journal, and what
//! happened to the file at its end. What a reader has to find is said here once more, in a few lines, from the table in
//! src/journal/record.rs.

#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use sersync::fuzzing::journal_record::{self as record, HEAD, Record, Standing};
use sersync::fuzzing::replay;
use sersync::journal::LeftRemote;
use sersync::path::RelPath;
use sersync::pending::Kind;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

const BOOT: &str = "0b5b8c5e-6d4c-4b7e-9a37-5d1f4f0e9a11";
const KINDS: [(u8, Kind); 5] = [
    (b'a', Kind::Attributes),
    (b'e', Kind::Entry),
    (b'p', Kind::Pruned),
    (b't', Kind::Tree),
    (b'v', Kind::VerifiedTree),
];

type Pending = BTreeMap<(usize, RelPath), Kind>;

fuzz_target!(|data: &[u8]| match data {
    [b's', b'e', b'r', ..] => says_what_its_records_say(data),
    [b'r', records @ ..] => says_what_its_records_say(&framed(records)),
    other => {
        let mut choices = Unstructured::new(other);
        let _ = Life::arbitrary(&mut choices).map(|life| live(&life));
    }
});

/// Neither more nor less than the records: the naive reader finds the same, or both find damage.
fn says_what_its_records_say(bytes: &[u8]) {
    let found = replay(bytes, BOOT).ok().map(|left| (names(&left.remotes), pending(&left.remotes)));
    assert_eq!(found, naive(bytes));
}

/// A head, and the records whose type and body are given as `LENGTH TYPE BODY`, with the sums that they need.
fn framed(mut records: &[u8]) -> Vec<u8> {
    let mut log = record::head(Standing::Running, BOOT).to_vec();
    while let Some((length, rest)) = records.split_first() {
        let (record, rest) = rest.split_at((*length as usize).min(rest.len()));
        let length = (record.len() as u32).to_le_bytes();
        log.extend(length);
        log.extend(crc32fast::hash(&length).to_le_bytes());
        log.extend(crc32fast::hash(record).to_le_bytes());
        log.extend(record);
        records = rest;
    }
    log
}

fn naive(bytes: &[u8]) -> Option<(Vec<(PathBuf, String)>, Pending)> {
    let (_, _) = record::read_head(bytes)?;
    let (mut remotes, mut pending, mut whole, mut at) = (Vec::new(), Pending::new(), false, HEAD);
    let word = |at: usize| bytes.get(at..at + 4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    while let (Some(length), Some(length_sum), Some(sum)) = (word(at), word(at + 4), word(at + 8)) {
        if length == 0 || crc32fast::hash(&length.to_le_bytes()) != length_sum {
            return None;
        }
        let Some(record) = bytes.get(at + 12..at + 12 + length as usize) else { break };
        if crc32fast::hash(record) != sum {
            return None;
        }
        at += 12 + record.len();
        let (letter, body) = record.split_first()?;
        let numbered = || {
            let (number, rest) = body.split_at_checked(4)?;
            let number = u32::from_le_bytes([number[0], number[1], number[2], number[3]]) as usize;
            (number < remotes.len()).then_some((number, rest))
        };
        match letter {
            b'r' => {
                let cut = body.iter().position(|byte| *byte == 0)?;
                let name = String::from_utf8(body[cut + 1..].to_vec()).ok()?;
                let root: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(&body[..cut]);
                remotes.push((PathBuf::from(root), name));
            }
            b'p' => {
                let (number, rest) = numbered()?;
                let (letter, path) = rest.split_first()?;
                let (_, kind) = KINDS.iter().find(|(known, _)| known == letter)?;
                pending.insert((number, RelPath::new(path).ok()?), *kind);
            }
            b'd' => {
                let (number, path) = numbered()?;
                pending.remove(&(number, RelPath::new(path).ok()?));
            }
            b't' if body.len() == 8 => {}
            b'e' if body.is_empty() => whole = true,
            _ => return None,
        }
    }
    whole.then_some((remotes, pending))
}

#[derive(Debug, Arbitrary)]
struct Life {
    /// What the last rewrite held.
    rewritten: Vec<(u8, Path, u8)>,
    steps: Vec<Step>,
    harm: Harm,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Pending(u8, Path, u8),
    Done(u8, Path),
    Since,
    Commit,
}

/// One of a few, so that the same ones come again.
#[derive(Debug, Arbitrary)]
struct Path(u8);

#[derive(Debug, Arbitrary)]
enum Harm {
    None,
    /// Its writer was killed.
    Cut(u32),
    /// The disk broke a bit.
    Flip(u32, u8),
    /// Both.
    CutAndFlip(u32, u32, u8),
}

impl Path {
    fn path(&self) -> RelPath {
        let bytes = [b"d\xff\n\"$(x)/", &[b'a' + self.0 % 26][..]].concat();
        RelPath::new(&bytes).expect("it has two names, neither of them empty nor a dot")
    }
}

fn kind(number: u8) -> Kind {
    KINDS[number as usize % KINDS.len()].1
}

/// Writes the life down as the agent does, does the harm, and sees what is found.
fn live(life: &Life) {
    const REMOTES: usize = 2;
    let remote = |number: &u8| *number as usize % REMOTES;
    let mut log = record::head(Standing::Running, BOOT).to_vec();
    let mut now = Pending::new();
    Record::Since(SystemTime::UNIX_EPOCH).write(&mut log);
    for number in 0..REMOTES {
        Record::Remote(PathBuf::from("/data"), format!("web{number}::www")).write(&mut log);
    }
    for (number, path, letter) in &life.rewritten {
        record::pending(&mut log, remote(number) as u32, &path.path(), kind(*letter));
        now.insert((remote(number), path.path()), kind(*letter));
    }
    Record::End.write(&mut log);
    // Every state that was passed through, with the length of the log at which it is whole.
    let mut states = vec![(log.len(), now.clone())];
    let mut committed = vec![log.len()];
    for step in &life.steps {
        match step {
            Step::Pending(number, path, letter) => {
                record::pending(&mut log, remote(number) as u32, &path.path(), kind(*letter));
                now.insert((remote(number), path.path()), kind(*letter));
            }
            Step::Done(number, path) => {
                record::done(&mut log, remote(number) as u32, &path.path());
                now.remove(&(remote(number), path.path()));
            }
            Step::Since => Record::Since(SystemTime::UNIX_EPOCH).write(&mut log),
            Step::Commit => committed.push(log.len()),
        }
        states.push((log.len(), now.clone()));
    }
    let whole = replay(&log, BOOT).expect("nothing was done to it");
    assert_eq!(pending(&whole.remotes), now);
    let (mut bytes, flipped) = (log.clone(), life.harm.flip());
    if let Some(cut) = life.harm.cut() {
        bytes.truncate(cut as usize % (log.len() + 1));
    }
    let place = flipped.filter(|_| !bytes.is_empty()).map(|(at, bit)| (at as usize % bytes.len(), bit));
    if let Some((at, bit)) = place {
        bytes[at] ^= 1 << (bit % 8);
    }
    let found = replay(&bytes, BOOT);
    let Ok(left) = found else {
        let torn_before_it_was_whole = bytes.len() < committed[0];
        assert!(torn_before_it_was_whole || place.is_some(), "a torn end is no damage");
        return;
    };
    // The last whole state: never less, and never one that was not there.
    let last_whole = states.iter().rev().find(|(length, _)| *length <= bytes.len());
    let (length, expected) = last_whole.expect("what is shorter than a rewrite is damaged");
    assert_eq!(&pending(&left.remotes), expected);
    assert!(committed.iter().filter(|committed| **committed <= bytes.len()).all(|committed| committed <= length));
    if let Some((at, _)) = place {
        let says_nothing = left.doubt.is_some() || at >= record::STANDING_AT as usize + 37;
        let in_head = at < HEAD && says_nothing;
        assert!(in_head || at >= *length, "byte {at} was broken, and nobody noticed");
    }
}

impl Harm {
    fn cut(&self) -> Option<u32> {
        match self {
            Self::Cut(at) | Self::CutAndFlip(at, ..) => Some(*at),
            Self::None | Self::Flip(..) => None,
        }
    }

    fn flip(&self) -> Option<(u32, u8)> {
        match self {
            Self::Flip(at, bit) | Self::CutAndFlip(_, at, bit) => Some((*at, *bit)),
            Self::None | Self::Cut(_) => None,
        }
    }
}

fn names(remotes: &[LeftRemote]) -> Vec<(PathBuf, String)> {
    remotes.iter().map(|remote| (remote.root.clone(), remote.name.clone())).collect()
}

fn pending(remotes: &[LeftRemote]) -> Pending {
    let numbered = remotes.iter().enumerate();
    numbered
        .flat_map(|(number, left)| left.paths.iter().map(move |(path, kind)| ((number, path.clone()), *kind)))
        .collect()
}
