//! [`Keeper`]: somebody who keeps what a watch needs to be resumed, while no agent runs.

use crate::watch::Kept;
use std::fmt;
use std::path::Path;

/// Keeps descriptors from one process of the agent to the next. All of it is best effort: what was not kept is not
/// missed, but costs a comparison of the tree.
pub trait Keeper: fmt::Debug + Send {
    /// What the watch of `root` left, handed out once.
    fn left(&mut self, root: &Path) -> Option<Kept>;

    /// Keeps this for `root` from now on, and nothing else.
    fn keep(&mut self, root: &Path, kept: &Kept);

    /// `root` is not watched any more.
    fn forget(&mut self, root: &Path);

    /// What was left for any other root than those asked for is not needed.
    fn forget_unclaimed(&mut self);
}
