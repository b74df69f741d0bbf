//! The heap, so that memory goes back to the system when something large has gone from it.
//!
//! glibc raises two of its thresholds whenever a large block is freed, and keeps up to 64 MB of free memory for each
//! thread from then on (mallopt(3), `M_MMAP_THRESHOLD`). A program that goes on as it began gains by that. An agent that
//! once saw a million directories or a million paths, and is idle for days, does not.

/// From so many bytes on a block gets pages of its own, which grow without a copy and leave when it is freed. glibc's
/// own value, before it is raised.
#[cfg(target_env = "gnu")]
const LARGE: nix::libc::c_int = 128 * 1024;

/// Has large blocks always leave when they are freed. To be called before there is a second thread.
pub fn let_large_blocks_go() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) changes how memory is allocated from now on, and nothing that is. It takes the lock of the heap
    // that it changes.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}
