//! Renames on a remote with a shell, before the run that makes both ends of each equal.
//!
//! All renames of a batch are made by one command of ssh. That command is a constant: names reach it through its stdin,
//! NUL-separated, and the remote's `xargs` hands them to a script as arguments, so no shell ever reads one. It needs
//! nothing but xargs with `-0`, df and mv, as GNU, the BSDs and busybox have them.
//!
//! A rename never leaves the remote's directory (no component of a path may be a symbolic link), never crosses file
//! systems (there mv would copy), and never merges directories. What the script is not sure of it leaves alone, and what
//! was renamed here is then sent like anything else.

use super::Work;
use super::capabilities::Support;
use super::fault::{Fault, name as fault_name};
use super::plan::Plan;
use super::process::{Broken, Feed, Limits, Run};
use super::run::{not_started, run_broken};
use crate::path::RelPath;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

/// Reads five arguments for each rename (its number, the directory, `d` or `f`, old path, new path) and answers each with a
/// line: [`ANSWER`], the number, and `1` if it was made. The remote's shell may print other lines before. It is one line
/// without exclamation marks and backslashes, since any shell may read it between quotes.
const SCRIPT: &str = concat!(
    r#"cd "$2" || exit 1; set -f; same=; "#,
    // Leaves the directory that holds $1 in $way, if it can be reached without a symbolic link.
    r#"reach() { way=.; rest=$1; while :; do case $rest in */*) way=$way/${rest%%/*}; rest=${rest#*/}; "#,
    r#"if [ -h "$way" ]; then return 1; fi; [ -d "$way" ] || return 1;; *) return 0;; esac; done; }; "#,
    // Whether two directories are of one file system, by device and mount point.
    r#"one() { if [ "$1" = "$2" ] || [ "$1 $2" = "$same" ]; then return 0; fi; df -P "$1" "$2" | { read -r first; "#,
    r#"read -r first; read -r second; set -- $first; first=$1,$6; set -- $second; [ "$first" = "$1,$6" ]; } "#,
    r#"&& same="$1 $2"; }; "#,
    r#"rename() { reach "$2" || return 1; from=$way; reach "$3" || return 1; one "$from" "$way" || return 1; "#,
    r#"if [ -n "$keep" ] && { [ -e "./$3" ] || [ -h "./$3" ]; }; then return 1; fi; "#,
    r#"if [ -h "./$2" ]; then return 1; fi; case $1 in d) [ -d "./$2" ] || return 1;; *) [ -f "./$2" ] || return 1;; esac; "#,
    r#"if [ -h "./$3" ]; then rm -f "./$3" || return 1; elif [ -d "./$3" ]; then rmdir "./$3" || return 1; fi; "#,
    r#"mv -f "./$2" "./$3"; }; "#,
    r#"while [ $# -ge 5 ]; do if rename "$3" "$4" "$5" </dev/null >/dev/null 2>&1; then made=1; else made=0; fi; "#,
    r#"echo "sersync-rename $1 $made"; shift 5; done"#
);

/// Ten renames go to one shell. More than fits into an argument list is not split, but left alone (`-x`). Where a remote
/// keeps what is replaced, no rename replaces anything: rsync does, and keeps it.
fn command(keeps_replaced: bool) -> String {
    let keep = if keeps_replaced { "keep=1; " } else { "keep=; " };
    format!("exec xargs -0 -x -n 50 sh -c '{keep}{SCRIPT}' sersync")
}

/// A command of which nothing is heard for so long will not come to an end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the script's answers begin with.
const ANSWER: &[u8] = b"sersync-rename ";

/// Exit statuses after which the next try may succeed: the command could not be run (126, "EXIT STATUS" in xargs(1)), bash
/// could not fork (254), ssh did not reach the remote or lost it (255).
const FOR_A_MOMENT: [i32; 3] = [126, 254, 255];

/// Words of a machine that has no room for another process.
const NO_ROOM: [&str; 3] = ["fork", "Resource temporarily unavailable", "Cannot allocate memory"];

/// Whether a remote whose command ended like that will never rename: a shell that runs nothing but rsync, no xargs.
fn may_be_for_good(exit: Option<i32>, stderr: &str) -> bool {
    exit.is_some_and(|exit| exit < 128 && !FOR_A_MOMENT.contains(&exit))
        && !NO_ROOM.iter().any(|words| stderr.contains(words))
}

