//! What runs delete or replace on a remote, kept there for some days (`<keepDeleted days="…"/>`).
//!
//! rsync moves it into [`DIRECTORY`] of the remote's directory (`--backup-dir`): below the day and the time of the run, in
//! UTC, under its path. A run that was started ahead has the time of its start, so none is where deletions are kept: the
//! order of the names is the order of the versions.
//!
//! No other run sends, lists or deletes anything in that directory, and nothing of that name here is mirrored. The days
//! that are over are deleted by rsync itself, which works for every kind of remote; what else is in the directory stays.

use super::endpoint::{Endpoint, Environment};
use super::fault::{Fault, name as fault_name};
use super::plan::RootIdentity;
use super::process::{Feed, Limits, Run};
use super::run::{not_started, run_broken};
use super::{open_directory, ruleset};
use crate::path::RelPath;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The directory, in that of the remote.
pub const DIRECTORY: &str = ".sersync-deleted";

/// Maximum time without progress while days that are over are deleted. rsync prints each path, so a remote that is at work
/// makes progress.
const PRUNING: Duration = Duration::from_secs(600);

/// Maximum time for making the directory.
const MAKING: Duration = Duration::from_secs(60);

/// Keeping what one remote deletes or replaces.
#[derive(Debug)]
pub(super) struct Kept {
    days: u16,
    /// The directory was made, or found, since this process started.
    is_made: AtomicBool,
}

impl Kept {
    pub fn new(days: u16) -> Self {
        Self { days, is_made: AtomicBool::new(false) }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.days == other.days
    }
}

impl Eq for Kept {}

/// Options that have a run leave the directory alone. They go before others: the first filter that matches counts.
pub(super) fn spare_directory() -> OsString {
    format!("--exclude=/{DIRECTORY}").into()
}

/// Options that have a run keep what it deletes or replaces.
pub(super) fn keep() -> [String; 2] {
    let time = Timestamp::now().strftime("%Y-%m-%d/%H-%M-%S.%3fZ");
    ["--backup".to_owned(), format!("--backup-dir={DIRECTORY}/{time}")]
}

/// Whether `path` is the directory, or in it.
pub(super) fn is_inside(path: &RelPath) -> bool {
    path.as_bytes().split(|byte| *byte == b'/').next() == Some(DIRECTORY.as_bytes())
}

/// Makes the directory on the remote, unless it is there. Other users of the remote cannot enter it: what was deleted may
/// have been deleted for a reason, and a web server may serve what is around it. One that exists stays as it is.
///
/// # Errors
///
/// The fault of the run, and anything but a directory under that name: a link would lead what is kept elsewhere.
pub(super) async fn make_directory(endpoint: &Endpoint, root: &Arc<OwnedFd>) -> Result<(), Fault> {
    let Some(kept) = endpoint.kept().filter(|kept| !kept.is_made.load(Ordering::Relaxed)) else { return Ok(()) };
    let limits = Limits { total: MAKING, ..Limits::long(MAKING) };
    let mut found = None;
    let listing = endpoint.listing(DIRECTORY);
    let listed = run(endpoint, root, listing, limits, |line| found = found.or_else(|| kind_of_directory(line))).await;
    match (listed, found) {
        (_, Some(b'd')) => {}
        (_, Some(_)) => {
            let message = format!("{DIRECTORY} of the remote is not a directory: remove it there, or rename it");
            return Err(Fault::new(fault_name::IO_ERROR, message));
        }
        // The first run makes the remote's directory, and finds nothing there to delete or to replace.
        (Err(fault), None) if fault.message.contains(NO_SUCH_FILE) => return Ok(()),
        // A module may be for writing only; what else is wrong is wrong for this run as well.
        (_, None) => run(endpoint, root, endpoint.make_kept_directory(DIRECTORY), limits, |_| ()).await?,
    }
    kept.is_made.store(true, Ordering::Relaxed);
    Ok(())
}

/// What rsync says of a directory that does not exist.
const NO_SUCH_FILE: &str = "No such file or directory (2)";

