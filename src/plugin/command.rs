//! The plugin `command`: a program is run with the path as one argument, or once for many paths.
//!
//! No shell reads the line, so a name is a name whatever it holds. What the program prints goes to the journal line by
//! line, within bounds. It leads a process group of its own, which ends with it at the time limit and with the agent.

use super::queue::Item;
use super::target::{CallError, News};
use crate::config::{Calls, CommandPlugin};
use crate::filter;
use crate::human::safe;
use crate::transport::{end_of, end_with_agent};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use regex::bytes::Regex;
use rustix::thread::{self as kernel, CapabilitySet, CapabilitySets};
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Child;

/// So many lines of one call go to the journal, each of so many bytes.
const LINES_AT_MOST: usize = 100;
const LINE_AT_MOST: u64 = 1024;

/// After its end a program's output is waited for so long: what it left in the background may hold it open for ever.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A program over its time is asked to end, and ended after this.
const FAREWELL: Duration = Duration::from_secs(1);

/// Not for a program that the agent starts: a secret, and what systemd gave the agent for itself.
const KEPT_BACK: [&str; 8] = [
    "RSYNC_PASSWORD",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// A program to run.
#[derive(Debug, Clone)]
pub(super) struct Command {
    plugin: CommandPlugin,
    include: Option<Vec<Regex>>,
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        self.plugin == other.plugin
    }
}

impl Eq for Command {}

impl Command {
    pub fn new(plugin: CommandPlugin) -> Self {
        // The config compiled them already.
        let compile =
            |expressions: &Vec<String>| expressions.iter().filter_map(|text| filter::whole(text).ok()).collect();
        let include = plugin.include.as_ref().map(compile);
        Self { plugin, include }
    }

    pub fn calls(&self) -> Calls {
        self.plugin.calls
    }

    pub fn is_batch(&self) -> bool {
        self.plugin.batch
    }

    pub fn address(&self) -> String {
        // Later words may hold what is not for everybody.
        self.plugin.line.before.first().cloned().unwrap_or_else(|| "the path itself".to_owned())
    }

    pub fn wants(&self, absolute: &Path) -> bool {
        let bytes = absolute.as_os_str().as_bytes();
        self.include.as_ref().is_none_or(|include| include.iter().any(|expression| expression.is_match(bytes)))
    }

    /// Runs it for one path.
    pub async fn run(&self, news: &News, instance: &str) -> Result<(), CallError> {
        let path = news.absolute.as_os_str().to_owned();
        let remotes = news.remotes.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n");
        let environment = [
            ("SERSYNC_PATH", path.clone()),
            ("SERSYNC_EVENT", news.event.words().into()),
            ("SERSYNC_REMOTES", remotes.into()),
            ("SERSYNC_INSTANCE", instance.into()),
        ];
        let words = self.words(Some(path));
        self.complete(words, &environment, Vec::new()).await
    }

    /// Runs it once for all of `items`.
    pub async fn run_batch(&self, items: &[Item], instance: &str) -> Result<(), CallError> {
        let mut list = Vec::new();
        for item in items {
            list.extend_from_slice(item.told.place.absolute().as_os_str().as_bytes());
            list.push(0);
        }
        let environment = [("SERSYNC_REMOTES", Item::remotes(items)), ("SERSYNC_INSTANCE", instance.into())];
        self.complete(self.words(None), &environment, list).await
    }

    fn words(&self, path: Option<OsString>) -> Vec<OsString> {
        let line = &self.plugin.line;
        line.before.iter().map(Into::into).chain(path).chain(line.behind.iter().map(Into::into)).collect()
    }

