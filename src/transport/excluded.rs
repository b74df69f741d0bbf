//! Runs under a filter whose regular expressions rsync does not understand, and deletion by name.
//!
//! Sending: the tree is walked here, and rsync gets the list of what is not excluded. Deleting: a dry run lists what
//! would go, what is excluded is struck out together with the directories that hold it, the rest is deleted by name.
//! The same way by name serves remotes that know no `--delete-missing-args`.

use super::deletion_limit::{Compared, SAMPLE};
use super::endpoint::{Endpoint, Form};
use super::fault::{Fault, name};
use super::process::Feed;
use super::{Work, local, null_separated, output, plan, push_path};
use crate::aside;
use crate::beneath;
use crate::filter::{EntryKind, Filter};
use crate::path::RelPath;
use crate::probe_name;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{SFlag, fstatat};
use rustix::fs::{FileType, RawDir};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// The walk hands its findings over in pieces of about this size, in bytes.
const PIECE: usize = 64 * 1024;

/// Maximum memory for the paths that a dry run lists, in bytes: some 250,000 paths. A remote can have it list any number.
const LISTED_BYTES: usize = 24 << 20;

/// Memory for a path besides its text, in bytes.
const LISTED_ENTRY: usize = 48;

/// A path that a run would delete.
pub(super) struct Doomed {
    path: RelPath,
    is_directory: bool,
}

/// What a dry run would delete, up to [`LISTED_BYTES`].
///
/// rsync lists what a directory holds before the directory itself. So the beginning of a list can be carried out: no
/// directory in it holds anything that stays and is not in it.
#[derive(Default)]
pub(super) struct Listed {
    doomed: Vec<Doomed>,
    bytes: usize,
    is_cut: bool,
}

impl Listed {
    /// Takes a line of the dry run; a new attempt (`None`) starts anew.
    fn take_line(&mut self, line: Option<&[u8]>) {
        let Some(line) = line else {
            *self = Self::default();
            return;
        };
        let Some((path, is_directory)) = output::deletion(line) else { return };
        self.bytes += path.as_bytes().len() + LISTED_ENTRY;
        self.is_cut |= self.bytes > LISTED_BYTES;
        if !self.is_cut {
            self.doomed.push(Doomed { path, is_directory });
        }
    }
}

