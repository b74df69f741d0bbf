//! `status` and `list`: is it in sync, and if not, what is wrong.

use super::Session;
use super::error::CtlError;
use super::instances::{self, Instance, Presence};
use super::table::{Cell, Table};
use super::view::{Remote, View, now_usec};
use crate::bus::PluginRow;
use crate::human::{bytes, count, plural, rough, safe, when};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BUSY: Style = AnsiColor::Yellow.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const IDLE: Style = Style::new();
const BOLD: Style = Style::new().bold();

/// The exit status: as an LSB init script answers `status`, so that monitoring knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    InSync = 0,
    Behind = 1,
    NotRunning = 3,
    NoSuchInstance = 4,
}

/// Shows all instances in a line each, or those named in full.
pub async fn run(session: &Session, names: &[String]) -> Result<ExitCode, CtlError> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    if names.is_empty() {
        found = instances::all(session).await?;
    }
    for name in names {
        match instances::one(session, name).await? {
            Some(instance) => found.push(instance),
            None => unknown.push(name),
        }
    }
    let mut out = anstream::stdout();
    if session.json {
        writeln!(out, "{:#}", found.iter().map(to_json).collect::<Value>())?;
    } else if names.is_empty() {
        write!(out, "{}", overview(&found, session))?;
    } else {
        let parts: Vec<_> = found.iter().map(|instance| details(instance, session)).collect();
        write!(out, "{}", parts.join("\n"))?;
    }
    for name in &unknown {
        let error = CtlError::NoInstance((*name).clone(), session.user);
        writeln!(anstream::stderr(), "sersyncctl: {error}")?;
    }
    let worst = found.iter().map(verdict).max();
    let verdict = if unknown.is_empty() { worst.unwrap_or(Verdict::NotRunning) } else { Verdict::NoSuchInstance };
    Ok(ExitCode::from(verdict as u8))
}

/// Names what there is.
pub async fn list(session: &Session) -> Result<(), CtlError> {
    let found = instances::all(session).await?;
    let mut out = anstream::stdout();
    if session.json {
        writeln!(out, "{:#}", found.iter().map(to_json).collect::<Value>())?;
        return Ok(());
    }
    if found.is_empty() {
        writeln!(out, "{}", nothing(session))?;
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "STATE", "WATCHES", "REMOTES"]);
    for instance in &found {
        let (roots, remotes) = match &instance.presence {
            Presence::Running(view) => (
                view.agent.watch_roots.iter().map(|root| path(root)).collect::<Vec<_>>().join(", "),
                view.remotes.iter().map(|remote| safe(&remote.name)).collect::<Vec<_>>().join(", "),
            ),
            _ => Default::default(),
        };
        let (style, state) = state(&instance.presence);
        table.row([safe(&instance.name).into(), Cell::from(state).styled(style), roots.into(), remotes.into()]);
    }
    write!(out, "{table}")?;
    Ok(())
}

fn verdict(instance: &Instance) -> Verdict {
    match &instance.presence {
        Presence::Running(view) if view.is_in_sync() => Verdict::InSync,
        Presence::Running(_) | Presence::Silent => Verdict::Behind,
        Presence::Stopped(_) => Verdict::NotRunning,
    }
}

fn to_json(instance: &Instance) -> Value {
    match &instance.presence {
        Presence::Running(view) => {
            let mut value = view.to_json();
            value["running"] = true.into();
            value
        }
        Presence::Silent => json!({"instance": instance.name, "running": true, "state": "silent", "in_sync": false}),
        Presence::Stopped(state) => {
            json!({"instance": instance.name, "running": false, "state": state, "in_sync": false})
        }
    }
}

fn state(presence: &Presence) -> (Style, String) {
    match presence {
        Presence::Running(view) => {
            let style = match view.agent.state.as_str() {
                "idle" if view.is_in_sync() => GOOD,
                "degraded" => BAD,
                _ => BUSY,
            };
            (style, view.agent.state.clone())
        }
        Presence::Silent => (BAD, "does not answer".to_owned()),
        Presence::Stopped(state) => (if state == "failed" { BAD } else { IDLE }, state.clone()),
    }
}

