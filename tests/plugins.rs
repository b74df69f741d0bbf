//! Plugins: what commands are told, byte for byte; and that nothing a plugin does, or leaves undone, holds up the mirror.

mod support;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use support::config::Confxml;
use support::listener::{Listener, OK};
use support::plugins::{alone, contains, evil, localpath, put_bytes};
use support::rsyncd::Plan;
use support::scene::{MODULE, Place, Scene};
use support::tree::put;
use support::{SOON, eventually, is_root, skip, until};

/// A program of the test's own: appends what it is told to the file beside it.
fn script(place: &Place, name: &str, text: &str) -> PathBuf {
    let path = place.path(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn command(prefix: &str, suffix: &str, more: &str) -> String {
    let prefix = prefix.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    format!("<param prefix=\"{prefix}\" suffix=\"{suffix}\" {more}/>")
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_default()
}

#[test]
fn a_command_gets_the_path_as_one_word_and_the_event_in_its_environment() {
    let place = Place::new();
    let heard = place.path("heard");
    let tell = script(
        &place,
        "tell",
        &format!(
            "printf '%s\\0' \"$#\" \"$1\" \"$2\" \"$3\" \"$SERSYNC_PATH\" \"$SERSYNC_EVENT\" \"$SERSYNC_REMOTES\" \"$SERSYNC_INSTANCE\" \"${{RSYNC_PASSWORD-unset}}\" >> '{}'\necho \"told of $2\"",
            heard.display()
        ),
    );
    let daemon = place.plan(&[]).start();
    let inner = command(&format!("{} 'two words'", tell.display()), "last", "");
    let file = Confxml::new(&place.source())
        .daemon(&daemon, MODULE)
        .plugin("command", "concurrency=\"1\"", &inner)
        .write(&place.path("www.xml"));
    let agent = place.launch().config(&file).start();
    let remote = format!("{}::{MODULE}", daemon.address);
    for path in evil(&place.source()) {
        let name = path.as_os_str().as_bytes();
        let beginning = [b"3\0two words\0", name, b"\0last\0", name, b"\0CLOSE_WRITE\0"].concat();
        until("the call", SOON, || contains(&read(&heard), &beginning));
    }
    let ending = format!("{remote}\0www\0unset\0");
    assert!(contains(&read(&heard), ending.as_bytes()), "{}", String::from_utf8_lossy(&read(&heard)));
    agent.wait_logged("told of ");
    fs::remove_file(place.path("source").join("-rf *")).unwrap();
    until("the deletion", SOON, || contains(&read(&heard), b"-rf *\0DELETE\0"));
    assert!(!place.path("source/owned").exists() && !Path::new("owned").exists() && !place.path("owned").exists());
}

#[test]
fn include_decides_and_a_batch_reads_its_paths() {
    let place = Place::new();
    let heard = place.path("heard");
    let list = script(&place, "list", &format!("echo start >> '{0}.starts'\ncat >> '{0}'", heard.display()));
    let inner = command(&list.display().to_string(), "", "batch=\"true\"")
        + "<filter start=\"true\"><include expression=\"(.*)\\.php\"/></filter>";
    let _agent = alone(&place, "command", "", &inner);
    let mut wanted = Vec::new();
    for file in 0..500 {
        put(&place.path(&format!("source/d{}/{file}.php", file % 7)), "x");
        put(&place.path(&format!("source/d{}/{file}.php5", file % 7)), "x");
        wanted.push(place.path(&format!("source/d{}/{file}.php", file % 7)));
    }
    wanted.push(put_bytes(&place.source(), b"new\nline\xff.php"));
    let paths = || -> Vec<Vec<u8>> { read(&heard).split(|byte| *byte == 0).map(<[u8]>::to_vec).collect() };
    eventually("all paths", SOON, || {
        let told = paths();
        let missing = wanted.iter().find(|path| !told.iter().any(|told| told == path.as_os_str().as_bytes()));
        missing.map_or(Ok(()), |path| Err(format!("{} is missing", path.display())))
    });
    assert!(paths().iter().all(|path| path.is_empty() || path.ends_with(b".php")), "the filter");
    let starts = read(&place.path("heard.starts")).iter().filter(|byte| **byte == b'\n').count();
    assert!(starts < 250, "{starts} starts for 501 paths: they did not gather");
}

#[test]
fn without_a_config_a_command_takes_the_place_of_a_script() {
    let place = Place::new();
    let heard = place.path("heard");
    put(&place.path("source/old"), "was there before");
    let tell = script(&place, "tell", &format!("echo \"$SERSYNC_EVENT $1\" >> '{}'", heard.display()));
    let agent = place
        .launch()
        .argument("--watch")
        .argument(place.source())
        .argument("-m")
        .argument("command")
        .argument("--command")
        .argument(tell.display().to_string())
        .start();
    fs::create_dir(place.path("source/d")).unwrap();
    put(&place.path("source/d/f"), "x");
    let line = |event: &str, path: &str| format!("{event} {}", place.path(path).display());
    let lines = || String::from_utf8_lossy(&read(&heard)).lines().map(str::to_owned).collect::<Vec<_>>();
    until("both", SOON, || {
        lines().contains(&line("CREATE,ISDIR", "source/d")) && lines().contains(&line("CLOSE_WRITE", "source/d/f"))
    });
    fs::rename(place.path("source/d"), place.path("source/e")).unwrap();
    until("the rename", SOON, || {
        lines().contains(&line("DELETE,ISDIR", "source/d")) && lines().contains(&line("MOVED_TO,ISDIR", "source/e"))
    });
    assert!(!lines().iter().any(|line| line.ends_with("/old")), "nothing changed there");
    assert!(agent.children().iter().all(|child| !child.command_line().contains("rsync ")));
}

#[test]
fn a_plugin_that_hangs_holds_up_nothing_and_ends_with_the_agent() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let hang = script(&place, "hang", "sleep 1000 &\nexec sleep 1000");
    let file = Confxml::new(&place.source())
        .daemon(&daemon, MODULE)
        .plugin("command", "", &command(&hang.display().to_string(), "", ""))
        .write(&place.path("confxml.xml"));
    let mut agent = place.launch().config(&file).start();
    for file in 0..300 {
        put(&place.path(&format!("source/{file}")), "x");
    }
    support::tree::assert_converged(&place.source(), &place.path("copy"));
    let sleeping = || {
        agent
            .children()
            .iter()
            .filter(|child| child.command_line().starts_with("sleep"))
            .map(|child| child.pid)
            .collect::<Vec<_>>()
    };
    until("four calls", SOON, || sleeping().len() >= 4);
    let left = sleeping();
    assert!(left.len() <= 8, "more than four calls at once: {left:?}");
    agent.terminate();
    until("their end", SOON, || left.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists() || is_zombie(*pid)));
}

