//! `sersyncctl import` on a corpus of foreign set-ups: what it says and what it writes is compared with the text beside
//! each.
//!
//! `SERSYNC_TEST_REWRITE=1 cargo test --test import` writes those texts anew; read the difference before you commit it.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use sersync::config::{self, Deletions, Destination};
use sersync::filter::{EntryKind, Filter};
use sersync::path::RelPath;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use support::agent::Launch;
use support::tree::put;
use support::{SOON, eventually, until};

/// The corpus has this where a case's own directory is to stand.
const MARK: &str = "@DIR@";

fn corpus(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(part)
}

/// The files of a directory, sorted, without the texts that are expected.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_none_or(|extension| extension != "txt"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// A place to import in: the set-up in `old`, what comes of it in `new`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("old")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn old(&self) -> String {
        self.path("old").display().to_string()
    }

    /// A file of the corpus, with this place in it.
    fn bring(&self, file: &Path) -> PathBuf {
        let mut bytes = fs::read(file).unwrap();
        let old = self.old();
        while let Some(at) = bytes.windows(MARK.len()).position(|window| window == MARK.as_bytes()) {
            bytes.splice(at..at + MARK.len(), old.bytes());
        }
        self.write(file.file_name().unwrap().to_str().unwrap(), &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path("old").join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sersyncctl"));
        command.arg("import").args(words).current_dir(self.path("old"));
        // No bus is needed.
        command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere").env("LC_ALL", "C.UTF-8").output().unwrap()
    }

    /// Imports into `new`.
    fn import(&self, words: &[&str]) -> Output {
        let to = self.path("new");
        self.run(&[words, &["--to", to.to_str().unwrap()]].concat())
    }

    /// What was written, as a reader of snapshots wants it.
    fn written(&self) -> String {
        let mut text = String::new();
        let Ok(entries) = fs::read_dir(self.path("new")) else { return text };
        let mut written: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        written.sort();
        for path in written {
            let name = path.file_name().unwrap().to_str().unwrap();
            let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
            let bytes = fs::read(&path).unwrap();
            let loaded = config::inspect(&bytes, &path, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
            assert!(loaded.config.alone.is_some() != loaded.config.roots.iter().any(|root| !root.remotes.is_empty()));
            writeln!(text, "\n=== {name}, mode {mode:04o}").unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes).replace('\r', "\\r"));
        }
        text
    }

    /// This place taken out again. The carets below a path are cut to the mark's length.
    fn take_out(&self, text: &str) -> String {
        let place = self.0.path().display().to_string();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for index in 0..lines.len() {
            let shorter = lines[index].matches(&place).count() * place.len();
            if shorter > 0 {
                lines[index] = lines[index].replace(&place, "");
                if let Some(below) = lines.get_mut(index + 1).filter(|below| below.ends_with('^')) {
                    below.truncate(below.len() - shorter);
                }
            }
        }
        lines.join("\n") + "\n"
    }
}

fn said(output: &Output) -> String {
    String::from_utf8([output.stdout.as_slice(), &output.stderr].concat()).unwrap()
}

/// Holds what an import says and writes against the text beside `case`.
fn compare(place: &Place, case: &Path, output: &Output, wrong: &mut String) {
    let status = output.status.code().unwrap();
    let found = place.take_out(&format!("exit status {status}\n{}{}", said(output), place.written()));
    let beside = PathBuf::from(format!("{}.txt", case.display()));
    if std::env::var_os("SERSYNC_TEST_REWRITE").is_some() {
        fs::write(&beside, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&beside).unwrap_or_default();
    let (mut old, mut new) = (expected.lines(), found.lines());
    if let Some(line) = (1..).find_map(|number| match (old.next(), new.next()) {
        (None, None) => Some(None),
        (expected, found) if expected != found => {
            Some(Some(format!("line {number}: expected {expected:?}, found {found:?}")))
        }
        _ => None,
    }) {
        line.into_iter().for_each(|line| writeln!(wrong, "{}: {line}", beside.display()).unwrap());
    }
}

#[test]
fn set_ups_of_sersync_become_what_is_expected() {
    let mut wrong = String::new();
    for (case, rc) in [("seed", "rc.local"), ("odd", "crontab")] {
        let place = Place::new();
        for file in files(&corpus("sersync").join(case)) {
            place.bring(&file);
        }
        let password = place.write("rsync.password", b"s3cret\n");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o644)).unwrap();
        let before: Vec<Vec<u8>> = files(&place.path("old")).iter().map(|file| fs::read(file).unwrap()).collect();
        let output = place.import(&["sersync", &place.old(), "--rc", rc]);
        assert!(!said(&output).contains("s3cret"), "a password is shown: {}", said(&output));
        let after: Vec<Vec<u8>> = files(&place.path("old")).iter().map(|file| fs::read(file).unwrap()).collect();
        assert!(before == after, "{case}: an old file was changed");
        compare(&place, &corpus("sersync").join(case), &output, &mut wrong);
    }
    assert!(wrong.is_empty(), "\n{wrong}SERSYNC_TEST_REWRITE=1 writes the expected texts anew");
}

