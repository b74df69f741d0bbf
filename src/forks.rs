//! For tests: who counts on close(2), and who starts processes, take turns.
//!
//! A new process holds copies of all open files until it has executed its program. A file that another test closes in
//! that moment is closed a little later, and so the kernel tells of it later.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::new(());

/// While this is held, no other test starts a process.
pub fn none() -> RwLockReadGuard<'static, ()> {
    TURN.read().unwrap_or_else(PoisonError::into_inner)
}

/// While this is held, no other test counts on close(2).
pub fn some() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}
