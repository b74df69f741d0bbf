//! Any bytes as the output of an rsync run: whatever a remote makes rsync print, no path is named that has nothing to
//! do with the batch, and every figure is one.
//!
//! An input is `FLAGS PATHS NUL STDOUT NUL STDERR`, one path a line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sersync::fuzzing::rsync_output::{Batch, understand};
use sersync::path::RelPath;
use sersync::pending::Kind;
use std::path::Path;

fuzz_target!(|data: &[u8]| {
    let Some((flags, rest)) = data.split_first() else { return };
    let mut parts = rest.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (paths, stdout, stderr) = (part(), part(), part());
    let mut paths: Vec<RelPath> = paths.split(|byte| *byte == b'\n').filter_map(|p| RelPath::new(p).ok()).collect();
    paths.sort();
    paths.dedup();
    let batch = Batch {
        root: Path::new("/data/www"),
        paths: &paths,
        kind: [Kind::Attributes, Kind::Entry, Kind::Tree, Kind::VerifiedTree][(flags & 3) as usize],
        prefix: [&b""[..], b"srv/", b"sub/dir/", b"data/www/"][(flags >> 2 & 3) as usize],
    };
    let exists = |path: &RelPath| (flags >> 4).wrapping_add(coin(path.as_bytes())) & 1 == 0;
    let understood = understand(batch, stdout, &String::from_utf8_lossy(stderr), &exists);

    let concerns =
        |path: &&RelPath| paths.iter().any(|held| held == *path || held.is_inside(path) || path.is_inside(held));
    let outcome = &understood.outcome;
    let failed = outcome.failed.iter().map(|(path, _)| path);
    let mut named = failed
        .chain(&outcome.again)
        .chain(&understood.complained_of)
        .chain(&understood.doomed)
        .chain(understood.synced.iter().map(|synced| &synced.path));
    let stranger = named.find(|path| !concerns(path));
    assert!(stranger.is_none(), "{stranger:?} is none of {paths:?}");

    assert!(outcome.failed.is_sorted_by(|a, b| a.0 < b.0), "each path fails once");
    assert!(outcome.again.iter().all(|path| outcome.failed.iter().all(|(failed, _)| failed != path)));
    let faults = outcome.failed.iter().map(|(_, fault)| fault).chain(&outcome.fault);
    for fault in faults {
        assert!(!fault.name.is_empty() && !fault.message.contains('\n'), "{fault:?}");
    }
    assert!(understood.progress.iter().all(|progress| (0.0..=1.0).contains(&progress.fraction)));
});

/// Falls the same way for the same bytes.
fn coin(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}
