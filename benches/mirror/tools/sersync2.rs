//! sersync 2.5.4, whose binary `SERSYNC2_BINARY` names: it is in no distribution.
//!
//! It writes to `/proc/sys/fs/inotify` when it starts. That would last, and be the others' gain: it gets a mount
//! namespace of its own in which `/proc/sys` is read-only. So it takes root, or a kernel that lets users have namespaces.

use super::{Running, Tool};
use crate::stand::Stand;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub struct Sersync2;

const VARIABLE: &str = "SERSYNC2_BINARY";

/// `$0` is the binary, `$1` its config.
const ALONE: &str =
    r#"mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$0" -n 10 -o "$1""#;

fn binary() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(|value: OsString| value.into())
}

impl Tool for Sersync2 {
    fn name(&self) -> &str {
        "sersync2"
    }

    fn version(&self) -> Result<String, String> {
        let binary = binary().ok_or_else(|| format!("{VARIABLE} names no binary"))?;
        fs::metadata(&binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        let allowed = Command::new("unshare").args(["--mount", "--map-root-user", "true"]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            return Err("it needs a mount namespace, and none may be made here".to_owned());
        }
        // It does not say; it is the last that there was.
        Ok("2.5.4".to_owned())
    }

    fn setup(&self) -> String {
        "`sersync2 -n 10`, the events of the file that comes with it, `params=\"-artuz\"`, a password file".to_owned()
    }

    fn start(&self, stand: &Stand) -> Running {
        let config = stand.path("confxml.xml");
        fs::write(&config, config_text(stand)).expect("room for a file");
        let binary = binary().expect("its version was found");
        let mut unshare = Command::new("unshare");
        unshare.arg("--mount");
        if !crate::support::is_root() {
            unshare.arg("--map-root-user");
        }
        unshare.args(["sh", "-c", ALONE]).arg(binary).arg(config).current_dir(stand.path(""));
        Running::command(&mut unshare, stand)
    }
}

fn config_text(stand: &Stand) -> String {
    let switch = |name: &str, on: bool| format!("    <{name} start=\"{on}\"/>\n");
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<head version=\"2.5\">\n");
    text.push_str("  <host hostip=\"localhost\" port=\"8008\"/>\n  <debug start=\"false\"/>\n");
    text.push_str("  <fileSystem xfs=\"false\"/>\n  <filter start=\"false\"></filter>\n  <inotify>\n");
    for event in ["delete", "createFolder", "closeWrite", "moveFrom", "moveTo"] {
        text.push_str(&switch(event, true));
    }
    for event in ["createFile", "attrib", "modify"] {
        text.push_str(&switch(event, false));
    }
    let _ = writeln!(text, "  </inotify>\n  <sersync>\n    <localpath watch=\"{}\">", stand.source().display());
    for module in stand.modules() {
        let _ = writeln!(text, "      <remote ip=\"{}\" name=\"{module}\"/>", stand.socket().ip());
    }
    let _ = write!(
        text,
        "    </localpath>\n    <rsync>\n      <commonParams params=\"-artuz\"/>\n      \
         <auth start=\"true\" users=\"{}\" passwordfile=\"{}\"/>\n      \
         <userDefinedPort start=\"true\" port=\"{}\"/>\n      <timeout start=\"false\" time=\"100\"/>\n      \
         <ssh start=\"false\"/>\n    </rsync>\n    <failLog path=\"{}\" timeToExecute=\"60\"/>\n    \
         <crontab start=\"false\" schedule=\"600\"></crontab>\n    <plugin start=\"false\" name=\"command\"/>\n  \
         </sersync>\n</head>\n",
        stand.user(),
        stand.password_file().display(),
        stand.socket().port(),
        stand.path("rsync_fail_log.sh").display(),
    );
    text
}
