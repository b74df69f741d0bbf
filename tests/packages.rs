//! The built packages: what is in them, and what their scripts do to a system.
//!
//! `SERSYNC_TEST_PACKAGES` names the directory that `packaging/build` wrote (target/packages); without it the packages are
//! left out, and only the list of their contents is held against the tree. `.ci/run` sets it.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use support::config::Confxml;
use support::contents;
use support::machine::{self, Machine, shared};
use support::packages::{Packages, newer};
use support::rsyncd::Plan;
use support::scene::MODULE;
use support::tree::{assert_converged, put};
use support::writer::{Writer, busy_while};
use support::{is_root, project, skip, tool};
use tempfile::TempDir;

/// What packaging/contents wants a package to hold: the path as installed, and its mode.
fn wanted(packages: &Packages, package: &str) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::new();
    for line in contents::lines().iter().filter(|line| line.only.as_deref().is_none_or(|only| only == package)) {
        let names = match line.file.strip_prefix("@generated/") {
            Some(generated) => contents::matching(&packages.directory.join("generated"), generated),
            None if line.file.starts_with("@programs/") => vec![line.file.clone()],
            None => contents::matching(project(), &line.file),
        };
        assert!(!names.is_empty(), "packaging/contents: there is no {}", line.file);
        for name in names {
            let name = name.rsplit('/').next().unwrap();
            wanted.insert(format!("{}/{name}", line.place), line.mode.clone());
        }
    }
    wanted
}

/// Files of an archive that `tar` or `rpm` has told of: path and mode, with all owners root.
fn told(lines: &str) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for line in lines.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [mode, owner, .., path] = words[..] else { panic!("{line}") };
        assert!(["root/root", "0/0"].contains(&owner), "{line}");
        if !mode.starts_with('d') {
            let mode = match mode {
                "-rw-r--r--" => "644",
                "-rwxr-xr-x" => "755",
                other => other,
            };
            files.insert(path.trim_start_matches('.').to_owned(), mode.to_owned());
        } else {
            assert_eq!(mode, "drwxr-xr-x", "{line}");
        }
    }
    files
}

/// Whoever adds a unit, a bus file, an example or a page has it packaged, or hears of it here.
#[test]
fn the_list_names_all_that_is_to_be_installed() {
    let named: BTreeSet<String> =
        contents::lines().iter().flat_map(|line| contents::matching(project(), &line.file)).collect();
    let mut directories = ["systemd", "dbus", "conf", "docs"].map(|name| project().join(name)).to_vec();
    let mut forgotten = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(project()).unwrap().to_str().unwrap().to_owned();
            if !named.contains(&name) {
                forgotten.push(name);
            }
        }
    }
    assert!(forgotten.is_empty(), "packaging/contents does not name {forgotten:#?}");
}

/// sersync@.service(8) tells of each unit.
#[test]
fn the_manual_page_names_each_unit() {
    let page = fs::read_to_string(project().join("packaging/man/sersync@.service.8")).unwrap().replace("\\-", "-");
    let (name, _) = page.split_once(".SH SYNOPSIS").unwrap();
    for pattern in ["systemd/*.service", "systemd/*.timer", "systemd/*.target"] {
        for unit in contents::matching(project(), pattern) {
            let unit = unit.rsplit('/').next().unwrap();
            assert!(name.contains(unit), "{unit} is not under NAME");
        }
    }
}

#[test]
fn the_deb_holds_what_is_listed() {
    let Some(packages) = Packages::given() else { return };
    let archive = tool(
        Command::new("sh")
            .args(["-c", "dpkg-deb --fsys-tarfile \"$1\" | tar -tv --numeric-owner", "sh"])
            .arg(packages.file("deb")),
    );
    let mut wanted = wanted(&packages, "deb");
    // What cargo-deb adds.
    for name in ["copyright", "changelog.Debian.gz"] {
        wanted.insert(format!("/usr/share/doc/sersync/{name}"), "644".to_owned());
    }
    assert_eq!(told(&archive), wanted);
    let page = tool(Command::new("dpkg-deb").arg("-f").arg(packages.file("deb")).arg("Homepage"));
    assert_eq!(page.trim(), env!("CARGO_PKG_HOMEPAGE"));
}

