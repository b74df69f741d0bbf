//! The unit in a booted system: what its sandbox lets through and what not, what systemd hands over and waits for, when
//! it starts an instance again.

mod support;

use nix::unistd::{Gid, Uid, chown};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use support::machine::{Machine, await_property, shared};
use support::rsyncd::{Daemon, PASSWORD, Plan, USER};
use support::scene::MODULE;
use support::sshd::Sshd;
use support::tree::{assert_converged, put};
use support::{SOON, eventually, until};
use tempfile::TempDir;

/// Owners of files that are nobody's here.
const STRANGER: u32 = 54_321;

/// Only this user may read or enter it.
fn close_to_all_but(owner: u32, path: &Path, mode: u32) {
    chown(path, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner))).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A config: one watched directory, its remotes, and what else `<sersync>` and `<head>` hold.
fn config(watch: &str, remotes: &str, sersync: &str, head: &str) -> String {
    let switches = ["delete", "createFolder", "closeWrite", "moveFrom", "moveTo", "attrib"];
    let inotify: String = switches.map(|switch| format!("<{switch} start=\"true\"/>")).concat();
    format!(
        "<head version=\"2.5\"><inotify>{inotify}</inotify>{head}<sersync>{sersync}\
         <localpath watch=\"{watch}\">{remotes}</localpath></sersync></head>"
    )
}

/// The elements that reach `daemon` with the password that `source`, an attribute, gives.
fn to_daemon(daemon: &Daemon, source: &str) -> (String, String) {
    let remote = format!("<remote ip=\"{}\" name=\"{MODULE}\"/>", daemon.address);
    let rsync = format!(
        "<rsync><commonParams params=\"-a\"/><auth start=\"true\" users=\"{USER}\" {source}/>\
         <userDefinedPort start=\"true\" port=\"{}\"/></rsync>",
        daemon.port
    );
    (remote, rsync)
}

/// A machine with everything installed.
fn machine(place: &TempDir) -> Option<Machine> {
    let machine = Machine::boot(place.path())?;
    machine.install();
    Some(machine)
}

fn configure(machine: &Machine, instance: &str, text: &str) {
    machine.put(&format!("/etc/sersync/{instance}.xml"), text.as_bytes(), 0o600);
    machine.run(&["systemctl", "daemon-reload"]);
}

/// The lines of /proc/PID/status of a unit's main process.
fn status_of(machine: &Machine, unit: &str) -> String {
    let pid = machine.property(unit, "MainPID");
    machine.run(&["cat", &format!("/proc/{pid}/status")])
}

/// What systemd-analyze(1) holds against the unit.
fn open_points(machine: &Machine) -> BTreeSet<String> {
    let all = machine.run(&["systemd-analyze", "security", "--no-pager", "--json=short", "sersync@www"]);
    let all: serde_json::Value = serde_json::from_str(&all).unwrap();
    let is_open = |point: &&serde_json::Value| point["exposure"].as_str().is_some_and(|figure| figure != "0.0");
    all.as_array().unwrap().iter().filter(is_open).map(|point| point["name"].as_str().unwrap().to_owned()).collect()
}

/// What stands between backquotes in the first column of the table of open points.
fn explained_points() -> BTreeSet<String> {
    let page = include_str!("../docs/systemd.md");
    let table = page.split("| open point | why |").nth(1).unwrap().split("\n\n").next().unwrap();
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(|name| name.replace("\\|", "|")).collect()
}

