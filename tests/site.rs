//! An administrator's first days with the package: installed, three instances enabled, three hosts mirrored to, asked,
//! reloaded, cut off, upgraded under load, removed. All of it in a booted system, with the .deb that is built here.
//!
//! `SERSYNC_TEST_PACKAGES` names the directory that `packaging/build` wrote.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use support::config::Confxml;
use support::host::Host;
use support::machine::{Machine, await_property, shared};
use support::packages::{Packages, newer};
use support::rsyncd::{Daemon, PASSWORD, Plan};
use support::sshd::Sshd;
use support::tree::{assert_converged, put};
use support::writer::{Writer, busy_while};
use support::{SOON, eventually};
use tempfile::TempDir;

const INSTANCES: [&str; 3] = ["www", "bbs", "blog"];

/// A master with the package installed, and the hosts that it mirrors to.
struct Site {
    machine: Machine,
    // A daemon ends before its host.
    daemons: Vec<Daemon>,
    hosts: Vec<Host>,
    sshd: Sshd,
    package: PathBuf,
    place: TempDir,
}

impl Site {
    /// `None`, with the reason printed, where it cannot be.
    fn prepare() -> Option<Self> {
        let built = Packages::given()?.file("deb");
        let place = shared();
        let package = place.path().join("sersync.deb");
        fs::copy(built, &package).unwrap();
        let machine = Machine::boot(place.path())?;
        let sshd = Sshd::start(&place.path().join("sshd"))?;
        let hosts: Vec<Host> = (0..3).map(|_| Host::new()).collect();
        let daemons = hosts
            .iter()
            .map(|host| {
                let plan = Plan::new(&place.path().join(&host.name)).on(host);
                ["www", "bbs"]
                    .iter()
                    .fold(plan, |plan, name| plan.module(name, &place.path().join(&host.name).join(name), &[]))
            })
            .map(Plan::start)
            .collect();
        Some(Self { machine, daemons, hosts, sshd, package, place })
    }

    fn source(&self, instance: &str) -> PathBuf {
        self.place.path().join(instance)
    }

    /// What is to be equal to the instance's tree.
    fn copies(&self, instance: &str) -> Vec<PathBuf> {
        match instance {
            "blog" => vec![self.place.path().join("blog-copy")],
            _ => self.hosts.iter().map(|host| self.place.path().join(&host.name).join(instance)).collect(),
        }
    }

    fn assert_converged(&self) {
        for instance in INSTANCES {
            for copy in self.copies(instance) {
                assert_converged(&self.source(instance), &copy);
            }
        }
    }

    /// Configs as the README's reader writes them: a password file, a password by credential, a key by credential.
    fn configure(&self) {
        for instance in INSTANCES {
            fs::create_dir(self.source(instance)).unwrap();
            put(&self.source(instance).join("first/file"), instance);
            // Root's own: the agent's user has no right to it but that of reading all.
            put(&self.source(instance).join("first/secret"), "for root's eyes");
            fs::set_permissions(
                self.source(instance).join("first/secret"),
                std::os::unix::fs::PermissionsExt::from_mode(0o600),
            )
            .unwrap();
        }
        let machine = &self.machine;
        machine.put("/etc/sersync/password", format!("{PASSWORD}\n").as_bytes(), 0o600);
        machine.put("/etc/credstore/sersync.bbs.password", format!("{PASSWORD}\n").as_bytes(), 0o600);
        machine.put("/etc/credstore/sersync.blog.key", &fs::read(&self.sshd.key).unwrap(), 0o600);
        self.write("www", &self.config("www", "passwordfile=\"/etc/sersync/password\""));
        self.write("bbs", &self.config("bbs", "credential=\"sersync.bbs.password\""));
        let ssh = Confxml::new(&self.source("blog"))
            .attrib()
            .ssh(&format!("root@{}", self.sshd.address.ip()), &self.copies("blog")[0])
            .text(Path::new("/none"));
        let port = self.sshd.address.port();
        let with_key = format!("<ssh start=\"true\" port=\"{port}\" credential=\"sersync.blog.key\"/>");
        self.write("blog", &ssh.replace("<ssh start=\"true\"/>", &with_key));
        let known = format!("[{}]:{port} {}\n", self.sshd.address.ip(), self.sshd.host_key);
        machine.put("/etc/ssh/ssh_known_hosts", known.as_bytes(), 0o644);
        fs::create_dir(&self.copies("blog")[0]).unwrap();
    }

    fn config(&self, instance: &str, password: &str) -> String {
        let config = Confxml::new(&self.source(instance)).attrib().timeout(5);
        let config = self.daemons.iter().fold(config, |config, daemon| config.daemon(daemon, instance));
        config.text(Path::new("PASSWORD")).replace("passwordfile=\"PASSWORD\"", password)
    }

    fn write(&self, instance: &str, text: &str) {
        self.machine.put(&format!("/etc/sersync/{instance}.xml"), text.as_bytes(), 0o644);
    }

