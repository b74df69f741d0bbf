//! [`probe`]: what a remote is like, found out by sending it one small file and deleting that file again.
//!
//! The file is sent as the agent sends one, so what works here works there. Nothing is written before dry runs have
//! shown that the remote lets us delete. The remote's root keeps its mode and its owner at every moment: no run that
//! sets them names the root. Its entries and its modification time are restored at the end, also when the probe is
//! stopped. A probe that is killed can leave a file `.sersync-check-…`, which the next probe and the next full sync
//! delete, and a newer modification time.

use super::capabilities::Support;
use super::process::Feed;
use super::{Capabilities, Endpoint, Fault, Form, Order, Work, carry_out, fault_name, null_separated, open, ruleset};
use crate::aside::aside;
use crate::config::Destination;
use crate::path::RelPath;
use crate::pending::Kind;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

/// So many pushes are timed.
const PUSHES: usize = 8;

/// rsync's own port.
const RSYNC_PORT: u16 = 873;

/// Names of probe files: this, and 16 hexadecimal digits.
const PREFIX: &str = ".sersync-check-";

/// Maximum time for restoring the remote after a probe was stopped.
const RESTORING: Duration = Duration::from_secs(20);

/// Maximum time for the run under way when a probe is stopped.
const ENDING: Duration = Duration::from_secs(5);

/// Maximum time for the search of one watched directory.
const LOOKING: Duration = Duration::from_secs(3);

/// A run that was cut off may finish its file after the deletion: attempts to delete it.
const DELETIONS: usize = 3;

/// What a probe found out. What it could not find out, because something before it failed, is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Probe {
    /// Of an rsync daemon: how long the connection took.
    pub connected_in: Option<Duration>,
    /// Of an rsync daemon: its protocol version, such as 31.
    pub protocol: Option<u32>,
    /// What of our options the remote does not know.
    pub refused: Vec<&'static str>,
    /// The remote's directory does not exist.
    pub root_missing: bool,
    /// Whether it deletes.
    pub deletes: Option<Result<(), Fault>>,
    /// Whether it takes a file.
    pub writes: Option<Result<(), Fault>>,
    /// How long each push of a small file took.
    pub pushes: Vec<Duration>,
    /// Its clock less ours, in seconds; one second more or less is within the error of this.
    pub clock_ahead: Option<i64>,
    /// The watched directory that it leads to, or lies in, or contains: the probe's file appeared there.
    pub leads_to: Option<PathBuf>,
    /// Bytes free there.
    pub free: Option<u64>,
    /// Number of files of earlier probes that were deleted.
    pub leftovers: usize,
    /// A file that could not be deleted again.
    pub left_behind: Option<String>,
    /// The modification time of the remote's root could not be restored.
    pub time_changed: bool,
    /// It was stopped before its end.
    pub stopped: bool,
}

/// State to restore on the remote.
#[derive(Debug)]
struct Traces {
    /// The modification time of the remote's root, as that of this directory here.
    kept: PathBuf,
    /// That time, as far as it is known.
    time: RootTime,
    /// Names of entries that may exist there.
    names: Vec<RelPath>,
    capabilities: Capabilities,
}

/// The modification time of the remote's root, as far as it is known.
#[derive(Debug)]
enum RootTime {
    /// Not the time itself.
    Unknown,
    /// The time. Whether a run that restores it keeps the root's mode, this directory is to show.
    Doubtful {
        directory: RelPath,
        /// As a listing prints it.
        mode: String,
    },
    /// A run that restores it changes nothing else.
    Restorable,
}

