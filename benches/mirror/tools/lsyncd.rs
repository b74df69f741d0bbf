//! lsyncd with its `default.rsync` layer, one `sync` for each remote; by ssh with `default.rsyncssh`, which renames there.

use super::{Running, Tool, first_line};
use crate::stand::Stand;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

pub struct Lsyncd;

impl Tool for Lsyncd {
    fn name(&self) -> &str {
        "lsyncd"
    }

    fn version(&self) -> Result<String, String> {
        first_line("lsyncd", &["--version"]).map(|line| line.replace("Version: ", ""))
    }

    fn setup(&self) -> String {
        "`default.rsync`, `delay = 1`, `archive = true`, a password file, one process for each remote; \
         `default.rsyncssh` where the remote is reached by ssh"
            .to_owned()
    }

    fn start(&self, stand: &Stand) -> Running {
        // One for each remote, and one to spare; its layer for ssh insists on a single one.
        let processes = if stand.ssh().is_some() { 1 } else { stand.urls().count() + 1 };
        let mut text = format!("settings {{ nodaemon = true, maxProcesses = {processes} }}\n");
        if let Some((ssh, host)) = stand.ssh() {
            let _ = writeln!(
                text,
                "sync {{ default.rsyncssh, source = {:?}, host = {host:?}, targetdir = {:?}, delay = 1,\n  \
                 rsync = {{ archive = true }}, ssh = {{ binary = {ssh:?} }} }}",
                stand.source(),
                stand.copy(0),
            );
            return start(&text, stand);
        }
        for url in stand.urls() {
            let _ = writeln!(
                text,
                "sync {{ default.rsync, source = {:?}, target = {url:?}, delay = 1,\n  \
                 rsync = {{ archive = true, password_file = {:?} }} }}",
                stand.source(),
                stand.password_file(),
            );
        }
        start(&text, stand)
    }
}

fn start(config: &str, stand: &Stand) -> Running {
    let file = stand.path("lsyncd.lua");
    fs::write(&file, config).expect("room for a file");
    Running::command(Command::new("lsyncd").arg(&file), stand)
}