    /// Does this while all trees change without a pause.
    fn under_load(&self, harm: impl FnOnce()) {
        let writer = |(seed, instance): (u64, &str)| {
            Writer::new(seed, &self.source(instance), &self.place.path().join(format!("outside-{instance}")))
        };
        busy_while((0..).zip(INSTANCES).map(writer).collect(), harm);
        self.assert_converged();
    }

    /// Every file of the machine that a package may have to do with.
    fn files(&self) -> BTreeSet<String> {
        let places = ["/etc", "/usr", "/var", "/run/systemd/generator", "/home", "/root", "/opt", "/srv"];
        let command: Vec<&str> = ["find"].into_iter().chain(places).chain(["-xdev"]).collect();
        String::from_utf8_lossy(&self.machine.output(&command).stdout).lines().map(str::to_owned).collect()
    }
}

/// One machine, one story: each step stands on the one before.
#[test]
fn from_the_first_install_to_the_purge() {
    let Some(site) = Site::prepare() else { return };
    let machine = &site.machine;
    machine.run(&["useradd", "plain"]);
    let before = site.files();

    machine.install_package(&site.package);
    site.configure();
    let units = INSTANCES.map(|instance| format!("sersync@{instance}"));
    let units = units.each_ref().map(String::as_str);
    machine.run(&["systemctl", "enable", "--now", units[0], units[1], units[2]]);
    site.assert_converged();
    for unit in units {
        assert_eq!(machine.property(unit, "User"), "sersync");
    }

    asked_by_anybody_and_told_by_root(&site);
    reloaded_with_a_bad_and_a_good_config(&site);
    cut_off_and_joined_again(&site);
    told_by_the_journal(&site);
    upgraded_under_load(&site);

    machine.run(&["apt-get", "remove", "-y", "-q", "sersync"]);
    for unit in units {
        assert_eq!(machine.property(unit, "ActiveState"), "inactive");
    }
    assert!(machine.path("/etc/sersync/www.xml").exists(), "a removal keeps the configs");
    machine.run(&["apt-get", "purge", "-y", "-q", "sersync"]);
    // What the test put there; what remembers that there was a package; what the system's own services leave, whenever
    // they run.
    let known = [
        &["/etc/credstore", "/etc/ssh/"][..],
        &["/var/log/", "/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/"],
        &["/var/tmp/systemd-private-", "/var/lib/systemd/timers/stamp-"],
    ]
    .concat();
    let is_known =
        |path: &&String| known.iter().any(|place| path.starts_with(place)) && !path.contains("stamp-sersync");
    let after = site.files();
    let left: Vec<&String> = after.difference(&before).filter(|path| !is_known(path)).collect();
    assert!(left.is_empty(), "left behind: {left:#?}");
}

fn asked_by_anybody_and_told_by_root(site: &Site) {
    let machine = &site.machine;
    let plain = |command: &[&str]| machine.output(&[&["runuser", "-u", "plain", "--"], command].concat());
    machine.run(&["sersyncctl", "wait", "www"]);
    for who in [machine.output(&["sersyncctl", "status", "www"]), plain(&["sersyncctl", "status", "www"])] {
        assert_eq!(who.status.code(), Some(0), "{}", String::from_utf8_lossy(&[who.stdout, who.stderr].concat()));
    }
    let refused = plain(&["sersyncctl", "--no-ask-password", "pause", "www"]);
    assert_eq!(site.machine.tells("www", "State"), "s \"idle\"");
    assert!(!refused.status.success());
    machine.put(
        "/etc/polkit-1/rules.d/10-sersync.rules",
        b"polkit.addRule(function(action, subject) {\n\
          if (action.id == \"org.sersync.agent1.manage\" && subject.user == \"plain\") return polkit.Result.YES;\n});\n",
        0o644,
    );
    eventually("the rule holds", SOON, || {
        let allowed = plain(&["sersyncctl", "--no-ask-password", "pause", "www"]);
        if allowed.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&allowed.stderr).into_owned()) }
    });
    assert_eq!(site.machine.tells("www", "State"), "s \"paused\"");
    fs::remove_file(machine.path("/etc/polkit-1/rules.d/10-sersync.rules")).unwrap();
    // Without polkit root goes on.
    machine.run(&["systemctl", "mask", "--now", "--runtime", "polkit"]);
    assert!(!plain(&["sersyncctl", "--no-ask-password", "resume", "www"]).status.success());
    machine.run(&["sersyncctl", "resume", "www"]);
    machine.run(&["systemctl", "unmask", "--runtime", "polkit"]);
}

