//! Configs of sersync 2.5.4: checked, copied as they are, with what their start lines said written into them.
//!
//! The bytes of a config stay (comments, GBK, tabs) but for two elements: `-r` and `-n` become an `<agent>`, `-m` a
//! `<plugin alone="true">`. What a copy then says is read again before it counts.

use super::install::{Draft, Harvest, directory_name, plain_name};
use super::said::{Line, Remark};
use super::start_line::{self, StartLine};
use super::{ImportError, bytes_of, plugin_named};
use crate::config::{self, AgentSettings, Config, FullSyncAtStart, PluginName, written};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tr::tr;

/// Where start lines are looked for.
const RC_FILES: [&str; 2] = ["/etc/rc.local", "/etc/rc.d/rc.local"];

/// What start lines say of one instance.
#[derive(Debug, Clone, Default)]
struct Asked {
    full_sync: bool,
    workers: Option<u16>,
    plugin: Option<PluginName>,
    /// Where these lines are, among all.
    lines: Vec<usize>,
}

/// Reads configs and directories of them, and the files with start lines.
pub fn read(files: &[PathBuf], rc: &[PathBuf]) -> Result<Harvest, ImportError> {
    let mut harvest = Harvest::default();
    let starts = start_lines(rc, &mut harvest)?;
    for file in expanded(files)? {
        let bytes = bytes_of(&file)?;
        for asked in asked_of(&file, &starts) {
            for line in &asked.lines {
                harvest.lines[*line].drafts.push(harvest.drafts.len());
            }
            harvest.drafts.push(draft(&file, bytes.clone(), &asked));
        }
    }
    let text =
        tr!("for every config: files whose names start with a dot are mirrored too, and filters hold for full syncs; \
         docs/from-sersync.md has all that is different");
    harvest.remarks.push(Remark::note(0, text));
    Ok(harvest)
}

/// The configs of directories in place of the directories.
fn expanded(files: &[PathBuf]) -> Result<Vec<PathBuf>, ImportError> {
    let mut all = Vec::new();
    for file in files {
        if !file.is_dir() {
            all.push(file.clone());
            continue;
        }
        let entries = file.read_dir().map_err(|source| ImportError::Read { path: file.clone(), source })?;
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("xml")) && path.is_file());
        if found.is_empty() {
            return Err(ImportError::NoConfigs(file.clone()));
        }
        found.sort();
        all.extend(found);
    }
    let mut seen = HashSet::new();
    all.retain(|path| seen.insert(real(path)));
    Ok(all)
}