#[test]
fn an_instance_reads_everything_changes_nothing_and_is_never_given_up() {
    let place = shared();
    let [source, copy] = ["source", "copy"].map(|name| place.path().join(name));
    put(&source.join("private/of-a-stranger"), "theirs");
    put(&source.join("of-root"), "root's");
    close_to_all_but(0, &source.join("of-root"), 0o600);
    close_to_all_but(STRANGER, &source.join("private/of-a-stranger"), 0o600);
    close_to_all_but(STRANGER, &source.join("private"), 0o700);
    let Some(machine) = machine(&place) else { return };

    // What rsync may not choose here.
    let expected = nix::libc::SCHED_BATCH.to_string();
    assert_eq!(machine.property("sersync@www", "CPUSchedulingPolicy"), expected);

    // The figure, and what it stands for.
    machine.run(&["systemd-analyze", "security", "--no-pager", "--threshold=15", "sersync@www"]);
    assert_eq!(open_points(&machine), explained_points(), "docs/systemd.md explains each open point, and no other");
    let units = ["sersync@www.service", "sersync-resync@www.timer", "sersync.target"];
    machine.run(&[["systemctl", "preset"].as_slice(), &units].concat());
    for unit in units {
        let enabled = machine.output(&["systemctl", "is-enabled", unit]);
        assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "disabled", "{unit}");
    }
    // The kernel's limits are read-only in a container: no value can be set, but each line is understood.
    machine.run(&["/usr/lib/systemd/systemd-sysctl", "60-sersync.conf"]);
    // The manual pages come with a package.
    machine.run(&[["systemd-analyze", "verify", "--man=no"].as_slice(), &units].concat());

    // A root's instance before this one left its state behind.
    let state = machine.path("/var/lib/sersync/www");
    put(&state.join("journal"), "");
    let daemon = Plan::new(&place.path().join("rsyncd")).module(MODULE, &copy, &[]).start();
    let (remote, rsync) = to_daemon(&daemon, "passwordfile=\"/etc/sersync/www.password\"");
    machine.put("/etc/sersync/www.password", PASSWORD.as_bytes(), 0o600);
    let watch = source.to_str().unwrap();
    let good = config(watch, &remote, &format!("{rsync}<failLog path=\"/var/log/sersync/www.sh\"/>"), "");
    configure(&machine, "www", &good);
    machine.run(&["systemctl", "enable", "--now", "sersync@www"]);
    assert_converged(&source, &copy);
    let user: u32 = machine.run(&["id", "-u", "sersync"]).trim().parse().unwrap();
    for path in [state.clone(), state.join("journal")] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), user, "{}", path.display());
    }
    let status = status_of(&machine, "sersync@www");
    for line in [
        &format!("Uid:\t{user}\t{user}\t{user}\t{user}"),
        "CapEff:\t0000000000000004",
        "CapBnd:\t0000000000000004",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "no {line:?} in {status}");
    }

    assert_eq!(machine.tells("www", "Confinement"), "s \"landlock\"", "{}", machine.journal());

    // The instance has mounts of its own, and sees all the same what is mounted and unmounted later.
    let limits = ["PrivateMounts", "MemoryHigh", "MemoryMax", "TasksMax"];
    let limits = limits.map(|limit| machine.property("sersync@www", limit));
    assert_eq!(limits, ["yes", "2147483648", "3221225472", "512"]);
    let pid = machine.property("sersync@www", "MainPID");
    let sees = || machine.run(&["cat", &format!("/proc/{pid}/mountinfo")]).contains(" /srv/late ");
    machine.run(&["mkdir", "-p", "/srv/late"]);
    assert!(!sees());
    machine.run(&["mount", "-t", "tmpfs", "none", "/srv/late"]);
    assert!(sees(), "a mount does not reach the instance");
    machine.run(&["umount", "/srv/late"]);
    assert!(!sees(), "the instance keeps a mount");

    // Restarted and reloaded, it takes up where it was.
    put(&source.join("later"), "later");
    assert_converged(&source, &copy);
    machine.run(&["systemctl", "restart", "sersync@www"]);
    assert_eq!(machine.tells("www", "StartedFrom"), "s \"resumed\"", "{}", machine.journal());
    machine.run(&["systemctl", "reload", "sersync@www"]);
    machine.put("/etc/sersync/www.xml", good.replace("</head>", "").as_bytes(), 0o600);
    assert!(!machine.output(&["systemctl", "reload", "sersync@www"]).status.success());
    put(&source.join("after a bad reload"), "still here");
    assert_converged(&source, &copy);

    // The timer's full sync, by a unit that has no rights at all but to ask for it.
    machine.run(&["systemctl", "start", "sersync-resync@www"]);

    // A failed path is reported where the sandbox lets a report be written.
    daemon_refuses(&machine, daemon, &source);

    // A wrong config is not tried again. A crash is, however often: ten starts in a few seconds are more than systemd's
    // own limit of five.
    machine.run(&["systemctl", "stop", "sersync@www"]);
    assert!(!machine.output(&["systemctl", "start", "sersync@www"]).status.success());
    assert_eq!(machine.property("sersync@www", "ExecMainStatus"), "78");
    assert_eq!(machine.property("sersync@www", "ActiveState"), "failed");
    assert_eq!(machine.property("sersync@www", "NRestarts"), "0");
    configure(&machine, "www", &good);
    for _ in 0..10 {
        machine.run(&["systemctl", "restart", "sersync@www"]);
    }
    machine.put("/etc/systemd/system/sersync@www.service.d/soon.conf", b"[Service]\nRestartSec=100ms\n", 0o644);
    machine.run(&["systemctl", "daemon-reload"]);
    for crash in 1..=8 {
        machine.run(&["systemctl", "kill", "--kill-who=main", "-s", "KILL", "sersync@www"]);
        await_property(&machine, "sersync@www", "NRestarts", |restarts| restarts == crash.to_string());
        await_property(&machine, "sersync@www", "ActiveState", |state| state == "active");
    }
    // With the target they stop and, those that are enabled, start.
    machine.run(&["systemctl", "start", "sersync.target"]);
    machine.run(&["systemctl", "stop", "sersync.target"]);
    await_property(&machine, "sersync@www", "ActiveState", |state| state == "inactive");
    machine.run(&["systemctl", "start", "sersync.target"]);
    await_property(&machine, "sersync@www", "ActiveState", |state| state == "active");
}

