//! The transport: makes a remote equal to what is on disk *now* at the paths of a batch, with rsync.
//!
//! # Theory
//!
//! A batch names paths, not changes. [`carry_out`] looks at each path once (`plan`): what exists is sent, what does
//! not is deleted. Two forms of run do the work (`endpoint::Form`): *entries*, for what was reported path by path,
//! sends even what is equal by size and time, since a change within one clock tick shows in neither; *trees*, for
//! directories of which anything may differ, compares everything below and deletes what only the remote has.
//!
//! What a remote's rsync accepts is learned, not configured (`capabilities`). Excluded paths are kept from the remote
//! by listing what is not excluded, and kept *on* the remote by listing what a run would delete, striking out what is
//! excluded, and deleting the rest by name (`excluded`): so that any regular expression will do.
//!
//! Paths reach rsync through its stdin, NUL-separated; nothing passes a shell and nothing is taken for a pattern.
//! A password travels in the environment of the rsync process. Dropping the future of [`carry_out`] ends its rsync.
//!
//! This module knows nothing of D-Bus, systemd, inotify, or when to try again.

mod ahead;
mod capabilities;
mod confinement;
mod deletion_limit;
mod endpoint;
mod excluded;
mod fault;
#[cfg(fuzzing)]
pub mod fuzzing;
mod kept;
mod local;
mod moves;
mod outcome;
mod output;
mod places;
mod plan;
mod probe;
mod process;
mod run;
mod script;
mod shell;
mod spawn;
mod ssh;
mod synced;

pub use ahead::{Ahead, Readiness};
pub use capabilities::{Capabilities, Lesson, Support};
pub use confinement::{Protection, Ruleset};
pub use deletion_limit::{Excess, SAMPLE, Spared};
pub use endpoint::Endpoint;
pub use fault::{Fault, name as fault_name, remedies};
pub use outcome::Outcome;
pub use output::{Progress, Totals};
pub use places::{Findings, Probed, probe_places, send_probe_on};
pub use plan::{BULK_BYTES, RootIdentity, Stamp, root_identity};
pub use probe::{Probe, probe};
pub use process::Sign;
pub(crate) use process::end_with_agent;
pub use script::Chore;
pub(crate) use spawn::end_of;
pub use ssh::SharedConnection;

use crate::aside::aside;
use crate::failpoint::may_die_here;
use crate::filter::Filter;
use crate::path::RelPath;
use crate::pending::{Kind, Lane, Move};
use deletion_limit::Compared;
use endpoint::Form;
use moves::Moved;
use output::Complaints;
use plan::{Plan, Whole};
use process::Feed;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One batch, with all that is needed to carry it out.
#[derive(Debug, Clone)]
pub struct Order {
    /// The watched root.
    pub root: PathBuf,
    /// Which directory that has to be; `None`: whatever is there.
    pub identity: Option<RootIdentity>,
    /// The batch's paths, sorted.
    pub paths: Vec<RelPath>,
    /// What was renamed among them, oldest first.
    pub moves: Vec<Move>,
    /// What they need.
    pub kind: Kind,
    /// How they travel.
    pub lane: Lane,
    /// Somebody asked for this full sync, and so for what it deletes.
    pub requested: bool,
    /// Whether anything may be deleted on the remote.
    pub delete: bool,
    /// Maximum number of entries that a comparison deletes; it counts the others ([`Outcome::withheld`]). `None`: no
    /// limit. Paths of the batch that do not exist are deleted whatever it says: their removal was seen.
    pub compared_at_most: Option<u64>,
    /// Maximum number of paths of the batch that are deleted because they do not exist; if there are more, none is.
    pub missing_at_most: Option<u64>,
    /// Directories of which nothing is deleted: what lies there is not what the remote mirrors.
    pub keep: Vec<RelPath>,
    /// Mount points below the root, each with the device (`st_dev`) that has to be mounted there; where it is not, nothing
    /// is deleted either.
    pub mounts: Arc<BTreeMap<RelPath, u64>>,
    /// Number of entries that the whole remote is thought to have.
    pub entries: Option<u64>,
    /// What never reaches the remote, nor is deleted there.
    pub filter: Arc<Filter>,
    /// Patterns of rsync for the directories below the root that a recursive run must not reach: their paths are too long.
    pub unreachable: Arc<[Arc<[u8]>]>,
    /// What is known of the remote.
    pub capabilities: Capabilities,
    /// Whether somebody wants to know what was synced, path by path.
    pub name_synced: bool,
    /// Whether small files are better sent whole than as what differs in them.
    pub whole_files: bool,
}

