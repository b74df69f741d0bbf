//! How much memory an idle agent holds. A promise about the release binary, and empty in every other build:
//! `cargo test --release --test memory`.
#![cfg(not(debug_assertions))]

mod support;

use std::fs;
use support::scene::Scene;
use support::tree::put;

/// In kB, of the resident set.
const MOST: u64 = 15 * 1024;

#[test]
fn an_idle_agent_holds_less_than_15_mb() {
    let scene = Scene::prepared(|source, _| {
        for directory in 0..1000 {
            put(&source.join(format!("{}/{directory}/file", directory % 30)), "content");
        }
    });
    scene.converged();
    let fresh = scene.agent.process().status_kb("VmRSS").unwrap();
    println!("{fresh} kB idle, with 1,030 directories watched");
    assert!(fresh < MOST, "{fresh} kB resident after the start");

    // What a burst took has to be given back, or at least not to grow with every burst.
    for round in 0..3 {
        for file in 0..2000 {
            put(&scene.at(format!("{}/burst{file}", file % 30)), format!("{round} {file}"));
        }
        scene.converged();
    }
    fs::remove_dir_all(scene.at("1")).unwrap();
    scene.converged();
    let later = scene.agent.process().status_kb("VmRSS").unwrap();
    println!("{later} kB idle, after 6,000 files");
    assert!(later < MOST, "{later} kB resident after three bursts");
}
