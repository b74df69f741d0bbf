//! One rsync process (or ssh, where it is ssh's turn): started with its list still open, fed, listened to, and never left behind.
//!
//! Each process leads a group of its own. When a [`Run`] is dropped before its end, the whole group (rsync, its
//! receiver on this machine, its ssh) gets SIGTERM. When the agent itself is killed, the kernel sends it to rsync.

use super::confinement::Ruleset;
use super::endpoint::Environment;
use super::output::Progress;
use super::spawn::{Child, Program, spawn};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Above so many bytes rsync's complaints are not kept.
const STDERR_AT_MOST: usize = 256 * 1024;

/// Maximum length of a line of stdout, in bytes; the rest of a longer one is dropped. A path of 4,096 bytes takes four times
/// that where rsync escapes each byte.
const LINE_AT_MOST: usize = 32 * 1024;

/// Maximum time until the remote answers in rsync's protocol, connecting and the greeting of a daemon included.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Maximum number of bytes that rsync writes before the remote has answered, without the words of its command line, which a
/// daemon gets too: greeting, module, password, version.
const HANDSHAKE_BYTES: u64 = 1024;

/// Minimum number of bytes read and written that count as progress. A remote that sends a byte per second makes none.
const PROGRESS_BYTES: u64 = 1024;

/// Maximum duration of a live run, whatever it moves.
const LIVE_RUN_TIME: Duration = Duration::from_secs(3600);

/// What a running rsync shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sign {
    /// The remote answered in rsync's protocol.
    Answered,
    /// Data moved.
    Moved,
    /// How far the run is.
    Progress(Progress),
}

/// Limits of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Time until the remote answers; `None`: it has answered already.
    pub answer: Option<Duration>,
    /// Time without progress after that.
    pub progress: Duration,
    /// Time in all.
    pub total: Duration,
}

impl Limits {
    /// For a run that may take hours, and makes progress every `progress`.
    pub fn long(progress: Duration) -> Self {
        Self { answer: Some(ANSWER_TIME.min(progress)), progress, total: Duration::MAX }
    }

    /// For a run of live changes.
    pub fn live(progress: Duration) -> Self {
        Self { total: LIVE_RUN_TIME, ..Self::long(progress) }
    }

    /// For a run that is connected already, or sends nothing.
    pub fn connected(progress: Duration) -> Self {
        Self { answer: None, progress, total: LIVE_RUN_TIME }
    }
}

/// Why a run was ended from here.
#[derive(Debug)]
pub(super) enum Broken {
    /// The remote did not answer within that time.
    NoAnswer(Duration),
    /// Nothing moved for that time.
    StoodStill(Duration),
    /// It took longer than that in all.
    TooLong(Duration),
    /// It opened a fifo that took the place of a file that it was about to send, and would wait for a writer forever.
    WaitsForWriter,
    /// It could not be fed, read or waited for.
    Io(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

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
    /// Maximum number of bytes that it writes before the remote has answered.
    handshake: u64,
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
        let words: usize = arguments.iter().map(|word| word.len() + 1).sum();
        Ok(Self { child, handshake: HANDSHAKE_BYTES + words as u64 })
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.child.is_alive()
    }