#[test]
fn configs_of_lsyncd_and_tables_of_incron_become_what_is_expected() {
    let mut wrong = String::new();
    for source in ["lsyncd", "incron"] {
        for file in files(&corpus(source)) {
            let place = Place::new();
            let brought = place.bring(&file);
            let output = place.import(&[source, brought.file_name().unwrap().to_str().unwrap()]);
            compare(&place, &file, &output, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}SERSYNC_TEST_REWRITE=1 writes the expected texts anew");
}

#[test]
fn a_config_that_needs_no_change_is_copied_byte_for_byte() {
    let place = Place::new();
    let file = place.bring(&corpus("sersync/odd/gbk.xml"));
    let output = place.import(&["sersync", "gbk.xml", "--rc", "/dev/null"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read(place.path("new/gbk.xml")).unwrap(), fs::read(&file).unwrap());
}

#[test]
fn another_file_is_replaced_only_when_that_is_asked_for() {
    let place = Place::new();
    let config = |module: &str| {
        format!(
            "<head><sersync><localpath watch=\"/a\"><remote ip=\"h\" name=\"{module}\"/></localpath></sersync></head>"
        )
    };
    place.write("www.xml", config("one").as_bytes());
    let import = |more: &[&str]| place.import(&[&["sersync", "www.xml", "--rc", "/dev/null"], more].concat());
    let target = place.path("new/www.xml");
    assert!(import(&[]).status.success());
    assert!(said(&import(&[])).contains("is there already"));
    place.write("www.xml", config("two").as_bytes());
    let refused = import(&[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("--force"), "{}", said(&refused));
    assert_eq!(fs::read_to_string(&target).unwrap(), config("one"));
    assert!(import(&["--dry-run"]).status.success());
    assert_eq!(fs::read_to_string(&target).unwrap(), config("one"));
    assert!(import(&["--force"]).status.success());
    assert_eq!(fs::read_to_string(&target).unwrap(), config("two"));
    assert_eq!(fs::read_dir(place.path("new")).unwrap().count(), 1, "something is left beside it");
}

#[test]
fn a_dry_run_prints_the_config_and_writes_nothing() {
    let place = Place::new();
    place.write("x.lua", b"sync{ default.rsync, source = '/srv/www', target = 'web::www' }\nprint(1)");
    let output = place.import(&["lsyncd", "x.lua", "--dry-run"]);
    assert!(!place.path("new").exists());
    let config =
        config::parse(&output.stdout, Path::new("x.xml")).unwrap_or_else(|mistakes| panic!("{mistakes}")).config;
    assert_eq!(config.roots[0].remotes[0].to_string(), "web::www");
    assert!(String::from_utf8_lossy(&output.stderr).contains("x.lua:2: not taken over: a call of print"));
}

#[test]
fn a_name_is_given_to_one_config_and_programs_read_json() {
    let place = Place::new();
    place.write("table", b"/srv/a IN_CREATE /bin/true\n/srv/b IN_CREATE /bin/true\n");
    let output = place.import(&["incron", "table", "--name", "x"]);
    assert!(said(&output).contains("there are 2 (a, b)"), "{}", said(&output));
    assert!(!place.path("new").exists());
    place.write("table", b"/srv/a IN_CREATE /bin/true\n");
    let output = place.import(&["incron", "table", "--name", "x", "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (json["configs"][0]["instance"].as_str(), json["configs"][0]["there"].as_bool()),
        (Some("x"), Some(true))
    );
    assert!(place.path("new/x.xml").exists());
    let output = place.import(&["incron", "table", "--name", "a/b"]);
    assert!(said(&output).contains("cannot name an instance"), "{}", said(&output));
}

#[test]
fn what_cannot_be_read_is_said_with_its_name() {
    let place = Place::new();
    place.write("latin.lua", b"sync{ default.rsync, source = '/caf\xe9', target = 'web::www' }");
    for (words, text) in [
        (&["sersync", "none.xml"][..], "none.xml: No such file"),
        (&["sersync", "."], "no file in it ends in .xml"),
        (&["sersync", "latin.lua", "--rc", "none"], "none: No such file"),
        (&["lsyncd", "latin.lua"], "save it as UTF-8"),
        (&["incron", "/"], "Is a directory"),
    ] {
        let output = place.import(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(said(&output).contains(text), "{words:?}: {}", said(&output));
    }
}

/// The config that comes of a lsyncd.conf.lua.
fn of_lsyncd(text: &str) -> config::Config {
    let place = Place::new();
    place.write("x.lua", text.as_bytes());
    let output = place.import(&["lsyncd", "x.lua", "--name", "x"]);
    assert!(output.status.success(), "{}", said(&output));
    config::load(&place.path("new/x.xml")).unwrap_or_else(|mistakes| panic!("{mistakes}")).config
}

#[test]
fn what_lsyncd_excludes_is_excluded() {
    let patterns = ["*.tmp", "/cache/", ".git/", "a b/[x&\"<>]?", "dir/**/deep", "'"];
    let words: Vec<String> = patterns.iter().map(|pattern| format!("[==[{pattern}]==]")).collect();
    let text =
        format!("sync{{ default.rsync, source='/srv/www', target='web::www', exclude={{ {} }} }}", words.join(", "));
    let config = of_lsyncd(&text);
    assert_eq!(*config.filter, Filter::none().and_excluding(patterns).unwrap());
    let excludes = |path: &str, kind| config.filter.excludes(&RelPath::new(path.as_ref()).unwrap(), kind);
    assert!(excludes("sub/x.tmp", EntryKind::NonDirectory) && excludes("cache", EntryKind::Directory));
    assert!(!excludes("sub/cache", EntryKind::Directory) && !excludes("x.txt", EntryKind::NonDirectory));
}

#[test]
fn what_lsyncd_declares_is_what_the_config_says() {
    let config = of_lsyncd(
        "settings{ maxProcesses = 7 }\nlocal host = 'web' .. 1\nsync{ default.rsyncssh, source='/srv/www/', host='me@' .. host, \
         targetdir='/srv/a b', delete='startup', delay=1.5, maxProcesses=2, rsync={ _extra={ \"--chmod=D755,F644\" } }, \
         ssh={ port=2222, options={ ProxyCommand=\"nc %h %p\" } } }",
    );
    let remote = Destination::Ssh {
        user: Some("me".to_owned()),
        host: "web1".to_owned(),
        port: Some(2222),
        directory: "/srv/a b".to_owned(),
    };
    assert_eq!((config.roots[0].path.as_path(), &config.roots[0].remotes[0]), (Path::new("/srv/www"), &remote));
    assert_eq!((config.agent.gather.as_millis(), config.agent.workers, config.agent.streams), (1500, 7, 2));
    assert_eq!((config.deletions, config.events.delete), (Deletions::FullSyncs, true));
    assert_eq!(config.rsync.params, ["-lt", "--chmod=D755,F644"]);
    assert_eq!(config.rsync.ssh, ["-o", "ProxyCommand=nc %h %p"]);
}

#[test]
fn what_lsyncd_would_not_mirror_is_not_mirrored_by_an_import() {
    let sync = |rest: &str| format!("sync{{ default.rsync, source='/srv/www', {rest} }}");
    for (rest, words) in [
        ("target='user@host'", "target \"user@host\" is a relative path"),
        ("target='backup'", "target \"backup\" is a relative path"),
        ("target='{{HOST}}::www'", "contains the template {{HOST}}"),
        ("target='$host::www'", "contains the template $host"),
        ("target='${host}:/srv'", "contains the template ${host}"),
        ("target='h::m', rsync={ _extra={'--remove-source-files'} }", "--remove-source-files"),
        ("target='h::m', rsync={ _extra={'--files-from=/list'} }", "--files-from"),
        ("target='h::m', rsync={ dry_run=true }", "dry_run"),
        ("target='h::m', rsync={ _extra={'-n'} }", "--dry-run"),
        ("target=5", "target is 5: expected a text in quotes"),
    ] {
        let place = Place::new();
        place.write("x.lua", sync(rest).as_bytes());
        let output = place.import(&["lsyncd", "x.lua", "--name", "x", "--dry-run"]);
        let told = said(&output);
        assert!(told.contains(words) && told.contains("the sync is left out"), "{rest}: {told}");
        assert!(!String::from_utf8_lossy(&output.stdout).contains("<localpath"), "{rest}: {told}");
    }
    let place = Place::new();
    place.write("x.lua", sync("target='h::m', rsync={ progress }").as_bytes());
    let told = said(&place.import(&["lsyncd", "x.lua", "--name", "x", "--dry-run"]));
    assert!(told.contains("without a name: write NAME = VALUE"), "{told}");
}

#[test]
fn rsh_of_lsyncd_keeps_what_ssh_says() {
    let config = of_lsyncd(
        "sync{ default.rsyncssh, source='/srv/www', host='web2', targetdir='/srv',
         ssh={ port=2222, identityFile='/etc/key', options={ Compression='yes' } },
         rsync={ archive=true, rsh='ssh -l backup -o ConnectTimeout=5' } }",
    );
    let ssh = config.rsync.ssh.join(" ");
    assert!(ssh.contains("-i /etc/key") && ssh.contains("Compression=yes"), "{ssh}");
    assert!(ssh.contains("ConnectTimeout=5"), "{ssh}");
    assert_eq!(config.roots[0].remotes[0].port(), Some(2222));
}

#[test]
fn truth_is_what_it_is_in_lua() {
    for (written, params) in
        [("1", "-a"), ("0", "-a"), ("'no'", "-a"), ("true", "-a"), ("false", "-lt"), ("nil", "-lt")]
    {
        let config = of_lsyncd(&format!(
            "sync{{ default.rsync, source='/srv/www', target='h::m', rsync={{ archive = {written} }} }}"
        ));
        assert_eq!(config.rsync.params, [params], "{written}");
    }
}

/// The names between backquotes in the first cell of a row.
fn names_in(row: &str) -> Vec<&str> {
    let cell = row.trim_start_matches('|').split('|').next().unwrap();
    cell.split('`').skip(1).step_by(2).filter(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_')).collect()
}

#[test]
fn every_option_of_the_documented_table_is_known() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/from-lsyncd.md")).unwrap();
    let mut section = "";
    let mut seen = 0;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading;
        }
        let wrap = |option: &str| match section {
            "In `settings`" => Some(format!("settings{{ {option} }}")),
            "In `sync`" => Some(format!("sync{{ default.rsync, source='/a', target='h::m', {option} }}")),
            "In `rsync = {…}`" => {
                Some(format!("sync{{ default.rsync, source='/a', target='h::m', rsync={{ {option} }} }}"))
            }
            "In `ssh = {…}`" => {
                Some(format!("sync{{ default.rsync, source='/a', target='h:/m', ssh={{ {option} }} }}"))
            }
            _ => None,
        };
        for name in
            names_in(line).into_iter().filter(|name| line.starts_with("| ") && !["true", "false"].contains(name))
        {
            let Some(lua) = wrap(&format!("{name} = 3")) else { continue };
            if section == "In `sync`" && ["host", "targetdir"].contains(&name) {
                continue;
            }
            seen += 1;
            let place = Place::new();
            place.write("x.lua", lua.as_bytes());
            let output = said(&place.import(&["lsyncd", "x.lua", "--dry-run"]));
            assert!(!output.contains("is known here"), "{section}, {name}: {output}");
        }
    }
    assert!(seen > 80, "the table was not found: {seen}");
}

#[test]
fn an_imported_table_runs_its_commands_with_any_name() {
    let place = Place::new();
    let (source, heard) = (place.path("source"), place.path("heard"));
    fs::create_dir(&source).unwrap();
    let tell = place
        .write("tell", format!("#!/bin/sh\nprintf '%s %s\\n' \"$1\" \"$2\" >> '{}'\n", heard.display()).as_bytes());
    fs::set_permissions(&tell, fs::Permissions::from_mode(0o755)).unwrap();
    let (watched, tell) = (source.display(), tell.display());
    let mask = "IN_CLOSE_WRITE,loopable=true";
    let table = format!("{watched} {mask} {tell} words $@/$#\n{watched} {mask} {tell} shell \"$@/$#\" && true\n");
    place.write("table", table.as_bytes());
    let output = place.import(&["incron", "table"]);
    assert!(output.status.success(), "{}", said(&output));
    let configs = ["source", "source-2"].map(|name| place.path("new").join(format!("{name}.xml")));
    let agents = [0, 1].map(|n| Launch::new(&place.path(&format!("agent-{n}"))).config(&configs[n]).start());
    let path = source.join("sub/$(touch owned)`touch owned`\"';x");
    put(&path, "x");
    eventually("both commands", SOON, || {
        let told = fs::read_to_string(&heard).unwrap_or_default();
        let lacks = ["words", "shell"].into_iter().find(|kind| !told.contains(&format!("{kind} {}\n", path.display())));
        lacks.map_or(Ok(()), |kind| Err(format!("{kind} is missing in {told}")))
    });
    assert!(!place.path("agent-1/owned").exists() && !source.join("owned").exists());
    // A running agent does not become a mirror, nor a mirror a plugin's.
    let text = fs::read_to_string(&configs[0]).unwrap();
    let remote = format!("><remote directory=\"{}\"/></localpath>", place.path("copy").display());
    let text = text.replace(" alone=\"true\"", "").replacen(
        "/>\n        <plugin start",
        &format!("{remote}\n        <plugin start"),
        1,
    );
    fs::write(&configs[0], text).unwrap();
    agents[0].signal(Signal::SIGHUP);
    agents[0].wait_logged("restart the agent");
}

/// A script that adds its arguments, each followed by a NUL byte, and a newline at their end, to a file.
fn recorder(place: &Place) -> (PathBuf, PathBuf) {
    let (program, heard) = (place.path("record"), place.path("heard"));
    let text = format!("#!/bin/sh\nprintf '%s\\0' \"$@\" END >> '{}'\n", heard.display());
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, heard)
}

/// Whether a run left these arguments with a [`recorder`].
fn has_heard(heard: &Path, arguments: &[&[u8]]) -> bool {
    let bytes = fs::read(heard).unwrap_or_default();
    let run: Vec<u8> = arguments.iter().chain(&[&b"END"[..]]).flat_map(|word| [*word, b"\0"].concat()).collect();
    bytes.windows(run.len()).any(|window| window == run)
}

fn owned_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            owned_files(&entry.path(), found);
        } else if entry.file_name() == "owned" {
            found.push(entry.path());
        }
    }
}