fn is_zombie(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn a_command_over_its_time_is_ended_with_its_group() {
    let place = Place::new();
    let pids = place.path("pids");
    let text = format!("trap '' TERM\nsleep 1000 &\necho $! $$ >> '{}'\nwhile :; do sleep 1000; done", pids.display());
    let hang = script(&place, "hang", &text);
    let agent = alone(&place, "command", "timeout=\"1\" retries=\"0\"", &command(&hang.display().to_string(), "", ""));
    put(&place.path("source/file"), "x");
    agent.wait_logged("took longer than 1 s and was ended");
    let pids: Vec<i32> =
        String::from_utf8(read(&pids)).unwrap().split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    until("their end", SOON, || pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists() || is_zombie(*pid)));
}

/// A full sync tells of what differed, and of nothing else; with a filter, too.
#[test]
fn of_a_comparison_only_what_changed_is_told() {
    for filtered in [false, true] {
        let (place, heard) = (Place::new(), Listener::bytes());
        let daemon = place.plan(&[]).start();
        let (source, copy) = (place.source(), place.path("copy"));
        for directory in [&source, &copy] {
            for file in 0..50 {
                put(&directory.join(format!("same/{file}")), "same");
            }
        }
        let same_time = |path: &Path| {
            fs::File::options().write(true).open(path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap()
        };
        for directory in [&source, &copy] {
            (0..50).for_each(|file| same_time(&directory.join(format!("same/{file}"))));
        }
        put(&source.join("same/changed"), "new");
        put(&source.join("new/file \n name"), "new");
        put(&source.join("left out.tmp"), "excluded");
        put(&copy.join("same/changed"), "older");
        put(&copy.join("gone/file"), "superfluous");
        let target = localpath(&place, &format!("<deshost ip=\"{}\" port=\"{}\"/>", heard.address.ip(), heard.port()));
        let mut config = Confxml::new(&source).daemon(&daemon, MODULE).plugin("socket", "", &target);
        if filtered {
            config = config.exclude(".*\\.tmp");
        }
        let _agent = place.launch().config(&config.write(&place.path("confxml.xml"))).argument("-r").start();
        for name in ["same/changed", "new", "new/file \n name", "gone"] {
            let path = source.join(name);
            heard.wait(name, |request| request.body == path.as_os_str().as_bytes());
        }
        // What was told, was told before this one.
        put(&source.join("last"), "x");
        let last = source.join("last");
        heard.wait("the last", |request| request.body == last.as_os_str().as_bytes());
        let told: Vec<String> = heard.seen().iter().map(|request| request.text()).collect();
        assert!(told.iter().all(|path| !path.contains("/same/") || path.ends_with("changed")), "{told:?}");
        assert_eq!(told.iter().any(|path| path.ends_with(".tmp")), !filtered, "{told:?}");
    }
}

#[test]
fn a_dead_remote_is_not_waited_for_and_told_of_when_it_is_back() {
    let place = Place::new();
    let plan = |name: &str| {
        let plan = Plan::new(&place.path(name));
        plan.module(MODULE, &place.path(&format!("{name}/copy")), &[])
    };
    // One config has one port for all its daemons; each has an address of its own.
    let first = plan("one").start();
    let mut second = plan("two").port(first.port).start();
    let heard = Listener::http(|_| OK.to_owned());
    let host = format!("<deshost url=\"http://{}/\" format=\"json\"/>", heard.address);
    let file = Confxml::new(&place.source())
        .daemon(&first, MODULE)
        .daemon(&second, MODULE)
        .plugin("http", "", &localpath(&place, &host))
        .write(&place.path("confxml.xml"));
    let _agent = place.launch().config(&file).start();
    let remotes = |request: &support::listener::Request| -> Vec<String> {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        body["remotes"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    put(&place.path("source/both"), "x");
    let both = heard.wait("both", |request| request.text().contains("source/both"));
    assert_eq!(remotes(&both).len(), 2, "told of before all had it: {both:?}");
    second.stop();
    put(&place.path("source/late"), "x");
    let early = heard.wait("the one that answers", |request| request.text().contains("source/late"));
    assert_eq!(remotes(&early).len(), 1);
    assert!(remotes(&early)[0].contains(&first.address.to_string()), "{early:?}");
    second.start();
    let later = heard.wait("the late one", |request| {
        request.text().contains("source/late") && remotes(request)[0].contains(&second.address.to_string())
    });
    assert_eq!(remotes(&later).len(), 1);
}

/// What a target missed while it was down it hears of; each path once.
#[test]
fn a_target_that_is_down_hears_of_everything_later() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static DOWN: AtomicBool = AtomicBool::new(true);
    let answer = |_: &support::listener::Request| match DOWN.load(Ordering::Relaxed) {
        true => "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        false => OK.to_owned(),
    };
    let (scene_place, server) = (Place::new(), Listener::http(answer));
    let host = format!("<deshost url=\"http://{}/{{path}}\" method=\"PURGE\"/>", server.address);
    let agent = alone(&scene_place, "http", "retries=\"0\"", &localpath(&scene_place, &host));
    for round in 0..3 {
        for file in 0..100 {
            put(&scene_place.path(&format!("source/{file}")), round.to_string());
        }
    }
    agent.wait_logged("503");
    let while_down = server.seen().len();
    assert!(while_down < 20, "{while_down} requests to a server that is down");
    DOWN.store(false, Ordering::Relaxed);
    for file in 0..100 {
        let line = format!("PURGE /{file} HTTP/1.1");
        server.wait(&line, |request| request.line == line);
    }
    let after = server.seen().len() - while_down;
    assert!(after <= 110, "{after} requests for 100 paths");
    agent.wait_logged("answers again");
}

/// What nobody could be told before the agent's end is told after its next start, deletions too.
#[test]
fn what_waits_survives_a_restart() {
    let place = Place::new();
    let server = Listener::bytes();
    let address = server.address;
    drop(server);
    let daemon = place.plan(&[]).start();
    put(&place.path("source/gone"), "x");
    let target = format!("<deshost ip=\"{}\" port=\"{}\"/>", address.ip(), address.port());
    let config =
        Confxml::new(&place.source()).daemon(&daemon, MODULE).plugin("socket", "", &localpath(&place, &target));
    let mut agent = place.launch().config(&config.write(&place.path("confxml.xml"))).start();
    support::tree::assert_converged(&place.source(), &place.path("copy"));
    fs::remove_file(place.path("source/gone")).unwrap();
    put(&place.path("source/file"), "x");
    support::tree::assert_converged(&place.source(), &place.path("copy"));
    agent.wait_logged("its paths wait");
    agent.terminate();
    let server = Listener::bytes_at(address);
    agent.start_again();
    for name in ["gone", "file"] {
        let path = place.source().join(name);
        server.wait(name, |request| request.body == path.as_os_str().as_bytes());
    }
}

/// The old example that is in so many files: a shell that runs what changed, its output thrown away.
#[test]
fn the_shipped_command_runs_what_was_synced() {
    let scene = Scene::configured(
        |_, _| {},
        |config| {
            let inner = command("/bin/sh", "&gt;/dev/null 2&gt;&amp;1", "ignoreError=\"true\"")
                + "<filter start=\"true\"><include expression=\"(.*)\\.sh\"/></filter>";
            config.plugin("command", "", &inner)
        },
    );
    let ran = scene.place.path("ran");
    put(&scene.at("other.txt"), "echo no > should-not-run");
    put(&scene.at("run.sh"), format!("echo noise; echo yes > '{}'; exit 3", ran.display()));
    until("its run", SOON, || read(&ran) == b"yes\n");
    scene.converged();
    assert!(
        !scene.agent.log().contains("noise") && !scene.agent.log().contains("/bin/sh failed"),
        "{}",
        scene.agent.log()
    );
}

#[test]
fn a_command_has_no_capability_unless_the_config_says_so() {
    if !is_root() {
        return skip("only root can start an agent with the one capability that the unit gives");
    }
    const READ_ALL: u64 = 1 << 2;
    for (attribute, expected) in [("", 0), ("keepCapabilities=\"true\"", READ_ALL)] {
        let place = Place::new();
        fs::set_permissions(place.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        let told = place.make("told");
        fs::set_permissions(&told, fs::Permissions::from_mode(0o777)).unwrap();
        let show = script(&place, "show", &format!("grep ^Cap /proc/self/status > '{}/capabilities'", told.display()));
        let inner = command(&show.display().to_string(), "", attribute);
        let file = Confxml::new(&place.source()).plugin("command", "", &inner).write(&place.path("www.xml"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let _agent = place.launch().config(&file).argument("-m").argument("command").unprivileged_reader().start();
        put(&place.source().join("page"), "content");
        let status = eventually("the capabilities of the command", SOON, || {
            let status = fs::read_to_string(told.join("capabilities")).unwrap_or_default();
            if status.contains("CapAmb") { Ok(status) } else { Err(status) }
        });
        let set = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(value.trim(), 16).unwrap()
        };
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(set(name), expected, "{name} {attribute:?}: {status}");
        }
    }
}
