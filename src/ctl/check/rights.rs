//! [`Rights`]: user, groups and capabilities of an instance's unit, for a check that root calls.
//!
//! Root's access does not show the access of the service, and a config can name programs (ssh's `ProxyCommand`)
//! and files (rsync's `--log-file`). So the part of a check that follows the config runs in a child process with the
//! rights of the unit. The child drops them itself: `systemd-run` would need a running systemd and its bus, which
//! containers, installers and a machine before its first boot do not have. The sandbox of the unit (`ProtectSystem=`
//! and others) is not applied.
//!
//! systemd is asked for the unit with its drop-ins. Where it does not answer, the rights are those of the unit as
//! packaged: user `sersync`, and `CAP_DAC_READ_SEARCH`.

use nix::unistd::{Gid, Group, User, getgrouplist};
use rustix::thread as kernel;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::collections::HashMap;
use std::ffi::CString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// The user of the unit as packaged.
const USER: &str = "sersync";

/// The `PATH` that systemd gives a service.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Properties of a unit, systemd.exec(5).
const PROPERTIES: &str = "LoadState,User,Group,SupplementaryGroups,AmbientCapabilities,CapabilityBoundingSet";

/// Variables of the caller that the child keeps: the language of its texts, and the credentials.
const KEPT: &[&str] = &["LANG", "LANGUAGE", "CREDENTIALS_DIRECTORY"];

/// User, groups and capabilities of a unit.
#[derive(Debug)]
pub struct Rights {
    /// Its user.
    pub user: User,
    group: Gid,
    groups: Vec<Gid>,
    ambient: CapabilitySet,
    bounding: CapabilitySet,
}

/// The unit's user or group does not exist on this machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl Rights {
    /// Those of the unit `sersync@INSTANCE.service`.
    pub fn of(instance: &str) -> Result<Self, Unknown> {
        Self::from_properties(&properties(instance).unwrap_or_default())
    }

    fn from_properties(unit: &HashMap<String, String>) -> Result<Self, Unknown> {
        let is_loaded = unit.get("LoadState").is_some_and(|state| state == "loaded");
        let property = |name: &str| unit.get(name).map(String::as_str).filter(|_| is_loaded).unwrap_or_default();
        let name = match property("User") {
            "" if is_loaded => "root",
            "" => USER,
            user => user,
        };
        let user = user(name).ok_or_else(|| Unknown(name.to_owned()))?;
        let group = match property("Group") {
            "" => user.gid,
            name => group(name).ok_or_else(|| Unknown(name.to_owned()))?,
        };
        let mut groups = CString::new(user.name.as_str())
            .ok()
            .and_then(|name| getgrouplist(&name, group).ok())
            .unwrap_or_else(|| vec![group]);
        for name in property("SupplementaryGroups").split_whitespace() {
            groups.push(self::group(name).ok_or_else(|| Unknown(name.to_owned()))?);
        }
        let (ambient, bounding) = match is_loaded {
            true => (capabilities(property("AmbientCapabilities")), capabilities(property("CapabilityBoundingSet"))),
            false => (CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_READ_SEARCH),
        };
        // A container may have taken some from root; a service in it has none of these either.
        let available = kernel::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
        Ok(Self { ambient: ambient & bounding & available, user, group, groups, bounding })
    }

    /// Has `command` run with them, with the environment and the working directory that systemd gives a service.
    pub fn give_to(&self, command: &mut Command) {
        command.current_dir("/").env_clear().env("PATH", PATH);
        let kept = |name: &str| KEPT.contains(&name) || name.starts_with("LC_");
        command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(kept)));
        command.env("USER", &self.user.name).env("LOGNAME", &self.user.name).env("HOME", &self.user.dir);
        // systemd leaves out one that refuses logins; ssh then takes /bin/sh.
        if !matches!(self.user.shell.file_name().and_then(|name| name.to_str()), Some("nologin" | "false")) {
            command.env("SHELL", &self.user.shell);
        }
        let raw_group = |group: &Gid| kernel::Gid::from_raw(group.as_raw());
        let dropped = Dropped {
            user: kernel::Uid::from_raw(self.user.uid.as_raw()),
            group: raw_group(&self.group),
            groups: self.groups.iter().map(raw_group).collect(),
            ambient: self.ambient,
            bounding: self.bounding,
        };
        // SAFETY: `Dropped::apply` runs between fork and exec, where only async-signal-safe calls are allowed. It makes
        // system calls for its own thread, without the C library's handshake with other threads, and neither allocates
        // nor locks.
        unsafe {
            std::os::unix::process::CommandExt::pre_exec(command, move || dropped.apply());
        }
    }
}