#[test]
fn no_file_name_is_run_by_an_imported_table() {
    let place = Place::new();
    let (record, heard) = recorder(&place);
    let (source, copies, work) = (place.path("source"), place.path("copies"), place.path("work"));
    for directory in [&source, &copies, &work] {
        fs::create_dir(directory).unwrap();
    }
    let (record, copies, done) = (record.display(), copies.display(), place.path("done"));
    let lines = [
        format!("{record} word -x $@/$#"),
        format!("{record} parts '$@' \"$#\" $%"),
        format!("cd / && {record} list $@/$#; true"),
        format!("{record} target $@/$# {copies}/$#.bak >>{copies}/log 2>&1"),
        format!("sh -c '{record} script \"$$1\"' sh $@/$#"),
        format!("cat >{}; sh; bash -s", done.display()),
    ];
    let table: String =
        lines.iter().map(|line| format!("{} IN_CLOSE_WRITE,loopable=true {line}\n", source.display())).collect();
    place.write("table", table.as_bytes());
    let output = place.import(&["incron", "table"]);
    assert!(output.status.success(), "{}", said(&output));
    let agents: Vec<_> = (0..lines.len())
        .map(|n| {
            let name = if n == 0 { "source".to_owned() } else { format!("source-{}", n + 1) };
            let config = place.path("new").join(format!("{name}.xml"));
            Launch::new(&place.path(&format!("agent-{n}"))).config(&config).working_directory(&work).start()
        })
        .collect();
    let names: [&[u8]; 20] = [
        b"x'+str(__import__('os').system('touch owned'))+'",
        b"$(touch owned)",
        b"`touch owned`",
        b"a;touch owned",
        b"b\ntouch owned\n",
        b"\ntouch owned #",
        b"-rf",
        b"--help",
        b"-e touch owned",
        b"|touch owned",
        b"touch owned|",
        b"+!touch owned",
        b"@x",
        b"\";touch owned;\"",
        b"';touch owned;'",
        b"x[$(touch owned)]",
        b"*",
        b" a  b ",
        b"\xff\xfe&touch owned&",
        b".hidden",
    ];
    for name in names {
        support::plugins::put_bytes(&source, name);
    }
    for name in names {
        let path = [source.as_os_str().as_bytes(), b"/", name].concat();
        let bare = match name[0].is_ascii_alphanumeric() || name[0] == b'.' || !name[0].is_ascii() {
            true => name.to_vec(),
            false => [b"./", name].concat(),
        };
        let copy = [copies.to_string().as_bytes(), b"/", name, b".bak"].concat();
        let expected: [&[&[u8]]; 5] = [
            &[b"word", b"-x", &path],
            &[b"parts", source.as_os_str().as_bytes(), &bare, b"CLOSE_WRITE"],
            &[b"list", &path],
            &[b"target", &path, &copy],
            &[b"script", &path],
        ];
        for arguments in expected {
            let what = arguments.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
            until(&what, SOON, || has_heard(&heard, arguments));
        }
    }
    until("the command without a variable", SOON, || done.exists());
    assert_eq!(fs::read(&done).unwrap(), b"", "a command without a variable has read the names");
    let mut owned = Vec::new();
    owned_files(place.0.path(), &mut owned);
    assert!(owned.is_empty(), "{owned:?}");
    drop(agents);
}

