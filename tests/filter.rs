//! An excluded path never reaches a remote, and is never deleted there: by no event, no full sync, no directory above.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use support::config::Confxml;
use support::scene::{MODULE, Place, Scene};
use support::tree::put;
use support::{SOON, until};
use ward::Ward;

/// Waits until a file written now has arrived: everything before it has been dealt with too.
fn settle(scene: &Scene, mark: &str) {
    put(&scene.at(mark), mark);
    until("the mark's arrival", SOON, || scene.copy.join(mark).exists());
}

fn absent(scene: &Scene, path: &str) {
    assert!(!scene.copy.join(path).exists(), "{path} is excluded and reached the remote");
}

fn present(scene: &Scene, path: &str, content: &str) {
    let found = fs::read_to_string(scene.copy.join(path));
    assert!(found.as_deref().is_ok_and(|found| found == content), "{path} on the remote: {found:?}, not {content:?}");
}

/// The remote has files of its own in the excluded places.
fn remotes_own(copy: &Path) {
    put(&copy.join("info/own"), "the remote's");
    put(&copy.join("dir/cache/own"), "the remote's");
    put(&copy.join("dir/own.log"), "the remote's");
}

fn excluding(expressions: &[&str], prepare: impl FnOnce(&Path, &Path)) -> Scene {
    Scene::configured(prepare, |config| {
        expressions.iter().fold(config.params("-a"), |config, expression| config.exclude(expression))
    })
}

#[test]
fn events_of_excluded_paths_are_not_sent() {
    let scene = excluding(&[r"(.*/)?cache/", r".*\.log", "info(/.*)?"], |_, copy| remotes_own(copy));
    put(&scene.at("info/ours"), "no");
    put(&scene.at("dir/cache/ours"), "no");
    put(&scene.at("dir/ours.log"), "no");
    put(&scene.at("dir/page"), "yes");
    settle(&scene, "mark1");
    for path in ["info/ours", "dir/cache/ours", "dir/ours.log"] {
        absent(&scene, path);
    }
    // A file that is found in a new directory waits for its close, the mark does not.
    until("the page", SOON, || scene.copy.join("dir/page").exists());
    present(&scene, "dir/page", "yes");

    fs::rename(scene.at("dir/page"), scene.at("dir/page.log")).unwrap();
    fs::rename(scene.at("dir/ours.log"), scene.at("dir/shown")).unwrap();
    fs::remove_dir_all(scene.at("dir/cache")).unwrap();
    settle(&scene, "mark2");
    until("the removal of what became excluded", SOON, || !scene.copy.join("dir/page").exists());
    absent(&scene, "dir/page.log");
    present(&scene, "dir/shown", "no");
    for path in ["info/own", "dir/cache/own", "dir/own.log"] {
        present(&scene, path, "the remote's");
    }
}

#[test]
fn the_full_sync_at_start_leaves_excluded_paths_alone() {
    let scene = excluding(&[r"(.*/)?cache/", r".*\.log", "info(/.*)?"], |source, copy| {
        remotes_own(copy);
        put(&source.join("info/ours"), "no");
        put(&source.join("dir/cache/ours"), "no");
        put(&source.join("dir/deep/ours.log"), "no");
        put(&source.join("dir/deep/page"), "yes");
        put(&copy.join("dir/deep/superfluous"), "to be deleted");
    });
    until("the full sync", SOON, || {
        scene.copy.join("dir/deep/page").exists() && !scene.copy.join("dir/deep/superfluous").exists()
    });
    settle(&scene, "mark");
    for path in ["info/ours", "dir/cache/ours", "dir/deep/ours.log"] {
        absent(&scene, path);
    }
    for path in ["info/own", "dir/cache/own", "dir/own.log"] {
        present(&scene, path, "the remote's");
    }
}

#[test]
fn a_directory_that_comes_whole_comes_without_its_excluded_parts() {
    let scene = excluding(&[r"(.*/)?cache/", r".*\.log"], |_, _| {});
    let outside = scene.place.path("outside");
    put(&outside.join("a/cache/x"), "no");
    put(&outside.join("a/b/c/err.log"), "no");
    put(&outside.join("a/b/c/page"), "yes");
    fs::rename(&outside, scene.at("site")).unwrap();
    until("the directory", SOON, || scene.copy.join("site/a/b/c/page").exists());
    settle(&scene, "mark");
    absent(&scene, "site/a/cache");
    absent(&scene, "site/a/b/c/err.log");
}