impl Order {
    /// A comparison of the whole root, which has to be the directory `identity`.
    pub fn comparison(
        root: &Path,
        identity: Option<RootIdentity>,
        filter: Arc<Filter>,
        capabilities: Capabilities,
    ) -> Self {
        let plain = Self::plain(root, Kind::Tree, vec![RelPath::root()]);
        Self { identity, filter, capabilities, lane: Lane::Background, compared_at_most: Some(0), ..plain }
    }

    /// Live, allowed to delete, without a filter, and with nothing known of the root or the remote.
    fn plain(root: &Path, kind: Kind, paths: Vec<RelPath>) -> Self {
        Self {
            root: root.to_path_buf(),
            identity: None,
            paths,
            moves: Vec::new(),
            kind,
            lane: Lane::Live,
            requested: false,
            delete: true,
            compared_at_most: None,
            missing_at_most: None,
            keep: Vec::new(),
            mounts: Arc::default(),
            entries: None,
            filter: Arc::new(Filter::none()),
            unreachable: Arc::default(),
            capabilities: Capabilities::default(),
            name_synced: false,
            whole_files: false,
        }
    }
}

/// A path that a run made equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// Which.
    pub path: RelPath,
    /// What was done.
    pub deed: Deed,
}

/// What was done to a path on the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// It was sent, or made.
    Sent,
    /// Its mode, owner or times were set.
    Attributes,
    /// It was deleted.
    Deleted {
        /// Whether it is known to have been a directory.
        directory: bool,
    },
}

/// So many paths of one run are named.
const SYNCED_AT_MOST: usize = 100_000;

/// Carries `order` out at `endpoint`. `on_sign` gets each sign of life.
///
/// A run that was started `ahead` is taken where it fits, and left there where it does not.
pub async fn carry_out(
    endpoint: &Endpoint,
    mut order: Order,
    ahead: &mut Option<Ahead>,
    on_sign: impl Fn(Sign) + Send + Sync,
) -> Outcome {
    order.moves.retain(|rename| !endpoint.leaves_out(&rename.from) && !endpoint.leaves_out(&rename.to));
    let (root, identity) = match open(&order) {
        Ok(opened) => opened,
        Err(fault) => return Outcome::faulty(&order, fault),
    };
    let (paths, filter, looked_at) = (order.paths.clone(), order.filter.clone(), root.clone());
    let live_entries = order.lane == Lane::Live && order.kind == Kind::Entry;
    // What is excluded, and appears in a directory after the look, must not go with it.
    let may_go_whole = live_entries && order.moves.is_empty() && order.filter.is_empty();
    let confinement = endpoint.confinement().clone();
    let (keep, mounts, missing_at_most) = (order.keep.clone(), order.mounts.clone(), order.missing_at_most);
    let leaves_out = endpoint.clone();
    let looking = aside(move || {
        let plan = plan::look(looked_at.as_fd(), &paths, live_entries).without_excluded(&filter);
        let plan = plan.without(|path| leaves_out.leaves_out(path));
        let plan = if may_go_whole { plan.with_whole(looked_at.as_fd()) } else { plan };
        let (mut plan, keep) = (plan, deletion_limit::not_mounted(looked_at.as_fd(), keep, &mounts));
        let spared = deletion_limit::spare(&mut plan, &paths, &keep, missing_at_most);
        (plan, keep, spared, confinement.ruleset(looked_at.as_fd()))
    });
    let (mut plan, keep, spared, ruleset) = match looking.await {
        Ok((plan, keep, spared, Ok(ruleset))) => (plan, keep, spared, ruleset),
        Ok((_, _, _, Err(error))) => return Outcome::faulty(&order, confinement::not_confined(&error)),
        Err(error) => return Outcome::faulty(&order, local::fault("looking at the batch", &error)),
    };
    let known = if order.name_synced { synced::of_plan(&order, &plan) } else { Vec::new() };
    let mut work = Work::new(endpoint, &order, (root, identity), ruleset, ahead, &on_sign);
    work.keep(keep);
    let fault = work.carry_out(&mut plan).await.err();
    if fault.is_some() {
        // A file of ssh's or of the resolver's may be elsewhere by now.
        endpoint.confinement().forget();
    }
    let Work {
        capabilities, totals, complaints, itemized, ahead_was_gone, sent_whole: whole, excess, compared, ..
    } = work;
    let outcome = Outcome::new(&order, plan, complaints, fault, capabilities, totals);
    let entries = compared.entries(&order);
    Outcome { ahead_was_gone, whole, excess, entries, spared, ..outcome.with_synced(&order, known, itemized) }
}