/// Commands of which a file name could become a part, each with the word or syntax that is named.
const CODE: [(&str, &str); 74] = [
    // Texts of interpreters, whatever their names.
    ("python3 -c \"print('$@/$#')\"", "\"print('$@/$#')\""),
    ("python3.11 -c 'print(\"$#\")'", "'print(\"$#\")'"),
    ("node -e \"console.log('$#')\"", "\"console.log('$#')\""),
    ("php -r 'echo \"$@/$#\";'", "'echo \"$@/$#\";'"),
    ("psql -c \"select '$#'\"", "\"select '$#'\""),
    ("mysql -e \"insert into t values('$#')\"", "\"insert into t values('$#')\""),
    ("flock /tmp/l -c 'gzip $@/$#'", "'gzip $@/$#'"),
    ("runuser -u www -c 'gzip $@/$#'", "'gzip $@/$#'"),
    ("watch 'ls $@/$#'", "'ls $@/$#'"),
    ("parallel 'gzip {}' ::: $@/$#", "$@/$#"),
    ("script -c 'gzip $@/$#' /dev/null", "'gzip $@/$#'"),
    ("eval \"gzip $@/$#\"", "eval"),
    ("ssh web \"rm $@/$#\"", "\"rm $@/$#\""),
    ("sh -c \"gzip $@/$# && rm $@/$#\"", "\"gzip $@/$# && rm $@/$#\""),
    ("perl -e 'unlink \"$@/$#\"'", "'unlink \"$@/$#\"'"),
    ("gawk \"BEGIN{print \\\"$#\\\"}\"", "\"BEGIN{print \\\"$#\\\"}\""),
    ("sed -i 's/x/$#/e' /srv/list", "'s/x/$#/e'"),
    ("sed -i s/x/$#/e /srv/list", "s/x/$#/e"),
    ("sed -n /x/e$# /srv/list", "/x/e$#"),
    ("unknown-language --eval=\"f('$#')\"", "--eval=\"f('$#')\""),
    ("/opt/own-tool run:$@/$#", "run:$@/$#"),
    ("rsync --rsh=$@/$# a b", "--rsh=$@/$#"),
    ("perl -e$#", "-e$#"),
    ("ssh -oProxyCommand=$# web", "-oProxyCommand=$#"),
    ("scp $@/$# web:/srv/$#", "web:/srv/$#"),
    ("curl -F file=@$@/$# http://h/", "file=@$@/$#"),
    ("mail -s \"new $#\" root", "\"new $#\""),
    ("logger 'packed $#'", "'packed $#'"),
    ("cp $@/$# backup/$#", "backup/$#"),
    ("cp $@/$# $#.bak", "$#.bak"),
    ("cp $@/$# '/b/;$#'", "'/b/;$#'"),
    ("make FILE=$@/$#", "FILE=$@/$#"),
    ("run $@/$#$%", "$@/$#$%"),
    ("run $#$#", "$#$#"),
    ("run $@$#x=1", "$@$#x=1"),
    // Whole words that are run.
    ("ssh host ls $@/$#", "$@/$#"),
    ("sudo /usr/bin/ssh -p 22 host ls $@", "$@"),
    ("sh -c $@/$#", "$@/$#"),
    ("bash -ec '$#'", "'$#'"),
    ("sh $@/$#", "$@/$#"),
    ("su bob -c $@/$#", "$@/$#"),
    ("watch $@/$#", "$@/$#"),
    ("make -C $@ $#", "$@"),
    ("python3 -c $#", "$#"),
    ("perl -ne print $@/$#", "$@/$#"),
    ("sqlite3 /srv/db $#", "$#"),
    ("sed $@/$# /srv/list", "$@/$#"),
    ("env -S $@/$#", "$@/$#"),
    ("nice bash -c -- $@/$#", "$@/$#"),
    ("sh -c 'eval \"$$1\"' sh $@/$#", "$@/$#"),
    ("sh -c 'ssh web rm \"$$1\"' sh $@/$#", "$@/$#"),
    ("find $@/$# -exec sh -c 'gzip {}' ';'", "gzip {}"),
    ("$@/$#", "$@/$#"),
    ("/usr/local/bin/$# x", "/usr/local/bin/$#"),
    // Syntax and builtins of the shell.
    ("echo \"$#\" | sh", "|"),
    ("echo $@/$# | logger", "|"),
    ("run $$(cat $@/$#)", "$(cat"),
    ("run `cat $@/$#`", "`cat"),
    ("run <(cat $@/$#)", "<"),
    ("sh <<<$@/$#", "<"),
    ("run $@/$# &", "&"),
    ("[[ $# -eq 1 ]] && true", "[["),
    ("(run $@/$#)", "(run"),
    ("if true; then run $@/$#; fi", "if"),
    ("X=$# run", "X=$#"),
    ("run $@/*", "$@/*"),
    ("run \\$#", "\\$#"),
    ("run \"\\$#\"", "\\$#\""),
    ("run '$#", "a quote is not closed"),
    ("let $#", "let"),
    ("source $@/$#", "source"),
    ("exec $@/$#", "exec"),
    ("export $#", "export"),
    ("test -f $@/$# && . $@/$#", "."),
];

