//! A directory is renamed.

use super::race::Race;
use crate::content;
use crate::figures::Measure;
use crate::report::is_ours;
use crate::stand::{Place, Stand};
use std::fs;
use std::path::Path;

/// To a remote that is reached by ssh, where a mirror can do the same.
pub fn by_ssh() -> Race {
    Race {
        name: "mv-ssh",
        about: "A directory of 1,000 files of 10 KB is renamed; the remote is reached by ssh.",
        measures: &[Measure::Converged, Measure::Cpu, Measure::Written],
        places: &[Place::Tmpfs],
        most_rounds: 3,
        unsuited: |tool| {
            let other = !is_ours(tool.name()) && tool.name() != "lsyncd";
            other.then_some("it is set up for an rsync daemon")
        },
        prepare: |field, stand| {
            let before = stand.source().join("before");
            fs::create_dir(&before).expect("a new directory");
            content::files(&before, 1, field.sized(1_000, 100), 10 * 1024);
        },
        write: |_, stand| {
            fs::rename(stand.source().join("before"), stand.source().join("after")).expect("one file system");
        },
        ground: |field, _| Stand::by_ssh(field.place),
        obstacle: || {
            let there = ["/usr/sbin/sshd", "/usr/bin/ssh"].iter().all(|program| Path::new(program).exists());
            (!there).then(|| "no ssh and sshd here: apt-get install openssh-server".to_owned())
        },
        copied: false,
        ..Race::PLAIN
    }
}
