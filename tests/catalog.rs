//! The journal's messages: each fixed number has an entry in both catalogs and in docs/journal.md, the entries use only
//! fields that the agent sets, and in a booted system `journalctl -x` shows them.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::config::Confxml;
use support::machine::{Machine, shared};
use support::rsyncd::{Daemon, Plan};
use support::scene::MODULE;
use support::{SOON, eventually, until};
use tempfile::TempDir;

const CATALOGS: [&str; 2] = ["systemd/catalog/sersync.catalog", "systemd/catalog/sersync.zh_CN.catalog"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The numbers in the code, by their names.
fn numbers() -> BTreeMap<String, String> {
    let text = read("src/message_ids.rs");
    let lines = text.lines().filter_map(|line| line.strip_prefix("pub const "));
    let numbers: BTreeMap<_, _> = lines
        .map(|line| {
            let (name, rest) = line.split_once(": &str = \"").unwrap();
            (name.to_owned(), rest.trim_end_matches("\";").to_owned())
        })
        .collect();
    assert!(numbers.len() > 10, "{numbers:?}");
    numbers
}

/// The entries of a catalog: number, and the text below it.
fn entries(catalog: &str) -> BTreeMap<String, String> {
    let text = read(catalog);
    let entries = text.split("\n-- ").skip(1).map(|entry| entry.split_once('\n').unwrap());
    entries.map(|(number, text)| (number.to_owned(), text.to_owned())).collect()
}

/// `@FIELD@` of a text.
fn fields(text: &str) -> BTreeSet<String> {
    let is_field = |word: &&str| !word.is_empty() && word.chars().all(|sign| sign.is_ascii_uppercase() || sign == '_');
    text.split('@').filter(is_field).map(str::to_owned).collect()
}

/// All sources of the program.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("message_ids.rs") {
            found.push(path);
        }
    }
}

/// For each message, the fields that every place sets that tells it.
fn fields_set() -> BTreeMap<String, BTreeSet<String>> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut set: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for place in text.split("message_id = message_ids::").skip(1) {
            let (name, rest) = place.split_once(|sign: char| !sign.is_ascii_uppercase() && sign != '_').unwrap();
            // The fields stand before the words.
            let fields = rest.split('"').next().unwrap();
            let mut fields: BTreeSet<String> = fields
                .split(|sign: char| !sign.is_ascii_alphanumeric() && sign != '_')
                .filter(|word| word.starts_with("sersync_"))
                .map(str::to_uppercase)
                .collect();
            fields.insert("SERSYNC_INSTANCE".to_owned());
            set.entry(name.to_owned())
                .and_modify(|known| known.retain(|field| fields.contains(field)))
                .or_insert(fields);
        }
    }
    set
}

#[test]
fn every_message_is_explained_in_both_languages() {
    let set = fields_set();
    assert_eq!(set.keys().collect::<Vec<_>>(), numbers().keys().collect::<Vec<_>>(), "told, and numbered");
    let [english, chinese] = CATALOGS.map(entries);
    for (name, number) in numbers() {
        let ours = english.get(&number).unwrap_or_else(|| panic!("{name} is not in the English catalog"));
        let theirs = chinese.get(&number).unwrap_or_else(|| panic!("{name} is not in the Chinese catalog"));
        for (catalog, text) in [("English", ours), ("Chinese", theirs)] {
            assert!(text.starts_with("Subject: ") && text.contains("\nDefined-By: sersync\n"), "{name}: {text}");
            let last = text.trim_end().lines().last().unwrap();
            let is_command =
                ["    sersyncctl ", "    systemctl ", "    sysctl "].iter().any(|word| last.starts_with(word));
            assert!(is_command, "{name} in {catalog} does not end in a command: {last}");
            let missing: Vec<_> = fields(text).difference(&set[&name]).cloned().collect();
            assert!(missing.is_empty(), "{name} in {catalog} has fields that the agent does not set: {missing:?}");
        }
        assert_eq!(fields(theirs), fields(ours), "{name}");
        let is_chinese = |line: &str| line.chars().any(|sign| ('\u{4e00}'..='\u{9fff}').contains(&sign));
        assert!(is_chinese(theirs.lines().next().unwrap()), "{name}: {theirs}");
        let commands = |text: &str| -> Vec<String> {
            text.lines().filter(|line| line.starts_with("    ")).map(str::to_owned).collect()
        };
        assert_eq!(commands(theirs), commands(ours), "{name}");
    }
    for (catalog, entries) in CATALOGS.iter().zip([&english, &chinese]) {
        assert_eq!(entries.len(), numbers().len(), "{catalog} has an entry for a number that nobody tells");
    }
}

