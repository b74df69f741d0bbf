//! One source, one remote: whatever is done to a tree, the copy becomes equal to it.

mod support;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};
use support::scene::{MODULE, Place, Scene};
use support::tree::{Judge, assert_converged, name, put, set_modified};
use support::writer::again_and_again_while;
use support::{SOON, eventually, is_root, skip, until};

/// A moment that no clock of the test shows: what carries it was set by hand.
fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 123_456_789)
}

#[test]
fn files_are_made_changed_moved_and_removed() {
    let scene = Scene::start();
    put(&scene.at("one"), "first");
    put(&scene.at("dir/two"), "second");
    scene.converged();

    put(&scene.at("one"), "overwritten, and longer");
    OpenOptions::new().append(true).open(scene.at("dir/two")).unwrap().write_all(b" and appended").unwrap();
    scene.converged();

    File::options().write(true).open(scene.at("one")).unwrap().set_len(4).unwrap();
    fs::rename(scene.at("dir/two"), scene.at("three")).unwrap();
    scene.converged();

    put(&scene.at("four"), "takes the place of the third");
    fs::rename(scene.at("four"), scene.at("three")).unwrap();
    scene.converged();

    fs::remove_file(scene.at("one")).unwrap();
    fs::remove_dir(scene.at("dir")).unwrap();
    File::create(scene.at("empty")).unwrap();
    scene.converged();
}

#[test]
fn a_new_directory_goes_without_the_names_in_it_unless_a_file_in_it_is_being_written() {
    let mut scene = Scene::configured(|_, _| (), |config| config.params("-a").debug());
    put(&scene.at("first"), "the full sync of the start is over");
    scene.converged();
    scene.agent.wait_notified("STATUS=1 remote in sync");
    scene.daemon.stop();
    let directories = (0..20).flat_map(|nth| [format!("tree/{nth}"), format!("tree/{nth}/below")]);
    for directory in directories.chain(["tree/with one at work".to_owned()]) {
        for nth in 0..40 {
            put(&scene.at(format!("{directory}/a name of some length {nth}")), "content");
        }
    }
    // What is there when the watch first looks at a directory is taken for written.
    scene.agent.wait_logged("pending: tree/with one at work/a name of some length 39");
    let unfinished = File::create(scene.at("tree/with one at work/unfinished")).unwrap();
    let written = || unfinished.write_all_at(b"content", 0).unwrap();
    again_and_again_while(vec![written], || {
        scene.agent.wait_logged("refused");
        // A file that the watch found just written is reported a second later.
        let reported = |line: &&str| line.contains("pending: tree/") && line.contains("(Entry)");
        until("all files are reported", SOON, || scene.agent.log().lines().filter(reported).count() >= 41 * 40);
        let seen = scene.agent.notified().len();
        scene.daemon.start();
        scene.agent.wait_notified_from(seen, |line| line.starts_with("STATUS=1 remote in sync"));
        assert!(scene.copy.join("tree/with one at work/a name of some length 39").exists());
    });
    drop(unfinished);
    scene.converged();
    let log = scene.agent.log();
    let whole: Vec<&str> = log.lines().filter(|line| line.contains("--recursive --ignore-times")).collect();
    assert!(!whole.is_empty(), "no directory goes without the names in it: {log}");
    assert!(!whole.iter().any(|line| line.contains("at work\\000")), "{whole:#?}");
}

#[test]
fn files_go_whole_where_the_way_is_fast() {
    let scene = Scene::configured(|_, _| (), |config| config.params("-a").debug());
    let mut round = 0;
    eventually("a run with --whole-file", SOON, || {
        round += 1;
        // New each time, so that nothing has to be compared: that is as fast as it gets.
        for file in 0..16 {
            put(&scene.at(format!("{round}/{file}")), format!("{round}{file} ").repeat(1_000_000));
        }
        scene.converged();
        if scene.agent.log().contains("--whole-file") { Ok(()) } else { Err("the way was slow up to now") }
    });
}

#[test]
fn what_was_there_before_the_start_is_mirrored() {
    let scene = Scene::prepared(|source, copy| {
        put(&source.join("a/b/c"), "only here");
        put(&source.join("same size"), "here");
        put(&copy.join("same size"), "away");
        set_modified(&source.join("same size"), long_ago());
        put(&copy.join("left over/from/before"), "only there");
        symlink("nowhere", source.join("dangling")).unwrap();
    });
    scene.converged();
}

