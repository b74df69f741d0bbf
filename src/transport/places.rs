//! [`probe_places`]: finds out where remotes lead, by an empty directory that is made on each and looked for here.
//!
//! An address does not show where it leads. A module may serve a directory that is watched here; another host may
//! mirror back; two addresses may lead to one place. A directory with a unique name shows all of these:
//!
//! - it appears in a watched root, at once or after it went round through other hosts: the watch reports it, and the
//!   engine recognizes the name (`probe_name`);
//! - it appears above a watched root: the remote contains the root;
//! - it is among what a comparison with another remote would delete: one of the two remotes contains the other.
//!
//! Agents on other hosts mirror such a directory like any other, whatever their filter excludes; so a circle of any
//! number of hosts brings it back. It is removed on the remote by its name, and the circle carries that on as well.

use super::endpoint::Environment;
use super::fault::{Fault, name as fault_name};
use super::process::{Feed, Limits, Run};
use super::run::{not_started, run_broken};
use super::{Complaints, Endpoint, Form, Order, Work, open, output, ruleset};
use crate::aside::aside;
use crate::path::RelPath;
use crate::probe_name;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Maximum time for making or removing one probe.
const PLACING: Duration = Duration::from_secs(30);

/// Maximum time for the comparison with one remote.
const LISTING: Duration = Duration::from_secs(600);

/// Number of hosts that a probe may have to pass, each as slow as the way to the first.
const HOSTS: u32 = 10;

/// Maximum number of tries to make a probe on a remote that has no connection left.
const TRIES: u32 = 6;

/// Interval between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Maximum number of probes made at once.
const PLACED_AT_ONCE: usize = 8;

/// Probes of others that are remembered from one listing.
const LISTED_AT_MOST: usize = 100;

/// A remote that takes part in a round of probes.
#[derive(Debug, Clone)]
pub struct Probed {
    /// How to reach it.
    pub endpoint: Arc<Endpoint>,
    /// A comparison of the whole root, as a run of this remote makes it.
    pub order: Order,
    /// The name of its probe.
    pub name: String,
    /// Whether it is asked what a comparison would delete; the others only get their probe.
    pub is_compared: bool,
}

/// The findings of a round of probes. Remotes are named by their index in the round.
#[derive(Debug, Default)]
pub struct Findings {
    /// Remotes that got their probe.
    pub placed: BTreeSet<usize>,
    /// Those of them from which it was removed again.
    pub removed: BTreeSet<usize>,
    /// Remotes whose probe appeared above a watched root, with that root.
    pub above: Vec<(usize, PathBuf)>,
    /// Remotes whose probe is in a watched root, with that root.
    pub inside: Vec<(usize, PathBuf)>,
    /// Names of the probes that a comparison with a remote would delete, its own included.
    pub listed: Vec<(usize, BTreeSet<String>)>,
    /// Remotes that could not be probed, and why.
    pub faults: Vec<(usize, Fault)>,
}

/// Makes a probe on each of `remotes`, gives it `time` to come back, and looks for it in and above `roots` and among
/// what comparisons would delete.
pub async fn probe_places(remotes: Vec<Probed>, roots: Vec<PathBuf>, time: Duration) -> Findings {
    let mut found = Findings::default();
    let began = Instant::now();
    for (at, placed) in on_each(&remotes, |_| true, place).await {
        match placed {
            Ok(()) => drop(found.placed.insert(at)),
            Err(fault) => found.faults.push((at, fault)),
        }
    }
    if found.placed.is_empty() {
        return found;
    }
    // Where the way is slow, it is so for the probe that comes back as well: it may have several hosts to pass.
    tokio::time::sleep(time + began.elapsed().min(PLACING) * HOSTS).await;
    let names: Vec<(usize, String)> = found.placed.iter().map(|at| (*at, remotes[*at].name.clone())).collect();
    // A directory above a root may be on a disk that does not answer.
    let looking = aside(move || {
        let is_there = |directory: &Path, name: &String| directory.join(name).symlink_metadata().is_ok();
        let pairs = || names.iter().flat_map(|(at, name)| roots.iter().map(move |root| (*at, name, root)));
        let inside = pairs().filter(|(_, name, root)| is_there(root, name));
        let above = pairs().filter(|(_, name, root)| {
            let real = root.canonicalize().unwrap_or_else(|_| (*root).clone());
            real.ancestors().skip(1).any(|above| is_there(above, name))
        });
        let owned = |(at, _, root): (usize, &String, &PathBuf)| (at, root.clone());
        (inside.map(owned).collect(), above.map(owned).collect())
    });
    (found.inside, found.above) = looking.await.unwrap_or_default();
    let is_compared = |at: usize| found.placed.contains(&at) && remotes[at].is_compared;
    for (at, listed) in on_each(&remotes, is_compared, list).await {
        match listed {
            Ok(names) => found.listed.push((at, names)),
            Err(fault) => found.faults.push((at, fault)),
        }
    }
    let removed = on_each(&remotes, |at| found.placed.contains(&at), remove).await;
    found.removed = removed.into_iter().filter(|(_, removed)| removed.is_ok()).map(|(at, _)| at).collect();
    found
}

