//! `failures`, grouped by remote and reason, and `pending`: paths, page by page.

use super::error::CtlError;
use super::proxy::AgentProxy;
use super::sentences::reason;
use super::table::{Cell, Table};
use super::view::{now_usec, path_json, shown, time_json};
use super::{List, Session, done, words};
use crate::bus::{Error, FailureRow, PendingRow};
use crate::human::{count, safe, when, without_path};
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use tr::tr;

/// So many lines fit what a person reads at once.
const LINES: usize = 50;
/// Rows asked for at once.
const PAGE: u32 = 5000;
/// Length of the texts of a page from which on it may have been cut, in bytes: no row is longer than the rest.
const MAY_BE_CUT: usize = crate::agent::handle::PAGE - (64 << 10);

/// Prints the failed paths.
pub async fn failures(session: &Session, list: &List) -> Result<(), CtlError> {
    let ask = async |agent: &AgentProxy<'_>, offset, limit| agent.list_failures(offset, limit).await;
    let is_grouped = !session.json && !list.all && list.lines.is_none();
    let wanted = if is_grouped { usize::MAX } else { list.wanted(session) };
    let (rows, more) = pages(session, &list.name, wanted, ask, failure_length).await?;
    if session.json {
        return print_json(rows.iter().map(failure_json));
    }
    if rows.is_empty() {
        return session.say(&tr!("no path has failed"));
    }
    let now = now_usec();
    if is_grouped {
        write!(anstream::stdout(), "{}", grouped(session, &rows, now))?;
        let all = format!("{} --all", session.scope.ctl("failures", &list.name));
        session.say(&tr!("each path: {command}", command = all))?;
        return session.say_next(&session.scope.ctl("retry", &list.name));
    }
    let mut table = session.table([
        tr!("REMOTE"),
        tr!("PATH"),
        tr!("ERROR"),
        tr!("TRIES"),
        tr!("LAST"),
        tr!("NEXT"),
        tr!("REASON"),
    ]);
    for (remote, path, error, message, attempts, failed_at, next_try) in &rows {
        table.row([
            safe(remote).into(),
            shown(path).into(),
            safe(error).into(),
            Cell::from(attempts.to_string()).right(),
            when(*failed_at, now).into(),
            when(*next_try, now).into(),
            reason(&first_line(message, path)).into(),
        ]);
    }
    write!(anstream::stdout(), "{table}")?;
    tell_of_more(session, list, more, "failures")?;
    session.say_next(&session.scope.ctl("retry", &list.name))
}

/// Failures with one remote, one error and one reason as one row, the largest group first.
fn grouped(session: &Session, rows: &[FailureRow], now: u64) -> Table {
    struct Group<'r> {
        paths: u64,
        example: &'r [u8],
        next_try: u64,
    }
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for (remote, path, error, message, _, _, next_try) in rows {
        let new = Group { paths: 0, example: path, next_try: *next_try };
        let group = groups.entry((remote, error, first_line(message, path))).or_insert(new);
        group.paths += 1;
        group.next_try = group.next_try.min(*next_try);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| Reverse(group.paths));
    let headings = [tr!("REMOTE"), tr!("ERROR"), tr!("PATHS"), tr!("NEXT"), tr!("EXAMPLE"), tr!("REASON")];
    let mut table = session.table(headings);
    for ((remote, error, why), Group { paths, example, next_try }) in groups {
        table.row([
            safe(remote).into(),
            safe(error).into(),
            Cell::from(count(paths)).right(),
            when(next_try, now).into(),
            shown(example).into(),
            reason(&why).into(),
        ]);
    }
    table
}

/// The first line of rsync's words about `path`, which need not name it again.
fn first_line(message: &str, path: &[u8]) -> String {
    without_path(message.lines().next().unwrap_or_default(), path)
}

