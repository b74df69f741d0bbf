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
