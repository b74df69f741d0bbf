//! What the black-box tests stand on: the built binary, a real `rsync --daemon`, a real tree, and one judgement of
//! whether two trees are equal. Nothing here imitates rsync, the kernel or a bus.
//!
//! Each test has a temporary directory and an address of its own, so all run in parallel. Every process started here
//! ends when its value is dropped, also by a failing assertion.

#![allow(dead_code, reason = "each test program uses its own part of this")]

pub mod agent;
pub mod config;
pub mod contents;
pub mod host;
pub mod listener;
pub mod machine;
pub mod packages;
pub mod plugins;
pub mod processes;
pub mod rsyncd;
pub mod scene;
pub mod sshd;
pub mod tree;
pub mod writer;

use std::fmt::Display;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The time that anything may take on a busy machine before a test calls it broken. A passing test never waits for it.
pub const SOON: Duration = Duration::from_secs(30);

/// Asks `probe` again and again until it answers `Ok`, and returns that; panics with its last `Err` once `within`
/// has passed. All waiting of the tests is done here: most of what they wait for (another process's files) cannot
/// wake them, so the thread parks for 1 ms, growing to 40 ms, between two looks.
pub fn eventually<T, E: Display>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match probe() {
            Ok(value) => return value,
            Err(why) if start.elapsed() > within => panic!("{what}: not within {within:?}: {why}"),
            Err(_) => std::thread::park_timeout(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(40));
    }
}

/// [`eventually`] for a plain condition.
pub fn until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    eventually(what, within, || if condition() { Ok(()) } else { Err("still not so") });
}

/// Waits until `condition` has held for `lasting` without a break: nothing follows any more.
pub fn steadily(what: &str, within: Duration, lasting: Duration, mut condition: impl FnMut() -> bool) {
    let mut since = None;
    until(what, within, || {
        since = if condition() { since.or_else(|| Some(Instant::now())) } else { None };
        since.is_some_and(|since| since.elapsed() >= lasting)
    });
}

/// Says why a test cannot run here. With `CI=true` nothing may be skipped: it panics.
pub fn skip(reason: &str) {
    if std::env::var_os("CI").is_some_and(|value| value == "true") {
        panic!("a test would be skipped, and CI=true allows none: {reason}");
    }
    left_out(reason);
}

/// Says why a test did nothing where also CI has to do without, for it needs what no package brings.
pub fn left_out(reason: &str) {
    // Written past the test harness's capture, so that a skip is always seen.
    use std::io::Write;
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped {name}: {reason}");
}

/// Runs a tool, which must succeed; gives back what it said.
pub fn tool(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}