/// Prints the pending paths.
pub async fn pending(session: &Session, list: &List) -> Result<(), CtlError> {
    let ask = async |agent: &AgentProxy<'_>, offset, limit| agent.list_pending(offset, limit).await;
    let (rows, more) = pages(session, &list.name, list.wanted(session), ask, pending_length).await?;
    if session.json {
        return print_json(rows.iter().map(pending_json));
    }
    if rows.is_empty() {
        return session.say(&tr!("nothing is pending"));
    }
    let now = now_usec();
    let mut table = session.table([tr!("REMOTE"), tr!("PATH"), tr!("KIND"), tr!("SINCE"), String::new()]);
    for (remote, path, kind, since, in_flight) in &rows {
        let flight = if *in_flight { tr!("in flight") } else { String::new() };
        table.row([safe(remote), shown(path), words::kind(kind), when(*since, now), flight].map(Cell::from));
    }
    write!(anstream::stdout(), "{table}")?;
    tell_of_more(session, list, more, "pending")?;
    session.say_next(&session.scope.ctl("wait", &list.name))
}

impl List {
    /// Maximum number of rows.
    fn wanted(&self, session: &Session) -> usize {
        match self.lines {
            Some(lines) => lines,
            None if self.all || session.json => usize::MAX,
            None => LINES,
        }
    }
}

/// Up to `wanted` rows, and whether there are more. `length`: that of a row's texts.
async fn pages<T>(
    session: &Session,
    name: &str,
    wanted: usize,
    ask: impl AsyncFn(&AgentProxy<'_>, u32, u32) -> Result<Vec<T>, Error>,
    length: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, bool), CtlError> {
    let agent = session.agent(name).await?;
    let mut rows = Vec::new();
    loop {
        // One more than wanted tells whether there are more.
        let missing = wanted.saturating_add(1) - rows.len();
        let limit = u32::try_from(missing).unwrap_or(PAGE).min(PAGE);
        let Ok(offset) = u32::try_from(rows.len()) else { return Ok((rows, true)) };
        let page = done(session, name, ask(&agent, offset, limit).await).await?;
        let is_short = page.len() < limit as usize && page.iter().map(&length).sum::<usize>() < MAY_BE_CUT;
        let last = page.is_empty() || is_short;
        rows.extend(page);
        if rows.len() > wanted {
            rows.truncate(wanted);
            return Ok((rows, true));
        }
        if last {
            return Ok((rows, false));
        }
    }
}

fn failure_length((remote, path, _, message, ..): &FailureRow) -> usize {
    remote.len() + path.len() + message.len()
}

fn pending_length((remote, path, ..): &PendingRow) -> usize {
    remote.len() + path.len()
}

fn tell_of_more(session: &Session, list: &List, more: bool, verb: &str) -> Result<(), CtlError> {
    if !more {
        return Ok(());
    }
    let shown = list.lines.unwrap_or(LINES) as u64;
    let all = format!("{} --all", session.scope.ctl(verb, &list.name));
    session.say(&tr!(
        "the first path; for all: {command}" | "the first {paths} paths; for all: {command}" % shown,
        paths = count(shown),
        command = all
    ))
}

fn print_json(rows: impl Iterator<Item = Value>) -> Result<(), CtlError> {
    writeln!(anstream::stdout(), "{:#}", rows.collect::<Value>())?;
    Ok(())
}

fn failure_json((remote, path, error, message, attempts, failed_at, next_try): &FailureRow) -> Value {
    let mut row = path_json("path", path);
    row["remote"] = remote.as_str().into();
    row["error"] = error.as_str().into();
    row["message"] = message.as_str().into();
    row["attempts"] = (*attempts).into();
    row["failed_at"] = time_json(*failed_at);
    row["next_try_at"] = time_json(*next_try);
    row
}

fn pending_json((remote, path, kind, since, in_flight): &PendingRow) -> Value {
    let mut row = path_json("path", path);
    row["remote"] = remote.as_str().into();
    row["kind"] = kind.as_str().into();
    row["pending_since"] = time_json(*since);
    row["in_flight"] = (*in_flight).into();
    row
}
