//! What a run made equal, path by path, for whoever is told of it.
//!
//! Of what was reported path by path the batch itself knows. What changed below a directory only rsync knows: it is
//! asked to itemize, which costs a line for each entry that differed, and only when somebody listens.

use super::output::unescape;
use super::plan::{Plan, is_within};
use super::{Deed, Order, Outcome, SYNCED_AT_MOST, Synced, outcome};
use crate::path::RelPath;
use crate::pending::Kind;
use std::collections::{BTreeSet, HashSet};

/// The eleven columns of `--itemize-changes` and the name, without a link's target behind it.
pub(super) const ITEMIZE: &str = "--out-format=%i %n";

/// What of the batch's own paths will have been made equal when nothing goes wrong.
pub(super) fn of_plan(order: &Order, plan: &Plan) -> Vec<Synced> {
    let attributes = order.kind == Kind::Attributes;
    let sent = if attributes { Deed::Attributes } else { Deed::Sent };
    let entries = plan.entries.iter().map(|path| Synced { path: path.clone(), deed: sent });
    // That of a directory only its times changed is no news; rsync says what changed in one that is compared.
    let is_news = matches!(order.kind, Kind::Entry | Kind::Pruned);
    let directories =
        plan.directories.iter().filter(|_| is_news).map(|path| Synced { path: path.clone(), deed: Deed::Sent });
    let missing = plan.missing.iter().filter(|_| order.delete).map(|path| {
        let held = order.paths.binary_search(path).is_ok();
        // It gave way to paths of the batch inside it, or was reported as a directory that went.
        Synced { path: path.clone(), deed: Deed::Deleted { directory: !held || order.kind >= Kind::Pruned } }
    });
    entries.chain(directories).chain(missing).collect()
}

/// An entry of the batch that differed, from a line of output. A remote can have any line printed: it names none of the
/// rest of the tree by that.
pub(super) fn of_batch(order: &Order, line: &[u8]) -> Option<Synced> {
    from_line(line).filter(|synced| outcome::concerns(order, &synced.path))
}

/// Whether a line of output says that one of `paths`, or what is below it, was sent.
pub(super) fn is_sent(line: &[u8], paths: &BTreeSet<RelPath>) -> bool {
    from_line(line).is_some_and(|synced| synced.deed == Deed::Sent && is_within(&synced.path, paths))
}

/// An entry that differed, from a line of output.
fn from_line(line: &[u8]) -> Option<Synced> {
    let (columns, name) = line.split_at_checked(11)?;
    let bytes = unescape(name.strip_prefix(b" ")?);
    let (bytes, named_as_directory) = match bytes.strip_suffix(b"/") {
        Some(bytes) => (bytes, true),
        None => (bytes.as_slice(), false),
    };
    let deed = match columns {
        b"*deleting  " => Deed::Deleted { directory: named_as_directory },
        [b'<' | b'>' | b'c' | b'h', b'f' | b'd' | b'L' | b'D' | b'S', ..] => Deed::Sent,
        // Of a directory the times alone change with each entry in it.
        [b'.', b'd', _, _, _, changed @ ..] if changed.iter().all(|change| matches!(change, b'.' | b' ')) => {
            return None;
        }
        [b'.', b'f' | b'd' | b'L' | b'D' | b'S', changes @ ..] if !changes.iter().all(|change| *change == b' ') => {
            Deed::Attributes
        }
        _ => return None,
    };
    let path = RelPath::new(bytes).ok().filter(|path| !path.is_root())?;
    Some(Synced { path, deed })
}

impl Outcome {
    /// Adds what was made equal: `known` of the batch, without what failed, and what rsync `itemized`.
    pub(super) fn with_synced(mut self, order: &Order, known: Vec<Synced>, itemized: Vec<Synced>) -> Self {
        if !order.name_synced {
            return self;
        }
        let undone: BTreeSet<&RelPath> = self
            .failed
            .iter()
            .map(|(path, _)| path)
            .chain(&self.again)
            .chain(&self.changed)
            .chain(&self.bulk)
            .collect();
        // A directory that still holds what would not go is not deleted.
        let is_done = |synced: &Synced| {
            let is_deletion = matches!(synced.deed, Deed::Deleted { .. });
            !(undone.contains(&synced.path) || is_deletion && synced.path.holds_any_of(&undone))
        };
        if itemized.len() >= SYNCED_AT_MOST {
            tracing::warn!(
                "plugins hear of the first {SYNCED_AT_MOST} entries that this comparison changed, not of the rest"
            );
        }
        // What rsync itself says that it did it did, also in a run that failed later: the next one will not say it again.
        let mut synced: Vec<Synced> = itemized.into_iter().filter(is_done).collect();
        if self.fault.is_none() {
            let named: HashSet<RelPath> = synced.iter().map(|synced| synced.path.clone()).collect();
            synced.extend(known.into_iter().filter(|synced| !named.contains(&synced.path)).filter(is_done));
        }
        self.synced = synced;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_rsync_writes_them() {
        let read = |line: &[u8]| from_line(line).map(|synced| (synced.path.display().to_string(), synced.deed));
        let path = |name: &str, deed| Some((name.to_owned(), deed));
        assert_eq!(read(b"<f+++++++++ a/b"), path("a/b", Deed::Sent));
        assert_eq!(read(b">f.st...... two  blanks"), path("two  blanks", Deed::Sent));
        assert_eq!(read(b"cd+++++++++ new/"), path("new", Deed::Sent));
        assert_eq!(read(b"cL+++++++++ a -> b"), path("a -> b", Deed::Sent));
        assert_eq!(read(b".f...p..... x"), path("x", Deed::Attributes));
        assert_eq!(read(b".d...p..... d/"), path("d", Deed::Attributes));
        assert_eq!(read(b"*deleting   gone/"), path("gone", Deed::Deleted { directory: true }));
        assert_eq!(read(b"*deleting     two blanks"), path("  two blanks", Deed::Deleted { directory: false }));
        assert_eq!(read(b"<f+++++++++ a\\#012b"), path("a\\nb", Deed::Sent));
        for other in
            [&b".d..t...... d/"[..], b".d..t...... ./", b"Number of files: 5", b"  1,238,099  42%  146.38kB/s", b""]
        {
            assert_eq!(read(other), None, "{:?}", String::from_utf8_lossy(other));
        }
    }
}
