//! A working tree that jumps between two commits.

use super::one_at_a_time;
use super::race::Race;
use crate::stand::Stand;
use crate::support::{project, tool};
use std::process::Command;

pub fn race() -> Race {
    Race {
        name: "checkout",
        about: "`git checkout` of this project's first commit, then of its newest, then of the one halfway between them; \
                before that, the newest. The repository itself lies elsewhere.",
        most_rounds: 2,
        unsuited: one_at_a_time,
        prepare: |_, stand| {
            tool(git(stand).args(["clone", "-q", "--bare"]).arg(project()).arg(repository(stand)));
            check_out(stand, "HEAD");
        },
        write: |_, stand| {
            let commits = tool(in_it(stand).args(["rev-list", "--reverse", "HEAD"]));
            let commits = commits.lines().collect::<Vec<_>>();
            for commit in [commits[0], commits[commits.len() - 1], commits[commits.len() / 2]] {
                check_out(stand, commit);
            }
        },
        obstacle,
        ..Race::PLAIN
    }
}

fn obstacle() -> Option<String> {
    let shallow = Command::new("git").arg("-C").arg(project()).args(["rev-parse", "--is-shallow-repository"]).output();
    match shallow {
        Err(error) => Some(format!("git: {error}")),
        Ok(output) if output.stdout.trim_ascii() == b"false" => None,
        Ok(_) => Some("the project is no git repository here, or its history is cut short".to_owned()),
    }
}

fn repository(stand: &Stand) -> std::path::PathBuf {
    stand.path("repository")
}

/// git as it is without the user's settings.
fn git(stand: &Stand) -> Command {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", stand.path(""));
    // The project may belong to another user than the one who measures.
    git.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    git
}

fn in_it(stand: &Stand) -> Command {
    let mut git = git(stand);
    git.arg("--git-dir").arg(repository(stand)).arg("--work-tree").arg(stand.source());
    git
}

fn check_out(stand: &Stand, commit: &str) {
    tool(in_it(stand).args(["checkout", "-q", "-f", "--detach", commit]).current_dir(stand.source()));
}
