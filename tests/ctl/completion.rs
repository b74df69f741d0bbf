//! What a shell is offered at the Tab key, asked as the shells ask: through the program's environment, and through bash
//! itself.

use crate::client::{ctl, finish, on};
use crate::support::{Engine, PATIENCE, PrivateBus, snapshot};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// What fish is offered for the last word of the line.
async fn offered(bus: &PrivateBus, configs: &Path, line: &[&str]) -> Vec<String> {
    let mut arguments = vec!["--", "sersyncctl"];
    arguments.extend(line);
    let mut command = ctl(bus, &arguments);
    command
        .env("COMPLETE", "fish")
        .env("XDG_CONFIG_HOME", configs)
        .env("DBUS_SESSION_BUS_ADDRESS", &bus.address)
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/system");
    let ended = finish(command).await;
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
    // A description stands behind a tab.
    ended.out.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn instances_remotes_and_configs_are_offered() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let place = tempfile::tempdir().unwrap();
    let configs = place.path().join("sersync");
    std::fs::create_dir(&configs).unwrap();
    for file in ["wiki.xml", "blog.xml", "notes.txt", ".hidden.xml"] {
        std::fs::write(configs.join(file), "").unwrap();
    }
    let ask = async |line: &[&str]| offered(&bus, place.path(), line).await;
    for verb in ["status", "resync", "retry", "failures", "pending", "pause", "resume", "wait", "reload", "monitor"] {
        assert_eq!(ask(&["--user", verb, "w"]).await, ["wiki", "www"], "{verb}");
    }
    assert_eq!(ask(&["--user", "pause", "b"]).await, ["blog"]);
    assert!(!ask(&["pause", "w"]).await.contains(&"www".to_owned()), "the system's bus knows no www");
    let remotes = ["backup@web1::www", "web2:/srv/www"];
    assert_eq!(ask(&["--user", "resync", "www", "b"]).await, remotes[..1]);
    assert_eq!(ask(&["--user", "retry", "www", remotes[0], "w"]).await, remotes[1..]);
    assert!(ask(&["--user", "retry", "www", remotes[1], "w"]).await.is_empty(), "each remote is named once");
    assert!(ask(&["--user", "resync", "nope", "w"]).await.is_empty());
    let given = format!("{}/", configs.display());
    let files = ask(&["--user", "check", &format!("{given}b")]).await;
    assert_eq!(files, [format!("{given}blog.xml")]);
    assert_eq!(ask(&["--user", "check", "wi"]).await, ["wiki"]);
    assert!(ask(&["--user", "res"]).await.starts_with(&["resync".to_owned(), "resume".to_owned()]));
}

#[tokio::test]
async fn a_bus_that_does_not_answer_is_not_waited_for() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("sersync")).unwrap();
    std::fs::write(place.path().join("sersync/www.xml"), "").unwrap();
    // It listens, and never says a word.
    let socket = place.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut bus = PrivateBus::start();
    let real = std::mem::replace(&mut bus.address, format!("unix:path={}", socket.display()));
    let began = Instant::now();
    assert_eq!(offered(&bus, place.path(), &["--user", "pause", "w"]).await, ["www"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    bus.address = real;
}

#[tokio::test]
async fn bash_completes_a_line() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let place = tempfile::tempdir().unwrap();
    let script = r#"
        source <(COMPLETE=bash sersyncctl)
        compopt() { printf 'no space|'; }
        COMP_WORDBREAKS=$' \t\n"\'@><=;|&(:'
        complete_line() {
            COMP_LINE=$1 COMP_POINT=${#1} COMPREPLY=()
            _sersyncctl
            printf '%s|' "${COMPREPLY[@]}"; printf '\n'
        }
        complete -p sersyncctl >/dev/null && complete_line 'sersyncctl pause w'
        complete_line 'sersyncctl resync www web'
        # bash takes ":" and "@" for ends of words, and replaces what stands behind the last one.
        complete_line 'sersyncctl resync www backup@web'
        complete_line 'sersyncctl resync www backup@web1::w'
        complete_line 'sersyncctl resync www web2:/s'
        complete_line 'sersyncctl resync www nothing'
        cd / && complete_line 'sersyncctl check et'
    "#;
    let output = tokio::process::Command::new("bash")
        .args(["--norc", "-c", script])
        .env("PATH", search_path())
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
        .env("XDG_CONFIG_HOME", place.path())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines, ["www|", "web2:/srv/www|", "web1::www|", "www|", "/srv/www|", "|", "no space|etc/|"], "{errors}");
}

