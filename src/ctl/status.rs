//! `status` and `list`: is it in sync, and if not, what is wrong.

use super::Session;
use super::accept;
use super::error::CtlError;
use super::instances::{self, Instance, Presence};
use super::next::{Scope, quoted};
use super::sentences::reason;
use super::table::Cell;
use super::view::{Remote, View, now_usec};
use super::words;
use crate::bus::PluginRow;
use crate::human::{bytes, count, rough, safe, when};
use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;
use tr::tr;
use unicode_width::UnicodeWidthStr;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BUSY: Style = AnsiColor::Yellow.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const IDLE: Style = Style::new();
const BOLD: Style = Style::new().bold();

/// The widest label of the details.
const LABEL: usize = 11;

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
    let mut meant = Vec::new();
    for word in names {
        match instances::meant(session, std::slice::from_ref(word)).await {
            Ok(names) => meant.extend(names),
            Err(CtlError::NoInstance(_, name)) => unknown.push(name),
            Err(error) => return Err(error),
        }
    }
    for name in &meant {
        match instances::one(session, name).await? {
            Some(instance) => found.push(instance),
            None => unknown.push(name.clone()),
        }
    }
    let mut out = anstream::stdout();
    if session.json {
        writeln!(out, "{:#}", found.iter().map(to_json).collect::<Value>())?;
    } else if names.is_empty() {
        overview(&found, session)?;
    } else {
        for (at, instance) in found.iter().enumerate() {
            if at > 0 {
                writeln!(out)?;
            }
            details(instance, session)?;
        }
    }
    for name in &unknown {
        let error = CtlError::NoInstance(session.scope, name.clone());
        writeln!(anstream::stderr(), "sersyncctl: {error}")?;
    }
    // Without names, instances that are not meant to run are shown and do not count.
    let counts = |instance: &&Instance| !names.is_empty() || !is_disabled(instance);
    let worst = found.iter().filter(counts).map(verdict).max();
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
    let mut table = session.table([tr!("NAME"), tr!("STATE"), tr!("WATCHES"), tr!("REMOTES")]);
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

fn is_disabled(instance: &Instance) -> bool {
    matches!(&instance.presence, Presence::Stopped(state) if state == instances::DISABLED)
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
            (style, words::state(&view.agent.state))
        }
        Presence::Silent => (BAD, tr!("does not answer")),
        Presence::Stopped(state) => (if state == "failed" { BAD } else { IDLE }, words::presence(state)),
    }
}

/// `●` says nothing in a pipe.
fn dot(style: Style) -> String {
    if std::io::stdout().is_terminal() { format!("{style}●{style:#} ") } else { String::new() }
}

fn nothing(session: &Session) -> String {
    let place = match session.scope {
        Scope::System => "/etc/sersync/NAME.xml",
        Scope::User => "~/.config/sersync/NAME.xml",
    };
    let command = session.scope.systemctl("enable --now", "NAME");
    tr!("No instances. Write {file}, then: {command}", file = place, command)
}

fn overview(found: &[Instance], session: &Session) -> Result<(), CtlError> {
    if found.is_empty() {
        return session.say(&nothing(session));
    }
    let now = now_usec();
    let terminal = std::io::stdout().is_terminal();
    let mut headings =
        vec![tr!("NAME"), tr!("STATE"), tr!("IN SYNC"), tr!("PENDING"), tr!("FAILED"), tr!("LAG"), tr!("LAST SYNC")];
    if terminal {
        headings.insert(0, " ".to_owned());
    }
    let mut table = session.table(headings);
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
    write!(anstream::stdout(), "{table}")?;
    let attention = found.iter().filter(|instance| verdict(instance) != Verdict::InSync && !is_disabled(instance));
    let attention = attention.map(|one| quoted(&one.name));
    let attention: Vec<String> = attention.collect();
    if !attention.is_empty() {
        let command = format!("sersyncctl{} status {}", session.scope.flag(), attention.join(" "));
        session.say_next(&command)?;
    }
    Ok(())
}

