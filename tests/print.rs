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

/// Runs `sersync --print` with words of inotifywait's, does something once it watches, and returns how it ended.
fn once(words: &[&str], act: impl FnOnce(&Place)) -> (i32, String) {
    let place = Place::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sersync"))
        .current_dir(place.path(""))
        .arg("--print")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(place.path("stderr")).unwrap())
        .spawn()
        .unwrap();
    let said = || fs::read_to_string(place.path("stderr")).unwrap();
    until("the watch", SOON, || said().contains("watching") || child.try_wait().unwrap().is_some());
    act(&place);
    let status = eventually("its end", SOON, || child.try_wait().unwrap().ok_or("it still runs"));
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    (status.code().unwrap(), printed)
}

#[test]
fn without_minus_m_it_ends_after_one_event_as_inotifywait_does() {
    let (code, printed) = once(&["-rq", "-e", "create", "source"], |place| {
        fs::write(place.source().join("a"), "x").unwrap();
        fs::write(place.source().join("b"), "x").unwrap();
    });
    assert_eq!((code, printed.as_str()), (0, "source/ CREATE a\n"));
    let (code, printed) = once(&["-t", "1", "-e", "delete", "source"], |place| {
        fs::write(place.source().join("a"), "x").unwrap();
    });
    assert_eq!((code, printed.as_str()), (2, ""), "the time is over");
    let (code, _) = once(&["-rq", "nowhere"], |_| {});
    assert_ne!(code, 0);
}

#[test]
fn an_expression_is_searched_for_as_inotifywait_does() {
    let printer = Printer::start(&["-mrqe", "create", "--exclude", r"\.git", "--excludei", r"\.tmp$"]);
    fs::create_dir(printer.at(".git")).unwrap();
    fs::write(printer.at(".git/config"), "x").unwrap();
    fs::write(printer.at("a.TMP"), "x").unwrap();
    fs::write(printer.at("last"), "x").unwrap();
    printer.awaits("source/ CREATE last\n");
    assert_eq!(lossy(&printer.printed.lock().unwrap()), "source/ CREATE last\n");

    let printer = Printer::start(&["-mrq", "-e", "create", "--include", "html$", "--includei", "js$"]);
    for name in ["a.html", "a.HTML", "b.JS", "c.txt"] {
        fs::write(printer.at(name), "x").unwrap();
    }
    fs::write(printer.at("last.html"), "x").unwrap();
    printer.awaits("last.html\n");
    let printed = lossy(&printer.printed.lock().unwrap());
    assert_eq!(printed, "source/ CREATE a.html\nsource/ CREATE b.JS\nsource/ CREATE last.html\n");
}

#[test]
fn values_are_separated_by_commas_and_one_file_is_watched_by_itself() {
    let printer = Printer::start(&["-m", "-c", "-e", "create,close_write"]);
    fs::write(printer.at("a,\"b"), "x").unwrap();
    printer.awaits("source/,CREATE,\"a,\"\"b\"\nsource/,\"CLOSE_WRITE,CLOSE\",\"a,\"\"b\"\n");

    let place = Place::new();
    let (file, log) = (place.source().join("file"), place.path("log"));
    fs::write(&file, "x").unwrap();
    let started = Command::new(env!("CARGO_BIN_EXE_sersync"))
        .args(["--print", "-d", "-e", "close_write", "-o"])
        .args([&log, &file])
        .output()
        .unwrap();
    assert!(started.status.success(), "{}", lossy(&started.stderr));
    let mine = || support::processes::named(place.path("").to_str().unwrap());
    let shown = file.display().to_string();
    // It runs in the background, and nothing says when it watches.
    eventually("an event in the file", SOON, || {
        fs::write(place.source().join("other"), "x").unwrap();
        fs::write(&file, "y").unwrap();
        let printed = fs::read_to_string(&log).unwrap_or_default();
        if printed.is_empty() { Err("it is empty") } else { Ok(()) }
    });
    let printed = fs::read_to_string(&log).unwrap();
    let pid = mine().first().unwrap().pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(printed.lines().all(|line| line == format!("{shown} CLOSE_WRITE,CLOSE ")), "{printed}");
    until("its end", SOON, || mine().is_empty());
}
