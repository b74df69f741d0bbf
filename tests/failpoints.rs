//! The agent ends, or breaks, at the very moments at which it would hurt most; the next one makes good for it. Needs the
//! feature `failpoints`: `cargo test --features failpoints --test failpoints`.

mod support;

use std::fs;
use std::path::Path;
use support::scene::{MODULE, Place};
use support::sshd::Sshd;
use support::tree::{Judge, put};
use support::{SOON, until};

/// Work of every sort: what is new, changed, renamed and gone, of files and directories.
fn work(source: &Path, round: u32) {
    put(&source.join("changed"), round.to_string());
    put(&source.join(format!("new/{round}/file")), "new");
    put(&source.join("gone"), "for a moment");
    fs::remove_file(source.join("gone")).unwrap();
    let (from, to) = if round.is_multiple_of(2) { ("one", "other") } else { ("other", "one") };
    fs::rename(source.join(from), source.join(to)).unwrap();
    put(&source.join(to).join("inside"), round.to_string());
    if round > 0 {
        fs::remove_dir_all(source.join(format!("new/{}", round - 1))).unwrap();
    }
}

fn prepared(place: &Place) {
    for file in ["one/inside", "one/untouched", "changed"] {
        put(&place.source().join(file), "before");
    }
}

/// Has the agent end at `point`, each time at a later passage, while there is work; nothing is lost by it.
fn ends_at(point: &str, passages: &[u32]) {
    let place = Place::new();
    prepared(&place);
    let daemon = place.plan(&[]).start();
    let sshd = Sshd::start(&place.path("sshd"));
    let mut destinations = vec![daemon.url(MODULE)];
    let mut launch = place.launch();
    let mut copies = vec![place.path("copy")];
    if let Some(sshd) = &sshd {
        copies.push(place.make("by-ssh"));
        destinations.push(format!("{}:{}", Sshd::HOST, copies[1].display()));
        launch = launch.environment("PATH", &sshd.path);
    }
    let mut agent = launch.mirror(&place.source(), destinations).start();
    let converged = || {
        copies.iter().for_each(|copy| Judge::default().assert_converged(&place.source(), copy, SOON));
    };
    converged();
    let mut rounds = 0..;
    for passage in passages {
        agent.terminate();
        agent.set_environment("FAILPOINTS", &format!("{point}={passage}*off->return"));
        if point == "descriptor-kept" {
            // What is kept already is not kept again.
            agent.forget_store();
        }
        agent.spawn_again();
        until("its end at the named moment", SOON, || {
            rounds.by_ref().take(1).for_each(|round| work(&place.source(), round));
            !agent.process().lives()
        });
        agent.wait_ended(SOON);
        rounds.by_ref().take(1).for_each(|round| work(&place.source(), round));
        agent.set_environment("FAILPOINTS", "");
        agent.start_again();
        converged();
    }
}

#[test]
fn after_events_were_read_and_before_anything_follows() {
    ends_at("events-read", &[0, 1, 7]);
}

#[test]
fn after_changes_were_reported_and_before_they_are_written_down() {
    ends_at("changes-reported", &[0, 1, 5]);
}

#[test]
fn after_the_journal_was_appended_to() {
    ends_at("journal-appended", &[0, 1, 6]);
}

#[test]
fn between_a_new_journal_and_its_place() {
    ends_at("journal-rewritten", &[0]);
}

#[test]
fn between_the_two_descriptors_that_systemd_keeps() {
    ends_at("descriptor-kept", &[0]);
}

#[test]
fn after_a_run_succeeded_and_before_that_is_known() {
    ends_at("run-ended", &[0, 1, 4]);
}

#[test]
fn after_renames_on_a_remote_and_before_anything_is_compared() {
    ends_at("moves-made", &[0, 1, 2]);
}

/// Has something break once, and expects equality all the same, of an agent that lives on.
fn goes_on_after(failpoints: &str, told: &str) {
    let place = Place::new();
    prepared(&place);
    let daemon = place.plan(&[]).start();
    let launch = place.launch().environment("FAILPOINTS", failpoints);
    let agent = launch.mirror(&place.source(), [daemon.url(MODULE)]).start();
    for round in 0..20 {
        work(&place.source(), round);
        Judge::default().assert_converged(&place.source(), &place.path("copy"), SOON);
    }
    agent.wait_logged(told);
}

#[test]
fn a_look_at_a_batch_that_panics_is_a_failed_batch() {
    goes_on_after("look=2*off->1*panic(a defect)->off", "looking at the batch");
}

#[test]
fn events_that_cannot_be_read_count_as_lost() {
    goes_on_after("inotify-read=9*off->2*return->off", "cannot be read");
}
