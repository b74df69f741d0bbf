//! `<debug start="true">` tells every event and every rsync run: by a line that does the same when somebody types it,
//! and without a secret.

mod support;

use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use support::config::Confxml;
use support::listener::Listener;
use support::rsyncd::PASSWORD;
use support::scene::{MODULE, Place, Scene};
use support::tree::{Judge, put};
use support::{SOON, eventually, until};

/// The last rsync command of `log` that names `path`, as somebody would copy it.
fn last_command(log: &str, path: &str) -> Option<String> {
    let lines = log.lines().rev().filter_map(|line| line.strip_prefix("debug: rsync: "));
    lines.into_iter().find(|line| line.contains(path)).map(str::to_owned)
}

/// Runs a line as it stands, with the password that it does not show.
fn type_in(line: &str, directory: &Path) {
    let command = line.rsplit_once(" (paths=").map_or(line, |(command, _)| command);
    let output = Command::new("sh")
        .args(["-c", command])
        .env("RSYNC_PASSWORD", PASSWORD)
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{command}\n{output:?}");
}

#[test]
fn each_event_and_each_run_is_told_and_the_line_does_what_the_run_did() {
    // No comparison at the start, so that each path has its own run.
    let alone = "<fullSync atStart=\"never\"/>";
    let params = "-a --suffix='.an old one'";
    let mut scene = Scene::configured(|_, _| {}, |config| config.params(params).agent(alone).debug());
    put(&scene.at("it's a $(page)"), "content");
    fs::set_permissions(scene.at("it's a $(page)"), fs::Permissions::from_mode(0o644)).unwrap();
    put(&scene.at("gone"), "content");
    scene.converged();
    fs::create_dir(scene.at("made")).unwrap();
    fs::remove_file(scene.at("gone")).unwrap();
    scene.converged();
    for event in ["CLOSE_WRITE it's a $(page)", "CREATE,ISDIR made", "DELETE gone"] {
        scene.agent.wait_logged(&format!("debug: event {event}"));
    }
    scene.agent.wait_logged("debug: pending: gone (Entry)");

    let line = last_command(&scene.agent.log(), "a $(page)").expect("the run that sent it is told");
    assert!(line.contains(" (paths="), "{line}");
    let deletion = last_command(&scene.agent.log(), "--delete-missing-args").expect("the run that deleted it is told");
    scene.agent.terminate();
    fs::remove_file(scene.copy.join("it's a $(page)")).unwrap();
    put(&scene.copy.join("gone"), "back again");
    let elsewhere = scene.place.make("elsewhere");
    type_in(&line, &elsewhere);
    type_in(&deletion, &elsewhere);
    Judge::default().assert_equal_now(&scene.source, &scene.copy);
}

#[test]
fn a_long_list_is_counted_and_not_told() {
    let scene = Scene::configured(|_, _| {}, |config| config.debug());
    // Stopped meanwhile, it finds all of them at once.
    scene.agent.signal(Signal::SIGSTOP);
    (0..300).for_each(|number| put(&scene.at(format!("a rather long name of a file {number}")), "content"));
    scene.agent.signal(Signal::SIGCONT);
    scene.converged();
    let log = scene.agent.log();
    let paths = |line: &str| line.rsplit_once("(paths=")?.1.strip_suffix(')')?.parse::<usize>().ok();
    let runs = log.lines().filter(|line| line.starts_with("debug: rsync: "));
    let long: Vec<&str> = runs.filter(|line| paths(line).is_some_and(|paths| paths > 100)).collect();
    assert!(!long.is_empty(), "{log}");
    assert!(long.iter().all(|line| !line.contains("printf")), "{long:?}");
}

/// The passwords of the daemon, of a CDN, and of a web server's header, each also where something goes wrong with it.
#[test]
fn no_secret_is_told() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).start();
    let server = Listener::http(|_| "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_owned());
    let token = place.path("token");
    fs::write(&token, "t0psecret\n").unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let root = place.source().display().to_string();
    let (host, port) = (server.address.ip(), server.address.port());
    let http = format!(
        "<localpath watch=\"{root}\"><deshost url=\"http://{host}:{port}/\">\
         <header name=\"Authorization\" value=\"Bearer \" file=\"{}\"/></deshost></localpath>",
        token.display()
    );
    let cdn = format!(
        "<localpath watch=\"{root}\"><cdninfo domainname=\"{host}\" port=\"{port}\" username=\"me\" \
         passwd=\"cdn-s3cret\"/><sendurl base=\"http://pic.example.org\"/></localpath>"
    );
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).debug();
    let config = config.plugin("http", "retries=\"1\"", &http).plugin("refreshCDN", "retries=\"1\"", &cdn);
    let file = config.write(&place.path("www.xml"));
    let agent = place.launch().config(&file).start();
    put(&place.source().join("page"), "content");
    until("the page", SOON, || place.path("copy/page").exists());
    eventually("both plugins' requests", SOON, || match server.seen() {
        seen if seen.len() >= 2 => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    daemon.set_secret("another one");
    put(&place.source().join("refused"), "content");
    agent.wait_logged("auth failed");
    let log = agent.log();
    assert!(last_command(&log, "rsync://backup@").is_some(), "{log}");
    for secret in [PASSWORD, "cdn-s3cret", "t0psecret"] {
        assert!(!log.contains(secret), "{secret} is told:\n{log}");
    }
}
