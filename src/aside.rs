//! [`aside`]: work that blocks, done on a thread of its own beside the engine's.
//!
//! Not on tokio's pool of threads, which panics when the system has no thread left: here that is an error, which a
//! caller names and tries again. A thread costs some 20 µs; an rsync run, which is what each of them is made for,
//! a hundred times as much.

use std::io;
use std::thread;
use tokio::sync::oneshot;

/// Does `work` and gives back its result. Dropping the future does not stop the work.
///
/// # Errors
///
/// There is no thread to be had, or the work panicked, which it has said by itself.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    // A thread would take time that a simulation does not see pass.
    #[cfg(test)]
    if crate::time::simulated::is_on() {
        return Ok(work());
    }
    let (sender, result) = oneshot::channel();
    // Whoever waited may be gone by the time it is done.
    begin(move || drop(sender.send(work())))?;
    result.await.map_err(|_| io::Error::other("the work broke; this is a defect, please report it"))
}

/// The same for work that hands over its results by itself.
///
/// # Errors
///
/// There is no thread to be had: the work is not done.
pub fn begin(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("aside".to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_is_an_error() {
        assert_eq!(aside(|| 3).await.unwrap(), 3);
        let broke = aside(|| -> u8 { panic!("as this test wants it") }).await;
        assert!(broke.unwrap_err().to_string().contains("defect"));
    }
}
