//! Writes the text of a confxml.xml, as users have it, with what a test wants to be different.

use super::rsyncd::{Daemon, PASSWORD, USER};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A config file to be.
#[derive(Debug, Clone)]
pub struct Confxml {
    root: PathBuf,
    remotes: Vec<(String, String)>,
    directories: Vec<PathBuf>,
    port: Option<u16>,
    params: String,
    excludes: Vec<String>,
    attrib: bool,
    debug: bool,
    delete: bool,
    delete_limit: Option<u32>,
    ssh: bool,
    timeout: Option<u32>,
    password_file: Option<PathBuf>,
    rsync: String,
    sersync: String,
    agent: String,
    plugins: String,
    started: Vec<String>,
}

impl Confxml {
    /// Watches `root`, with the switches of the shipped file.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            remotes: Vec::new(),
            directories: Vec::new(),
            port: None,
            params: "-artuz".to_owned(),
            excludes: Vec::new(),
            attrib: false,
            debug: false,
            delete: true,
            delete_limit: None,
            ssh: false,
            timeout: None,
            password_file: None,
            rsync: String::new(),
            sersync: String::new(),
            agent: String::new(),
            plugins: String::new(),
            started: Vec::new(),
        }
    }

    /// One more remote: a module of `daemon`. All daemons of one file have the same port.
    pub fn daemon(self, daemon: &Daemon, module: &str) -> Self {
        self.address(daemon.socket(), module)
    }

    /// One more remote: a module of the daemon that is reached at `address`.
    pub fn address(mut self, address: SocketAddr, module: &str) -> Self {
        assert!(self.port.is_none_or(|port| port == address.port()), "the file has room for one port");
        self.port = Some(address.port());
        self.remotes.push((address.ip().to_string(), module.to_owned()));
        self
    }

    /// Seconds after which a run is given up in which nothing comes.
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.timeout = Some(seconds);
        self
    }

    /// One more remote: a directory of `host`, by ssh.
    pub fn ssh(mut self, host: &str, directory: &Path) -> Self {
        self.ssh = true;
        self.remotes.push((host.to_owned(), directory.display().to_string()));
        self
    }

    /// One more remote: a directory of this machine.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directories.push(directory.to_owned());
        self
    }

    /// Further elements of `<rsync>`.
    pub fn rsync(mut self, elements: &str) -> Self {
        elements.clone_into(&mut self.rsync);
        self
    }

    pub fn params(mut self, params: &str) -> Self {
        params.clone_into(&mut self.params);
        self
    }

    pub fn exclude(mut self, expression: &str) -> Self {
        self.excludes.push(expression.to_owned());
        self
    }

    pub fn attrib(mut self) -> Self {
        self.attrib = true;
        self
    }

    pub fn debug(mut self) -> Self {
        self.debug = true;
        self
    }

    pub fn no_delete(mut self) -> Self {
        self.delete = false;
        self
    }

    /// Maximum number of paths that are removed live within a minute.
    pub fn delete_limit(mut self, limit: u32) -> Self {
        self.delete_limit = Some(limit);
        self
    }

    /// Where the password is read from; without this, [`Confxml::write`] makes a file that holds [`PASSWORD`].
    pub fn password_file(mut self, path: &Path) -> Self {
        self.password_file = Some(path.to_owned());
        self
    }

    /// What else stands in the element `<sersync>`.
    pub fn sersync(mut self, elements: &str) -> Self {
        elements.clone_into(&mut self.sersync);
        self
    }

    /// What stands in the element `<agent>`.
    pub fn agent(mut self, elements: &str) -> Self {
        elements.clone_into(&mut self.agent);
        self
    }

    /// One more `<plugin>` element of `<head>`, started as well.
    pub fn plugin(mut self, name: &str, attributes: &str, inner: &str) -> Self {
        let _ = writeln!(self.plugins, "    <plugin name=\"{name}\" {attributes}>{inner}</plugin>");
        self.started.push(name.to_owned());
        self
    }

    /// Writes the file, and beside it the password file that it names.
    pub fn write(&self, file: &Path) -> PathBuf {
        let password_file = self.password_file.clone().unwrap_or_else(|| {
            let path = file.with_extension("pass");
            fs::write(&path, format!("{PASSWORD}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        });
        fs::write(file, self.text(&password_file)).unwrap();
        file.to_owned()
    }

    /// The file's text.
    pub fn text(&self, password_file: &Path) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>\n<head version=\"2.5\">\n");
        let _ = writeln!(
            text,
            "    <host hostip=\"localhost\" port=\"8008\"></host>\n    <debug start=\"{}\"/>",
            self.debug
        );
        let _ = writeln!(text, "    <filter start=\"{}\">", !self.excludes.is_empty());
        for expression in &self.excludes {
            let _ = writeln!(text, "        <exclude expression=\"{}\"></exclude>", escape(expression));
        }
        let _ = writeln!(text, "    </filter>\n    <inotify>");
        let switches = [
            ("delete", self.delete),
            ("createFolder", true),
            ("createFile", false),
            ("closeWrite", true),
            ("moveFrom", true),
            ("moveTo", true),
            ("attrib", self.attrib),
            ("modify", false),
        ];
        for (switch, start) in switches {
            let limit = self.delete_limit.filter(|_| switch == "delete");
            let limit = limit.map_or(String::new(), |limit| format!(" limit=\"{limit}\""));
            let _ = writeln!(text, "        <{switch} start=\"{start}\"{limit}/>");
        }
        let root = escape(&self.root.display().to_string());
        let _ = writeln!(text, "    </inotify>\n    <sersync>\n        <localpath watch=\"{root}\">");
        for (host, module) in &self.remotes {
            let _ = writeln!(text, "            <remote ip=\"{host}\" name=\"{module}\"/>");
        }
        for directory in &self.directories {
            let directory = escape(&directory.display().to_string());
            let _ = writeln!(text, "            <remote directory=\"{directory}\"/>");
        }
        let _ = writeln!(text, "        </localpath>\n        <rsync>");
        let _ = writeln!(text, "            <commonParams params=\"{}\"/>", escape(&self.params));
        let password_file = escape(&password_file.display().to_string());
        let auth = !self.ssh;
        let _ =
            writeln!(text, "            <auth start=\"{auth}\" users=\"{USER}\" passwordfile=\"{password_file}\"/>");
        if let Some(port) = self.port {
            let _ = writeln!(text, "            <userDefinedPort start=\"true\" port=\"{port}\"/>");
        }
        if let Some(seconds) = self.timeout {
            let _ = writeln!(text, "            <timeout start=\"true\" time=\"{seconds}\"/>");
        }
        let _ = writeln!(text, "            <ssh start=\"{}\"/>{}\n        </rsync>", self.ssh, self.rsync);
        for name in &self.started {
            let _ = writeln!(text, "        <plugin start=\"true\" name=\"{name}\"/>");
        }
        let _ = writeln!(text, "        {}\n    </sersync>", self.sersync);
        text.push_str(&self.plugins);
        if !self.agent.is_empty() {
            let _ = writeln!(text, "    <agent>{}</agent>", self.agent);
        }
        text.push_str("</head>\n");
        text
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
