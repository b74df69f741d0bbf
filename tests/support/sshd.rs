//! [`Sshd`]: a real sshd of the test's own, and an `ssh` in front of the real one that reads the test's configuration: ssh
//! takes the home directory from the password database, so no variable could point it there.

use super::{SOON, eventually, is_root, skip};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The running daemon. Ends when dropped.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    /// A `PATH` in which `ssh` knows [`Sshd::HOST`].
    pub path: std::ffi::OsString,
    /// Where it listens.
    pub address: SocketAddr,
    /// The private key that it lets in.
    pub key: PathBuf,
    /// Its own public key.
    pub host_key: String,
}

impl Sshd {
    /// The host's name in an address.
    pub const HOST: &str = "mirror-host";

    /// `None`, with the reason printed, where this machine has no sshd.
    pub fn start(directory: &Path) -> Option<Self> {
        let (sshd, ssh) = (Path::new("/usr/sbin/sshd"), Path::new("/usr/bin/ssh"));
        if !sshd.exists() || !ssh.exists() {
            skip("no ssh and sshd here: apt-get install openssh-server");
            return None;
        }
        fs::create_dir_all(directory).unwrap();
        let at = |name: &str| directory.join(name);
        for key in ["host", "login"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.unwrap().success());
        }
        fs::copy(at("login.pub"), at("authorized")).unwrap();
        if is_root() {
            // sshd of root's insists on this directory, which its service makes at boot.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let address = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let shown = |name: &str| at(name).display().to_string();
        let server = format!(
            "ListenAddress {address}\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nPerSourcePenalties no\n",
            shown("host"),
            shown("authorized"),
            shown("pid"),
        );
        // Only newer servers know it; an older one refuses a word it does not know.
        fs::write(at("sshd_config"), &server).unwrap();
        let knows = Command::new(sshd).arg("-t").arg("-f").arg(at("sshd_config")).output().unwrap().status.success();
        if !knows {
            fs::write(at("sshd_config"), server.replace("PerSourcePenalties no\n", "")).unwrap();
        }
        let host_key = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known"), format!("{} {host_key}", Self::HOST)).unwrap();
        let client = format!(
            "Host {}\nHostName {address}\nPort {port}\nHostKeyAlias {}\nIdentityFile {}\nIdentitiesOnly yes\n\
             UserKnownHostsFile {}\nStrictHostKeyChecking yes\n",
            Self::HOST,
            Self::HOST,
            shown("login"),
            shown("known"),
        );
        fs::create_dir(at("bin")).unwrap();
        // Beside the program, in a directory of PATH: what stands elsewhere its confinement does not let it read.
        fs::write(at("bin/ssh_config"), client).unwrap();
        let wrapper = format!("#!/bin/sh\nexec {} -F '{}' \"$@\"\n", ssh.display(), shown("bin/ssh_config"));
        fs::write(at("bin/ssh"), wrapper).unwrap();
        fs::set_permissions(at("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        let log = File::create(at("log")).unwrap();
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let path = std::env::join_paths(
            std::iter::once(at("bin")).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let running = Self { child, path: path.unwrap(), address: (address, port).into(), key: at("login"), host_key };
        eventually("a login by ssh", SOON, || {
            let login = Command::new(at("bin/ssh")).args(["-o", "BatchMode=yes", Self::HOST, "true"]).output().unwrap();
            if login.status.success() {
                return Ok(());
            }
            Err(format!(
                "{} {}",
                String::from_utf8_lossy(&login.stderr),
                fs::read_to_string(at("log")).unwrap_or_default()
            ))
        });
        Some(running)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, killpg};
        let _ = killpg(nix::unistd::Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
