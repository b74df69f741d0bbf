//! A package manager unpacks: each file under a name of its own first, flushed to the disk, then renamed.

use super::race::Race;
use super::{Field, one_at_a_time};
use crate::content::content;
use crate::stand::Stand;
use crate::support::tool;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const FILES: usize = 5_000;
const DIRECTORIES: usize = 250;

pub fn race() -> Race {
    Race {
        name: "unpack",
        about: "`dpkg --unpack` of a package with 5,000 files of 1 to 16 KB in 250 directories and 250 symbolic links.",
        most_rounds: 2,
        unsuited: one_at_a_time,
        prepare: build,
        write: |_, stand| {
            let mut dpkg = Command::new("dpkg");
            dpkg.arg("--instdir").arg(stand.source()).arg("--admindir").arg(stand.path("dpkg"));
            // What stands in a path or belongs to a user does not matter: nothing of it is run.
            dpkg.args(["--force-not-root", "--force-bad-path", "--log=/dev/null", "--unpack"]);
            tool(dpkg.arg(package(stand)));
        },
        obstacle: || {
            let runs = |program: &str| Command::new(program).arg("--version").output().is_ok();
            (!runs("dpkg") || !runs("dpkg-deb")).then(|| "no dpkg here".to_owned())
        },
        ..Race::PLAIN
    }
}

fn package(stand: &Stand) -> PathBuf {
    stand.path("package.deb")
}

fn build(field: &Field, stand: &Stand) {
    let root = stand.path("package");
    let share = root.join("usr/share");
    fs::create_dir_all(root.join("DEBIAN")).expect("room for a directory");
    let control = "Package: sersync-bench\nVersion: 1\nArchitecture: all\nMaintainer: none <none@example.org>\n\
                   Description: many files\n";
    fs::write(root.join("DEBIAN/control"), control).expect("room for a file");
    for file in 0..field.sized(FILES, 250) {
        let directory = share.join(format!("package-{}", file % DIRECTORIES));
        if file < DIRECTORIES {
            fs::create_dir_all(&directory).expect("room for a directory");
            std::os::unix::fs::symlink("part-0", directory.join("current")).expect("room for a link");
        }
        let size = 1024 * (1 + file % 16);
        fs::write(directory.join(format!("part-{}", file / DIRECTORIES)), content(file, size))
            .expect("room for a file");
    }
    tool(Command::new("dpkg-deb").args(["-Znone", "--root-owner-group", "--build"]).arg(&root).arg(package(stand)));
    fs::remove_dir_all(&root).expect("it is ours");
    let admin = stand.path("dpkg");
    fs::create_dir_all(admin.join("info")).expect("room for a directory");
    fs::create_dir_all(admin.join("updates")).expect("room for a directory");
    fs::write(admin.join("status"), "").expect("room for a file");
}
