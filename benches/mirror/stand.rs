//! [`Stand`]: what one round is run on: an empty source, a stock rsync daemon on loopback, and an empty module in it for
//! each remote. All tools and all limits get one of their own and the same. It ends, with its files, when it is dropped.

use crate::bus::PrivateBus;
use crate::link::Link;
use crate::support::rsyncd::{Daemon, PASSWORD, Plan, USER};
use crate::support::sshd::Sshd;
use clap::ValueEnum;
use nix::sys::statvfs::statvfs;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The file system that source and copies lie on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// `/dev/shm`: nothing but the tools is measured.
    Tmpfs,
    /// The build directory's file system.
    Disk,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Disk => "disk",
        }
    }

    /// Where its temporary directories are made.
    pub fn directory(self) -> &'static Path {
        Path::new(match self {
            Self::Tmpfs => "/dev/shm",
            Self::Disk => env!("CARGO_TARGET_TMPDIR"),
        })
    }

    /// Why so many bytes and so many files and directories have no room there.
    pub fn lacks(self, bytes: u64, files: u64) -> Option<String> {
        let free = statvfs(self.directory()).ok()?;
        let directory = self.directory().display();
        if free.blocks_available() * free.fragment_size() < bytes {
            return Some(format!("{directory} has no {:.0} GB left", bytes as f64 / 1e9));
        }
        // A file system without a limit says that it has none at all.
        let counted = free.files() > 0;
        let few = counted && free.files_available() < files;
        few.then(|| format!("{directory} has no {files} inodes left: tmpfs(5), nr_inodes"))
    }
}

/// What the names of all stands begin with. This process's number comes next.
pub const PREFIX: &str = "sersync-bench-";

/// See the module.
pub struct Stand {
    // In the order of their ends: the daemon first, its files last.
    daemon: Daemon,
    way: Way,
    bus: Option<PrivateBus>,
    directory: TempDir,
    remotes: usize,
}

/// What the agent is called on a stand's bus.
pub const INSTANCE: &str = "mirror";

/// How the remotes are reached.
enum Way {
    Loopback,
    /// They are directories of a host that is reached by ssh; the rsync daemon has nothing to do.
    Ssh(Sshd),
    /// The daemon is at the other end of it.
    Link(Link),
}

impl Stand {
    /// One with as many remotes, all of them modules of one daemon.
    pub fn new(place: Place, remotes: usize) -> Self {
        Self::reached(place, remotes, |_| Way::Loopback)
    }

    /// One remote, by ssh.
    pub fn by_ssh(place: Place) -> Self {
        Self::reached(place, 1, |directory| Way::Ssh(Sshd::start(&directory.join("sshd")).expect("an sshd")))
    }

    /// One remote, far away: every packet takes `delay` in each direction, and each has so many `bits` a second.
    pub fn far(place: Place, delay: Duration, bits: u32) -> Self {
        Self::reached(place, 1, |_| Way::Link(Link::new(delay, bits)))
    }

