//! Users who own a file that root reads or a directory that root writes to, and who choose names that a terminal shows.

use crate::support::scene::{MODULE, Place};
use crate::support::tree::put;
use crate::support::{is_root, left_out, project, skip};
use crate::ward::Ward;
use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::process::{Command, Output};

const STRANGER: u32 = 65_534;

fn check(file: &std::path::Path) -> Output {
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    ctl.arg("check").arg(file).env("LC_ALL", "C.UTF-8").output().unwrap()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

#[test]
fn an_agent_of_root_does_not_start_on_a_state_directory_of_another_user() {
    if !is_root() {
        return skip("only root can give a directory away");
    }
    let place = Place::new();
    let (state, precious) = (place.path("agent/state"), place.path("precious"));
    fs::create_dir_all(&state).unwrap();
    fs::write(&precious, "precious").unwrap();
    for name in ["lock", "journal", "plugins.json", "history.json"] {
        symlink(&precious, state.join(name)).unwrap();
    }
    chown(&state, Some(STRANGER), None).unwrap();
    let copy = place.path("copy");
    let output = place.launch().mirror(&place.source(), [&copy]).output();
    assert_eq!(output.status.code(), Some(78), "{}", text(&output));
    assert!(text(&output).contains("belongs to user nobody, and this agent runs as user root"), "{}", text(&output));
    assert_eq!(fs::read(&precious).unwrap(), b"precious");
    assert!(!copy.exists(), "it has sent nothing");
}

#[test]
fn a_path_that_the_kernel_would_not_take_is_refused_by_its_length() {
    let place = Place::new();
    let file = place.path("confxml.xml");
    let watch = "a".repeat(3_800_000);
    let config = format!(
        "<head version=\"2.5\"><sersync><localpath watch=\"/{watch}\"><remote ip=\"127.0.0.1\" name=\"m\"/></localpath>\
         </sersync></head>"
    );
    fs::write(&file, config).unwrap();
    let output = check(&file);
    let said = text(&output);
    assert!(!output.status.success());
    assert!(said.contains("`watch` is a path of 3800001 bytes: Linux takes at most 4095"), "{said}");
    assert!(said.len() < 4_000, "{} bytes of output", said.len());
}

#[test]
fn a_name_cannot_turn_the_text_around_it() {
    let place = Place::new();
    let daemon = place.plan(&["read only = yes"]).start();
    put(&place.source().join("invoice\u{202e}fdp.exe"), "x");
    put(&place.source().join("two\u{2028}lines"), "x");
    let mut ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.keep(daemon);
    put(&ward.place.source().join("later\u{202e}fdp.exe"), "x");
    ward.agent.wait_logged("ReadOnly");
    let said = ["pending", "failures", "status"].map(|verb| {
        let mut ctl = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
        let ctl = ctl.args(["--user", verb, crate::ward::INSTANCE]).env("LC_ALL", "C.UTF-8");
        text(&ctl.env("DBUS_SESSION_BUS_ADDRESS", &ward.bus.address).output().unwrap())
    });
    let said = said.concat() + &ward.agent.log();
    assert!(said.contains("later\\u{202e}fdp.exe"), "{said}");
    assert!(!said.contains(['\u{202e}', '\u{2028}']), "{said}");
}

#[test]
fn the_unit_is_as_open_as_its_page_says() {
    let page = fs::read_to_string(project().join("docs/systemd.md")).unwrap();
    let (_, rest) = page.split_once("`systemd-analyze security sersync@www` comes to **").unwrap();
    let figure = rest.split("**").next().unwrap();
    let unit = project().join("systemd/sersync@.service");
    let output = Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(unit).output();
    let Ok(output) = output else { return skip("systemd-analyze is not installed") };
    let said = text(&output);
    if said.contains("unrecognized option") {
        return left_out("this systemd cannot judge a unit that is not installed");
    }
    assert!(said.contains(&format!("Overall exposure level for sersync@i.service: {figure} ")), "{figure}: {said}");
    for unit in ["systemd/sersync@.service", "systemd/user/sersync@.service"] {
        let unit = fs::read_to_string(project().join(unit)).unwrap();
        for limit in ["MemoryHigh=2G", "MemoryMax=3G", "TasksMax=512", "OOMPolicy=continue"] {
            assert!(unit.lines().any(|line| line == limit), "{limit}");
            let described = limit.starts_with("OOMPolicy") || page.contains(&format!("`{limit}`"));
            assert!(described, "docs/systemd.md gives the value of {limit}");
        }
    }
}