#[test]
fn attributes_follow() {
    let scene = Scene::start();
    put(&scene.at("dir/file"), "content");
    scene.converged();

    fs::set_permissions(scene.at("dir/file"), Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(scene.at("dir"), Permissions::from_mode(0o2750)).unwrap();
    scene.converged();

    set_modified(&scene.at("dir/file"), long_ago());
    scene.converged();

    if is_root() {
        std::os::unix::fs::chown(scene.at("dir/file"), Some(12_345), Some(54_321)).unwrap();
        std::os::unix::fs::lchown(scene.at("dir"), Some(12_345), None).unwrap();
        scene.converged();
    }
}

/// None of these gives a close after writing.
#[test]
fn creations_that_never_close_arrive() {
    let scene = Scene::configured(|source, _| put(&source.join("file"), "content"), |config| config.params("-a"));
    symlink("file", scene.at("link")).unwrap();
    scene.converged();
    fs::hard_link(scene.at("file"), scene.at("second name")).unwrap();
    scene.converged();
    nix::unistd::mkfifo(&scene.at("fifo"), Mode::from_bits_truncate(0o640)).unwrap();
    scene.converged();

    let unnamed = OpenOptions::new().write(true).custom_flags(nix::libc::O_TMPFILE).open(&scene.source);
    match unnamed {
        Ok(mut unnamed) => {
            use std::os::fd::AsRawFd;
            unnamed.write_all(b"written before it had a name").unwrap();
            let itself = format!("/proc/self/fd/{}", unnamed.as_raw_fd());
            let flags = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
            nix::unistd::linkat(AT_FDCWD, itself.as_str(), AT_FDCWD, &scene.at("linked in"), flags).unwrap();
            scene.converged();
        }
        Err(error) => skip(&format!("no O_TMPFILE in {}: {error}", scene.source.display())),
    }
    if is_root() {
        let (kind, mode) = (nix::sys::stat::SFlag::S_IFCHR, Mode::from_bits_truncate(0o600));
        match nix::sys::stat::mknod(&scene.at("null"), kind, mode, nix::sys::stat::makedev(1, 3)) {
            Ok(()) => scene.converged(),
            // A container may forbid device nodes even to root.
            Err(nix::errno::Errno::EPERM) => {}
            Err(error) => panic!("mknod: {error}"),
        }
    }
    fs::remove_file(scene.at("link")).unwrap();
    symlink("elsewhere", scene.at("link")).unwrap();
    scene.converged();
}

#[test]
fn names_are_bytes_and_no_name_is_special() {
    let names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"\n".to_vec(),
        b"quote\"s and 'quotes'".to_vec(),
        b"$(touch owned)".to_vec(),
        b"`touch owned`".to_vec(),
        b"; touch owned;".to_vec(),
        b"-rf".to_vec(),
        b"--delete".to_vec(),
        b"x".repeat(255),
        b"\xff\xfe not text \x80".to_vec(),
        "文件-ünïcode".as_bytes().to_vec(),
        b"*[x]?{a,b}".to_vec(),
        b"[".to_vec(),
        b"back\\slash".to_vec(),
        b" spaces at both ends ".to_vec(),
        b"host:colon".to_vec(),
        b"host::module".to_vec(),
        b"# comment".to_vec(),
        b"; comment".to_vec(),
        b"+ rule".to_vec(),
        b"- rule".to_vec(),
        b"...".to_vec(),
        b"..x".to_vec(),
        b".htaccess".to_vec(),
        b"a\tb\rc\x01".to_vec(),
        b"%s%n".to_vec(),
    ];
    let scene = Scene::start();
    for bytes in &names {
        put(&scene.at(name(bytes)), bytes);
        put(&scene.at("in a directory").join(name(bytes)), bytes);
    }
    scene.converged();
    // The second time as directories, which arrive as a whole and then entry by entry.
    for bytes in &names {
        fs::remove_file(scene.at(name(bytes))).unwrap();
        put(&scene.at(name(bytes)).join("inside"), bytes);
    }
    scene.converged();
    for bytes in &names {
        put(&scene.at(name(bytes)).join(name(bytes)), "deeper");
    }
    scene.converged();
    for bytes in &names {
        fs::remove_dir_all(scene.at(name(bytes))).unwrap();
        fs::remove_file(scene.at("in a directory").join(name(bytes))).unwrap();
    }
    scene.converged();
    for place in [&scene.source, &scene.copy, &scene.place.path("agent"), &std::env::current_dir().unwrap()] {
        assert!(!place.join("owned").exists(), "a file's name ran as a command in {}", place.display());
    }
}

