//! Who may do what, in a booted system: each method of each interface, as root, as the agent's own user and as plain
//! users; with polkit as it ships, with a rule for one user, with a password typed on a terminal, and without polkit.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};
use support::config::Confxml;
use support::machine::{Machine, await_property, shared};
use support::rsyncd::{Daemon, Plan};
use support::scene::MODULE;
use support::tree::{assert_converged, put};
use support::{SOON, eventually, until};

const NAME: &str = "org.sersync.Agent1.www";
const WWW: &str = "/org/sersync/Agent1/www";
const AGENT: &str = "org.sersync.Agent1";
const LOG: [&str; 2] = ["/org/freedesktop/LogControl1", "org.freedesktop.LogControl1"];

/// What a caller is allowed to do by one of polkit's actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Inspect,
    Manage,
}

/// The methods of `org.sersync.Agent1`: arguments, and what they need.
const METHODS: &[(&str, &[&str], Needs)] = &[
    ("Pause", &[], Needs::Manage),
    ("Resume", &[], Needs::Manage),
    ("Retry", &["as", "0"], Needs::Manage),
    ("FullSync", &["as", "0"], Needs::Manage),
    ("FullSyncDelete", &["as", "0"], Needs::Manage),
    ("AcceptDeletions", &["as", "0"], Needs::Manage),
    ("Reload", &[], Needs::Manage),
    ("ListFailures", &["uu", "0", "0"], Needs::Inspect),
    ("ListPending", &["uu", "0", "0"], Needs::Inspect),
    ("WaitSynced", &["t", "20000000"], Needs::Nothing),
];

/// The password of root in the machine.
const PASSWORD: &str = "correct horse";

/// How a call ended: `Err` is what the caller was told.
type Answer = Result<String, String>;

fn answer(output: Output) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// A machine with the instance `www`, whose agent is no root, and the users alice and bob.
struct Ground {
    machine: Machine,
    daemon: Daemon,
    source: PathBuf,
    own: String,
}

impl Ground {
    fn start(place: &Path) -> Option<Self> {
        let [source, copy] = ["source", "copy"].map(|name| place.join(name));
        fs::create_dir(&source).unwrap();
        put(&source.join("file"), "content");
        let machine = Machine::boot(place)?;
        machine.run(&["groupadd", "web"]);
        machine.run(&["useradd", "--create-home", "--groups", "web", "alice"]);
        machine.run(&["useradd", "--create-home", "bob"]);
        machine.install();
        set_password(&machine);
        let daemon = Plan::new(&place.join("rsyncd")).module(MODULE, &copy, &[]).start();
        let config = Confxml::new(&source).attrib().daemon(&daemon, MODULE).write(&place.join("www.xml"));
        machine.put("/etc/sersync/www.xml", &fs::read(config).unwrap(), 0o600);
        machine.run(&["systemctl", "enable", "--now", "sersync@www"]);
        assert_converged(&source, &copy);
        let pid = machine.property("sersync@www", "MainPID");
        let own = machine.run(&["stat", "-c", "%U", &format!("/proc/{pid}")]).trim().to_owned();
        assert_eq!(own, "sersync", "the agent under test shall not be root");
        Some(Self { machine, daemon, source, own })
    }

    /// Runs a command as `user`, without a terminal.
    fn run_as(&self, user: &str, command: &[&str]) -> Answer {
        answer(self.machine.output(&[&as_user(user)[..], command].concat()))
    }

    fn busctl(&self, user: &str, arguments: &[&str]) -> Answer {
        // Nobody is there to be asked.
        self.run_as(user, &[&["busctl", "--allow-interactive-authorization=no"], arguments].concat())
    }

    fn call(&self, user: &str, path: &str, interface: &str, member: &str, arguments: &[&str]) -> Answer {
        self.busctl(user, &[&["call", NAME, path, interface, member], arguments].concat())
    }

