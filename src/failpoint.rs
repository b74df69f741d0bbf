//! Named moments at which a test lets something happen that nobody outside could time: the process ends there, or what
//! was called there panics. They are there with the feature `failpoints` only; tests/failpoints.rs has the list.

/// Ends the process at once, as `kill -9` would, where the environment variable `FAILPOINTS` says `NAME=return`, or
/// `NAME=5*off->return` for the sixth time.
macro_rules! may_die_here {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        (|| fail::fail_point!($name, |_| std::process::abort()))();
    };
}

/// Panics where `FAILPOINTS` says `NAME=panic`.
macro_rules! may_panic_here {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::fail_point!($name);
    };
}

pub(crate) use {may_die_here, may_panic_here};