/// Ends the daemon, and finds the report of what then fails.
fn daemon_refuses(machine: &Machine, daemon: Daemon, source: &Path) {
    drop(daemon);
    put(&source.join("nobody takes it"), "");
    let report = machine.path("/var/log/sersync/www.sh");
    until("a report in /var/log/sersync", SOON, || {
        fs::read_to_string(&report).is_ok_and(|text| text.contains("nobody takes it"))
    });
}

/// What a check by root, outside of the unit, says.
fn check(machine: &Machine, instance: &str) -> String {
    let output = machine.output(&["sersyncctl", "check", instance]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!said.contains(PASSWORD), "{said}");
    assert!(output.status.code().is_some_and(|code| code < 2), "{said}");
    said
}

#[test]
fn passwords_and_keys_come_from_systemd() {
    let place = shared();
    let [source, copy, by_ssh] = ["source", "copy", "by-ssh"].map(|name| place.path().join(name));
    fs::create_dir(&by_ssh).unwrap();
    put(&source.join("file"), "content");
    let Some(sshd) = Sshd::start(&place.path().join("sshd")) else { return };
    let Some(machine) = machine(&place) else { return };
    let daemon = Plan::new(&place.path().join("rsyncd")).module(MODULE, &copy, &[]).start();
    let (remote, rsync) = to_daemon(&daemon, "credential=\"sersync.www.password\"");
    let watch = source.to_str().unwrap();
    configure(&machine, "www", &config(watch, &remote, &rsync, ""));

    // There is none: said, and with what to do.
    assert!(!machine.output(&["systemctl", "start", "sersync@www"]).status.success());
    let journal = machine.journal();
    assert!(journal.contains("credential \"sersync.www.password\""), "{journal}");
    assert!(journal.contains("/etc/credstore/sersync.www.password"), "{journal}");
    let said = check(&machine, "www");
    assert!(said.contains("credential sersync.www.password") && said.contains("not probed"), "{said}");

    // A file in the store is all it takes.
    machine.put("/etc/credstore/sersync.www.password", PASSWORD.as_bytes(), 0o600);
    machine.run(&["systemctl", "start", "sersync@www"]);
    assert_converged(&source, &copy);
    assert!(check(&machine, "www").contains("an rsync daemon answers"), "no remote was probed");
    assert_eq!(left_by_checks(&machine), Vec::<PathBuf>::new());

    // Encrypted, it goes before the plain one, whose content is now wrong.
    machine.put("/etc/credstore/sersync.www.password", b"wrong", 0o600);
    machine.put("/root/password", PASSWORD.as_bytes(), 0o600);
    let store = "/etc/credstore.encrypted";
    machine.run(&["mkdir", "-p", "-m", "700", store]);
    let encrypted = format!("{store}/sersync.www.password");
    let encrypt = ["systemd-creds", "encrypt", "--with-key=host", "--name=sersync.www.password", "/root/password"];
    machine.run(&[encrypt.as_slice(), &[&encrypted]].concat());
    machine.run(&["systemctl", "daemon-reload"]);
    machine.run(&["systemctl", "restart", "sersync@www"]);
    put(&source.join("second"), "by an encrypted password");
    assert_converged(&source, &copy);
    assert!(check(&machine, "www").contains("an rsync daemon answers"), "no remote was probed");
    assert_eq!(left_by_checks(&machine), Vec::<PathBuf>::new());

    // A private key. Whom it is for stands where ssh looks: in the machine's list of known hosts.
    let address = sshd.address;
    let known = format!("[{}]:{} {}", address.ip(), address.port(), sshd.host_key);
    machine.put("/etc/ssh/ssh_known_hosts", known.as_bytes(), 0o644);
    machine.put("/etc/credstore/sersync.key", &fs::read(&sshd.key).unwrap(), 0o600);
    let remote = format!("<remote ip=\"root@{}\" name=\"{}\"/>", address.ip(), by_ssh.display());
    let rsync = format!(
        "<rsync><commonParams params=\"-a\"/><ssh start=\"true\" port=\"{}\" credential=\"sersync.key\"/></rsync>",
        address.port()
    );
    configure(&machine, "ssh", &config(watch, &remote, &rsync, ""));
    machine.run(&["systemctl", "start", "sersync@ssh"]);
    assert_converged(&source, &by_ssh);
    // The first run shows what a connection may read; with the second one the shared connection starts, which has its socket
    // in the state directory.
    put(&source.join("third"), "over the shared connection");
    assert_converged(&source, &by_ssh);
    until("a shared connection", SOON, || {
        let sockets = fs::read_dir(machine.path("/var/lib/sersync/ssh")).unwrap();
        sockets.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("ssh-"))
    });
    fs::rename(source.join("second"), source.join("renamed")).unwrap();
    assert_converged(&source, &by_ssh);
    check(&machine, "ssh");
    // What systemd gave to one instance no other sees.
    let pid = machine.property("sersync@ssh", "MainPID");
    let seen = machine.run(&["nsenter", "-t", &pid, "-m", "find", "/run/credentials", "-type", "f"]);
    assert_eq!(seen.trim(), "/run/credentials/sersync@ssh.service/sersync.key");
}

