//! `<commonParams>` of a config, with the built programs: options that break a mirror, options that leave entries out,
//! and those that configs of sersync 2.5.4 have.

mod support;

use std::fs;
use std::process::Command;
use support::config::Confxml;
use support::rsyncd::PASSWORD;
use support::scene::{MODULE, Place, Scene};
use support::tree::{assert_converged, put};
use support::{SOON, until};

#[test]
fn options_that_break_a_mirror_are_refused_with_their_place() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    for (params, why, help) in [
        ("-a --append", "`--append` cannot be used: a file that changed in its middle", "use --inplace"),
        ("-aH --inplace", "`--hard-links` and `--inplace` cannot be used together", "leave one of them out"),
        ("-a --bakcup", "`--bakcup` is not an option of rsync", "did you mean `--backup`?"),
    ] {
        let file = Confxml::new(&place.source()).daemon(&daemon, MODULE).params(params).write(&place.path("www.xml"));
        let refused = place.launch().config(&file).output();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(78), "{params}: {said}");
        let text = fs::read_to_string(&file).unwrap();
        let line = text.lines().position(|line| line.contains("<commonParams")).unwrap() + 1;
        assert!(said.contains(&format!("www.xml:{line}:")), "{params}: {said}");
        assert!(said.contains(why) && said.contains(help), "{params}: {said}");
    }
}

#[test]
fn what_an_option_leaves_out_is_named_at_the_start_and_by_a_check() {
    let scene = Scene::configured(|_, _| {}, |config| config.params("-a --max-size=1k"));
    put(&scene.at("large"), "x".repeat(2000));
    put(&scene.at("small"), "y");
    until("the small file", SOON, || scene.copy.join("small").exists());
    let warning = "never sent because of `--max-size=1k`: files larger than that";
    scene.agent.wait_logged(warning);
    assert!(!scene.copy.join("large").exists(), "rsync sent it all the same");
    let file = scene.place.path("confxml.xml");
    let check = Command::new(env!("CARGO_BIN_EXE_sersyncctl"))
        .args(["--user", "check", "--no-probe"])
        .arg(&file)
        .env("LC_ALL", "C.UTF-8")
        .env("RSYNC_PASSWORD", PASSWORD)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains(warning) && check.status.code() == Some(1), "{said}");
}

#[test]
fn usual_params_of_old_configs_mirror_as_before() {
    std::thread::scope(|threads| {
        for params in ["-artuz", "-avz", "-rlptDz", "-avzP --delete", "-rlptz --bwlimit=100000", "-aruz --timeout=60"] {
            threads.spawn(move || {
                let scene = Scene::configured(|_, _| {}, |config| config.params(params));
                put(&scene.at("d/a"), "first");
                assert_converged(&scene.source, &scene.copy);
                put(&scene.at("d/b"), "second");
                fs::remove_file(scene.at("d/a")).unwrap();
                assert_converged(&scene.source, &scene.copy);
                assert!(!scene.agent.log().contains("never sent because of"), "{}", scene.agent.log());
            });
        }
    });
}
