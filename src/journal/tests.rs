//! The journal on a real file system, cut, broken, and on a full disk.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

type Pending = BTreeMap<RelPath, Kind>;

const BOOT: &str = "0b5b8c5e-6d4c-4b7e-9a37-5d1f4f0e9a11";
const SINCE: SystemTime = SystemTime::UNIX_EPOCH;

fn path(text: &[u8]) -> RelPath {
    RelPath::new(text).unwrap()
}

fn content(pending: &Pending) -> [Content<'_>; 1] {
    let paths = Box::new(pending.iter().map(|(path, kind)| (path, *kind)));
    [Content { root: Path::new("/data"), name: "backup@web1::www", paths }]
}

/// A journal with this in it.
fn journal(directory: &Path, pending: &Pending) -> Journal {
    let (mut journal, left) = Journal::open_as(directory, BOOT).unwrap();
    assert_eq!(left, None);
    journal.rewrite(SINCE, content(pending)).unwrap();
    journal
}

fn left(directory: &Path, boot: &str) -> Left {
    Journal::open_as(directory, boot).unwrap().1.expect("there is one").expect("it is whole")
}

#[derive(Debug, Clone)]
enum Step {
    Pending(u8, Kind),
    Done(u8),
    Commit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        Just(Kind::Attributes),
        Just(Kind::Entry),
        Just(Kind::Pruned),
        Just(Kind::Tree),
        Just(Kind::VerifiedTree)
    ];
    let step = prop_oneof![
        3 => (0..20u8, kind).prop_map(|(path, kind)| Step::Pending(path, kind)),
        2 => (0..20u8).prop_map(Step::Done),
        2 => Just(Step::Commit),
    ];
    prop::collection::vec(step, 0..60)
}