/// The drop-ins of an instance count, as systemd tells them.
#[test]
fn a_check_by_root_has_the_rights_of_the_unit() {
    let place = shared();
    let Some(machine) = machine(&place) else { return };
    machine.run(&["mkdir", "-p", "/srv/www", "/srv/copy"]);
    configure(&machine, "www", &config("/srv/www", "<remote directory=\"/srv/copy\"/>", "", ""));
    let output = machine.output(&["sersyncctl", "check", "www"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("user sersync may not write to it") && said.contains("Permission denied"), "{said}");

    let drop_in = fs::read(machine.path("/usr/share/doc/sersync/drop-ins/local-remote.conf")).unwrap();
    machine.put("/etc/systemd/system/sersync@www.service.d/local-remote.conf", &drop_in, 0o644);
    machine.run(&["systemctl", "daemon-reload"]);
    let said = check(&machine, "www");
    assert!(said.contains("takes a file, and lets it be deleted"), "{said}");
    assert_eq!(fs::read_dir(machine.path("/srv/copy")).unwrap().count(), 0);
}

/// What a check gathered must be gone after it.
fn left_by_checks(machine: &Machine) -> Vec<PathBuf> {
    let entries = fs::read_dir(machine.path("/run")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("sersync-check")).collect()
}

#[test]
fn what_a_config_needs_is_there_before_its_instance() {
    let place = shared();
    let Some(machine) = machine(&place) else { return };
    let drop_in = |name: &str, instance: &str| {
        let text = fs::read(machine.path(&format!("/usr/share/doc/sersync/drop-ins/{name}.conf"))).unwrap();
        machine.put(&format!("/etc/systemd/system/sersync@{instance}.service.d/{name}.conf"), &text, 0o644);
    };
    let user = machine.run(&["id", "-u", "sersync"]).trim().to_owned();
    machine.run(&["useradd", "--create-home", "--uid=1234", "joe"]);

    // The disk of the watched directory, and that of a remote, are not mounted yet; the first is waited for, and
    // without it there is no start.
    for (unit, place) in [("data", "/data"), ("mnt-copy\\x2d1", "/mnt/copy-1")] {
        let text = format!("[Mount]\nWhat=tmpfs\nWhere={place}\nType=tmpfs\nOptions=mode=777\n");
        machine.put(&format!("/etc/systemd/system/{unit}.mount"), text.as_bytes(), 0o644);
    }
    let remote = "<remote directory=\"/mnt/copy-1\"/>";
    configure(&machine, "my.disk", &config("/data", remote, "", ""));
    machine.run(&["systemctl", "start", "sersync@my.disk"]);
    for mount in ["data.mount", "mnt-copy\\x2d1.mount"] {
        assert_eq!(machine.property(mount, "ActiveState"), "active", "{mount}");
    }
    let [data, copy] = ["/data", "/mnt/copy-1"].map(|path| machine.path(path));
    put(&data.join("file"), "on the disk");
    until("a file on the other disk", SOON, || fs::read(copy.join("file")).is_ok_and(|bytes| bytes == b"on the disk"));
    // Without capabilities the copy is the agent's own.
    assert_eq!(fs::metadata(copy.join("file")).unwrap().uid().to_string(), user);
    // Its name is none on the bus, and systemd knows the right one.
    machine.run(&["systemctl", "service-log-level", "sersync@my.disk", "debug"]);
    machine.run(&["systemctl", "stop", "data.mount"]);
    await_property(&machine, "sersync@my.disk", "ActiveState", |state| state == "inactive");
    machine.put("/etc/systemd/system/data.mount", b"[Mount]\nWhat=/dev/nowhere\nWhere=/data\nType=ext4\n", 0o644);
    machine.run(&["systemctl", "daemon-reload"]);
    assert!(!machine.output(&["systemctl", "start", "sersync@my.disk"]).status.success());

    // A copy with its owners, of a home directory. Plugin commands write, and run as somebody else.
    machine.run(&["install", "-d", "-m", "755", "/mnt/home"]);
    machine.run(&["install", "-d", "-m", "777", "/var/cache/www"]);
    machine.put(
        "/usr/local/bin/on-change",
        b"#!/bin/sh\necho \"$(id -un) $CREDENTIALS_DIRECTORY $(grep CapEff /proc/self/status) $1\" >>/var/cache/www/told\n",
        0o755,
    );
    let become_joe = "/usr/bin/setpriv --reuid=joe --regid=joe --init-groups --ambient-caps=-all --";
    let plugin = format!(
        "<plugin name=\"command\"><param prefix=\"{become_joe} /usr/local/bin/on-change\" keepCapabilities=\"true\"/></plugin>"
    );
    let started = "<plugin start=\"true\" name=\"command\"/><rsync><commonParams params=\"-a --super\"/></rsync>";
    configure(&machine, "home", &config("/home/joe", "<remote directory=\"/mnt/home\"/>", started, &plugin));
    let refused = machine.output(&["sersyncctl", "check", "home"]);
    assert_eq!(refused.status.code(), Some(2), "the service may not write to a directory of root's");
    assert!(String::from_utf8_lossy(&refused.stdout).contains("local-remote.conf"), "the remedy is named");
    for name in ["local-remote", "plugin-user", "plugin-writes"] {
        drop_in(name, "home");
    }
    machine.run(&["systemctl", "daemon-reload"]);
    let [home, copy] = ["/home/joe", "/mnt/home"].map(|path| machine.path(path));
    put(&home.join("private/secret"), "joe's");
    machine.run(&["chown", "-R", "joe:joe", "/home/joe"]);
    machine.run(&["chmod", "2700", "/home/joe/private"]);
    machine.run(&["chmod", "400", "/home/joe/private/secret"]);
    machine.run(&["systemctl", "start", "sersync@home"]);
    assert_converged(&home, &copy);
    assert_eq!(fs::metadata(copy.join("private/secret")).unwrap().uid(), 1234);
    assert_eq!(fs::metadata(copy.join("private")).unwrap().mode() & 0o7777, 0o2700);
    machine.run(&["sh", "-c", "rm -rf /home/joe/private; echo new >/home/joe/page"]);
    assert_converged(&home, &copy);
    let told = eventually("a command that was told", SOON, || {
        let told = fs::read_to_string(machine.path("/var/cache/www/told")).map_err(|error| error.to_string())?;
        if told.contains("/home/joe/page") { Ok(told) } else { Err(told) }
    });
    let expected = "joe  CapEff:\t0000000000000000 /home/joe/page";
    assert!(told.lines().any(|line| line == expected), "no {expected:?} in {told}");

    // In /tmp too, which is otherwise the instance's own.
    let temporary = machine.path("/tmp/watched");
    put(&temporary.join("file"), "seen");
    machine.run(&["install", "-d", "-o", "sersync", "/mnt/temporary"]);
    configure(&machine, "temporary", &config("/tmp/watched", "<remote directory=\"/mnt/temporary\"/>", "", ""));
    machine.run(&["systemctl", "start", "sersync@temporary"]);
    until("a file of /tmp", SOON, || machine.path("/mnt/temporary/file").exists());

    // Full syncs are gentle where the drop-in lets them be.
    let filter = |machine: &Machine| machine.property("sersync@temporary", "SystemCallFilter");
    assert!(!filter(&machine).split(' ').any(|call| call == "setpriority"));
    drop_in("priority", "temporary");
    machine.run(&["systemctl", "daemon-reload"]);
    assert!(filter(&machine).split(' ').any(|call| call == "setpriority"));
}

#[test]
fn a_user_has_instances_too() {
    let place = shared();
    let Some(machine) = machine(&place) else { return };
    machine.run(&["useradd", "--create-home", "--uid=1234", "amy"]);
    let mut setup = String::from("set -e; cd /home/amy; mkdir -p .config/sersync notes copy; echo first >notes/file\n");
    let text = config("/home/amy/notes", "<remote directory=\"/home/amy/copy\"/>", "", "");
    let _ = writeln!(setup, "cat >.config/sersync/notes.xml <<'END'\n{text}\nEND\nchown -R amy: .");
    machine.run(&["sh", "-c", &setup]);
    machine.run(&["loginctl", "enable-linger", "amy"]);
    until("a user's systemd", SOON, || machine.output(&["systemctl", "is-active", "user@1234"]).status.success());
    machine.run(&["systemctl", "--user", "-M", "amy@", "preset", "sersync@notes"]);
    let enabled = machine.output(&["systemctl", "--user", "-M", "amy@", "is-enabled", "sersync@notes"]);
    assert_eq!(String::from_utf8_lossy(&enabled.stdout).trim(), "disabled");
    machine.run(&["systemctl", "--user", "-M", "amy@", "enable", "--now", "sersync@notes"]);
    let [notes, copy] = ["notes", "copy"].map(|name| machine.path(&format!("/home/amy/{name}")));
    assert_converged(&notes, &copy);
    machine.run(&["systemctl", "--user", "-M", "amy@", "reload", "sersync@notes"]);
    let bus = "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1234/bus";
    machine.run(&["runuser", "-u", "amy", "--", "env", bus, "sersyncctl", "--user", "wait", "notes"]);
    machine.run(&["systemctl", "--user", "-M", "amy@", "stop", "sersync.target"]);
    until("the end of its instances", SOON, || {
        !machine.output(&["systemctl", "--user", "-M", "amy@", "is-active", "sersync@notes"]).status.success()
    });
}
