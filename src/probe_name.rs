//! Names of probes: empty directories that an agent makes on its remotes to find out where they lead
//! (`transport::probe_places`).
//!
//! A probe of another agent is mirrored like any other directory, and no filter excludes it: only so does it come back
//! to the agent that made it, however many hosts lie between.

use crate::path::RelPath;

/// The beginning of every name.
const PREFIX: &str = ".sersync-probe-";

/// The shell pattern that all names match.
pub const PATTERN: &str = ".sersync-probe-*";

/// A name that no other probe has.
pub fn new() -> String {
    format!("{PREFIX}{:016x}", fastrand::u64(..))
}

/// Whether `name` is one of a probe, of this agent or another.
pub fn is_one(name: &[u8]) -> bool {
    let number = name.strip_prefix(PREFIX.as_bytes());
    number.is_some_and(|number| number.len() == 16 && number.iter().all(u8::is_ascii_hexdigit))
}

/// Whether `path` itself is a probe.
pub fn is_probe(path: &RelPath) -> bool {
    is_one(path.file_name().as_encoded_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_probes_by_their_names() {
        let is_probe = |path: &str| is_probe(&RelPath::new(path.as_bytes()).unwrap());
        assert!(is_probe(&new()) && is_probe(&format!("a/b/{}", new())));
        for other in [".sersync-probe-", ".sersync-probe-12", ".sersync-check-0123456789abcdef", "a"] {
            assert!(!is_probe(other), "{other}");
        }
    }
}
