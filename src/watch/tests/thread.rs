//! The thread and its handle.

use super::*;
use crate::watch::spawn;

fn next(reports: &mut UnboundedReceiver<Report>) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reports.try_recv() {
            Ok(Report::Mounted(_)) => {}
            Ok(report) => return report,
            Err(_) => assert!(Instant::now() < deadline, "no report within {PATIENCE:?}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn drains_counts_and_ends() {
    let _turn = crate::forks::none();
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join("d")).unwrap();
    let (sender, mut reports) = unbounded_channel();
    let watch = spawn(spec(home.path()), None, sender).unwrap();
    assert!(matches!(next(&mut reports), Report::RootReady { returned: false, .. }));
    for token in 0..50 {
        fs::write(home.path().join("d/file"), "x").unwrap();
        watch.drain(token);
        let mut seen = Vec::new();
        loop {
            match next(&mut reports) {
                Report::Changes(changes) => seen.extend(changes),
                Report::Drained(drained) => break assert_eq!(drained, token),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen[0].path.as_bytes(), b"d/file", "reported before the drain is answered");
    }
    assert_eq!(watch.watched_directories(), 2);
    assert!(watch.events_seen() >= 50);
    assert_eq!(watch.overflows(), 0);
    let start = Instant::now();
    drop(watch);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(matches!(reports.try_recv(), Err(tokio::sync::mpsc::error::TryRecvError::Disconnected)), "joined");
}

#[test]
fn ends_in_the_middle_of_a_walk() {
    let _turn = crate::forks::none();
    let home = tempfile::tempdir().unwrap();
    for number in 0..2000 {
        fs::create_dir(home.path().join(number.to_string())).unwrap();
    }
    let (sender, mut reports) = unbounded_channel();
    let watch = spawn(spec(home.path()), None, sender).unwrap();
    drop(watch);
    while let Ok(report) = reports.try_recv() {
        assert!(!matches!(report, Report::RootMissing(_)), "{report:?}");
    }
}