fn start_lines(rc: &[PathBuf], harvest: &mut Harvest) -> Result<Vec<StartLine>, ImportError> {
    let usual = RC_FILES.map(PathBuf::from);
    let given = if rc.is_empty() { &usual[..] } else { rc };
    let mut all = Vec::new();
    for file in given {
        let bytes = match bytes_of(file) {
            Ok(bytes) => bytes,
            Err(ImportError::Read { .. }) if rc.is_empty() => continue,
            Err(error) => return Err(error),
        };
        for start in start_line::find(&String::from_utf8_lossy(&bytes)) {
            let otherwise = match &start.config {
                Some(config) => {
                    format!("sersyncctl import sersync {}", crate::ctl::next::quoted(&config.to_string_lossy()))
                }
                None => tr!("import the config that it reads: its name is in a variable"),
            };
            let (number, text, drafts) = (start.number, start.text.clone(), Vec::new());
            harvest.lines.push(Line { file: file.clone(), number, text, drafts, otherwise });
            all.push(start);
        }
    }
    Ok(all)
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// The instances that start lines ask for with this config: one for all that mirror, one for each plugin that `-m` names.
fn asked_of(file: &Path, starts: &[StartLine]) -> Vec<Asked> {
    let file = real(file);
    let mut all: Vec<Asked> = Vec::new();
    for (index, start) in starts.iter().enumerate() {
        if start.config.as_deref().map(real).as_ref() != Some(&file) {
            continue;
        }
        let plugin = start.plugin.as_deref().and_then(plugin_named);
        let at = all.iter().position(|asked| asked.plugin == plugin).unwrap_or_else(|| {
            all.push(Asked { plugin, ..Asked::default() });
            all.len() - 1
        });
        let asked = &mut all[at];
        asked.full_sync |= start.full_sync;
        asked.workers = start.workers.or(asked.workers);
        asked.lines.push(index);
    }
    // The mirror has the name without more.
    all.sort_by_key(|asked| asked.plugin.is_some());
    if all.is_empty() { vec![Asked::default()] } else { all }
}

fn draft(file: &Path, bytes: Vec<u8>, asked: &Asked) -> Draft {
    let (remarks, mut name) = (Vec::new(), plain_name(&config::instance_name(file).unwrap_or_default()));
    let mut draft = Draft {
        name: name.clone(),
        origin: file.to_path_buf(),
        bytes,
        judged_as: asked.plugin,
        is_copy: true,
        mistakes: Vec::new(),
        remarks,
    };
    // A file with errors is told of, and not copied.
    let Ok(loaded) = config::inspect(&draft.bytes, file, asked.plugin) else { return draft };
    if let (true, Some(root)) = (name.eq_ignore_ascii_case("confxml"), loaded.config.roots.first()) {
        name = directory_name(&root.path);
    }
    if let (Some(plugin), [_, ..]) = (asked.plugin, asked.lines.as_slice()) {
        name = format!("{name}-{plugin}");
    }
    draft.name = name;
    draft.remarks = differences(&draft.bytes, &loaded.config);
    write_in(&mut draft, asked);
    draft
}

/// Writes what start lines said into the copy.
fn write_in(draft: &mut Draft, asked: &Asked) {
    let workers = asked.workers.filter(|workers| usize::from(*workers) != AgentSettings::default().workers);
    let mut agent = String::new();
    if asked.full_sync && asked.plugin.is_none() {
        agent.push_str("<fullSync atStart=\"always\"/>");
    }
    if let Some(workers) = workers {
        agent.push_str(&format!("<workers max=\"{workers}\"/>"));
    }
    let mut bytes = draft.bytes.clone();
    if !agent.is_empty() {
        bytes = with_line_before(&bytes, b"</head", &format!("<agent>{agent}</agent>"));
    }
    if let Some(plugin) = asked.plugin {
        let element = format!("<plugin start=\"true\" name=\"{plugin}\" alone=\"true\"/>");
        bytes = with_line_before(&bytes, b"</sersync", &element);
    }
    if agent.is_empty() && asked.plugin.is_none() {
        return;
    }
    let options = [
        asked.full_sync.then(|| " -r".to_owned()),
        workers.map(|workers| format!(" -n {workers}")),
        asked.plugin.map(|plugin| format!(" -m {plugin}")),
    ];
    let options: String = options.into_iter().flatten().collect();
    let always = asked.full_sync && asked.plugin.is_none();
    let is_as_asked = |config: &Config| {
        config.alone == asked.plugin
            && (!always || config.agent.full_sync_at_start == FullSyncAtStart::Always)
            && workers.is_none_or(|workers| config.agent.workers == usize::from(workers))
    };
    if config::inspect(&bytes, &draft.origin, None).is_ok_and(|loaded| is_as_asked(&loaded.config)) {
        draft.bytes = bytes;
        draft.judged_as = None;
        draft.remarks.push(Remark::note(0, tr!("its start line said{options}: it stands in the copy", options)));
        return;
    }
    let text = tr!(
        "its start line said{options}, which fits nowhere in this file: systemctl edit sersync@{instance} and write [Service], \
         ExecStart=, ExecStart=/usr/bin/sersync{options} --instance %i -o %E/sersync/%i.xml",
        options,
        instance = draft.name
    );
    draft.remarks.push(Remark::note(0, text));
}

/// `bytes` with a line before the last `tag`. Where there is none, or where it is in no encoding that has ASCII in it,
/// nothing changes.
fn with_line_before(bytes: &[u8], tag: &[u8], element: &str) -> Vec<u8> {
    let found = bytes.windows(tag.len()).rposition(|window| window.eq_ignore_ascii_case(tag));
    let Some(at) = found else { return bytes.to_vec() };
    let line_start = bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let indent = &bytes[line_start..at];
    let newline: &[u8] = if bytes.windows(2).any(|pair| pair == b"\r\n") { b"\r\n" } else { b"\n" };
    match indent.iter().all(u8::is_ascii_whitespace) {
        true => [&bytes[..line_start], indent, b"    ", element.as_bytes(), newline, &bytes[line_start..]].concat(),
        false => [&bytes[..at], element.as_bytes(), newline, &bytes[at..]].concat(),
    }
}

/// What this very file makes happen otherwise than 2.5.4 did.
fn differences(bytes: &[u8], config: &Config) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let mut note = |line: usize, text: String| remarks.push(Remark::note(line, text));
    let at = |path: &[&str], name: &str| written(bytes, path, name);
    let has_filter = !config.filter.is_empty();
    if has_filter {
        for exclude in at(&["head", "filter", "exclude"], "expression") {
            if let Some(change) = filter_change(&exclude.value) {
                note(exclude.line, change);
            }
        }
    }
    if config.alone.is_none() {
        for extra in at(&["head", "sersync", "localpath"], "watch").iter().skip(1) {
            note(
                extra.line,
                tr!("{directory} is mirrored as well: 2.5.4 used the first <localpath> only", directory = extra.value),
            );
        }
        let params = at(&["head", "sersync", "rsync", "commonParams"], "params");
        let bundled = |word: &str| word.starts_with('-') && !word.starts_with("--") && word.contains('u');
        let updates = params
            .first()
            .is_none_or(|params| params.value.split_whitespace().any(|word| bundled(word) || word == "--update"));
        if updates && !config.agent.keep_newer {
            let line = params.first().map_or(0, |params| params.line);
            note(line, tr!("`-u` is dropped: a file put back from a backup reaches the remotes although it is older"));
        }
        let crontab_filter = at(&["head", "sersync", "crontab", "crontabfilter"], "start");
        let filtered = crontab_filter.first().is_some_and(|start| start.value.trim().eq_ignore_ascii_case("true"));
        if config.crontab.is_some() && has_filter && !filtered {
            let line = at(&["head", "sersync", "crontab"], "start").first().map_or(0, |start| start.line);
            note(line, tr!("<crontab> runs: 2.5.4 switched it off beside a <filter>"));
        }
    }
    if let Some(log) = &config.fail_log {
        let line = at(&["head", "sersync", "failLog"], "path").first().map_or(0, |path| path.line);
        note(line, tr!("{file} is a report for people, mode 0600: sersync never runs it", file = log.path.display()));
    }
    if !config.plugins.started.is_empty() || config.alone.is_some() {
        let text = tr!(
            "a plugin's call that takes longer than 60 s is ended, and tried again: <plugin timeout=\"…\" retries=\"…\">"
        );
        note(0, text);
    }
    remarks.sort_by_key(|remark| if remark.line == 0 { usize::MAX } else { remark.line });
    remarks
}