    /// Calls everything as `user`, and holds the answers against what the user is allowed to.
    fn holds(&self, user: &str, inspect: Result<(), &str>, manage: Result<(), &str>) {
        let judge = |what: &str, answer: Answer, needs: Needs| {
            let wanted = match needs {
                Needs::Nothing => Ok(()),
                Needs::Inspect => inspect,
                Needs::Manage => manage,
            };
            match (answer, wanted) {
                (Ok(_), Ok(())) => {}
                (Err(told), Err(words)) => {
                    assert!(told.contains(words), "{what} as {user} told {told:?}, not {words:?}")
                }
                (answer, wanted) => {
                    panic!("{what} as {user}: {answer:?}, wanted {wanted:?}\n{}", self.machine.journal())
                }
            }
        };
        for (member, arguments, needs) in METHODS {
            judge(member, self.call(user, WWW, AGENT, member, arguments), *needs);
        }
        judge("Cancel", self.cancel(user), Needs::Manage);
        for (property, value) in [("LogLevel", "info"), ("LogTarget", "journal")] {
            let set = ["set-property", NAME, LOG[0], LOG[1], property, "s", value];
            judge(property, self.busctl(user, &set), Needs::Manage);
        }
        for (path, interface) in self.objects() {
            let all = self.call(user, &path, "org.freedesktop.DBus.Properties", "GetAll", &["s", &interface]);
            judge(&format!("properties of {interface}"), all, Needs::Nothing);
        }
        let list = self.call(user, WWW, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", &[]);
        judge("GetManagedObjects", list, Needs::Nothing);
        judge("sersyncctl list", self.run_as(user, &["sersyncctl", "list"]), Needs::Nothing);
        let pause = ["sersyncctl", "--no-ask-password", "retry", "www"];
        judge("sersyncctl retry", self.run_as(user, &pause), Needs::Manage);
        judge("sersyncctl pending", self.run_as(user, &["sersyncctl", "pending", "www"]), Needs::Inspect);
    }

    /// Cancels a full sync that waits; one that has ended would be unknown some day.
    fn cancel(&self, user: &str) -> Answer {
        self.call("root", WWW, AGENT, "Pause", &[]).unwrap();
        let job = self.call("root", WWW, AGENT, "FullSync", &["as", "0"]).unwrap();
        let job = job.split('"').nth(1).unwrap();
        let answer = self.call(user, job, "org.sersync.Job1", "Cancel", &[]);
        self.call("root", WWW, AGENT, "Resume", &[]).unwrap();
        answer
    }

    /// One object of each interface.
    fn objects(&self) -> [(String, String); 4] {
        let tree = self.machine.run(&["busctl", "tree", "--list", NAME]);
        let last = |kind: &str| tree.lines().rfind(|line| line.contains(kind)).unwrap_or_else(|| panic!("{tree}"));
        let (remote, job) = (last("/remote/"), last("/job/"));
        [(WWW, AGENT), (remote, "org.sersync.Remote1"), (job, "org.sersync.Job1"), (LOG[0], LOG[1])]
            .map(|(path, interface)| (path.to_owned(), interface.to_owned()))
    }
}

fn as_user(user: &str) -> [&str; 7] {
    ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--"]
}

fn set_password(machine: &Machine) {
    let mut chpasswd = machine.command(&["chpasswd"]).stdin(Stdio::piped()).spawn().unwrap();
    writeln!(chpasswd.stdin.take().unwrap(), "root:{PASSWORD}").unwrap();
    assert!(chpasswd.wait().unwrap().success());
}

/// A command on a terminal of its own, as a user sees it.
struct Terminal {
    script: Child,
    screen: PathBuf,
}

impl Terminal {
    fn start(ground: &Ground, place: &Path, user: &str, language: &str, command: &str) -> Self {
        let screen = place.join(format!("screen-{:08x}", fastrand::u32(..)));
        // In a session of its own, as after a login: polkit asks nobody outside of one.
        let command = format!("runuser --login {user} --session-command 'LANG={language} {command}'");
        let script = ground
            .machine
            .command(&["script", "--quiet", "--return", "--command", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(fs::File::create(&screen).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { script, screen }
    }

    /// A terminal of alice on which `command` asks for a password. A login that takes too long on a machine with other work
    /// is made once more.
    fn asked(ground: &Ground, place: &Path, command: &str) -> Self {
        let deadline = Instant::now() + SOON;
        let first = Self::start(ground, place, "alice", "C.UTF-8", command);
        while !first.screen().contains("assword") {
            if Instant::now() > deadline {
                drop(first);
                let second = Self::start(ground, place, "alice", "C.UTF-8", command);
                second.awaits("assword");
                return second;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        first
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.screen).unwrap()).into_owned()
    }

    fn awaits(&self, text: &str) {
        eventually("the terminal", SOON, || {
            let screen = self.screen();
            if screen.contains(text) { Ok(()) } else { Err(format!("{text:?} is not on it: {screen:?}")) }
        });
    }

    /// Answers the prompt. What is typed before the terminal's echo is off is shown, and then thrown away: it is typed again.
    fn types(&mut self, line: &str) {
        let shown = self.screen().matches(line).count();
        for _ in 0..3 {
            let length = self.screen().len();
            writeln!(self.script.stdin.as_mut().unwrap(), "{line}").unwrap();
            until("an answer of the terminal", SOON, || self.screen().len() > length);
            if self.screen().matches(line).count() == shown {
                break;
            }
        }
    }

    /// How the command ended, and what was seen.
    fn ends(mut self) -> (bool, String) {
        let status = eventually("the command's end", SOON * 2, || self.script.try_wait().unwrap().ok_or(self.screen()));
        (status.success(), self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// The descriptions of the interfaces say what each method needs. One that is added has to be called here too.
#[test]
fn every_method_is_called() {
    let interfaces = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbus");
    let mut described = BTreeMap::new();
    for entry in fs::read_dir(interfaces).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "xml") {
            let text = fs::read_to_string(path).unwrap();
            let mut comment = "";
            for element in text.split('<').map(str::trim) {
                if element.starts_with("!--") {
                    comment = element;
                } else if let Some(rest) = element.strip_prefix("method name=\"") {
                    let needs = match comment {
                        _ if comment.contains("(manage)") => Needs::Manage,
                        _ if comment.contains("(inspect)") => Needs::Inspect,
                        _ => Needs::Nothing,
                    };
                    described.insert(rest.split('"').next().unwrap().to_owned(), needs);
                }
            }
        }
    }
    let methods = METHODS.iter().map(|(member, _, needs)| (*member, *needs));
    let called = methods.chain([("Cancel", Needs::Manage)]).map(|(member, needs)| (member.to_owned(), needs));
    assert_eq!(called.collect::<BTreeMap<_, _>>(), described);
}

#[test]
fn each_caller_may_do_what_polkit_says_and_no_more() {
    let place = shared();
    let Some(mut ground) = Ground::start(place.path()) else { return };
    let trusted = |ground: &Ground, what: &str| {
        eprintln!("{what}: root and {}", ground.own);
        for user in ["root", &ground.own] {
            ground.holds(user, Ok(()), Ok(()));
        }
    };

    eprintln!("polkit as it ships");
    ground.holds("alice", Ok(()), Err("org.sersync.agent1.manage"));
    trusted(&ground, "polkit as it ships");
    let asked = answer(ground.machine.output(&[&as_user("alice")[..], &["sersyncctl", "pause", "www"]].concat()));
    assert!(asked.as_ref().is_err_and(|told| told.contains("nobody authenticated")), "{asked:?}");

    eprintln!("a password on a terminal");
    a_password_is_asked_for(&ground, place.path());
    a_caller_that_leaves_is_not_asked_any_more(&ground, place.path());

    eprintln!("rules");
    // Those of the page, word for word.
    ground.machine.put("/etc/polkit-1/rules.d/40-sersync.rules", on_the_page("polkit.addRule").as_bytes(), 0o644);
    until("the rules are in force", SOON, || ground.call("alice", WWW, AGENT, "Retry", &["as", "0"]).is_ok());
    ground.holds("alice", Ok(()), Ok(()));
    ground.holds("bob", Err("polkit does not allow org.sersync.agent1.inspect"), Err("org.sersync.agent1.manage"));
    trusted(&ground, "rules");

    eprintln!("failures that the bus holds back");
    failures_are_held_back(&mut ground, place.path());

    eprintln!("a polkit that hangs");
    ground.machine.run(&["systemctl", "kill", "--signal=STOP", "polkit"]);
    let hung = ground.call("alice", WWW, AGENT, "Pause", &[]);
    assert!(hung.as_ref().is_err_and(|told| told.contains("did not answer within 5 s")), "{hung:?}");
    trusted(&ground, "a polkit that hangs");

    eprintln!("no polkit");
    ground.machine.run(&["systemctl", "stop", "polkit"]);
    ground.machine.run(&["systemctl", "mask", "--now", "polkit"]);
    await_property(&ground.machine, "polkit", "ActiveState", |state| state != "active");
    let nobody = "only root and the agent's own user may";
    for user in ["alice", "bob"] {
        ground.holds(user, Err(nobody), Err(nobody));
    }
    trusted(&ground, "no polkit");
}

fn a_password_is_asked_for(ground: &Ground, place: &Path) {
    for (language, words, paused) in [
        ("C.UTF-8", "required for alice to manage the mirror www", "www is paused"),
        ("zh_CN.UTF-8", "用户 alice 管理同步实例 www 需要认证", "www 已暂停"),
    ] {
        let mut terminal = Terminal::start(ground, place, "alice", language, "sersyncctl pause www");
        terminal.awaits("assword");
        terminal.awaits(words);
        // Meanwhile others are served.
        ground.holds("root", Ok(()), Ok(()));
        terminal.types(PASSWORD);
        let (done, screen) = terminal.ends();
        assert!(done && screen.contains(paused), "{screen}");
        assert_eq!(ground.machine.tells("www", "State"), "s \"paused\"");
        ground.call("root", WWW, AGENT, "Resume", &[]).unwrap();
    }
    let mut terminal = Terminal::start(ground, place, "alice", "C.UTF-8", "sersyncctl pause www");
    terminal.awaits("assword");
    terminal.types("wrong");
    let (done, screen) = terminal.ends();
    assert!(!done && screen.contains("nobody authenticated for org.sersync.agent1.manage"), "{screen}");
    let terminal = Terminal::start(ground, place, "alice", "C.UTF-8", "sersyncctl --no-ask-password pause www");
    let (done, screen) = terminal.ends();
    assert!(!done && screen.contains("without a password") && !screen.contains("assword:"), "{screen}");
    let left = ground.machine.output(&["pgrep", "pkttyagent"]);
    assert!(!left.status.success(), "pkttyagent is left behind: {left:?}");
}

fn a_caller_that_leaves_is_not_asked_any_more(ground: &Ground, place: &Path) {
    // What follows keeps the terminal, so that nothing ends because that does.
    let terminal = Terminal::start(ground, place, "alice", "C.UTF-8", "sersyncctl pause www; cat");
    terminal.awaits("assword");
    ground.machine.run(&["pkill", "-KILL", "sersyncctl"]);
    until("pkttyagent ends", SOON, || !ground.machine.output(&["pgrep", "pkttyagent"]).status.success());
    drop(terminal);

    let cancellations = "--match=member='CancelCheckAuthorization'";
    let listener = Listener::start(ground, place, &["busctl", "monitor", cancellations]);
    listener.hears("Monitoring bus message stream");
    // Here the agent outlives the caller, whose number was the shell's.
    let call = format!(
        ": $(pkttyagent --process $$ --notify-fd 1 &); \
         exec busctl --allow-interactive-authorization=yes call {NAME} {WWW} {AGENT} Pause"
    );
    let terminal = Terminal::asked(ground, place, &call);
    ground.machine.run(&["pkill", "-KILL", "-u", "alice", "busctl"]);
    listener.hears("sersync-");
    drop(terminal);
    until("pkttyagent ends", SOON, || !ground.machine.output(&["pgrep", "pkttyagent"]).status.success());
}

/// Runs until dropped; what it says is in a file.
struct Listener {
    process: Child,
    heard: PathBuf,
}

impl Listener {
    fn start(ground: &Ground, place: &Path, command: &[&str]) -> Self {
        let heard = place.join(format!("heard-{:08x}", fastrand::u32(..)));
        let file = fs::File::create(&heard).unwrap();
        let process = ground.machine.command(command).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { process, heard }
    }

    fn heard(&self) -> String {
        fs::read_to_string(&self.heard).unwrap()
    }

    fn hears(&self, text: &str) {
        eventually("what is listened for", SOON, || {
            let heard = self.heard();
            if heard.contains(text) { Ok(()) } else { Err(format!("{text:?} is not in {heard:?}")) }
        });
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The block of docs/dbus.md that begins so.
fn on_the_page(start: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dbus.md")).unwrap();
    let block = page.split("```").find(|block| block.trim_start().starts_with(start));
    block.unwrap_or_else(|| panic!("docs/dbus.md has no {start}")).to_owned()
}

fn failures_are_held_back(ground: &mut Ground, place: &Path) {
    let policy = on_the_page("<busconfig>");
    ground.machine.put("/etc/dbus-1/system.d/sersync-local.conf", policy.trim_start().as_bytes(), 0o644);
    ground.machine.run(&["systemctl", "reload", "dbus"]);
    let monitor = ["sersyncctl", "monitor", "www"];
    let root = Listener::start(ground, place, &monitor);
    let alice = Listener::start(ground, place, &[&as_user("alice")[..], &monitor].concat());
    // Whoever has heard of a change listens.
    let mut changes = 0;
    until("both listen", SOON, || {
        changes += 1;
        put(&ground.source.join(format!("file-{changes}")), "content");
        [&root, &alice].iter().all(|listener| listener.heard().contains(" sent, "))
    });
    ground.daemon.set_module(MODULE, &["read only = yes"]);
    put(&ground.source.join("secret"), "content");
    root.hears("secret failed: ");
    alice.hears(" failed after ");
    assert!(!alice.heard().contains("secret failed: "), "{}", alice.heard());
    ground.daemon.set_module(MODULE, &[]);
    ground.machine.run(&["sersyncctl", "retry", "www"]);
    ground.machine.run(&["sersyncctl", "wait", "www", "--timeout", "30s"]);
}
