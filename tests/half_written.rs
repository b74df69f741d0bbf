//! A new file reaches remotes and plugins when its writer has closed it, and no earlier.

mod support;

use nix::sys::signal::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::plugins::alone;
use support::scene::{MODULE, Place, Scene};
use support::tree::put;
use support::writer::again_and_again_while;
use support::{SOON, steadily, until};

/// A writer's pause, and for how long nothing of what it has written may arrive.
const PAUSE: Duration = Duration::from_millis(300);

const PART: [u8; 1000] = [b'x'; 1000];

/// Eight files of three parts in `directory`; `pause` is called after each part of all.
fn upload(directory: &Path, mut pause: impl FnMut(usize)) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = (0..8).map(|nth| directory.join(format!("upload {nth}"))).collect();
    let mut files: Vec<File> = paths.iter().map(|path| File::create(path).unwrap()).collect();
    for part in 1..=3 {
        files.iter_mut().for_each(|file| file.write_all(&PART).unwrap());
        pause(part);
    }
    paths
}

/// The full sync of the start is over: it sends what is on disk.
fn in_sync(scene: &Scene) {
    scene.converged();
    scene.agent.wait_notified("STATUS=1 remote in sync");
}

/// Stops the agent, all threads of it: a signal takes its time.
fn stop(scene: &Scene) {
    scene.agent.signal(Signal::SIGSTOP);
    let is_stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
    };
    let tasks = format!("/proc/{}/task", scene.agent.pid());
    until("the agent stands still", SOON, || fs::read_dir(&tasks).unwrap().flatten().all(is_stopped));
}

/// Everything that happened before has been seen by the agent, and for a while nothing of `directory` arrives but
/// what `expected` says.
fn nothing_arrives(scene: &Scene, step: &str, copied: impl Fn() -> bool) {
    put(&scene.at(format!("neighbour {step}")), "closed");
    until("a neighbour that is closed", SOON, || scene.copy.join(format!("neighbour {step}")).exists());
    steadily("nothing arrives that is open", SOON, PAUSE, || !copied());
}

/// How often the daemon received each upload.
fn receptions(scene: &Scene) -> Vec<usize> {
    let log = scene.daemon.log();
    (0..8).map(|nth| log.lines().filter(|line| line.contains(&format!("recv <upload {nth}>"))).count()).collect()
}

#[test]
fn uploads_with_pauses_arrive_whole_and_once() {
    let place = Place::new();
    let daemon = place.plan(&["transfer logging = yes", "log format = %o <%f>"]).start();
    let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    let scene = Scene { agent, daemon, source: place.source(), copy: place.path("copy"), place };
    in_sync(&scene);
    let any = || (0..8).any(|nth| scene.copy.join(format!("upload {nth}")).exists());
    upload(&scene.source, |part| nothing_arrives(&scene, &part.to_string(), any));
    scene.converged();
    until("each once, in the daemon's log", SOON, || receptions(&scene) == [1; 8]);
}

#[test]
fn a_plugin_that_stands_alone_sees_each_file_once_and_whole() {
    let place = Place::new();
    let heard = place.path("heard");
    let tell = place.path("tell");
    let text = format!("#!/bin/sh\necho \"$SERSYNC_EVENT $(stat -c %s \"$1\") $1\" >> '{}'\n", heard.display());
    fs::write(&tell, text).unwrap();
    fs::set_permissions(&tell, fs::Permissions::from_mode(0o755)).unwrap();
    let inner = format!("<param prefix=\"{}\" suffix=\"\"/>", tell.display());
    let _agent = alone(&place, "command", "", &inner);
    let lines =
        || -> Vec<String> { fs::read_to_string(&heard).unwrap_or_default().lines().map(str::to_owned).collect() };
    let paths = upload(&place.source(), |part| {
        let neighbour = place.source().join(format!("neighbour {part}"));
        put(&neighbour, "closed");
        let expected = format!("CLOSE_WRITE 6 {}", neighbour.display());
        until("the call for a neighbour", SOON, || lines().contains(&expected));
        steadily("no call for what is open", SOON, PAUSE, || !lines().iter().any(|line| line.contains("upload")));
    });
    let mut expected: Vec<String> = paths.iter().map(|path| format!("CLOSE_WRITE 3000 {}", path.display())).collect();
    expected.sort_unstable();
    let uploads = || {
        let mut uploads: Vec<String> = lines().into_iter().filter(|line| line.contains("upload")).collect();
        uploads.sort_unstable();
        uploads
    };
    steadily("one call for each", SOON, PAUSE, || uploads() == expected);
}

#[test]
fn a_file_that_is_made_anew_replaces_the_old_one_at_its_close() {
    let scene = Scene::prepared(|source, _| put(&source.join("page"), "old"));
    in_sync(&scene);
    // The removal still waits when the creation is seen.
    stop(&scene);
    fs::remove_file(scene.at("page")).unwrap();
    let mut page = File::create(scene.at("page")).unwrap();
    page.write_all(b"new, but ").unwrap();
    scene.agent.signal(Signal::SIGCONT);
    nothing_arrives(&scene, "page", || fs::read(scene.copy.join("page")).is_ok_and(|copy| copy.starts_with(b"new")));
    page.write_all(b"only half of it").unwrap();
    drop(page);
    scene.converged();
}

#[test]
fn open_files_in_a_directory_that_is_made_anew_wait_and_hold_back_no_other() {
    let scene = Scene::prepared(|source, _| {
        put(&source.join("site/old"), "old");
        put(&source.join("site/page"), "old");
    });
    in_sync(&scene);
    stop(&scene);
    fs::remove_dir_all(scene.at("site")).unwrap();
    fs::create_dir_all(scene.at("site/deep")).unwrap();
    let open = ["site/page", "site/deep/upload"].map(|path| File::create(scene.at(path)).unwrap());
    put(&scene.at("site/closed"), "closed");
    let write = || {
        open.iter().for_each(|file| file.write_all_at(b"new, but only half of it", 0).unwrap());
        // Few enough writes for the queue of a stopped agent.
        std::thread::park_timeout(Duration::from_millis(20));
    };
    write();
    again_and_again_while(vec![write], || {
        scene.agent.signal(Signal::SIGCONT);
        until("a file in it that is closed", SOON, || scene.copy.join("site/closed").exists());
        until("what is gone", SOON, || !scene.copy.join("site/old").exists());
        nothing_arrives(&scene, "site", || {
            scene.copy.join("site/deep/upload").exists()
                || fs::read(scene.copy.join("site/page")).is_ok_and(|copy| copy.starts_with(b"new"))
        });
    });
    drop(open);
    scene.converged();
}

#[test]
fn a_file_that_is_open_when_the_agent_is_killed_arrives_at_its_close() {
    let mut scene = Scene::start();
    in_sync(&scene);
    let mut files: Vec<File> = ["created", "written"].map(|name| File::create(scene.at(name)).unwrap()).into();
    files[1].write_all(&PART).unwrap();
    nothing_arrives(&scene, "before", || scene.copy.join("written").exists());
    scene.agent.kill();
    files[1].write_all(&PART).unwrap();
    scene.agent.start_again();
    nothing_arrives(&scene, "after", || scene.copy.join("written").exists());
    drop(files);
    scene.converged();
}