/// The same as numbers.
#[derive(Debug)]
struct Dropped {
    user: kernel::Uid,
    group: kernel::Gid,
    groups: Vec<kernel::Gid>,
    ambient: CapabilitySet,
    bounding: CapabilitySet,
}

impl Dropped {
    /// Gives up all other rights, for this thread and the program that it executes next.
    fn apply(&self) -> io::Result<()> {
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            // The kernel's last one is followed by an error; one that is not given is not there to drop.
            if !self.bounding.contains(capability) && kernel::capability_is_in_bounding_set(capability).unwrap_or(false)
            {
                kernel::remove_capability_from_bounding_set(capability)?;
            }
        }
        kernel::set_keep_capabilities(true)?;
        kernel::set_thread_groups(&self.groups)?;
        kernel::set_thread_res_gid(self.group, self.group, self.group)?;
        kernel::set_thread_res_uid(self.user, self.user, self.user)?;
        let ambient = self.ambient;
        kernel::set_capabilities(
            None,
            CapabilitySets { effective: ambient, permitted: ambient, inheritable: ambient },
        )?;
        for bit in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << bit);
            if ambient.contains(capability) {
                kernel::configure_capability_in_ambient_set(capability, true)?;
            }
        }
        kernel::set_no_new_privs(true)?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        Ok(())
    }
}

/// The unit's properties from systemd, if systemd runs here.
fn properties(instance: &str) -> Option<HashMap<String, String>> {
    // Without it there is only a complaint to wait for.
    if !Path::new("/run/systemd/system").exists() {
        return None;
    }
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["show", "--property", PROPERTIES, "--"]).arg(format!("sersync@{instance}.service"));
    let output = systemctl.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| read(&String::from_utf8_lossy(&output.stdout)))
}

fn read(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// systemd takes a number for a user, too.
fn user(name: &str) -> Option<User> {
    let number = || name.parse().ok().and_then(|id| User::from_uid(nix::unistd::Uid::from_raw(id)).ok().flatten());
    User::from_name(name).ok().flatten().or_else(number)
}

fn group(name: &str) -> Option<Gid> {
    let number = || name.parse().ok().map(Gid::from_raw);
    Group::from_name(name).ok().flatten().map(|group| group.gid).or_else(number)
}

/// Those of `cap_dac_read_search cap_net_raw`.
fn capabilities(words: &str) -> CapabilitySet {
    let named = |word: &str| CapabilitySet::from_name(&word.to_ascii_uppercase().replacen("CAP_", "", 1));
    words.split_whitespace().filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_properties_are_read_as_systemctl_prints_them() {
        let unit = |user: &str| {
            format!(
                "User={user}\nGroup=\nSupplementaryGroups=0\nAmbientCapabilities=cap_chown\n\
                 CapabilityBoundingSet=cap_chown cap_dac_read_search\nLoadState=loaded\n"
            )
        };
        let rights = Rights::from_properties(&read(&unit("root"))).unwrap();
        assert_eq!((rights.user.name.as_str(), rights.group), ("root", rights.user.gid));
        assert!(rights.groups.contains(&Gid::from_raw(0)));
        assert_eq!(rights.bounding, CapabilitySet::CHOWN | CapabilitySet::DAC_READ_SEARCH);
        assert!((rights.ambient - CapabilitySet::CHOWN).is_empty());
        // systemd's default.
        assert_eq!(Rights::from_properties(&read(&unit(""))).unwrap().user.uid.as_raw(), 0);
        let unknown = Rights::from_properties(&read(&unit("no-such-user"))).map(drop);
        assert_eq!(unknown, Err(Unknown("no-such-user".to_owned())));
    }

    #[test]
    fn a_unit_that_is_not_installed_has_the_rights_of_the_packaged_one() {
        let missing = read("User=\nCapabilityBoundingSet=cap_chown\nLoadState=not-found\n");
        match Rights::from_properties(&missing) {
            Ok(rights) => {
                assert_eq!(rights.user.name, USER);
                assert_eq!(rights.bounding, CapabilitySet::DAC_READ_SEARCH);
            }
            Err(unknown) => assert_eq!(unknown, Unknown(USER.to_owned())),
        }
    }
}