/// The root of `order`, if it is the directory that it has to be.
fn open(order: &Order) -> Result<(Arc<OwnedFd>, RootIdentity), Fault> {
    open_directory(&order.root, order.identity)
}

/// The directory `root`, if it is `expected`.
fn open_directory(root: &Path, expected: Option<RootIdentity>) -> Result<(Arc<OwnedFd>, RootIdentity), Fault> {
    match plan::open_root(root) {
        Ok((root, identity)) if expected.is_none_or(|expected| expected == identity) => Ok((Arc::new(root), identity)),
        Ok(_) => Err(root_missing("another directory has taken its place")),
        Err(error) => Err(local::limit(&error.into()).unwrap_or_else(|| root_missing(error.desc()))),
    }
}

/// The ruleset of a run at `endpoint` that starts in `root`.
async fn ruleset(endpoint: &Endpoint, root: &Arc<OwnedFd>) -> Result<Ruleset, Fault> {
    let (confinement, root) = (endpoint.confinement().clone(), root.clone());
    let made = aside(move || confinement.ruleset(root.as_fd()));
    made.await.unwrap_or_else(Err).map_err(|error| confinement::not_confined(&error))
}

fn root_missing(why: &str) -> Fault {
    Fault::new(fault_name::ROOT_MISSING, format!("the watched directory is not there: {why}; waiting for it"))
}

/// A batch being carried out.
struct Work<'a> {
    endpoint: &'a Endpoint,
    order: &'a Order,
    root: Arc<OwnedFd>,
    identity: RootIdentity,
    ruleset: Ruleset,
    ahead: &'a mut Option<Ahead>,
    ahead_was_gone: bool,
    /// Directories that were sent with all that is in them in a batch that is not recursive.
    sent_whole: Vec<RelPath>,
    capabilities: Capabilities,
    totals: Totals,
    complaints: Complaints,
    /// The paths that the next deletion by name is about.
    missing: BTreeSet<RelPath>,
    /// The last deletion by name deleted nothing, and it is not known whether the remote knows how to.
    doubtful_deletion: bool,
    /// A run is to say what it changes.
    itemize: bool,
    /// What recursive runs say that they changed.
    itemized: Vec<Synced>,
    /// The file at which the last run ended because the remote had no room for it.
    no_room_for: Option<RelPath>,
    /// Directories of which nothing is deleted.
    keep: Vec<RelPath>,
    /// Maximum number of entries that a comparison deletes.
    at_most: Option<u64>,
    /// What a comparison has counted.
    compared: Compared,
    /// The deletions that a comparison left out are more than it may make without consent.
    excess: Option<Excess>,
    on_sign: &'a (dyn Fn(Sign) + Send + Sync),
}