#[test]
fn the_agents_options_offer_plugins_and_directories() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("sersync");
    let mut command = <sersync::cli::Cli as clap::CommandFactory>::command();
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::Bash, &mut command, "sersync", &mut script);
    std::fs::write(&file, script).unwrap();
    let lines = r#"
        source "$1"
        compopt() { printf '%s|' "$*"; }
        complete_words() {
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
            _sersync sersync "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s|' "${COMPREPLY[@]}"; printf '\n'
        }
        complete_words sersync -m ''
        complete_words sersync --watch /da
    "#;
    let output = Command::new("bash").args(["--norc", "-c", lines, "bash"]).arg(&file).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines, ["command|socket|http|refreshCDN|", "-o plusdirs||"], "{errors}");
}

/// The programs of this build come first.
fn search_path() -> String {
    let directory = Path::new(env!("CARGO_BIN_EXE_sersyncctl")).parent().unwrap();
    format!("{}:{}", directory.display(), std::env::var("PATH").unwrap())
}

/// What a shell printed; `None` where it is not installed, which is no excuse in CI.
async fn output_of(mut shell: tokio::process::Command) -> Option<std::process::Output> {
    let name = shell.as_std().get_program().to_string_lossy().into_owned();
    let output = shell.env("PATH", search_path()).kill_on_drop(true).output();
    match tokio::time::timeout(PATIENCE, output).await.unwrap_or_else(|_| panic!("{name} does not end")) {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::env::var_os("CI").is_none() => {
            eprintln!("{name} is not installed: nothing is completed in it");
            None
        }
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Where compinit finds it, and on a terminal: the first Tab key is the one that loads it.
#[tokio::test]
async fn zsh_completes_at_the_first_tab_key() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir(place.path().join("sersync")).unwrap();
    std::fs::write(place.path().join("sersync/wiki.xml"), "").unwrap();
    let script = sersync::ctl::completion::registration("zsh").unwrap();
    std::fs::write(place.path().join("_sersyncctl"), script).unwrap();
    let session = r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell "fpath=($PLACE \$fpath); autoload -Uz compinit; compinit -u -D; echo re''ady"
        zpty -r -m shell line '*ready*'
        zpty -w -n shell $'sersyncctl --user pause wi\t'
        zpty -r -m shell line '*pause wiki*' && print completed
        zpty -d shell
    "#;
    let mut zsh = tokio::process::Command::new("zsh");
    zsh.args(["-f", "-c", session]).env("PLACE", place.path()).env("XDG_CONFIG_HOME", place.path());
    zsh.env("TERM", "dumb").env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/session");
    let Some(output) = output_of(zsh).await else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "completed\n", "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn fish_completes_a_line() {
    let bus = PrivateBus::start();
    let engine = Engine::new(snapshot("www"));
    let _agent = on(&bus, engine.handle.clone()).await;
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("sersyncctl.fish");
    std::fs::write(&file, sersync::ctl::completion::registration("fish").unwrap()).unwrap();
    let script = "source $argv[1]; for line in 'pause w' 'resync www back' 'resync www backup@web1::w'
        complete --do-complete \"sersyncctl $line\"; end";
    let mut fish = tokio::process::Command::new("fish");
    fish.args(["--no-config", "-c", script]).arg(&file).env("HOME", place.path());
    fish.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address);
    let Some(output) = output_of(fish).await else { return };
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split('\t').next().unwrap()).collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(lines, ["www", "backup@web1::www", "backup@web1::www"], "{errors}");
}

#[test]
fn the_scripts_are_what_their_shells_read() {
    let place = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let file = place.path().join(shell);
        std::fs::write(&file, sersync::ctl::completion::registration(shell).unwrap()).unwrap();
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                assert!(std::env::var_os("CI").is_none(), "{shell} is not installed");
                eprintln!("{shell} is not installed: its script is not read");
            }
            Err(error) => panic!("{shell}: {error}"),
        }
    }
}
