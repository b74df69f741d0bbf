//! What is mirrored in a circle: refused where it can be known, noticed by its echo where it cannot.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

use bus::PrivateBus;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use support::agent::Launch;
use support::scene::{MODULE, Place};
use support::tree::{assert_converged, put};
use support::{SOON, until};

#[test]
fn two_instances_that_feed_each_other_are_refused() {
    let place = Place::new();
    let bus = PrivateBus::start();
    let (first, second) = (place.source(), place.make("second"));
    let launch = |instance: &str, from: &Path, to: &Path| {
        let launch = Launch::new(&place.make(instance)).mirror(from, [to]);
        let launch = launch.argument("--user").argument("--instance").argument(instance);
        launch.environment("DBUS_SESSION_BUS_ADDRESS", &bus.address)
    };
    let _agent = launch("there", &first, &second).start();
    let mut back = launch("back", &second, &first).spawn();
    assert_eq!(back.wait_ended(SOON).code(), Some(78));
    for told in ["a loop", "instance there", "instance back"] {
        assert!(back.log().contains(told), "{}", back.log());
    }
    // Two of one root, and one that goes on from a copy, are no loop.
    let _beside = launch("beside", &first, &place.make("third")).start();
    let _onwards = launch("onwards", &second, &place.make("fourth")).start();
    put(&first.join("file"), "content");
    assert_converged(&first, &place.path("third"));
    assert_converged(&first, &place.path("fourth"));
}

#[test]
fn a_remote_inside_its_own_tree_is_noticed_and_slows_down() {
    let place = Place::new();
    let (source, inside) = (place.source(), place.source().join("inside/copy"));
    let daemon = support::rsyncd::Plan::new(&place.path("daemon")).module(MODULE, &inside, &[]).start();
    let agent = place.launch().mirror(&source, [daemon.url(MODULE)]).start();
    put(&source.join("file"), "content");
    agent.wait_logged("a loop");
    until("it is told", SOON, || agent.notified().iter().any(|line| line.contains("comes back in its directory")));
    let is_there = |depth: &usize| source.join("inside/copy/".repeat(*depth)).join("file").exists();
    let depth = || (1..).take_while(is_there).count();
    let start = std::time::Instant::now();
    until("three seconds", SOON, || start.elapsed().as_secs() >= 3);
    assert!((3..12).contains(&depth()), "it went {} deep", depth());
}

#[test]
fn a_loop_through_rsync_daemons_is_noticed_and_slows_down() {
    let (here, there) = (Place::new(), Place::new());
    // Each side's daemon serves the tree that the other side watches.
    let plan = |place: &Place, tree: &Path| {
        support::rsyncd::Plan::new(&place.path("daemon")).module(MODULE, tree, &[]).start()
    };
    let (to_there, to_here) = (plan(&here, &there.source()), plan(&there, &here.source()));
    let agent = here.launch().mirror(&here.source(), [to_there.url(MODULE)]).start();
    let back = there.launch().mirror(&there.source(), [to_here.url(MODULE)]).start();
    // A full sync would find equal what it meets on its way, and end the loop.
    for side in [&agent, &back] {
        side.wait_notified("STATUS=1 remote in sync");
    }
    let file = here.source().join("file");
    put(&file, "content");
    agent.wait_logged("a loop");
    until("it is told", SOON, || agent.notified().iter().any(|line| line.contains("comes back")));
    // It turns ever slower: a second, two, four. By then it would have turned hundreds of times.
    let turns = || fs::metadata(&file).map(|meta| meta.ino()).unwrap_or_default();
    let mut seen = vec![turns()];
    let start = std::time::Instant::now();
    until("three seconds", SOON, || {
        let now = turns();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        start.elapsed().as_secs() >= 3
    });
    assert!(seen.len() < 8, "it turned {} times", seen.len());
    // And nothing is lost by that.
    put(&file, "another content");
    assert_converged(&here.source(), &there.source());
}