#[test]
fn the_page_lists_every_message_with_its_fields() {
    let page = read("docs/journal.md");
    let rows: BTreeMap<String, BTreeSet<String>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(number, _)| number.len() == 32)
        .map(|(number, rest)| {
            let fields = rest.split('`').filter(|word| word.starts_with("SERSYNC_")).map(str::to_owned);
            (number.to_owned(), fields.collect())
        })
        .collect();
    let set = fields_set();
    let wanted: BTreeMap<String, BTreeSet<String>> = numbers()
        .into_iter()
        .map(|(name, number)| {
            // On every entry: said once.
            let fields = set[&name].iter().filter(|field| *field != "SERSYNC_INSTANCE").cloned();
            (number, fields.collect())
        })
        .collect();
    assert_eq!(rows, wanted);
}

/// journalctl's own compiler of catalogs takes ours without a word.
#[test]
fn the_catalogs_compile() {
    let place = tempfile::tempdir().unwrap();
    let catalogs = place.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&catalogs).unwrap();
    fs::create_dir_all(place.path().join("var/lib/systemd/catalog")).unwrap();
    for catalog in CATALOGS {
        let name = Path::new(catalog).file_name().unwrap();
        fs::write(catalogs.join(name), read(catalog)).unwrap();
    }
    let journalctl = |action: &str| {
        let root = format!("--root={}", place.path().display());
        let output =
            Command::new("journalctl").args([action, &root, "--no-pager"]).env("LC_ALL", "C").output().unwrap();
        let (said, complained) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && complained.is_empty(), "journalctl {action}: {complained}");
        said
    };
    journalctl("--update-catalog");
    let listed = journalctl("--list-catalog");
    let english = entries(CATALOGS[0]);
    for (name, number) in numbers() {
        let subject = english[&number].lines().next().unwrap().trim_start_matches("Subject: ").to_owned();
        assert!(listed.contains(&format!("{number} sersync: {subject}\n")), "{name} is not in {listed}");
    }
}

/// A machine with an instance `www` whose remote's daemon does not run.
struct Ground {
    machine: Machine,
    daemon: Daemon,
    remote: String,
    place: TempDir,
}

impl Ground {
    fn start() -> Option<Self> {
        let place = shared();
        let machine = Machine::boot(place.path())?;
        machine.install();
        let [source, copy] = ["source", "copy"].map(|name| place.path().join(name));
        fs::create_dir(&source).unwrap();
        let daemon = Plan::new(&place.path().join("rsyncd")).module(MODULE, &copy, &[]).stopped();
        let config = Confxml::new(&source).daemon(&daemon, MODULE).write(&place.path().join("www.xml"));
        machine.put("/etc/sersync/www.xml", &fs::read(config).unwrap(), 0o600);
        let remote = format!("backup@{}::{MODULE}", daemon.socket().ip());
        machine.run(&["systemctl", "enable", "--now", "sersync@www"]);
        Some(Self { machine, daemon, remote, place })
    }

    /// The entries of one message, explained.
    fn entries(&self, message: &str, language: &str) -> String {
        let (wanted, lang) = (format!("MESSAGE_ID={}", numbers()[message]), format!("LANG={language}"));
        self.machine.run(&["env", &lang, "journalctl", "-x", "--no-pager", "-u", "sersync@www", &wanted])
    }

