//! `accept`: carries out deletions that are withheld, after it has shown which.

use super::error::CtlError;
use super::view::{Remote, View};
use super::{Session, done};
use crate::bus::names;
use crate::human::{count, safe};
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use tr::tr;

/// Shows what is withheld on the remotes named, or on all, asks on a terminal unless `yes`, and has it carried out.
pub async fn run(session: &Session, name: &str, remotes: &[String], yes: bool) -> Result<ExitCode, CtlError> {
    let view = View::read(&session.bus, &names::bus_name(name), name).await.map_err(Into::into);
    let view = done(session, name, view).await?;
    let is_meant = |remote: &&Remote| remotes.is_empty() || remotes.contains(&remote.name);
    let withheld: Vec<&Remote> =
        view.remotes.iter().filter(is_meant).filter(|remote| remote.deletions_withheld > 0).collect();
    let asks = !yes && !session.json && std::io::stdin().is_terminal();
    if asks && !withheld.is_empty() {
        for line in withheld.iter().flat_map(|remote| self::withheld(remote)) {
            session.say(&line)?;
        }
        if !confirmed()? {
            session.say(&tr!("nothing is deleted"))?;
            return Ok(ExitCode::FAILURE);
        }
    } else if !asks && !yes && !withheld.is_empty() {
        return Err(CtlError::NotConfirmed(session.scope, name.to_owned()));
    }
    let accepted = done(session, name, session.agent(name).await?.accept_deletions(remotes).await).await?;
    if session.json {
        writeln!(anstream::stdout(), "{}", serde_json::json!({ "accepted": accepted }))?;
    }
    if accepted == 0 {
        session.say(&tr!("no deletions are withheld"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let deletions = count(u64::from(accepted));
    session.say(&tr!(
        "{deletions} deletion is carried out" | "{deletions} deletions are carried out" % accepted,
        deletions = deletions
    ))?;
    session.say_next(&session.scope.ctl("wait", name))?;
    Ok(ExitCode::SUCCESS)
}

/// What is withheld on `remote`, and some of the paths: lines for people.
pub(super) fn withheld(remote: &Remote) -> Vec<String> {
    let deletions = count(remote.deletions_withheld);
    let reason = remote.deletions_withheld_reason.as_deref().unwrap_or_default();
    let mut lines = vec![tr!(
        "{deletions} deletion withheld on {remote}: {reason}"
            | "{deletions} deletions withheld on {remote}: {reason}" % remote.deletions_withheld,
        deletions = deletions,
        remote = safe(&remote.name),
        reason = safe(reason)
    )];
    lines.extend(remote.withheld_paths().map(|path| format!("  {}", safe(&String::from_utf8_lossy(path)))));
    let shown = lines.len() as u64 - 1;
    let others = remote.deletions_withheld.saturating_sub(shown);
    if shown > 0 && others > 0 {
        lines.push(format!("  {}", tr!("and {others} more", others = count(others))));
    }
    lines
}

/// Asks on the terminal.
fn confirmed() -> Result<bool, CtlError> {
    let mut out = anstream::stderr();
    write!(out, "{} [y/N] ", tr!("Delete this on the remotes?"))?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
