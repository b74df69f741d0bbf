//! The `<plugin>` elements: what is to be told of each synced path, and how.
//!
//! A plugin that is written incompletely is left out with a warning: it never keeps the mirror from running. What an
//! `http` target is told is read in `web`, how a command is written in `words`.

use super::command_words::{self, CommandLine};
use super::mistake::nearest;
use super::reading::Reading;
use super::tree::Element;
use super::{HttpPlugin, Secret, web};
use crate::filter::Filter;
use std::path::PathBuf;
use std::time::Duration;

/// All `<plugin>` elements of one config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plugins {
    /// `<sersync><plugin start="true" name="…">`: run after each synced path, in the file's order.
    pub started: Vec<PluginName>,
    /// `<plugin name="command">`.
    pub command: Option<CommandPlugin>,
    /// `<plugin name="socket">`, one for each `<deshost>`.
    pub socket: Vec<SocketPlugin>,
    /// `<plugin name="http">`, one for each `<deshost>`.
    pub http: Vec<HttpPlugin>,
    /// `<plugin name="refreshCDN">`, one for each `<localpath>`.
    pub refresh_cdn: Vec<RefreshCdnPlugin>,
}

/// The four plugins there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginName {
    /// Runs a command with the path.
    Command,
    /// Sends the path over TCP.
    Socket,
    /// Posts the path as a form.
    Http,
    /// Asks a content delivery network to fetch the path anew.
    RefreshCdn,
}

impl PluginName {
    /// Every plugin, with its name in the config file.
    pub const ALL: [(&'static str, Self); 4] =
        [("command", Self::Command), ("socket", Self::Socket), ("http", Self::Http), ("refreshCDN", Self::RefreshCdn)];
}

impl std::fmt::Display for PluginName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = Self::ALL.iter().find(|(_, plugin)| plugin == self);
        f.write_str(known.map_or("", |(name, _)| name))
    }
}

/// How a plugin is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// A call that takes longer has failed.
    pub timeout: Duration,
    /// At most so many at once.
    pub concurrency: usize,
    /// So often a path is tried again after a failure of its own.
    pub retries: u32,
}

impl Default for Calls {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), concurrency: 4, retries: 5 }
    }
}

/// Runs `PREFIX PATH SUFFIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPlugin {
    /// The words before the path and behind it.
    pub line: CommandLine,
    /// A command that fails is no failure of the path.
    pub ignore_error: bool,
    /// `<filter start="true">`: only absolute paths that one of these regular expressions matches.
    pub include: Option<Vec<String>>,
    /// It keeps the agent's capabilities, under the unit `CAP_DAC_READ_SEARCH`.
    pub keep_capabilities: bool,
    /// Started once for many paths, which it reads from its standard input with a NUL byte behind each.
    pub batch: bool,
    /// How it is called.
    pub calls: Calls,
}

/// Sends each path below `watch` to one TCP server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlugin {
    /// Absolute.
    pub watch: PathBuf,
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How it is called.
    pub calls: Calls,
}

/// Asks a ChinaCache server to fetch what lies below `watch` anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshCdnPlugin {
    /// Absolute.
    pub watch: PathBuf,
    /// The server, `cdninfo domainname`.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The account.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// `sendurl base`.
    pub base: String,
    /// `<regexurl regex="true">`: searched in the absolute path; group 1 and what follows the match make the URL.
    pub pattern: Option<String>,
    /// How it is called.
    pub calls: Calls,
}

impl Plugins {
    /// Whether there is anything to call for `name`.
    pub fn has(&self, name: PluginName) -> bool {
        match name {
            PluginName::Command => self.command.is_some(),
            PluginName::Socket => !self.socket.is_empty(),
            PluginName::Http => !self.http.is_empty(),
            PluginName::RefreshCdn => !self.refresh_cdn.is_empty(),
        }
    }
}

