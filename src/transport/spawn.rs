//! [`spawn`]: starts a program the way vfork(2) does, in a process that borrows this one's memory until the program is
//! there.
//!
//! fork(2) copies the page tables of all memory that the agent has, and each page that the agent writes to afterwards
//! faults once: the more it watches, the longer each change takes. clone(2) with `CLONE_VM` and `CLONE_VFORK` copies
//! nothing. [`std::process::Command`] does without the copy, too, but only where all that the child has to do before its
//! program starts is known to posix_spawn(3), and that knows nothing of a signal for when the parent dies.
//!
//! What makes it safe: the thread that calls stands still until the program has started or the child has ended, the
//! child has a stack of its own, and until then it makes system calls and nothing else; no signal is delivered to it
//! before this process' handlers are off. All that it needs is laid out for it beforehand.

use super::confinement;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneCb, CloneFlags, clone};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, kill, killpg, sigaction};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, getppid, pipe2, setpgid};
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};
use tokio::net::unix::pipe;
use tokio::signal::unix::SignalKind;

/// Room for a few system calls, and then some.
const STACK: usize = 64 * 1024;

/// Where programs are looked for when `PATH` does not say: what execvp(3) takes.
const PATH: &str = "/bin:/usr/bin";

/// What to start.
pub(super) struct Program<'a> {
    /// Its name, looked for along `PATH`, or its path.
    pub name: &'a str,
    /// Its arguments, without its name.
    pub arguments: &'a [OsString],
    /// Variables beside those of this process.
    pub environment: &'a [(&'static str, OsString)],
    /// Its working directory.
    pub directory: BorrowedFd<'a>,
    /// By so much it is nicer than this process.
    pub niceness: i32,
    /// The Landlock ruleset that says what it may reach, if anything is refused.
    pub ruleset: Option<BorrowedFd<'a>>,
}

/// A process that runs a program, at the head of a process group of its own. The kernel sends it SIGTERM when the thread
/// that started it dies, as all threads do with their process. Dropped before [`Child::wait`] has returned, its group gets
/// SIGTERM and itself SIGKILL.
#[derive(Debug)]
pub(super) struct Child {
    pub stdin: Option<pipe::Sender>,
    pub stdout: Option<pipe::Receiver>,
    pub stderr: Option<pipe::Receiver>,
    process: Process,
}

/// What has to be waited for once, or its number is never given back.
#[derive(Debug)]
struct Process {
    id: Pid,
    status: Option<ExitStatus>,
    /// Some child has ended.
    ended: tokio::signal::unix::Signal,
}

/// Starts `program`, with pipes for its three standard streams.
///
/// It takes the processor from nobody who is at work, and with a niceness it gets less of it than others. Of the disk
/// too, where the I/O scheduler knows priorities: ioprio_set(2), without one of its own a process has the one that its
/// niceness stands for.
///
/// # Errors
///
/// What execve(2) says of the program, chdir of the directory, clone(2) and pipe(2) of this machine's limits.
pub(super) fn spawn(program: &Program<'_>) -> io::Result<Child> {
    // Listened for from before the start on, so that no end is missed.
    let ended = tokio::signal::unix::signal(SignalKind::child())?;
    let (stdin, to_stdin) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (from_stdout, stdout) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let (from_stderr, stderr) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let plan = Plan::new(program, [stdin, stdout, stderr])?;
    let stdin = Some(pipe::Sender::from_owned_fd(to_stdin)?);
    let stdout = Some(pipe::Receiver::from_owned_fd(from_stdout)?);
    let stderr = Some(pipe::Receiver::from_owned_fd(from_stderr)?);
    // Last of all: from here on nothing fails that would leave it alone.
    let process = Process { id: plan.carry_out()?, status: None, ended };
    Ok(Child { stdin, stdout, stderr, process })
}

impl Child {
    /// Its number, which is that of its group.
    pub fn id(&self) -> Pid {
        self.process.id
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&self) -> bool {
        self.process.status.is_none() && !has_ended(self.process.id)
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process.status.is_some() {
            return;
        }
        // Nobody else gets the number before the process is waited for, whether it has ended or not.
        let _ = killpg(self.process.id, Signal::SIGTERM);
        let _ = kill(self.process.id, Signal::SIGKILL);
        if !matches!(self.process.try_wait(), Ok(None)) {
            return;
        }
        // It may take a while to die, in a system call that waits for a disk.
        if let (Ok(runtime), Ok(ended)) =
            (tokio::runtime::Handle::try_current(), tokio::signal::unix::signal(SignalKind::child()))
        {
            let mut process = Process { id: self.process.id, status: None, ended };
            runtime.spawn(async move { process.wait().await });
        }
    }
}