/// Builds a tree of `depth` levels with `files` files in each.
fn deep_tree(top: &Path, depth: usize, files: usize) {
    let mut directory = top.to_owned();
    for level in 0..depth {
        directory.push(format!("level{level}"));
        for file in 0..files {
            put(&directory.join(format!("file{file}")), format!("{level} {file}"));
        }
    }
}

#[test]
fn deep_trees_appear_at_once() {
    let scene = Scene::start();
    deep_tree(&scene.place.path("outside"), 60, 5);
    fs::rename(scene.place.path("outside"), scene.at("moved in")).unwrap();
    scene.converged();

    deep_tree(&scene.place.path("packed"), 60, 5);
    let archive = scene.place.path("tree.tar");
    let tar = |arguments: &[&str], directory: &Path| {
        let done =
            Command::new("tar").args(arguments).arg(&archive).arg("-C").arg(directory).arg(".").status().unwrap();
        assert!(done.success());
    };
    tar(&["cf"], &scene.place.path("packed"));
    let unpacked = Command::new("tar").arg("xf").arg(&archive).arg("-C").arg(&scene.source).status().unwrap();
    assert!(unpacked.success());
    scene.converged();

    // What comes after shows that every level is watched.
    let deepest = (0..60).fold(scene.at("moved in"), |path, level| path.join(format!("level{level}")));
    put(&deepest.join("later"), "seen");
    scene.converged();
}

#[test]
fn directories_race_with_their_watches() {
    let scene = Scene::start();
    // Made as fast as the machine can: files stand in directories that no watch has reached yet.
    for round in 0..30 {
        let mut path = scene.at(format!("round{round}"));
        for level in 0..10 {
            path.push(format!("{level}"));
            put(&path.join("file"), format!("{round} {level}"));
        }
    }
    scene.converged();
}

#[test]
fn a_directory_moves_within_and_out() {
    let scene = Scene::prepared(|source, _| deep_tree(&source.join("here"), 5, 20));
    scene.converged();
    fs::rename(scene.at("here"), scene.at("there")).unwrap();
    scene.converged();
    // The watches moved along: a change below the new name is seen, and is named by the new name.
    put(&scene.at("there/level0/level1/new"), "after the move");
    scene.converged();
    fs::create_dir(scene.at("other")).unwrap();
    fs::rename(scene.at("there"), scene.at("other/again")).unwrap();
    put(&scene.at("other/again/level0/file0"), "changed while it moved");
    scene.converged();
    fs::rename(scene.at("other/again"), scene.place.path("away")).unwrap();
    // What happens to it out there is none of the copy's business.
    put(&scene.place.path("away/level0/outside"), "not to be seen");
    put(&scene.at("other/last"), "to be seen");
    scene.converged();
    fs::rename(scene.place.path("away"), scene.at("back")).unwrap();
    scene.converged();
}

#[test]
fn a_file_becomes_a_directory_and_the_reverse() {
    let scene = Scene::start();
    put(&scene.at("was file"), "file");
    put(&scene.at("was directory/with/much/in it"), "directory");
    symlink("was file", scene.at("was link")).unwrap();
    scene.converged();
    fs::remove_file(scene.at("was file")).unwrap();
    put(&scene.at("was file/now/with/entries"), "directory");
    fs::remove_dir_all(scene.at("was directory")).unwrap();
    put(&scene.at("was directory"), "file");
    fs::remove_file(scene.at("was link")).unwrap();
    put(&scene.at("was link/inside"), "directory");
    scene.converged();
    fs::remove_dir_all(scene.at("was file")).unwrap();
    symlink("was directory", scene.at("was file")).unwrap();
    scene.converged();
}

#[test]
fn a_big_tree_is_removed() {
    let scene = Scene::prepared(|source, _| {
        for directory in 0..60 {
            deep_tree(&source.join(format!("big/{directory}")), 3, 15);
        }
        put(&source.join("stays"), "here");
    });
    scene.converged();
    fs::remove_dir_all(scene.at("big")).unwrap();
    scene.converged();
    put(&scene.at("big/again"), "a new one of the same name");
    scene.converged();
}

#[test]
fn the_same_second_and_the_same_size_do_not_hide_a_change() {
    let scene = Scene::start();
    put(&scene.at("file"), "AAAA");
    set_modified(&scene.at("file"), long_ago());
    scene.converged();
    for round in 0..20 {
        // Same size, same time to the nanosecond, another content: rsync's quick check calls it equal.
        put(&scene.at("file"), format!("{round:04}"));
        set_modified(&scene.at("file"), long_ago());
        scene.converged();
    }
}