/// Reads the plugins of `head` and of the `<sersync>` in it.
pub(super) fn read(reading: &mut Reading<'_>, head: Option<&Element>, sersync: Option<&Element>) -> Plugins {
    let mut plugins = Plugins::default();
    for element in head.into_iter().flat_map(|head| head.children("plugin")) {
        match name_of(reading, element) {
            Some(PluginName::Command) if plugins.command.is_some() => {
                reading.warn(element.tag.clone(), "a second command plugin is left out", "keep one of them");
            }
            Some(PluginName::Command) => plugins.command = command(reading, element),
            Some(PluginName::Socket) => plugins.socket.extend(socket(reading, element)),
            Some(PluginName::Http) => plugins.http.extend(http(reading, element)),
            Some(PluginName::RefreshCdn) => plugins.refresh_cdn.extend(refresh_cdn(reading, element)),
            None => {}
        }
    }
    for element in sersync.into_iter().flat_map(|sersync| sersync.children("plugin")) {
        let started = reading.flag(Some(element), "start", false);
        let Some(name) = name_of(reading, element) else { continue };
        if started {
            if !plugins.has(name) {
                let message = format!("the plugin {name} is started, but nothing says how it works");
                let help = format!("write <plugin name=\"{name}\">…</plugin> in <head>: docs/plugins.md");
                reading.warn(element.tag.clone(), message, help);
            } else if !plugins.started.contains(&name) {
                plugins.started.push(name);
            }
        }
    }
    plugins
}

/// `<sersync><plugin start="true" name="…" alone="true"/>`: the plugin that takes rsync's place.
pub(super) fn alone(reading: &mut Reading<'_>, sersync: Option<&Element>) -> Option<PluginName> {
    let mut found = None;
    for element in sersync.into_iter().flat_map(|sersync| sersync.children("plugin")) {
        let is_on = |name| element.attribute(name).is_some_and(|a| a.value.trim().eq_ignore_ascii_case("true"));
        // A wrong `start` and a wrong `name` are told where all plugins are read.
        if !(reading.flag(Some(element), "alone", false) && is_on("start")) {
            continue;
        }
        let written = element.attribute("name").map_or("", |name| name.value.trim());
        let Some((_, name)) = PluginName::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(written)) else {
            continue;
        };
        match found {
            None => found = Some(*name),
            Some(_) => {
                reading.error(element.tag.clone(), "a second plugin is to run alone", "keep `alone` at one of them");
            }
        }
    }
    found
}

fn name_of(reading: &mut Reading<'_>, element: &Element) -> Option<PluginName> {
    let Some(attribute) = element.attribute("name") else {
        reading.warn(element.name_span(), "<plugin> lacks `name` and is left out", one_of_them());
        return None;
    };
    let written = attribute.value.trim();
    let found = PluginName::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(written));
    if found.is_none() {
        let help = match nearest(written, PluginName::ALL.iter().map(|(name, _)| *name)) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => one_of_them(),
        };
        reading.warn(attribute.value_span.clone(), format!("there is no plugin \"{written}\": it is left out"), help);
    }
    found.map(|(_, name)| *name)
}

fn one_of_them() -> String {
    format!("the plugins are: {}", PluginName::ALL.map(|(name, _)| name).join(", "))
}

/// `timeout`, `concurrency`, `retries` of a `<plugin>`.
fn calls(reading: &mut Reading<'_>, plugin: &Element) -> Calls {
    let mut calls = Calls::default();
    if let Some(seconds) = reading.number(Some(plugin), "timeout", 1..=86_400, "seconds") {
        calls.timeout = Duration::from_secs(seconds);
    }
    if let Some(number) = reading.number(Some(plugin), "concurrency", 1..=64, "calls at once") {
        calls.concurrency = usize::try_from(number).unwrap_or(1);
    }
    if let Some(number) = reading.number(Some(plugin), "retries", 0..=100, "tries more") {
        calls.retries = u32::try_from(number).unwrap_or(0);
    }
    calls
}

fn command(reading: &mut Reading<'_>, plugin: &Element) -> Option<CommandPlugin> {
    let calls = calls(reading, plugin);
    let param = plugin.child("param");
    let batch = reading.flag(param, "batch", false);
    let ignore_error = reading.flag(param, "ignoreError", false);
    let keep_capabilities = reading.flag(param, "keepCapabilities", false);
    let attribute = |name| param.and_then(|param| param.attribute(name));
    let text = |name| attribute(name).map_or("", |found| found.value.as_str());
    let line = CommandLine::read(text("prefix"), text("suffix"), batch);
    let filter = plugin.child("filter");
    let include = reading.flag(filter, "start", false).then(|| {
        let mut expressions = Vec::new();
        for element in filter.into_iter().flat_map(|filter| filter.children("include")) {
            if let Some(attribute) = wanted(reading, element, "expression")
                && compiles(reading, attribute)
            {
                expressions.push(attribute.value.clone());
            }
        }
        expressions
    });
    match line {
        Ok(line) => Some(CommandPlugin { line, ignore_error, include, keep_capabilities, batch, calls }),
        Err(error) => {
            let at = attribute(if command_words::is_about_suffix(&error) { "suffix" } else { "prefix" });
            let span = at.map_or(plugin.name_span(), |attribute| attribute.value_span.clone());
            reading.warn(span, format!("{error}: the command plugin is left out"), error.help());
            None
        }
    }
}

