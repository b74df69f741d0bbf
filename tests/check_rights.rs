//! What `sersyncctl check` leaves behind on a remote, and whose rights it has: real remotes, real kills, a real user.

mod support;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, chown};
use serde_json::Value;
use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};
use support::config::Confxml;
use support::rsyncd::Daemon;
use support::scene::{MODULE, Place};
use support::sshd::Sshd;
use support::{SOON, is_root, skip, until};

/// A user and a group that no package has.
const SERVICE: u32 = 64_321;

/// Mode, owner, group and modification time.
type Attributes = (u32, u32, u32, (i64, i64));

fn attributes(directory: &Path) -> Attributes {
    let found = fs::metadata(directory).unwrap();
    (found.mode(), found.uid(), found.gid(), (found.mtime(), found.mtime_nsec()))
}

fn entries(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Gives it the time of a directory that was long untouched: within one second rsync may take two times for equal.
fn leave_untouched(directory: &Path) {
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_500_000_000, 123_456_789);
    File::open(directory).unwrap().set_times(FileTimes::new().set_modified(then)).unwrap();
}

/// The root of a remote as a web server has it, long untouched, with a page in it.
fn web_root(directory: &Path) -> Attributes {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("page"), "page").unwrap();
    if is_root() {
        chown(directory, Some(33.into()), Some(33.into())).unwrap();
    }
    fs::set_permissions(directory, Permissions::from_mode(0o2775)).unwrap();
    leave_untouched(directory);
    attributes(directory)
}

fn checking(file: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
    // The caller's own instance: with the caller's own rights.
    command.args(["--user", "--json", "check"]).arg(file).env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere");
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

/// The findings of the only config.
fn findings(output: &Output) -> Vec<(String, String)> {
    let whole = text(output);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {whole}"));
    let word = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let found = json[0]["findings"].as_array().unwrap().iter();
    found.map(|one| (word(one, "level"), format!("{} → {}", word(one, "text"), word(one, "next")))).collect()
}

fn has(output: &Output, level: &str, text: &str) {
    let found = findings(output);
    assert!(found.iter().any(|(known, said)| known == level && said.contains(text)), "no {level} {text:?}: {found:#?}");
}

fn daemon_config(place: &Place, daemon: &Daemon) -> PathBuf {
    Confxml::new(&place.source()).params("-a").daemon(daemon, MODULE).write(&place.path("www.xml"))
}

fn local_config(place: &Place, directory: &Path, rsync: &str) -> PathBuf {
    let file = place.path("local.xml");
    let (root, directory) = (place.source().display().to_string(), directory.display());
    let text = format!(
        "<head><sersync><localpath watch=\"{root}\"><remote directory=\"{directory}\"/></localpath>{rsync}</sersync></head>"
    );
    fs::write(&file, text).unwrap();
    file
}

/// A remote of each kind with the same root, checked as the config says.
fn each_remote(params: &str) {
    let place = Place::new();
    let root = place.path("copy");
    let before = web_root(&root);
    let daemon = place.plan(&[]).start();
    let sshd = Sshd::start(&place.path("sshd"));
    let words = format!("<rsync><commonParams params=\"{params}\"/></rsync>");
    let of_daemon =
        Confxml::new(&place.source()).params(params).daemon(&daemon, MODULE).write(&place.path("daemon.xml"));
    let of_ssh = Confxml::new(&place.source()).params(params).ssh(Sshd::HOST, &root).write(&place.path("ssh.xml"));
    let mut checks = vec![checking(&of_daemon), checking(&local_config(&place, &root, &words))];
    if let Some(sshd) = &sshd {
        let mut check = checking(&of_ssh);
        check.env("PATH", &sshd.path);
        checks.push(check);
    }
    for mut check in checks {
        let output = check.output().unwrap();
        has(&output, "ok", "takes a file, and lets it be deleted");
        assert!(!text(&output).contains("could not restore"), "{}", text(&output));
        assert_eq!((attributes(&root), entries(&root)), (before, vec!["page".to_owned()]), "{check:?}");
    }
}

#[test]
fn a_check_leaves_the_root_of_a_remote_as_it_was() {
    each_remote("-a");
}

#[test]
fn the_default_params_leave_the_root_of_a_remote_as_it_was() {
    each_remote("-artuz");
}

#[test]
fn params_that_set_modes_leave_the_root_of_a_remote_as_it_was() {
    each_remote("-a --chmod=D700,F600");
}

#[test]
fn a_daemon_that_deletes_by_pattern_alone_keeps_its_root_too() {
    let place = Place::new();
    let before = web_root(&place.path("copy"));
    let daemon = place.plan(&["refuse options = delete-missing-args"]).start();
    let output = checking(&daemon_config(&place, &daemon)).output().unwrap();
    has(&output, "note", "does not know --delete-missing-args");
    assert_eq!((attributes(&place.path("copy")), entries(&place.path("copy"))), (before, vec!["page".to_owned()]));
}

/// Any run that names the root would change its mode there, also one that restores its time.
#[test]
fn a_daemon_that_changes_incoming_modes_does_not_change_that_of_the_root() {
    let place = Place::new();
    let before = web_root(&place.path("copy"));
    let daemon = place.plan(&["incoming chmod = Dgo-rwx"]).start();
    let output = checking(&daemon_config(&place, &daemon)).output().unwrap();
    has(&output, "note", "the check changed the modification time");
    let after = attributes(&place.path("copy"));
    assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2));
    assert_eq!(entries(&place.path("copy")), ["page"]);
}

