//! The root comes and goes; directories that cannot be watched.

use super::*;
use nix::mount::MsFlags;
use nix::unistd::{Uid, geteuid, setfsuid};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_missing_root_is_waited_for() {
    let mut rig = Rig::unstarted(|root| fs::remove_dir(root).unwrap(), |_| {});
    assert!(rig.await_told("RootMissing").contains("No such file"));
    assert!(rig.settle().is_empty(), "a drain does not wait for it");
    fs::create_dir(&rig.root).unwrap();
    fs::write(rig.root.join("a"), "x").unwrap();
    rig.await_told("RootReady { returned: true }");
    assert!(hint_at(&rig, "", Hint::Rescan));
    rig.take();
    fs::write(rig.root.join("a"), "y").unwrap();
    assert_eq!(rig.settle(), ["Entry a"]);
}

#[test]
fn a_root_that_goes_and_comes_is_the_root_again() {
    let fill = |root: &Path| fs::create_dir(root.join("d")).unwrap();
    let mut rig = Rig::with_tree(fill, |_| {});
    fs::remove_dir_all(&rig.root).unwrap();
    rig.await_told("RootMissing");
    assert_eq!(rig.engine.tree.watched(), 0);
    fs::write(&rig.root, "a file").unwrap();
    assert!(rig.await_told("RootMissing").contains("not a directory"));
    fs::remove_file(&rig.root).unwrap();
    fs::create_dir_all(rig.root.join("e")).unwrap();
    rig.await_told("RootReady { returned: true }");
    rig.check_tree("made again");
    fs::rename(&rig.root, rig.out.join("root")).unwrap();
    rig.await_told("RootMissing");
    fs::write(rig.out.join("root/e/file"), "x").unwrap();
    fs::rename(rig.out.join("root"), &rig.root).unwrap();
    rig.take();
    rig.await_told("RootReady { returned: true }");
    assert!(hint_at(&rig, "", Hint::Rescan) && hint_at(&rig, "e/file", Hint::Entry), "{:?}", rig.changes);
}

#[test]
fn a_root_swapped_for_another_directory_is_noticed() {
    let mut rig = Rig::new(|_| {});
    let above = rig.root.parent().unwrap().to_owned();
    fs::create_dir(rig.out.join("other")).unwrap();
    fs::rename(&rig.root, above.join("old")).unwrap();
    fs::rename(rig.out.join("other"), &rig.root).unwrap();
    rig.await_told("RootReady { returned: true }");
    fs::write(rig.root.join("a"), "x").unwrap();
    assert!(has(&rig.settle(), "Entry a"));
}