impl Process {
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let mut status = 0;
            // SAFETY: `status` outlives the call, which writes to nothing else.
            let ended = Errno::result(unsafe { libc::waitpid(self.id.as_raw(), &raw mut status, libc::WNOHANG) })?;
            self.status = (ended != 0).then(|| ExitStatus::from_raw(status));
        }
        Ok(self.status)
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            self.ended.recv().await;
        }
    }
}

/// Whether the child process `id` has ended. It is not waited for: its number, which may be that of its group, stays its
/// own.
fn has_ended(id: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(id), flags), Ok(WaitStatus::StillAlive))
}

/// Returns when the child process `id` has ended. It is still to be waited for.
pub(crate) async fn end_of(id: Pid) -> io::Result<()> {
    let mut ended = tokio::signal::unix::signal(SignalKind::child())?;
    while !has_ended(id) {
        ended.recv().await;
    }
    Ok(())
}

/// All that the child needs, in the shape that system calls take.
struct Plan<'a> {
    streams: [OwnedFd; 3],
    directory: BorrowedFd<'a>,
    niceness: i32,
    ruleset: Option<BorrowedFd<'a>>,
    /// Where the program may be.
    places: Vec<CString>,
    arguments: Strings,
    environment: Strings,
    parent: Pid,
}

/// Strings as execve(2) takes them: pointers to them, and a null pointer behind the last one.
struct Strings {
    pointers: Vec<*const libc::c_char>,
    _strings: Vec<CString>,
}

impl Strings {
    fn new(strings: impl Iterator<Item = Vec<u8>>) -> io::Result<Self> {
        let strings = strings.map(CString::new).collect::<Result<Vec<_>, _>>()?;
        let pointers = strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { pointers, _strings: strings })
    }
}

impl<'a> Plan<'a> {
    fn new(program: &Program<'a>, streams: [OwnedFd; 3]) -> io::Result<Self> {
        let arguments = program.arguments.iter().map(|argument| argument.clone().into_vec());
        let is_ours = |name: &OsStr| program.environment.iter().any(|(ours, _)| *ours == name);
        let inherited = std::env::vars_os().filter(|(name, _)| !is_ours(name));
        let ours = program.environment.iter().map(|(name, value)| ((*name).into(), value.clone()));
        let variables = inherited.chain(ours).map(|(name, value): (OsString, OsString)| {
            let mut variable = name.into_vec();
            variable.push(b'=');
            variable.extend(value.into_vec());
            variable
        });
        Ok(Self {
            streams,
            directory: program.directory,
            niceness: program.niceness,
            ruleset: program.ruleset,
            places: places(program.name, std::env::var_os("PATH"))?,
            arguments: Strings::new([program.name.as_bytes().to_vec()].into_iter().chain(arguments))?,
            environment: Strings::new(variables)?,
            parent: Pid::this(),
        })
    }

