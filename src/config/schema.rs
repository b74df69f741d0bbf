//! Which elements and attributes a config file may hold.
//!
//! The table finds what is unknown, misplaced or written twice; what values mean, and what holds where they are
//! missing, is read elsewhere. docs/config.md and sersync.xml(5) explain each of them; tests hold them against
//! this table.

use super::mistake::nearest;
use super::reading::Reading;
use super::tree::Element;

/// One element of the schema.
#[derive(Debug)]
pub(super) struct ElementRule {
    /// As sersync's own files write it.
    pub(super) name: &'static str,
    /// Whether it may stand there more than once.
    pub(super) repeatable: bool,
    /// The names of its attributes.
    pub(super) attributes: &'static [&'static str],
    /// The elements it may hold.
    pub(super) children: &'static [ElementRule],
}

const fn one(name: &'static str, attributes: &'static [&'static str], children: &'static [ElementRule]) -> ElementRule {
    ElementRule { name, repeatable: false, attributes, children }
}

const fn many(
    name: &'static str,
    attributes: &'static [&'static str],
    children: &'static [ElementRule],
) -> ElementRule {
    ElementRule { name, repeatable: true, attributes, children }
}

const START: &[&str] = &["start"];
const EXCLUDES: &[ElementRule] = &[many("exclude", &["expression"], &[])];

const AGENT: ElementRule = one(
    "agent",
    &[],
    &[
        one("gather", &["milliseconds"], &[]),
        one("batch", &["paths"], &[]),
        one("streams", &["perRemote"], &[]),
        one("ahead", &["seconds"], &[]),
        one("workers", &["max"], &[]),
        one("fullSync", &["atStart"], &[]),
        one("state", &["directory"], &[]),
        one("pending", &["limit"], &[]),
        one("temporaryNames", &["mode"], &[]),
        one("newerOnRemote", &["keep"], &[]),
    ],
);

/// The whole schema, from its root element on.
pub(super) static HEAD: ElementRule = one(
    "head",
    &["version"],
    &[
        one("host", &["hostip", "port"], &[]),
        one("debug", START, &[]),
        one("fileSystem", &["xfs"], &[]),
        one("filter", START, &[many("exclude", &["expression", "pattern", "file"], &[])]),
        one(
            "inotify",
            &[],
            &[
                one("delete", &["start", "when", "limit"], &[]),
                one("createFolder", START, &[]),
                one("createFile", START, &[]),
                one("closeWrite", START, &[]),
                one("moveFrom", START, &[]),
                one("moveTo", START, &[]),
                one("attrib", START, &[]),
                one("modify", START, &[]),
            ],
        ),
        one(
            "sersync",
            &[],
            &[
                many("localpath", &["watch"], &[many("remote", &["ip", "name", "directory"], &[])]),
                one(
                    "rsync",
                    &[],
                    &[
                        one("commonParams", &["params"], &[]),
                        one("auth", &["start", "users", "passwordfile", "credential"], &[]),
                        one("userDefinedPort", &["start", "port"], &[]),
                        one("timeout", &["start", "time"], &[]),
                        one("ssh", &["start", "port", "identity", "credential", "options"], &[]),
                        many("mayRead", &["path"], &[]),
                        one("keepDeleted", &["days"], &[]),
                    ],
                ),
                one("failLog", &["path", "timeToExecute"], &[]),
                one("crontab", &["start", "schedule", "calendar"], &[one("crontabfilter", START, EXCLUDES)]),
                many("plugin", &["start", "name", "alone"], &[]),
                AGENT,
            ],
        ),
        many(
            "plugin",
            &["name", "timeout", "concurrency", "retries"],
            &[
                one("param", &["prefix", "suffix", "ignoreError", "batch", "keepCapabilities"], &[]),
                one("filter", START, &[many("include", &["expression"], &[])]),
                many(
                    "localpath",
                    &["watch"],
                    &[
                        many(
                            "deshost",
                            &["ip", "url", "port", "format", "method", "body"],
                            &[many("header", &["name", "value", "file"], &[])],
                        ),
                        one("cdninfo", &["domainname", "port", "username", "passwd"], &[]),
                        one("sendurl", &["base"], &[]),
                        one("regexurl", &["regex", "match"], &[]),
                    ],
                ),
            ],
        ),
        AGENT,
    ],
);

