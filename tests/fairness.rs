//! Remotes that hang hold up neither other remotes nor, once they answer, themselves.

mod support;

#[allow(dead_code, reason = "only the bus is needed here, not the scripted engine")]
#[path = "support/bus.rs"]
mod bus;

#[allow(dead_code, reason = "each test program uses its own part of this")]
#[path = "support/ward.rs"]
mod ward;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use support::config::Confxml;
use support::rsyncd::{Daemon, Plan, USER};
use support::scene::{MODULE, Place};
use support::sshd::Sshd;
use support::tree::put;
use support::{SOON, eventually, until};
use ward::{INSTANCE, Ward};

/// What a bad remote does with a connection.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// It sends nothing.
    Silent,
    /// It sends the first line of a daemon's greeting and nothing else.
    Greeting,
    /// It sends a line of greeting ten times a second.
    Babbling,
    /// It sends a byte ten times a second.
    Dripping,
    /// It passes on what comes to the daemon at this address, and nothing back.
    OneWay(SocketAddr),
    /// It passes everything on until the client has sent this number of bytes, and then nothing.
    Stalling(SocketAddr, usize),
}

/// A server that hangs. Its threads end with the test program.
struct Hung {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Each connection's; closing them lets the threads end.
    _stops: Arc<std::sync::Mutex<Vec<Sender<()>>>>,
}

