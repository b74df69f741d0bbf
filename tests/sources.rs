//! What becomes of the tree under the agent: its file system is read-only, another one is mounted over it. Nothing that
//! the remotes have goes for that.

mod support;

#[allow(dead_code, reason = "only the bus is wanted here, not the engine that plays a script")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use std::process::Command;
use support::rsyncd::Daemon;
use support::scene::{MODULE, Place};
use support::tree::put;
use support::{SOON, eventually, until};
use ward::{SmallDisk, Ward};

impl Ward {
    fn wait_problem(&self, text: &str) {
        eventually(&format!("the problem {text:?}"), SOON, || {
            let status = self.ask("status");
            let said = status[0]["problems"].to_string();
            if said.contains(text) && status[0]["state"] == "degraded" { Ok(()) } else { Err(status[0].to_string()) }
        });
    }
}

/// A place whose source is a file system of its own.
fn on_a_disk() -> Option<(SmallDisk, Daemon, Place)> {
    let place = Place::new();
    let disk = SmallDisk::mount(&place.source(), "1m")?;
    let daemon = place.plan(&[]).start();
    Some((disk, daemon, place))
}

impl SmallDisk {
    fn remount(&self, option: &str) {
        let options = format!("remount,{option}");
        // Somebody who reads may keep it busy for a moment.
        until("the remount", SOON, || {
            Command::new("mount").arg("-o").arg(&options).arg(&self.0).status().unwrap().success()
        });
    }
}

#[test]
fn a_tree_that_becomes_read_only_and_writable_again_is_mirrored_on() {
    let Some((disk, daemon, place)) = on_a_disk() else { return };
    put(&place.source().join("dir/before"), "x");
    disk.remount("ro");
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.converged();
    disk.remount("rw");
    ward.put("dir/while it is writable");
    ward.converged();
    disk.remount("ro");
    let synced_at = || ward.ask("status")[0]["last_full_sync_at"].as_u64();
    let before = synced_at();
    ward.ask_to_resync();
    until("the full sync", SOON, || synced_at() > before);
    disk.remount("rw");
    ward.put("dir/at last");
    ward.converged();
    ward.mended();
    drop((ward, daemon));
}

#[test]
fn a_file_system_mounted_over_the_root_empties_no_remote() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    put(&place.source().join("dir/precious"), "x");
    let ward = Ward::mirror(place, &[daemon.url(MODULE)]);
    ward.converged();
    let precious = ward.place.path("copy/dir/precious");
    let Some(over) = SmallDisk::mount(&ward.place.source(), "1m") else { return };
    ward.wait_problem("the root is another file system");
    assert!(precious.exists(), "the copy was emptied");
    drop(over);
    ward.put("dir/after");
    ward.converged();
    ward.mended();
}