    /// Feeds the list, hands each line of stdout to `on_line` and each sign of life to `on_sign`, and waits for the end.
    ///
    /// # Errors
    ///
    /// The run exceeded one of its `limits`, or could not be fed or read. Then it is told to end.
    pub async fn complete(
        mut self,
        feed: Feed,
        mut on_line: impl FnMut(&[u8]),
        limits: Limits,
        on_sign: &(dyn Fn(Sign) + Send + Sync),
    ) -> Result<Ended, Broken> {
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
        let (id, handshake) = (self.child.id(), self.handshake);
        let ending = async {
            let ((), listened, complaints) = tokio::join!(feeding, listening, complaining);
            listened?;
            let (stderr, truncated) = complaints?;
            Ok::<_, Broken>((stderr, truncated, self.child.wait().await?))
        };
        let (stderr, truncated, status) = tokio::select! {
            ended = ending => ended?,
            broken = watch(id, handshake, limits, on_sign) => return Err(broken),
        };
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

/// Interval between two looks at a process: short until the remote has answered, since other runs to it wait for that.
const LOOK: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];

/// Time after which a remote that does not answer is looked at less often.
const LOOK_OFTEN: Duration = Duration::from_secs(5);

/// Watches process `id` and returns when it exceeds one of `limits` or waits for a fifo's writer.
///
/// Only what it writes shows that the remote has answered: a daemon may send lines of greeting forever, and rsync prints
/// none of them. `handshake`: see [`Run`].
async fn watch(id: nix::unistd::Pid, handshake: u64, limits: Limits, on_sign: &(dyn Fn(Sign) + Send + Sync)) -> Broken {
    let start = Instant::now();
    let (mut awaited, mut moved, mut since) = (limits.answer, 0, start);
    loop {
        let often = awaited.is_some() && start.elapsed() < LOOK_OFTEN;
        tokio::time::sleep(LOOK[usize::from(!often)]).await;
        // Where its counters cannot be read, nobody can tell.
        let Some((read, written)) = counters(id) else { continue };
        match awaited {
            Some(limit) if written <= handshake => {
                if start.elapsed() >= limit {
                    return Broken::NoAnswer(limit);
                }
                (moved, since) = (read + written, Instant::now());
            }
            Some(_) => {
                (awaited, moved, since) = (None, read + written, Instant::now());
                on_sign(Sign::Answered);
            }
            None if read + written >= moved + PROGRESS_BYTES => {
                (moved, since) = (read + written, Instant::now());
                on_sign(Sign::Moved);
            }
            None if since.elapsed() >= limits.progress => return Broken::StoodStill(limits.progress),
            None => {}
        }
        if start.elapsed() >= limits.total {
            return Broken::TooLong(limits.total);
        }
        // proc_pid_wchan(5): the function of the kernel that it sleeps in. This one, of fs/pipe.c, is open(2) of a fifo.
        let waits_for = std::fs::read_to_string(format!("/proc/{id}/wchan")).unwrap_or_default();
        if waits_for == "wait_for_partner" {
            return Broken::WaitsForWriter;
        }
    }
}

/// The numbers of bytes that process `id` has read and written, by any system call; proc_pid_io(5).
fn counters(id: nix::unistd::Pid) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{id}/io")).ok()?;
    let value = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)?.trim().parse().ok());
    Some((value("rchar:")?, value("wchar:")?))
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
            } else if held.len() < LINE_AT_MOST {
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::kill;
    use std::path::Path;

    /// A run of a shell with `script`.
    fn shell(script: &str) -> Run {
        let _turn = crate::forks::some();
        let root = Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        Run::start("sh", &["-c".into(), script.into()], &Vec::new(), &root, false, &Ruleset::none()).unwrap()
    }

    async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        let waiting = async {
            while !condition() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect(what);
    }

    #[tokio::test]
    async fn the_number_of_a_group_is_its_own_until_it_was_signalled() {
        let run = shell("exit 0");
        let id = run.child.id();
        until("its end", || !run.is_alive()).await;
        assert_eq!(kill(id, None), Ok(()), "the number was given back, and the group that gets the signal is another");
        drop(run);
        assert_eq!(kill(id, None), Err(nix::errno::Errno::ESRCH));
    }

    #[tokio::test]
    async fn what_a_program_leaves_behind_ends_with_its_run() {
        let mut run = shell("sleep 1000 & echo $!");
        let mut said = String::new();
        let mut stdout = tokio::io::BufReader::new(run.child.stdout.take().unwrap());
        tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut said).await.unwrap();
        until("its end", || !run.is_alive()).await;
        drop(run);
        let left = format!("/proc/{}/stat", said.trim());
        until("the end of the group", || {
            !Path::new(&left).exists() || std::fs::read_to_string(&left).is_ok_and(|stat| stat.contains(") Z "))
        })
        .await;
    }

    #[tokio::test]
    async fn a_line_without_an_end_takes_bounded_memory() {
        let endless = vec![b'x'; 10 * LINE_AT_MOST];
        let text = [&endless[..], b"\nnext\n", &endless[..]].concat();
        let mut lengths = Vec::new();
        read_lines(&text[..], &Notify::new(), &mut |line: &[u8]| lengths.push(line.len())).await.unwrap();
        assert_eq!(lengths, [LINE_AT_MOST, 4, LINE_AT_MOST]);
    }
}