#[test]
fn the_rpm_holds_what_is_listed_and_installs_into_an_empty_root() {
    let Some(packages) = Packages::given() else { return };
    let wanted = wanted(&packages, "rpm");
    let format = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\\n]";
    let listed = tool(Command::new("rpm").args(["-qp", "--qf", format]).arg(packages.file("rpm")));
    assert_eq!(told(&listed), wanted);
    let page = tool(Command::new("rpm").args(["-qp", "--qf", "%{URL}"]).arg(packages.file("rpm")));
    assert_eq!(page, env!("CARGO_PKG_HOMEPAGE"));
    if !is_root() {
        return skip("rpm installs into a root as root only");
    }
    let root = TempDir::new().unwrap();
    // Nothing is there to run a script with, and nothing that it depends on.
    rpm(root.path(), &["-i", "--nodeps", "--noscripts"], Some(&packages.file("rpm")));
    let mut on_disk = BTreeMap::new();
    let mut directories = vec![root.path().join("usr")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root.path()).unwrap().to_str().unwrap();
                on_disk.insert(format!("/{name}"), format!("{:o}", meta.permissions().mode() & 0o7777));
            }
        }
    }
    assert_eq!(on_disk, wanted);
    rpm(root.path(), &["-V", "--nodeps", "--noscripts", "sersync"], None);
    rpm(root.path(), &["-e", "--nodeps", "--noscripts", "sersync"], None);
    let left = tool(Command::new("find").arg(root.path().join("usr")).args(["-not", "-type", "d"]));
    assert!(!left.contains("sersync"), "{left}");
}