#[test]
fn a_command_that_a_file_name_could_become_a_part_of_is_refused() {
    let place = Place::new();
    let table: String = CODE.iter().map(|(command, _)| format!("/srv/in IN_CLOSE_WRITE {command}\n")).collect();
    place.write("table", table.as_bytes());
    let output = place.import(&["incron", "table"]);
    let text = said(&output);
    assert_eq!((output.status.code(), place.path("new").exists()), (Some(1), false), "{text}");
    for (index, (command, named)) in CODE.iter().enumerate() {
        let start = format!("table:{}: not taken over: ", index + 1);
        let line =
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_else(|| panic!("{command}: {text}"));
        assert!(line.contains(named), "{command}: {line}");
        assert!(line.contains("write a script that reads the path from \"$1\"") || line.contains("a quote"), "{line}");
    }
}

#[test]
fn a_users_table_is_for_that_users_own_instances() {
    let place = Place::new();
    let spool = place.path("old/spool/incron");
    fs::create_dir_all(&spool).unwrap();
    for user in ["alice", "root"] {
        fs::write(spool.join(user), "/srv/in IN_CREATE /usr/local/bin/run $@/$#\n").unwrap();
    }
    std::os::unix::fs::symlink("spool/incron/alice", place.path("old/link")).unwrap();
    let advice = "as alice: incrontab -l >table && sersyncctl --user import incron table";
    for words in [&["incron", "spool/incron/alice"][..], &["incron", "link"], &["--user", "incron", "link"]] {
        let output = place.import(words);
        assert_eq!((output.status.code(), place.path("new").exists()), (Some(1), false), "{}", said(&output));
        assert!(said(&output).contains(advice) && !said(&output).contains("User="), "{}", said(&output));
    }
    let output = place.import(&["incron", "spool/incron/root"]);
    assert!(output.status.success() && place.path("new/in.xml").exists(), "{}", said(&output));
    assert!(said(&output).contains("runs them as user sersync"), "{}", said(&output));
    for drop_in in ["plugin-writes.conf", "plugin-user.conf"] {
        assert!(said(&output).contains(drop_in), "{drop_in}: {}", said(&output));
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/drop-ins").join(drop_in).exists());
    }
}

