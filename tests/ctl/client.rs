//! `sersyncctl` as built, on a bus of the test's own, in the language that the test asks for.

use crate::support::{PATIENCE, PrivateBus};
use sersync::bus::{Bus, Which, serve};
use sersync::service::log;
use std::process::Stdio;

/// Puts an agent with a scripted engine on the bus.
pub async fn on(bus: &PrivateBus, handle: sersync::agent::Handle) -> Bus {
    let instance = handle.snapshot().instance.clone();
    serve(handle, &instance, Which::Address(bus.address.clone()), log::silent()).await
}

/// The program, with `bus` as the system's; there is no session bus, and the language is English.
pub fn ctl(bus: &PrivateBus, arguments: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    command
        .args(arguments)
        .env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address)
        .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/session")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What a command printed, and how it ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs it to its end.
pub async fn run(bus: &PrivateBus, arguments: &[&str]) -> Ended {
    finish(ctl(bus, arguments)).await
}

/// The same, for a command that was changed before.
pub async fn finish(mut command: tokio::process::Command) -> Ended {
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("sersyncctl ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}