/// `●` says nothing in a pipe.
fn dot(style: Style) -> String {
    if std::io::stdout().is_terminal() { format!("{style}●{style:#} ") } else { String::new() }
}

fn nothing(session: &Session) -> String {
    let place = if session.user.is_empty() { "/etc/sersync/NAME.xml" } else { "~/.config/sersync/NAME.xml" };
    format!("No instances. Write {place}, then: systemctl{} enable --now sersync@NAME", session.user)
}

fn overview(found: &[Instance], session: &Session) -> String {
    if found.is_empty() {
        return format!("{}\n", nothing(session));
    }
    let now = now_usec();
    let terminal = std::io::stdout().is_terminal();
    let mut headings = vec!["NAME", "STATE", "IN SYNC", "PENDING", "FAILED", "LAG", "LAST SYNC"];
    if terminal {
        headings.insert(0, " ");
    }
    let mut table = Table::new(&headings);
    for instance in found {
        let (style, state) = state(&instance.presence);
        let mut row = Vec::new();
        if terminal {
            row.push(Cell::from("●").styled(style));
        }
        row.extend([Cell::from(safe(&instance.name)), Cell::from(state).styled(style)]);
        if let Presence::Running(view) = &instance.presence {
            let agent = &view.agent;
            row.extend([
                Cell::from(format!("{}/{}", view.remotes_in_sync(), view.remotes.len())).right(),
                Cell::from(count(agent.queue_depth)).right(),
                Cell::from(count(agent.failure_count)).right(),
                Cell::from(lag(agent.lag_usec)).right(),
                Cell::from(when(agent.last_sync_at, now)),
            ]);
        }
        table.row(row);
    }
    table.to_string()
}

fn details(instance: &Instance, session: &Session) -> String {
    let (style, state) = state(&instance.presence);
    let mut text = format!("{}{BOLD}{}{BOLD:#} - {style}{state}{style:#}\n", dot(style), safe(&instance.name));
    match &instance.presence {
        Presence::Running(view) => running(&mut text, view, session),
        Presence::Silent => {
            line(&mut text, "Next", &format!("journalctl{} -u sersync@{}", session.user, instance.name))
        }
        Presence::Stopped(_) => {
            line(&mut text, "Next", &format!("systemctl{} start sersync@{}", session.user, instance.name));
        }
    }
    text
}

/// One line of details, its label at the right of a column as `systemctl status` has it.
fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a string cannot fail; so below.
    let _ = writeln!(text, "{label:>11}: {value}");
}

fn running(text: &mut String, view: &View, session: &Session) {
    let now = now_usec();
    let agent = &view.agent;
    for problem in &agent.problems {
        line(text, "Problem", &format!("{BAD}{}{BAD:#}", safe(problem)));
    }
    if !agent.config_path.is_empty() {
        line(text, "Config", &path(&agent.config_path));
    }
    let roots: Vec<_> = agent.watch_roots.iter().map(|root| path(root)).collect();
    let directories = plural(agent.watched_directories, "directory", "directories");
    line(text, "Watches", &format!("{} ({directories})", roots.join(", ")));
    let from = safe(&agent.started_from);
    line(text, "Started", &format!("{} ({from}), version {}", when(agent.started_at, now), safe(&agent.version)));
    let oldest =
        if agent.queue_depth > 0 { format!(", the oldest for {}", lag(agent.lag_usec)) } else { String::new() };
    line(text, "Pending", &format!("{}{oldest}", count(agent.queue_depth)));
    if agent.failure_count > 0 {
        let next =
            format!("{}; see: sersyncctl{} failures {}", count(agent.failure_count), session.user, agent.instance);
        line(text, "Failed", &next);
    }
    line(text, "Last sync", &when(agent.last_sync_at, now));
    let next = if agent.next_full_sync_at == 0 {
        String::new()
    } else {
        format!(", next {}", when(agent.next_full_sync_at, now))
    };
    line(text, "Full sync", &format!("{}{next}", when(agent.last_full_sync_at, now)));
    for job in &view.jobs {
        let percent = (job.progress * 100.0).floor();
        line(text, "Job", &format!("{} {}, {percent:.0} %, {} sent", job.id, safe(&job.state), bytes(job.bytes_sent)));
    }
    let changes = plural(agent.files_synced, "change", "changes");
    line(text, "Sent", &format!("{changes}, {}", bytes(agent.bytes_sent)));
    if agent.overflows > 0 {
        line(text, "Overflows", &format!("{}, each mended by a walk of the tree", count(agent.overflows)));
    }
    text.push('\n');
    if !view.remotes.is_empty() {
        remotes(text, &view.remotes, now);
    }
    if !agent.plugins.is_empty() {
        plugins(text, &agent.plugins, now);
    }
}