#[test]
fn a_user_imports_the_own_table() {
    let place = Place::new();
    let spool = place.path("old/spool/incron");
    fs::create_dir_all(&spool).unwrap();
    let me = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).unwrap().unwrap().name;
    fs::write(spool.join(&me), "/srv/in IN_CREATE /usr/local/bin/run $@/$#\n").unwrap();
    let output = place.import(&["--user", "incron", &format!("spool/incron/{me}")]);
    assert!(output.status.success() && place.path("new/in.xml").exists(), "{}", said(&output));
    assert!(!said(&output).contains("runs them as user sersync"), "{}", said(&output));
}

#[test]
fn a_file_that_is_too_large_is_refused_as_a_whole() {
    let place = Place::new();
    let table = "/srv/in IN_CREATE /bin/true\n".repeat(4 * 1024 * 1024 / 28 + 1);
    for name in ["table", "x.lua", "x.xml", "rc"] {
        place.write(name, table.as_bytes());
    }
    place.write("small.xml", b"<head/>");
    for words in [
        &["incron", "table"][..],
        &["lsyncd", "x.lua"],
        &["sersync", "x.xml", "--rc", "/dev/null"],
        &["sersync", "small.xml", "--rc", "rc"],
    ] {
        let output = place.import(words);
        assert_eq!((output.status.code(), place.path("new").exists()), (Some(1), false), "{words:?}");
        assert!(said(&output).contains("is larger than 4 MiB"), "{words:?}: {}", said(&output));
    }
}