/// Tells what in `element` and below the schema does not know.
pub(super) fn check(reading: &mut Reading<'_>, element: &Element, rule: &'static ElementRule) {
    for attribute in &element.attributes {
        if rule.attributes.iter().any(|known| known.eq_ignore_ascii_case(&attribute.name)) {
            continue;
        }
        let known = rule.attributes;
        let help = match nearest(&attribute.name, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None if known.is_empty() => format!("<{}> has no attributes", rule.name),
            None => format!("<{}> has: {}", rule.name, known.join(", ")),
        };
        let message = format!("unknown attribute `{}` of <{}> is ignored", attribute.name, rule.name);
        reading.warn(attribute.name_span.clone(), message, help);
    }
    let mut seen: Vec<&str> = Vec::new();
    for child in &element.children {
        let Some(known) = rule.children.iter().find(|known| child.is(known.name)) else {
            unknown(reading, child, rule);
            continue;
        };
        if seen.contains(&known.name) && !known.repeatable {
            let message = format!("<{}> is given twice in <{}>", known.name, rule.name);
            reading.error(child.tag.clone(), message, "which one counts? Keep one of them");
        }
        seen.push(known.name);
        check(reading, child, known);
    }
}

fn unknown(reading: &mut Reading<'_>, element: &Element, parent: &'static ElementRule) {
    let near = nearest(&element.name, parent.children.iter().map(|known| known.name));
    let places = parents_of(&element.name);
    let help = match (near, places.as_slice()) {
        (Some(name), _) => format!("did you mean <{name}>?"),
        (None, []) if parent.children.is_empty() => format!("<{}> holds no elements", parent.name),
        (None, []) => {
            format!(
                "<{}> holds: {}",
                parent.name,
                parent.children.iter().map(|c| c.name).collect::<Vec<_>>().join(", ")
            )
        }
        (None, places) => format!("it belongs into <{}>", places.join("> or <")),
    };
    let message = format!("unknown element <{}> in <{}> is ignored", element.name, parent.name);
    reading.warn(element.name_span(), message, help);
}

