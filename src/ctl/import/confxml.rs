//! [`Sketch`]: what a foreign set-up asks for, and its text as a confxml.xml.
//!
//! The text holds what was asked for and the defaults that a reader would look for, and no more; the config's own
//! reader must take it.

use crate::config::{Deletions, Destination, EventSwitches};
use std::fmt::Write;
use std::path::PathBuf;

/// A config to be: one watched directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Sketch {
    /// Absolute.
    pub watch: PathBuf,
    /// Where it is mirrored to.
    pub remotes: Vec<Destination>,
    /// Which changes count.
    pub events: EventSwitches,
    /// Which runs delete.
    pub deletions: Deletions,
    /// rsync's exclude patterns.
    pub patterns: Vec<String>,
    /// Files of such patterns.
    pub pattern_files: Vec<String>,
    /// Options for every rsync.
    pub params: Vec<String>,
    /// The rsyncd password's file.
    pub password_file: Option<String>,
    /// rsync's timeout, in seconds.
    pub timeout: Option<u64>,
    /// How ssh is called.
    pub ssh: Ssh,
    /// How long the first change waits for others, in milliseconds.
    pub gather: Option<u64>,
    /// At most so many runs to one remote.
    pub streams: Option<u64>,
    /// At most so many runs in all.
    pub workers: Option<u64>,
    /// No full sync at start.
    pub never_at_start: bool,
    /// rsync's `-u`.
    pub keep_newer: bool,
    /// The plugin `command` in rsync's place.
    pub command: Option<Command>,
}

/// How ssh is called.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ssh {
    /// `-p`.
    pub port: Option<u16>,
    /// `-i`.
    pub identity: Option<String>,
    /// More words.
    pub options: Vec<String>,
}

impl Ssh {
    /// Adds the words of another command line of ssh, whose port and key count.
    pub fn take_in(&mut self, other: Self) {
        self.port = other.port.or(self.port);
        self.identity = other.identity.or(self.identity.take());
        self.options.extend(other.options);
    }
}

/// The plugin `command`.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// What stands before the path.
    pub prefix: String,
    /// What stands behind it.
    pub suffix: String,
    /// Started once for many paths.
    pub batch: bool,
    /// Only for absolute paths that this regular expression matches.
    pub include: Option<String>,
}

impl Sketch {
    /// Mirrors `watch` exactly, to nowhere yet.
    pub fn new(watch: PathBuf) -> Self {
        Self {
            watch,
            remotes: Vec::new(),
            events: EventSwitches::EXACT,
            deletions: Deletions::Always,
            patterns: Vec::new(),
            pattern_files: Vec::new(),
            params: Vec::new(),
            password_file: None,
            timeout: None,
            ssh: Ssh::default(),
            gather: None,
            streams: None,
            workers: None,
            never_at_start: false,
            keep_newer: false,
            command: None,
        }
    }

    /// Takes the remotes of `other`, if one config can say what both do.
    pub fn merge(&mut self, other: &Self) -> bool {
        let alike = Self { remotes: self.remotes.clone(), ..other.clone() } == *self;
        let mut ways = self.remotes.iter().chain(&other.remotes).filter_map(way);
        let first = ways.next();
        if !alike || ways.any(|way| Some(way) != first) {
            return false;
        }
        for remote in &other.remotes {
            if !self.remotes.contains(remote) {
                self.remotes.push(remote.clone());
            }
        }
        true
    }

