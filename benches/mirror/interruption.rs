//! Ctrl-C: what is measured ends, too, and leaves no gigabytes behind. Tools have process groups of their own, so that the
//! terminal's signal does not reach them.

use crate::link::Link;
use crate::stand::{PREFIX, Place};
use crate::support::processes::descendants;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::process::exit;
use tokio::signal::unix::{SignalKind, signal};

/// From now on an interruption ends everything. Signals are caught, not blocked: a mask would be the tools', too.
pub fn guard() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        let number = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => Signal::SIGINT,
                _ = terminate.recv() => Signal::SIGTERM,
            }
        });
        leave_nothing();
        exit(128 + number as i32);
    });
    Ok(())
}

fn leave_nothing() {
    let own = std::process::id();
    for process in descendants(own as i32) {
        // It may just have ended.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
    Link::end_all();
    for place in [Place::Tmpfs, Place::Disk] {
        for entry in fs::read_dir(place.directory()).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&format!("{PREFIX}{own}-")) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}