fn reloaded_with_a_bad_and_a_good_config(site: &Site) {
    let machine = &site.machine;
    let good = fs::read_to_string(machine.path("/etc/sersync/www.xml")).unwrap();
    site.write("www", &good.replace("<localpath", "<localpaht"));
    let refused = machine.output(&["systemctl", "reload", "sersync@www"]);
    assert!(!refused.status.success());
    assert_eq!(machine.property("sersync@www", "ActiveState"), "active");
    eventually("the mistakes in the journal", SOON, || match machine.journal() {
        told if told.contains("/etc/sersync/www.xml:") => Ok(()),
        told => Err(told),
    });
    put(&site.source("www").join("while/refused"), "the old config goes on");
    site.assert_converged();
    let filter = "<filter start=\"true\"><exclude expression=\"(.*)\\.tmp\"/></filter>";
    let filtered = good.lines().filter(|line| !line.contains("filter")).collect::<Vec<_>>().join("\n");
    site.write("www", &filtered.replace("<inotify>", &format!("{filter}\n<inotify>")));
    machine.run(&["systemctl", "reload", "sersync@www"]);
    put(&site.source("www").join("excluded.tmp"), "not for the mirrors");
    put(&site.source("www").join("after/reload"), "for the mirrors");
    machine.run(&["sersyncctl", "wait", "www"]);
    for copy in site.copies("www") {
        assert!(copy.join("after/reload").exists(), "{}", machine.journal());
        assert!(!copy.join("excluded.tmp").exists(), "{}", machine.journal());
    }
    fs::remove_file(site.source("www").join("excluded.tmp")).unwrap();
    site.write("www", &good);
    machine.run(&["systemctl", "reload", "sersync@www"]);
}

fn cut_off_and_joined_again(site: &Site) {
    let machine = &site.machine;
    site.hosts[1].cut();
    put(&site.source("bbs").join("while/cut"), "it waits for one host alone");
    for near in [0, 2] {
        let arrived = site.copies("bbs")[near].join("while/cut");
        eventually("what the other hosts get", SOON, || arrived.exists().then_some(()).ok_or("not yet"));
    }
    eventually("the instance says what is wrong", SOON * 2, || match site.machine.tells("bbs", "State") {
        state if state == "s \"degraded\"" => Ok(()),
        state => Err(state),
    });
    let status = machine.output(&["sersyncctl", "status", "bbs"]);
    assert_eq!(status.status.code(), Some(1), "{}", String::from_utf8_lossy(&status.stdout));
    site.hosts[1].join();
    machine.run(&["sersyncctl", "retry", "bbs"]);
    site.assert_converged();
    eventually("all is well", SOON, || match site.machine.tells("bbs", "State") {
        state if state == "s \"idle\"" => Ok(()),
        state => Err(state),
    });
}

fn told_by_the_journal(site: &Site) {
    let machine = &site.machine;
    let journal = |arguments: &[&str]| machine.run(&[&["journalctl", "--no-pager", "-q"], arguments].concat());
    let down = format!("MESSAGE_ID={}", sersync::message_ids::REMOTE_DOWN);
    let by_unit = journal(&["-u", "sersync@bbs", &down]);
    let by_field = journal(&["SERSYNC_INSTANCE=bbs", &down]);
    assert!(!by_field.is_empty() && by_unit == by_field, "{by_unit}\n{by_field}\n{}", machine.journal());
    let fields = journal(&["-u", "sersync@bbs", &down, "-o", "json", "--output-fields=SERSYNC_REMOTE"]);
    let address = site.hosts[1].address.to_string();
    assert!(fields.lines().all(|line| line.contains("SERSYNC_REMOTE") && line.contains(&address)), "{fields}");
    let explained = journal(&["-x", "-u", "sersync@bbs"]);
    assert!(explained.contains("sersyncctl"), "{explained}");
    machine.run(&["systemctl", "service-log-level", "sersync@blog", "debug"]);
    assert_eq!(machine.run(&["systemctl", "service-log-level", "sersync@blog"]).trim(), "debug");
    machine.run(&["systemctl", "service-log-level", "sersync@blog", "info"]);
    assert!(!journal(&["-b"]).contains(PASSWORD));
}

fn upgraded_under_load(site: &Site) {
    let machine = &site.machine;
    let newer = newer(&site.package, site.place.path());
    let pids = INSTANCES.map(|instance| machine.property(&format!("sersync@{instance}"), "MainPID"));
    let other = machine.property("systemd-journald", "MainPID");
    site.under_load(|| {
        machine.install_package(&newer);
        for (instance, before) in INSTANCES.iter().zip(&pids) {
            let unit = format!("sersync@{instance}");
            await_property(machine, &unit, "MainPID", |now| now != "0" && now != before);
            await_property(machine, &unit, "ActiveState", |state| state == "active");
        }
    });
    for instance in INSTANCES {
        assert_eq!(site.machine.tells(instance, "StartedFrom"), "s \"resumed\"");
        machine.run(&["sersyncctl", "wait", instance]);
    }
    assert_eq!(machine.property("systemd-journald", "MainPID"), other);
    site.assert_converged();
}