#[test]
fn a_write_right_after_a_batch_counts() {
    let scene = Scene::start();
    for round in 0..40 {
        let path = format!("file{}", round % 3);
        let first = format!("{round:04} first.");
        put(&scene.at(&path), &first);
        // The moment the batch has put the first content there, the second one is written.
        eventually("the first content", SOON, || match fs::read(scene.copy.join(&path)) {
            Ok(bytes) if bytes == first.as_bytes() => Ok(()),
            _ => Err("not there"),
        });
        put(&scene.at(&path), format!("{round:04} second"));
        put(&scene.at(&path), format!("{round:04} third."));
    }
    scene.converged();
}

/// Two directories whose files differ in nothing but their bytes.
fn twins(place: &Place) {
    for (twin, content) in [("twin a", "aaaa"), ("twin b", "bbbb")] {
        for file in 0..20 {
            let path = place.path(twin).join(format!("sub/{file}"));
            put(&path, content);
            set_modified(&path, long_ago());
        }
        set_modified(&place.path(twin).join("sub"), long_ago());
        set_modified(&place.path(twin), long_ago());
    }
}

#[test]
fn a_directory_takes_the_place_of_its_twin() {
    let scene = Scene::start();
    twins(&scene.place);
    fs::rename(scene.place.path("twin a"), scene.at("site")).unwrap();
    scene.converged();
    fs::rename(scene.at("site"), scene.place.path("old")).unwrap();
    fs::rename(scene.place.path("twin b"), scene.at("site")).unwrap();
    scene.converged();
    // And once more inside the root, where one step changes both.
    fs::rename(scene.place.path("old"), scene.at("next")).unwrap();
    scene.converged();
    match renameat2(AT_FDCWD, &scene.at("site"), AT_FDCWD, &scene.at("next"), RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => scene.converged(),
        Err(error) => skip(&format!("no RENAME_EXCHANGE in {}: {error}", scene.source.display())),
    }
}

#[test]
fn an_older_file_replaces_a_newer_one_under_the_shipped_params() {
    let scene = Scene::configured(|_, _| {}, |config| config.params("-artuz"));
    put(&scene.at("release"), "the new one");
    scene.converged();
    put(&scene.place.path("backup"), "the one of last year");
    set_modified(&scene.place.path("backup"), long_ago());
    fs::rename(scene.place.path("backup"), scene.at("release")).unwrap();
    scene.converged();
}

/// A scene whose daemon writes down each transfer and deletion.
fn with_transfer_log() -> Scene {
    let place = Place::new();
    let settings = ["transfer logging = yes", "log format = %o <%f>"];
    let daemon = place.plan(&settings).start();
    let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    Scene { agent, daemon, source: place.source(), copy: place.path("copy"), place }
}

#[test]
fn temporary_names_that_stay_are_sent() {
    let scene = with_transfer_log();
    for name in [".file.swp", "4913", "backup~", ".#lock", ".goutputstream-ABCDEF", ".nfs0001", ".name.a1B2c3"] {
        put(&scene.at(name), name);
    }
    scene.converged();
    fs::rename(scene.at("4913"), scene.at("kept")).unwrap();
    fs::remove_file(scene.at("backup~")).unwrap();
    scene.converged();
}

#[test]
fn an_editors_save_sends_the_file_and_no_temporary_name() {
    let scene = with_transfer_log();
    put(&scene.at("page.html"), "before");
    scene.converged();
    for round in 0..3 {
        File::create(scene.at("4913")).unwrap();
        fs::remove_file(scene.at("4913")).unwrap();
        put(&scene.at(".page.html.swp"), "swap");
        fs::rename(scene.at("page.html"), scene.at("page.html~")).unwrap();
        put(&scene.at("page.html"), format!("after {round}"));
        fs::remove_file(scene.at("page.html~")).unwrap();
        fs::remove_file(scene.at(".page.html.swp")).unwrap();
        scene.converged();
    }
    let log = scene.daemon.log();
    assert!(log.contains("recv <page.html>"), "the daemon wrote down what it got: {log}");
    for temporary in ["4913", "page.html~", ".page.html.swp"] {
        let line = format!("recv <{temporary}>");
        assert!(!log.contains(&line), "{temporary} was sent:\n{log}");
    }
}