/// Directories that this process may not read; root may read all, so it becomes somebody else for file access.
#[test]
fn an_unreadable_directory_is_reported_and_tried_again() {
    let fill = |root: &Path| {
        fs::create_dir_all(root.join("open")).unwrap();
        fs::create_dir_all(root.join("shut/below")).unwrap();
        fs::set_permissions(root.join("shut"), fs::Permissions::from_mode(0o000)).unwrap();
    };
    let mut rig = Rig::unstarted(fill, |_| {});
    for directory in [rig.root.parent().unwrap(), &rig.root, &rig.root.join("open")] {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let become_other = || geteuid().is_root().then(|| setfsuid(Uid::from_raw(65534)));
    let before = become_other();
    let told = rig.await_told("Unwatched");
    assert!(told.contains("\"shut\"") && told.contains("may not read"), "{told}");
    rig.await_told("RootReady");
    if let Some(before) = before {
        setfsuid(before);
    }
    fs::write(rig.root.join("open/file"), "x").unwrap();
    fs::set_permissions(rig.root.join("shut"), fs::Permissions::from_mode(0o755)).unwrap();
    rig.await_told("AllWatched");
    let changes = rig.take();
    assert!(has(&changes, "Entry open/file"), "the rest goes on: {changes:?}");
    assert!(has(&changes, "Missed shut"), "{changes:?}");
    rig.check_tree("mended");
}

/// Mounts, or says why it cannot.
fn mount(source: &Path, at: &Path, kind: Option<&str>, flags: MsFlags) -> bool {
    if let Err(error) = nix::mount::mount(Some(source), at, kind, flags, None::<&str>) {
        assert!(std::env::var_os("CI").is_none(), "mount: {error}");
        eprintln!("skipped: mount: {error}");
        return false;
    }
    true
}

fn mount_tmpfs(at: &Path) -> bool {
    mount(Path::new("sersync-test"), at, Some("tmpfs"), MsFlags::empty())
}

fn unmount(at: &Path) {
    nix::mount::umount(at).unwrap();
}

#[test]
fn a_bare_mount_point_is_not_the_root() {
    let mut mounted = false;
    let mut rig = Rig::unstarted(|root| mounted = mount_tmpfs(root), |_| {});
    if !mounted {
        return;
    }
    fs::create_dir(rig.root.join("d")).unwrap();
    rig.await_told("RootReady");
    unmount(&rig.root);
    assert!(rig.await_told("RootMissing").contains("not mounted"));
    fs::write(rig.root.join("on the bare mount point"), "x").unwrap();
    rig.settle();
    rig.engine.wait(Instant::now());
    assert!(rig.settle().is_empty() && rig.engine.tree.watched() == 0);
    assert!(mount_tmpfs(&rig.root));
    rig.await_told("RootReady { returned: true }");
    assert!(hint_at(&rig, "", Hint::Rescan));
    fs::write(rig.root.join("a"), "x").unwrap();
    assert!(has(&rig.settle(), "Entry a"));
    unmount(&rig.root);
}

#[test]
fn what_was_the_root_before_a_mount_is_the_root_after_it() {
    let mut rig = Rig::with_tree(|root| fs::create_dir(root.join("d")).unwrap(), |_| {});
    let before = rig.shape.clone();
    if !mount_tmpfs(&rig.root) {
        return;
    }
    rig.await_told("RootReady { returned: true }");
    assert_ne!(rig.shape, before);
    // It keeps no directory open while it is idle.
    rig.settle();
    unmount(&rig.root);
    rig.await_told("RootReady { returned: true }");
    assert_eq!(rig.shape, before);
    assert!(hint_at(&rig, "", Hint::Rescan));
    rig.settle();
    rig.check_tree("unmounted");
}

#[test]
fn mounts_below_the_root_are_watched_as_they_come_and_go() {
    let fill = |root: &Path| fs::create_dir_all(root.join("m/hidden")).unwrap();
    let mut rig = Rig::with_tree(fill, |_| {});
    let point = rig.root.join("m");
    if !mount_tmpfs(&point) {
        return;
    }
    fs::create_dir(point.join("d")).unwrap();
    rig.turn_until(|rig| hint_at(rig, "m", Hint::Arrived));
    rig.check_tree("mounted");
    let below = |rig: &Rig| rig.shape.iter().flat_map(|shape| shape.below.keys().cloned()).collect::<Vec<_>>();
    assert_eq!(below(&rig), [RelPath::new(b"m").unwrap()]);
    rig.take();
    fs::write(point.join("d/file"), "x").unwrap();
    assert_eq!(rig.settle(), ["Entry m/d/file"]);
    unmount(&point);
    rig.turn_until(|rig| hint_at(rig, "m/hidden", Hint::NewDirectory));
    assert_eq!(below(&rig), []);
    rig.turn_until(|rig| hint_at(rig, "m", Hint::Missed));
    let changes = rig.settle();
    assert!(!changes.iter().any(|change| change.starts_with("Rescan") || change.starts_with("Entry")), "{changes:?}");
    rig.check_tree("unmounted");
}

#[test]
fn a_directory_seen_at_two_places_is_reported_at_both() {
    let fill = |root: &Path| {
        fs::create_dir_all(root.join("a/sub")).unwrap();
        fs::create_dir(root.join("b")).unwrap();
    };
    let mut rig = Rig::with_tree(fill, |_| {});
    if !mount(&rig.root.join("a"), &rig.root.join("b"), None, MsFlags::MS_BIND) {
        return;
    }
    rig.turn_until(|rig| hint_at(rig, "b", Hint::Arrived));
    rig.take();
    fs::write(rig.root.join("a/sub/file"), "x").unwrap();
    let changes = rig.settle();
    assert!(has(&changes, "Entry a/sub/file") && has(&changes, "Entry b/sub/file"), "{changes:?}");
    unmount(&rig.root.join("b"));
    rig.turn_until(|rig| hint_at(rig, "b", Hint::NewDirectory));
    rig.take();
    fs::write(rig.root.join("a/sub/file"), "y").unwrap();
    assert_eq!(rig.settle(), ["Entry a/sub/file"]);
}

/// Set in the environment of the process that is in a user namespace already.
const ISOLATED: &str = "SERSYNC_TEST_ISOLATED";

/// The limit of watches is the machine's; a user namespace has one of its own. This test runs itself in one.
#[test]
fn the_watch_limit_is_told_with_what_mends_it() {
    if std::env::var_os(ISOLATED).is_some() {
        return with_few_watches();
    }
    let inner = "watch::tests::root::the_watch_limit_is_told_with_what_mends_it";
    let command = "echo 20 > /proc/sys/user/max_inotify_watches && exec \"$0\" --exact \"$1\"";
    let this = std::env::current_exe().unwrap();
    let mut isolated = Command::new("unshare");
    isolated.args(["--user", "--map-root-user", "sh", "-c", command]).arg(this).arg(inner).env(ISOLATED, "1");
    let turn = crate::forks::some();
    let output = isolated.output().unwrap();
    drop(turn);
    let text = String::from_utf8_lossy(&output.stdout);
    if !text.contains("running 1 test") {
        assert!(std::env::var_os("CI").is_none(), "no user namespace: {}", String::from_utf8_lossy(&output.stderr));
        eprintln!("skipped: no user namespace: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success(), "{text}");
}

fn with_few_watches() {
    let fill = |root: &Path| (0..40).for_each(|number| fs::create_dir(root.join(number.to_string())).unwrap());
    let mut rig = Rig::unstarted(fill, |_| {});
    let told = rig.await_told("Unwatched");
    assert!(told.contains("sysctl fs.inotify.max_user_watches="), "{told}");
    rig.await_told("RootReady");
    rig.settle();
    assert!(rig.told.is_empty(), "told once: {:?}", rig.told);
    assert_eq!(rig.engine.tree.watched(), 20, "the rest goes on");
    let paths: Vec<_> = fs::read_dir(&rig.root).unwrap().map(|entry| entry.unwrap().path()).collect();
    let kept = |path: &Path| {
        let path = RelPath::new(path.file_name().unwrap().as_encoded_bytes()).unwrap();
        rig.engine.tree.find(&path).is_some_and(|node| rig.engine.tree.watch_key(node).is_none())
    };
    let (unwatched, watched): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| kept(path));
    unwatched.iter().for_each(|path| fs::write(path.join("missed"), "x").unwrap());
    watched.iter().for_each(|path| fs::remove_dir(path).unwrap());
    unwatched.iter().skip(15).for_each(|path| fs::remove_dir_all(path).unwrap());
    rig.await_told("AllWatched");
    let name = unwatched[0].file_name().unwrap().to_str().unwrap();
    let changes = rig.take();
    assert!(has(&changes, &format!("Missed {name}")) && has(&changes, &format!("Entry {name}/missed")), "{changes:?}");
    rig.check_tree("below the limit again");
}