    /// Runs `words` to their end, or to the time limit.
    async fn complete(
        &self,
        words: Vec<OsString>,
        environment: &[(&str, OsString)],
        input: Vec<u8>,
    ) -> Result<(), CallError> {
        let [program, arguments @ ..] = words.as_slice() else {
            return Err(CallError::down("there is no program".to_owned()));
        };
        let piped = |unwanted: bool| if unwanted { Stdio::null() } else { Stdio::piped() };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
        for name in KEPT_BACK {
            command.env_remove(name);
        }
        command.stdin(if self.plugin.batch { Stdio::piped() } else { Stdio::null() });
        command.stdout(piped(self.plugin.line.quiet)).stderr(piped(self.plugin.line.silent));
        command.process_group(0).kill_on_drop(true);
        end_with_agent(&mut command);
        if !self.plugin.keep_capabilities {
            drop_capabilities(&mut command);
        }
        let program = program.to_string_lossy().into_owned();
        let not_run = |error: io::Error| match self.plugin.line.before.is_empty() {
            true => CallError::path(format!("{program} cannot be run: {error}")),
            false => CallError::down(format!("{program} cannot be run: {error}")),
        };
        let mut group = Group(command.spawn().map_err(not_run)?);
        let ended = tokio::time::timeout(self.plugin.calls.timeout, attend(&mut group.0, &program, input)).await;
        let status = match ended {
            Ok(status) => status.map_err(not_run)?,
            Err(_) => {
                if let Some(leader) = group.signal(Signal::SIGTERM) {
                    // Whether it ends by itself or is ended makes no difference to what is reported.
                    let _ = tokio::time::timeout(FAREWELL, end_of(leader)).await;
                }
                let seconds = self.plugin.calls.timeout.as_secs();
                return Err(CallError::path(format!("{program} took longer than {seconds} s and was ended")));
            }
        };
        if status.success() || self.plugin.ignore_error {
            return Ok(());
        }
        Err(CallError::path(format!("{program} failed: {status}")))
    }
}

/// Has the program start without the capabilities that the agent passes on to rsync: writers of the tree choose the names that
/// it gets, and what is behind them.
fn drop_capabilities(command: &mut tokio::process::Command) {
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed. It makes three
    // system calls, prctl(2), capget(2) and capset(2), without the C library, and neither allocates nor locks.
    unsafe {
        command.pre_exec(|| {
            kernel::clear_ambient_capability_set()?;
            // The unit's filter of system calls refuses this one. What is inheritable counts only for a program whose file
            // has inheritable capabilities, and under the unit not even there (no_new_privs).
            let own = kernel::capabilities(None)?;
            let _ = kernel::set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..own });
            Ok(())
        });
    }
}

/// Feeds a program, listens to it, and waits for its end.
async fn attend(child: &mut Child, program: &str, input: Vec<u8>) -> io::Result<ExitStatus> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A program that does not read its list to the end says by its exit status whether that was right.
            let _ = stdin.write_all(&input).await;
            let _ = stdin.shutdown().await;
        }
    };
    let talking = async { tokio::join!(feed, tell_lines(stdout, program), tell_lines(stderr, program)) };
    tokio::pin!(talking);
    let status = tokio::select! {
        status = child.wait() => status?,
        _ = &mut talking => return child.wait().await,
    };
    let _ = tokio::time::timeout(LAST_WORDS, talking).await;
    Ok(status)
}

/// Has the journal hear the first lines, and reads the rest so that nobody waits for a full pipe.
async fn tell_lines(output: Option<impl AsyncRead + Unpin>, program: &str) {
    let Some(output) = output else { return };
    let mut output = BufReader::new(output);
    let mut told = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut output).take(LINE_AT_MOST).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        told += 1;
        match told {
            1..=LINES_AT_MOST => {
                let text = String::from_utf8_lossy(&line);
                tracing::info!("{program}: {}", safe(text.trim_end()));
            }
            _ if told == LINES_AT_MOST + 1 => tracing::info!("{program}: … and more that is not shown"),
            _ => {}
        }
    }
}

/// A process at the head of a process group, which is killed when this is dropped before the process was waited for.
struct Group(Child);

impl Group {
    /// Sends `signal` to the group and returns the number of its leader; `None` once the leader was waited for: the number
    /// may belong to others then.
    fn signal(&self, signal: Signal) -> Option<Pid> {
        let leader = Pid::from_raw(i32::try_from(self.0.id()?).ok()?);
        // The group is there as long as its leader is not waited for, running or not.
        let _ = killpg(leader, signal);
        Some(leader)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nothing is left to do where it has ended.
        let _ = self.signal(Signal::SIGKILL);
    }
}
