//! [`Writer`]: does to a tree, at random but from a seed, everything that programs do to trees.
//!
//! What it never does: write to a file that has a second name. The kernel reports such a write for the name it came
//! by; no watcher can know of the other name, and until a full sync the copy has the old content there.

use fastrand::Rng;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// A random writer on one tree.
#[derive(Debug)]
pub struct Writer {
    rng: Rng,
    root: PathBuf,
    /// Where things come from and go to; on the same file system, so that `rename` works.
    outside: PathBuf,
    serial: u64,
    /// How many operations changed something.
    pub done: u64,
}

/// Runs all writers until `harm` returns, each with at most 400 operations per second: the kernel's queue of 16,384 events
/// then covers the ten seconds or so in which a stopped agent reads nothing, and no full sync is needed.
pub fn busy_while<T>(writers: Vec<Writer>, harm: impl FnOnce() -> T) -> T {
    let works = writers.into_iter().map(|mut writer| move || writer.run(20));
    repeat_while(works.collect(), Duration::from_millis(50), harm)
}

/// Runs each of `works` again and again, in parallel and without a pause, until `harm` returns.
pub fn again_and_again_while<T>(works: Vec<impl FnMut() + Send>, harm: impl FnOnce() -> T) -> T {
    repeat_while(works, Duration::ZERO, harm)
}

/// Runs each of `works` again and again, in parallel, until `harm` returns or panics; `interval`: the minimum time between
/// two starts of the same work.
fn repeat_while<T>(works: Vec<impl FnMut() + Send>, interval: Duration, harm: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let stops: Vec<mpsc::Sender<()>> = works
            .into_iter()
            .map(|mut work| {
                let (stop, stopped) = mpsc::channel();
                scope.spawn(move || {
                    loop {
                        let start = Instant::now();
                        work();
                        // The channel closes when `harm` ends, even by a panic.
                        match stopped.recv_timeout(interval.saturating_sub(start.elapsed())) {
                            Err(mpsc::RecvTimeoutError::Timeout) => {}
                            Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                        }
                    }
                });
                stop
            })
            .collect();
        let result = harm();
        drop(stops);
        result
    })
}

/// Above so many entries in the tree, removals win.
const FULL: usize = 1_500;

impl Writer {
    pub fn new(seed: u64, root: &Path, outside: &Path) -> Self {
        fs::create_dir_all(outside).unwrap();
        Self { rng: Rng::with_seed(seed), root: root.to_owned(), outside: outside.to_owned(), serial: 0, done: 0 }
    }

    /// Does `count` operations. One that finds nothing to work on, or meets a file where a directory was expected,
    /// counts as well.
    pub fn run(&mut self, count: u64) {
        let mut entries = count_entries(&self.root);
        for turn in 0..count {
            if turn % 200 == 199 {
                entries = count_entries(&self.root);
            }
            if self.step(entries > FULL).is_ok() {
                self.done += 1;
            }
        }
    }

    fn step(&mut self, full: bool) -> io::Result<()> {
        if full && self.rng.u8(..8) == 0 {
            let victim = self.directory(2)?;
            return if victim == self.root { Ok(()) } else { fs::remove_dir_all(victim) };
        }
        match self.rng.u8(..100) {
            0..=19 => self.create(),
            20..=27 => self.append(),
            28..=37 => self.overwrite(),
            38..=41 => self.truncate(),
            42..=43 => self.same_size_same_time(),
            44..=51 => self.rename_file(),
            52..=56 => self.rename_directory(),
            57..=59 => self.save_by_rename(),
            60..=61 => self.move_in(),
            62..=63 => self.move_out(),
            64..=73 => fs::remove_file(self.file()?),
            74 => self.remove_tree(),
            75..=77 => self.make_directories(),
            78..=81 => self.link(),
            82..=83 => fs::hard_link(self.plain()?, self.fresh()?),
            84..=87 => self.change_mode(),
            88..=89 => Ok(nix::unistd::mkfifo(&self.fresh()?, nix::sys::stat::Mode::from_bits_truncate(0o644))?),
            90..=91 => self.swap_kind(),
            92..=93 => self.set_time(),
            94..=95 => self.pass_by(),
            96 => self.unpack(),
            97 => self.big(),
            _ => self.burst(),
        }
    }

    // --- choosing ---