/// The elements in which one called `name` may stand.
fn parents_of(name: &str) -> Vec<&'static str> {
    fn search(rule: &'static ElementRule, name: &str, found: &mut Vec<&'static str>) {
        if rule.children.iter().any(|child| child.name.eq_ignore_ascii_case(name)) && !found.contains(&rule.name) {
            found.push(rule.name);
        }
        rule.children.iter().for_each(|child| search(child, name, found));
    }
    let mut found = Vec::new();
    search(&HEAD, name, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// (path of the parent, element, attribute) and the default, as docs/config.md has them.
    type Rows = BTreeMap<(String, String, String), Option<String>>;

    fn documented() -> Rows {
        let mut rows = Rows::new();
        let mut parent = String::new();
        let quoted = |cell: &str| cell.trim().strip_prefix('`')?.strip_suffix('`').map(str::to_owned);
        let tables = include_str!("../../docs/config.md").split("## Every element and attribute").nth(1).unwrap();
        for line in tables.split("\n## ").next().unwrap().lines() {
            if let Some(heading) = line.strip_prefix("### ") {
                parent = heading.strip_prefix("In ").and_then(quoted).unwrap_or_default();
            } else if let Some(cells) = line.strip_prefix('|') {
                let cells: Vec<&str> = cells.split('|').collect();
                // Other tables have other columns: those of rsync's options.
                if cells.len() != 5 {
                    continue;
                }
                let Some(element) = quoted(cells[0]) else { continue };
                let key = (parent.clone(), element, quoted(cells[1]).unwrap_or_default());
                assert!(rows.insert(key, quoted(cells[2])).is_none(), "twice: {line}");
            }
        }
        rows
    }

    /// The same rows, as the manual page sersync.xml(5) has them: `.B ELEMENT ATTRIBUTE\fR=\fIDEFAULT`.
    fn in_the_manual() -> Rows {
        let mut rows = Rows::new();
        let mut parent = String::new();
        let page = include_str!("../../packaging/man/sersync.xml.5").split(".SH ELEMENTS").nth(1).unwrap();
        let mut lines = page.split("\n.SH ").next().unwrap().lines();
        while let Some(line) = lines.next() {
            if let Some(heading) = line.strip_prefix(".SS ") {
                parent = heading.strip_prefix("In ").unwrap_or_default().to_owned();
            } else if line == ".TP" {
                let row = lines.next().and_then(|row| row.strip_prefix(".B ")).unwrap();
                let (names, default) = match row.split_once("\\fR=\\fI") {
                    Some((names, default)) => (names, Some(default.replace("\\-", "-"))),
                    None => (row, None),
                };
                let (element, attribute) = names.split_once(' ').unwrap_or((names, ""));
                let key = (parent.clone(), element.to_owned(), attribute.to_owned());
                assert!(rows.insert(key, default).is_none(), "twice: {row}");
            }
        }
        rows
    }

    #[test]
    fn the_manual_page_has_the_names_and_defaults_of_the_documentation() {
        assert_eq!(in_the_manual(), documented());
    }

    fn known(parent: &str, rule: &'static ElementRule, found: &mut Vec<(String, String, String)>) {
        let attributes = if rule.attributes.is_empty() { &[""][..] } else { rule.attributes };
        for attribute in attributes {
            found.push((parent.to_owned(), rule.name.to_owned(), (*attribute).to_owned()));
        }
        let path = format!("{parent}/{}", rule.name).trim_start_matches('/').to_owned();
        // <agent> is the same in both its places.
        if path != "head/sersync/agent" {
            rule.children.iter().for_each(|child| known(&path, child, found));
        }
    }

    #[test]
    fn the_documentation_has_every_name_and_no_other() {
        let mut names = Vec::new();
        known("", &HEAD, &mut names);
        names.sort();
        assert_eq!(documented().into_keys().collect::<Vec<_>>(), names);
    }

    /// A config in which each element holds its documented defaults, or only `start="true"`, or nothing.
    fn config(rows: &Rows, on: bool, written: bool) -> String {
        fn element(rows: &Rows, parent: &str, rule: &'static ElementRule, on: bool, written: bool) -> String {
            if rule.name == "localpath" {
                return "<localpath watch=\"/a\"><remote ip=\"h\" name=\"m\"/></localpath>".to_owned();
            }
            let path = format!("{parent}/{}", rule.name).trim_start_matches('/').to_owned();
            // Without defaults that matter, or not to be had without files and warnings.
            if rule.repeatable || ["head/sersync/rsync/auth", "head/sersync/agent"].contains(&path.as_str()) {
                return String::new();
            }
            let mut tag = format!("<{}", rule.name);
            for attribute in rule.attributes {
                let key = (parent.to_owned(), rule.name.to_owned(), (*attribute).to_owned());
                match &rows[&key] {
                    Some(_) if *attribute == "start" && on => tag += " start=\"true\"",
                    Some(default) if written => tag += &format!(" {attribute}=\"{default}\""),
                    _ => {}
                }
            }
            if path == "head/agent" && !written {
                return String::new();
            }
            // `state` has no default to write, and wants a value where it stands.
            if path == "head/agent/state" {
                return String::new();
            }
            let inner: String = rule.children.iter().map(|child| element(rows, &path, child, on, written)).collect();
            format!("{tag}>{inner}</{}>\n", rule.name)
        }
        element(rows, "", &HEAD, on, written)
    }

    #[test]
    fn documented_defaults_are_what_holds() {
        let rows = documented();
        for on in [false, true] {
            let read = |written| {
                let text = config(&rows, on, written);
                let mut loaded = parse(text.as_bytes(), Path::new("x.xml")).unwrap_or_else(|m| panic!("{m}")).config;
                // What was left out of params is told only where params were written.
                loaded.notes.clear();
                (format!("{loaded:#?}"), text)
            };
            let ((with, text), (without, _)) = (read(true), read(false));
            assert!(text.contains("port=\"874\"") && text.contains("mode=\"hold\""), "{text}");
            assert_eq!(with, without);
        }
    }
}
