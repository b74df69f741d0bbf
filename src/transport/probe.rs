//! [`probe`]: what a remote is like, found out by sending it one small file and taking that away again.
//!
//! Everything is done by runs like the agent's own, so what works here works there. Nothing is written before it is
//! known that the remote lets us delete: a remote is left as it was found. The file has a name that nobody else has.

use super::{Capabilities, Endpoint, Fault, Order, carry_out, fault_name};
use crate::config::Destination;
use crate::path::RelPath;
use crate::pending::Kind;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

/// So many pushes are timed.
const PUSHES: usize = 8;

/// rsync's own port.
const RSYNC_PORT: u16 = 873;

/// What a probe found out. What it could not find out, because something before it failed, is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probe {
    /// Of an rsync daemon: how long the connection took.
    pub connected_in: Option<Duration>,
    /// Of an rsync daemon: its protocol version, such as 31.
    pub protocol: Option<u32>,
    /// What of our options the remote does not know.
    pub refused: Vec<&'static str>,
    /// Whether it deletes.
    pub deletes: Option<Result<(), Fault>>,
    /// Whether it takes a file.
    pub writes: Option<Result<(), Fault>>,
    /// How long each push of a small file took.
    pub pushes: Vec<Duration>,
    /// Its clock less ours, in seconds; one second more or less is within the error of this.
    pub clock_ahead: Option<i64>,
    /// Bytes free there.
    pub free: Option<u64>,
    /// The file that could not be taken away again.
    pub left_behind: Option<String>,
}

/// Finds out what the remote behind `endpoint` is like. `scratch` is an empty directory of the caller's.
pub async fn probe(endpoint: &Endpoint, scratch: &Path) -> Probe {
    let mut found = Probe::default();
    if let Destination::Daemon { host, port, .. } = endpoint.destination()
        && let Ok((took, protocol)) = greet(host, port.unwrap_or(RSYNC_PORT)).await
    {
        found.connected_in = Some(took);
        found.protocol = protocol;
    }
    let name = format!(".sersync-check-{:016x}", fastrand::u64(..));
    let file = scratch.join(&name);
    // The name is made here: it is one.
    let Ok(path) = RelPath::new(name.as_bytes()) else { return found };
    let mut capabilities = Capabilities::default();

    // There is nothing of that name yet, here or there: a deletion that deletes nothing.
    let deleted = push(endpoint, scratch, &path, &mut capabilities).await;
    found.refused = capabilities.refused();
    let may_write = deleted.is_ok();
    found.deletes = Some(deleted);
    if !may_write {
        return found;
    }
    if let Err(error) = std::fs::write(&file, vec![b'.'; 1024]) {
        let why = format!("{}: {error}", file.display());
        found.writes = Some(Err(Fault::new(fault_name::IO_ERROR, why)));
        return found;
    }
    let began = Instant::now();
    let written = push(endpoint, scratch, &path, &mut capabilities).await;
    found.pushes.push(began.elapsed());
    let is_there = written.is_ok();
    found.writes = Some(written);
    if is_there {
        for _ in 1..PUSHES {
            let began = Instant::now();
            if push(endpoint, scratch, &path, &mut capabilities).await.is_ok() {
                found.pushes.push(began.elapsed());
            }
        }
        found.clock_ahead = clock_ahead(endpoint, scratch, &path).await;
    }
    // Also what arrived in part only has to go.
    let removed = std::fs::remove_file(&file).is_ok();
    if !removed || push(endpoint, scratch, &path, &mut capabilities).await.is_err() {
        found.left_behind = is_there.then_some(name);
    }
    // What it says to the deletion of something that is there tells most.
    found.refused = capabilities.refused();
    found.free = free(endpoint).await;
    found
}