/// The number of the rename that the line answers, and whether it was made.
fn answer(line: &[u8]) -> Option<(usize, bool)> {
    let text = std::str::from_utf8(line.strip_prefix(ANSWER)?).ok()?;
    let (number, made) = text.split_once(' ')?;
    Some((number.parse().ok()?, made == "1"))
}

/// What became of the renames of a batch.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Size and time tell what differs at these paths, and nothing but renames brought there what is there.
    pub settled: BTreeSet<RelPath>,
    /// There is nothing at these paths on the remote any more.
    pub left: BTreeSet<RelPath>,
}

impl Moved {
    /// The directories whose times the renames changed.
    pub fn touched(&self) -> BTreeSet<RelPath> {
        let parents = self.left.iter().chain(&self.settled).filter_map(RelPath::parent);
        parents.filter(|parent| !parent.is_root()).collect()
    }

    /// Takes what need not be done any more out of `plan`; returns the non-directories to be compared by size and time.
    pub fn relieve(&self, plan: &mut Plan) -> Vec<RelPath> {
        plan.missing.retain(|path| !self.left.contains(path));
        let mut settled = Vec::new();
        for list in [&mut plan.entries, &mut plan.bulk] {
            settled.extend(list.extract_if(.., |path| self.settled.contains(path)));
        }
        settled
    }
}

impl Work<'_> {
    /// Makes the order's renames on the remote, as far as they can be made.
    pub(super) async fn make_moves(&mut self) -> Result<Moved, Fault> {
        let moves = &self.order.moves;
        let wanted = self.order.delete && !moves.is_empty() && self.capabilities.moves.is_worth_a_try();
        let Some((arguments, directory)) =
            self.endpoint.ssh_command(&command(self.endpoint.keeps_deleted())).filter(|_| wanted)
        else {
            return Ok(Moved::default());
        };
        let mut list = Vec::new();
        for (number, rename) in moves.iter().enumerate() {
            let number = number.to_string();
            let sort: &[u8] = if rename.directory { b"d" } else { b"f" };
            for word in [number.as_bytes(), directory.as_bytes(), sort, rename.from.as_bytes(), rename.to.as_bytes()] {
                list.extend_from_slice(word);
                list.push(0);
            }
        }
        tracing::debug!(target: "sersync::rsync", renames = moves.len(), "ssh: renames on the remote");
        let mut answers = BTreeMap::new();
        let run = match Run::start("ssh", &arguments, &Vec::new(), &self.root, false, &self.ruleset) {
            Ok(run) => run,
            // rsync will say so too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Moved::default()),
            Err(error) => return Err(not_started(&error)),
        };
        let listen = |line: &[u8]| {
            if let Some((number, made)) = answer(line).filter(|(number, _)| *number < moves.len()) {
                answers.insert(number, made);
            }
        };
        let limits = Limits { total: PATIENCE, ..Limits::connected(PATIENCE) };
        let ended = match run.complete(Feed::Whole(list), listen, limits, &|_| ()).await {
            Ok(ended) => ended,
            Err(Broken::StoodStill(_) | Broken::TooLong(_)) => {
                self.capabilities.moves = Support::Refused;
                let message = "a rename on the remote does not come to an end: what was renamed is sent again";
                return Err(Fault::new(fault_name::TIMEOUT, message));
            }
            Err(broken) => return Err(run_broken(&broken)),
        };
        if answers.len() >= moves.len() {
            self.capabilities.moves = Support::Accepted;
        } else if may_be_for_good(ended.status.code(), &ended.stderr) {
            tracing::info!(
                "{}: nothing can be renamed there, and what is renamed here is sent again: {}",
                self.endpoint.destination(),
                ended.stderr.lines().next().unwrap_or("its shell does not run `xargs -0 sh`")
            );
            self.capabilities.moves = Support::Refused;
        }
        let mut moved = Moved::default();
        for (number, _) in answers.into_iter().filter(|(_, made)| *made) {
            let rename = &moves[number];
            moved.left.remove(&rename.to);
            moved.settled.remove(&rename.from);
            moved.left.insert(rename.from.clone());
            if rename.settled {
                moved.settled.insert(rename.to.clone());
            } else {
                moved.settled.remove(&rename.to);
            }
        }
        Ok(moved)
    }
}
