//! From the elements of a confxml.xml to a [`Config`]: what each means, and what holds where it is missing.
//!
//! Reads on after a mistake, so that all of them are told at once. What it returns is to be used only when none of
//! them was an error.

use super::access::{self, Access};
use super::mistake::nearest;
use super::overlap::{self, Conflict};
use super::params::{Params, has_option};
use super::reading::Reading;
use super::tree::{Document, Element};
use super::{
    AgentSettings, Config, Deletions, Destination, EventSwitches, FILE_LIMIT, FailLog, FullSyncAtStart, PluginName,
    Root, RsyncOptions, TemporaryNames, address, crontab, plugins, schema,
};
use crate::filter::Filter;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Two weeks in minutes would be short for a yearly full sync, a century would be a slip.
pub(super) const MINUTES: std::ops::RangeInclusive<u64> = 1..=527_040;

/// Makes a config of `document`, and notes every mistake in `reading`.
pub(super) fn read(reading: &mut Reading<'_>, document: &Document, file: &Path, alone: Option<PluginName>) -> Config {
    let head = find_head(reading, document);
    if let Some(head) = head {
        schema::check(reading, head, &schema::HEAD);
    }
    let sersync = head.and_then(|head| head.child("sersync"));
    let rsync = sersync.and_then(|sersync| sersync.child("rsync"));
    let debug = reading.flag(head.and_then(|head| head.child("debug")), "start", false);
    reading.flag(head.and_then(|head| head.child("fileSystem")), "xfs", false);
    let inotify = head.and_then(|head| head.child("inotify"));
    let events = events(reading, inotify);
    let when = [("always", Deletions::Always), ("startup", Deletions::FullSyncs), ("running", Deletions::Live)];
    let deletions = reading.one_of(inotify.and_then(|inotify| inotify.child("delete")), "when", &when);
    let delete = inotify.and_then(|inotify| inotify.child("delete"));
    let delete_limit = reading.number(delete, "limit", 1..=u64::from(u32::MAX), "paths");
    let filter = Arc::new(filter(reading, head.and_then(|head| head.child("filter"))));
    let agent = agent(reading, head, sersync);
    let mut notes = Vec::new();
    let mut rsync_options = rsync_options(reading, rsync, agent.keep_newer, &mut notes);
    let alone_here = plugins::alone(reading, sersync);
    let who = if alone.is_some() { "-m" } else { "alone=\"true\" for" };
    let alone = alone.or(alone_here);
    let access = alone.is_none().then(|| Access::read(reading, rsync));
    rsync_options.password_file = access.as_ref().and_then(|access| access.password_file.clone());
    let roots = roots(reading, document, head, sersync, access.as_ref());
    check_overlaps(reading, &roots, events);
    let fail_log = fail_log(reading, sersync.and_then(|sersync| sersync.child("failLog")));
    let crontab = crontab::read(reading, sersync.and_then(|sersync| sersync.child("crontab")), &filter);
    let plugins = plugins::read(reading, head, sersync);
    if let (Some(name), Some(head)) = (alone.filter(|name| !plugins.has(*name)), head) {
        let help = format!("write <plugin name=\"{name}\">…</plugin> in <head>: docs/plugins.md");
        let message = format!("{who} {name}: no such plugin is written here that can be used");
        reading.error(head.name_span(), message, help);
    }
    Config {
        file: Some(file.to_path_buf()),
        debug,
        roots: roots.into_iter().map(|(root, _)| root).collect(),
        events,
        deletions: deletions.unwrap_or(Deletions::Always),
        delete_limit,
        filter,
        rsync: rsync_options,
        agent,
        fail_log,
        crontab,
        plugins,
        alone,
        notes,
    }
}

