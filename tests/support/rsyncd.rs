//! [`Daemon`]: a real `rsync --daemon` with authentication, on an address that no other test has.
//!
//! Each daemon takes a random address of 127.0.0.0/8 (all of it is this machine's loopback) and a port that the
//! kernel names as free there. So neither another test nor an outgoing connection can be in its place when it is
//! stopped and started again.

use super::host::Host;
use super::processes::{Process, descendants};
use super::{SOON, eventually, is_root};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The account that every daemon knows.
pub const USER: &str = "backup";
/// Its password: long and odd enough that finding it anywhere is no chance.
pub const PASSWORD: &str = "pass-Wq7#xZ19-never-shown";

/// What a daemon is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    directory: PathBuf,
    modules: Vec<(String, PathBuf, Vec<String>)>,
    address: IpAddr,
    port: Option<u16>,
    binary: PathBuf,
    secret: String,
    /// The network namespace that it runs in, if not this machine's.
    network: Option<String>,
}

/// A running (or stopped) daemon.
#[derive(Debug)]
pub struct Daemon {
    plan: Plan,
    child: Option<Child>,
    pub address: IpAddr,
    pub port: u16,
}

impl Plan {
    /// A daemon that keeps its own files in `directory`, which is made.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let address = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        Self {
            directory: directory.to_owned(),
            modules: Vec::new(),
            address: address.into(),
            port: None,
            binary: "rsync".into(),
            secret: PASSWORD.to_owned(),
            network: None,
        }
    }

    /// One more module; `settings` are lines of its section, such as `read only = yes`.
    pub fn module(mut self, name: &str, path: &Path, settings: &[&str]) -> Self {
        fs::create_dir_all(path).unwrap();
        let settings = settings.iter().map(|line| (*line).to_owned()).collect();
        self.modules.push((name.to_owned(), path.to_owned(), settings));
        self
    }

    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = address;
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// On another host, at rsync's own port: it is free there.
    pub fn on(mut self, host: &Host) -> Self {
        self.network = Some(host.name.clone());
        self.address(host.address).port(873)
    }

    /// Another rsync than the one in `PATH`.
    pub fn binary(mut self, binary: &Path) -> Self {
        binary.clone_into(&mut self.binary);
        self
    }

    /// A daemon that expects another password than [`PASSWORD`].
    pub fn secret(mut self, secret: &str) -> Self {
        secret.clone_into(&mut self.secret);
        self
    }

    /// Starts it and waits for its greeting.
    pub fn start(self) -> Daemon {
        let mut daemon = self.stopped();
        daemon.start();
        daemon
    }

    /// A daemon that has its address and port, but does not run yet.
    pub fn stopped(self) -> Daemon {
        let port = self.port.unwrap_or_else(|| free_port(self.address));
        Daemon { address: self.address, port, plan: self, child: None }
    }
}

fn free_port(address: IpAddr) -> u16 {
    TcpListener::bind(SocketAddr::new(address, 0)).unwrap().local_addr().unwrap().port()
}

