//! What this machine has and lacks for a config.

use super::report::{Finding, Level, Report};
use crate::config::{self, Config, Destination};
use crate::human::count;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use rustix::thread::{CapabilitySet, capabilities};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tr::tr;

/// Counting directories is given up after so long.
const COUNT_FOR: Duration = Duration::from_secs(5);

/// Looks at all of it.
pub fn look(config: &Config, file: &Path, report: &mut Report) {
    if let Err(error) = config::instance_name(file) {
        report.add(Finding::new(Level::Error, tr!("the file's name"), error.to_string()));
    }
    look_at_rsync(report);
    let mut directories = 0;
    let mut all_counted = true;
    for root in &config.roots {
        let (found, complete) = look_at_root(&root.path, report);
        directories += found;
        all_counted &= complete;
        for remote in &root.remotes {
            if let Destination::Local { directory } = remote {
                look_at_local(&root.path, directory, report);
            }
        }
    }
    look_at_limits(directories, all_counted, config.roots.len(), report);
    if let Some(directory) = &config.agent.state_directory {
        look_at_state(directory, report);
    }
}

/// Whether other users can read a password in the config `file`, which is `bytes`.
pub fn look_at_secrets(file: &Path, bytes: &[u8], report: &mut Report) {
    let is_open = |metadata: std::fs::Metadata| metadata.permissions().mode() & 0o004 != 0;
    if !config::contains_password(bytes) || !std::fs::metadata(file).is_ok_and(is_open) {
        return;
    }
    let text = tr!("contains a password, and every user of this machine can read it");
    let next = match config::is_own_file(file) {
        true => format!("chmod o= {}", super::quoted(&file.to_string_lossy())),
        false => tr!("deny other users to read it, or move the password to a separate file"),
    };
    report.add(Finding::new(Level::Warning, tr!("the file"), text).next(next));
}

fn look_at_rsync(report: &mut Report) {
    let output = std::process::Command::new("rsync").arg("--version").output();
    let about = tr!("rsync here");
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let version = text.lines().next().and_then(|line| line.split_whitespace().nth(2)).unwrap_or("?").to_owned();
            let numbers: Vec<u32> = version.split('.').map_while(|part| part.parse().ok()).collect();
            // Below 3.1.3 rsync knows no nanoseconds: two changes within a second may look the same to it.
            let is_old = numbers.as_slice() < [3, 1, 3].as_slice();
            let finding = Finding::new(if is_old { Level::Warning } else { Level::Good }, about, version);
            report.add(if is_old {
                finding.next(tr!("install rsync 3.1.3 or newer on this machine"))
            } else {
                finding
            });
        }
        Err(error) => {
            let finding = Finding::new(Level::Error, about, tr!("cannot be run: {error}", error));
            report.add(finding.next(tr!("install the package rsync")));
        }
    }
}

/// How many directories a root has, and whether all were counted.
fn look_at_root(root: &Path, report: &mut Report) -> (u64, bool) {
    let about = root.display().to_string();
    let metadata = match std::fs::metadata(root) {
        Ok(metadata) => metadata,
        Err(error) => {
            let finding = Finding::new(Level::Error, about, tr!("cannot be watched: {error}", error));
            report.add(finding.next(tr!("make it, mount it, or correct <localpath watch=…>; the agent waits for it")));
            return (0, true);
        }
    };
    if !metadata.is_dir() {
        report
            .add(Finding::new(Level::Error, about, tr!("is not a directory")).next(tr!("correct <localpath watch=…>")));
        return (0, true);
    }
    // access(2) would not count the capability to read everything.
    if let Err(error) = std::fs::read_dir(root).and_then(|_| std::fs::metadata(root.join("."))) {
        let finding = Finding::new(Level::Error, about, tr!("may not be read: {error}", error));
        report.add(finding.next(tr!("give the user who runs the agent the right to read it")));
        return (0, true);
    }
    let (directories, complete, unreadable) = count_directories(root);
    let number = count(directories);
    let text = match complete {
        true => tr!("{number} directory" | "{number} directories" % directories, number = number),
        false => tr!("more than {number} directory" | "more than {number} directories" % directories, number = number),
    };
    report.add(Finding::new(Level::Good, about.clone(), text));
    if let Some(first) = unreadable {
        let finding =
            Finding::new(Level::Warning, about, tr!("{directory} may not be read", directory = first.display()));
        report.add(finding.next(tr!("what is in it is not mirrored: give the agent's user the right, or exclude it")));
    }
    (directories, complete)
}