fn details(instance: &Instance, session: &Session) -> Result<(), CtlError> {
    let (style, state) = state(&instance.presence);
    let mut text = format!("{}{BOLD}{}{BOLD:#} - {style}{state}{style:#}\n", dot(style), safe(&instance.name));
    match &instance.presence {
        Presence::Running(view) => running(&mut text, view, session),
        Presence::Silent | Presence::Stopped(_) => {}
    }
    write!(anstream::stdout(), "{text}")?;
    match next_for(instance, session.scope) {
        Some(command) => session.say_next(&command),
        None => Ok(()),
    }
}

/// What to type about an instance that is not as it should be.
fn next_for(instance: &Instance, scope: Scope) -> Option<String> {
    let name = instance.name.as_str();
    let view = match &instance.presence {
        Presence::Silent => return Some(scope.journal(name)),
        Presence::Stopped(state) => return Some(scope.bring_up(name, state)),
        Presence::Running(view) => view,
    };
    let is_failing = |remote: &Remote| !remote.last_error_name.is_empty();
    Some(match &view.agent {
        agent if agent.state == "paused" => scope.ctl("resume", name),
        agent if agent.failure_count > 0 => scope.ctl("failures", name),
        // Its words are above; this finds out what is wrong with it now.
        _ if view.remotes.iter().any(is_failing) => scope.ctl("check", name),
        // What meets another mirror has no such paths, and is not to be deleted.
        _ if view.remotes.iter().any(|remote| remote.withheld_paths().next().is_some()) => scope.ctl("accept", name),
        agent if !agent.problems.is_empty() || agent.state == "degraded" => scope.journal(name),
        _ if !view.is_in_sync() => scope.ctl("wait", name),
        _ => return None,
    })
}

/// One line of details, its label at the right of a column as `systemctl status` has it.
fn line(text: &mut String, label: &str, value: &str) {
    // Writing to a string cannot fail; so below.
    let pad = LABEL.saturating_sub(label.width());
    let _ = writeln!(text, "{:pad$}{label}: {value}", "");
}

fn running(text: &mut String, view: &View, session: &Session) {
    let now = now_usec();
    let agent = &view.agent;
    if let (Some(at @ 1..), Some(by)) = (agent.paused_at, &agent.paused_by) {
        line(text, &tr!("Paused"), &tr!("{time}, by {user}", time = when(at, now), user = safe(by)));
    }
    for problem in &agent.problems {
        line(text, &tr!("Problem"), &format!("{BAD}{}{BAD:#}", safe(problem)));
    }
    if !agent.config_path.is_empty() {
        line(text, &tr!("Config"), &path(&agent.config_path));
    }
    let roots: Vec<_> = agent.watch_roots.iter().map(|root| path(root)).collect();
    let watches = tr!(
        "{roots} ({directories} directory)" | "{roots} ({directories} directories)" % agent.watched_directories,
        roots = roots.join(", "),
        directories = count(agent.watched_directories)
    );
    line(text, &tr!("Watches"), &watches);
    let started = tr!(
        "{time} ({how}), version {version}",
        time = when(agent.started_at, now),
        how = words::started_from(&agent.started_from),
        version = safe(&agent.version)
    );
    line(text, &tr!("Started"), &started);
    line(text, &tr!("Confined"), &words::confinement(agent.confinement.as_deref()));
    for selection in agent.never_sent.iter().flatten() {
        line(text, &tr!("Never sent"), &format!("{BUSY}{}{BUSY:#}", safe(selection)));
    }
    let pending = match agent.queue_depth {
        0 => count(0),
        some => tr!("{paths}, the oldest for {time}", paths = count(some), time = lag(agent.lag_usec)),
    };
    line(text, &tr!("Pending"), &pending);
    if agent.failure_count > 0 {
        line(text, &tr!("Failed"), &count(agent.failure_count));
    }
    line(text, &tr!("Last sync"), &when(agent.last_sync_at, now));
    let last = when(agent.last_full_sync_at, now);
    let full_sync = match agent.next_full_sync_at {
        0 => last,
        next => tr!("{last}, next {next}", last, next = when(next, now)),
    };
    line(text, &tr!("Full sync"), &full_sync);
    // One remote without any must not hide those of the others.
    if agent.last_full_sync_at == 0 && view.remotes.iter().any(|remote| remote.last_full_sync_at > Some(0)) {
        for remote in &view.remotes {
            let said = tr!(
                "{time} on {remote}",
                time = when(remote.last_full_sync_at.unwrap_or(0), now),
                remote = safe(&remote.name)
            );
            line(text, &tr!("Full sync"), &said);
        }
    }
    for job in &view.jobs {
        line(text, &tr!("Job"), &format!("{} {}, {}", job.id, words::state(&job.state), words::progress(job)));
    }
    let sent = tr!(
        "{changes} change, {bytes}" | "{changes} changes, {bytes}" % agent.files_synced,
        changes = count(agent.files_synced),
        bytes = bytes(agent.bytes_sent)
    );
    line(text, &tr!("Sent"), &sent);
    if agent.overflows > 0 {
        let said = tr!("{overflows}, each mended by a walk of the tree", overflows = count(agent.overflows));
        line(text, &tr!("Overflows"), &said);
    }
    text.push('\n');
    if !view.remotes.is_empty() {
        remotes(text, &view.remotes, now, session);
    }
    if !agent.plugins.is_empty() {
        plugins(text, &agent.plugins, now, session);
    }
}