#[test]
fn a_directory_that_does_not_exist_is_not_made() {
    let place = Place::new();
    let output = checking(&local_config(&place, &place.path("none"), "")).output().unwrap();
    has(&output, "warning", "does not exist yet");
    assert!(!place.path("none").exists());
}

/// A check that was started at the head of a process group of its own.
fn start(file: &Path) -> Child {
    checking(file).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn().unwrap()
}

fn id(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// How long a check takes here.
fn duration(file: &Path) -> Duration {
    let began = Instant::now();
    assert!(start(file).wait().unwrap().success());
    began.elapsed()
}

/// Watches mode and owner until `moment` has passed since the start of `child`.
fn watch_until(root: &Path, before: Attributes, child: &mut Child, moment: Duration) {
    let began = Instant::now();
    while began.elapsed() < moment && child.try_wait().unwrap().is_none() {
        let now = attributes(root);
        assert_eq!((now.0, now.1, now.2), (before.0, before.1, before.2), "after {:?}", began.elapsed());
    }
}

#[test]
fn a_check_that_is_killed_restores_the_root() {
    let place = Place::new();
    let root = place.path("copy");
    let before = web_root(&root);
    let daemon = place.plan(&[]).start();
    let file = daemon_config(&place, &daemon);
    let whole = duration(&file);
    for _ in 0..5 {
        let mut child = start(&file);
        watch_until(&root, before, &mut child, whole.mul_f64(fastrand::f64()));
        // It may have ended already.
        let _ = kill(id(&child), Signal::SIGKILL);
        child.wait().unwrap();
        until("what the killed check has changed is restored", SOON, || {
            let now = attributes(&root);
            assert_eq!((now.0, now.1, now.2), (before.0, before.1, before.2));
            now == before && entries(&root) == ["page"]
        });
    }
}

#[test]
fn the_next_check_deletes_files_of_one_that_was_killed_with_all_its_processes() {
    let place = Place::new();
    let root = place.path("copy");
    let before = web_root(&root);
    let daemon = place.plan(&[]).start();
    let file = daemon_config(&place, &daemon);
    let whole = duration(&file);
    for _ in 0..5 {
        let mut child = start(&file);
        watch_until(&root, before, &mut child, whole.mul_f64(fastrand::f64()));
        // Its worker is in its group; the kernel ends their rsyncs.
        let _ = killpg(id(&child), Signal::SIGKILL);
        child.wait().unwrap();
        until("the daemon serves nobody", SOON, || daemon.serving().is_empty());
        let now = attributes(&root);
        assert_eq!((now.0, now.1, now.2), (before.0, before.1, before.2));
    }
    fs::write(root.join(".sersync-check-0123456789abcdef"), "of an earlier one").unwrap();
    fs::write(root.join(".sersync-check-notes"), "somebody's own").unwrap();
    let output = checking(&file).output().unwrap();
    assert!(findings(&output).iter().any(|(level, said)| level == "note" && said.starts_with("deleted ")));
    assert_eq!(entries(&root), [".sersync-check-notes", "page"]);
}

#[test]
fn a_check_that_is_told_to_stop_restores_the_root_first() {
    let place = Place::new();
    let root = place.path("copy");
    let before = web_root(&root);
    let daemon = place.plan(&[]).start();
    let file = daemon_config(&place, &daemon);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut child = start(&file);
        until("the probe's file", SOON, || {
            entries(&root).len() > 1 || child.try_wait().unwrap().is_some_and(|end| panic!("it ended: {end}"))
        });
        // As a terminal does it: to all of the group.
        killpg(id(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().into_raw() >> 8, 128 + signal as i32);
        assert_eq!((attributes(&root), entries(&root)), (before, vec!["page".to_owned()]), "{signal}");
    }
}

/// `sersyncctl check` of the system's instances, where the password database has, or lacks, the service's user.
fn as_root(place: &Place, has_user: bool, arguments: &[&str]) -> Command {
    let known = fs::read_to_string("/etc/passwd").unwrap();
    let mut users: String =
        known.lines().filter(|line| !line.starts_with("sersync:")).map(|l| format!("{l}\n")).collect();
    if has_user {
        users.push_str(&format!("sersync:x:{SERVICE}:{SERVICE}::/:/usr/sbin/nologin\n"));
    }
    fs::write(place.path("passwd"), users).unwrap();
    // A mount namespace of its own: the machine's file stays as it is.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c"]);
    command.arg("mount --bind \"$1\" /etc/passwd && shift && exec \"$@\"").arg("sh").arg(place.path("passwd"));
    command.arg(env!("CARGO_BIN_EXE_sersyncctl")).args(["--json", "check"]).args(arguments);
    command
}

fn root_or_skip() -> bool {
    if !is_root() {
        skip("only root can check as another user");
    }
    is_root()
}

#[test]
fn a_check_by_root_has_the_rights_of_the_service() {
    if !root_or_skip() {
        return;
    }
    let place = Place::new();
    let target = place.make("target");
    let file = local_config(&place, &target, "").display().to_string();
    // The service can read files that only root can read; it cannot write files that only root can write.
    fs::set_permissions(place.source(), Permissions::from_mode(0o700)).unwrap();
    let output = as_root(&place, true, &[&file]).output().unwrap();
    has(&output, "error", "user sersync may not write to it");
    has(&output, "error", "Permission denied");
    assert!(!findings(&output).iter().any(|(_, said)| said.contains("may not be read")), "{}", text(&output));
    assert_eq!((output.status.code(), entries(&target).len()), (Some(2), 0));

    chown(&target, Some(SERVICE.into()), Some(SERVICE.into())).unwrap();
    leave_untouched(&target);
    let before = attributes(&target);
    let output = as_root(&place, true, &[&file]).output().unwrap();
    has(&output, "ok", "takes a file, and lets it be deleted");
    assert_eq!((output.status.code(), attributes(&target)), (Some(0), before), "{}", text(&output));
}

#[test]
fn what_a_config_has_run_or_written_is_not_done_by_root() {
    if !root_or_skip() {
        return;
    }
    let place = Place::new();
    let open = place.make("open");
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let (log, who) = (open.join("log"), open.join("who"));
    let rsync = format!("<rsync><commonParams params=\"-a --log-file={}\"/></rsync>", log.display());
    let file = local_config(&place, &open, &rsync).display().to_string();
    as_root(&place, true, &[&file]).output().unwrap();
    assert_eq!(fs::metadata(&log).unwrap().uid(), SERVICE);

    let ssh = place.path("ssh.xml");
    let source = place.source().display().to_string();
    let proxy = place.path("proxy");
    // ssh ends it when its output is closed, so the file is complete before that.
    fs::write(&proxy, "cat /proc/self/status >\"$1.new\" && mv \"$1.new\" \"$1\"").unwrap();
    let options = format!("-o &quot;ProxyCommand=sh {} {}&quot;", proxy.display(), who.display());
    let text = format!(
        "<head><sersync><localpath watch=\"{source}\"><remote ip=\"192.0.2.1\" name=\"/copy\"/></localpath>\
         <rsync><ssh start=\"true\" options=\"{options}\"/></rsync></sersync></head>"
    );
    fs::write(&ssh, text).unwrap();
    let output = as_root(&place, true, &[&ssh.display().to_string()]).output().unwrap();
    let status = fs::read_to_string(&who).unwrap_or_else(|error| panic!("{error}: {}", self::text(&output)));
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let numbers = |name: &str| line(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!((numbers("Uid:"), numbers("Gid:")), (vec![SERVICE.to_string(); 4], vec![SERVICE.to_string(); 4]));
    assert_eq!(numbers("Groups:"), [SERVICE.to_string()]);
    let read_search = 1 << 2;
    for set in ["CapEff:", "CapPrm:", "CapAmb:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&line(set), 16), Ok(read_search), "{set}");
    }
    assert_eq!(line("NoNewPrivs:"), "1");
}

#[test]
fn without_the_services_user_root_does_it_and_says_so() {
    if !root_or_skip() {
        return;
    }
    let place = Place::new();
    let file = local_config(&place, &place.make("target"), "").display().to_string();
    let output = as_root(&place, false, &[&file]).output().unwrap();
    has(&output, "warning", "sersync does not exist on this machine: the check ran as root");
    has(&output, "ok", "takes a file, and lets it be deleted");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn an_ordinary_user_is_told_to_check_as_root() {
    let mut command = match is_root() {
        true => {
            let mut other = Command::new("setpriv");
            // The capability is for the way to the program alone.
            let words =
                ["--reuid=65534", "--clear-groups", "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"];
            other.args(words).arg(env!("CARGO_BIN_EXE_sersyncctl"));
            other
        }
        false => Command::new(env!("CARGO_BIN_EXE_sersyncctl")),
    };
    let output = command.args(["check", "no-such-instance"]).env("LC_ALL", "C").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).ends_with("\nnext: sudo sersyncctl check no-such-instance\n"), "{}", text(&output));
}

#[test]
fn a_pipe_or_a_device_is_no_config_and_blocks_nothing() {
    let place = Place::new();
    let pipe = place.path("www.xml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for file in [pipe.as_path(), Path::new("/dev/tty"), Path::new("/dev/zero")] {
        let output = checking(file).output().unwrap();
        has(&output, "error", "cannot be read");
        let mut agent = Command::new(env!("CARGO_BIN_EXE_sersync"));
        let output = agent.arg("-o").arg(file).stdin(Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", text(&output));
        let mut import = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
        let output = import.args(["import", "sersync", "--dry-run"]).arg(file).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    }
}

#[test]
fn a_password_that_others_can_read_is_a_warning() {
    let place = Place::new();
    let plugin = "</sersync><plugin name=\"refreshCDN\"><localpath watch=\"/x\"><cdninfo domainname=\"cdn.example.net\" \
                  port=\"80\" username=\"u\" passwd=\"s3cret\"/></localpath></plugin><sersync>";
    let file = local_config(&place, &place.make("target"), plugin);
    let warns = |mode: u32| {
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let output = checking(&file).arg("--no-probe").output().unwrap();
        assert!(!text(&output).contains("chmod") && !text(&output).contains("s3cret"), "{}", text(&output));
        findings(&output).iter().any(|(level, said)| level == "warning" && said.contains("contains a password"))
    };
    assert_eq!([0o644, 0o604, 0o640, 0o600].map(warns), [true, true, false, false]);
}

#[test]
fn no_file_of_another_program_is_to_be_changed() {
    let place = Place::new();
    let daemon = place.plan(&[]).start();
    let password = place.path("somebody's");
    fs::write(&password, "s3cret\n").unwrap();
    fs::set_permissions(&password, Permissions::from_mode(0o644)).unwrap();
    let config = Confxml::new(&place.source()).daemon(&daemon, MODULE).password_file(&password);
    let output = checking(&config.write(&place.path("www.xml"))).output().unwrap();
    has(&output, "error", "others than its owner can use it");
    assert!(!text(&output).contains("chmod"), "{}", text(&output));
}
