//! Which runs delete what only the remote has, and what else a config can ask for that sersync 2.5.4 did not know:
//! rsync's own exclude patterns, directories of this machine, words for ssh.

mod support;

use std::fs;
use std::path::Path;
use support::config::Confxml;
use support::scene::{MODULE, Place};
use support::sshd::Sshd;
use support::tree::{assert_converged, put};
use support::{SOON, until};

/// A config with parts of its text replaced.
fn written(config: &Confxml, file: &Path, replacements: &[(&str, &str)]) -> std::path::PathBuf {
    let file = config.write(file);
    let mut text = fs::read_to_string(&file).unwrap();
    for (old, new) in replacements {
        assert!(text.contains(old), "{old} is not in {text}");
        text = text.replace(old, new);
    }
    fs::write(&file, text).unwrap();
    file
}

/// Runs an agent with `when`; whether what only the remote has goes at the start, and whether what is removed later
/// goes.
fn deletes(when: &str) -> (bool, bool) {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    put(&place.source().join("kept"), "x");
    put(&place.source().join("removed"), "x");
    put(&place.path("copy/superfluous"), "x");
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE);
    let attribute = format!("<delete start=\"true\" when=\"{when}\"/>");
    let file = written(&config, &place.path("www.xml"), &[("<delete start=\"true\"/>", &attribute)]);
    let agent = place.launch().config(&file).start();
    let there = |name: &str| place.path("copy").join(name).exists();
    until("the full sync", SOON, || there("kept") && there("removed") && agent.log().contains("watching"));
    // Where it may delete, it does so once it knows that no other mirror leads there.
    agent.wait_notified_from(0, |line| line.contains("1 remote in sync"));
    fs::remove_file(place.source().join("removed")).unwrap();
    // What comes later has arrived, so what came before has had its turn.
    put(&place.source().join("later"), "x");
    until("a later change", SOON, || there("later"));
    let mut agent = agent;
    agent.terminate();
    (!there("superfluous"), !there("removed"))
}

#[test]
fn always_startup_and_running_delete_what_they_say() {
    assert_eq!(deletes("always"), (true, true));
    assert_eq!(deletes("startup"), (true, false));
    assert_eq!(deletes("running"), (false, true));
}

#[test]
fn rsync_patterns_exclude_in_a_config_and_in_a_file_of_its_own() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    fs::write(place.path("patterns"), "# of the editors\n*.bak\n\n/top/\n").unwrap();
    let config = Confxml::new(&place.source()).exclude("never.*").daemon(&daemon, MODULE);
    let patterns = format!(
        "<exclude pattern=\"*.tmp\"/><exclude file=\"{}\"/><exclude expression=\"never.*\"",
        place.path("patterns").display()
    );
    let replaced = [("<exclude expression=\"never.*\"", patterns.as_str())];
    let file = written(&config, &place.path("www.xml"), &replaced);
    for path in ["a.tmp", "d/b.tmp", "d/c.bak", "top/x", "never1"] {
        put(&place.source().join(path), "excluded");
    }
    let _agent = place.launch().config(&file).start();
    for path in ["d/top/x", "kept", "live.tmp.not"] {
        put(&place.source().join(path), "sent");
    }
    put(&place.source().join("d/live.bak"), "excluded");
    put(&place.source().join("last"), "sent");
    let there = |name: &str| place.path("copy").join(name).exists();
    until("what is not excluded", SOON, || ["d/top/x", "kept", "live.tmp.not", "last"].iter().all(|path| there(path)));
    for path in ["a.tmp", "d/b.tmp", "d/c.bak", "top", "never1", "d/live.bak"] {
        assert!(!there(path), "{path}");
    }
}

#[test]
fn a_config_may_have_daemons_and_directories_of_this_machine_side_by_side() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE);
    let directory = format!("<remote directory=\"{}\"/></localpath>", place.make("mounted").display());
    let file = written(&config, &place.path("www.xml"), &[("</localpath>", &directory)]);
    let _agent = place.launch().config(&file).start();
    put(&place.source().join("d/file"), "x");
    assert_converged(&place.source(), &place.path("copy"));
    assert_converged(&place.source(), &place.path("mounted"));
}

#[test]
fn ssh_gets_the_words_that_the_config_has_for_it() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    // With the key in another place than the client's own configuration says.
    fs::rename(place.path("sshd/login"), place.path("key of ours")).unwrap();
    let config = Confxml::new(&place.source()).params("-a").ssh(Sshd::HOST, &place.make("copy"));
    let options = format!(
        "<ssh start=\"true\" identity=\"{}\" options=\"-o LogLevel=ERROR\"/>",
        place.path("key of ours").display()
    );
    let file = written(&config, &place.path("www.xml"), &[("<ssh start=\"true\"/>", &options)]);
    let _agent = place.launch().environment("PATH", &sshd.path).config(&file).start();
    put(&place.source().join("file"), "x");
    assert_converged(&place.source(), &place.path("copy"));
}