/// Finds out what the remote behind `endpoint` is like, until `stop` ends. `scratch` is an empty directory of the
/// caller's; `roots` are the watched directories.
pub async fn probe(endpoint: &Endpoint, scratch: &Path, roots: &[PathBuf], stop: impl Future<Output = ()>) -> Probe {
    let mut found = Probe::default();
    if let Err(fault) = accepts_keeping(endpoint, scratch).await {
        found.deletes = Some(Err(fault));
        return found;
    }
    let endpoint = &endpoint.clone().keeping_nothing();
    let (sent, kept) = (scratch.join("sent"), scratch.join("kept"));
    if let Err(error) = fs::create_dir(&sent).and_then(|()| fs::create_dir(&kept)) {
        let why = format!("{}: {error}", scratch.display());
        found.writes = Some(Err(Fault::new(fault_name::IO_ERROR, why)));
        return found;
    }
    // Nothing else writes to the file of the check: what one deletion by name leaves there proves that it is refused.
    let capabilities = Capabilities { delete_missing_args: Support::Suspected, ..Capabilities::default() };
    let mut traces = Traces { kept, time: RootTime::Unknown, names: Vec::new(), capabilities };
    let stopped = AtomicBool::new(false);
    {
        let mut measuring = pin!(measure(endpoint, &sent, roots, &mut found, &mut traces, &stopped));
        tokio::select! {
            () = &mut measuring => {}
            () = stop => {
                stopped.store(true, Ordering::Relaxed);
                // A run that is broken off here may go on at the remote, and change it after it was restored.
                let _ = tokio::time::timeout(ENDING, measuring).await;
            }
        }
    }
    found.stopped = stopped.into_inner();
    if !traces.names.is_empty() {
        let name = traces.names[0].display().to_string();
        if tokio::time::timeout(RESTORING, restore(endpoint, &sent, &mut found, &mut traces)).await.is_err() {
            found.left_behind = Some(name);
        }
        // The deletion of an existing entry is the best test.
        found.refused = traces.capabilities.refused();
    }
    if !found.stopped && found.writes.is_some() {
        found.free = free(endpoint).await;
    }
    found
}

/// Returns after the run under way once `stopped` is set.
async fn measure(
    endpoint: &Endpoint,
    scratch: &Path,
    roots: &[PathBuf],
    found: &mut Probe,
    traces: &mut Traces,
    stopped: &AtomicBool,
) {
    let is_stopped = || stopped.load(Ordering::Relaxed);
    if let Destination::Daemon { host, port, .. } = endpoint.destination()
        && let Ok((took, protocol)) = greet(host, port.unwrap_or(RSYNC_PORT)).await
    {
        found.connected_in = Some(took);
        found.protocol = protocol;
    }
    let Some(path) = new_name() else { return };
    let deletes = may_delete(endpoint, scratch, &path, &mut traces.capabilities).await;
    found.refused = traces.capabilities.refused();
    let may_delete = deletes.is_ok();
    found.deletes = Some(deletes);
    if !may_delete || is_stopped() {
        return;
    }
    let listed = list(endpoint).await;
    if is_stopped() {
        return;
    }
    if listed.as_ref().is_err_and(|said| said.contains("No such file or directory (2)")) {
        // rsync would make it.
        found.root_missing = true;
        return;
    }
    if let Ok(listed) = &listed {
        keep_time(endpoint, scratch, &listed.mode, traces).await;
        if !is_stopped() {
            is_restorable(endpoint, scratch, traces).await;
        }
    }
    if is_stopped() {
        return;
    }
    let file = path.under(scratch);
    if let Err(error) = fs::write(&file, vec![b'.'; 1024]) {
        let why = format!("{}: {error}", file.display());
        found.writes = Some(Err(Fault::new(fault_name::IO_ERROR, why)));
        return;
    }
    traces.names.insert(0, path.clone());
    let began = Instant::now();
    let written = push(endpoint, scratch, std::slice::from_ref(&path), &mut traces.capabilities).await;
    found.pushes.push(began.elapsed());
    let is_there = written.is_ok();
    found.writes = Some(written);
    if is_there && !is_stopped() {
        let (roots, name) = (roots.to_vec(), path.clone());
        let looking = aside(move || roots.into_iter().find(|root| is_in_or_above(&name, root)));
        found.leads_to = looking.await.unwrap_or_default();
        for _ in 1..PUSHES {
            if is_stopped() {
                return;
            }
            let began = Instant::now();
            if push(endpoint, scratch, std::slice::from_ref(&path), &mut traces.capabilities).await.is_ok() {
                found.pushes.push(began.elapsed());
            }
        }
        if is_stopped() {
            return;
        }
        found.clock_ahead = clock_ahead(endpoint, scratch, &path).await;
    }
}