fn find_head<'d>(reading: &mut Reading<'_>, document: &'d Document) -> Option<&'d Element> {
    let head = document.roots.iter().find(|element| element.is("head"));
    for element in &document.roots {
        if head.is_some_and(|head| std::ptr::eq(head, element)) {
            continue;
        }
        if element.is("head") {
            reading.error(element.tag.clone(), "<head> is given twice", "put all that is in them into one");
            continue;
        }
        let message = format!("<{}> stands outside of <head>", element.name);
        let help = match nearest(&element.name, ["head"]) {
            Some(_) if head.is_none() => "did you mean <head>?",
            _ => "one element holds all others: <head version=\"2.5\">…</head>",
        };
        reading.error(element.tag.clone(), message, help);
    }
    if document.roots.is_empty() && document.sound {
        let help = "a config starts with <head version=\"2.5\"> and ends with </head>; conf/ has examples";
        reading.error(0..0, "the file holds no elements", help);
    }
    head
}

fn events(reading: &mut Reading<'_>, inotify: Option<&Element>) -> EventSwitches {
    let Some(inotify) = inotify else { return EventSwitches::SHIPPED };
    let mut switch = |name| reading.flag(inotify.child(name), "start", false);
    let events = EventSwitches {
        delete: switch("delete"),
        create_folder: switch("createFolder"),
        create_file: switch("createFile"),
        close_write: switch("closeWrite"),
        move_from: switch("moveFrom"),
        move_to: switch("moveTo"),
        attrib: switch("attrib"),
        modify: switch("modify"),
    };
    if events == EventSwitches::NONE {
        let help = "leave <inotify> out for the usual events, or start=\"true\" those that count";
        reading.warn(inotify.name_span(), "no event is switched on: only full syncs will mirror anything", help);
    }
    events
}

fn filter(reading: &mut Reading<'_>, element: Option<&Element>) -> Filter {
    let Some(element) = element.filter(|element| reading.flag(Some(element), "start", false)) else {
        return Filter::none();
    };
    let mut expressions = Vec::new();
    let mut patterns = Vec::new();
    for exclude in element.children("exclude") {
        if exclude.attribute("pattern").is_some() || exclude.attribute("file").is_some() {
            patterns.extend(excluded_patterns(reading, exclude));
            if exclude.attribute("expression").is_none() {
                continue;
            }
        }
        // Blanks at the ends of an expression count: they may be part of a name.
        if reading.text_of(exclude, "expression", "a regular expression that matches the whole path").is_none() {
            continue;
        }
        let Some(attribute) = exclude.attribute("expression") else { continue };
        if !reading.affords(&attribute.value, &attribute.value_span) {
            continue;
        }
        match Filter::check(&attribute.value) {
            Ok(()) => expressions.push((attribute.value.as_str(), attribute.value_span.clone())),
            Err(error) => reading.error(attribute.value_span.clone(), error.to_string(), error.help()),
        }
    }
    if element.child("exclude").is_none() && !element.broken {
        reading.warn(element.name_span(), "this filter excludes nothing", "write <exclude expression=\"…\"/> in it");
    }
    let filter = Filter::new(expressions.iter().map(|(expression, _)| expression)).unwrap_or_else(|error| {
        let span = expressions.iter().find(|(expression, _)| *expression == error.expression);
        reading.error(span.map_or(element.name_span(), |(_, span)| span.clone()), error.to_string(), error.help());
        Filter::none()
    });
    // Each was found good by itself.
    filter.and_excluding(&patterns).unwrap_or_else(|error| {
        reading.error(element.name_span(), error.to_string(), error.help());
        filter
    })
}

