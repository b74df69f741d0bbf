//! What files hold and trees consist of.

use std::fs;
use std::path::Path;

/// Bytes that do not compress to nothing and are unlike those of another seed.
pub fn content(seed: usize, size: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed as u64);
    let mut bytes = vec![0; size];
    rng.fill(&mut bytes);
    bytes
}

/// `count` files of `size` bytes in as many `directories`, made at the same time.
pub fn files(root: &Path, directories: usize, count: usize, size: usize) {
    for directory in 0..directories {
        fs::create_dir(root.join(format!("dir{directory}"))).expect("a new directory");
    }
    for file in 0..count {
        let path = root.join(format!("dir{}/file{file}", file % directories));
        fs::write(path, content(file, size)).expect("room for a file");
    }
}

/// A tree of so many `directories`, a multiple of a thousand, none of them with more than 110 or with a file.
pub fn directories(root: &Path, directories: usize) {
    for group in 0..directories / 1_000 {
        let top = root.join(format!("section-{group:05}"));
        fs::create_dir(&top).expect("a new directory");
        for project in 0..9 {
            let middle = top.join(format!("project-{project}"));
            fs::create_dir(&middle).expect("a new directory");
            for leaf in 0..110 {
                fs::create_dir(middle.join(format!("release-{leaf:03}-notes"))).expect("a new directory");
            }
        }
    }
}

/// One in the middle of that tree, below its root.
pub fn some_directory(directories: usize) -> String {
    format!("section-{:05}/project-4/release-055-notes", directories / 2_000)
}
