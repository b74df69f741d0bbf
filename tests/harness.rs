//! Who tests the tests: the judge sees every kind of difference, and the daemon and the writer are what they say.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use support::rsyncd::{PASSWORD, USER};
use support::scene::{MODULE, Place};
use support::tree::{Judge, put, set_modified};
use support::writer::Writer;

/// One plain rsync of the whole tree to a daemon, by the book.
fn push(source: &Path, destination: &str) {
    let status = Command::new("rsync")
        .args(["-a", "--delete", "-I", "--modify-window=-1"])
        .arg(source.join(""))
        .arg(destination)
        .env("RSYNC_PASSWORD", PASSWORD)
        .status()
        .unwrap();
    assert!(status.success(), "rsync: {status}");
}

#[test]
fn the_judge_sees_every_difference() {
    let place = Place::new();
    let (source, copy) = (place.source(), place.make("copy"));
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_600_000_000, 5);
    let reset = || {
        for side in [&source, &copy] {
            fs::remove_dir_all(side).unwrap();
            put(&side.join("dir/file"), "content");
            symlink("target", side.join("link")).unwrap();
            for path in ["dir/file", "dir", "link"] {
                set_modified(&side.join(path), time);
            }
        }
        Judge::default().directory_times().assert_equal_now(&source, &copy);
    };
    let seen = |harm: &dyn Fn(), words: &str| {
        reset();
        harm();
        let found = Judge::default().directory_times().differences(&source, &copy);
        assert!(found.iter().any(|line| line.contains(words)), "{words:?} is not among {found:?}");
    };
    seen(&|| fs::remove_file(copy.join("link")).unwrap(), "missing");
    seen(&|| put(&copy.join("dir/more"), ""), "superfluous");
    seen(&|| put(&copy.join("dir/file"), "contents"), "bytes, not");
    seen(&|| fs::set_permissions(copy.join("dir"), Permissions::from_mode(0o700)).unwrap(), "has mode");
    seen(&|| set_modified(&copy.join("dir"), time + Duration::from_nanos(1)), "was modified at");
    let other_link = || {
        fs::remove_file(copy.join("link")).unwrap();
        symlink("elsewhere", copy.join("link")).unwrap();
    };
    seen(&other_link, "points to");
    let other_bytes = || {
        put(&copy.join("dir/file"), "CONTENT");
        set_modified(&copy.join("dir/file"), time);
        set_modified(&copy.join("dir"), time);
    };
    seen(&other_bytes, "holds");
    let other_kind = || {
        fs::remove_file(copy.join("link")).unwrap();
        put(&copy.join("link"), "target");
    };
    seen(&other_kind, "is a file, not a link");

    let contents = || Judge::default().contents_alone().differences(&source, &copy);
    reset();
    fs::set_permissions(copy.join("dir/file"), Permissions::from_mode(0o600)).unwrap();
    set_modified(&copy.join("dir/file"), time + Duration::from_secs(1));
    assert_eq!(contents(), Vec::<String>::new(), "modes and times are no contents");
    for (harm, words) in
        [(&other_link as &dyn Fn(), "points to"), (&other_bytes, "holds"), (&other_kind, "is a file, not a link")]
    {
        reset();
        harm();
        let found = contents();
        assert!(found.iter().any(|line| line.contains(words)), "{words:?} is not among {found:?}");
    }
}

#[test]
fn the_writer_is_busy_and_the_same_for_the_same_seed() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let mut done = Vec::new();
    for run in ["source", "twin"] {
        let root = place.make(run);
        let mut writer = Writer::new(42, &root, &place.path(&format!("{run} outside")));
        writer.run(1_500);
        done.push(writer.done);
    }
    assert!(done[0] > 900, "only {} of 1500 operations did something", done[0]);
    let names = |root: &Path| {
        let found = Command::new("find").arg(".").arg("-printf").arg("%y %p\\0").current_dir(root).output().unwrap();
        let mut lines = found.stdout.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect::<Vec<_>>();
        lines.sort_unstable();
        lines
    };
    assert_eq!(names(&place.source()), names(&place.path("twin")), "one seed, two trees");

    push(&place.source(), &daemon.url(MODULE));
    Judge::default().assert_equal_now(&place.source(), &place.path("copy"));
}

#[test]
fn the_daemon_asks_for_the_password_and_comes_back_at_its_place() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).start();
    put(&place.source().join("file"), "content");
    let list = |password: &str, daemon: &support::rsyncd::Daemon| {
        let mut rsync = Command::new("rsync");
        rsync.arg(daemon.url(MODULE)).env("RSYNC_PASSWORD", password).output().unwrap().status.success()
    };
    assert!(list(PASSWORD, &daemon));
    assert!(!list("wrong", &daemon), "anybody may come in");
    let before = daemon.url(MODULE);
    daemon.stop();
    assert!(!list(PASSWORD, &daemon), "it answers after its end");
    daemon.start();
    assert_eq!(before, daemon.url(MODULE));
    assert!(before.contains(USER) && list(PASSWORD, &daemon));
}
