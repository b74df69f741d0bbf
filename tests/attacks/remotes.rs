//! Remotes that send without end.
