//! [`TerminalAgent`]: polkit's own program that asks for passwords on a terminal, pkttyagent(1), beside this process.
//!
//! `sersyncctl` sees no password: the program talks to the terminal and to polkit by itself. It gives way to an agent
//! that the desktop has, and it never outlives this process.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getppid};
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// It has told polkit of itself by then, or it will not.
const READY_TIME: Duration = Duration::from_secs(10);

/// The running program. Ends when dropped.
#[derive(Debug)]
pub struct TerminalAgent(Child);

impl TerminalAgent {
    /// Starts it and waits until polkit knows of it. `None` without a terminal, or without the program; then it is
    /// polkit that has nobody to ask, and says so.
    pub async fn start() -> Option<Self> {
        if !io::stdin().is_terminal() {
            return None;
        }
        Self::spawn().await.ok()
    }

    async fn spawn() -> io::Result<Self> {
        // It closes its end when polkit knows of it; so does its own end.
        let (ready, notify) = io::pipe()?;
        let (number, parent) = (notify.as_raw_fd(), getpid());
        let mut command = Command::new("pkttyagent");
        command.args(["--fallback", "--notify-fd"]).arg(number.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let prepare = move || {
            set_pdeathsig(Signal::SIGTERM)?;
            if getppid() != parent {
                return Err(io::Error::from(nix::errno::Errno::ESRCH));
            }
            // SAFETY: the parent keeps `notify` until the child runs its own program, so the number is open here.
            let notify = unsafe { BorrowedFd::borrow_raw(number) };
            fcntl(notify, FcntlArg::F_SETFD(FdFlag::empty()))?;
            Ok(())
        };
        // SAFETY: between fork and exec it makes three system calls (prctl, getppid, fcntl), and allocates nothing:
        // an error made of an errno is a number.
        unsafe { command.pre_exec(prepare) };
        let agent = Self(command.spawn()?);
        drop(notify);
        let mut ready = pipe::Receiver::from_owned_fd(OwnedFd::from(ready))?;
        // However it ends: polkit knows of the agent now, or will ask nobody.
        let _ = tokio::time::timeout(READY_TIME, ready.read_u8()).await;
        Ok(agent)
    }
}

impl Drop for TerminalAgent {
    fn drop(&mut self) {
        // A process id fits, and is ours until it is waited for. It may have ended, or be stopped at the terminal.
        let pid = Pid::from_raw(self.0.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let _ = kill(pid, Signal::SIGCONT);
        let _ = self.0.wait();
    }
}
