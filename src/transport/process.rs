//! One rsync process (or ssh, where it is ssh's turn): started with its list still open, fed, listened to, and never left behind.
//!
//! Each process leads a group of its own. When a [`Run`] is dropped before its end, the whole group (rsync, its
//! receiver on this machine, its ssh) is told to end. When the agent itself is killed, the kernel tells rsync.

use super::confinement::Ruleset;
use super::endpoint::Environment;
use super::spawn::{Child, Program, spawn};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{Notify, mpsc};

/// Above so many bytes rsync's complaints are not kept.
const STDERR_AT_MOST: usize = 256 * 1024;

/// The text for a run's stdin.
pub(super) enum Feed {
    /// All of it.
    Whole(Vec<u8>),
    /// Piece by piece, as it is found.
    Pieces(mpsc::Receiver<Vec<u8>>),
}

impl Feed {
    /// The whole text, where it is known beforehand.
    pub fn whole(&self) -> Option<&[u8]> {
        match self {
            Self::Whole(list) => Some(list),
            Self::Pieces(_) => None,
        }
    }

    /// How many names it has, where that is known beforehand.
    pub fn paths(&self) -> Option<usize> {
        self.whole().map(|list| list.iter().filter(|byte| **byte == 0).count())
    }
}

/// By so much is a gentle run nicer than the agent.
const GENTLE: i32 = 10;

/// A started rsync that waits for its list.
#[derive(Debug)]
pub(super) struct Run {
    child: Child,
    group: Option<nix::unistd::Pid>,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
    /// Whether stderr was longer than what was kept.
    pub truncated: bool,
}

impl Run {
    /// Starts `program` in the directory `root`. Nothing is sent before [`Run::complete`] feeds it.
    /// A `gentle` one gives way to others; all reach no more than `ruleset` allows.
    pub fn start(
        program: &str,
        arguments: &[OsString],
        environment: &Environment,
        root: &Arc<OwnedFd>,
        gentle: bool,
        ruleset: &Ruleset,
    ) -> io::Result<Self> {
        let child = spawn(&Program {
            name: program,
            arguments,
            environment,
            // The very directory that was looked at, whatever its name leads to by now.
            directory: root.as_fd(),
            niceness: if gentle { GENTLE } else { 0 },
            ruleset: ruleset.descriptor(),
        })?;
        Ok(Self { group: Some(child.id()), child })
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.is_alive()
    }

    /// Feeds the list, hands each line of stdout to `on_line`, and waits for the end.
    ///
    /// With `patience`, a run that neither reads nor writes anything for so long is ended, with an error of the kind
    /// `TimedOut`. A run that opened a fifo, because one took the place of a file that it was about to send, would wait
    /// for a writer for ever: it is ended within seconds, with an error of the kind `Interrupted`.
    pub async fn complete(
        mut self,
        feed: Feed,
        mut on_line: impl FnMut(&[u8]),
        patience: Option<Duration>,
    ) -> io::Result<Ended> {
        let stdin = self.child.stdin.take();
        let stdout = self.child.stdout.take();
        let stderr = self.child.stderr.take();
        let feeding = async {
            let Some(mut stdin) = stdin else { return };
            // An rsync that ended early has said why by itself.
            match feed {
                Feed::Whole(list) => drop(stdin.write_all(&list).await),
                Feed::Pieces(mut pieces) => {
                    while let Some(piece) = pieces.recv().await {
                        if stdin.write_all(&piece).await.is_err() {
                            break;
                        }
                    }
                }
            }
        };
        // rsync closes both when it ends.
        let over = Notify::new();
        let listening = async {
            match stdout {
                Some(stdout) => read_lines(stdout, &over, &mut on_line).await,
                None => Ok(()),
            }
        };
        let complaining = async {
            let complaints = read_capped(stderr).await;
            over.notify_one();
            complaints
        };
        let id = self.child.id();
        let ending = async {
            let ((), listened, complaints) = tokio::join!(feeding, listening, complaining);
            listened?;
            let (stderr, truncated) = complaints?;
            Ok::<_, io::Error>((stderr, truncated, self.child.wait().await?))
        };
        let (stderr, truncated, status) = tokio::select! {
            ended = ending => ended?,
            kind = stand_still(id, patience) => return Err(kind.into()),
        };
        self.group = None;
        Ok(Ended { status, stderr: String::from_utf8_lossy(&stderr).into_owned(), truncated })
    }
}

/// Has the kernel tell the process to end when the agent is killed.
pub(crate) fn end_with_agent(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed. It makes one
    // prctl(2) system call and neither allocates nor locks.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM).map_err(io::Error::from));
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may have ended by itself this moment.
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM);
        }
    }
}

/// A process that has moved nothing for so long is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Returns when process `id` stands still for good, with what [`Run::complete`] makes of it.
async fn stand_still(id: nix::unistd::Pid, patience: Option<Duration>) -> io::ErrorKind {
    let (mut seen, mut since) = (String::new(), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        // proc_pid_io(5): the counters of all its reads and writes. Where they cannot be read, nobody can tell.
        let Ok(counters) = std::fs::read_to_string(format!("/proc/{id}/io")) else { continue };
        if counters != seen {
            (seen, since) = (counters, Instant::now());
            continue;
        }
        // proc_pid_wchan(5): the function of the kernel that it sleeps in. This one, of fs/pipe.c, is open(2) of a fifo.
        let waits_for = std::fs::read_to_string(format!("/proc/{id}/wchan")).unwrap_or_default();
        if waits_for == "wait_for_partner" {
            return io::ErrorKind::Interrupted;
        }
        if patience.is_some_and(|patience| since.elapsed() >= patience) {
            return io::ErrorKind::TimedOut;
        }
    }
}

/// Progress is read at most so often: rsync tells it again with every few files, and to hear each time of it takes a
/// fifth of the time of a full sync that finds nothing (measured: 1,500 times in 150 ms). Less of it than fits into a
/// pipe comes meanwhile.
const PROGRESS_PAUSE: Duration = Duration::from_millis(10);

/// Progress begins with a carriage return and a blank and has no end of its own, all else ends in newlines. When all is
/// `over`, there is nothing to pause for any more.
async fn read_lines(
    mut stdout: impl AsyncRead + Unpin,
    over: &Notify,
    on_line: &mut impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut is_over = false;
    let mut held = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = stdout.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        for byte in &buffer[..read] {
            if matches!(byte, b'\n' | b'\r') {
                on_line(&held);
                held.clear();
            } else {
                held.push(*byte);
            }
        }
        if held.starts_with(b" ") && !is_over {
            is_over = tokio::time::timeout(PROGRESS_PAUSE, over.notified()).await.is_ok();
        }
    }
    if !held.is_empty() {
        on_line(&held);
    }
    Ok(())
}

async fn read_capped(stderr: Option<impl AsyncRead + Unpin>) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut stderr) = stderr else { return Ok((kept, false)) };
    (&mut stderr).take(STDERR_AT_MOST as u64).read_to_end(&mut kept).await?;
    let mut rest = [0; 4096];
    let mut truncated = false;
    while stderr.read(&mut rest).await? > 0 {
        truncated = true;
    }
    Ok((kept, truncated))
}
