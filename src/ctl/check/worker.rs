//! The process that follows a config: it looks at files and remotes, and prints its findings for the `sersyncctl` that
//! started it.
//!
//! It has the rights of the service where root calls the check ([`Rights`]), else those of the caller. It holds a pipe
//! from its caller as standard input. When that closes, because the caller was stopped or killed, the worker restores
//! what its probes have changed on the remotes, and ends.

use super::Options;
use super::report::{Finding, Level};
use super::rights::Rights;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tr::tr;

/// How a worker ended.
#[derive(Debug)]
pub enum Ended {
    /// With these findings.
    Found(Vec<Finding>),
    /// The signal that stopped the caller.
    Stopped(Signal),
}

/// The task of a worker.
#[derive(Debug)]
pub struct Task<'a> {
    /// The config.
    pub file: &'a Path,
    /// The rights to do it with; `None`: those of the caller.
    pub rights: Option<&'a Rights>,
    /// Where the credentials of the config are, if this process has gathered them.
    pub credentials: Option<&'a Path>,
    /// Whether to talk to the remotes.
    pub probe: bool,
    /// Whether programs read the findings, and so want English.
    pub for_programs: bool,
}

/// Signals that stop a check.
const STOPPING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Starts a worker and waits for its findings.
pub async fn delegate(task: &Task<'_>, options: &Options) -> io::Result<Ended> {
    let mut stopping = std::pin::pin!(stopping_signal()?);
    // The very program that runs, wherever it is by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sersyncctl");
    if let Some(rights) = task.rights {
        rights.give_to(&mut command);
    }
    command.args(task.for_programs.then_some("--json")).args(["check", "--worker"]);
    command.args((!task.probe).then_some("--no-probe"));
    command.arg(format!("--timeout={}ms", options.timeout.as_millis())).arg("--").arg(std::path::absolute(task.file)?);
    if let Some(directory) = task.credentials {
        command.env("CREDENTIALS_DIRECTORY", directory);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = tokio::process::Command::from(command).spawn()?;
    let mut caller = child.stdin.take();
    let worker = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let (mut found, mut stopped) = (Vec::new(), None);
    if let Some(mut stdout) = child.stdout.take() {
        let mut reading = std::pin::pin!(stdout.read_to_end(&mut found));
        loop {
            tokio::select! {
                read = &mut reading => {
                    read?;
                    break;
                }
                signal = &mut stopping, if stopped.is_none() => {
                    stopped = Some(signal);
                    caller = None;
                    // Only Ctrl-C reaches it by itself. It may have ended already.
                    if let Some(id) = worker {
                        let _ = kill(id, Signal::SIGTERM);
                    }
                }
            }
        }
    }
    let status = child.wait().await?;
    drop(caller);
    match stopped {
        Some(signal) => Ok(Ended::Stopped(signal)),
        None if status.success() => Ok(Ended::Found(serde_json::from_slice(&found)?)),
        None => Err(io::Error::other(tr!("its process ended early: {status}", status))),
    }
}

/// Does the work, in the process that [`delegate`] starts.
pub async fn work(options: &Options, file: &Path) -> io::Result<ExitCode> {
    let findings = super::look(file, options).await;
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, &findings)?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A flag that becomes true when the caller is gone or a signal arrives. Before this call a signal ends the worker at
/// once: it has changed nothing yet.
pub fn stop() -> io::Result<watch::Receiver<bool>> {
    let mut caller = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let signaled = stopping_signal()?;
    let (stopping, stop) = watch::channel(false);
    tokio::spawn(async move {
        // Nothing is written to it: what ends the reading is its end.
        let mut nothing = [0];
        tokio::select! {
            _ = caller.read(&mut nothing) => {}
            _ = signaled => {}
        }
        // Nobody listens once all remotes are done.
        let _ = stopping.send(true);
    });
    Ok(stop)
}

/// The first signal that asks this process to stop. Listened for from the call on.
fn stopping_signal() -> io::Result<impl Future<Output = Signal>> {
    let [mut interrupt, mut terminate, mut hang_up] = [
        signal(SignalKind::from_raw(STOPPING[0] as i32))?,
        signal(SignalKind::from_raw(STOPPING[1] as i32))?,
        signal(SignalKind::from_raw(STOPPING[2] as i32))?,
    ];
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => STOPPING[0],
            _ = terminate.recv() => STOPPING[1],
            _ = hang_up.recv() => STOPPING[2],
        }
    })
}

/// The finding that a worker could not do its work.
pub fn failed(error: &io::Error) -> Finding {
    Finding::new(Level::Error, tr!("the check"), tr!("cannot be done: {error}", error))
}