/// The config that comes of one line of a table.
fn of_incron(line: &str) -> config::Config {
    let place = Place::new();
    place.write("table", line.as_bytes());
    let output = place.import(&["incron", "table", "--name", "x"]);
    assert!(output.status.success(), "{line}: {}", said(&output));
    config::load(&place.path("new/x.xml")).unwrap_or_else(|mistakes| panic!("{mistakes}")).config
}

#[test]
fn paths_and_masks_mean_what_they_mean_in_incron() {
    let excludes = |line: &str, path: &str| {
        of_incron(line).filter.excludes(&RelPath::new(path.as_ref()).unwrap(), EntryKind::Directory)
    };
    for (line, sub, hidden) in [
        ("/srv/in IN_CREATE run $@/$#", false, true),
        ("/srv/in IN_CREATE,dotdirs=true run $@/$#", false, false),
        ("/srv/in IN_CREATE,dotdirs=1 run $@/$#", false, true),
        ("/srv/in IN_CREATE,recursive=false run", true, true),
        ("/srv/in IN_CREATE,recursive=0 run", false, true),
        ("/srv/in 256,recursive=false run", false, true),
        ("/srv/.in IN_CREATE run", false, true),
        // rsync sends the whole tree, whatever incron watches; of one entry, what incron watches.
        ("/srv/in IN_CREATE rsync -a --delete /srv/in/ web::in", false, false),
        ("/srv/in IN_CREATE,recursive=false rsync -a --delete $@/ web::in", false, false),
        ("/srv/in IN_CREATE rsync -a $@/$# web::in", false, true),
    ] {
        assert_eq!((excludes(line, "a/sub"), excludes(line, ".hidden")), (sub, hidden), "{line}");
    }
    let config = of_incron("/home/u1/Music/*.mp3 IN_MOVED_TO play $@/$#");
    assert_eq!(config.roots[0].path, Path::new("/home/u1/Music"));
    let expression = &config.plugins.command.as_ref().unwrap().include.as_ref().unwrap()[0];
    let matches = |path: &str| regex::Regex::new(&format!("^(?:{expression})$")).unwrap().is_match(path);
    for path in ["/home/u1/Music/a.mp3", "/home/u1/Music/album.mp3/x\ny", "/home/u1/Music/b.c.mp3"] {
        assert!(matches(path), "{path}");
    }
    for path in ["/home/u1/Music/a.ogg", "/home/u1/Music/x/a.mp3", "/home/u1/Music/.mp3", "/home/u1/Music"] {
        assert!(!matches(path), "{path}");
    }
    let place = Place::new();
    for (line, text) in [
        ("/srv/*/x IN_CREATE,recursive=false run", "watches nothing"),
        ("/*/x IN_CREATE run", "the whole file system"),
        ("/srv/[ab] IN_CREATE run", "is a wildcard"),
        ("/srv/* IN_CREATE run $#", "only $@/$# is known"),
        ("/srv/a IN_CREATE run $&", "$& (the event as a number)"),
    ] {
        place.write("table", line.as_bytes());
        let output = place.import(&["incron", "table"]);
        assert!(output.status.code() == Some(1) && said(&output).contains(text), "{line}: {}", said(&output));
    }
}