/// Runs `rpm` on another root; gives back all that it and the package's scripts said.
fn rpm(root: &Path, arguments: &[&str], package: Option<&Path>) -> String {
    // By default Debian's rpm remembers in the caller's home what it has installed.
    let mut command = Command::new("rpm");
    command.arg("--root").arg(root).args(["--dbpath", "/var/lib/rpm"]).args(arguments).args(package);
    let output = command.env("LC_ALL", "C.UTF-8").output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// What systemd calls one run of a unit; empty where it does not run.
fn run_of(machine: &Machine, unit: &str) -> String {
    match machine.property(unit, "ActiveState").as_str() {
        "active" => machine.property(unit, "InvocationID"),
        _ => String::new(),
    }
}

/// All files of the system but those that change by themselves.
fn files_of(machine: &Machine) -> BTreeSet<String> {
    // What is told, what is remembered of packages, what is gone at the next boot.
    let passing =
        ["/var/log/journal", "/var/lib/dpkg", "/var/lib/apt", "/var/cache", "/var/log/apt", "/var/log/dpkg.log"];
    let listed = machine.run(&["find", "/", "-xdev", "-not", "-path", "/var/tmp/*", "-print"]);
    listed.lines().filter(|path| !passing.iter().any(|start| path.starts_with(start))).map(str::to_owned).collect()
}

/// A machine with a service that is none of ours, an instance that runs, and one that is enabled and does not run.
struct Scene {
    machine: Machine,
    others: Vec<(&'static str, String)>,
}

impl Scene {
    fn boot(place: &Path) -> Option<Self> {
        let machine = Machine::boot(place)?;
        machine.run(&["systemd-run", "--unit=other", "sleep", "infinity"]);
        let others = ["other.service", "dbus.service", "systemd-journald.service"];
        let others = others.map(|unit| (unit, run_of(&machine, unit))).to_vec();
        assert!(others.iter().all(|(_, run)| !run.is_empty()), "{others:?}");
        Some(Self { machine, others })
    }

    fn others_are_untouched(&self) {
        for (unit, run) in &self.others {
            assert_eq!(run_of(&self.machine, unit), *run, "{unit}");
        }
    }

    /// The user and its directories are there; nothing runs and nothing is enabled.
    fn is_installed(&self) {
        let machine = &self.machine;
        assert!(machine.run(&["getent", "passwd", "sersync"]).starts_with("sersync:"));
        assert_eq!(machine.run(&["stat", "-c", "%a %U %G", "/etc/sersync"]).trim(), "750 root sersync");
        let loaded = machine.run(&["systemctl", "list-units", "--all", "--plain", "--no-legend", "sersync*"]);
        assert_eq!(loaded, "", "an installation starts nothing");
        let enabled = machine.run(&["find", "/etc/systemd", "-name", "*sersync*"]);
        assert_eq!(enabled, "", "an installation enables nothing");
        let units = machine.run(&["systemctl", "list-unit-files", "--plain", "--no-legend", "sersync*"]);
        assert!(units.contains("sersync@.service"), "{units}");
        assert!(self.is_in_the_catalog(), "journalctl -x would explain nothing");
        self.others_are_untouched();
    }

    /// Whether the journal knows what our messages mean.
    fn is_in_the_catalog(&self) -> bool {
        let ours = fs::read_to_string(project().join("systemd/catalog/sersync.catalog")).unwrap();
        let id = ours.lines().find_map(|line| line.strip_prefix("-- ")).unwrap();
        self.machine.run(&["journalctl", "--list-catalog"]).contains(id)
    }

    /// Does it while the tree changes without a pause: the instance that ran runs anew, knows what it missed, and
    /// nothing else was started or ended.
    fn upgraded_under_load(&self, source: &Path, copy: &Path, outside: &Path, upgrade: impl FnOnce(&Machine)) {
        let machine = &self.machine;
        let before = run_of(machine, "sersync@www");
        busy_while(vec![Writer::new(7, source, outside)], || upgrade(machine));
        let after = run_of(machine, "sersync@www");
        assert!(!after.is_empty() && after != before, "it was not restarted: {}", machine.journal());
        assert_eq!(machine.property("sersync@idle", "ActiveState"), "inactive");
        assert_eq!(machine.tells("www", "StartedFrom"), "s \"resumed\"", "{}", machine.journal());
        assert_converged(source, copy);
        self.others_are_untouched();
    }
}

/// Runs what a test of a package's life does, with an instance `www` that mirrors, and `idle`, which is only enabled.
fn life(
    install: impl FnOnce(&Machine),
    upgrade: impl FnOnce(&Machine),
    end: impl FnOnce(&Scene, &BTreeSet<String>),
    place: &Path,
) {
    let [source, copy, outside] = ["source", "copy", "outside"].map(|name| place.join(name));
    fs::create_dir(&source).unwrap();
    put(&source.join("first/file"), "first");
    let Some(scene) = Scene::boot(place) else { return };
    let machine = &scene.machine;
    let before = files_of(machine);
    install(machine);
    scene.is_installed();
    let daemon = Plan::new(&place.join("rsyncd")).module(MODULE, &copy, &[]).start();
    let config =
        fs::read(Confxml::new(&source).attrib().daemon(&daemon, MODULE).write(&place.join("www.xml"))).unwrap();
    for name in ["www", "idle"] {
        machine.put(&format!("/etc/sersync/{name}.xml"), &config, 0o640);
        machine.run(&["chgrp", "sersync", &format!("/etc/sersync/{name}.xml")]);
    }
    machine.run(&["systemctl", "enable", "sersync@idle"]);
    machine.run(&["systemctl", "enable", "--now", "sersync@www"]);
    assert_converged(&source, &copy);
    scene.upgraded_under_load(&source, &copy, &outside, upgrade);
    end(&scene, &before);
    scene.others_are_untouched();
}

fn apt(machine: &Machine, words: &[&str]) {
    let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "--no-install-recommends"];
    machine.run(&[&apt[..], words].concat());
}

#[test]
fn the_deb_is_installed_upgraded_removed_and_purged() {
    let Some(packages) = Packages::given() else { return };
    let place = shared();
    let deb = place.path().join("sersync.deb");
    fs::copy(packages.file("deb"), &deb).unwrap();
    let newer = newer(&deb, place.path());
    life(
        |machine| apt(machine, &["install", deb.to_str().unwrap()]),
        |machine| apt(machine, &["install", newer.to_str().unwrap()]),
        |scene, before| {
            let machine = &scene.machine;
            apt(machine, &["remove", "sersync"]);
            let loaded = machine.run(&["systemctl", "list-units", "--plain", "--no-legend", "sersync*"]);
            assert_eq!(loaded, "", "nothing runs, nothing is remembered as failed");
            // What the administrator wrote and decided outlives a removal, and not a purge.
            machine.run(&["test", "-s", "/etc/sersync/www.xml"]);
            machine.run(&["test", "-L", "/etc/systemd/system/multi-user.target.wants/sersync@www.service"]);
            apt(machine, &["purge", "sersync"]);
            let after = files_of(machine);
            let left: Vec<&String> = after.difference(before).collect();
            // The passwd family keeps a copy of what was before the user came; the user stays, as the script says.
            // A timer of the system's own may have come due meanwhile.
            let explained = |path: &str| {
                ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-"].contains(&path)
                    || path.starts_with("/var/lib/systemd/timers") && !path.contains("sersync")
            };
            assert!(left.iter().all(|path| explained(path)), "left behind: {left:#?}");
            assert!(!scene.is_in_the_catalog());
        },
        place.path(),
    );
}

/// rpm itself comes into the machine, and works beside dpkg, of which it knows nothing.
#[test]
fn the_rpm_is_installed_upgraded_and_removed() {
    let Some(packages) = Packages::given() else { return };
    let place = shared();
    let package = place.path().join("sersync.rpm");
    fs::copy(packages.file("rpm"), &package).unwrap();
    let rpm = |machine: &Machine, words: &[&str]| {
        let output = machine.output(&[&["rpm", "--dbpath", "/var/lib/rpm", "--nodeps"], words].concat());
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && !said.contains("scriptlet"), "{words:?}: {said}");
    };
    let file = package.to_str().unwrap();
    life(
        |machine| {
            apt(machine, &["install", "rpm"]);
            rpm(machine, &["-i", file]);
        },
        // The scripts are told the same as with a newer version.
        |machine| rpm(machine, &["-U", "--force", file]),
        |scene, _| {
            let machine = &scene.machine;
            rpm(machine, &["-e", "sersync"]);
            let loaded = machine.run(&["systemctl", "list-units", "--plain", "--no-legend", "sersync*"]);
            assert_eq!(loaded, "", "nothing runs, nothing is remembered as failed");
            assert_eq!(machine.run(&["find", "/etc/systemd", "/usr", "-path", "*sersync*"]), "");
            machine.run(&["test", "-s", "/etc/sersync/www.xml"]);
            assert!(!scene.is_in_the_catalog());
        },
        place.path(),
    );
}