/// The number of directories, the root included; whether that is all; the first that may not be read.
fn count_directories(root: &Path) -> (u64, bool, Option<PathBuf>) {
    let deadline = Instant::now() + COUNT_FOR;
    let (mut found, mut unreadable, mut rest) = (0, None, vec![root.to_path_buf()]);
    while let Some(directory) = rest.pop() {
        found += 1;
        if Instant::now() > deadline {
            return (found, false, unreadable);
        }
        match std::fs::read_dir(&directory) {
            Ok(entries) => {
                let below = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                rest.extend(below.map(|entry| entry.path()));
            }
            Err(_) => unreadable = unreadable.or(Some(directory)),
        }
    }
    (found, true, unreadable)
}

fn look_at_local(root: &Path, directory: &Path, report: &mut Report) {
    let about = directory.display().to_string();
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let (from, to) = (real(root), real(directory));
    if to.starts_with(&from) || from.starts_with(&to) {
        let text = tr!("and {root} hold one another: the copy would be copied into itself", root = root.display());
        report.add(Finding::new(Level::Error, about, text).next(tr!("take a directory outside of the watched one")));
        return;
    }
    if to.is_dir()
        && let Err(error) = may_write(&to)
    {
        let text = tr!("user {user} may not write to it: {error}", user = own_name(), error);
        let next =
            tr!("change its owner to that user; or, to keep owners in the copy, use the drop-in local-remote.conf");
        report.add(Finding::new(Level::Error, about, text).next(next));
    }
}

/// Whether this process can make entries in `directory`. access(2) counts no capability of a user who is not root, and
/// neither does faccessat2(2) where Linux is older than 5.8.
fn may_write(directory: &Path) -> std::io::Result<()> {
    let access = AccessFlags::W_OK | AccessFlags::X_OK;
    match faccessat(AT_FDCWD, directory, access, AtFlags::AT_EACCESS) {
        Err(Errno::EACCES) if capabilities(None)?.effective.contains(CapabilitySet::DAC_OVERRIDE) => Ok(()),
        allowed => Ok(allowed?),
    }
}

/// The user whom this process runs as.
fn own_name() -> String {
    let id = nix::unistd::geteuid();
    nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name)
}

fn look_at_limits(directories: u64, complete: bool, roots: usize, report: &mut Report) {
    let limit = |name: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?.trim().parse().ok()
    };
    let set = |name: &str, value: u64| {
        // Behind the package's own file, 60-sersync.conf, which one of the same name would replace.
        format!("echo 'fs.inotify.{name} = {value}' >>/etc/sysctl.d/61-sersync.conf && sysctl --system")
    };
    if let Some(watches) = limit("max_user_watches") {
        let about = "fs.inotify.max_user_watches";
        let text = tr!(
            "{watches}, for {number} directory here" | "{watches}, for {number} directories here" % directories,
            watches = count(watches),
            number = count(directories)
        );
        // Others of the same user watch, too, and trees grow.
        let wanted = directories.saturating_mul(2);
        let level = match () {
            () if directories > watches => Level::Error,
            () if wanted > watches || !complete => Level::Warning,
            () => Level::Good,
        };
        let finding = Finding::new(level, about, text);
        report.add(match level {
            Level::Good => finding,
            _ => finding.next(set("max_user_watches", wanted.max(1_048_576).next_power_of_two())),
        });
    }
    if let Some(instances) = limit("max_user_instances")
        && instances < roots as u64 + 8
    {
        let finding = Finding::new(Level::Warning, "fs.inotify.max_user_instances", count(instances));
        report.add(finding.next(set("max_user_instances", 1_024)));
    }
    if let Some(events) = limit("max_queued_events")
        && events < 16_384
    {
        let text = tr!("{events}: less than the kernel's default", events = count(events));
        let finding = Finding::new(Level::Warning, "fs.inotify.max_queued_events", text);
        report.add(finding.next(set("max_queued_events", 327_679)));
    }
}

fn look_at_state(directory: &Path, report: &mut Report) {
    let existing = directory.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    if let Err(error) = may_write(existing) {
        let text = tr!("the state directory cannot be made or written: {error}", error);
        let finding = Finding::new(Level::Warning, directory.display().to_string(), text);
        report.add(finding.next(tr!("check as the user who runs the agent, or leave <state directory> out")));
    }
}