/// truncate(2) by name causes IN_MODIFY alone: no close follows.
#[test]
fn files_truncated_by_name_arrive() {
    let prepare = |source: &Path| (0..3).for_each(|nth| fs::create_dir_all(source.join(nth.to_string())).unwrap());
    let scene = Scene::configured(|source, _| prepare(source), |config| config);
    let files: Vec<String> = (0..20).map(|nth| format!("{}/{nth}", nth % 3)).collect();
    files.iter().for_each(|file| put(&scene.at(file), "of a certain length"));
    scene.converged();
    for (nth, file) in files.iter().enumerate() {
        nix::unistd::truncate(&scene.at(file), nth as i64).unwrap();
    }
    scene.converged();
}

#[test]
fn the_root_goes_and_comes_back() {
    let scene = Scene::prepared(|source, _| {
        put(&source.join("old/file"), "of the first root");
        put(&source.join("kept"), "in each root");
    });
    scene.converged();
    // Each appears as a whole: of an empty root, nothing is deleted.
    let replace_root = |file: &str, content: &str| {
        let fresh = scene.place.make("fresh");
        put(&fresh.join("kept"), "in each root");
        put(&fresh.join(file), content);
        fs::rename(fresh, &scene.source).unwrap();
    };
    let seen = scene.agent.notified().len();
    fs::rename(&scene.source, scene.place.path("gone")).unwrap();
    scene.agent.wait_notified_from(seen, |line| line.starts_with("STATUS=") && line.contains("source"));
    // A root that is not there says nothing of what should be on the remote.
    assert!(scene.copy.join("old/file").exists(), "the copy was emptied because its source was unmounted");

    replace_root("new/file", "of the second root");
    scene.converged();
    put(&scene.source.join("new/later"), "and it is watched");
    scene.converged();

    fs::remove_dir_all(&scene.source).unwrap();
    replace_root("third/file", "of the third root");
    scene.converged();
}

#[test]
fn a_link_leads_nowhere() {
    let scene = Scene::start();
    let outside = scene.place.make("outside");
    put(&outside.join("secret"), "not of this tree");
    symlink(&outside, scene.at("door")).unwrap();
    // The link itself arrives without its leading slash: a daemon without chroot cuts what leads out of its module.
    scene.converged_ignoring("door");
    put(&outside.join("more"), "still not of this tree");
    put(&scene.at("inside"), "marks that all before it was seen");
    scene.converged_ignoring("door");
    assert!(fs::symlink_metadata(scene.copy.join("door")).unwrap().is_symlink());
}

#[test]
fn a_directory_keeps_its_time() {
    let scene = Scene::prepared(|source, _| {
        put(&source.join("dir/sub/file"), "content");
        set_modified(&source.join("dir/sub"), long_ago());
        set_modified(&source.join("dir"), long_ago());
    });
    Judge::default().directory_times().assert_converged(&scene.source, &scene.copy, SOON);
}

#[test]
fn a_long_stream_of_small_writes_ends_equal() {
    let scene = Scene::start();
    for round in 0..1_500_u32 {
        put(&scene.at(format!("dir{}/file{}", round % 7, round % 50)), round.to_string().repeat(20));
        if round % 5 == 0 {
            let _ = fs::remove_file(scene.at(format!("dir{}/file{}", round % 6, round % 50)));
        }
    }
    scene.converged();
}

#[test]
fn nothing_is_deleted_where_the_config_forbids_it() {
    let scene = Scene::configured(
        |source, copy| {
            put(&source.join("dir/goes"), "here");
            put(&copy.join("only there"), "there");
        },
        |config| config.no_delete().params("-a"),
    );
    until("the file's arrival", SOON, || scene.copy.join("dir/goes").exists());
    fs::remove_file(scene.at("dir/goes")).unwrap();
    put(&scene.at("dir/comes"), "after the removal");
    until("the next file's arrival", SOON, || scene.copy.join("dir/comes").exists());
    fs::remove_dir_all(scene.at("dir")).unwrap();
    put(&scene.at("last"), "after the tree's removal");
    until("the last file's arrival", SOON, || scene.copy.join("last").exists());
    for kept in ["dir/goes", "dir/comes", "only there"] {
        assert!(scene.copy.join(kept).exists(), "{kept} was deleted on the remote");
    }
}

#[test]
fn a_file_is_sent_while_its_neighbour_is_being_written() {
    let scene = Scene::start();
    let mut open = File::create(scene.at("growing")).unwrap();
    for round in 0..20 {
        writeln!(open, "line {round}").unwrap();
        put(&scene.at(format!("done{round}")), "closed");
    }
    until("the closed ones", SOON, || (0..20).all(|round| scene.copy.join(format!("done{round}")).exists()));
    drop(open);
    assert_converged(&scene.source, &scene.copy);
}