/// Whether an entry of that name is in `root`, at any depth as far as time allows, or in a directory above it.
fn is_in_or_above(name: &RelPath, root: &Path) -> bool {
    let deadline = Instant::now() + LOOKING;
    let real = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let is_there = |directory: &Path| name.under(directory).symlink_metadata().is_ok();
    if real.ancestors().any(is_there) {
        return true;
    }
    let mut open = VecDeque::from([real]);
    while let Some(directory) = open.pop_front().filter(|_| Instant::now() < deadline) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if is_there(&entry.path()) {
                    return true;
                }
                open.push_back(entry.path());
            }
        }
    }
    false
}

/// Deletes what this probe and earlier ones left, and restores the modification time of the remote's root.
async fn restore(endpoint: &Endpoint, scratch: &Path, found: &mut Probe, traces: &mut Traces) {
    let may_send_time = is_restorable(endpoint, scratch, traces).await;
    let ours = traces.names.clone();
    let mut names = ours.clone();
    // A path that is missing here is deleted there.
    for path in &ours {
        let here = path.under(scratch);
        let _ = fs::remove_file(&here).or_else(|_| fs::remove_dir(&here));
    }
    let mut left = true;
    for _ in 0..DELETIONS {
        // Without what says how files are sent: a backup is not wanted, and the root keeps its mode.
        let deleted = push(&endpoint.bare(), scratch, &names, &mut traces.capabilities).await;
        match list(endpoint).await {
            Ok(listed) => {
                names = listed.leftovers;
                found.leftovers += names.iter().filter(|name| !ours.contains(name)).count();
                left = !names.is_empty();
            }
            Err(_) => left = deleted.is_err(),
        }
        if !left {
            break;
        }
    }
    if left {
        found.left_behind = names.first().map(|name| name.display().to_string());
        let others = names.iter().filter(|name| !ours.contains(name)).count();
        found.leftovers = found.leftovers.saturating_sub(others);
    }
    let restored = match may_send_time {
        true => {
            let (arguments, environment) = endpoint.send_root_time(traces.capabilities.nanoseconds.is_worth_a_try());
            rsync(&traces.kept, &arguments, &environment).await.is_ok()
        }
        false => false,
    };
    found.time_changed = !restored && found.writes.as_ref().is_some_and(Result::is_ok);
}

/// Whether the remote accepts the options that have it keep what runs delete, where the config wants that.
async fn accepts_keeping(endpoint: &Endpoint, scratch: &Path) -> Result<(), Fault> {
    if !endpoint.keeps_deleted() {
        return Ok(());
    }
    let (arguments, environment) = endpoint.try_keeping();
    match rsync(scratch, &arguments, &environment).await {
        Err(said) if said.contains("--backup") => Err(Fault::from_exit(None, &said)),
        // What else is wrong the probe finds by itself.
        _ => Ok(()),
    }
}

/// A name that no other entry has.
fn new_name() -> Option<RelPath> {
    // It is made here: it is one.
    RelPath::new(format!("{PREFIX}{:016x}", fastrand::u64(..)).as_bytes()).ok()
}

/// Whether `name` is one that a probe made: of a file, of its backup, or of rsync's own temporary file for it.
fn is_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let Some((digits, ending)) = rest.split_at_checked(16) else { return false };
    let is_temporary = |ending: &str| ending.len() == 6 && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (ending.is_empty() || ending == "~" || ending.strip_prefix('.').is_some_and(is_temporary))
}

/// Whether the remote lets us delete `path`, which exists nowhere: the dry runs of a deletion.
async fn may_delete(
    endpoint: &Endpoint,
    scratch: &Path,
    path: &RelPath,
    capabilities: &mut Capabilities,
) -> Result<(), Fault> {
    let order = Order { capabilities: *capabilities, ..Order::plain(scratch, Kind::Entry, vec![path.clone()]) };
    let (endpoint, quiet, mut ahead) = (&endpoint.bare(), |_| (), None);
    let (root, identity) = open(&order)?;
    let ruleset = ruleset(endpoint, &root).await?;
    let mut work = Work::new(endpoint, &order, (root, identity), ruleset, &mut ahead, &quiet);
    let list = null_separated([path]);
    let by_name = work.run(Form::ListEntryDeletions, || Feed::Whole(list.clone()), |_| ()).await.map(drop);
    let pattern = [b"/", path.as_bytes(), b"\0"].concat();
    let by_pattern = match by_name {
        Ok(()) => work.run(Form::ListMatching, || Feed::Whole(pattern.clone()), |_| ()).await.map(drop),
        Err(fault) => Err(fault),
    };
    *capabilities = work.capabilities;
    match work.complaints.failed.into_iter().next() {
        Some((_, fault)) if by_pattern.is_ok() => Err(fault),
        _ => by_pattern,
    }
}

