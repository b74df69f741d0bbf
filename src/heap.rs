//! The heap, so that memory goes back to the system when something large has gone from it.
//!
//! glibc raises two of its thresholds whenever a large block is freed, and keeps up to 64 MB of free memory for each
//! thread from then on (mallopt(3), `M_MMAP_THRESHOLD`). A program that goes on as it began gains by that. An agent that
//! once saw a million directories or a million paths, and is idle for days, does not.

/// From so many bytes on a block gets pages of its own, which grow without a copy and leave when it is freed. glibc's
/// own value, before it is raised.
#[cfg(target_env = "gnu")]
const LARGE: nix::libc::c_int = 128 * 1024;

/// Gives free memory back that lies between what is in use. That takes a walk through all that is free: it is for the
/// moment after a great many small blocks were freed.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) may be called at any time by any thread, and changes nothing that is allocated.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// Has large blocks always leave when they are freed. To be called before there is a second thread.
pub fn let_large_blocks_go() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) changes how memory is allocated from now on, and nothing that is. It takes the lock of the heap
    // that it changes.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// For tests that measure memory: `measure` runs in a process of its own, since other tests allocate, too. `test` is the
/// whole name of the calling test. `measure` is given what tells the resident memory in bytes.
#[cfg(test)]
pub fn alone(test: &str, measure: impl FnOnce(fn() -> i64)) {
    const ALONE: &str = "SERSYNC_TEST_MEASURES";
    if std::env::var_os(ALONE).is_none() {
        let _turn = crate::forks::some();
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        let output = alone.args([test, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{test} is no test");
        return;
    }
    let_large_blocks_go();
    measure(|| {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<i64>().unwrap() * 4096
    });
}