impl<'a> Work<'a> {
    fn new(
        endpoint: &'a Endpoint,
        order: &'a Order,
        (root, identity): (Arc<OwnedFd>, RootIdentity),
        ruleset: Ruleset,
        ahead: &'a mut Option<Ahead>,
        on_sign: &'a (dyn Fn(Sign) + Send + Sync),
    ) -> Self {
        Self {
            endpoint,
            root,
            identity,
            ruleset,
            ahead,
            ahead_was_gone: false,
            sent_whole: Vec::new(),
            capabilities: order.capabilities,
            totals: Totals::default(),
            complaints: Complaints::default(),
            missing: BTreeSet::new(),
            doubtful_deletion: false,
            itemize: false,
            itemized: Vec::new(),
            no_room_for: None,
            keep: Vec::new(),
            // A limit of the config holds by itself, and is a failure with a name of its own.
            at_most: order.compared_at_most.filter(|most| *most == 0 || !endpoint.limits_deletions()),
            compared: Compared::default(),
            excess: None,
            on_sign,
            order,
        }
    }

    /// Has nothing deleted in the directories `keep`.
    fn keep(&mut self, keep: Vec<RelPath>) {
        if keep.iter().any(|kept| deletion_limit::meets_any(kept, &self.order.paths)) {
            self.at_most = Some(0);
        }
        self.keep = keep;
    }

    /// Whether a directory of the remote gives way to something else.
    fn may_force(&self) -> bool {
        self.order.delete && self.keep.is_empty()
    }
}

