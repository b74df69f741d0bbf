//! The documents tell the truth about one another: links lead somewhere, and the Chinese pages say what the English
//! ones say.
//!
//! A translation names the page it was made of and that page's fingerprint. Whoever changes an English page sees the
//! fingerprint fail, brings the Chinese one up to date, and renews it by `SERSYNC_TEST_REWRITE=1 cargo test --test docs`.
//! What a machine can compare is compared besides: headings, code, tables, and the names in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Pages that users need in Chinese.
const TRANSLATED: &[&str] = &[
    "README.md",
    "docs/config.md",
    "docs/from-incron.md",
    "docs/from-inotifywait.md",
    "docs/from-lsyncd.md",
    "docs/from-sersync.md",
    "docs/plugins.md",
];

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `docs/config.md` is `docs/zh-CN/config.md` in Chinese, `README.md` is `README.zh-CN.md`.
fn translation_of(page: &str) -> String {
    match page.strip_prefix("docs/") {
        Some(name) => format!("docs/zh-CN/{name}"),
        None => page.replace(".md", ".zh-CN.md"),
    }
}

/// All pages, relative to the project.
fn pages() -> Vec<String> {
    let mut found = Vec::new();
    for directory in ["", "docs", "docs/zh-CN"] {
        for entry in fs::read_dir(project().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path.strip_prefix(project()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// What of a page must be the same in any language.
#[derive(Debug, Default, PartialEq, Eq)]
struct Skeleton {
    /// The level of each heading, in order.
    headings: Vec<usize>,
    /// The lines of each code block.
    code: Vec<Vec<String>>,
    /// For each row of a table: its number of cells, and the code in its first cell.
    rows: Vec<(usize, Vec<String>)>,
    /// Items of lists.
    items: usize,
}

impl Skeleton {
    fn of(text: &str) -> Self {
        let mut skeleton = Self::default();
        let mut block: Option<Vec<String>> = None;
        for line in text.lines() {
            let trimmed = line.trim_start();
            if trimmed.starts_with("```") {
                match block.take() {
                    Some(done) => skeleton.code.push(done),
                    None => block = Some(Vec::new()),
                }
            } else if let Some(block) = &mut block {
                block.push(without_comment(line));
            } else if line.starts_with('#') {
                skeleton.headings.push(line.chars().take_while(|sign| *sign == '#').count());
            } else if trimmed.starts_with('|') {
                let cells: Vec<&str> = trimmed.trim_matches('|').split(" | ").collect();
                skeleton.rows.push((cells.len(), code_in(cells[0])));
            } else if is_item(trimmed) {
                skeleton.items += 1;
            }
        }
        assert!(block.is_none(), "a code block is not closed");
        skeleton
    }
}

fn is_item(line: &str) -> bool {
    let number = line.chars().take_while(char::is_ascii_digit).count();
    line.starts_with("- ") || number > 0 && line[number..].starts_with(". ")
}

/// Comments in code are prose: they are translated.
fn without_comment(line: &str) -> String {
    if let Some((code, comment)) = line.split_once("<!--")
        && let Some((_, rest)) = comment.split_once("-->")
    {
        return format!("{code}{rest}").trim_end().to_owned();
    }
    let code = line.find(" # ").map_or(line, |at| &line[..at]);
    if code.trim_start().starts_with("# ") { String::new() } else { code.trim_end().to_owned() }
}

/// What stands between backquotes.
fn code_in(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// FNV-1a.
fn fingerprint(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

#[test]
fn chinese_pages_keep_step() {
    let rewrite = std::env::var_os("SERSYNC_TEST_REWRITE").is_some();
    for page in TRANSLATED {
        let translation = translation_of(page);
        let (english, chinese) = (read(page), read(&translation));
        let note = format!("<!-- {page} {} -->", fingerprint(&english));
        let (first, rest) = chinese.split_once('\n').unwrap_or((&chinese, ""));
        if rewrite && first.starts_with(&format!("<!-- {page} ")) {
            fs::write(project().join(&translation), format!("{note}\n{rest}")).unwrap();
        } else {
            assert!(
                first == note,
                "{translation} was made of an older {page}: bring it up to date, then renew its first line by \
                 SERSYNC_TEST_REWRITE=1 (it is {first:?}, and wants {note:?})"
            );
        }
        let (ours, theirs) = (Skeleton::of(&english), Skeleton::of(&chinese));
        assert_eq!(theirs.headings, ours.headings, "headings of {translation}");
        for (theirs, ours) in theirs.code.iter().zip(&ours.code) {
            assert_eq!(theirs, ours, "code of {translation}");
        }
        for (theirs, ours) in theirs.rows.iter().zip(&ours.rows) {
            assert_eq!(theirs, ours, "tables of {translation}");
        }
        let counts = |skeleton: &Skeleton| (skeleton.code.len(), skeleton.rows.len(), skeleton.items);
        assert_eq!(counts(&theirs), counts(&ours), "code blocks, rows, items of {translation}");
    }
}

#[test]
fn no_translation_is_forgotten() {
    let wanted: BTreeSet<String> = TRANSLATED.iter().map(|page| translation_of(page)).collect();
    let found: BTreeSet<String> = pages().into_iter().filter(|page| page.contains("zh-CN")).collect();
    assert_eq!(found, wanted);
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf = match path {
                "" => project().join(&page),
                path => project().join(&page).parent().unwrap().join(path),
            };
            let is_there = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => anchor.is_empty() && target.exists(),
            };
            if !is_there {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "these links lead nowhere: {broken:#?}");
}

/// The anchors that a forge makes of a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| -> String {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        heading
            .chars()
            .filter_map(|sign| match sign {
                ' ' => Some('-'),
                '-' | '_' => Some(sign),
                sign if sign.is_alphanumeric() => Some(sign),
                _ => None,
            })
            .collect()
    };
    headings.map(slug).collect()
}

/// A page that proves something by a test names its file, and then the test.
#[test]
fn the_tests_that_are_named_are_there() {
    let mut named = 0;
    for page in pages() {
        let text = read(&page);
        let mut source: Option<(String, String)> = None;
        for code in text.lines().flat_map(|line| line.split('`').skip(1).step_by(2)) {
            let is_source = code.ends_with(".rs") && (code.starts_with("tests/") || code.starts_with("src/"));
            if is_source && project().join(code).is_file() {
                source = Some((code.to_owned(), read(code)));
            } else if let Some((file, text)) = &source
                && code.contains('_')
                && code.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '_')
            {
                assert!(text.contains(&format!("fn {code}(")), "{page}: {file} has no test `{code}`");
                named += 1;
            }
        }
    }
    assert!(named > 40, "docs/reliability.md names more tests than {named}");
}

/// The words of `text` between `start` and `end`, for each occurrence.
fn between<'t>(text: &'t str, start: &'t str, end: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split_once(end).map(|(found, _)| found))
}

#[test]
fn the_manual_page_explains_each_state_and_each_column() {
    let page = read("packaging/sersyncctl.roff");
    let explained: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix(".B ")).collect();
    let mut wanted = BTreeSet::new();
    let schema = read("docs/json-schema.json");
    for line in schema.lines().filter(|line| line.trim_start().starts_with("\"state\": {")) {
        if let Some(states) = between(line, "\"enum\": [", "]").next() {
            wanted.extend(states.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    assert!(wanted.len() >= 10, "{wanted:?}");
    for file in ["src/ctl/status.rs", "src/ctl/lists.rs"] {
        let text = read(file);
        let headings =
            between(&text, "tr!(\"", "\")").filter(|word| word.chars().all(|c| c == ' ' || c.is_uppercase()));
        wanted.extend(headings.map(str::to_owned));
    }
    wanted.extend(["disabled", "stopped", "running without the bus", "does not answer"].map(str::to_owned));
    let missing: Vec<_> = wanted.iter().filter(|word| !explained.contains(word.as_str())).collect();
    assert!(wanted.len() >= 30 && missing.is_empty(), "packaging/sersyncctl.roff does not explain {missing:?}");
}