/// The first letter of the mode in a line of a listing, if the line is that of the directory.
fn kind_of_directory(line: &[u8]) -> Option<u8> {
    // A link is followed by its target.
    let is_named = |word: &[u8]| word == DIRECTORY.as_bytes();
    line.split(|byte| *byte == b' ').any(is_named).then_some(*line.first()?)
}

impl Endpoint {
    /// Deletes what the remote has kept for longer than the config says. `root` is a watched directory that it mirrors, which
    /// has to be the directory `identity`; nothing of it is sent.
    ///
    /// # Errors
    ///
    /// The fault of the run.
    pub async fn prune_kept(&self, root: &Path, identity: Option<RootIdentity>) -> Result<(), Fault> {
        let Some(kept) = self.kept() else { return Ok(()) };
        let today = Timestamp::now().to_zoned_datetime(TimeZone::UTC).date();
        let Ok(first_kept) = today.checked_sub(i64::from(kept.days).days()) else { return Ok(()) };
        let (root, _) = open_directory(root, identity)?;
        // It may have been removed there meanwhile.
        kept.is_made.store(false, Ordering::Relaxed);
        make_directory(self, &root).await?;
        // rsync would delete the directory itself with its last entry: this one is too young for that.
        let command = self.make_kept_directory(&format!("{DIRECTORY}/{today}"));
        run(self, &root, command, Limits::long(MAKING), |_| ()).await?;
        let command = self.delete_days(&days_before(first_kept));
        run(self, &root, command, Limits::long(PRUNING), |_| ()).await
    }
}

async fn run(
    endpoint: &Endpoint,
    root: &Arc<OwnedFd>,
    (arguments, environment): (Vec<OsString>, Environment),
    limits: Limits,
    on_line: impl FnMut(&[u8]),
) -> Result<(), Fault> {
    let ruleset = ruleset(endpoint, root).await?;
    let run =
        Run::start("rsync", &arguments, &environment, root, true, &ruleset).map_err(|error| not_started(&error))?;
    let ended = run.complete(Feed::Whole(Vec::new()), on_line, limits, &|_| ()).await;
    let ended = ended.map_err(|broken| run_broken(&broken))?;
    match ended.status.code() {
        Some(0) => Ok(()),
        exit => Err(Fault::from_exit(exit, &ended.stderr)),
    }
}

/// Patterns that match the names of all days before `date`, of no later day, and of nothing else: for each digit that can be
/// less, the digits before it, a lesser one, and any digits after it.
fn days_before(date: Date) -> Vec<String> {
    let name = date.strftime("%Y-%m-%d").to_string();
    let is_reducible = |(_, digit): &(usize, char)| matches!(digit, '1'..='9');
    let reducible = name.char_indices().filter(is_reducible);
    reducible
        .map(|(at, digit)| {
            let less = char::from(digit as u8 - 1);
            format!("{}[0-{less}]{}", &name[..at], name[at + 1..].replace(|c: char| c.is_ascii_digit(), "[0-9]"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    #[test]
    fn the_directory_is_one_of_the_root_alone() {
        assert!(is_inside(&rel(".sersync-deleted")) && is_inside(&rel(".sersync-deleted/2026-11-28/a")));
        for other in ["", "a/.sersync-deleted", ".sersync-deleted2", ".sersync-deleted2/a"] {
            assert!(!is_inside(&rel(other)), "{other}");
        }
    }

    #[test]
    fn days_before_another_are_matched_and_no_others() {
        let first: Date = "2026-11-21".parse().unwrap();
        let patterns: Vec<glob::Pattern> =
            days_before(first).iter().map(|pattern| glob::Pattern::new(pattern).unwrap()).collect();
        let is_over = |name: &str| patterns.iter().any(|pattern| pattern.matches(name));
        let mut day: Date = "1999-12-01".parse().unwrap();
        while day.year() < 2040 {
            assert_eq!(is_over(&day.to_string()), day < first, "{day}");
            day = day.tomorrow().unwrap();
        }
        for other in ["2026-11", "2026-11-2", "2026-11-20.tar", "x2026-11-20", "notes", "2026-11-2x"] {
            assert!(!is_over(other), "{other}");
        }
        assert!(days_before("2026-11-01".parse().unwrap()).iter().all(|pattern| pattern.ends_with(']')));
    }
}
