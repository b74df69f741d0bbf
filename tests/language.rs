//! The Chinese catalogue holds every text that people are told, and fits it.
//!
//! `SERSYNC_TEST_REWRITE=1 cargo test --test language` brings `po/zh_CN.po` into the order of the source: what is new comes
//! in without a translation, what is gone goes.

use clap::{Command, CommandFactory};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/po/zh_CN.po");

/// A text of the source, with its plural where it has one.
type Text = (String, Option<String>);

/// Where a text stands, and the names of its arguments.
#[derive(Debug)]
struct Use {
    text: Text,
    place: String,
    arguments: Option<BTreeSet<String>>,
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Rust text being read: what a macro was given.
struct Reader<'t>(&'t str);

impl<'t> Reader<'t> {
    fn skip_blanks(&mut self) {
        self.0 = self.0.trim_start();
    }

    /// A string literal, unescaped.
    fn literal(&mut self) -> Option<String> {
        self.skip_blanks();
        let mut text = String::new();
        let mut rest = self.0.strip_prefix('"')?.chars();
        loop {
            match rest.next()? {
                '"' => break,
                '\\' => match rest.next()? {
                    'n' => text.push('\n'),
                    // The line goes on in the next one, without its blanks.
                    '\n' => rest = rest.as_str().trim_start().chars(),
                    same @ ('"' | '\\') => text.push(same),
                    other => panic!("the escape \\{other} is not read here: {text}"),
                },
                other => text.push(other),
            }
        }
        self.0 = rest.as_str();
        Some(text)
    }

    /// All up to a comma or a closing bracket of our own level.
    fn expression(&mut self) -> &'t str {
        let (mut depth, mut at, bytes) = (0, 0, self.0.as_bytes());
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    let mut literal = Reader(&self.0[at..]);
                    literal.literal().unwrap();
                    at = self.0.len() - literal.0.len();
                    continue;
                }
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' if depth == 0 => break,
                b')' | b']' | b'}' => depth -= 1,
                b',' if depth == 0 => break,
                _ => {}
            }
            at += 1;
        }
        let expression = self.0[..at].trim();
        self.0 = &self.0[at..];
        expression
    }

    fn sign(&mut self, sign: char) -> bool {
        self.skip_blanks();
        let rest = self.0.strip_prefix(sign);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

/// Every `tr!` of a source file.
fn uses_in(file: &Path, found: &mut Vec<Use>) {
    let source = std::fs::read_to_string(file).unwrap();
    let shown = file.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
    let marks = source.match_indices("tr!(").chain(source.match_indices("text!("));
    for (at, mark) in marks {
        let before = source[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '`') {
            continue;
        }
        let mut reader = Reader(&source[at + mark.len()..]);
        let Some(one) = reader.literal() else {
            // A text of a table, where it stands in text!().
            let name = reader.0.split(')').next().unwrap();
            assert!(["remedy", "why", "reason", "instead"].contains(&name), "{shown}: tr!({name})");
            continue;
        };
        let plural = reader.sign('|').then(|| reader.literal().unwrap());
        let mut arguments = BTreeSet::new();
        if plural.is_some() {
            assert!(reader.sign('%'), "{shown}: {one}");
            reader.expression();
        }
        while reader.sign(',') {
            reader.skip_blanks();
            let argument = reader.expression();
            let name = argument.split('=').next().unwrap().trim();
            if !name.is_empty() {
                arguments.insert(name.to_owned());
            }
        }
        found.push(Use { text: (one, plural), place: shown.clone(), arguments: Some(arguments) });
    }
}

/// Every text of a command's help.
fn texts_of(command: &Command, found: &mut Vec<Use>) {
    let mut add = |text: String| {
        found.push(Use { text: (text, None), place: format!("{} --help", command.get_name()), arguments: None });
    };
    let of_command = [command.get_about(), command.get_long_about(), command.get_after_help()];
    of_command.into_iter().flatten().for_each(|text| add(text.to_string()));
    for argument in command.get_arguments() {
        [argument.get_help(), argument.get_long_help()].into_iter().flatten().for_each(|text| add(text.to_string()));
        argument.get_help_heading().into_iter().for_each(|heading| add(heading.to_owned()));
    }
    command.get_subcommands().for_each(|subcommand| texts_of(subcommand, found));
}

fn all_uses() -> Vec<Use> {
    let mut found = Vec::new();
    texts_of(&sersync::ctl::Cli::command(), &mut found);
    texts_of(&sersync::cli::Cli::command(), &mut found);
    for word in sersync::language::help::CLAPS_WORDS {
        found.push(Use { text: (word.to_owned(), None), place: "clap".to_owned(), arguments: None });
    }
    for remedy in sersync::transport::remedies() {
        found.push(Use {
            text: (remedy.to_owned(), None),
            place: "src/transport/fault.rs".to_owned(),
            arguments: None,
        });
    }
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files.iter().for_each(|file| uses_in(file, &mut found));
    assert!(found.len() > 200, "the source is no longer read: {}", found.len());
    found
}

/// The catalogue: each text's translation.
fn catalogue() -> BTreeMap<Text, String> {
    let read = polib::po_file::parse(Path::new(CATALOGUE)).unwrap();
    let entries = read.messages().map(|entry| match entry.msgid_plural() {
        Ok(plural) => {
            let forms = entry.msgstr_plural().unwrap();
            assert_eq!(forms.len(), 1, "{plural}: Chinese has one form");
            ((entry.msgid().to_owned(), Some(plural.to_owned())), forms[0].clone())
        }
        Err(_) => ((entry.msgid().to_owned(), None), entry.msgstr().unwrap().to_owned()),
    });
    entries.collect()
}

/// `{name}` of a text.
fn placeholders(text: &str) -> BTreeSet<String> {
    let names = text.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0.to_owned()));
    // `rsync = {…}` is none.
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).collect()
}