    fn awaits(&self, message: &str, text: &str) -> String {
        eventually(message, SOON, || {
            let entries = self.entries(message, "C.UTF-8");
            if entries.contains(text) { Ok(entries) } else { Err(entries) }
        })
    }

    fn attempts(&self) -> u64 {
        let status = self.machine.output(&["sersyncctl", "status", "www", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
        status[0]["remotes"][0]["attempts"].as_u64().unwrap_or_else(|| panic!("{status:#}"))
    }
}

#[test]
fn journalctl_explains_what_happened() {
    let Some(mut ground) = Ground::start() else { return };
    let remote = ground.remote.clone();
    let english = ground.awaits("REMOTE_DOWN", &format!("Subject: The remote {remote} is down"));
    assert!(english.contains(&format!("sersyncctl retry www {remote}\n")), "{english}");
    assert!(!english.contains("@SERSYNC"), "a field is not filled in: {english}");
    // Of a locale only its name matters to journalctl.
    ground.machine.run(&["cp", "-r", "/usr/lib/locale/C.utf8", "/usr/lib/locale/zh_CN.utf8"]);
    let chinese = ground.entries("REMOTE_DOWN", "zh_CN.UTF-8");
    assert!(chinese.contains(&format!("远端 {remote} 不可用")), "{chinese}");

    // Many tries within the first minute are one line, and the end says how many they were.
    for _ in 0..20 {
        let before = ground.attempts();
        ground.machine.run(&["sersyncctl", "retry", "www"]);
        until("one try more", SOON, || ground.attempts() > before);
    }
    let tries = ground.attempts();
    let told = ground.entries("REMOTE_DOWN", "C.UTF-8").matches("Subject:").count() as u64;
    assert!(tries >= 20 && told * 4 <= tries, "{told} lines for {tries} tries");
    ground.daemon.start();
    ground.machine.run(&["sersyncctl", "retry", "www"]);
    let back = ground.awaits("REMOTE_BACK", "answers again, after ");
    let count = back.split("answers again, after ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    assert!(count.parse::<u64>().unwrap() >= tries, "{back}");
}

#[test]
fn systemctl_sets_the_level_and_the_target() {
    let Some(ground) = Ground::start() else { return };
    let machine = &ground.machine;
    let systemctl = |arguments: &[&str]| machine.run(&[&["systemctl"], arguments].concat()).trim().to_owned();
    assert_eq!(systemctl(&["service-log-level", "sersync@www"]), "info");
    systemctl(&["service-log-level", "sersync@www", "debug"]);
    assert_eq!(systemctl(&["service-log-level", "sersync@www"]), "debug");
    fs::write(ground.place.path().join("source/file"), "content").unwrap();
    eventually("a word at the level debug", SOON, || {
        let lines = machine.run(&["journalctl", "--no-pager", "-p", "debug", "-u", "sersync@www", "-o", "cat"]);
        if lines.contains("pending: file") { Ok(()) } else { Err(lines) }
    });
    systemctl(&["service-log-level", "sersync@www", "info"]);
    assert_eq!(systemctl(&["service-log-level", "sersync@www"]), "info");

    // An entry has fields, a line has none.
    for (target, has_fields) in [("console", false), ("journal", true)] {
        assert_ne!(systemctl(&["service-log-target", "sersync@www"]), target);
        systemctl(&["service-log-target", "sersync@www", target]);
        assert_eq!(systemctl(&["service-log-target", "sersync@www"]), target);
        machine.run(&["sersyncctl", "reload", "www"]);
        eventually("the reload is told in that way", SOON, || {
            let last = machine.run(&["journalctl", "--no-pager", "-u", "sersync@www", "-o", "json", "-n", "1"]);
            let is_told = last.contains("the config was read again") && last.contains("MESSAGE_ID") == has_fields;
            if is_told { Ok(()) } else { Err(last) }
        });
    }
    let refused = machine.output(&["systemctl", "service-log-target", "sersync@www", "kmsg"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("take journal or console"), "{told}");
}