impl Work<'_> {
    /// Makes `directories` and all below them equal, but for what is excluded.
    pub(super) async fn send_filtered_trees(
        &mut self,
        directories: &[RelPath],
        ignore_times: bool,
    ) -> Result<(), Fault> {
        self.send_filtered_entries(directories, ignore_times).await?;
        match directories.iter().any(RelPath::is_root) {
            // Last: each entry that comes or goes changes the root's modification time.
            true => self.send_root_attributes().await,
            false => Ok(()),
        }
    }

    /// Makes mode, owner and times of the remote's root equal, and logs what differed. Of its entries none is sent and
    /// none is deleted.
    ///
    /// The root, named, would bring its entries along. A path that begins with `./` implies the root alone (measured
    /// with rsync 3.2.7 and 3.5.0), and one that does not exist brings nothing else.
    pub(super) async fn send_root_attributes(&mut self) -> Result<(), Fault> {
        let list = format!("./.sersync-none-{:016x}\0", fastrand::u64(..)).into_bytes();
        let form = Form::listed(false, false);
        let mut changed = Vec::new();
        self.itemize = true;
        let ended = self.run(form, || Feed::Whole(list.clone()), |line| note_root(&mut changed, line)).await;
        self.itemize = false;
        ended?;
        if !changed.is_empty() {
            let remote = self.endpoint.destination().to_string();
            tracing::info!(
                sersync_remote = remote,
                "the root directory on {remote} had another {}: set to that of the watched directory",
                changed.join(", another ")
            );
        }
        Ok(())
    }

    async fn send_filtered_entries(&mut self, directories: &[RelPath], ignore_times: bool) -> Result<(), Fault> {
        let unreadable = Arc::new(Mutex::new(Vec::new()));
        let (root, filter, top, found) =
            (self.root.clone(), self.order.filter.clone(), directories.to_vec(), unreadable.clone());
        let endpoint = self.endpoint.clone();
        let leaves_probes_out = self.at_most == Some(0) && directories.iter().any(RelPath::is_root);
        let feed = move || {
            let (sender, pieces) = mpsc::channel(4);
            let walk = Walk {
                root: root.clone(),
                filter: filter.clone(),
                pieces: sender,
                piece: Vec::with_capacity(PIECE),
                unreadable: found.clone(),
                leaves_probes_out,
                endpoint: endpoint.clone(),
            };
            let listed = top.clone();
            if let Err(error) = aside::begin(move || walk.all(&listed)) {
                // The run gets an empty list, and nothing of this counts as done.
                let fault = local::fault("listing what is to be sent", &error);
                let undone = top.iter().map(|directory| (directory.clone(), fault.clone()));
                found.lock().unwrap_or_else(PoisonError::into_inner).extend(undone);
            }
            Feed::Pieces(pieces)
        };
        let form = Form::listed(ignore_times, directories.iter().any(RelPath::is_root));
        let mut compared = Compared::default();
        let ended = self.run(form, feed, |line| compared.take_line(line)).await;
        // The list does not name the root itself.
        compared.listed += u64::from(directories.iter().any(RelPath::is_root));
        self.compared = compared;
        if !self.had_room_for(directories, ended)? {
            return Ok(());
        }
        let unreadable = std::mem::take(&mut *unreadable.lock().unwrap_or_else(PoisonError::into_inner));
        let mut left = directories.to_vec();
        if !unreadable.is_empty() {
            self.complaints.trees_incomplete = true;
            self.complaints.failed.extend(unreadable);
            left = self.without_unread(left);
        }
        if !self.order.delete {
            return Ok(());
        }
        if self.at_most != Some(0) {
            self.clear_the_way(form).await?;
        }
        self.delete_superfluous(left).await
    }

    /// Deletes entries below the directories `left` that only the remote has, except excluded ones.
    pub(super) async fn delete_superfluous(&mut self, mut left: Vec<RelPath>) -> Result<(), Fault> {
        while !left.is_empty() {
            self.complaints.trees_incomplete = false;
            let listed = self.list_tree_deletions(&left).await?;
            let incomplete = self.complaints.trees_incomplete;
            if let Some(most) = self.at_most.filter(|most| *most == 0 || !incomplete) {
                let blocked = self.complaints.failed.iter().filter(|(_, fault)| fault.name == name::IN_THE_WAY).count();
                let mut condemned = condemned(&listed.doomed, &left, &self.order.filter);
                condemned.retain(|path| !probe_name::is_probe(path));
                let withheld = (condemned.len() + blocked) as u64;
                // Part by part, any number would be below the limit.
                if most == 0 || withheld > most || listed.is_cut {
                    self.complaints.withheld = self.complaints.withheld.saturating_add(withheld);
                    self.complaints.withheld_paths.extend(condemned.into_iter().take(SAMPLE));
                    return Ok(());
                }
            }
            if !incomplete {
                return self.delete_unless_excluded(listed, &left).await;
            }
            left = self.without_unread(left);
        }
        Ok(())
    }

    /// Deletes `missing`, none of which exists here, and all that the remote has below them, but for what is excluded.
    pub(super) async fn delete(&mut self, missing: &[RelPath]) -> Result<(), Fault> {
        if self.order.filter.is_empty() {
            return self.delete_matching(missing).await;
        }
        let mut listed = Listed::default();
        if self.capabilities.delete_missing_args.is_worth_a_try() {
            let list = null_separated(missing);
            let accepted =
                self.run(Form::ListEntryDeletions, || Feed::Whole(list.clone()), |line| listed.take_line(line)).await?;
            if accepted.delete_missing_args.is_worth_a_try() {
                return self.delete_unless_excluded(listed, missing).await;
            }
        }
        let patterns = patterns(missing);
        self.run(Form::ListMatching, || Feed::Whole(patterns.clone()), |line| listed.take_line(line)).await?;
        self.delete_unless_excluded(listed, missing).await
    }

    /// Makes room where the remote has a directory in the place of something else, and sends that again. What is
    /// excluded stays, and then so does the directory, and the failure.
    pub(super) async fn clear_the_way(&mut self, form: Form) -> Result<(), Fault> {
        let (blocked, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.complaints.failed)
            .into_iter()
            .partition(|(_, fault)| fault.name == name::IN_THE_WAY);
        self.complaints.failed = others;
        if blocked.is_empty() {
            return Ok(());
        }
        let blocked: BTreeSet<RelPath> = blocked.into_iter().map(|(path, _)| path).collect();
        let mut inside = Vec::new();
        for path in &blocked {
            for way in path.ancestors_below_root().chain([path.clone()]) {
                push_pattern(&mut inside, &way, b"/");
            }
            push_pattern(&mut inside, path, b"/**");
        }
        let mut listed = Listed::default();
        self.run(Form::ListMatching, || Feed::Whole(inside.clone()), |line| listed.take_line(line)).await?;
        let asked: Vec<RelPath> = blocked.iter().cloned().collect();
        let mut condemned = condemned(&listed.doomed, &asked, &self.order.filter);
        condemned.retain(|path| !blocked.contains(path));
        if !condemned.is_empty() {
            self.delete_matching(&plan::topmost_only(condemned)).await?;
        }
        let list = null_separated(&blocked);
        self.run(form, || Feed::Whole(list.clone()), |_| ()).await.map(drop)
    }

    /// Counts what a recursive run of `directories` would delete, and takes a sample. What cannot be found out stays as
    /// the run has counted it.
    pub(super) async fn sample_tree_deletions(&mut self, directories: &[RelPath]) {
        let (mut count, mut sample) = (0, Vec::new());
        let list = null_separated(directories);
        let note = |line: Option<&[u8]>| match line.map(output::deletion) {
            None => (count, sample) = (0, Vec::new()),
            Some(Some((path, _))) if !probe_name::is_probe(&path) && !path.is_root() => {
                count += 1;
                if sample.len() < SAMPLE {
                    sample.push(path);
                }
            }
            Some(_) => {}
        };
        if self.run(Form::ListTreeDeletions, || Feed::Whole(list.clone()), note).await.is_ok() && count > 0 {
            (self.complaints.withheld, self.complaints.withheld_paths) = (count, sample);
        }
    }

    /// What a recursive run of `directories` would delete.
    pub(super) async fn list_tree_deletions(&mut self, directories: &[RelPath]) -> Result<Listed, Fault> {
        let mut listed = Listed::default();
        let list = null_separated(directories);
        self.run(Form::ListTreeDeletions, || Feed::Whole(list.clone()), |line| listed.take_line(line)).await?;
        Ok(listed)
    }

    /// Deletes what a dry run over `asked` printed, except what is excluded. If the list was cut, `asked` has failed, so
    /// that the next run deletes the rest; a directory that only the remote has, and that is longer than a list, stays.
    async fn delete_unless_excluded(&mut self, listed: Listed, asked: &[RelPath]) -> Result<(), Fault> {
        if listed.is_cut {
            let entries = listed.doomed.len();
            let fault = Fault::new(
                name::DELETE_LIMIT,
                format!(
                    "the remote has more to delete than the {entries} entries that one run lists: the next run continues; a \
                     directory that only the remote has, and that holds more, has to be deleted there by hand"
                ),
            );
            self.complaints.failed.extend(asked.iter().map(|path| (path.clone(), fault.clone())));
        }
        let condemned = plan::topmost_only(condemned(&listed.doomed, asked, &self.order.filter));
        let is_cut = listed.is_cut;
        drop(listed);
        if condemned.is_empty() {
            return Ok(());
        }
        // By its name, where the directory above it is still here; else by a pattern.
        let (root, paths) = (self.root.clone(), condemned);
        let looking = aside::aside(move || {
            let plan = plan::look(root.as_fd(), &paths, false);
            let (by_name, by_pattern): (Vec<_>, Vec<_>) =
                paths.into_iter().partition(|path| plan.missing.binary_search(path).is_ok());
            // What has come back meanwhile is reported by itself.
            let still_gone =
                by_pattern.into_iter().filter(|path| plan.missing.iter().any(|above| path.is_inside(above)));
            (by_name, still_gone.collect::<Vec<_>>())
        });
        let (by_name, mut by_pattern) =
            looking.await.map_err(|error| local::fault("looking at what is to be deleted", &error))?;
        if !by_name.is_empty() {
            let list = null_separated(&by_name);
            // All that a condemned directory holds is condemned, and without force rsync deletes none that holds anything.
            let form = Form::Entries {
                below: false,
                ignore_times: false,
                delete: true,
                force: true,
                brief: false,
                whole: false,
                progress: false,
            };
            self.note_missing(&by_name);
            let accepted = match self.capabilities.delete_missing_args.is_worth_a_try() {
                true => self.run(form, || Feed::Whole(list.clone()), |_| ()).await?,
                false => self.capabilities,
            };
            if !accepted.delete_missing_args.is_worth_a_try() {
                by_pattern.extend(by_name);
            }
        }
        // rsync compares each entry with each pattern: with so many it would take hours.
        if by_pattern.is_empty() || is_cut { Ok(()) } else { self.delete_matching(&by_pattern).await }
    }

    async fn delete_matching(&mut self, paths: &[RelPath]) -> Result<(), Fault> {
        let patterns = patterns(paths);
        self.run(Form::DeleteMatching, || Feed::Whole(patterns.clone()), |_| ()).await.map(drop)
    }
}