    /// Starts the process and returns when its program runs.
    fn carry_out(&self) -> io::Result<Pid> {
        let mut stack = vec![0; STACK];
        let failure = AtomicI32::new(0);
        let child: CloneCb<'_> = Box::new(|| {
            // SAFETY: this is the child of the `clone` below.
            let errno = unsafe { self.become_program() };
            // One that nix has no name for is a failure, too.
            failure.store((errno as i32).max(1), Ordering::Relaxed);
            127
        });
        // Until the child has none of the handlers any more, it must not be interrupted: it would run them on memory
        // that is not its own.
        let mut mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        // Whoever started this process may have left it blocked, and the end of the child would not be heard of.
        mask.remove(Signal::SIGCHLD);
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: the child has room on its stack for what `become_program` does, which is sound on the memory of a
        // thread that stands still. It stands still until the child has given it back: CLONE_VFORK.
        let started = unsafe { clone(child, &mut stack, flags, Some(libc::SIGCHLD)) };
        mask.thread_set_mask()?;
        let id = started?;
        match failure.load(Ordering::Relaxed) {
            0 => Ok(id),
            errno => {
                // It has ended, and says only here why.
                nix::sys::wait::waitpid(id, None)?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    /// Makes the process what it is to be. Returns only if that fails, and why.
    ///
    /// # Safety
    ///
    /// Only for the child in [`Plan::carry_out`]. Everything in here is a system call or two, allocates nothing, locks
    /// nothing, and leaves alone what is not on its stack, `errno` of the thread that waits excepted.
    unsafe fn become_program(&self) -> Errno {
        match self.prepare() {
            Ok(()) => self.execute(),
            Err(errno) => errno,
        }
    }

    fn prepare(&self) -> Result<(), Errno> {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
        if getppid() != self.parent {
            // It died before that counted.
            return Err(Errno::ESRCH);
        }
        give_way(self.niceness);
        fchdir(self.directory)?;
        let [stdin, stdout, stderr] = &self.streams;
        dup2_stdin(stdin.as_fd())?;
        dup2_stdout(stdout.as_fd())?;
        dup2_stderr(stderr.as_fd())?;
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // Nobody here handles SIGABRT, for which newer C libraries have a lock.
        for signal in Signal::iterator().filter(|signal| *signal != Signal::SIGABRT) {
            // SAFETY: no handler is installed. The child has a table of its own: no CLONE_SIGHAND.
            let Ok(before) = (unsafe { sigaction(signal, &default) }) else { continue };
            // What this process was told to ignore when it was started is not for its programs either. SIGPIPE is what
            // Rust's runtime has ignored.
            if matches!(before.handler(), SigHandler::SigIgn) && signal != Signal::SIGPIPE {
                // SAFETY: as above.
                unsafe { sigaction(signal, &before) }?;
            }
        }
        SigSet::empty().thread_set_mask()?;
        // Credentials are a task's own, also where it borrows its parent's memory.
        self.ruleset.map_or(Ok(()), confinement::enter)
    }

    /// The first place that has the program counts, as for execvp(3): one that cannot be reached is passed over, and one
    /// that may not be run is told of only if there is no other. What is no program is not given to a shell.
    fn execute(&self) -> Errno {
        let mut said = Errno::ENOENT;
        for place in &self.places {
            // SAFETY: strings, and lists of such that end in a null pointer, which live as long as `self`.
            unsafe {
                libc::execve(place.as_ptr(), self.arguments.pointers.as_ptr(), self.environment.pointers.as_ptr())
            };
            match Errno::last() {
                Errno::ENOENT | Errno::ENOTDIR | Errno::ESTALE | Errno::ENODEV | Errno::ETIMEDOUT => {}
                Errno::EACCES => said = Errno::EACCES,
                other => return other,
            }
        }
        said
    }
}

/// The paths that a program of that name may have.
fn places(name: &str, path: Option<OsString>) -> io::Result<Vec<CString>> {
    if name.contains('/') {
        return Ok(vec![CString::new(name)?]);
    }
    let path = path.unwrap_or_else(|| PATH.into());
    let place = |directory: std::path::PathBuf| CString::new(directory.join(name).into_os_string().into_vec());
    Ok(std::env::split_paths(&path).map(place).collect::<Result<_, _>>()?)
}

/// SCHED_BATCH (sched(7)) is more than courtesy. A daemon without `socket options = TCP_NODELAY` greets in three small
/// messages. An rsync that is woken by the first, takes the daemon's processor and answers before the second has been
/// written, has the third wait 40 ms for a delayed acknowledgement. That happened to 10 of 60 runs on two idle
/// processors and to 28 of 60 beside a full sync; this way, to 1 and none.
///
/// A process can only be refused to give way; and if it is, the run is no worse for it.
fn give_way(niceness: i32) {
    // SAFETY: sched_getscheduler(2), sched_setscheduler(2), and setpriority(2) by way of nice(3), for this thread.
    unsafe {
        // Who was started with a policy of his own has been given it on purpose.
        if libc::sched_getscheduler(0) == libc::SCHED_OTHER {
            let parameters = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters);
        }
        if niceness != 0 {
            libc::nice(niceness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::resource::{UsageWho, getrusage};
    use std::fs::File;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// No other test counts on close(2) in the moment in which the child holds copies of all open files.
    fn start(program: &Program<'_>) -> io::Result<Child> {
        let _turn = crate::forks::some();
        spawn(program)
    }

    fn program<'a>(name: &'a str, arguments: &'a [OsString], directory: &'a File) -> Program<'a> {
        Program { name, arguments, environment: &[], directory: directory.as_fd(), niceness: 0, ruleset: None }
    }

    /// A shell that does what `script` says, with one argument.
    fn shell(script: &str, argument: &OsStr) -> Vec<OsString> {
        ["-c".into(), script.into(), "name".into(), argument.to_owned()].into()
    }

    async fn said(child: &mut Child) -> Vec<u8> {
        let mut said = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut said).await.unwrap();
        said
    }

    #[tokio::test]
    async fn a_program_gets_its_words_its_streams_and_its_place() {
        let place = tempfile::tempdir().unwrap();
        let directory = File::open(place.path()).unwrap();
        let script = "pwd -P; printf '%s|%s|' \"$1\" \"$SERSYNC_TEST_WORD\"; cat; echo complaint >&2; exit 7";
        let arguments = shell(script, OsStr::from_bytes(b"not \xff UTF-8"));
        let environment = [("SERSYNC_TEST_WORD", "a = b".into())];
        let mut child = start(&Program { environment: &environment, ..program("sh", &arguments, &directory) }).unwrap();
        assert!(child.is_alive());
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"fed").await.unwrap();
        drop(stdin);
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).await.unwrap();
        assert_eq!(complaint, "complaint\n");
        let real = place.path().canonicalize().unwrap();
        let expected = [real.as_os_str().as_bytes(), b"\nnot \xff UTF-8|a = b|fed"].concat();
        assert_eq!(said(&mut child).await, expected);
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        assert_eq!(child.wait().await.unwrap().code(), Some(7), "it is asked a second time");
    }

    /// One of the sets of signals in proc_pid_status(5).
    fn signals(status: &str, name: &str) -> u64 {
        let set = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(set.trim(), 16).unwrap()
    }

    fn bit(signal: Signal) -> u64 {
        1 << (signal as u32 - 1)
    }

    #[tokio::test]
    async fn a_program_starts_with_signals_as_a_shell_would_have_them() {
        let root = File::open("/").unwrap();
        // Handled by this process from here on.
        let _handled = tokio::signal::unix::signal(SignalKind::user_defined1()).unwrap();
        let arguments = ["/proc/self/status".into()];
        let mut child = start(&program("cat", &arguments, &root)).unwrap();
        let id = child.id();
        let status = String::from_utf8(said(&mut child).await).unwrap();
        assert_eq!(signals(&status, "SigBlk:"), 0);
        assert_eq!(signals(&status, "SigIgn:") & bit(Signal::SIGPIPE), 0);
        assert!(status.contains(&format!("Pid:\t{id}\n")), "{status}");
        // It neither took ours away nor left them blocked.
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert_ne!(signals(&own, "SigCgt:") & bit(Signal::SIGUSR1), 0);
        assert_eq!(signals(&own, "SigBlk:"), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_why() {
        let place = tempfile::tempdir().unwrap();
        let directory = File::open(place.path()).unwrap();
        let refused = |name: &str| start(&program(name, &[], &directory)).map(drop).unwrap_err().raw_os_error();
        assert_eq!(refused(place.path().join("none").to_str().unwrap()), Some(libc::ENOENT));
        let plain = place.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert_eq!(refused(plain.to_str().unwrap()), Some(libc::EACCES));
        std::fs::write(&plain, "\u{7f}ELF").unwrap();
        std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(refused(plain.to_str().unwrap()), Some(libc::ENOEXEC));
        assert_eq!(refused("nul\0nul"), None);
        let file = File::open(&plain).unwrap();
        let nowhere = start(&program("true", &[], &file)).map(drop).unwrap_err();
        assert_eq!(nowhere.raw_os_error(), Some(libc::ENOTDIR));
    }

    #[test]
    fn a_program_is_looked_for_along_the_path() {
        let of = |path: Option<&str>| {
            let places = places("rsync", path.map(OsString::from)).unwrap();
            places.into_iter().map(|place| place.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of(Some("/usr/local/bin:/usr/bin")), ["/usr/local/bin/rsync", "/usr/bin/rsync"]);
        assert_eq!(of(None), ["/bin/rsync", "/usr/bin/rsync"]);
        assert_eq!(places("/opt/rsync", Some("/usr/bin".into())).unwrap(), [c"/opt/rsync".to_owned()]);
    }

    #[tokio::test]
    async fn one_that_is_dropped_ends_and_gives_its_number_back() {
        let root = File::open("/").unwrap();
        let arguments = ["1000".into()];
        let child = start(&program("sleep", &arguments, &root)).unwrap();
        let entry = format!("/proc/{}", child.id());
        drop(child);
        let gone = async {
            while std::fs::exists(&entry).unwrap() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), gone).await.expect("it is reaped");
    }

    #[tokio::test]
    async fn memory_is_not_copied() {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).unwrap().unwrap() as usize;
        let root = File::open("/").unwrap();
        nix::sys::prctl::set_thp_disable(true).unwrap();
        let faults = || getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let mut memory = vec![1_u8; 10_000 * page];
        let child = start(&program("true", &[], &root)).unwrap();
        let before = faults().minor_page_faults();
        memory.iter_mut().step_by(page).for_each(|byte| *byte = byte.wrapping_add(1));
        let caused = faults().minor_page_faults() - before;
        drop(child);
        assert!(caused < 1_000, "of 10,000 pages {caused} had to be made this process' own again");
    }
}