impl Hung {
    fn start(manner: Manner) -> Self {
        let host = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        let listener = TcpListener::bind((host, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let stops = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (counter, all) = (connections.clone(), stops.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                let (stop, stopped) = channel();
                all.lock().unwrap().push(stop);
                thread::spawn(move || {
                    serve(client, manner, |interval| stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout));
                });
            }
        });
        Self { address, connections, _stops: stops }
    }

    fn url(&self) -> String {
        format!("rsync://{USER}@{}/{MODULE}", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Serves one connection. `pause` returns whether to go on.
fn serve(mut client: TcpStream, manner: Manner, mut pause: impl FnMut(Duration) -> bool) {
    let tick = Duration::from_millis(100);
    let drain = |mut client: TcpStream| while let Ok(1..) = client.read(&mut [0; 4096]) {};
    match manner {
        Manner::Silent => drain(client),
        Manner::Greeting => {
            let _ = client.write_all(b"@RSYNCD: 31.0\n");
            drain(client);
        }
        Manner::Babbling => {
            let mut sent = client.write_all(b"@RSYNCD: 31.0\n");
            while sent.is_ok() && pause(tick) {
                sent = client.write_all(b"welcome\n");
            }
        }
        Manner::Dripping => while client.write_all(b"@").is_ok() && pause(tick) {},
        Manner::OneWay(daemon) => {
            let Ok(mut daemon) = TcpStream::connect(daemon) else { return };
            let _ = std::io::copy(&mut client, &mut daemon);
        }
        Manner::Stalling(daemon, bytes) => {
            let Ok(mut daemon) = TcpStream::connect(daemon) else { return };
            let (mut from, mut to) = (daemon.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let _ = std::io::copy(&mut (&mut client).take(bytes as u64), &mut daemon);
            // It reads no more: the client notices only that nothing moves.
            while pause(Duration::from_secs(1)) {}
        }
    }
}

/// A daemon with a module whose directory is `name` below `place`.
fn daemon(place: &Place, name: &str) -> Daemon {
    Plan::new(&place.path(&format!("{name}-daemon"))).module(MODULE, &place.make(name), &[]).start()
}

fn retry(ward: &Ward) {
    let mut ctl = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    let done = ctl.args(["--user", "retry", INSTANCE]).env("DBUS_SESSION_BUS_ADDRESS", &ward.bus.address).status();
    assert!(done.unwrap().success());
}

#[test]
fn hung_remotes_hold_up_no_other() {
    let place = Place::new();
    put(&place.source().join("before"), "x");
    let (healthy, behind, stopped) = (daemon(&place, "healthy"), daemon(&place, "behind"), daemon(&place, "stopped"));
    let sshd = Sshd::start(&place.path("sshd"));
    let mut copies = vec![place.path("healthy"), place.make("directory")];
    let mut destinations = vec![healthy.url(MODULE), copies[1].display().to_string()];
    if sshd.is_some() {
        copies.push(place.make("over-ssh"));
        destinations.push(format!("{}:{}", Sshd::HOST, copies[2].display()));
    }
    let manners = [
        Manner::Silent,
        Manner::Greeting,
        Manner::Babbling,
        Manner::Dripping,
        Manner::OneWay(behind.socket()),
        Manner::Stalling(behind.socket(), 400),
    ];
    let hung: Vec<Hung> = manners.into_iter().cycle().take(18).map(Hung::start).collect();
    destinations.extend(hung.iter().map(Hung::url));
    stopped.hang();
    destinations.push(stopped.url(MODULE));
    let mut launch = place.launch();
    if let Some(sshd) = &sshd {
        launch = launch.environment("PATH", &sshd.path);
    }
    let launch = launch.mirror(&place.source(), &destinations);
    let ward = Ward::start(place, launch);

    // At once, while full syncs hang, and when the hung runs have been silent for a while.
    for round in ["at start", "during full syncs", "later"] {
        let mut times: Vec<Vec<Duration>> = vec![Vec::new(); copies.len()];
        for nth in 0..15 {
            let name = format!("{round} {nth}");
            let written = Instant::now();
            ward.put(&name);
            let mut missing: Vec<usize> = (0..copies.len()).collect();
            eventually(&format!("{name:?} on every healthy remote"), SOON, || {
                missing.retain(|at| {
                    let is_missing = !copies[*at].join(&name).exists();
                    if !is_missing {
                        times[*at].push(written.elapsed());
                    }
                    is_missing
                });
                if missing.is_empty() { Ok(()) } else { Err(format!("missing on {missing:?}")) }
            });
        }
        for (copy, times) in copies.iter().zip(&mut times) {
            times.sort_unstable();
            println!("{round}: median {:?}, last {:?} ({})", times[times.len() / 2], times[14], copy.display());
        }
        ward.ask_to_resync();
    }
    let connected = hung.iter().filter(|hung| hung.connections() > 0).count();
    assert_eq!(connected, hung.len(), "each hung remote was tried");
    stopped.go_on();
}

#[test]
fn a_remote_that_does_not_answer_is_named() {
    for manner in [Manner::Silent, Manner::Babbling] {
        let (place, hung) = (Place::new(), Hung::start(manner));
        put(&place.source().join("file"), "x");
        let config =
            Confxml::new(&place.source()).address(hung.address, MODULE).timeout(2).write(&place.path("ward.xml"));
        let launch = place.launch().config(&config);
        let ward = Ward::start(place, launch);
        ward.down("NoAnswer");
        let status = ward.ask("status");
        let said = status[0]["remotes"][0]["last_error"].as_str().unwrap();
        assert!(said.contains("connected, no answer for 2 s"), "{said}");
    }
}

#[test]
fn a_retry_replaces_a_run_that_hangs() {
    let (place, hung) = (Place::new(), Hung::start(Manner::Silent));
    put(&place.source().join("file"), "x");
    let ward = Ward::mirror(place, &[hung.url()]);
    until("a connection", SOON, || hung.connections() > 0);
    let before = hung.connections();
    // A run that has just begun is left alone.
    until("another connection", SOON, || {
        retry(&ward);
        hung.connections() > before
    });
}

#[test]
fn live_changes_overtake_the_full_sync_after_an_outage() {
    let place = Place::new();
    let large: Vec<u8> = (0..8 << 20).map(|_| fastrand::u8(..)).collect();
    fs::write(place.source().join("large"), large).unwrap();
    let mut daemon = place.plan(&[]).start();
    let way = Hung::start(Manner::Stalling(daemon.socket(), 1 << 20));
    daemon.stop();
    let mut ward = Ward::mirror(place, &[way.url()]);
    until("a failed try", SOON, || ward.remotes().iter().any(|(_, error)| !error.is_empty()));
    daemon.start();
    retry(&ward);
    // The full sync hangs in the middle of the large file; a small one takes another connection.
    until("a full sync that hangs", SOON, || !daemon.serving().is_empty());
    ward.put("small");
    until("the small file", SOON, || ward.place.path("copy/small").exists());
    assert!(!ward.place.path("copy/large").exists());
    ward.keep(daemon);
}