/// rsync's exclude patterns: the one in `pattern`, and the lines of `file`, in which empty ones and those that start with
/// `#` or `;` say nothing, as rsync's `--exclude-from` has it.
fn excluded_patterns(reading: &mut Reading<'_>, exclude: &Element) -> Vec<String> {
    let mut good = Vec::new();
    let mut take = |reading: &mut Reading<'_>, pattern: &str, span: std::ops::Range<usize>, place: &str| {
        if reading.affords(pattern, &span) {
            match Filter::check_pattern(pattern) {
                Ok(()) => good.push(pattern.to_owned()),
                Err(error) => reading.error(span, format!("{place}\"{pattern}\": {error}"), error.help()),
            }
        }
    };
    if let Some(attribute) = exclude.attribute("pattern") {
        take(reading, &attribute.value, attribute.value_span.clone(), "");
    }
    if exclude.attribute("file").is_some()
        && let Some(path) = reading.absolute_path(exclude, "file", "a file of rsync exclude patterns, one a line")
        && let Some(attribute) = exclude.attribute("file")
    {
        let span = attribute.value_span.clone();
        match read_patterns(&path) {
            Ok(text) => {
                for (number, line) in text.lines().enumerate() {
                    if !(line.is_empty() || line.starts_with(['#', ';'])) {
                        take(reading, line, span.clone(), &format!("{}:{}: ", path.display(), number + 1));
                    }
                }
            }
            Err(error) => {
                let help = "it holds exclude patterns, one a line, and the agent's user may read it";
                reading.error_elsewhere(span, format!("{} cannot be read: {error}", path.display()), help);
            }
        }
    }
    good
}

/// Contents of a regular file of a plausible size.
fn read_patterns(path: &Path) -> io::Result<String> {
    let bytes = super::read_regular(path)?;
    match bytes.len() as u64 > FILE_LIMIT {
        true => Err(io::Error::other("it has more than 4 MiB")),
        false => String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text")),
    }
}

/// `<agent>`, wherever it stands.
fn agent(reading: &mut Reading<'_>, head: Option<&Element>, sersync: Option<&Element>) -> AgentSettings {
    let in_head = head.and_then(|head| head.child("agent"));
    let in_sersync = sersync.and_then(|sersync| sersync.child("agent"));
    if let (Some(_), Some(second)) = (in_head, in_sersync) {
        reading.error(second.tag.clone(), "<agent> is given twice: in <head> and here", "keep the one in <head>");
    }
    let mut settings = AgentSettings::default();
    let Some(agent) = in_head.or(in_sersync) else { return settings };
    if let Some(gather) = reading.number(agent.child("gather"), "milliseconds", 0..=3_600_000, "milliseconds") {
        settings.gather = Duration::from_millis(gather);
    }
    if let Some(ahead) = reading.number(agent.child("ahead"), "seconds", 0..=3_600, "seconds") {
        settings.ahead = Duration::from_secs(ahead);
    }
    let mut count = |element, name, range, unit, setting: &mut usize| {
        if let Some(number) = reading.number(agent.child(element), name, range, unit) {
            *setting = usize::try_from(number).unwrap_or(usize::MAX);
        }
    };
    count("batch", "paths", 1..=1_000_000, "paths", &mut settings.batch_paths);
    count("streams", "perRemote", 1..=64, "rsync runs", &mut settings.streams);
    count("workers", "max", 1..=1024, "rsync runs", &mut settings.workers);
    count("pending", "limit", 1_000..=100_000_000, "paths", &mut settings.pending_limit);
    let at_start =
        [("auto", FullSyncAtStart::Auto), ("always", FullSyncAtStart::Always), ("never", FullSyncAtStart::Never)];
    if let Some(choice) = reading.one_of(agent.child("fullSync"), "atStart", &at_start) {
        settings.full_sync_at_start = choice;
    }
    if let Some(state) = agent.child("state") {
        settings.state_directory = reading.absolute_path(state, "directory", "the directory to keep pending paths in");
    }
    let modes = [("hold", TemporaryNames::Hold), ("skip", TemporaryNames::Skip)];
    if let Some(mode) = reading.one_of(agent.child("temporaryNames"), "mode", &modes) {
        settings.temporary_names = mode;
    }
    settings.keep_newer = reading.flag(agent.child("newerOnRemote"), "keep", false);
    settings
}

