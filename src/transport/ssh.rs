//! [`SharedConnection`]: one ssh connection that all runs to a remote share, so that a run pays no key exchange.
//!
//! The connection is an `ssh -M` of ours, a child like every rsync; it ends with the agent. Runs find it by its
//! control socket; when it is not there they connect by themselves, so it can only make them faster.

use super::confinement::{Ruleset, confine_command};
use super::process::end_with_agent;
use crate::config::Destination;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// The longest path that a unix socket can have, less what ssh adds while it makes one.
const SOCKET_PATH_AT_MOST: usize = 85;

/// A connection that could not be held is not tried again before this.
const PAUSE: Duration = Duration::from_secs(30);

/// One remote's shared ssh connection.
#[derive(Debug)]
pub struct SharedConnection {
    login: String,
    port: Option<u16>,
    options: Vec<String>,
    socket: PathBuf,
    master: Option<Child>,
    last_start: Option<Instant>,
}

impl SharedConnection {
    /// For a remote reached by ssh with these `options`, with its socket in `directory` under a name made of `number`;
    /// `None` for other remotes, and where the path would be too long for a socket or mean something to ssh or to rsync's `--rsh`.
    pub fn new(destination: &Destination, options: &[String], directory: &Path, number: usize) -> Option<Self> {
        let Destination::Ssh { user, host, port, .. } = destination else { return None };
        let socket = directory.join(format!("ssh-{number}"));
        let login = user.as_ref().map_or(host.clone(), |user| format!("{user}@{host}"));
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@:, ".contains(byte);
        let bytes = socket.as_os_str().as_encoded_bytes();
        let fits = bytes.len() <= SOCKET_PATH_AT_MOST && bytes.iter().all(is_plain);
        fits.then(|| Self { login, port: *port, options: options.to_vec(), socket, master: None, last_start: None })
    }

    /// Where runs find it.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Starts it, if it does not run and was not started a moment ago. Does not wait for it. It reaches no more than
    /// `ruleset` allows.
    pub fn keep(&mut self, ruleset: Ruleset, now: Instant) -> io::Result<()> {
        if let Some(master) = &mut self.master
            && master.try_wait()?.is_none()
        {
            return Ok(());
        }
        if self.last_start.is_some_and(|last| now.duration_since(last) < PAUSE) {
            return Ok(());
        }
        self.last_start = Some(now);
        match std::fs::remove_file(&self.socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut command = Command::new("ssh");
        command.args(["-M", "-N", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20", "-o", "ControlPersist=no"]);
        command.args(["-o", "ServerAliveInterval=15", "-S"]).arg(&self.socket);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        command.args(&self.options).arg("--").arg(&self.login);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        end_with_agent(&mut command);
        confine_command(&mut command, ruleset);
        self.master = Some(command.spawn()?);
        Ok(())
    }
}

impl Drop for SharedConnection {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_name_that_everybody_takes_as_it_is() {
        let destination =
            Destination::Ssh { user: None, host: "web2".into(), port: None, directory: "/srv/www".into() };
        let new = |directory: &str| SharedConnection::new(&destination, &[], Path::new(directory), 1);
        assert!(new("/var/lib/sersync/my site").is_some());
        for odd in ["/var/lib/sersync/100%", "/state/a\"b", "/state/${HOME}", "/state/ü"] {
            assert!(new(odd).is_none(), "{odd}");
        }
        assert!(new(&"/long".repeat(20)).is_none());
    }
}