/// Bytes of any sort.
fn odd(number: u8) -> RelPath {
    path(&[b"d\xff\n\"$(x)/", &[b'a' + number % 26][..]].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn wherever_its_writer_is_killed_nothing_committed_is_lost(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        let mut pending = Pending::new();
        let mut journal = journal(directory.path(), &pending);
        // After each commit: the length of the file, and what was pending; between them, every state passed through.
        let mut states = vec![pending.clone()];
        let mut committed = vec![(journal.length, 0)];
        for step in steps.into_iter().chain([Step::Commit]) {
            match step {
                Step::Pending(number, kind) => {
                    pending.insert(odd(number), kind);
                    journal.pending(0, &odd(number), kind);
                    states.push(pending.clone());
                }
                Step::Done(number) => {
                    pending.remove(&odd(number));
                    journal.done(0, &odd(number));
                    states.push(pending.clone());
                }
                Step::Commit => {
                    journal.commit().unwrap();
                    committed.push((journal.length, states.len() - 1));
                }
            }
        }
        let bytes = std::fs::read(&journal.path).unwrap();
        for cut in committed[0].0..=bytes.len() as u64 {
            let replayed = replay::replay(&bytes[..cut as usize], BOOT).expect("a torn end is no damage");
            let found = &replayed.remotes[0].paths;
            let last = committed.iter().rposition(|(length, _)| *length <= cut).unwrap();
            let (from, to) = (committed[last].1, committed.get(last + 1).map_or(committed[last].1, |next| next.1));
            prop_assert!(states[from..=to].contains(found), "cut at {cut}: {found:?}");
        }
    }

    #[test]
    fn a_broken_byte_is_noticed(at in 0..1_000usize, bit in 0..8u8) {
        let directory = tempfile::tempdir().unwrap();
        let pending: Pending = (0..10).map(|number| (odd(number), Kind::Entry)).collect();
        let mut journal = journal(directory.path(), &pending);
        journal.done(0, &odd(3));
        journal.commit().unwrap();
        let mut bytes = std::fs::read(&journal.path).unwrap();
        let whole = replay::replay(&bytes, BOOT).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        // Padding says nothing.
        if let Ok(found) = replay::replay(&bytes, BOOT) {
            prop_assert!(found == whole && at < record::HEAD || found.doubt.is_some(), "byte {at}: {found:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_stumble(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = replay::replay(&bytes, BOOT);
        let with_head = [&record::head(Standing::Running, BOOT)[..], &bytes].concat();
        let _ = replay::replay(&with_head, BOOT);
    }
}

#[test]
fn a_process_to_come_knows_how_the_last_one_ended() {
    let directory = tempfile::tempdir().unwrap();
    let pending = Pending::from([(path(b"a"), Kind::Tree)]);
    let mut journal = journal(directory.path(), &pending);
    let now = SINCE + Duration::from_micros(1_700_000_000_123_456);
    journal.since(now);
    journal.commit().unwrap();
    let killed = left(directory.path(), BOOT);
    assert_eq!((killed.orderly, killed.doubt, killed.since), (false, None, now));
    assert_eq!(
        (killed.remotes[0].root.as_path(), killed.remotes[0].name.as_str()),
        (Path::new("/data"), "backup@web1::www")
    );
    assert_eq!(left(directory.path(), "another").doubt, Some(Doubt::OtherBoot), "power was lost");
    journal.stop(now, content(&pending)).unwrap();
    let stopped = left(directory.path(), "another");
    assert_eq!((stopped.orderly, stopped.doubt), (true, None), "all of it had reached the disk");
    assert_eq!(stopped.remotes[0].paths, pending);
}

#[test]
fn a_damaged_one_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("journal"), "something else").unwrap();
    let (mut journal, left) = Journal::open_as(directory.path(), BOOT).unwrap();
    assert_eq!(left, Some(Err(Damaged)));
    assert_eq!(std::fs::read(journal.set_aside()).unwrap(), b"something else");
    journal.rewrite(SINCE, content(&Pending::new())).unwrap();
    assert_eq!(super::tests::left(directory.path(), BOOT).remotes.len(), 1);
}

#[test]
fn it_is_bounded_by_what_is_pending() {
    let directory = tempfile::tempdir().unwrap();
    let pending: Pending = (0..26).map(|number| (odd(number), Kind::Entry)).collect();
    let mut journal = journal(directory.path(), &pending);
    let mut longest = 0;
    for _ in 0..200 {
        for _ in 0..10 {
            pending.keys().for_each(|path| journal.done(0, path));
            pending.keys().for_each(|path| journal.pending(0, path, Kind::Entry));
            journal.commit().unwrap();
        }
        longest = longest.max(std::fs::metadata(&journal.path).unwrap().len());
        if journal.wants_rewrite() {
            journal.rewrite(SINCE, content(&pending)).unwrap();
        }
    }
    assert!(longest < 2 * SHORT, "{longest} bytes");
    assert_eq!(left(directory.path(), BOOT).remotes[0].paths, pending);
}

#[test]
fn on_a_full_disk_it_says_that_it_has_gaps_and_mends_itself() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let _turn = crate::forks::none();
    let directory = tempfile::tempdir().unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), directory.path(), Some("tmpfs"), flags, Some("size=256k")).unwrap();
    let mounted = scopeguard(directory.path());
    let pending = Pending::from([(path(b"a"), Kind::Entry)]);
    let mut journal = journal(directory.path(), &pending);
    let ballast = directory.path().join("ballast");
    let _ = std::fs::write(&ballast, vec![1; 512 * 1024]);
    let many: Pending = (0..20_000).map(|number| (path(format!("f{number}").as_bytes()), Kind::Entry)).collect();
    many.iter().for_each(|(path, kind)| journal.pending(0, path, *kind));
    assert!(journal.commit().is_err(), "the disk is full");
    assert!(journal.rewrite(SINCE, content(&many)).is_err(), "it still is");
    assert_eq!(left(directory.path(), BOOT).doubt, Some(Doubt::Gaps));
    assert!(journal.wants_rewrite());
    std::fs::remove_file(&ballast).unwrap();
    journal.rewrite(SINCE, content(&pending)).unwrap();
    let mended = left(directory.path(), BOOT);
    assert_eq!((mended.doubt, &mended.remotes[0].paths), (None, &pending));
    drop(mounted);
}

/// Unmounts it at the end of the test, whatever its end.
fn scopeguard(directory: &Path) -> impl Drop {
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
        }
    }
    Mounted(directory.to_path_buf())
}