/// Makes the remote equal to `scratch` at `path`.
async fn push(
    endpoint: &Endpoint,
    scratch: &Path,
    path: &RelPath,
    capabilities: &mut Capabilities,
) -> Result<(), Fault> {
    let order = Order { capabilities: *capabilities, ..Order::plain(scratch, Kind::Entry, vec![path.clone()]) };
    let outcome = carry_out(endpoint, order, &mut None, |_| ()).await;
    capabilities.take_over(outcome.lesson);
    match (outcome.fault, outcome.failed.into_iter().next()) {
        (Some(fault), _) | (None, Some((_, fault))) => Err(fault),
        (None, None) => Ok(()),
    }
}

/// Connects to an rsync daemon and reads its greeting, `@RSYNCD: 31.0 …`.
async fn greet(host: &str, port: u16) -> io::Result<(Duration, Option<u32>)> {
    let began = Instant::now();
    let stream = TcpStream::connect((host, port)).await?;
    let took = began.elapsed();
    let mut greeting = String::new();
    let reading = BufReader::new(stream);
    tokio::io::AsyncReadExt::take(reading, 256).read_line(&mut greeting).await?;
    let version = greeting.strip_prefix("@RSYNCD: ").and_then(|rest| rest.split(['.', ' ', '\n']).next());
    Ok((took, version.and_then(|version| version.trim().parse().ok())))
}

/// Lists the file, sent once more without its time: then it has the remote's.
async fn clock_ahead(endpoint: &Endpoint, scratch: &Path, path: &RelPath) -> Option<i64> {
    let file = path.under(scratch);
    let name = String::from_utf8(path.as_bytes().to_vec()).ok()?;
    // Another content, so that it is written at all.
    std::fs::write(&file, "what time is it there?").ok()?;
    let (arguments, environment) = endpoint.push_without_times(&file);
    let before = SystemTime::now();
    if !rsync(&arguments, &environment).await?.0 {
        return None;
    }
    let (arguments, environment) = endpoint.listing(&name);
    let (done, listed) = rsync(&arguments, &environment).await?;
    if !done {
        return None;
    }
    // `-rw-r--r--          1,024 2026/11/21 05:41:00 NAME`, in UTC as the environment asks.
    let line = listed.lines().find(|line| line.ends_with(&name))?;
    let mut words = line.split_whitespace().skip(2);
    let time = format!("{} {}", words.next()?, words.next()?);
    let there =
        jiff::civil::DateTime::strptime("%Y/%m/%d %H:%M:%S", time).ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    let here = before.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(there.timestamp().as_second() - i64::try_from(here).ok()?)
}

/// Runs rsync to its end. Whether it succeeded, and what it printed.
async fn rsync(
    arguments: &[std::ffi::OsString],
    environment: &[(&'static str, std::ffi::OsString)],
) -> Option<(bool, String)> {
    let mut command = Command::new("rsync");
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value))).env("TZ", "UTC");
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.ok()?;
    Some((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// What is free there. An rsync daemon does not tell.
async fn free(endpoint: &Endpoint) -> Option<u64> {
    match endpoint.destination() {
        Destination::Daemon { .. } => None,
        Destination::Local { directory } => {
            let system = nix::sys::statvfs::statvfs(directory.as_path()).ok()?;
            Some(system.blocks_available() as u64 * system.fragment_size() as u64)
        }
        Destination::Ssh { user, host, port, directory } => {
            let login = user.as_ref().map_or(host.clone(), |user| format!("{user}@{host}"));
            let directory = shlex::try_quote(if directory.is_empty() { "." } else { directory }).ok()?.into_owned();
            let mut command = Command::new("ssh");
            command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]);
            command.args(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
            command.args(endpoint.ssh_options());
            // POSIX: the size in units of 1,024 bytes, in the fourth column of the last line.
            command.args(["--", &login, &format!("LC_ALL=C df -Pk -- {directory}")]);
            command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            let output = command.output().await.ok().filter(|output| output.status.success())?;
            let listed = String::from_utf8(output.stdout).ok()?;
            let available: u64 = listed.lines().last()?.split_whitespace().nth(3)?.parse().ok()?;
            available.checked_mul(1024)
        }
    }
}