    /// A directory at most `depth` levels down.
    fn directory(&mut self, depth: usize) -> io::Result<PathBuf> {
        let mut path = self.root.clone();
        for _ in 0..self.rng.usize(..=depth) {
            let mut below = Vec::new();
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    below.push(entry.path());
                }
            }
            below.sort_unstable();
            match self.rng.choice(below) {
                Some(next) => path = next,
                None => break,
            }
        }
        Ok(path)
    }

    /// Anything but a directory.
    fn file(&mut self) -> io::Result<PathBuf> {
        let directory = self.directory(4)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                files.push(entry.path());
            }
        }
        files.sort_unstable();
        self.rng.choice(files).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// A regular file that has one name.
    fn plain(&mut self) -> io::Result<PathBuf> {
        let path = self.file()?;
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_file() && metadata.nlink() == 1 { Ok(path) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    /// A path in some directory; often one that exists.
    fn fresh(&mut self) -> io::Result<PathBuf> {
        let directory = self.directory(4)?;
        let name = self.name();
        Ok(directory.join(name))
    }

    fn name(&mut self) -> OsString {
        match self.rng.u8(..20) {
            0 => {
                let length = self.rng.usize(1..40);
                let byte = |rng: &mut Rng| match rng.u8(1..255) {
                    b'/' => 255,
                    other => other,
                };
                let bytes = std::iter::repeat_with(|| byte(&mut self.rng)).take(length).collect::<Vec<u8>>();
                if bytes == b"." || bytes == b".." { "dots".into() } else { OsString::from_vec(bytes) }
            }
            1 => ["-rf", "$(id)", "`id`", "a\nb", "\"", "*[x]", " ", ".hidden"][self.rng.usize(..8)].into(),
            2 => ["4913", "page~", ".page.swp", ".#page", ".page.aB3xY9"][self.rng.usize(..5)].into(),
            3 => "n".repeat(self.rng.usize(200..=255)).into(),
            _ => format!("{}{}", ["f", "g", "dir"][self.rng.usize(..3)], self.rng.u8(..40)).into(),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = if self.rng.u8(..4) == 0 { self.rng.usize(..40_000) } else { self.rng.usize(..400) };
        self.serial += 1;
        let mut bytes = format!("{} ", self.serial).into_bytes();
        bytes.resize(length, self.rng.u8(..));
        bytes
    }

    // --- doing ---

    /// Writes a path anew, unless it has a second name.
    fn write(&mut self, path: &Path) -> io::Result<()> {
        if let Ok(metadata) = fs::symlink_metadata(path)
            && (!metadata.is_file() || metadata.nlink() > 1)
        {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let bytes = self.bytes();
        fs::write(path, bytes)
    }

    fn create(&mut self) -> io::Result<()> {
        let path = self.fresh()?;
        self.write(&path)
    }

    fn append(&mut self) -> io::Result<()> {
        let path = self.plain()?;
        let bytes = self.bytes();
        OpenOptions::new().append(true).open(path)?.write_all(&bytes)
    }

    fn overwrite(&mut self) -> io::Result<()> {
        let path = self.plain()?;
        let length = fs::metadata(&path)?.len();
        let bytes = self.bytes();
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(self.rng.u64(..=length)))?;
        file.write_all(&bytes)
    }

    fn truncate(&mut self) -> io::Result<()> {
        let path = self.plain()?;
        let length = self.rng.u64(..=fs::metadata(&path)?.len());
        OpenOptions::new().write(true).open(path)?.set_len(length)
    }

    /// What rsync's quick check cannot see.
    fn same_size_same_time(&mut self) -> io::Result<()> {
        let path = self.plain()?;
        let before = fs::metadata(&path)?;
        let length = usize::try_from(before.len()).expect("files are small here");
        self.serial += 1;
        let mut bytes = self.serial.to_string().into_bytes();
        bytes.resize(length, b'=');
        fs::write(&path, bytes)?;
        super::tree::set_modified(&path, before.modified()?);
        Ok(())
    }

    fn rename_file(&mut self) -> io::Result<()> {
        let (from, to) = (self.file()?, self.fresh()?);
        fs::rename(from, to)
    }

    fn rename_directory(&mut self) -> io::Result<()> {
        let (from, to) = (self.directory(4)?, self.fresh()?);
        if from == self.root || to.starts_with(&from) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fs::rename(from, to)
    }

    /// As editors save: a new file takes the old one's name.
    fn save_by_rename(&mut self) -> io::Result<()> {
        let path = self.plain()?;
        let draft = path.with_extension("new~");
        self.write(&draft)?;
        fs::rename(draft, path)
    }

    fn move_in(&mut self) -> io::Result<()> {
        let to = self.fresh()?;
        self.serial += 1;
        let from = self.outside.join(format!("in{}", self.serial));
        let mut directory = from.clone();
        for _ in 0..self.rng.usize(1..6) {
            let name = self.name();
            directory.push(name);
            fs::create_dir_all(&directory)?;
            for file in 0..self.rng.usize(..4) {
                let bytes = self.bytes();
                fs::write(directory.join(format!("f{file}")), bytes)?;
            }
        }
        fs::rename(from, to)
    }

    fn move_out(&mut self) -> io::Result<()> {
        self.serial += 1;
        let to = self.outside.join(format!("out{}", self.serial));
        let from = if self.rng.bool() { self.directory(4)? } else { self.file()? };
        if from == self.root {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fs::rename(from, to)
    }

    fn remove_tree(&mut self) -> io::Result<()> {
        let path = self.directory(4)?;
        if path == self.root { Err(io::ErrorKind::InvalidInput.into()) } else { fs::remove_dir_all(path) }
    }

    fn make_directories(&mut self) -> io::Result<()> {
        let mut path = self.directory(2)?;
        for _ in 0..self.rng.usize(1..4) {
            let name = self.name();
            path.push(name);
        }
        fs::create_dir_all(&path)?;
        let name = self.name();
        self.write(&path.join(name))
    }

    fn link(&mut self) -> io::Result<()> {
        let path = self.fresh()?;
        // Only targets below the link: a daemon without chroot cuts others short, so that none leaves its module.
        let target = match self.rng.u8(..3) {
            0 => PathBuf::from("nowhere"),
            1 => PathBuf::from("dir1/f1"),
            _ => self.file()?.file_name().expect("it is below the root").into(),
        };
        symlink(target, path)
    }

    fn change_mode(&mut self) -> io::Result<()> {
        let path = if self.rng.u8(..3) == 0 { self.directory(4)? } else { self.plain()? };
        if path == self.root {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Always usable by the owner, so that a writer and an rsync without privileges can go on.
        let mode = 0o700 | self.rng.u32(..0o100);
        fs::set_permissions(path, Permissions::from_mode(mode))
    }

    fn swap_kind(&mut self) -> io::Result<()> {
        if self.rng.bool() {
            let path = self.file()?;
            fs::remove_file(&path)?;
            fs::create_dir(&path)?;
            self.write(&path.join("was a file"))
        } else {
            let path = self.directory(4)?;
            if path == self.root {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            fs::remove_dir_all(&path)?;
            self.write(&path)
        }
    }

    fn set_time(&mut self) -> io::Result<()> {
        let path = self.plain()?;
        let time = SystemTime::UNIX_EPOCH + Duration::new(self.rng.u64(..2_000_000_000), self.rng.u32(..1_000_000_000));
        super::tree::set_modified(&path, time);
        Ok(())
    }

    /// Here and gone again.
    fn pass_by(&mut self) -> io::Result<()> {
        let path = self.fresh()?;
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.write(&path)?;
        fs::remove_file(path)
    }

    fn unpack(&mut self) -> io::Result<()> {
        let (from, to) = (self.directory(3)?, self.directory(3)?);
        if from == self.root {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.serial += 1;
        let archive = self.outside.join(format!("{}.tar", self.serial));
        let target = to.join(format!("unpacked{}", self.rng.u8(..6)));
        fs::create_dir_all(&target)?;
        Command::new("tar").arg("cf").arg(&archive).arg("-C").arg(from).arg(".").status()?;
        Command::new("tar").arg("xf").arg(&archive).args(["--unlink-first", "-C"]).arg(target).output()?;
        fs::remove_file(archive)
    }

    fn big(&mut self) -> io::Result<()> {
        let path = self.fresh()?;
        if path.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut file = File::create(path)?;
        for _ in 0..self.rng.usize(1..20) {
            file.write_all(&vec![self.rng.u8(..); 50_000])?;
        }
        Ok(())
    }

    /// Many small files of one directory at once.
    fn burst(&mut self) -> io::Result<()> {
        let directory = self.directory(3)?;
        for _ in 0..self.rng.usize(5..40) {
            let path = directory.join(format!("f{}", self.rng.u8(..60)));
            // One of another kind in its place is no reason to leave the others out.
            let _ = self.write(&path);
        }
        Ok(())
    }
}

fn count_entries(root: &Path) -> usize {
    let mut waiting = vec![root.to_owned()];
    let mut count = 0;
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            count += 1;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            }
        }
    }
    count
}