/// A chroot, as images are built in: no systemd runs, and nobody is told of anything.
#[test]
fn the_deb_is_installed_and_purged_where_no_systemd_runs() {
    let Some(packages) = Packages::given() else { return };
    if !is_root() {
        return skip("a chroot takes root");
    }
    let place = shared();
    let [upper, work, root] = ["upper", "work", "root"].map(|name| place.path().join(name));
    for directory in [&upper, &work, &root] {
        fs::create_dir(directory).unwrap();
    }
    let script = r#"
        set -e
        mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4"
        mount -t proc proc "$4/proc"
        cp -- "$5" "$4/sersync.deb"
        export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
        chroot "$4" dpkg -i /sersync.deb
        chroot "$4" stat -c 'directory %a %U %G' /etc/sersync
        chroot "$4" /usr/bin/sersync --version
        chroot "$4" dpkg --purge sersync
        chroot "$4" find / -xdev -path /var/lib/dpkg -prune -o -name '*sersync*' -printf 'left: %p\n'
    "#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(machine::image());
    let said = tool(command.args([&upper, &work, &root]).arg(packages.file("deb")));
    assert!(said.contains("directory 750 root sersync"), "{said}");
    assert!(said.contains(concat!("sersync ", env!("CARGO_PKG_VERSION"))), "{said}");
    let left: Vec<&str> =
        said.lines().filter(|line| line.starts_with("left: ") && *line != "left: /sersync.deb").collect();
    assert!(left.is_empty(), "{left:?}");
}