#[test]
fn every_text_has_its_translation() {
    let uses = all_uses();
    let known = catalogue();
    if std::env::var_os("SERSYNC_TEST_REWRITE").is_some() {
        // At once, for the tests beside this one.
        let beside = format!("{CATALOGUE}.new");
        std::fs::write(&beside, written(&uses, &known)).unwrap();
        std::fs::rename(&beside, CATALOGUE).unwrap();
        return;
    }
    let wanted: BTreeSet<&Text> = uses.iter().map(|one| &one.text).collect();
    let missing: Vec<_> = wanted.iter().filter(|text| known.get(**text).is_none_or(String::is_empty)).collect();
    assert!(missing.is_empty(), "without a translation: {missing:#?}");
    let idle: Vec<_> = known.keys().filter(|text| !wanted.contains(text)).collect();
    assert!(idle.is_empty(), "translated, and in no source: {idle:#?}");
}

#[test]
fn a_translation_has_what_its_text_has() {
    for ((one, many), translation) in catalogue() {
        let source = many.as_ref().unwrap_or(&one);
        assert_eq!(placeholders(source), placeholders(&translation), "{source}");
        assert_eq!(source.ends_with('\n'), translation.ends_with('\n'), "{source}");
        // What is typed is not translated.
        for command in ["sersyncctl ", "systemctl ", "--dry-run", "--force", "TMPDIR", "rsyncd.conf"] {
            assert_eq!(source.contains(command), translation.contains(command), "{source}");
        }
    }
}

#[test]
fn every_argument_has_its_place() {
    for Use { text: (one, many), place, arguments } in all_uses() {
        let Some(arguments) = arguments else { continue };
        let texts = placeholders(&one).union(&placeholders(many.as_deref().unwrap_or(&one))).cloned().collect();
        assert_eq!(arguments, texts, "{place}: {one}");
    }
}

/// The catalogue as text, in the order of the source.
fn written(uses: &[Use], known: &BTreeMap<Text, String>) -> String {
    let quoted = |text: &str| {
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n\"\n\"");
        if escaped.contains('\n') { format!("\"\"\n\"{escaped}\"") } else { format!("\"{escaped}\"") }
    };
    let mut text = HEADER.to_owned();
    let mut seen = BTreeSet::new();
    for one in uses {
        let (single, plural) = &one.text;
        if !seen.insert(&one.text) {
            continue;
        }
        let translation = quoted(known.get(&one.text).map_or("", String::as_str));
        writeln!(text, "\n#: {}\nmsgid {}", one.place, quoted(single)).unwrap();
        match plural {
            None => writeln!(text, "msgstr {translation}").unwrap(),
            Some(plural) => writeln!(text, "msgid_plural {}\nmsgstr[0] {translation}", quoted(plural)).unwrap(),
        }
    }
    text
}

const HEADER: &str = r#"# What sersync and sersyncctl tell people, in simplified Chinese. The source is the English text in src/;
# SERSYNC_TEST_REWRITE=1 cargo test --test language brings in what is new.
msgid ""
msgstr ""
"Project-Id-Version: sersync 3\n"
"Language: zh_CN\n"
"MIME-Version: 1.0\n"
"Content-Type: text/plain; charset=UTF-8\n"
"Content-Transfer-Encoding: 8bit\n"
"Plural-Forms: nplurals=1; plural=0;\n"
"#;
