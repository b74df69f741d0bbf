//! [`Machine`]: a booted Debian with systemd as its first process, in a container of its own (systemd-nspawn).
//!
//! The image is made once by debootstrap, below the target directory, and never written to: each machine has a layer of
//! its own in memory above it. The network is the host's, so what listens on loopback there is reached from within.

use super::{SOON, contents, eventually, is_root, skip, tool};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Booting takes 8 s where nothing else runs.
const BOOT: Duration = Duration::from_secs(120);

/// What the image has besides a minimal Debian.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,rsync,procps,iproute2,openssh-client,libpam-systemd,dbus-user-session";

/// A running machine. Ends when dropped.
#[derive(Debug)]
pub struct Machine {
    nspawn: Child,
    /// Its first process, as the host counts.
    leader: u32,
}

impl Machine {
    /// Boots one that sees `shared` at the same path as the host. `None`, with the reason printed, where that is not
    /// possible.
    pub fn boot(shared: &Path) -> Option<Self> {
        if !is_root() {
            skip("a machine can be booted by root only");
            return None;
        }
        for (tool, package) in [("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")] {
            if Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
                skip(&format!("{tool} is missing: apt-get install {package}"));
                return None;
            }
        }
        let log = fs::File::create(shared.join("console.log")).unwrap();
        let nspawn = Command::new("systemd-nspawn")
            .args(["--quiet", "--boot", "--volatile=overlay", "--register=no", "--keep-unit", "--console=passive"])
            .arg(format!("--machine=sersync-{:08x}", fastrand::u32(..)))
            .arg(format!("--bind={}", shared.display()))
            // As on a machine that is not a container.
            .arg("--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self")
            .arg("--directory")
            .arg(image())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut machine = Self { nspawn, leader: 0 };
        eventually("the machine is booted", BOOT, || {
            if let Some(status) = machine.nspawn.try_wait().unwrap() {
                let console = fs::read_to_string(shared.join("console.log")).unwrap_or_default();
                panic!("systemd-nspawn ended with {status}: {console}");
            }
            let pid = machine.nspawn.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            machine.leader = children.split_whitespace().next().and_then(|child| child.parse().ok()).unwrap_or(0);
            if machine.leader == 0 {
                return Err("it has no first process yet".to_owned());
            }
            let state = machine.output(&["systemctl", "is-system-running"]);
            match String::from_utf8_lossy(&state.stdout).trim() {
                "running" | "degraded" => Ok(()),
                other => Err(format!("it is {other:?}")),
            }
        });
        Some(machine)
    }

    /// Installs the built programs and all that belongs to them, as a package does.
    pub fn install(&self) {
        for (file, to, mode) in contents::installed() {
            self.put(&to, &fs::read(file).unwrap(), mode);
        }
        self.run(&["systemd-sysusers", "sersync.conf"]);
        self.run(&["systemd-tmpfiles", "--create", "sersync.conf"]);
        self.run(&["journalctl", "--update-catalog"]);
        self.run(&["systemctl", "daemon-reload"]);
        self.run(&["systemctl", "reload", "dbus"]);
    }

    /// Installs a .deb, or what it is an upgrade of. Its dependencies are in the image.
    pub fn install_package(&self, package: &Path) {
        self.run(&["apt-get", "install", "-y", "-q", "--no-install-recommends", &package.display().to_string()]);
    }

    /// Writes a file of the machine, in one step.
    pub fn put(&self, path: &str, bytes: &[u8], mode: u32) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let fresh = path.with_extension("fresh");
        fs::write(&fresh, bytes).unwrap();
        fs::set_permissions(&fresh, fs::Permissions::from_mode(mode)).unwrap();
        fs::rename(&fresh, &path).unwrap();
    }

    /// A path of the machine as the host sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.leader))
    }

    /// Runs a command in it, which must succeed; gives back what it said.
    pub fn run(&self, command: &[&str]) -> String {
        let output = self.output(command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{command:?}: {}\n{said}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr),
            self.journal()
        );
        said
    }

    /// Runs a command in it.
    pub fn output(&self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    /// A command that runs in it.
    pub fn command(&self, command: &[&str]) -> Command {
        let mut inside = Command::new("nsenter");
        inside
            .args(["-t", &self.leader.to_string(), "-a", "--"])
            .args(command)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null());
        inside
    }

    /// The last lines that the agents told.
    pub fn journal(&self) -> String {
        let lines = self.output(&["journalctl", "--no-pager", "-n", "60", "-u", "sersync@*"]);
        String::from_utf8_lossy(&lines.stdout).into_owned()
    }

    /// What an instance says of itself on the bus, as busctl(1) writes it: `s "idle"`.
    pub fn tells(&self, instance: &str, property: &str) -> String {
        let (name, object) = (format!("org.sersync.Agent1.{instance}"), format!("/org/sersync/Agent1/{instance}"));
        self.run(&["busctl", "get-property", &name, &object, "org.sersync.Agent1", property]).trim().to_owned()
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&["systemctl", "show", unit, "--value", "-p", name]).trim().to_owned()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its first process is the end of all in it.
        if self.leader != 0 {
            let leader = nix::unistd::Pid::from_raw(self.leader as i32);
            let _ = nix::sys::signal::kill(leader, nix::sys::signal::Signal::SIGKILL);
        } else {
            let _ = self.nspawn.kill();
        }
        let _ = self.nspawn.wait();
    }
}

/// The image: a directory that is a minimal Debian, made if it is not there, and never to be written to. Two that make it
/// at once: the second waits for the first.
pub fn image() -> PathBuf {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machine");
    fs::create_dir_all(&place).unwrap();
    let lock = fs::File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    // Named by what it holds: another list of packages is another image.
    let image = place.join(format!("image-{:08x}", crc32fast::hash(PACKAGES.as_bytes())));
    let fresh = place.join("image.new");
    if image.exists() {
        return image;
    }
    let _ = fs::remove_dir_all(&fresh);
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("bookworm");
    tool(
        Command::new("debootstrap")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["--variant=minbase", &format!("--include={PACKAGES}"), codename])
            .arg(&fresh)
            .args(mirror()),
    );
    // debootstrap cannot configure it: it wants a systemd that is installed already.
    fs::copy("/etc/resolv.conf", fresh.join("etc/resolv.conf")).unwrap();
    let install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "polkitd"];
    tool(Command::new("chroot").env("DEBIAN_FRONTEND", "noninteractive").arg(&fresh).args(install));
    fs::rename(&fresh, &image).unwrap();
    image
}

/// Where the host has its own packages from; without an answer debootstrap's default holds.
fn mirror() -> Option<String> {
    let known = Command::new("apt-get").args(["indextargets", "--format", "$(SITE)", "Created-By: Packages"]).output();
    let known = String::from_utf8(known.ok()?.stdout).ok()?;
    known.lines().find(|site| !site.contains("security")).map(str::to_owned)
}

/// What a machine shares with the host: not in /tmp, of which the machine has one of its own.
pub fn shared() -> TempDir {
    tempfile::Builder::new().prefix("shared-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A unit's state becomes this.
pub fn await_property(machine: &Machine, unit: &str, name: &str, wanted: impl Fn(&str) -> bool) {
    eventually(&format!("{name} of {unit}"), SOON * 2, || match machine.property(unit, name) {
        value if wanted(&value) => Ok(()),
        value => Err(format!("it is {value:?}\n{}", machine.journal())),
    });
}