/// How `<exclude expression>` matches otherwise: 2.5.4 gave paths below the first level a slash at the start.
fn filter_change(expression: &str) -> Option<String> {
    let bare = expression.trim_start_matches('^').trim_start_matches('(').trim_start_matches("?:");
    let after_any = bare.strip_prefix(".*").map(|rest| rest.trim_start_matches('?').trim_start_matches(')'));
    match after_any {
        Some(rest) if rest.starts_with('/') => {
            let rest = rest.trim_start_matches('/');
            Some(tr!(
                "{expression} needs a directory above it now: (.*/)?{rest} matches at the top as well",
                expression,
                rest
            ))
        }
        Some(_) => None,
        None if bare.starts_with('/') => {
            let better = expression.replacen('/', "", 1);
            Some(tr!(
                "{expression} matches nothing any more, since no path starts with a slash: write {better}",
                expression,
                better
            ))
        }
        None if expression.replace("[^/]", "").contains('/') => {
            Some(tr!("{expression} excludes below the watched directory: 2.5.4 did not match it there", expression))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_before_the_last_end_tag() {
        let write = |text: &str| String::from_utf8(with_line_before(text.as_bytes(), b"</head", "<agent/>")).unwrap();
        assert_eq!(write("<head>\n  <a/>\n</head>\n"), "<head>\n  <a/>\n    <agent/>\n</head>\n");
        assert_eq!(write("<HEAD>\r\n</HEAD>"), "<HEAD>\r\n    <agent/>\r\n</HEAD>");
        assert_eq!(write("<head><a/></head>"), "<head><a/><agent/>\n</head>");
        assert_eq!(write("<a/>"), "<a/>");
    }

    #[test]
    fn filters_that_match_otherwise_are_known() {
        for same in ["(.*)\\.gz", ".*\\.svn", "^tmp", "[^/]*x", "(.*)\\.svn/(.*)"] {
            assert_eq!(filter_change(same), None, "{same}");
        }
        assert!(filter_change("^info/*").is_some_and(|text| text.contains("below")));
        assert!(filter_change("^/static/*").is_some_and(|text| text.ends_with("write ^static/*")));
        assert!(filter_change("(.*)/cache/(.*)").is_some_and(|text| text.contains("(.*/)?cache/(.*)")));
    }
}
