//! Remotes of every kind and in every mood: dead, refusing, old, slow, by ssh, by directory.

mod support;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::config::Confxml;
use support::rsyncd::{PASSWORD, Plan};
use support::scene::{MODULE, Place, Scene};
use support::tree::{assert_converged, put};
use support::{SOON, eventually, is_root, skip, until};

/// The time from a write to its arrival in each of `copies`; the median of `rounds`.
fn latency(source: &Path, copies: &[PathBuf], rounds: u32, tag: &str) -> Duration {
    let mut times = (0..rounds)
        .map(|round| {
            let name = format!("{tag}{round}");
            let start = Instant::now();
            put(&source.join(&name), "x".repeat(1000));
            until("the arrival", SOON, || copies.iter().all(|copy| copy.join(&name).exists()));
            start.elapsed()
        })
        .collect::<Vec<_>>();
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
fn a_dead_remote_holds_up_nobody_and_catches_up() {
    let place = Place::new();
    let plan = |name: &str| Plan::new(&place.path(name)).module(MODULE, &place.path(&format!("{name}/copy")), &[]);
    let (first, second) = (plan("d1").start(), plan("d2").start());
    let mut dead = plan("d3").start();
    let source = place.source();
    let agent = place.launch().mirror(&source, [first.url(MODULE), second.url(MODULE), dead.url(MODULE)]).start();
    let copies = ["d1/copy", "d2/copy"].map(|name| place.path(name));
    let all = latency(&source, &copies, 15, "all");
    assert_converged(&source, &place.path("d3/copy"));

    dead.stop();
    let without = latency(&source, &copies, 15, "without");
    // A remote that held them up would cost its whole time-out or backoff, a second at the very least.
    assert!(without < all * 5 + Duration::from_millis(100), "{all:?} with all alive, {without:?} with one dead");

    for path in ["later/file", "later/second"] {
        put(&source.join(path), "written while one was dead");
    }
    fs::remove_file(source.join("all0")).unwrap();
    for copy in &copies {
        assert_converged(&source, copy);
    }
    dead.start();
    assert_converged(&source, &place.path("d3/copy"));
    drop(agent);
}

#[test]
fn a_remote_that_is_dead_at_the_start_is_served_when_it_comes() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).stopped();
    put(&place.source().join("before"), "the start");
    let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    put(&place.source().join("after"), "the start");
    agent.wait_logged("refused");
    daemon.start();
    assert_converged(&place.source(), &place.path("copy"));
}

#[test]
fn a_wrong_password_is_named_and_mended_later() {
    let place = Place::new();
    let mut daemon = place.plan(&[]).secret("another one").start();
    let agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    put(&place.source().join("file"), "content");
    agent.wait_logged("auth failed");
    daemon.set_secret(PASSWORD);
    assert_converged(&place.source(), &place.path("copy"));
}

/// Runs a remote whose module has `fault`, waits until the agent says `words`, mends it, and expects equality.
fn named_and_mended(fault: &[&str], words: &str, disturb: impl FnOnce(&Scene)) {
    let mut scene = Scene::prepared(|source, _| put(&source.join("first/file"), "content"));
    scene.converged();
    scene.daemon.set_module(MODULE, fault);
    disturb(&scene);
    scene.agent.wait_logged(words);
    scene.daemon.set_module(MODULE, &[]);
    scene.converged();
}

#[test]
fn a_read_only_module_is_named_and_mended() {
    named_and_mended(&["read only = yes"], "read only", |scene| put(&scene.at("more"), "content"));
}

#[test]
fn a_module_that_refuses_delete_is_named_and_mended() {
    named_and_mended(&["refuse options = delete"], "refuse", |scene| {
        fs::remove_dir_all(scene.at("first")).unwrap();
    });
}

#[test]
fn a_full_house_is_named_and_mended() {
    named_and_mended(&["max connections = -1"], "max connections", |scene| put(&scene.at("more"), "content"));
}

#[test]
fn a_missing_module_is_named() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let agent = place.launch().mirror(&place.source(), [daemon.url("misspelt")]).start();
    put(&place.source().join("file"), "content");
    agent.wait_logged("unknown module");
}