/// Makes the remote equal to `scratch` at `paths`.
async fn push(
    endpoint: &Endpoint,
    scratch: &Path,
    paths: &[RelPath],
    capabilities: &mut Capabilities,
) -> Result<(), Fault> {
    let mut paths = paths.to_vec();
    paths.sort();
    let order = Order { capabilities: *capabilities, ..Order::plain(scratch, Kind::Entry, paths) };
    let outcome = carry_out(endpoint, order, &mut None, |_| ()).await;
    capabilities.take_over(outcome.lesson);
    match (outcome.fault, outcome.failed.into_iter().next()) {
        (Some(fault), _) | (None, Some((_, fault))) => Err(fault),
        (None, None) => Ok(()),
    }
}

/// Gives the directory `traces.kept` the modification time of the remote's root.
async fn keep_time(endpoint: &Endpoint, scratch: &Path, mode: &str, traces: &mut Traces) {
    let (arguments, environment) = endpoint.fetch_root_time(&traces.kept);
    if rsync(scratch, &arguments, &environment).await.is_err() {
        return;
    }
    if !matches!(endpoint.destination(), Destination::Daemon { .. }) {
        traces.time = RootTime::Restorable;
        return;
    }
    let (Some(name), Some(bits)) = (new_name(), mode_of(mode)) else { return };
    let directory = name.under(scratch);
    let made =
        fs::create_dir(&directory).and_then(|()| fs::set_permissions(&directory, fs::Permissions::from_mode(bits)));
    if made.is_ok() {
        traces.names.push(name.clone());
        traces.time = RootTime::Doubtful { directory: name, mode: mode.to_owned() };
    }
}

/// Whether the modification time of the remote's root can be restored, and nothing else changes by that.
///
/// A daemon with `incoming chmod` changes the mode of each directory that a run names, that of the root as well. Another
/// directory with the root's mode shows whether it does.
async fn is_restorable(endpoint: &Endpoint, scratch: &Path, traces: &mut Traces) -> bool {
    let (directory, mode) = match &traces.time {
        RootTime::Unknown => return false,
        RootTime::Restorable => return true,
        RootTime::Doubtful { directory, mode } => (directory, mode),
    };
    let (arguments, environment) = endpoint.push_directory(&directory.under(scratch));
    let mut is_kept = rsync(scratch, &arguments, &environment).await.is_ok();
    if is_kept {
        let (arguments, environment) = endpoint.listing(&directory.display().to_string());
        let listed = rsync(scratch, &arguments, &environment).await.map(|listed| Listing::read(&listed));
        is_kept = listed.is_ok_and(|listed| listed.probed_mode.as_ref() == Some(mode));
    }
    traces.time = if is_kept { RootTime::Restorable } else { RootTime::Unknown };
    is_kept
}

/// The mode that `drwxrwsr-x` stands for.
fn mode_of(text: &str) -> Option<u32> {
    let text = text.as_bytes().get(1..10)?;
    let plain = text.iter().enumerate().filter(|(_, letter)| !matches!(**letter, b'-' | b'S' | b'T'));
    let plain = plain.fold(0, |mode, (at, _)| mode | 0o400 >> at);
    let special = [(2, 0o4000), (5, 0o2000), (8, 0o1000)];
    let special = special.iter().filter(|(at, _)| matches!(text[*at], b's' | b'S' | b't' | b'T'));
    Some(special.fold(plain, |mode, (_, bit)| mode | bit))
}

/// The remote's root, and what probes have left in it.
#[derive(Debug, PartialEq)]
struct Listing {
    /// Of the root, such as `drwxr-xr-x`.
    mode: String,
    leftovers: Vec<RelPath>,
    /// Of the first directory that a probe made.
    probed_mode: Option<String>,
}