/// Who is told of changes, and what keeps from it.
fn plugins(text: &mut String, rows: &[PluginRow], now: u64) {
    let mut table = Table::new(&["PLUGIN", "TARGET", "WAITING", "DONE", "FAILED"]).indented(2);
    for (plugin, target, waiting, done, failed, error, ..) in rows {
        let style = if !error.is_empty() {
            BAD
        } else if *waiting > 0 {
            BUSY
        } else {
            GOOD
        };
        table.row([
            Cell::from(safe(plugin)).styled(style),
            safe(target).into(),
            Cell::from(count(*waiting)).right(),
            Cell::from(count(*done)).right(),
            Cell::from(count(*failed)).right(),
        ]);
    }
    let _ = write!(text, "\n{table}");
    for (plugin, _, _, _, _, error, since, next_try) in rows.iter().filter(|row| !row.5.is_empty()) {
        let since = lag(now.saturating_sub(*since));
        let next = if *next_try == 0 { String::new() } else { format!(", next try {}", when(*next_try, now)) };
        let _ = writeln!(text, "\n  {}: {BAD}failing{BAD:#} for {since}{next}", safe(plugin));
        let _ = writeln!(text, "    {}", safe(error));
    }
}

fn remotes(text: &mut String, remotes: &[Remote], now: u64) {
    let mut table = Table::new(&["REMOTE", "STATE", "PENDING", "FAILED", "LAG", "LAST SUCCESS", "SENT"]).indented(2);
    for remote in remotes {
        let style = match remote.state.as_str() {
            "waiting" => BAD,
            "idle" if remote.is_in_sync() => GOOD,
            _ => BUSY,
        };
        table.row([
            safe(&remote.name).into(),
            Cell::from(safe(&remote.state)).styled(style),
            Cell::from(count(remote.waiting())).right(),
            Cell::from(count(remote.failure_count)).right(),
            Cell::from(lag(remote.lag_usec)).right(),
            when(remote.last_success_at, now).into(),
            Cell::from(bytes(remote.bytes_sent)).right(),
        ]);
    }
    let _ = write!(text, "{table}");
    for remote in remotes {
        if !remote.last_error_name.is_empty() {
            let name = safe(&remote.name);
            let tries = plural(u64::from(remote.attempts), "try", "tries");
            let since = lag(now.saturating_sub(remote.failing_since));
            let next = if remote.next_try_at == 0 {
                String::new()
            } else {
                format!(", next {}", when(remote.next_try_at, now))
            };
            let error = safe(&remote.last_error_name);
            let _ = writeln!(text, "\n  {name}: {BAD}{error}{BAD:#}, failing for {since}, {tries}{next}");
            for words in remote.last_error.lines() {
                let _ = writeln!(text, "    {}", safe(words));
            }
        }
        if !remote.refused_options.is_empty() {
            let options = safe(&remote.refused_options.join(" "));
            let _ = writeln!(text, "\n  {}: its rsync is old, done without {options}", safe(&remote.name));
        }
    }
}

fn lag(usec: u64) -> String {
    if usec == 0 { "-".to_owned() } else { rough(Duration::from_micros(usec)) }
}

fn path(bytes: &[u8]) -> String {
    safe(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_instance_decides() {
        assert!(Verdict::InSync < Verdict::Behind && Verdict::Behind < Verdict::NotRunning);
        let stopped = Instance { name: "www".into(), presence: Presence::Stopped("stopped (enabled)".into()) };
        assert_eq!(verdict(&stopped) as u8, 3);
        let silent = Instance { name: "www".into(), presence: Presence::Silent };
        assert_eq!(verdict(&silent) as u8, 1);
    }
}