/// Everything a remote is asked for, once.
fn exercise(source: &Path, copy: &Path) {
    put(&source.join("dir/one"), "1");
    put(&source.join("dir/two"), "2");
    assert_converged(source, copy);
    put(&source.join("dir/one"), "3");
    fs::rename(source.join("dir/two"), source.join("moved")).unwrap();
    assert_converged(source, copy);
    put(&source.join("tree/a/b/c/d"), "deep");
    put(&source.join("star*[x]"), "pattern");
    assert_converged(source, copy);
    fs::remove_dir_all(source.join("tree")).unwrap();
    fs::remove_file(source.join("star*[x]")).unwrap();
    fs::remove_file(source.join("moved")).unwrap();
    put(&source.join("moved/now a directory"), "swapped");
    assert_converged(source, copy);
    fs::remove_dir_all(source.join("dir")).unwrap();
    put(&source.join("dir"), "now a file");
    assert_converged(source, copy);
}

/// What a daemon of version 3.0.6 does not know. `refuse options` answers as politely as an old one does not; the
/// real thing is below.
#[test]
fn a_remote_without_delete_missing_args_is_served() {
    let place = Place::new();
    let daemon = place.plan(&["refuse options = delete-missing-args"]).start();
    put(&place.path("copy").join("superfluous/old"), "from before");
    put(&place.source().join("here"), "from before");
    let _agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    exercise(&place.source(), &place.path("copy"));
}

#[test]
fn a_remote_without_modify_window_is_served() {
    let place = Place::new();
    let daemon = place.plan(&["refuse options = modify-window"]).start();
    put(&place.path("copy").join("superfluous/old"), "from before");
    put(&place.source().join("here"), "from before");
    let _agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    exercise(&place.source(), &place.path("copy"));
}

/// `SERSYNC_TEST_RSYNC_OLD=path:path` names rsync binaries of other versions.
#[test]
fn real_old_daemons_are_served() {
    let Some(binaries) = std::env::var_os("SERSYNC_TEST_RSYNC_OLD") else { return };
    for binary in std::env::split_paths(&binaries) {
        let place = Place::new();
        let daemon = place.plan(&[]).binary(&binary).start();
        put(&place.path("copy").join("superfluous/old"), "from before");
        put(&place.source().join("here"), "from before");
        let _agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
        exercise(&place.source(), &place.path("copy"));
    }
}

#[test]
fn ipv6_is_served() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return skip("this machine has no IPv6 loopback address");
    }
    let place = Place::new();
    let daemon = place.plan(&[]).address(IpAddr::V6(Ipv6Addr::LOCALHOST)).start();
    let _agent = place.launch().mirror(&place.source(), [daemon.url(MODULE)]).start();
    exercise(&place.source(), &place.path("copy"));
}

#[test]
fn a_local_directory_is_served() {
    let place = Place::new();
    put(&place.make("copy").join("superfluous/old"), "from before");
    let _agent = place.launch().mirror(&place.source(), [place.path("copy")]).start();
    exercise(&place.source(), &place.path("copy"));
}

/// Three remotes of a config file: one port, three addresses.
#[test]
fn three_remotes_of_one_config_are_served() {
    let place = Place::new();
    let plan = |name: &str| Plan::new(&place.path(name)).module(MODULE, &place.path(&format!("{name}/copy")), &[]);
    let first = plan("d1").start();
    let others = ["d2", "d3"].map(|name| plan(name).port(first.port).start());
    let config =
        Confxml::new(&place.source()).daemon(&first, MODULE).daemon(&others[0], MODULE).daemon(&others[1], MODULE);
    let _agent = place.launch().config(&config.params("-a").write(&place.path("www.xml"))).start();
    put(&place.source().join("dir/file"), "content");
    for name in ["d1", "d2", "d3"] {
        assert_converged(&place.source(), &place.path(name).join("copy"));
    }
}

/// With `--bwlimit`, 2 GiB would take a quarter of an hour.
#[test]
fn a_huge_file_in_flight_does_not_hold_up_a_small_one() {
    let scene = Scene::configured(|_, _| {}, |config| config.params("-a --bwlimit=2000"));
    File::create(scene.at("huge")).unwrap().set_len(2 << 30).unwrap();
    until("the huge file in flight", SOON, || {
        fs::read_dir(&scene.copy).unwrap().flatten().any(|entry| {
            entry.file_name().as_encoded_bytes().starts_with(b".huge.") && entry.metadata().is_ok_and(|m| m.len() > 0)
        })
    });
    for round in 0..3 {
        put(&scene.at(format!("small{round}")), "x".repeat(1024));
        until("the small file", SOON, || scene.copy.join(format!("small{round}")).exists());
    }
    assert!(!scene.copy.join("huge").exists(), "the huge file has arrived already, so this showed nothing");
}

/// A real sshd of the test's own, and an `ssh` in front of the real one that reads the test's configuration:
/// ssh takes the home directory from the password database, so no variable could point it there.
struct Sshd {
    child: Child,
    path: std::ffi::OsString,
}

