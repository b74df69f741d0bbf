//! Every file of tests/configs is read, and what comes of it, config or mistakes, is compared with the text beside it.
//!
//! `SERSYNC_TEST_REWRITE=1 cargo test --test config` writes those texts anew; read the difference before you commit it.

use proptest::prelude::*;
use sersync::config::{self, Destination, EventSwitches, Loaded, Severity, When};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Password files, good and bad, a file of patterns, and the marks that stand for them in the configs.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8], u32); 5] = [
            ("good", b"s3cret\n", 0o600),
            ("open", b"s3cret\n", 0o644),
            ("empty", b"\n", 0o600),
            ("binary", b"\xff\n", 0o600),
            ("patterns", b"# kept apart\n*.tmp\n\n+ keep\n", 0o644),
        ];
        for (name, content, mode) in files {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn marks(&self) -> [(&'static str, String); 6] {
        [
            ("@PASSWORD@", self.path("good")),
            ("@OPEN_PASSWORD@", self.path("open")),
            ("@EMPTY_PASSWORD@", self.path("empty")),
            ("@MISSING_PASSWORD@", self.path("missing")),
            ("@BINARY_PASSWORD@", self.path("binary")),
            ("@PATTERNS@", self.path("patterns")),
        ]
    }

    /// Bytes, because some configs are not UTF-8.
    fn fill_in(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        for (mark, path) in self.marks() {
            while let Some(at) = bytes.windows(mark.len()).position(|window| window == mark.as_bytes()) {
                bytes.splice(at..at + mark.len(), path.bytes());
            }
        }
        bytes
    }

    /// The reverse, for text. The carets below a path that was taken out are cut to the mark's length.
    fn take_out(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for (mark, path) in self.marks() {
            for index in 0..lines.len() {
                if lines[index].contains(&path) {
                    lines[index] = lines[index].replace(&path, mark);
                    if let Some(below) = lines.get_mut(index + 1) {
                        *below = below.replace(&"^".repeat(path.len()), &"^".repeat(mark.len()));
                    }
                }
            }
        }
        lines.join("\n") + "\n"
    }
}

fn corpus() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "xml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// What is told of a config: its mistakes, and if it can be used the config itself.
fn told(bytes: &[u8], name: &str) -> String {
    let mut text = String::new();
    match config::parse(bytes, Path::new(name)) {
        Ok(Loaded { config, warnings }) => {
            for warning in warnings {
                writeln!(text, "{warning}").unwrap();
            }
            writeln!(text, "{config:#?}").unwrap();
        }
        Err(mistakes) => {
            assert!(mistakes.0.iter().any(|mistake| mistake.severity == Severity::Error), "{name}");
            writeln!(text, "{mistakes}").unwrap();
        }
    }
    text
}

/// The lines that differ, each with its number; the whole texts are in the files.
fn difference(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), found.lines().collect());
    let same_start = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let rest = expected.len().min(found.len()) - same_start;
    let same_end = expected.iter().rev().zip(found.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    for (sign, lines) in [('-', &expected), ('+', &found)] {
        for (number, line) in lines.iter().enumerate().take(lines.len() - same_end).skip(same_start) {
            writeln!(text, "{sign} {:4} {line}", number + 1).unwrap();
        }
    }
    text
}

#[test]
fn every_config_of_the_corpus_is_read_as_expected() {
    let files = Files::new();
    let mut wrong = String::new();
    for file in corpus() {
        let name = file.file_name().unwrap().to_str().unwrap();
        let found = files.take_out(&told(&files.fill_in(fs::read(&file).unwrap()), name));
        assert!(!found.contains("s3cret"), "{name} shows a password:\n{found}");
        assert_eq!(
            name.starts_with("broken"),
            !found.contains("\nConfig {") && !found.starts_with("Config {"),
            "{found}"
        );
        let beside = file.with_extension("txt");
        if std::env::var_os("SERSYNC_TEST_REWRITE").is_some() {
            fs::write(&beside, found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if expected != found {
            writeln!(wrong, "{name} (- expected, + found):\n{}", difference(&expected, &found)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}SERSYNC_TEST_REWRITE=1 writes the expected texts anew");
}

#[test]
fn encodings_of_one_config_make_one_config() {
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(name);
        told(&fs::read(path).unwrap(), "same.xml")
    };
    let utf8 = read("chinese-utf8-declared-latin1.xml");
    assert!(utf8.contains("/data/图片"), "{utf8}");
    assert_eq!(utf8, read("chinese-gbk-declared-latin1.xml"));
    assert_eq!(utf8, read("chinese-gbk-declared-gb2312.xml"));
}

#[test]
fn the_examples_have_nothing_to_complain_of() {
    let files = Files::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut seen = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&path).unwrap().replace("/etc/sersync/rsync.password", &files.path("good"));
        let loaded = config::parse(text.as_bytes(), &path).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings[0]);
        assert!(loaded.config.roots.iter().all(|root| !root.remotes.is_empty()));
        assert!(loaded.config.notes.is_empty(), "{:?}", loaded.config.notes);
    }
    assert_eq!(seen, 4);
}

