//! `--print`: events as inotifywait(1) prints them, from the real binary.

mod support;

use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use support::scene::Place;
use support::tree::name;
use support::{SOON, eventually, until};

/// A running printer.
struct Printer {
    child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    place: Place,
}

impl Printer {
    fn start(options: &[&str]) -> Self {
        let place = Place::new();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sersync"))
            .current_dir(place.path(""))
            .args(["--watch", "source", "--print"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(place.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (mut out, kept) = (child.stdout.take().unwrap(), Arc::clone(&printed));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                kept.lock().unwrap().extend(&buffer[..length]);
            }
        });
        let printer = Self { child, printed, place };
        until("the watch", SOON, || fs::read_to_string(printer.place.path("stderr")).unwrap().contains("watching"));
        printer
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.place.source().join(path)
    }

    /// Waits until this was printed.
    fn awaits(&self, text: impl AsRef<[u8]>) {
        let wanted = text.as_ref();
        eventually("an event", SOON, || {
            let printed = self.printed.lock().unwrap();
            match printed.windows(wanted.len()).any(|part| part == wanted) {
                true => Ok(()),
                false => Err(format!("{:?} is not in {:?}", lossy(wanted), lossy(&printed))),
            }
        });
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Drop for Printer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_are_printed_as_inotifywait_prints_them() {
    let printer = Printer::start(&[]);
    fs::write(printer.at("file"), "x").unwrap();
    printer.awaits("source/ CREATE file\nsource/ CLOSE_WRITE,CLOSE file\n");
    fs::rename(printer.at("file"), printer.at("moved")).unwrap();
    printer.awaits("source/ MOVED_FROM file\nsource/ MOVED_TO moved\n");
    fs::remove_file(printer.at("moved")).unwrap();
    printer.awaits("source/ DELETE moved\n");
}

#[test]
fn what_is_made_in_a_new_directory_before_it_is_watched_is_printed() {
    let printer = Printer::start(&["--format", "%e %w%f"]);
    for round in 0..30 {
        fs::create_dir_all(printer.at(&format!("{round}/a/b"))).unwrap();
        fs::write(printer.at(&format!("{round}/a/b/file")), "x").unwrap();
    }
    for round in 0..30 {
        printer.awaits(format!("CREATE,ISDIR source/{round}\n"));
        printer.awaits(format!("CREATE,ISDIR source/{round}/a/b\n"));
        printer.awaits(format!("CLOSE_WRITE,CLOSE source/{round}/a/b/file\n"));
    }
}

#[test]
fn odd_names_come_through_and_only_what_was_asked_for() {
    let printer = Printer::start(&["-0", "-e", "delete,close_write", "--format", "%w%f %e", "--exclude", ".*\\.log"]);
    let odd = name(b"new\nline \xff");
    fs::write(printer.place.source().join(&odd), "x").unwrap();
    fs::write(printer.at("left.log"), "x").unwrap();
    fs::remove_file(printer.place.source().join(&odd)).unwrap();
    let line = |event: &str| [b"source/", &odd.clone().into_vec()[..], b" ", event.as_bytes(), b"\0"].concat();
    printer.awaits([line("CLOSE_WRITE,CLOSE"), line("DELETE")].concat());
    assert!(!lossy(&printer.printed.lock().unwrap()).contains("left.log"));
}

#[test]
fn it_ends_in_peace_when_nobody_reads() {
    let place = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sersync"))
        .args(["--watch".as_ref(), place.source().as_os_str(), "--print".as_ref()])
        .stdout(Stdio::piped())
        .stderr(fs::File::create(place.path("stderr")).unwrap())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut number = 0;
    let status = eventually("its end", SOON, || {
        number += 1;
        fs::write(place.source().join(number.to_string()), "x").unwrap();
        child.try_wait().unwrap().ok_or("it still runs")
    });
    assert!(status.success(), "{status}");
    assert!(!fs::read_to_string(place.path("stderr")).unwrap().contains("panicked"));
}

#[test]
fn a_wrong_option_is_explained() {
    let place = Place::new();
    let refused = |options: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sersync"))
            .args(["--watch".as_ref(), place.source().as_os_str(), "--print".as_ref()])
            .args(options)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--format", "%q"]).contains("%w"));
    assert!(refused(&["-e", "access"]).contains("close_write"));
    assert!(refused(&["--exclude", "*.log"]).contains(".*"));
}
