//! [`Agent`]: the built `sersync`, started as systemd would start it, with a notify socket of the test's own.

use super::processes::{self, Process};
use super::rsyncd::PASSWORD;
use super::{SOON, eventually};
use command_fds::{CommandFdExt, FdMapping};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::unistd::Pid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How an agent is started. Kept by the agent, so that it can be started again.
#[derive(Debug, Clone)]
pub struct Launch {
    directory: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    working_directory: Option<PathBuf>,
    /// Another binary and user than the tests' own.
    unprivileged: Option<Unprivileged>,
    /// The network namespace that it runs in, if not this machine's.
    network: Option<String>,
    /// The kernel hides Landlock from it.
    without_landlock: bool,
}

impl Launch {
    /// An agent that keeps its state below `directory`, and whose socket and log are there too. It gets
    /// [`PASSWORD`] in its environment and no message bus.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let launch = Self {
            directory: directory.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            working_directory: None,
            unprivileged: None,
            network: None,
            without_landlock: false,
        };
        let nowhere = format!("unix:path={}", directory.join("no-bus").display());
        launch
            .argument("--state-dir")
            .argument(directory.join("state"))
            .environment("RSYNC_PASSWORD", PASSWORD)
            .environment("DBUS_SYSTEM_BUS_ADDRESS", &nowhere)
            .environment("DBUS_SESSION_BUS_ADDRESS", &nowhere)
    }

    /// `--watch root --to destination…`
    pub fn mirror<S: AsRef<OsStr>>(self, root: &Path, destinations: impl IntoIterator<Item = S>) -> Self {
        let launch = self.argument("--watch").argument(root);
        destinations.into_iter().fold(launch, |launch, to| launch.argument("--to").argument(to))
    }

    /// `-o file`
    pub fn config(self, file: &Path) -> Self {
        self.argument("-o").argument(file)
    }

    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// On another host.
    pub fn on(mut self, host: &super::host::Host) -> Self {
        self.network = Some(host.name.clone());
        self
    }

    /// Where it starts, for what is found from there.
    pub fn working_directory(mut self, directory: &Path) -> Self {
        self.working_directory = Some(directory.to_owned());
        self
    }

    /// Lets root's tests run the agent as a user who is nobody: with a copy of the binary, for the build may lie where
    /// nobody can look.
    pub fn unprivileged(mut self) -> Self {
        const NOBODY: u32 = 65_534;
        let binary = self.directory.join("sersync");
        // By another process: a file that this one had open for writing may still be so in one that another test's
        // thread started meanwhile, and then it cannot be executed.
        super::tool(Command::new("cp").arg(env!("CARGO_BIN_EXE_sersync")).arg(&binary));
        std::os::unix::fs::chown(&self.directory, Some(NOBODY), Some(NOBODY)).unwrap();
        self.unprivileged = Some(Unprivileged { binary, user: NOBODY, reads_everything: false });
        self
    }

    /// The same with the one capability that the unit gives: it reads every file, and so do its rsyncs.
    pub fn unprivileged_reader(mut self) -> Self {
        self = self.unprivileged();
        self.unprivileged.iter_mut().for_each(|unprivileged| unprivileged.reads_everything = true);
        self
    }

    /// As on a kernel that does not have Landlock: its first system call fails with ENOSYS.
    pub fn without_landlock(mut self) -> Self {
        self.without_landlock = true;
        self
    }

    fn command(&self) -> Command {
        // Only the process itself can know the number that `LISTEN_PID` has to be.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]);
        if let Some(network) = &self.network {
            // It becomes the agent: no process lies between.
            command.args(["ip", "netns", "exec", network]);
        }
        match &self.unprivileged {
            None => command.arg(env!("CARGO_BIN_EXE_sersync")),
            Some(Unprivileged { binary, user, reads_everything: true }) => {
                let user = [format!("--reuid={user}"), format!("--regid={user}")];
                let capability = ["--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
                command.arg("setpriv").args(user).args(capability).current_dir(&self.directory).arg(binary)
            }
            Some(Unprivileged { binary, user, .. }) => {
                command.uid(*user).gid(*user).current_dir(&self.directory).arg(binary)
            }
        };
        if let Some(directory) = &self.working_directory {
            command.current_dir(directory);
        }
        command.args(&self.arguments).envs(self.environment.iter().cloned()).stdin(Stdio::null());
        for foreign in
            ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_FDNAMES"]
        {
            if !self.environment.iter().any(|(name, _)| name == foreign) {
                command.env_remove(foreign);
            }
        }
        command
    }

    /// Starts it and waits until it says that it watches.
    pub fn start(self) -> Agent {
        let agent = self.spawn();
        agent.wait_notified("READY=1");
        agent
    }

    /// Starts it and waits for nothing.
    pub fn spawn(self) -> Agent {
        self.spawn_with(Store::default())
    }

    /// The same with what an earlier process had in its supervisor's store.
    fn spawn_with(self, store: Store) -> Agent {
        let mut command = self.command();
        hand_over(&mut command, &store);
        let notify = Notify::bind(&self.directory.join("notify"), store);
        if let Some(Unprivileged { user, .. }) = self.unprivileged {
            std::os::unix::fs::chown(&notify.path, Some(user), None).unwrap();
        }
        if self.without_landlock {
            hide_landlock(&mut command);
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let child = command
            .env("NOTIFY_SOCKET", &notify.path)
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        Agent { launch: self, child: Some(child), notify }
    }

    /// Runs it to its end, for a start that is expected to be refused.
    pub fn output(&self) -> Output {
        let child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        let waiter = std::thread::spawn(move || child.wait_with_output().unwrap());
        let start = Instant::now();
        while !waiter.is_finished() && start.elapsed() < SOON {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        if !waiter.is_finished() {
            // Also one that went to the background has the test's directory on its command line.
            let left = processes::named(&self.directory.display().to_string());
            for process in &left {
                let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            let said = String::from_utf8_lossy(&waiter.join().unwrap().stderr).into_owned();
            panic!("it did not end, or left its output open to {left:?}:\n{said}");
        }
        waiter.join().unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("sersync.log")
    }
}

/// Another binary and user than the tests' own.
#[derive(Debug, Clone)]
struct Unprivileged {
    binary: PathBuf,
    user: u32,
    /// It has `CAP_DAC_READ_SEARCH`.
    reads_everything: bool,
}

/// A running (or ended) agent.
#[derive(Debug)]
pub struct Agent {
    launch: Launch,
    child: Option<Child>,
    notify: Notify,
}

impl Agent {
    pub fn pid(&self) -> i32 {
        self.child.as_ref().expect("it runs").id() as i32
    }

    pub fn process(&self) -> Process {
        Process::of(self.pid()).expect("it runs")
    }

    /// A variable of the environment in which it is started again.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.launch = self.launch.clone().environment(name, value);
    }

    /// Everything it wrote to its terminal, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.launch.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits for a text in its log.
    pub fn wait_logged(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), SOON, || {
            let log = self.log();
            if log.to_lowercase().contains(&text.to_lowercase()) { Ok(()) } else { Err("it is not there") }
        });
    }

    /// The lines that it sent to its service supervisor since its start.
    pub fn notified(&self) -> Vec<String> {
        self.notify.lines.lock().unwrap().clone()
    }

    /// Waits for a line that starts with `prefix`, and returns it.
    pub fn wait_notified(&self, prefix: &str) -> String {
        self.wait_notified_from(0, |line| line.starts_with(prefix))
    }

    /// Waits for a line after the first `seen` ones.
    pub fn wait_notified_from(&self, seen: usize, wanted: impl Fn(&str) -> bool) -> String {
        eventually("a line from the agent on its notify socket", SOON, || {
            let ended = self.child.as_ref().is_some_and(|child| !alive(child.id() as i32));
            let lines = self.notified();
            let found = lines.iter().skip(seen).find(|line| wanted(line)).cloned();
            assert!(found.is_some() || !ended, "it has ended, and said {lines:?}");
            found.ok_or_else(|| format!("it said {lines:?}"))
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// SIGTERM, then its end, which must come within 5 s.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_ended(Duration::from_secs(5))
    }

    /// Waits for its end.
    pub fn wait_ended(&mut self, within: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = eventually("the agent's end", within, || child.try_wait().unwrap().ok_or("it still runs"));
        self.child = None;
        status
    }

    /// SIGKILL, as the kernel's out-of-memory killer sends it.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let status = self.wait_ended(SOON);
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32));
    }

    /// Starts it again after its end, with the same arguments, state, and descriptors in its supervisor's store, as
    /// `systemctl restart` and the restart after a crash do; waits until it watches.
    pub fn start_again(&mut self) {
        self.spawn_again();
        self.wait_notified("READY=1");
    }

    /// The same, of one that may end before it watches.
    pub fn spawn_again(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        let launch = self.launch.clone();
        // The old socket must go first: both have the same path.
        self.notify.close();
        let store = std::mem::take(&mut *self.notify.store.lock().unwrap());
        *self = launch.spawn_with(store);
    }

    /// Its supervisor keeps nothing for it any more.
    pub fn forget_store(&mut self) {
        self.notify.close();
        self.notify.store.lock().unwrap().clear();
    }

    /// The same with an empty store, as `systemctl stop` and `start` do.
    pub fn start_anew(&mut self) {
        self.forget_store();
        self.start_again();
    }

    /// CPU ticks of the agent and of all that it has run so far.
    pub fn cpu_ticks(&self) -> u64 {
        self.children().into_iter().chain([self.process()]).map(Process::cpu_ticks).sum()
    }

    /// Its rsync and ssh processes.
    pub fn children(&self) -> Vec<Process> {
        processes::descendants(self.pid())
    }
}