fn socket(reading: &mut Reading<'_>, plugin: &Element) -> Vec<SocketPlugin> {
    let calls = calls(reading, plugin);
    let mut found = Vec::new();
    for localpath in plugin.children("localpath") {
        let Some(watch) = watch_of(reading, localpath) else { continue };
        for target in localpath.children("deshost") {
            let host = wanted_text(reading, target, "ip");
            let port = wanted_port(reading, target);
            if let (Some(host), Some(port)) = (host, port) {
                found.push(SocketPlugin { watch: watch.clone(), host, port, calls });
            }
        }
    }
    found
}

fn http(reading: &mut Reading<'_>, plugin: &Element) -> Vec<HttpPlugin> {
    let calls = calls(reading, plugin);
    let mut found = Vec::new();
    for localpath in plugin.children("localpath") {
        let Some(watch) = watch_of(reading, localpath) else { continue };
        for target in localpath.children("deshost") {
            found.extend(web::read(reading, target, &watch, calls));
        }
    }
    found
}

fn refresh_cdn(reading: &mut Reading<'_>, plugin: &Element) -> Vec<RefreshCdnPlugin> {
    let calls = calls(reading, plugin);
    let mut found = Vec::new();
    for localpath in plugin.children("localpath") {
        let Some(watch) = watch_of(reading, localpath) else { continue };
        let (Some(cdn), Some(send)) = (localpath.child("cdninfo"), localpath.child("sendurl")) else {
            let help = "it needs <cdninfo …/> and <sendurl base=\"…\"/>";
            reading.warn(localpath.name_span(), "this <localpath> is left out", help);
            continue;
        };
        let host = wanted_text(reading, cdn, "domainname");
        let port = wanted_port(reading, cdn);
        let user = wanted_text(reading, cdn, "username");
        let password = wanted_text(reading, cdn, "passwd").map(Secret::new);
        let base = wanted_text(reading, send, "base");
        let regex = localpath.child("regexurl");
        let pattern = match (reading.flag(regex, "regex", false), regex) {
            (true, Some(regex)) => {
                let Some(attribute) = wanted(reading, regex, "match") else { continue };
                if !compiles(reading, attribute) {
                    continue;
                }
                Some(attribute.value.clone())
            }
            _ => None,
        };
        if let (Some(host), Some(port), Some(user), Some(password), Some(base)) = (host, port, user, password, base) {
            found.push(RefreshCdnPlugin { watch, host, port, user, password, base, pattern, calls });
        }
    }
    found
}

fn compiles(reading: &mut Reading<'_>, attribute: &super::tree::Attribute) -> bool {
    if !reading.affords(&attribute.value, &attribute.value_span) {
        return false;
    }
    match Filter::check(&attribute.value) {
        Ok(()) => true,
        Err(error) => {
            reading.error(attribute.value_span.clone(), error.to_string(), error.help());
            false
        }
    }
}

fn watch_of(reading: &mut Reading<'_>, localpath: &Element) -> Option<PathBuf> {
    let attribute = wanted(reading, localpath, "watch")?;
    let value = attribute.value.trim();
    if !value.starts_with('/') {
        let help = "write the whole path, from `/` on";
        reading.warn(attribute.value_span.clone(), "a relative path: this <localpath> is left out", help);
        return None;
    }
    Some(super::reading::tidy(value.as_ref()))
}

pub(super) fn wanted_port(reading: &mut Reading<'_>, element: &Element) -> Option<u16> {
    wanted(reading, element, "port")?;
    reading.port(Some(element), "port")
}

pub(super) fn wanted_text(reading: &mut Reading<'_>, element: &Element, name: &str) -> Option<String> {
    wanted(reading, element, name).map(|attribute| attribute.value.trim().to_owned())
}

/// An attribute that is there and not empty; else a warning.
pub(super) fn wanted<'e>(
    reading: &mut Reading<'_>,
    element: &'e Element,
    name: &str,
) -> Option<&'e super::tree::Attribute> {
    let found = element.attribute(name).filter(|attribute| !attribute.value.trim().is_empty());
    if found.is_none() && !element.broken {
        let message = format!("<{}> lacks `{name}` and is left out", element.name);
        reading.warn(element.name_span(), message, "docs/plugins.md has examples");
    }
    found
}