impl Work<'_> {
    async fn carry_out(&mut self, plan: &mut Plan) -> Result<(), Fault> {
        kept::make_directory(self.endpoint, &self.root).await?;
        let moved = self.make_moves().await?;
        may_die_here!("moves-made");
        if !moved.left.is_empty() {
            self.compare_moved(&moved, plan).await?;
        }
        let recursive = self.order.kind >= Kind::Tree;
        if let Some(whole) = plan.whole.take()
            && self.send_whole(whole, plan).await?
        {
            return Ok(());
        }
        let present: Vec<&RelPath> = match recursive {
            true => plan.entries.iter().collect(),
            false => plan.directories.iter().chain(&plan.entries).collect(),
        };
        // A path that was reported as a directory and is one no more can be told by nothing from what the remote has.
        self.send_entries(&present, &plan.missing, self.order.kind != Kind::Attributes, false).await?;
        if recursive && !plan.directories.is_empty() {
            let ignore_times = self.order.kind == Kind::VerifiedTree;
            let trees = plan::topmost_only(plan.directories.iter().cloned());
            self.send_trees(&trees, ignore_times).await?;
            self.judge_withheld(&trees).await;
        }
        if self.order.kind == Kind::Pruned && self.order.delete {
            let directories = plan::topmost_only(plan.directories.iter().cloned());
            self.delete_superfluous(directories.clone()).await?;
            self.judge_withheld(&directories).await;
        }
        Ok(())
    }

    /// Sends a batch in which directories stand for all that is in them. Returns `false` where that did not do: nothing
    /// of it counts as sent then.
    async fn send_whole(&mut self, whole: Whole, plan: &Plan) -> Result<bool, Fault> {
        let named: Vec<&RelPath> = whole.named.iter().collect();
        let is_directory = |path: &&&RelPath| plan.directories.binary_search(path).is_ok();
        self.sent_whole = named.iter().filter(is_directory).copied().cloned().collect();
        let mut before = std::mem::take(&mut self.complaints);
        let sent = self.send_entries(&named, &plan.missing, true, true).await;
        if std::mem::take(&mut self.complaints.trees_incomplete) && sent.is_ok() {
            // rsync complains of a directory that it could not read and of nothing in it.
            self.complaints = before;
            return Ok(false);
        }
        before.add(std::mem::take(&mut self.complaints));
        self.complaints = before;
        match sent {
            // By their names those that there is room for are told from the others.
            Err(_) if self.no_room_for.take().is_some() => Ok(false),
            Err(fault) => Err(fault),
            Ok(()) => {
                self.complaints.unsent.extend(whole.later);
                Ok(true)
            }
        }
    }

    /// Sees to what differs where a rename brought what was equal at its old place.
    async fn compare_moved(&mut self, moved: &Moved, plan: &mut Plan) -> Result<(), Fault> {
        let mut entries = moved.relieve(plan);
        entries.extend(moved.touched().into_iter().filter(|path| plan::exists(self.root.as_fd(), path)));
        let entries: Vec<&RelPath> = entries.iter().collect();
        self.send_entries(&entries, &[], false, false).await?;
        let trees: Vec<RelPath> = plan.directories.extract_if(.., |path| moved.settled.contains(path)).collect();
        let trees = plan::topmost_only(trees);
        if trees.is_empty() { Ok(()) } else { self.send_trees(&trees, false).await }
    }

    /// Sends `present`, with or without what is `below` the directories among them, and deletes `missing`.
    async fn send_entries(
        &mut self,
        present: &[&RelPath],
        missing: &[RelPath],
        ignore_times: bool,
        below: bool,
    ) -> Result<(), Fault> {
        let missing = if self.order.delete { missing } else { &[] };
        let unfiltered = self.order.filter.is_empty();
        let by_name = unfiltered && self.capabilities.delete_missing_args.is_worth_a_try();
        let named: Vec<&RelPath> = present.iter().copied().chain(missing.iter().filter(|_| by_name)).collect();
        if !named.is_empty() {
            let form = Form::Entries {
                below,
                ignore_times,
                delete: by_name && !missing.is_empty(),
                force: unfiltered && self.may_force(),
                brief: self.order.lane == Lane::Live,
                whole: self.order.whole_files && self.order.lane == Lane::Live,
                progress: false,
            };
            self.note_missing(missing);
            let accepted = match below {
                true => {
                    let list = null_separated(named.iter().copied());
                    self.run(form, || Feed::Whole(list.clone()), |_| ()).await?
                }
                false => self.send_what_there_is_room_for(form, &named).await?,
            };
            if !unfiltered && self.may_force() {
                self.clear_the_way(form).await?;
            }
            if by_name && accepted.delete_missing_args.is_worth_a_try() {
                return Ok(());
            }
        }
        if missing.is_empty() { Ok(()) } else { self.delete(missing).await }
    }

    /// The next run is to delete these by name. Only what is not there during that run can show whether it did.
    fn note_missing(&mut self, missing: &[RelPath]) {
        self.missing.clear();
        if !self.capabilities.deletes_missing() {
            self.missing.extend(missing.iter().cloned());
        }
    }

    /// rsync ends at the first file that the remote has no room for: the rest may have room yet. One more run finds
    /// out; if that ends in the same way the disk is full for all.
    async fn send_what_there_is_room_for(&mut self, form: Form, named: &[&RelPath]) -> Result<Capabilities, Fault> {
        let list = null_separated(named.iter().copied());
        let fault = match self.run(form, || Feed::Whole(list.clone()), |_| ()).await {
            Ok(accepted) => return Ok(accepted),
            Err(fault) => fault,
        };
        let Some(large) = self.no_room_for.take().filter(|large| named.contains(&large)) else { return Err(fault) };
        let rest = null_separated(named.iter().copied().filter(|path| **path != large));
        self.complaints.failed.push((large, fault));
        if rest.is_empty() {
            return Ok(self.capabilities);
        }
        self.run(form, || Feed::Whole(rest.clone()), |_| ()).await
    }

    async fn send_trees(&mut self, directories: &[RelPath], ignore_times: bool) -> Result<(), Fault> {
        let whole_root = directories.iter().any(RelPath::is_root);
        if !self.order.filter.is_empty() {
            return self.send_filtered_trees(directories, ignore_times).await;
        }
        if whole_root && self.order.requested {
            // The run below does it too, but does not say what differed.
            self.send_root_attributes().await?;
        }
        let (delete, at_most) = (self.order.delete, self.at_most);
        let form = Form::Trees { ignore_times, delete, at_most, root: whole_root };
        let mut left = directories.to_vec();
        while !left.is_empty() {
            let list = if whole_root { Vec::new() } else { null_separated(&left) };
            let mut compared = Compared::default();
            let ended = self.run(form, || Feed::Whole(list.clone()), |line| compared.take_line(line)).await;
            self.compared = compared;
            if !self.had_room_for(&left, ended)? {
                break;
            }
            // Once a directory cannot be read, rsync deletes nothing in any other either: those go once more.
            left = self.without_unread(left);
            if !self.order.delete {
                break;
            }
        }
        Ok(())
    }

    /// After a run of `trees` that left deletions out: marks those that hold what could not be read as failed, and
    /// returns the others. None, where nothing was left out.
    fn without_unread(&mut self, trees: Vec<RelPath>) -> Vec<RelPath> {
        if !std::mem::take(&mut self.complaints.trees_incomplete) {
            return Vec::new();
        }
        let why = |tree: &RelPath, complaints: &Complaints| {
            let inside = |path: &RelPath| path == tree || path.is_inside(tree);
            complaints.failed.iter().find(|(path, _)| inside(path)).map(|(_, fault)| fault.clone())
        };
        let (blamed, others): (Vec<_>, Vec<_>) =
            trees.into_iter().map(|tree| (why(&tree, &self.complaints), tree)).partition(|(why, _)| why.is_some());
        let others = others.into_iter().map(|(_, tree)| tree);
        // One in which something became a link meanwhile is compared anew.
        let has_changed = |tree: &RelPath| {
            let inside = |path: &RelPath| path == tree || path.is_inside(tree);
            self.complaints.vanished.iter().any(inside)
        };
        let (changed, others): (Vec<RelPath>, Vec<RelPath>) = others.partition(has_changed);
        if blamed.is_empty() && changed.is_empty() {
            let message = "something could not be read, so that nothing was deleted on the remote";
            let fault = Fault::new(fault_name::PARTIAL_TRANSFER, message);
            self.complaints.failed.extend(others.into_iter().map(|tree| (tree, fault.clone())));
            return Vec::new();
        }
        self.complaints.failed.extend(blamed.into_iter().filter_map(|(why, tree)| Some((tree, why?))));
        self.complaints.vanished.extend(changed);
        others
    }

    /// Whether a run of `trees` had room for all it sent. A comparison that ends at a file that the remote has no room
    /// for is a failure of that file and of the directories compared; other paths may have room yet.
    pub(super) fn had_room_for(
        &mut self,
        trees: &[RelPath],
        ended: Result<Capabilities, Fault>,
    ) -> Result<bool, Fault> {
        match (ended, self.no_room_for.take()) {
            (Err(fault), Some(large)) => {
                let undone = [large].into_iter().chain(trees.iter().cloned());
                self.complaints.failed.extend(undone.map(|path| (path, fault.clone())));
                Ok(false)
            }
            (ended, _) => ended.map(|_| true),
        }
    }

    /// After a comparison of `trees` that left deletions out: finds out whether they are too many, and if so takes a
    /// sample of them.
    async fn judge_withheld(&mut self, trees: &[RelPath]) {
        let withheld = self.complaints.withheld;
        if withheld == 0 {
            return;
        }
        let is_kept = self.keep.iter().any(|kept| deletion_limit::meets_any(kept, trees));
        self.excess = match is_kept {
            true => Some(Excess::NotMounted),
            false => self.compared.excess(withheld, self.order),
        };
        if self.excess.is_some() && self.complaints.withheld_paths.is_empty() {
            self.sample_tree_deletions(trees).await;
        }
    }
}

fn null_separated<'a>(paths: impl IntoIterator<Item = &'a RelPath>) -> Vec<u8> {
    let mut list = Vec::new();
    for path in paths {
        push_path(&mut list, path);
    }
    list
}

/// A path as rsync's list wants it. The root is `.`; `./` goes only before a name that would be taken for a comment or
/// an option: rsync reads its list byte by byte, with two system calls for each.
fn push_path(list: &mut Vec<u8>, path: &RelPath) {
    match path.as_bytes() {
        [] => list.push(b'.'),
        [b'#' | b';' | b'-', ..] => list.extend_from_slice(b"./"),
        _ => {}
    }
    list.extend_from_slice(path.as_bytes());
    list.push(0);
}