/// Does `what` for each of the remotes that `chosen` names, a few at once.
async fn on_each<F, T>(
    remotes: &[Probed],
    chosen: impl Fn(usize) -> bool,
    what: fn(Probed) -> F,
) -> Vec<(usize, Result<T, Fault>)>
where
    F: Future<Output = Result<T, Fault>> + Send + 'static,
    T: Send + 'static,
{
    let turns = Arc::new(Semaphore::new(PLACED_AT_ONCE));
    let mut tasks = JoinSet::new();
    for (at, remote) in remotes.iter().enumerate().filter(|(at, _)| chosen(*at)) {
        let (doing, turns) = (what(remote.clone()), turns.clone());
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            (at, doing.await)
        });
    }
    let mut ended = Vec::new();
    while let Some(result) = tasks.join_next().await {
        // A panic says more by itself; the remote was not probed.
        ended.extend(result.ok());
    }
    ended
}

/// Makes the probe.
async fn place(remote: Probed) -> Result<(), Fault> {
    let mut tries = 1..TRIES;
    loop {
        let command = remote.endpoint.make_directory(&remote.name);
        match run(&remote, command).await {
            // A connection of a run that has just ended may still count.
            Err(fault) if fault.name == fault_name::TOO_MANY_CONNECTIONS && tries.next().is_some() => {
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            ended => return ended,
        }
    }
}

/// Makes the probe of another agent on a remote, with a few tries: the agent that made it takes silence for proof.
pub async fn send_probe_on(remote: Probed) {
    for _ in 0..TRIES {
        // Where it went meanwhile, the agent waits for it no more.
        let is_there = || remote.order.root.join(&remote.name).symlink_metadata().is_ok();
        if !is_there() || place(remote.clone()).await.is_ok() {
            return;
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
}

/// Removes the probe from the remote. Where it came back, what is here goes in the way in which it came.
async fn remove(remote: Probed) -> Result<(), Fault> {
    let command = remote.endpoint.remove_directory(&remote.name);
    run(&remote, command).await
}

async fn run(remote: &Probed, (arguments, environment): (Vec<OsString>, Environment)) -> Result<(), Fault> {
    let (root, _) = open(&remote.order)?;
    let ruleset = ruleset(&remote.endpoint, &root).await?;
    let run = Run::start("rsync", &arguments, &environment, &root, false, &ruleset);
    let run = run.map_err(|error| not_started(&error))?;
    let ended = run.complete(Feed::Whole(Vec::new()), |_| (), Limits::connected(PLACING), &|_| ());
    let ended = ended.await.map_err(|broken| run_broken(&broken))?;
    match ended.status.code() {
        Some(0) => Ok(()),
        exit => Err(Fault::from_exit(exit, &ended.stderr)),
    }
}

/// The probes among what a comparison with `remote` would delete.
async fn list(remote: Probed) -> Result<BTreeSet<String>, Fault> {
    let late = || Fault::new(fault_name::TIMEOUT, "the remote did not answer while it was compared");
    tokio::time::timeout(LISTING, listed(&remote)).await.unwrap_or_else(|_| Err(late()))
}

async fn listed(remote: &Probed) -> Result<BTreeSet<String>, Fault> {
    let (root, identity) = open(&remote.order)?;
    let ruleset = ruleset(&remote.endpoint, &root).await?;
    let (mut ahead, quiet) = (None, |_| ());
    let mut work = Work::new(&remote.endpoint, &remote.order, (root, identity), ruleset, &mut ahead, &quiet);
    let mut names = BTreeSet::new();
    let list = || Feed::Whole(super::null_separated([&RelPath::root()]));
    let note = |line: Option<&[u8]>| {
        let Some((path, _)) = line.and_then(output::deletion).filter(|(path, _)| probe_name::is_probe(path)) else {
            return;
        };
        if names.len() < LISTED_AT_MOST {
            names.extend(path.file_name().to_str().map(str::to_owned));
        }
    };
    work.run(Form::ListTreeDeletions, list, note).await?;
    // Unreadable directories do not matter here: nothing is deleted.
    work.complaints = Complaints::default();
    Ok(names)
}