fn alive(pid: i32) -> bool {
    Process::of(pid).is_some_and(|process| process.lives())
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let children = processes::descendants(child.id() as i32);
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
            for left in children.iter().filter(|left| left.lives()) {
                let _ = kill(Pid::from_raw(left.pid), Signal::SIGKILL);
            }
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines = log.lines().collect::<Vec<_>>();
            eprintln!("--- the agent's last lines:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            eprintln!("--- notified: {:?}", self.notified().iter().rev().take(6).collect::<Vec<_>>());
        }
    }
}

/// The descriptors that a supervisor keeps for the agent, with their names.
type Store = Vec<(String, OwnedFd)>;

/// Gives a process what is in the store, sd_listen_fds(3).
fn hand_over(command: &mut Command, store: &Store) {
    if store.is_empty() {
        return;
    }
    let names: Vec<&str> = store.iter().map(|(name, _)| name.as_str()).collect();
    command.env("LISTEN_FDS", store.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
    let mappings = store
        .iter()
        .zip(3..)
        .map(|((_, descriptor), child_fd)| FdMapping { parent_fd: descriptor.try_clone().unwrap(), child_fd });
    command.fd_mappings(mappings.collect()).unwrap();
}

/// The socket that systemd would give the agent. A thread empties it: a full one would block the agent.
#[derive(Debug)]
struct Notify {
    path: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
    store: Arc<Mutex<Store>>,
    reader: Option<JoinHandle<()>>,
}

/// Sent by the test to its own reader.
const CLOSE: &str = "X_CLOSE=1";

impl Notify {
    fn bind(path: &Path, store: Store) -> Self {
        let _ = fs::remove_file(path);
        let socket = UnixDatagram::bind(path).unwrap();
        let (lines, store) = (Arc::default(), Arc::new(Mutex::new(store)));
        let (written, kept) = (Arc::clone(&lines), Arc::clone(&store));
        let reader = std::thread::spawn(move || {
            while let Ok((text, descriptors)) = receive(&socket) {
                if text == CLOSE {
                    return;
                }
                keep(&mut kept.lock().unwrap(), &text, descriptors);
                let lines: &Mutex<Vec<String>> = &written;
                lines.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        Self { path: path.to_owned(), lines, store, reader: Some(reader) }
    }

    fn close(&mut self) {
        if let Some(reader) = self.reader.take() {
            let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(CLOSE.as_bytes(), &self.path));
            if sent.is_ok() {
                let _ = reader.join();
            }
        }
    }
}

impl Drop for Notify {
    fn drop(&mut self) {
        self.close();
    }
}

/// One message, and the descriptors that came with it.
/// Has landlock_create_ruleset(2) fail with ENOSYS in the program and all that it starts.
fn hide_landlock(command: &mut Command) {
    let filter = SeccompFilter::new(
        [(nix::libc::SYS_landlock_create_ruleset, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(nix::libc::ENOSYS as u32),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program = BpfProgram::try_from(filter.unwrap()).unwrap();
    // SAFETY: between fork and exec it makes two system calls, prctl(2) and seccomp(2), with a program made beforehand.
    unsafe {
        command
            .pre_exec(move || seccompiler::apply_filter(&program).map_err(|_| std::io::ErrorKind::Unsupported.into()))
    };
}

fn receive(socket: &UnixDatagram) -> nix::Result<(String, Vec<OwnedFd>)> {
    let mut buffer = [0; 4096];
    let mut control = nix::cmsg_space!([RawFd; 8]);
    let (length, numbers) = {
        let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let numbers = message.cmsgs()?.flat_map(|part| match part {
            ControlMessageOwned::ScmRights(numbers) => numbers,
            _ => Vec::new(),
        });
        (message.bytes, numbers.collect::<Vec<_>>())
    };
    // SAFETY: the kernel has just opened these for this process, and nobody else knows of them.
    let descriptors = numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect();
    Ok((String::from_utf8_lossy(&buffer[..length]).into_owned(), descriptors))
}

/// What sd_notify(3) says of the store.
fn keep(store: &mut Store, text: &str, descriptors: Vec<OwnedFd>) {
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
    if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
        store.retain(|(known, _)| known != name);
    }
    if text.lines().any(|line| line == "FDSTORE=1") {
        store.extend(descriptors.into_iter().map(|descriptor| (name.to_owned(), descriptor)));
    }
}
