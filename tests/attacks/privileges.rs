//! Commands, configs and file names that reach for more than they may have.
