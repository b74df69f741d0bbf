//! For tests: who counts on close(2), and who starts processes, take turns.
//!
//! A new process holds copies of all open files until it has executed its program. A file that another test closes in
//! that moment is closed a little later, and so the kernel tells of it later.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

static TURN: RwLock<()> = RwLock::new(());

thread_local! {
    /// How many of this thread count on close(2), and what they hold together: a thread that took it twice would wait
    /// for a writer that waits for the first.
    static COUNTING: RefCell<(usize, Option<RwLockReadGuard<'static, ()>>)> = const { RefCell::new((0, None)) };
}

/// A turn of those who count on close(2); it stays with its thread.
#[derive(Debug)]
pub struct NoForks(PhantomData<*const ()>);

/// While this is held, no other test starts a process.
pub fn none() -> NoForks {
    COUNTING.with_borrow_mut(|(held, turn)| {
        *held += 1;
        turn.get_or_insert_with(|| TURN.read().unwrap_or_else(PoisonError::into_inner));
    });
    NoForks(PhantomData)
}

impl Drop for NoForks {
    fn drop(&mut self) {
        COUNTING.with_borrow_mut(|(held, turn)| {
            *held -= 1;
            if *held == 0 {
                *turn = None;
            }
        });
    }
}

/// While this is held, no other test counts on close(2).
pub fn some() -> RwLockWriteGuard<'static, ()> {
    TURN.write().unwrap_or_else(PoisonError::into_inner)
}
