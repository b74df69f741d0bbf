//! `sersync-generator`: what systemd has to know of each instance before it starts it, read from `/etc/sersync/*.xml`.
//!
//! systemd.generator(7) runs it at boot and at each `daemon-reload`, before anything is mounted. For `NAME.xml` it writes
//! a drop-in of `sersync@NAME.service`: the mounts to wait for, the directories to leave writable, the credentials to
//! hand over, the bus name. A config that cannot be read gets none, and the agent says why when it starts. It never
//! fails, opens nothing but the configs, and looks at none of the paths that they name.

mod drop_in;

pub use drop_in::{Stores, drop_in};

use crate::config::{self, FILE_LIMIT};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

/// Where the system's configs are.
const CONFIGS: &str = "/etc/sersync";

/// The name of each drop-in: what an administrator writes comes behind it, and wins.
const DROP_IN: &str = "50-config.conf";

/// Runs it. systemd gives three directories; the first is for what neither goes before the administrator's own units nor
/// behind the vendor's.
pub fn main() -> ExitCode {
    let Some(normal) = std::env::args_os().nth(1) else {
        eprintln!("sersync-generator: systemd runs this, with the directories to write to: man systemd.generator");
        return ExitCode::FAILURE;
    };
    generate(Path::new(CONFIGS), &Stores::SYSTEM, Path::new(&normal));
    ExitCode::SUCCESS
}

/// Writes a drop-in below `normal` for each config in `configs`. What fails is told, and left out.
pub fn generate(configs: &Path, stores: &Stores<'_>, normal: &Path) {
    let directory = match open(configs, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(directory) => directory,
        // The package is installed, and nothing is mirrored yet.
        Err(nix::errno::Errno::ENOENT) => return,
        Err(error) => return eprintln!("sersync-generator: {}: {error}", configs.display()),
    };
    let entries = match fs::read_dir(configs) {
        Ok(entries) => entries,
        Err(error) => return eprintln!("sersync-generator: {}: {error}", configs.display()),
    };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".xml")).filter(|name| is_unit_part(name))
        else {
            continue;
        };
        if let Err(error) = write_one(&directory, &file, name, stores, normal) {
            eprintln!("sersync-generator: {}: {error}", configs.join(&file).display());
        }
    }
}

/// What systemd.unit(5) lets stand between `@` and `.service`, and what the agent takes for a name.
fn is_unit_part(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
    let fits = name.len() + "sersync@.service".len() < 256;
    fits && name.bytes().all(is_plain) && config::check_instance_name(name).is_ok()
}

fn write_one(configs: &OwnedFd, file: &OsStr, name: &str, stores: &Stores<'_>, normal: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    open_config(configs, file)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(io::Error::other("it has more than 4 MiB: it is probably no config"));
    }
    let needs = config::needs(&bytes, Path::new(file)).map_err(|_| io::Error::other("it is no config"))?;
    let text = drop_in(name, &needs, stores);
    if text.is_empty() {
        return Ok(());
    }
    let directory = normal.join(format!("sersync@{name}.service.d"));
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(DROP_IN), text)
}

/// A plain file on the file system of `/etc/sersync`: a link that leads to another one could wait for a mount that waits
/// for systemd, which waits for this process.
fn open_config(configs: &OwnedFd, file: &OsStr) -> io::Result<File> {
    // A pipe would wait for its writer.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let here = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_NO_XDEV);
    let opened = match openat2(configs.as_fd(), file, here) {
        // Linux before 5.6 does not have it.
        Err(nix::errno::Errno::ENOSYS) => openat(configs.as_fd(), file, flags | OFlag::O_NOFOLLOW, Mode::empty()),
        opened => opened,
    };
    let file = File::from(opened?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

#[cfg(test)]
mod tests;
