//! The flags of sersync 2.5.4, each as its users know it. `-d` and flags in one word, `-dro FILE`, are in
//! `lifecycle.rs`; `-m` with each of its plugins is in `plugins.rs`.

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use support::config::Confxml;
use support::rsyncd::Plan;
use support::scene::{MODULE, Place};
use support::tree::{assert_converged, put};
use support::{SOON, eventually, until};

/// A file that is under way for minutes, at the rate of [`SLOWLY`].
fn slow_file(path: &Path) {
    File::create(path).unwrap().set_len(64 << 20).unwrap();
}

const SLOWLY: &str = "-a --bwlimit=200";

#[test]
fn without_minus_o_the_config_is_confxml_xml_where_it_is_started() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let directory = place.make("installed here");
    Confxml::new(&place.source()).daemon(&daemon, MODULE).write(&directory.join("confxml.xml"));
    put(&place.source().join("page"), "content");
    let _agent = place.launch().working_directory(&directory).start();
    assert_converged(&place.source(), &place.path("copy"));

    let nothing = place.launch().working_directory(&place.make("nothing here")).output();
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(nothing.status.code() == Some(78) && said.contains("nothing here/confxml.xml"), "{said}");
}

/// As with 2.5.4, whose start scripts were put together from pieces: the last one counts.
#[test]
fn of_a_repeated_flag_the_last_one_counts() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).write(&place.path("www.xml"));
    put(&place.source().join("page"), "content");
    let launch = place.launch().argument("-r").argument("-r").argument("-n").argument("3").argument("-n1024");
    let _agent = launch.argument("-o").argument(place.path("missing.xml")).config(&config).start();
    assert_converged(&place.source(), &place.path("copy"));
}

#[test]
fn minus_r_pushes_the_tree_and_misses_nothing_meanwhile() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    put(&place.source().join("before"), "content");
    slow_file(&place.source().join("slow"));
    // The config says never: it is the flag that counts.
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).params(SLOWLY);
    let file = config.agent("<fullSync atStart=\"never\"/>").write(&place.path("www.xml"));
    let agent = place.launch().argument("-r").argument("-o").argument(&file).start();
    let copy = place.path("copy");
    until("what was there before", SOON, || copy.join("before").exists());
    let still_runs = || agent.children().iter().any(|child| child.command_line().contains("--recursive"));
    eventually("the slow part of it", SOON, || if still_runs() { Ok(()) } else { Err(agent.log()) });
    put(&place.source().join("new/page"), "made while the tree is pushed");
    until("the change", SOON, || copy.join("new/page").exists());
    assert!(still_runs() && !copy.join("slow").exists(), "the tree was pushed before the change was made");
}

#[test]
fn minus_n_limits_rsync_processes_to_one_live_run_per_remote_more() {
    let place = Place::new();
    let copies: Vec<_> = (0..4).map(|number| place.path(&format!("copy{number}"))).collect();
    let plan = Plan::new(&place.path("rsyncd"));
    let add = |plan: Plan, (number, copy): (usize, &PathBuf)| plan.module(&format!("m{number}"), copy, &[]);
    let daemon = copies.iter().enumerate().fold(plan, add).start();
    let config = Confxml::new(&place.source()).params(SLOWLY).agent("<workers max=\"9\"/>");
    let config = (0..4).fold(config, |config, number| config.daemon(&daemon, &format!("m{number}")));
    let file = config.write(&place.path("www.xml"));
    let agent = place.launch().argument("-n").argument("2").argument("-o").argument(&file).start();
    slow_file(&place.source().join("slow"));
    let mut most = 0;
    for round in 0..5 {
        let name = format!("page{round}");
        put(&place.source().join(&name), "content");
        until("it on all four", SOON, || {
            let runs = agent.children().iter().filter(|child| child.command_line().starts_with("rsync")).count();
            most = most.max(runs);
            copies.iter().all(|copy| copy.join(&name).exists())
        });
    }
    assert!(most <= 2 + copies.len(), "{most} ran at once");
    let refused = place.launch().argument("-n").argument("0").argument("-o").argument(&file).output();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("1..=1024"), "{refused:?}");
}

#[test]
fn minus_h_names_them_all() {
    let help = Place::new().launch().argument("-h").output();
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success() && text.contains("Usage: sersync"), "{help:?}");
    for flag in ["-r ", "-d ", "-n <N>", "-o <FILE>", "-m <PLUGIN>", "-h"] {
        assert!(text.contains(flag), "{flag}:\n{text}");
    }
    for plugin in ["command", "socket", "http", "refreshCDN"] {
        assert!(text.contains(plugin), "{plugin}:\n{text}");
    }
}