/// Who is told of changes, and what keeps from it.
fn plugins(text: &mut String, rows: &[PluginRow], now: u64, session: &Session) {
    let headings = [tr!("PLUGIN"), tr!("TARGET"), tr!("WAITING"), tr!("DONE"), tr!("FAILED")];
    let mut table = session.table(headings).indented(2);
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
        let failing = format!("{BAD}{}{BAD:#}", tr!("failing"));
        let (plugin, since) = (safe(plugin), lag(now.saturating_sub(*since)));
        let said = match *next_try {
            0 => tr!("{plugin}: {failing} for {time}", plugin, failing, time = since),
            next => {
                let next = when(next, now);
                tr!("{plugin}: {failing} for {time}, next try {next}", plugin, failing, time = since, next)
            }
        };
        let _ = writeln!(text, "\n  {said}");
        let _ = writeln!(text, "    {}", safe(error));
    }
}

fn remotes(text: &mut String, remotes: &[Remote], now: u64, session: &Session) {
    let headings =
        [tr!("REMOTE"), tr!("STATE"), tr!("PENDING"), tr!("FAILED"), tr!("LAG"), tr!("LAST SUCCESS"), tr!("SENT")];
    let mut table = session.table(headings).indented(2);
    for remote in remotes {
        let style = match remote.state.as_str() {
            "waiting" => BAD,
            "idle" if remote.is_in_sync() => GOOD,
            _ => BUSY,
        };
        table.row([
            safe(&remote.name).into(),
            Cell::from(words::state(&remote.state)).styled(style),
            Cell::from(count(remote.queue_depth)).right(),
            Cell::from(count(remote.failure_count)).right(),
            Cell::from(lag(remote.lag_usec)).right(),
            when(remote.last_success_at, now).into(),
            Cell::from(bytes(remote.bytes_sent)).right(),
        ]);
    }
    let _ = write!(text, "{table}");
    for remote in remotes {
        if !remote.last_error_name.is_empty() {
            let mut said = tr!(
                "{remote}: {error}, failing for {time}, {tries} try"
                    | "{remote}: {error}, failing for {time}, {tries} tries" % remote.attempts,
                remote = safe(&remote.name),
                error = format_args!("{BAD}{}{BAD:#}", safe(&remote.last_error_name)),
                time = lag(now.saturating_sub(remote.failing_since)),
                tries = count(u64::from(remote.attempts))
            );
            if remote.next_try_at > 0 {
                said.push_str(&tr!(", next {time}", time = when(remote.next_try_at, now)));
            }
            let _ = writeln!(text, "\n  {said}");
            for words in remote.last_error.lines() {
                let _ = writeln!(text, "    {}", reason(words));
            }
        }
        if remote.deletions_withheld > 0 {
            text.push('\n');
            for line in accept::withheld(remote) {
                let _ = writeln!(text, "  {line}");
            }
        }
        if !remote.refused_options.is_empty() {
            let options = safe(&remote.refused_options.join(" "));
            let said = tr!("{remote}: its rsync is old, done without {options}", remote = safe(&remote.name), options);
            let _ = writeln!(text, "\n  {said}");
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
