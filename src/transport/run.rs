//! One run of rsync, as far as the remote accepts what is asked of it; and what its end means.

use super::ahead;
use super::capabilities::{Capabilities, Support, Used};
use super::confinement;
use super::endpoint::Form;
use super::fault::{self, Fault, name as fault_name};
use super::output::{self, Complaints, Progress, Totals};
use super::process::{Broken, Ended, Feed, Limits, Run, Sign};
use super::{SYNCED_AT_MOST, Work, local, outcome, plan, shell, synced};
use crate::filter::EntryKind;
use crate::pending::{Kind, Lane};
use std::ffi::OsString;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

impl Work<'_> {
    /// Runs rsync, with less where an option may be what the remote did not like. Returns what the run that
    /// succeeded made use of; its complaints are added to what was complained of before.
    ///
    /// A daemon of 3.5.0 with `refuse options = delete-missing-args` leaves the option out without a word, and where
    /// the missing path comes first in the list the run succeeds and deletes nothing (measured). So a deletion by name
    /// that deleted nothing does not count as made use of, until one has been seen that did. When a deletion by
    /// pattern finds what such a one left, twice, that proves it: once, another run may have brought it in between.
    pub(super) async fn run(
        &mut self,
        form: Form,
        feed: impl Fn() -> Feed,
        mut on_line: impl FnMut(Option<&[u8]>),
    ) -> Result<Capabilities, Fault> {
        let mut effective = self.capabilities;
        let mut first_failure: Option<(Fault, Used)> = None;
        let mut less = Vec::new().into_iter();
        self.no_room_for = None;
        loop {
            let mut line = self.endpoint.command_line(form, effective);
            let itemize = self.order.name_synced && self.order.kind >= Kind::Tree && !form.is_dry();
            if itemize || self.itemize {
                line.arguments.insert(0, synced::ITEMIZE.into());
            }
            if form.is_recursive() {
                let patterns = self.order.unreachable.iter();
                // Hidden, not excluded: what an earlier run has brought of them is deleted.
                let rules = patterns.map(|pattern| OsString::from_vec([b"--filter=hide ", &**pattern].concat()));
                line.arguments.splice(0..0, rules);
            }
            on_line(None);
            let list = feed();
            let ahead = self.take_ahead(form, effective);
            if let Some((_, ahead_form)) = &ahead {
                line = self.endpoint.command_line(*ahead_form, effective);
            }
            tracing::debug!(
                target: "sersync::rsync",
                sersync_paths = list.paths(),
                "rsync: {}",
                shell::line(&self.order.root, &line, list.whole())
            );
            let is_ahead = ahead.is_some();
            let run = match ahead {
                Some((run, _)) => run,
                None => Run::start(
                    "rsync",
                    &line.arguments,
                    &line.environment,
                    &self.root,
                    self.order.lane == Lane::Background,
                    &self.ruleset,
                )
                .map_err(|error| {
                    confinement::may_be_out_of_reach(&error, &self.ruleset).unwrap_or_else(|| not_started(&error))
                })?,
            };
            let mut totals = Totals::default();
            let (mut deletions_skipped, mut deleted, mut came_back) = (false, 0_u64, false);
            let (itemized, order, missing) = (&mut self.itemized, self.order, &self.missing);
            let listen = |text: &[u8]| {
                totals.take_line(text);
                deletions_skipped |= text == output::DELETIONS_SKIPPED;
                let told = output::deleted(text).unwrap_or_else(|| u64::from(output::deletion(text).is_some()));
                deleted = told.saturating_add(deleted);
                came_back |= !missing.is_empty() && synced::is_sent(text, missing);
                if let Some(progress) = Progress::from_line(text) {
                    (self.on_sign)(Sign::Progress(progress));
                }
                if itemize && itemized.len() < SYNCED_AT_MOST {
                    itemized.extend(synced::of_batch(order, text));
                }
                on_line(Some(text));
            };
            let limits = match form.is_brief() {
                _ if is_ahead => Limits::connected(self.endpoint.patience(true).min(ahead::PATIENCE)),
                true => Limits::live(self.endpoint.patience(true)),
                false => Limits::long(self.endpoint.patience(false)),
            };
            let ended = match run.complete(list, listen, limits, self.on_sign).await {
                Ok(ended) => ended,
                Err(Broken::WaitsForWriter) => {
                    self.totals.add(totals);
                    self.complaints.unsent = self.order.paths.clone();
                    return Ok(effective);
                }
                // What went wrong with one that was started ahead says nothing of the remote.
                Err(_) if is_ahead => {
                    self.ahead_was_gone = true;
                    continue;
                }
                Err(broken) => return Err(run_broken(&broken)),
            };
            if form.is_dry() {
                totals.entries = 0;
            }
            self.totals.add(totals);
            match self.judge(form, &ended) {
                Ok(mut complaints) => {
                    complaints.trees_incomplete |= deletions_skipped;
                    let before = self.capabilities.delete_missing_args;
                    self.capabilities.learn(first_failure.map(|(_, used)| used), line.used);
                    self.complaints.add(complaints);
                    if line.used.delete_missing_args {
                        // What has come back was sent: there was nothing to delete.
                        self.doubtful_deletion = deleted == 0 && before != Support::Accepted && !came_back;
                        if self.doubtful_deletion {
                            self.capabilities.delete_missing_args = before;
                            effective.delete_missing_args = Support::Refused;
                        }
                    } else if form == Form::DeleteMatching && deleted > 0 && std::mem::take(&mut self.doubtful_deletion)
                    {
                        self.capabilities.delete_missing_args = before.blame();
                    }
                    return Ok(effective);
                }
                Err(_) if is_ahead => self.ahead_was_gone = true,
                Err(fault) => {
                    if matches!(fault.name, fault_name::NO_SPACE | fault_name::QUOTA_EXCEEDED) {
                        let said = self.complaints_in(form, &ended.stderr);
                        let at = said.failed.into_iter().find(|(_, named)| named.name == fault.name);
                        self.no_room_for = at.map(|(path, _)| path);
                    }
                    if let Some(named) = self.capabilities.without_named(&ended.stderr, line.used) {
                        // The remote has said which: begin again without it.
                        (self.capabilities, effective, first_failure) = (named, named, None);
                        continue;
                    }
                    if first_failure.is_none() && may_be_an_option(&fault) {
                        less = self.capabilities.less(line.used).into_iter();
                    }
                    let (first_fault, _) = first_failure.get_or_insert((fault.clone(), line.used));
                    match less.next() {
                        Some(step) if may_be_an_option(&fault) => effective = step,
                        _ => {
                            self.capabilities = self.capabilities.after_connection_loss();
                            return Err(first_fault.clone());
                        }
                    }
                }
            }
        }
    }

    /// The run that was started ahead, and the form that it was started in, if it is one of `form`, of a remote that
    /// accepts `effective`.
    fn take_ahead(&mut self, form: Form, effective: Capabilities) -> Option<(Run, Form)> {
        let own = self.ahead.as_ref()?.serves(form, self.identity, effective)?;
        let ahead = self.ahead.take()?;
        ahead.is_alive().then(|| (ahead.into_run(), own))
    }

    fn judge(&self, form: Form, ended: &Ended) -> Result<Complaints, Fault> {
        const PARTIAL: i32 = 23;
        const VANISHED: i32 = 24;
        const DELETIONS_STOPPED: i32 = 25;
        let exit = ended.status.code();
        let withheld = match form {
            Form::Trees { at_most: Some(_), .. } => output::skipped_deletions(&ended.stderr),
            _ => 0,
        };
        if withheld > 0 && matches!(exit, Some(0 | DELETIONS_STOPPED)) {
            return Ok(Complaints { withheld, ..Complaints::default() });
        }
        if exit == Some(0) {
            // A remote that stopped deleting says so and calls it a success.
            let limit = ended.stderr.lines().find(|line| line.contains(fault::DELETIONS_STOPPED));
            let failed = limit.and_then(Fault::from_words).into_iter();
            let failed =
                failed.flat_map(|fault| self.order.paths.iter().map(move |path| (path.clone(), fault.clone())));
            return Ok(Complaints { failed: failed.collect(), ..Complaints::default() });
        }
        if !matches!(exit, Some(PARTIAL | VANISHED)) {
            return Err(Fault::from_exit(exit, &ended.stderr));
        }
        let stderr = match ended.truncated {
            true => ended.stderr.rsplit_once('\n').map_or("", |(whole, _)| whole),
            false => &ended.stderr,
        };
        let mut found = Complaints { withheld, ..self.complaints_in(form, stderr) };
        if withheld > 0 {
            // That line names no path, and it explains the directories in the way.
            found.unnamed.take_if(|fault| fault.name == fault_name::DELETE_LIMIT);
            found.overlooked |= found.failed.is_empty();
        }
        self.review_refusals(&mut found);
        if found.unnamed.is_none() && found.failed.is_empty() && found.vanished.is_empty() {
            if found.overlooked {
                return Ok(found);
            }
            if exit == Some(VANISHED) {
                found.unsent = self.order.paths.clone();
                return Ok(found);
            }
            return Err(Fault::from_exit(exit, stderr));
        }
        // Where one complaint cannot be told to be about a path, it may be about any.
        let about_any = found.unnamed.take().or_else(|| {
            let more = "rsync complained of more paths than can be told apart";
            ended.truncated.then(|| Fault::new(fault_name::PARTIAL_TRANSFER, more))
        });
        if let Some(fault) = about_any {
            found.failed.extend(self.order.paths.iter().map(|path| (path.clone(), fault.clone())));
        }
        Ok(found)
    }

    /// What rsync complained of in a run of `form`.
    fn complaints_in(&self, form: Form, stderr: &str) -> Complaints {
        let root = self.real_root();
        let reader = output::Reader {
            root: &root,
            prefix: &self.endpoint.message_prefix(),
            concerns: &|path| outcome::concerns(self.order, path),
            // What is excluded is struck out of the list that a dry run makes.
            overlook: &|path| form.is_dry() && self.order.filter.excludes(path, EntryKind::Directory),
            exists: &|path| plan::exists(self.root.as_fd(), path),
        };
        reader.complaints(stderr)
    }

    /// The root as rsync finds itself in it: symbolic links on the way to it followed.
    fn real_root(&self) -> PathBuf {
        let link = format!("/proc/self/fd/{}", self.root.as_raw_fd());
        std::fs::read_link(link).unwrap_or_else(|_| self.order.root.clone())
    }
}

