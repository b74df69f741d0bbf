//! lsyncd with its `default.rsync` layer: one `sync` for each remote.

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
        "`default.rsync`, `delay = 1`, `archive = true`, a password file, one process for each remote".to_owned()
    }

    fn start(&self, stand: &Stand) -> Running {
        let remotes = stand.urls().count();
        let mut text = format!("settings {{ nodaemon = true, maxProcesses = {} }}\n", remotes + 1);
        for url in stand.urls() {
            let _ = writeln!(
                text,
                "sync {{ default.rsync, source = {:?}, target = {url:?}, delay = 1,\n  \
                 rsync = {{ archive = true, password_file = {:?} }} }}",
                stand.source(),
                stand.password_file(),
            );
        }
        let config = stand.path("lsyncd.lua");
        fs::write(&config, text).expect("room for a file");
        Running::command(Command::new("lsyncd").arg(&config), stand)
    }
}