#[test]
fn what_is_switched_on_without_a_value_has_its_default() {
    let text = r#"<head><sersync><localpath watch="/a"><remote ip="h" name="m"/></localpath><crontab start="true"/>
        <rsync><userDefinedPort start="true"/><timeout start="true"/></rsync></sersync></head>"#;
    let config = config::parse(text.as_bytes(), Path::new("x.xml")).unwrap().config;
    assert!(matches!(&config.roots[0].remotes[0], Destination::Daemon { port: Some(874), .. }));
    assert_eq!(config.rsync.timeout, Some(Duration::from_secs(100)));
    assert_eq!(config.crontab.unwrap().when, When::Every(Duration::from_secs(600 * 60)));
    assert_eq!(config.events, EventSwitches::SHIPPED);
    assert_eq!(config.rsync.params, ["-atz"]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_as_well() {
    let place = tempfile::tempdir().unwrap();
    let missing = config::load(&place.path().join("none.xml")).unwrap_err().to_string();
    assert!(missing.contains("none.xml: error: the config cannot be read: No such file"), "{missing}");
    assert!(config::load(place.path()).is_err());
    assert!(config::load(Path::new("/dev/zero")).unwrap_err().to_string().contains("not a regular file"));
    let large = place.path().join("large.xml");
    std::fs::File::create(&large).unwrap().set_len(5 << 20).unwrap();
    assert!(config::load(&large).unwrap_err().to_string().contains("more than 4 MiB"));
}

/// Two mistakes whose files would be no text that anybody reads.
#[test]
fn a_nul_byte_and_a_file_full_of_mistakes_are_told() {
    let nul = config::parse(b"<head version=\"\0\"/>", Path::new("x.xml")).unwrap_err().to_string();
    assert!(nul.contains("x.xml:1:16: error: the value holds a NUL byte"), "{nul}");
    let none = config::parse("<x/>".repeat(600).as_bytes(), Path::new("x.xml")).unwrap_err();
    let last = none.0.last().map(ToString::to_string).unwrap_or_default();
    assert!(last.contains("500 mistakes were found"), "{last}");
}

/// Whatever the bytes are, an answer comes, and it can be shown.
fn check_answer(bytes: &[u8]) {
    match config::parse(bytes, Path::new("x.xml")) {
        Ok(loaded) => {
            assert!(!loaded.config.roots.is_empty());
            let is_alone = loaded.config.alone.is_some();
            let is_good = |root: &config::Root| root.path.is_absolute() && root.remotes.is_empty() == is_alone;
            assert!(loaded.config.roots.iter().all(is_good));
            assert!(loaded.warnings.iter().all(|warning| warning.severity == Severity::Warning));
        }
        Err(mistakes) => {
            assert!(mistakes.0.iter().any(|mistake| mistake.severity == Severity::Error));
            assert!(mistakes.to_string().starts_with("x.xml:"));
        }
    }
}

/// Pieces that configs are made of: a random order of them is nearer to a config than random bytes.
const PIECES: &[&str] = &[
    "<head>",
    "</head>",
    "<sersync>",
    "</sersync>",
    "<localpath watch=\"/a\">",
    "</localpath>",
    "<remote ip=\"h\" name=\"m\"/>",
    "<remote ",
    "ip=",
    "\"",
    "'",
    "<",
    ">",
    "/>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?",
    "?>",
    "<!DOCTYPE x [",
    "&",
    "&amp;",
    "&#0;",
    "=",
    "\n",
    "图",
    "\u{feff}",
    "<rsync>",
    "</rsync>",
    "<commonParams params=\"-a\"/>",
    "start=\"true\"",
    "<filter start=\"true\">",
    "<exclude expression=\"(\"/>",
    "passwd=\"",
    "\0",
    "“",
    "”",
    "\u{a0}",
    "＝",
    "＜remote ",
    "／＞",
    "<!——",
    "——>",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        check_answer(&bytes);
    }

    #[test]
    fn any_order_of_pieces_gets_an_answer(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60)) {
        check_answer(pieces.concat().as_bytes());
    }

    #[test]
    fn damaged_configs_get_an_answer(
        file in proptest::sample::select(corpus()),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..12usize, proptest::collection::vec(any::<u8>(), 0..6)), 1..6),
    ) {
        let mut bytes = fs::read(file).unwrap();
        for (at, length, instead) in damage {
            let at = at.index(bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, instead);
        }
        check_answer(&bytes);
    }
}

#[test]
fn deep_and_wide_files_get_an_answer() {
    check_answer("<head>".repeat(100_000).as_bytes());
    check_answer(format!("<head>{}</head>", "<x/>".repeat(2_000)).as_bytes());
    // Each of these tags is broken and ends at the next: a reader that looked to the end for each would take minutes.
    check_answer("<head a".repeat(100_000).as_bytes());
    for never_closed in ["<!——", "<a b=“", "<?", "<![CDATA[", "＜a b＝"] {
        check_answer(never_closed.repeat(20_000).as_bytes());
    }
}