impl Complaints {
    pub(super) fn add(&mut self, other: Self) {
        self.failed.extend(other.failed);
        self.vanished.extend(other.vanished);
        self.unsent.extend(other.unsent);
        self.trees_incomplete |= other.trees_incomplete;
        self.withheld = self.withheld.saturating_add(other.withheld);
        self.withheld_paths.extend(other.withheld_paths);
    }
}

/// Whether an option that the remote does not know could be behind `fault`.
fn may_be_an_option(fault: &Fault) -> bool {
    matches!(fault.name, fault_name::CONNECTION_LOST | fault_name::OPTION_REFUSED | fault_name::RSYNC_FAILED)
}

pub(super) fn not_started(error: &std::io::Error) -> Fault {
    match error.kind() {
        std::io::ErrorKind::NotFound => Fault::new(
            fault_name::RSYNC_MISSING,
            "rsync is not installed here, or not in PATH: install the package `rsync`",
        ),
        _ => local::fault("rsync could not be run", error),
    }
}

/// The fault of a run that was ended from here.
pub(super) fn run_broken(broken: &Broken) -> Fault {
    match broken {
        Broken::NoAnswer(limit) => {
            let seconds = limit.as_secs();
            Fault::new(
                fault_name::NO_ANSWER,
                format!(
                    "connected, no answer for {seconds} s: its rsync or ssh is stopped or overloaded, or a firewall \
                     drops packets; look at the processes and the log there"
                ),
            )
        }
        Broken::StoodStill(limit) => {
            let seconds = limit.as_secs();
            Fault::new(fault_name::TIMEOUT, format!("nothing moved for {seconds} s: rsync was ended"))
        }
        Broken::TooLong(limit) => {
            let minutes = limit.as_secs() / 60;
            Fault::new(
                fault_name::TIMEOUT,
                format!("a run of live changes took more than {minutes} minutes: rsync was ended"),
            )
        }
        Broken::WaitsForWriter => Fault::new(fault_name::RSYNC_FAILED, "rsync opened a fifo and was ended"),
        Broken::Io(error) => not_started(error),
    }
}