    fn reached(place: Place, remotes: usize, way: impl FnOnce(&Path) -> Way) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(place.directory())
            .unwrap_or_else(|error| panic!("{}: {error}", place.directory().display()));
        let root = directory.path();
        // Tools of other users than this one are not measured, but rsyncd is strict about its own.
        fs::set_permissions(root, Permissions::from_mode(0o755)).expect("it is ours");
        fs::create_dir(root.join("source")).expect("it is empty");
        let password = root.join("password");
        fs::write(&password, format!("{PASSWORD}\n")).expect("room for a line");
        fs::set_permissions(&password, Permissions::from_mode(0o600)).expect("it is ours");
        let way = way(root);
        let plan = (0..remotes).fold(Plan::new(&root.join("rsyncd")), |plan, remote| {
            plan.module(&module(remote), &root.join(format!("copy{remote}")), &[])
        });
        let plan = match &way {
            Way::Link(link) => plan.on(link.far_end()),
            Way::Loopback | Way::Ssh(_) => plan,
        };
        Self { daemon: plan.start(), way, bus: None, directory, remotes }
    }

    /// The tree that is mirrored.
    pub fn source(&self) -> PathBuf {
        self.path("source")
    }

    /// Where a remote keeps what it gets.
    pub fn copy(&self, remote: usize) -> PathBuf {
        self.path(&format!("copy{remote}"))
    }

    pub fn copies(&self) -> impl Iterator<Item = PathBuf> {
        (0..self.remotes).map(|remote| self.copy(remote))
    }

    /// A path beside source and copies, for a tool's own files and for what a writer takes from.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The remotes as rsync names them, the user in it.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        (0..self.remotes).map(|remote| match self.way {
            Way::Ssh(_) => format!("{}:{}", Sshd::HOST, self.copy(remote).display()),
            Way::Loopback | Way::Link(_) => self.daemon.url(&module(remote)),
        })
    }

    /// What stands in the environment of who is to reach the remotes: an `ssh` that knows their host.
    pub fn environment(&self) -> Option<(&'static str, &OsStr)> {
        match &self.way {
            Way::Ssh(sshd) => Some(("PATH", sshd.path.as_os_str())),
            Way::Loopback | Way::Link(_) => None,
        }
    }

    /// The `ssh` that knows the remotes' host, and that host, where they are reached so.
    pub fn ssh(&self) -> Option<(PathBuf, &'static str)> {
        match &self.way {
            Way::Ssh(sshd) => Some((std::env::split_paths(&sshd.path).next()?.join("ssh"), Sshd::HOST)),
            Way::Loopback | Way::Link(_) => None,
        }
    }

    /// Starts a message bus for the tools that have a place on one.
    pub fn offer_a_bus(&mut self) {
        self.bus = Some(PrivateBus::start());
    }

    /// The address of that bus.
    pub fn bus(&self) -> Option<&str> {
        self.bus.as_ref().map(|bus| bus.address.as_str())
    }

    /// Ends the daemon with all its connections.
    pub fn take_down(&mut self) {
        self.daemon.stop();
    }

    /// Starts it again.
    pub fn bring_back(&mut self) {
        self.daemon.start();
    }

    /// The remotes' module names.
    pub fn modules(&self) -> impl Iterator<Item = String> {
        (0..self.remotes).map(module)
    }

    pub fn socket(&self) -> SocketAddr {
        self.daemon.socket()
    }

    pub fn user(&self) -> &'static str {
        USER
    }

    /// A file with the password, for `--password-file`.
    pub fn password_file(&self) -> PathBuf {
        self.path("password")
    }

    /// How many rsync processes have been let in and given something to do, over all remotes.
    pub fn rsync_runs(&self) -> usize {
        self.daemon.log().lines().filter(|line| line.contains(" rsync to ")).count()
    }

    /// Runs one rsync by hand for each remote, one after the other, with what any user would add to be fast. The copies
    /// are then equal to the source.
    pub fn plain_rsync(&self) -> Duration {
        let start = Instant::now();
        for url in self.urls() {
            let status = self.to(&url).arg("--delete").arg(self.source().join("")).arg(url).status();
            assert!(status.is_ok_and(|status| status.success()), "the plain rsync failed");
        }
        start.elapsed()
    }

    /// One rsync of one thing to the first remote, not yet run.
    pub fn rsync(&self, what: &Path) -> Command {
        let url = self.urls().next().expect("one remote at least");
        let mut rsync = self.to(&url);
        rsync.arg(what).arg(url);
        rsync
    }

    /// rsync with what any user would add to be fast.
    fn to(&self, url: &str) -> Command {
        let mut rsync = Command::new("rsync");
        rsync.arg("-a");
        // Not known to who reaches a remote by ssh.
        if url.starts_with("rsync://") {
            rsync.arg("--sockopts=TCP_NODELAY");
        }
        rsync.env("RSYNC_PASSWORD", PASSWORD).envs(self.environment());
        rsync
    }
}

fn module(remote: usize) -> String {
    format!("bench{remote}")
}