    /// The file's text; `from` is named in a comment.
    pub fn text(&self, from: &str) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        // A comment may not hold two hyphens.
        line(&mut text, 0, &format!("<!-- From {}. -->", from.replace("--", "- -")));
        line(&mut text, 0, "<head version=\"2.5\">");
        self.filter(&mut text);
        self.inotify(&mut text);
        line(&mut text, 1, "<sersync>");
        self.localpath(&mut text);
        if self.command.is_none() {
            self.rsync(&mut text);
        } else {
            line(&mut text, 2, "<plugin start=\"true\" name=\"command\" alone=\"true\"/>");
        }
        line(&mut text, 1, "</sersync>");
        if let Some(command) = &self.command {
            plugin(&mut text, command);
        }
        self.agent(&mut text);
        line(&mut text, 0, "</head>");
        text
    }

    fn filter(&self, text: &mut String) {
        if self.patterns.is_empty() && self.pattern_files.is_empty() {
            return;
        }
        line(text, 1, "<filter start=\"true\">");
        for pattern in &self.patterns {
            line(text, 2, &format!("<exclude pattern=\"{}\"/>", escaped(pattern)));
        }
        for file in &self.pattern_files {
            line(text, 2, &format!("<exclude file=\"{}\"/>", escaped(file)));
        }
        line(text, 1, "</filter>");
    }

    fn inotify(&self, text: &mut String) {
        let EventSwitches { delete, create_folder, create_file, close_write, move_from, move_to, attrib, modify } =
            self.events;
        let when = match self.deletions {
            Deletions::Always => "",
            Deletions::FullSyncs => " when=\"startup\"",
            Deletions::Live => " when=\"running\"",
        };
        line(text, 1, "<inotify>");
        line(text, 2, &format!("<delete start=\"{delete}\"{when}/>"));
        let switches = [
            ("createFolder", create_folder),
            ("createFile", create_file),
            ("closeWrite", close_write),
            ("moveFrom", move_from),
            ("moveTo", move_to),
            ("attrib", attrib),
            ("modify", modify),
        ];
        for (name, is_on) in switches {
            line(text, 2, &format!("<{name} start=\"{is_on}\"/>"));
        }
        line(text, 1, "</inotify>");
    }

    fn localpath(&self, text: &mut String) {
        let watch = escaped(&self.watch.to_string_lossy());
        if self.remotes.is_empty() {
            return line(text, 2, &format!("<localpath watch=\"{watch}\"/>"));
        }
        line(text, 2, &format!("<localpath watch=\"{watch}\">"));
        let login = |user: &Option<String>, host: &str| {
            let user = user.as_ref().map_or(String::new(), |user| format!("{user}@"));
            escaped(&format!("{user}{}", if host.contains(':') { format!("[{host}]") } else { host.to_owned() }))
        };
        for remote in &self.remotes {
            let element = match remote {
                Destination::Daemon { user, host, module, .. } => {
                    format!("<remote ip=\"{}\" name=\"{}\"/>", login(user, host), escaped(module))
                }
                Destination::Ssh { user, host, directory, .. } => {
                    format!("<remote ip=\"{}\" name=\"{}\"/>", login(user, host), escaped(directory))
                }
                Destination::Local { directory } => {
                    format!("<remote directory=\"{}\"/>", escaped(&directory.to_string_lossy()))
                }
            };
            line(text, 3, &element);
        }
        line(text, 2, "</localpath>");
    }

    fn rsync(&self, text: &mut String) {
        line(text, 2, "<rsync>");
        let words: Vec<String> = self.params.iter().map(|word| crate::ctl::next::quoted(word)).collect();
        line(text, 3, &format!("<commonParams params=\"{}\"/>", escaped(&words.join(" "))));
        let has_daemon = self.remotes.iter().any(|remote| matches!(remote, Destination::Daemon { .. }));
        // Under ssh its user would be taken for the login.
        if let Some(file) = self.password_file.as_ref().filter(|_| has_daemon) {
            let user = self.remotes.iter().find_map(|remote| match remote {
                Destination::Daemon { user, .. } => user.as_deref(),
                _ => None,
            });
            // Without a name rsync takes that of whoever runs it.
            let (user, file) = (escaped(user.unwrap_or("root")), escaped(file));
            line(text, 3, &format!("<auth start=\"true\" users=\"{user}\" passwordfile=\"{file}\"/>"));
        }
        let daemon_port = self.remotes.iter().find_map(|remote| match remote {
            Destination::Daemon { port, .. } => *port,
            _ => None,
        });
        if let Some(port) = daemon_port {
            line(text, 3, &format!("<userDefinedPort start=\"true\" port=\"{port}\"/>"));
        }
        if let Some(time) = self.timeout {
            line(text, 3, &format!("<timeout start=\"true\" time=\"{time}\"/>"));
        }
        if self.remotes.iter().any(|remote| matches!(remote, Destination::Ssh { .. })) {
            let mut element = "<ssh start=\"true\"".to_owned();
            let Ssh { port, identity, options } = &self.ssh;
            let port = port.map(|port| port.to_string());
            let options = options.iter().map(|word| crate::ctl::next::quoted(word)).collect::<Vec<_>>().join(" ");
            let options = (!options.is_empty()).then_some(options);
            for (name, value) in [("port", &port), ("identity", identity), ("options", &options)] {
                if let Some(value) = value {
                    // Writing to a string cannot fail.
                    let _ = write!(element, " {name}=\"{}\"", escaped(value));
                }
            }
            line(text, 3, &format!("{element}/>"));
        }
        line(text, 2, "</rsync>");
    }

    fn agent(&self, text: &mut String) {
        let number = |name: &str, attribute: &str, value: Option<u64>| {
            value.map(|value| format!("<{name} {attribute}=\"{value}\"/>"))
        };
        let elements = [
            number("gather", "milliseconds", self.gather),
            number("streams", "perRemote", self.streams),
            number("workers", "max", self.workers),
            self.never_at_start.then(|| "<fullSync atStart=\"never\"/>".to_owned()),
            self.keep_newer.then(|| "<newerOnRemote keep=\"true\"/>".to_owned()),
        ];
        let elements: Vec<String> = elements.into_iter().flatten().collect();
        if !elements.is_empty() {
            line(text, 1, "<agent>");
            elements.iter().for_each(|element| line(text, 2, element));
            line(text, 1, "</agent>");
        }
    }
}

/// What all remotes of a config that are not directories of this machine have in common.
fn way(remote: &Destination) -> Option<(bool, Option<u16>)> {
    match remote {
        Destination::Daemon { port, .. } => Some((false, *port)),
        Destination::Ssh { port, .. } => Some((true, *port)),
        Destination::Local { .. } => None,
    }
}

fn plugin(text: &mut String, command: &Command) {
    line(text, 1, "<plugin name=\"command\" concurrency=\"1\">");
    let suffix = match command.suffix.as_str() {
        "" => String::new(),
        suffix => format!(" suffix=\"{}\"", escaped(suffix)),
    };
    let batch = if command.batch { " batch=\"true\"" } else { "" };
    line(text, 2, &format!("<param prefix=\"{}\"{suffix}{batch}/>", escaped(&command.prefix)));
    if let Some(expression) = &command.include {
        line(text, 2, &format!("<filter start=\"true\"><include expression=\"{}\"/></filter>", escaped(expression)));
    }
    line(text, 1, "</plugin>");
}

fn line(text: &mut String, depth: usize, element: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}{element}", "    ".repeat(depth));
}

/// A value between double quotes.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // As they stand they would be read as a blank.
            '\t' | '\n' | '\r' => escaped.push_str(&format!("&#{};", u32::from(character))),
            other => escaped.push(other),
        }
    }
    escaped
}