/// Notes what a run says that it changed of the root, its times apart: those change with each entry.
fn note_root(changed: &mut Vec<&'static str>, line: Option<&[u8]>) {
    const COLUMNS: [(usize, &str); 5] =
        [(5, "mode"), (6, "owner"), (7, "group"), (9, "ACL"), (10, "extended attribute")];
    match line {
        None => changed.clear(),
        Some([columns @ .., b' ', b'.', b'/']) if columns.len() == 11 && columns.starts_with(b".d") => {
            let differs = |at: &usize| columns[*at].is_ascii_alphabetic();
            changed.extend(COLUMNS.iter().filter(|(at, _)| differs(at)).map(|(_, name)| name));
        }
        Some(_) => {}
    }
}

/// What may go: neither excluded nor a directory that holds something that stays. A remote can have any line printed:
/// what is not inside `asked` stays, whatever it says.
fn condemned(doomed: &[Doomed], asked: &[RelPath], filter: &Filter) -> Vec<RelPath> {
    let asked: BTreeSet<RelPath> = asked.iter().cloned().collect();
    let (spared, condemned): (Vec<&Doomed>, Vec<&Doomed>) = doomed.iter().partition(|Doomed { path, is_directory }| {
        let kind = if *is_directory { EntryKind::Directory } else { EntryKind::NonDirectory };
        path.is_root() || !plan::is_within(path, &asked) || filter.excludes(path, kind)
    });
    let spared: BTreeSet<&RelPath> = spared.iter().map(|doomed| &doomed.path).collect();
    condemned.into_iter().map(|doomed| &doomed.path).filter(|path| !path.holds_any_of(&spared)).cloned().collect()
}