impl Sshd {
    const HOST: &str = "mirror-host";

    /// `None`, with the reason printed, where this machine has no sshd.
    fn start(directory: &Path) -> Option<Self> {
        let (sshd, ssh) = (Path::new("/usr/sbin/sshd"), Path::new("/usr/bin/ssh"));
        if !sshd.exists() || !ssh.exists() {
            skip("no ssh and sshd here: apt-get install openssh-server");
            return None;
        }
        fs::create_dir_all(directory).unwrap();
        let at = |name: &str| directory.join(name);
        for key in ["host", "login"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at(key)).status();
            assert!(made.unwrap().success());
        }
        fs::copy(at("login.pub"), at("authorized")).unwrap();
        if is_root() {
            // sshd of root's insists on this directory, which its service makes at boot.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let address = Ipv4Addr::new(127, fastrand::u8(1..255), fastrand::u8(..), fastrand::u8(1..255));
        let port = TcpListener::bind((address, 0)).unwrap().local_addr().unwrap().port();
        let shown = |name: &str| at(name).display().to_string();
        let server = format!(
            "ListenAddress {address}\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile {}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nPerSourcePenalties no\n",
            shown("host"),
            shown("authorized"),
            shown("pid"),
        );
        // Only newer servers know it; an older one refuses a word it does not know.
        fs::write(at("sshd_config"), &server).unwrap();
        let knows = Command::new(sshd).arg("-t").arg("-f").arg(at("sshd_config")).output().unwrap().status.success();
        if !knows {
            fs::write(at("sshd_config"), server.replace("PerSourcePenalties no\n", "")).unwrap();
        }
        let host_key = fs::read_to_string(at("host.pub")).unwrap();
        fs::write(at("known"), format!("{} {host_key}", Self::HOST)).unwrap();
        let client = format!(
            "Host {}\nHostName {address}\nPort {port}\nHostKeyAlias {}\nIdentityFile {}\nIdentitiesOnly yes\n\
             UserKnownHostsFile {}\nStrictHostKeyChecking yes\n",
            Self::HOST,
            Self::HOST,
            shown("login"),
            shown("known"),
        );
        fs::write(at("ssh_config"), client).unwrap();
        fs::create_dir(at("bin")).unwrap();
        let wrapper = format!("#!/bin/sh\nexec {} -F '{}' \"$@\"\n", ssh.display(), shown("ssh_config"));
        fs::write(at("bin/ssh"), wrapper).unwrap();
        fs::set_permissions(at("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        let log = File::create(at("log")).unwrap();
        let child = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        let path = std::env::join_paths(
            std::iter::once(at("bin")).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let running = Self { child, path: path.unwrap() };
        eventually("a login by ssh", SOON, || {
            let login = Command::new(at("bin/ssh")).args(["-o", "BatchMode=yes", Self::HOST, "true"]).output().unwrap();
            if login.status.success() {
                return Ok(());
            }
            Err(format!(
                "{} {}",
                String::from_utf8_lossy(&login.stderr),
                fs::read_to_string(at("log")).unwrap_or_default()
            ))
        });
        Some(running)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, killpg};
        let _ = killpg(nix::unistd::Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

#[test]
fn ssh_is_served() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let destination = format!("{}:{}", Sshd::HOST, place.make("copy").display());
    let mut agent = place.launch().environment("PATH", &sshd.path).mirror(&place.source(), [destination]).start();
    exercise(&place.source(), &place.path("copy"));
    // By now the shared connection stands, and no run logs in by itself.
    let logins = || fs::read_to_string(place.path("sshd/log")).unwrap().matches("Accepted publickey").count();
    let before = logins();
    for round in 0..5 {
        put(&place.source().join("round"), round.to_string());
        assert_converged(&place.source(), &place.path("copy"));
    }
    assert_eq!(logins(), before, "a run logged in by itself");
    // What ran for it, the shared connection among them, ends with it.
    let children = agent.children();
    agent.terminate();
    until("the end of its ssh processes", SOON, || children.iter().all(|child| !child.lives()));
}

#[test]
fn ssh_of_a_config_file_is_served() {
    let place = Place::new();
    let Some(sshd) = Sshd::start(&place.path("sshd")) else { return };
    let config = Confxml::new(&place.source()).params("-a").ssh(Sshd::HOST, &place.make("copy"));
    let file = config.write(&place.path("www.xml"));
    let _agent = place.launch().environment("PATH", &sshd.path).config(&file).start();
    exercise(&place.source(), &place.path("copy"));
}