impl Listing {
    /// From lines such as `drwxr-xr-x          4,096 2026/11/21 05:41:00 NAME`.
    fn read(text: &str) -> Self {
        let mut listing = Self { mode: String::new(), leftovers: Vec::new(), probed_mode: None };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(mode), Some(name)) = (words.next(), words.nth(3)) else { continue };
            match name {
                "." => mode.clone_into(&mut listing.mode),
                name if is_ours(name) && mode.starts_with(['-', 'd']) => {
                    listing.leftovers.extend(RelPath::new(name.as_bytes()));
                    if mode.starts_with('d') {
                        listing.probed_mode.get_or_insert_with(|| mode.to_owned());
                    }
                }
                _ => {}
            }
        }
        listing
    }
}

/// Lists the remote's root; what rsync complained of, where that cannot be done.
async fn list(endpoint: &Endpoint) -> Result<Listing, String> {
    let (arguments, environment) = endpoint.listing(&format!("{PREFIX}*"));
    rsync(Path::new("/"), &arguments, &environment).await.map(|listed| Listing::read(&listed))
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
    rsync(scratch, &arguments, &environment).await.ok()?;
    let (arguments, environment) = endpoint.listing(&name);
    let listed = rsync(scratch, &arguments, &environment).await.ok()?;
    // `-rw-r--r--          1,024 2026/11/21 05:41:00 NAME`, in UTC as the environment asks.
    let line = listed.lines().find(|line| line.ends_with(&name))?;
    let mut words = line.split_whitespace().skip(2);
    let time = format!("{} {}", words.next()?, words.next()?);
    let there = jiff::civil::DateTime::strptime("%Y/%m/%d %H:%M:%S", time)
        .ok()?
        .to_zoned_datetime(jiff::tz::TimeZone::UTC)
        .ok()?;
    let here = before.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(there.timestamp().as_second() - i64::try_from(here).ok()?)
}

/// Runs rsync to its end in `directory`, and returns what it printed; what it complained of, where it failed.
async fn rsync(
    directory: &Path,
    arguments: &[OsString],
    environment: &[(&'static str, OsString)],
) -> Result<String, String> {
    let mut command = Command::new("rsync");
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value))).env("TZ", "UTC");
    // A group of its own: a terminal's Ctrl-C stops the probe, which then restores the remote.
    command.current_dir(directory).process_group(0).stdin(Stdio::null()).kill_on_drop(true);
    super::process::end_with_agent(&mut command);
    let output = command.output().await.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_probe_makes_are_deleted() {
        for name in ["", "~", ".Ab3dEf"] {
            assert!(is_ours(&format!("{PREFIX}0123456789abcdef{name}")), "{name}");
        }
        for name in
            ["", "0123", "0123456789abcdeg", "0123456789abcdef.old", "0123456789abcdef0", "0123456789abcde\u{e9}"]
        {
            assert!(!is_ours(&format!("{PREFIX}{name}")), "{name}");
        }
        assert!(!is_ours("notes"));
    }

    #[test]
    fn listings_are_read_as_rsync_writes_them() {
        let name = format!("{PREFIX}0123456789abcdef");
        let listed = Listing::read(&format!(
            "drwxrws--T          4,096 2026/11/28 14:05:46 .\n\
             -rw-r--r--              0 2026/11/28 14:05:46 {name}\n\
             drwx------          4,096 2026/11/28 14:05:46 {PREFIX}more\n\
             lrwxrwxrwx              3 2026/11/28 14:05:46 {name} -> /\n"
        ));
        assert_eq!(listed.mode, "drwxrws--T");
        assert_eq!(listed.leftovers, [RelPath::new(name.as_bytes()).unwrap()]);
        assert_eq!(listed.probed_mode, None);
    }

    #[test]
    fn a_mode_is_what_its_letters_say() {
        for (text, mode) in [("drwxr-xr-x", 0o755), ("drwxrws--T", 0o3770), ("d--S--S--t", 0o7001), ("d---------", 0)] {
            assert_eq!(mode_of(text), Some(mode), "{text}");
        }
        assert_eq!(mode_of("drwx"), None);
    }
}