fn rsync_options(
    reading: &mut Reading<'_>,
    rsync: Option<&Element>,
    keep_newer: bool,
    notes: &mut Vec<String>,
) -> RsyncOptions {
    let child = |name| rsync.and_then(|rsync| rsync.child(name));
    let written = child("commonParams").and_then(|element| element.attribute("params"));
    let Params { kept: params, notes: found, selections } =
        match Params::read(written.map_or("-artuz", |params| &params.value), keep_newer) {
            Ok(params) => params,
            Err(error) => {
                if let Some(attribute) = written {
                    reading.error(attribute.value_span.clone(), error.to_string(), error.help());
                }
                Params { kept: Vec::new(), notes: Vec::new(), selections: Vec::new() }
            }
        };
    if let Some(attribute) = written {
        notes.extend(found);
        for selection in &selections {
            let help = "to leave paths out, write them into <filter>: the agent then does not watch them either";
            reading.warn(attribute.value_span.clone(), format!("never sent because of {selection}"), help);
        }
    }
    let time = reading.number(child("timeout"), "time", 0..=604_800, "seconds").unwrap_or(100);
    // 0 is none, as in rsync.
    let is_limited = reading.flag(child("timeout"), "start", false) && time > 0;
    let timeout = is_limited.then(|| Duration::from_secs(time));
    let named = rsync.into_iter().flat_map(|rsync| rsync.children("mayRead"));
    let may_read =
        named.filter_map(|element| reading.absolute_path(element, "path", "the directory to be read")).collect();
    let keep_deleted = child("keepDeleted").and_then(|element| {
        if let (Some(attribute), true) = (written, has_option(&params, 'b', "backup")) {
            let help = "keep one of them: <keepDeleted> has rsync keep what it deletes and replaces by itself";
            reading.error(attribute.value_span.clone(), "`--backup` and <keepDeleted> are both set", help);
        }
        let days = reading.number(Some(element), "days", 1..=3_650, "days").unwrap_or(7);
        u16::try_from(days).ok()
    });
    RsyncOptions {
        params,
        selections,
        ssh: access::ssh_options(reading, child("ssh")),
        timeout,
        password_file: None,
        may_read,
        keep_deleted,
    }
}

/// The roots, each with the element it comes from.
fn roots<'d>(
    reading: &mut Reading<'_>,
    document: &Document,
    head: Option<&'d Element>,
    sersync: Option<&'d Element>,
    access: Option<&Access>,
) -> Vec<(Root, &'d Element)> {
    let localpaths: Vec<&Element> = sersync.into_iter().flat_map(|sersync| sersync.children("localpath")).collect();
    if let (true, true, Some(outer)) = (localpaths.is_empty(), document.sound, sersync.or(head)) {
        let help =
            "write in <sersync>: <localpath watch=\"/directory\"><remote ip=\"host\" name=\"module\"/></localpath>";
        reading.error(outer.name_span(), "no <localpath>: nothing to watch", help);
    }
    let mut roots: Vec<(Root, &Element)> = Vec::new();
    for localpath in localpaths {
        let path = reading.absolute_path(localpath, "watch", "the directory to watch");
        let remotes =
            access.map_or(Vec::new(), |access| remotes(reading, document, localpath, path.as_deref(), access));
        let Some(path) = path else { continue };
        if roots.iter().any(|(root, _)| root.path == path) {
            let message = format!("{} is watched by two <localpath>", path.display());
            reading.error(localpath.tag.clone(), message, "put all its <remote> into one of them");
            continue;
        }
        roots.push((Root { path, remotes }, localpath));
    }
    roots
}

