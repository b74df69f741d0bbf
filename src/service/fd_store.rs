//! [`FdStore`]: systemd's file descriptor store, sd_notify(3): what a watch needs to be resumed stays there while the
//! agent is restarted, upgraded, or has crashed. After `systemctl stop` it is gone.
//!
//! Each root has two descriptors in the store, `inotify-ROOT` and `spool-ROOT`, with ROOT a fingerprint of its path: a
//! name in the store is ASCII without colons, of 255 bytes at most, and a path is neither. That it is the right root
//! is not taken from the name but from the spool itself.
//!
//! A unit without `FileDescriptorStoreMax=` keeps nothing, and does not say so: then each start begins anew.

use crate::agent::Keeper;
use crate::failpoint::may_die_here;
use crate::watch::Kept;
use sd_notify::NotifyState;
use std::collections::HashMap;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// See the module.
#[derive(Debug, Default)]
pub struct FdStore {
    /// What an earlier process left, by name, until it is asked for.
    left: HashMap<String, OwnedFd>,
}

impl FdStore {
    /// Takes over what systemd hands to this process; `None` where no systemd listens. To be called once, before anything
    /// else opens descriptors.
    pub fn from_env() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let handed = match sd_notify::listen_fds_with_names() {
            Ok(handed) => handed,
            Err(error) => {
                // The journal's own protocol is not spoken yet; systemd reads this all the same.
                eprintln!("sersync: the descriptors that systemd hands over cannot be used: {error}; beginning anew");
                return Some(Self::default());
            }
        };
        // SAFETY: the numbers are those that systemd opened for this very process ($LISTEN_PID was compared), so they are
        // open and belong to nobody else here: this function is called once, before anything opens descriptors.
        let left = handed.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) })).collect();
        Some(Self { left })
    }
}

impl Keeper for FdStore {
    fn left(&mut self, root: &Path) -> Option<Kept> {
        let [inotify, spool] = names(root);
        Some(Kept { inotify: self.left.remove(&inotify)?, spool: self.left.remove(&spool)? })
    }

    fn keep(&mut self, root: &Path, kept: &Kept) {
        self.forget(root);
        let [inotify, spool] = names(root);
        for (name, descriptor) in [(inotify, kept.inotify.as_fd()), (spool, kept.spool.as_fd())] {
            // Neither ever hangs up, so systemd has nothing to poll for.
            let state = [NotifyState::FdStore, NotifyState::FdName(&name), NotifyState::Custom("FDPOLL=0")];
            send(&state, &[descriptor]);
            may_die_here!("descriptor-kept");
        }
    }

    fn forget(&mut self, root: &Path) {
        names(root).iter().for_each(|name| remove(name));
    }

    fn forget_unclaimed(&mut self) {
        for (name, _) in self.left.drain() {
            remove(&name);
        }
    }
}

fn remove(name: &str) {
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)], &[]);
}

fn send(state: &[NotifyState<'_>], descriptors: &[std::os::fd::BorrowedFd<'_>]) {
    if let Err(error) = sd_notify::notify_with_fds(state, descriptors) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// The names of a root's two descriptors.
fn names(root: &Path) -> [String; 2] {
    // FNV-1a: it must be the same for every build of the agent.
    let fingerprint =
        root.as_os_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    ["inotify", "spool"].map(|what| format!("{what}-{fingerprint:016x}"))
}
