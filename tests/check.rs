//! `sersyncctl check` against real remotes, each with a real fault.

mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::config::Confxml;
use support::rsyncd::{Daemon, PASSWORD, Plan};
use support::scene::{MODULE, Place};
use support::sshd::Sshd;

/// What a check said.
struct Said {
    status: i32,
    findings: Vec<(String, String)>,
    whole: String,
}

impl Said {
    /// A finding of this level holds this text.
    fn has(&self, level: &str, text: &str) {
        let found = self.findings.iter().any(|(known, said)| known == level && said.contains(text));
        assert!(found, "no {level} with {text:?} in {}", self.whole);
    }
}

fn check(file: &Path, path: Option<&std::ffi::OsStr>) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    command.args(["--user", "--json", "check"]).arg(file);
    run(command, path)
}

fn run(mut command: Command, path: Option<&std::ffi::OsStr>) -> Said {
    // No bus is needed.
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().unwrap();
    let whole = String::from_utf8([output.stdout.clone(), output.stderr].concat()).unwrap();
    assert!(!whole.contains(PASSWORD), "the password is shown");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {whole}"));
    let findings = json[0]["findings"].as_array().unwrap().iter().map(|finding| {
        let text = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
        (text("level"), format!("{}: {} → {}", text("about"), text("text"), text("next")))
    });
    Said { status: output.status.code().unwrap(), findings: findings.collect(), whole }
}

/// A config that mirrors the place's source to a daemon with these module settings.
fn config(place: &Place, daemon: &Daemon) -> PathBuf {
    Confxml::new(&place.source()).daemon(daemon, MODULE).write(&place.path("www.xml"))
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_good_remote_is_praised_and_left_as_it_was() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let said = check(&config(&place, &daemon), None);
    assert_eq!(said.status, 0, "{}", said.whole);
    said.has("ok", "is understood");
    said.has("ok", "answers in");
    said.has("ok", "takes a file, and lets it be deleted");
    said.has("ok", "its clock agrees with ours");
    said.has("note", "does not tell how much room");
    assert!(said.whole.contains("a small push takes"), "{}", said.whole);
    assert_eq!(entries(&place.path("copy")), 0, "the probe left something behind");
}

#[test]
fn a_remote_that_leads_to_a_watched_directory_is_an_error() {
    let place = Place::new();
    let (inside, other) = (place.source().join("deep/inside"), place.make("other"));
    for (served, words) in [
        (place.source(), "which it is to mirror"),
        (inside, "which it is to mirror"),
        (place.source().parent().unwrap().to_owned(), "which it is to mirror"),
        (other.clone(), "comparisons delete there by request only"),
    ] {
        let daemon = Plan::new(&place.path("rsyncd")).module(MODULE, &served, &[]).start();
        let chain =
            format!("<localpath watch=\"{}\"><remote ip=\"192.0.2.1\" name=\"m\"/></localpath>", other.display());
        let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).sersync(&chain);
        let said = check(&config.write(&place.path("www.xml")), None);
        // The second mirror's host does not exist.
        assert_eq!(said.status, 2, "{}", said.whole);
        said.has(if served == other { "warning" } else { "error" }, words);
    }
}

#[test]
fn configs_of_one_directory_that_form_a_circle_are_an_error() {
    let place = Place::new();
    let configs = place.make("home/sersync");
    let write = |name: &str, from: &str, to: &str| {
        let (from, to) = (place.make(from), place.make(to));
        let remote = format!("<remote directory=\"{}\"/>", to.display());
        let text = format!("<localpath watch=\"{}\">{remote}</localpath>", from.display());
        fs::write(configs.join(name), format!("<head version=\"2.5\"><sersync>{text}</sersync></head>")).unwrap();
    };
    let said = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
        command.args(["--user", "--json", "check", "--no-probe", name]).env("XDG_CONFIG_HOME", place.path("home"));
        run(command, None)
    };
    write("there.xml", "one", "other");
    write("beside.xml", "one", "third");
    assert!(said("there").findings.iter().all(|(level, _)| level != "error"), "{}", said("there").whole);
    write("back.xml", "other", "one");
    let circle = said("there");
    assert_eq!(circle.status, 2, "{}", circle.whole);
    circle.has("error", "(instance back)");
}

#[test]
fn each_fault_is_named_with_what_to_do() {
    let cases: [(&[&str], &str); 4] = [
        (&["read only = yes"], "read only = no"),
        (&["refuse options = delete delete-missing-args"], "refuse options"),
        (&["hosts deny = *"], "hosts allow"),
        (&["refuse options = backup-dir"], "backup-dir"),
    ];
    for (settings, remedy) in cases {
        let place = Place::new();
        let daemon = place.plan(settings).start();
        let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).rsync("<keepDeleted days=\"7\"/>");
        let said = check(&config.write(&place.path("www.xml")), None);
        assert_eq!(said.status, 2, "{settings:?}: {}", said.whole);
        said.has("error", remedy);
        assert_eq!(entries(&place.path("copy")), 0, "{settings:?} left something behind");
    }
}

#[test]
fn a_wrong_password_a_wrong_module_and_a_dead_port_are_told_apart() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).secret("another").start();
    let file = config(&place, &daemon);
    check(&file, None).has("error", "AuthFailed");
    let unknown = Confxml::new(&place.source()).daemon(&daemon, "nothing").write(&place.path("other.xml"));
    check(&unknown, None).has("error", "UnknownModule");
    daemon.stop();
    let said = check(&file, None);
    said.has("error", "ConnectionRefused");
    assert_eq!(said.status, 2);
}

#[test]
fn an_old_remote_is_noted() {
    let place = Place::new();
    let daemon = place.plan(&["refuse options = delete-missing-args"]).start();
    let said = check(&config(&place, &daemon), None);
    said.has("note", "does not know --delete-missing-args");
    said.has("ok", "takes a file, and lets it be deleted");
    assert_eq!((said.status, entries(&place.path("copy"))), (0, 0));
}

#[test]
fn a_remote_by_ssh_tells_its_free_space() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let copy = place.make("copy of it");
    let file = Confxml::new(&place.source()).params("-a").ssh(Sshd::HOST, &copy).write(&place.path("www.xml"));
    let said = check(&file, Some(&sshd.path));
    said.has("ok", "takes a file, and lets it be deleted");
    assert!(said.whole.contains(" free"), "{}", said.whole);
    assert_eq!((said.status, entries(&copy)), (0, 0), "{}", said.whole);
}

#[test]
fn a_missing_root_and_a_broken_file_are_errors() {
    let place = Place::new();
    let daemon = Plan::new(&place.path("rsyncd")).module(MODULE, &place.path("copy"), &[]).start();
    let missing = Confxml::new(&place.path("gone")).daemon(&daemon, MODULE).write(&place.path("www.xml"));
    let said = check(&missing, None);
    said.has("error", "cannot be watched");
    assert_eq!(said.status, 2);
    let broken = place.path("broken.xml");
    fs::write(&broken, "<head version=\"2.5\"><sersync></head>").unwrap();
    let said = check(&broken, None);
    assert_eq!(said.status, 2);
    said.has("error", "line 1, column");
}