impl Daemon {
    /// Starts it, again or for the first time, at the same address and port. On `::1`, which all tests share, the
    /// first start may find its port taken meanwhile and then takes another.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let what = format!("rsync --daemon on {}", self.socket());
        eventually(&what, SOON, || {
            self.write_config();
            let log = fs::File::create(self.plan.directory.join("stderr")).unwrap();
            let mut command = match &self.plan.network {
                // It becomes the daemon: no process lies between.
                Some(network) => {
                    let mut ip = Command::new("ip");
                    ip.args(["netns", "exec", network]).arg(&self.plan.binary);
                    ip
                }
                None => Command::new(&self.plan.binary),
            };
            let mut child = command
                .args(["--daemon", "--no-detach", "--config"])
                .arg(self.plan.directory.join("rsyncd.conf"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .process_group(0)
                .spawn()
                .expect("rsync is needed: apt-get install rsync");
            let greeted = eventually("its greeting", SOON, || match child.try_wait().unwrap() {
                Some(_) => Ok(false),
                None => greeting(self.socket()).map(|_| true),
            });
            if greeted && child.try_wait().unwrap().is_none() {
                self.child = Some(child);
                return Ok(());
            }
            if self.address.is_ipv6() && self.plan.port.is_none() {
                self.port = free_port(self.address);
            }
            Err(self.log())
        });
    }

    /// Kills it with all its connections, as a crash or a power cut would.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The daemon leads a process group of its own; the processes of its connections are in it.
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
        }
    }

    /// The processes that serve its connections.
    pub fn serving(&self) -> Vec<Process> {
        let child = self.child.as_ref().expect("it runs");
        descendants(child.id() as i32)
    }

    /// Halts it and all its connections where they are, as a machine that hangs would; [`Daemon::go_on`] undoes it.
    pub fn hang(&self) {
        self.tell_all(Signal::SIGSTOP);
    }

    pub fn go_on(&self) {
        self.tell_all(Signal::SIGCONT);
    }

    fn tell_all(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let _ = killpg(Pid::from_raw(child.id() as i32), signal);
    }

    /// What it expects as password from now on.
    pub fn set_secret(&mut self, secret: &str) {
        secret.clone_into(&mut self.plan.secret);
        self.write_config();
        self.cut();
    }

    /// What stands in the module's section from now on.
    pub fn set_module(&mut self, name: &str, settings: &[&str]) {
        let module = self.plan.modules.iter_mut().find(|module| module.0 == name).expect("the module is in the plan");
        module.2 = settings.iter().map(|line| (*line).to_owned()).collect();
        self.write_config();
        self.cut();
    }

    /// Cuts the connections. rsyncd reads its files for each new one, and one that is open would go on by the old.
    fn cut(&self) {
        for connection in self.child.iter().flat_map(|child| descendants(child.id() as i32)) {
            // It may just have ended.
            let _ = kill(Pid::from_raw(connection.pid), Signal::SIGKILL);
        }
    }

    /// The destination of `module`, as `--to` takes it.
    pub fn url(&self, module: &str) -> String {
        format!("rsync://{USER}@{}/{module}", self.socket())
    }

    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        let read = |name: &str| fs::read(self.plan.directory.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("log"), read("stderr")].concat()).into_owned()
    }

    fn write_config(&self) {
        let directory = &self.plan.directory;
        let secrets = directory.join("secrets");
        write_whole(&secrets, &format!("{USER}:{}\n", self.plan.secret));
        let mut text = format!(
            "address = {}\nport = {}\nuse chroot = no\nmunge symlinks = no\nread only = no\nlog file = {}\n\
             pid file = {}\nlock file = {}\nauth users = {USER}\nsecrets file = {}\nreverse lookup = no\n",
            self.address,
            self.port,
            directory.join("log").display(),
            directory.join(format!("pid.{}", fastrand::u32(..))).display(),
            directory.join("lock").display(),
            secrets.display(),
        );
        if is_root() {
            // A daemon of root's would turn to "nobody" and could neither chown nor write here.
            text.push_str("uid = 0\ngid = 0\n");
        }
        for (name, path, settings) in &self.plan.modules {
            let _ = write!(text, "[{name}]\npath = {}\n", path.display());
            for line in settings {
                let _ = writeln!(text, "{line}");
            }
        }
        write_whole(&directory.join("rsyncd.conf"), &text);
    }
}

/// Puts a file in place in one step: a connection that comes meanwhile reads the old one or the new one.
fn write_whole(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&draft, path).unwrap();
}

/// The first line that a daemon says.
fn greeting(socket: SocketAddr) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&socket, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.starts_with("@RSYNCD:") { Ok(line) } else { Err(std::io::Error::other(format!("it says {line:?}"))) }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(15).collect::<Vec<_>>();
            eprintln!("--- rsyncd on {}, last lines, newest first:\n{}", self.socket(), tail.join("\n"));
        }
    }
}