/// Include patterns that reach `paths` and all below them, to be followed by an exclusion of everything else.
fn patterns(paths: &[RelPath]) -> Vec<u8> {
    let ways: BTreeSet<RelPath> =
        paths.iter().flat_map(|path| path.ancestors_below_root().collect::<Vec<_>>()).collect();
    let mut list = Vec::new();
    for way in &ways {
        push_pattern(&mut list, way, b"/");
    }
    for path in paths {
        push_pattern(&mut list, path, b"");
        push_pattern(&mut list, path, b"/***");
    }
    list
}

/// rsync takes a backslash for an escape only in a pattern that has a wildcard, so without one nothing is escaped.
fn push_pattern(list: &mut Vec<u8>, path: &RelPath, ending: &[u8]) {
    let is_special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[');
    let escape = ending.contains(&b'*') || path.as_bytes().iter().any(is_special);
    list.push(b'/');
    for byte in path.as_bytes() {
        if escape && (is_special(byte) || *byte == b'\\') {
            list.push(b'\\');
        }
        list.push(*byte);
    }
    list.extend_from_slice(ending);
    list.push(0);
}

/// A walk through directories that leaves out what is excluded.
struct Walk {
    root: Arc<OwnedFd>,
    filter: Arc<Filter>,
    pieces: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
    unreadable: Arc<Mutex<Vec<(RelPath, Fault)>>>,
    leaves_probes_out: bool,
    endpoint: Endpoint,
}

impl Walk {
    fn all(mut self, directories: &[RelPath]) {
        for directory in directories {
            if self.name(directory).and_then(|()| self.below(directory)).is_err() {
                return;
            }
        }
        // rsync may have ended; then it has said why.
        let _ = self.pieces.blocking_send(self.piece);
    }

    /// `Err` means that nobody listens any more.
    fn below(&mut self, top: &RelPath) -> Result<(), ()> {
        let mut open = vec![top.clone()];
        while let Some(directory) = open.pop() {
            // One unreadable entry makes the directory unreadable: what is not listed must not be deleted there.
            let entries = match list(self.root.as_fd(), &directory) {
                Ok(entries) => entries,
                // It is not a directory any more, which is reported separately.
                Err(error) if beneath::is_elsewhere(error) => continue,
                Err(error) => {
                    let error = std::io::Error::from(error);
                    let fault = local::limit(&error).unwrap_or_else(|| {
                        Fault::new(name::PERMISSION_DENIED, format!("cannot list the directory: {error}"))
                    });
                    self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).push((directory, fault));
                    continue;
                }
            };
            for (entry, is_directory) in entries {
                let path = directory.join(&entry);
                let kind = if is_directory { EntryKind::Directory } else { EntryKind::NonDirectory };
                if is_directory && path.is_too_long_for_a_directory() {
                    continue;
                }
                let is_left_out =
                    self.leaves_probes_out && probe_name::is_probe(&path) || self.endpoint.leaves_out(&path);
                if is_left_out || self.filter.matches(&path, kind) {
                    continue;
                }
                self.name(&path)?;
                if is_directory {
                    open.push(path);
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, path: &RelPath) -> Result<(), ()> {
        // The root, named, would bring its entries along, excluded or not; `send_root_attributes` sends it.
        if path.is_root() {
            return Ok(());
        }
        push_path(&mut self.piece, path);
        if self.piece.len() >= PIECE {
            let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
            return self.pieces.blocking_send(piece).map_err(drop);
        }
        Ok(())
    }
}

/// Bytes of a directory read at once.
const LISTED_AT_ONCE: usize = 32 * 1024;

/// The entries of the directory at `path` beneath `root`, and whether each is a directory itself.
fn list(root: BorrowedFd<'_>, path: &RelPath) -> Result<Vec<(OsString, bool)>, Errno> {
    let directory = beneath::open(root, path, beneath::LISTED)?;
    let mut buffer = vec![MaybeUninit::uninit(); LISTED_AT_ONCE];
    let mut listing = RawDir::new(&directory, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // It was removed meanwhile, and is empty.
            Err(rustix::io::Errno::NOENT) => break,
            Err(error) => return Err(Errno::from_raw(error.raw_os_error())),
        };
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            // Some file systems do not return the type.
            FileType::Unknown => match fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits(),
                Err(Errno::ENOENT) => continue,
                Err(error) => return Err(error),
            },
            kind => kind == FileType::Directory,
        };
        entries.push((OsStr::from_bytes(name.to_bytes()).to_owned(), is_directory));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rel(path: &str) -> RelPath {
        RelPath::new(path.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_excluded_stays_with_the_directories_that_hold_it() {
        let filter = Filter::new([".*\\.log"]).unwrap();
        let doomed = |lines: &[(&str, bool)]| -> Vec<Doomed> {
            lines.iter().map(|(path, is_directory)| Doomed { path: rel(path), is_directory: *is_directory }).collect()
        };
        let lines = doomed(&[("d/a.log", false), ("d/b", false), ("d", true), ("e/c", false), ("e", true)]);
        assert_eq!(plan::topmost_only(condemned(&lines, &[rel("d"), rel("e")], &filter)), [rel("d/b"), rel("e")]);
        // What was not asked for stays, and all that holds it.
        let lines = || doomed(&[("d/x/y", false), ("d/x", true), ("d/b", false), ("d", true), ("", true)]);
        assert_eq!(condemned(&lines(), &[rel("d/b")], &filter), [rel("d/b")]);
        assert_eq!(plan::topmost_only(condemned(&lines(), &[RelPath::root()], &filter)), [rel("d")]);
    }

    #[test]
    fn a_dry_run_that_lists_without_end_takes_bounded_memory() {
        let mut listed = Listed::default();
        let name = "n".repeat(200);
        for entry in 0..200_000 {
            listed.take_line(Some(format!("*deleting   {name}/{entry:06}").as_bytes()));
        }
        assert!(listed.is_cut);
        assert_eq!(listed.doomed.len(), LISTED_BYTES / (200 + 7 + LISTED_ENTRY));
        listed.take_line(None);
        assert!(!listed.is_cut && listed.doomed.is_empty());
    }

    #[test]
    fn what_changed_of_the_root_is_read_as_rsync_writes_it() {
        let read = |line: &[u8]| {
            let mut changed = Vec::new();
            note_root(&mut changed, Some(line));
            changed
        };
        assert_eq!(read(b".d..tpog... ./"), ["mode", "owner", "group"]);
        assert_eq!(read(b".d...p...ax ./"), ["mode", "ACL", "extended attribute"]);
        for nothing in [&b".d..t...... ./"[..], b".d...p..... d/", b"<f+++++++++ a", b" ./", b""] {
            assert_eq!(read(nothing), [""; 0], "{:?}", String::from_utf8_lossy(nothing));
        }
    }

    #[test]
    fn patterns_reach_a_path_and_take_no_name_for_a_wildcard() {
        let text = |paths: &[RelPath]| {
            let list = patterns(paths);
            list.split(|byte| *byte == 0).map(|p| String::from_utf8_lossy(p).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(text(&[rel("a/b")]), ["/a/", "/a/b", "/a/b/***", ""]);
        assert_eq!(text(&[rel(r"[x]\*")]), [r"/\[x]\\\*", r"/\[x]\\\*/***", ""]);
        assert_eq!(text(&[rel(r"a\b")]), [r"/a\b", r"/a\\b/***", ""]);
    }
}