#[test]
fn removing_a_directory_spares_the_remotes_excluded_files_in_it() {
    let scene = excluding(&[r".*\.log"], |source, copy| {
        put(&source.join("dir/sub/page"), "yes");
        put(&copy.join("dir/sub/own.log"), "the remote's");
    });
    until("the start's sync", SOON, || scene.copy.join("dir/sub/page").exists());
    fs::remove_dir_all(scene.at("dir")).unwrap();
    until("the removal", SOON, || !scene.copy.join("dir/sub/page").exists());
    settle(&scene, "mark");
    present(&scene, "dir/sub/own.log", "the remote's");
}

/// A class that counts, an alternation with an anchor, a word boundary: rsync has no pattern for these.
#[test]
fn expressions_that_rsync_cannot_say_hold_for_full_syncs_too() {
    let expressions = [r"[0-9]{3,5}-[a-f]+\.dat", r"(tmp|scratch)[0-9]?/.*x.*", r"dir/\w+\b\.(bak|old)"];
    let scene = excluding(&expressions, |source, copy| {
        put(&source.join("123-abc.dat"), "no");
        put(&source.join("12-abc.dat"), "yes");
        put(&source.join("tmp1/axb"), "no");
        put(&source.join("tmp1/ab"), "yes");
        put(&source.join("dir/page.bak"), "no");
        put(&source.join("dir/page.new"), "yes");
        put(&copy.join("4567-fade.dat"), "the remote's");
        put(&copy.join("scratch/six"), "the remote's");
        put(&copy.join("dir/kept.old"), "the remote's");
        put(&copy.join("dir/superfluous"), "to be deleted");
        put(&copy.join("12345678-abc.dat"), "to be deleted: the class allows five");
    });
    until("what is not excluded", SOON, || {
        ["12-abc.dat", "tmp1/ab", "dir/page.new"].iter().all(|path| scene.copy.join(path).exists())
    });
    until("what is superfluous", SOON, || {
        ["dir/superfluous", "12345678-abc.dat"].iter().all(|path| !scene.copy.join(path).exists())
    });
    settle(&scene, "mark");
    for path in ["123-abc.dat", "tmp1/axb", "dir/page.bak"] {
        absent(&scene, path);
    }
    for path in ["4567-fade.dat", "scratch/six", "dir/kept.old"] {
        present(&scene, path, "the remote's");
    }
}

/// A mirror whose remote has lost the root's mode, as after a check by sersync before 3.0.
fn with_a_closed_root(prepare: impl FnOnce(&Path, &Path), exclude: Option<&str>) -> Ward {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let copy = place.path("copy");
    prepare(&place.source(), &copy);
    put(&place.source().join("page"), "page");
    fs::set_permissions(place.source(), Permissions::from_mode(0o2775)).unwrap();
    let config = Confxml::new(&place.source()).params("-a").daemon(&daemon, MODULE);
    let config = exclude.into_iter().fold(config, |config, expression| config.exclude(expression));
    let launch = place.launch().config(&config.write(&place.path("confxml.xml")));
    let mut ward = Ward::start(place, launch);
    ward.keep(daemon);
    until("the first full sync", SOON, || ward.ask("status")[0]["last_full_sync_at"].is_u64());
    assert_eq!(attributes(&copy), attributes(&ward.place.source()), "it sends the root, too");
    fs::set_permissions(&copy, Permissions::from_mode(0o700)).unwrap();
    ward
}

/// Mode, owner, group and modification time.
fn attributes(directory: &Path) -> (u32, u32, u32, i64, i64) {
    let found = fs::metadata(directory).unwrap();
    (found.mode(), found.uid(), found.gid(), found.mtime(), found.mtime_nsec())
}

fn restored_by_a_full_sync(ward: &Ward) {
    ward.ask_to_resync();
    until("the root as it is here", SOON, || attributes(&ward.place.path("copy")) == attributes(&ward.place.source()));
    ward.agent.wait_logged("had another mode");
}

#[test]
fn a_full_sync_restores_the_root_directory_and_nothing_excluded() {
    let prepare = |source: &Path, copy: &Path| {
        put(&copy.join("own.log"), "the remote's");
        put(&source.join("ours.log"), "excluded");
    };
    let ward = with_a_closed_root(prepare, Some(r".*\.log"));
    restored_by_a_full_sync(&ward);
    let content = |path: &str| fs::read_to_string(ward.place.path("copy").join(path)).ok();
    assert_eq!(content("own.log").as_deref(), Some("the remote's"));
    assert_eq!((content("ours.log"), content("page").as_deref()), (None, Some("page")));
}

#[test]
fn a_full_sync_without_a_filter_reports_what_differed_in_the_root_directory() {
    restored_by_a_full_sync(&with_a_closed_root(|_, _| (), None));
}