fn remotes(
    reading: &mut Reading<'_>,
    document: &Document,
    localpath: &Element,
    watch: Option<&Path>,
    access: &Access,
) -> Vec<Destination> {
    let mut remotes = Vec::new();
    if localpath.child("remote").is_none() && document.sound {
        let help = "write <remote ip=\"host\" name=\"module\"/> in it";
        reading.error(localpath.name_span(), "no <remote>: nowhere to mirror to", help);
    }
    for element in localpath.children("remote") {
        let Some(destination) = remote(reading, element, access) else { continue };
        if let Some(watch) = watch
            && let Some(directory) = address::entangled(watch, &destination)
        {
            let message = format!("{} of this machine and {} hold one another", directory.display(), watch.display());
            let help = "the copy would be copied into itself, or the source deleted: mirror to a place apart";
            reading.error(element.tag.clone(), message, help);
        } else if remotes.contains(&destination) {
            reading.warn(element.tag.clone(), format!("{destination} is given twice"), "it is mirrored to once");
        } else if let Some(first) = remotes.iter().find(|first| overlap::is_one_place(first, &destination)) {
            let message = format!("{destination} is the same place as {first}");
            reading.warn(element.tag.clone(), message, "it is mirrored to once");
        } else {
            remotes.push(destination);
        }
    }
    remotes
}

fn remote(reading: &mut Reading<'_>, element: &Element, access: &Access) -> Option<Destination> {
    if element.attribute("directory").is_some() {
        for name in ["ip", "name"] {
            if let Some(attribute) = element.attribute(name) {
                let message = format!("`{name}` is not used: `directory` names a directory of this machine");
                reading.warn(attribute.value_span.clone(), message, "keep one of them");
            }
        }
        let directory = reading.absolute_path(element, "directory", "a directory of this machine")?;
        return Some(Destination::Local { directory });
    }
    let login = reading.text_of(element, "ip", "the remote's host name or address").and_then(|(text, span)| {
        address::login(text).map_err(|error| reading.error(span, error.to_string(), error.help())).ok()
    });
    let name_help = match access.ssh {
        true => "the directory on the remote",
        false => "the module, as rsyncd.conf on the remote calls it",
    };
    let name = reading.text_of(element, "name", name_help);
    let ((user, host), (name, span)) = (login?, name?);
    // The more particular place wins.
    let user = user.or_else(|| access.user.clone());
    let read = match access.ssh {
        true => address::directory(name, &host),
        false => address::module(name),
    };
    let name = read.map_err(|error| reading.error(span, error.to_string(), name_help)).ok()?;
    Some(match access.ssh {
        true => Destination::Ssh { user, host, port: access.port, directory: name },
        false => Destination::Daemon { user, host, port: access.port, module: name, password: access.password.clone() },
    })
}

/// Mirrors that meet would delete each other's files. 2.5.4 read only the first `<localpath>`, so a file may have
/// carried that slip for years.
fn check_overlaps(reading: &mut Reading<'_>, roots: &[(Root, &Element)], events: EventSwitches) {
    let mirrors = overlap::mirrors("", roots.iter().map(|(root, _)| root));
    for conflict in overlap::Places::new(mirrors, Vec::new()).conflicts(events.delete) {
        let help = match conflict {
            Conflict::Destinations(..) => "give each <localpath> its own module or directory, such as name=\"www/sub\"",
            Conflict::Circle(_) => "leave one of them out: a directory is either a source or a copy",
            Conflict::ContainsRoot(..) => "mirror to a directory that holds nothing that is watched",
        };
        let Some((_, element)) = roots.iter().find(|(root, _)| root.path == *conflict.root()) else { continue };
        reading.error(element.tag.clone(), conflict.to_string(), help);
    }
}

fn fail_log(reading: &mut Reading<'_>, element: Option<&Element>) -> Option<FailLog> {
    let element = element?;
    let mut log = FailLog { path: PathBuf::from("/tmp/rsync_fail_log.sh"), interval: Duration::from_secs(60 * 60) };
    if element.attribute("path").is_some()
        && let Some(path) = reading.absolute_path(element, "path", "where the report of failed paths goes")
    {
        log.path = path;
    }
    if let Some(minutes) = reading.number(Some(element), "timeToExecute", MINUTES, "minutes") {
        log.interval = Duration::from_secs(minutes * 60);
    }
    Some(log)
}
