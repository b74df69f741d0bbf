//! Fixed MESSAGE_IDs of the journal: `journalctl MESSAGE_ID=…` finds every entry of a kind, in any language and any
//! later wording. A number once released keeps its meaning for ever.
//!
//! They go into the tracing field `message_id`:
//! `tracing::warn!(message_id = message_ids::OVERFLOW, …)`.

/// The agent has set its watches and mirrors from now on.
pub const AGENT_STARTED: &str = "5cf9c258de0f4499a70b923bfc5637bf";
/// The agent ended in order; what is unfinished stays pending.
pub const AGENT_STOPPED: &str = "278ee4037e78408ca529e77da3e927e7";
/// A run to a remote failed after one that succeeded: it is tried again, with growing pauses.
pub const REMOTE_DOWN: &str = "4dbabfe6c97440cd8376c85546b628d3";
/// A remote that was down took a run again.
pub const REMOTE_BACK: &str = "55b23bdf5d774f7a98f0772631952b86";
/// The kernel's event queue overflowed: the tree is walked again, nothing is lost.
pub const OVERFLOW: &str = "eb17849eb7fe4a89ae1e9d13ad0d11f6";
/// A watched directory is not there: the agent waits for it.
pub const ROOT_MISSING: &str = "bfb604b7f8224360b65757cc1bc68968";
/// A watched directory that was missing is there again.
pub const ROOT_BACK: &str = "1992227004464db3b53d683efc0ab10a";
/// The kernel allows no more inotify watches: part of the tree is not watched.
pub const WATCH_LIMIT: &str = "644d62747efa4ec4a9478cf89a007d41";
/// Directories are not mirrored: with the names in them, their paths are too long for rsync. SERSYNC_PATH.
pub const PATH_TOO_LONG: &str = "231219df254c4748a293ed21771e6560";
/// The config has mistakes and was not taken.
pub const CONFIG_REFUSED: &str = "ac374184497a4d0cbbcf55b7b15f13c3";
/// The config was read again and is in force.
pub const CONFIG_RELOADED: &str = "48e991a361bd4d05acdec011f9324702";
/// A full sync ended.
pub const FULL_SYNC_FINISHED: &str = "82d86a0911e6484d9b5bc0213f9e1a25";
/// A path failed for a remote for the first time: it is tried again.
pub const PATH_FAILED: &str = "fd143a91a8d74851ad3dd8a8112c15ca";
/// A plugin's target does not answer: it is tried again, with growing pauses.
pub const PLUGIN_DOWN: &str = "b822d9c5679f4fdbbc164667f2e503c5";
/// A plugin's target that was down answers again.
pub const PLUGIN_BACK: &str = "be78eca23a8848d5b9786173e8ae884c";
/// A plugin's target will not hear of a path: it failed too often, or too many waited.
pub const PLUGIN_FAILED: &str = "27916a5c58584464ae4a955a6ca0c20f";
/// What is sent comes back: a remote mirrors to this machine in turn.
pub const LOOP: &str = "2443d14bd4f84aceac81ab027315a911";

/// A remote meets another mirror: comparisons delete nothing there. SERSYNC_REMOTE.
pub const MIRRORS_MEET: &str = "6d80830a9e3245029d0ef29561f72b1b";
/// Deletions on a remote are withheld: too many, or the root is another file system. SERSYNC_REMOTE, SERSYNC_PATHS.
pub const DELETIONS_WITHHELD: &str = "fd3c5d84d7ef4261816526c78a34668f";
/// An rsync run ended (debug level).
pub const BATCH_FINISHED: &str = "0b2fc3007a3d40d1bd969fec7e1fbdd7";
