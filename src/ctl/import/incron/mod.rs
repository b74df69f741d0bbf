//! incron's tables: `PATH MASK COMMAND`. A line with a plain rsync becomes a mirror, any other one the plugin `command`
//! in rsync's place.
//!
//! Nothing of a table is run. incron knows one level of directories and starts one command for each event; a config of
//! ours knows the whole tree, and the command runs once at a time while changes gather.

use super::confxml::{Command, Sketch};
use super::install::{Draft, Harvest, directory_name};
use super::rsync_words;
use super::said::Remark;
use super::{ImportError, bytes_of};
use crate::config::{self, Destination, EventSwitches};
use crate::filter::Filter;
use std::path::{Path, PathBuf};
use tr::tr;

/// inotify(7): what happens, and the bit.
const EVENTS: [(&str, u32); 12] = [
    ("IN_ACCESS", 0x1),
    ("IN_MODIFY", 0x2),
    ("IN_ATTRIB", 0x4),
    ("IN_CLOSE_WRITE", 0x8),
    ("IN_CLOSE_NOWRITE", 0x10),
    ("IN_OPEN", 0x20),
    ("IN_MOVED_FROM", 0x40),
    ("IN_MOVED_TO", 0x80),
    ("IN_CREATE", 0x100),
    ("IN_DELETE", 0x200),
    ("IN_DELETE_SELF", 0x400),
    ("IN_MOVE_SELF", 0x800),
];

/// Several at once, and how a path is watched.
const OTHERS: [(&str, u32); 8] = [
    ("IN_CLOSE", 0x18),
    ("IN_MOVE", 0xc0),
    ("IN_ALL_EVENTS", 0xfff),
    ("IN_ONLYDIR", 0x0100_0000),
    ("IN_DONT_FOLLOW", 0x0200_0000),
    ("IN_MASK_ADD", 0x2000_0000),
    ("IN_ONESHOT", 0x8000_0000),
    ("IN_NO_LOOP", 0),
];

/// What a line's mask asks for.
#[derive(Debug, Default, Clone, Copy)]
struct Asked {
    mask: u32,
    loopable: bool,
    flat: bool,
    no_dot_directories: bool,
}

/// Reads tables.
pub fn read(tables: &[PathBuf]) -> Result<Harvest, ImportError> {
    let mut harvest = Harvest::default();
    for table in tables {
        let text = String::from_utf8_lossy(&bytes_of(table)?).into_owned();
        let mut found = false;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            match read_line(line, number) {
                Ok(None) => {}
                Ok(Some((sketch, remarks))) => {
                    found = true;
                    let file = table.file_name().unwrap_or(table.as_os_str()).to_string_lossy();
                    let text = sketch.text(&format!("{file}, line {number}"));
                    let origin = PathBuf::from(format!("{}:{number}", table.display()));
                    harvest.drafts.push(Draft::of_text(directory_name(&sketch.watch), origin, text, remarks));
                }
                Err(why) => harvest.remarks.push(Remark::lost(number, why).of(table)),
            }
        }
        if let (true, Some(user)) = (found, owner(table)) {
            let text = tr!(
                "incron ran this as {user}, sersync@ runs as root: systemctl edit sersync@NAME and write [Service], User={user}",
                user
            );
            harvest.remarks.push(Remark::note(0, text).of(table));
        }
    }
    if !harvest.drafts.is_empty() {
        let text = tr!("when they run: comment the lines out with incrontab -e, or remove the tables of /etc/incron.d");
        harvest.remarks.push(Remark::note(0, text));
    }
    Ok(harvest)
}

/// The user whose table this is; root's and the system's are nobody's.
fn owner(table: &Path) -> Option<String> {
    let is_spool = table.parent().is_some_and(|parent| parent.ends_with("spool/incron"));
    let name = table.file_name()?.to_string_lossy().into_owned();
    (is_spool && name != "root").then_some(name)
}

/// A config and what is different in it; `None`: the line says nothing.
fn read_line(line: &str, number: usize) -> Result<Option<(Sketch, Vec<Remark>)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if line.contains('\u{fffd}') {
        return Err(tr!("it is not UTF-8: save the table as UTF-8"));
    }
    let (path, rest) = first_word(line);
    let (mask, command) = first_word(rest);
    if mask.is_empty() || command.is_empty() {
        return Err(tr!("a line is a path, a mask and a command"));
    }
    if !path.starts_with('/') {
        return Err(tr!("{path} is a relative path", path));
    }
    let mut remarks = Vec::new();
    let asked = read_mask(&mask, number, &mut remarks)?;
    let mut sketch = Sketch::new(Path::new(&path).components().collect());
    if let Some(mirror) = mirror(command, &path, &asked, number)? {
        sketch = mirror.0;
        remarks.retain(|remark: &Remark| remark.lost);
        remarks.extend(mirror.1);
    } else {
        sketch.events = events(asked.mask, number, &mut remarks)?;
        sketch.command = Some(plugin(command, &sketch.watch, &asked, number, &mut remarks)?);
        if Path::new(&path).is_file() {
            // A directory is what can be watched here.
            let expression = regex::escape(&path);
            sketch.watch = sketch.watch.parent().unwrap_or(Path::new("/")).to_path_buf();
            sketch.patterns.push("/*/".to_owned());
            if let Some(command) = &mut sketch.command {
                command.include = Some(expression);
            }
        }
    }
    if asked.flat {
        sketch.patterns.push("/*/*".to_owned());
    }
    if asked.no_dot_directories {
        sketch.patterns.push(".*/".to_owned());
    }
    Ok(Some((sketch, remarks)))
}

/// The first word, in which a backslash keeps a blank, and what follows it.
fn first_word(text: &str) -> (String, &str) {
    let text = text.trim_start();
    let mut word = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => word.extend(characters.next().map(|(_, escaped)| escaped)),
            blank if blank.is_whitespace() => return (word, text[at..].trim_start()),
            other => word.push(other),
        }
    }
    (word, "")
}

fn read_mask(text: &str, number: usize, remarks: &mut Vec<Remark>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let is_on = |value: &str| value == "true" || value == "1";
        match word.split_once('=') {
            Some(("loopable", value)) => asked.loopable = is_on(value),
            Some(("recursive", value)) => asked.flat = !is_on(value),
            Some(("dotdirs", value)) => asked.no_dot_directories = !is_on(value),
            Some((name, _)) => return Err(tr!("{name} is no option of incron that is known here", name)),
            None => {
                let named = EVENTS.iter().chain(&OTHERS).find(|(name, _)| *name == word).map(|(_, bits)| *bits);
                let bits = named.or_else(|| word.parse().ok());
                asked.mask |= bits.ok_or_else(|| tr!("{word} is no event of inotify", word))?;
            }
        }
    }
    for (name, bits) in &OTHERS[3..7] {
        if asked.mask & bits != 0 {
            remarks.push(Remark::lost(number, tr!("{name}: the whole tree is watched, as long as it runs", name)));
        }
    }
    Ok(asked)
}

/// The switches for a mask, and those of its events that nobody is told of.
fn events(mask: u32, number: usize, remarks: &mut Vec<Remark>) -> Result<EventSwitches, String> {
    let has = |name: &str| EVENTS.iter().any(|(known, bit)| *known == name && mask & bit != 0);
    let unseen = ["IN_ACCESS", "IN_CLOSE_NOWRITE", "IN_OPEN", "IN_DELETE_SELF", "IN_MOVE_SELF"];
    let found: Vec<&str> = unseen.into_iter().filter(|name| has(name)).collect();
    let switches = EventSwitches {
        delete: has("IN_DELETE") || has("IN_MOVED_FROM"),
        create_folder: true,
        create_file: has("IN_CREATE"),
        close_write: has("IN_CLOSE_WRITE"),
        move_from: has("IN_MOVED_FROM"),
        move_to: has("IN_MOVED_TO"),
        attrib: has("IN_ATTRIB"),
        modify: has("IN_MODIFY"),
    };
    if switches == (EventSwitches { create_folder: true, ..EventSwitches::NONE }) {
        return Err(tr!("nothing is told of {events}: only changes are seen", events = found.join(", ")));
    }
    if !found.is_empty() {
        remarks.push(Remark::lost(number, tr!("{events}: only changes are seen", events = found.join(", "))));
    }
    if has("IN_MOVED_FROM") && !has("IN_DELETE") {
        remarks
            .push(Remark::note(number, tr!("the command hears of what is deleted as well as of what is moved away")));
    }
    if !has("IN_CREATE") {
        remarks
            .push(Remark::note(number, tr!("the command hears of new directories as well: they have to be watched")));
    }
    Ok(switches)
}

/// A plain `rsync … SOURCE DEST` of the watched directory, as a mirror.
fn mirror(command: &str, path: &str, asked: &Asked, number: usize) -> Result<Option<(Sketch, Vec<Remark>)>, String> {
    let Some(words) = plain_words(command, path) else { return Ok(None) };
    let Some((_, words)) = words.split_first().filter(|(program, _)| program.rsplit('/').next() == Some("rsync"))
    else {
        return Ok(None);
    };
    let mut sketch = Sketch::new(Path::new(path).components().collect());
    let taken = rsync_words::take(words, &mut sketch);
    let [source, target] = taken.places.as_slice() else { return Ok(None) };
    let bare: PathBuf = Path::new(source.trim_end_matches("$#")).components().collect();
    if bare != sketch.watch || Path::new(path).is_file() {
        return Ok(None);
    }
    if let Some(lost) = taken.lost.first() {
        return Err(tr!("{lost}; what is left would mirror more, or less: write the config by hand", lost));
    }
    for pattern in &sketch.patterns {
        if let Err(error) = Filter::none().and_excluding([pattern]) {
            return Err(format!("--exclude={pattern}: {error}"));
        }
    }
    let mut target = target.trim_end_matches('/').to_owned();
    if !(source.ends_with('/') || source.ends_with("$#")) {
        // Without a slash rsync makes a directory of the source's name in the target.
        let name = sketch.watch.file_name().unwrap_or_default().to_string_lossy();
        target = format!("{target}/{name}");
    }
    let mut destination = config::destination(if target.is_empty() { "/" } else { &target })
        .map_err(|error| format!("{target}: {error}"))?;
    if let (Destination::Daemon { port, .. }, Some(given)) = (&mut destination, taken.port) {
        *port = Some(given);
    }
    sketch.remotes.push(destination);
    sketch.events.delete = taken.deletes;
    let mut remarks = vec![Remark::note(number, tr!("a mirror: every change below it counts, whatever the mask says"))];
    if !taken.deletes {
        let text =
            tr!("without --delete in the line nothing is ever deleted there: <delete start=\"true\"/> changes that");
        remarks.push(Remark::note(number, text));
    }
    if asked.flat {
        remarks.push(Remark::note(number, tr!("recursive=false: what is below its directories is left out")));
    }
    Ok(Some((sketch, remarks)))
}

/// The words of a command that no shell is needed for, with `$@` as the path it stands for. `$#` stays.
fn plain_words(command: &str, path: &str) -> Option<Vec<String>> {
    let words = shlex::split(command)?;
    let is_plain = |word: &String| {
        let rest = word.replace("$@", "").replace("$#", "").replace("$$", "");
        !(rest.contains(['$', '`', '|', ';', '&', '<', '>', '(', ')', '~', '\n']))
    };
    if !words.iter().all(is_plain) {
        return None;
    }
    let path = path.trim_end_matches('/');
    Some(words.into_iter().map(|word| word.replace("$@", path).replace("$$", "$")).collect())
}

/// The command, for each path or, where it does not use the path, once for many.
fn plugin(
    command: &str,
    watch: &Path,
    asked: &Asked,
    number: usize,
    remarks: &mut Vec<Remark>,
) -> Result<Command, String> {
    if command.contains("$&") {
        return Err(tr!("$& (the event as a number): a command gets it in words only, in SERSYNC_EVENT"));
    }
    if !asked.loopable {
        let text = tr!(
            "the command must not write below {directory}: each change starts it again",
            directory = watch.display()
        );
        remarks.push(Remark::note(number, text));
    }
    if command.contains("$%") {
        let text =
            tr!("$% has no IN_ before the event's name, and is what holds now: CLOSE_WRITE, ATTRIB, CREATE, DELETE");
        remarks.push(Remark::note(number, text));
    }
    let words = shlex::split(command).ok_or_else(|| tr!("a quote is not closed in the command"))?;
    let is_path = |word: &&String| matches!(word.as_str(), "$@/$#");
    let uses = ["$@", "$#", "$%"].iter().any(|variable| command.contains(variable));
    let others: Vec<&String> = words.iter().filter(|word| !is_path(word)).collect();
    let for_a_shell =
        |word: &&String| word.contains(['$', '`', '|', ';', '&', '<', '>', '(', ')', '*', '?', '[', '~', '\n']);
    let join = |words: &[String]| words.iter().map(|word| crate::ctl::next::quoted(word)).collect::<Vec<_>>().join(" ");
    let plain = Command { prefix: String::new(), suffix: String::new(), batch: false, include: None };
    let at = words.iter().position(|word| is_path(&word));
    match at {
        // A program's name that a variable makes is for a shell.
        Some(at) if at > 0 && words.len() == others.len() + 1 && !others.iter().any(for_a_shell) => {
            let text = tr!("it runs for one path at a time, with its whole path, at any depth");
            remarks.push(Remark::note(number, text));
            Ok(Command { prefix: join(&words[..at]), suffix: join(&words[at + 1..]), ..plain })
        }
        _ if !uses => {
            remarks.push(Remark::note(number, tr!("it runs once for all changes that gathered while it ran before")));
            let prefix = match others.iter().any(for_a_shell) {
                true => in_a_shell(&command.replace("$$", "$")),
                false => join(&words),
            };
            Ok(Command { prefix, batch: true, ..plain })
        }
        _ => {
            remarks.push(Remark::note(number, tr!("a shell runs it, for one path at a time, at any depth")));
            Ok(Command { prefix: in_a_shell(&script(command, &words, watch)?), ..plain })
        }
    }
}

/// Programs to which a word may be a script, where a file's name would become part of it.
const INTERPRETERS: [&str; 14] =
    ["sh", "bash", "dash", "zsh", "ksh", "ash", "su", "ssh", "eval", "perl", "python", "python3", "ruby", "awk"];

/// The command as a shell's, with the path as its first argument.
fn script(command: &str, words: &[String], watch: &Path) -> Result<String, String> {
    let program = words.iter().position(|word| INTERPRETERS.contains(&word.rsplit('/').next().unwrap_or(word)));
    let behind = program.map_or(&[][..], |at| &words[at + 1..]);
    if behind.iter().any(|word| word.contains(['$', ';', '|']) && word.contains(char::is_whitespace)) {
        return Err(tr!(
            "a file's name would become part of a script: write a script that takes the path as its argument, and \
             $@/$# behind it"
        ));
    }
    let watched = watch.to_string_lossy();
    // With the entry's name beside it, what stands for the directory is the one that the entry is in.
    let known = [
        ("$@/$#", "$1"),
        ("$@", if command.contains("$#") { "${1%/*}" } else { watched.as_ref() }),
        ("$#", "${1##*/}"),
        ("$%", "$SERSYNC_EVENT"),
        ("$$", "$"),
    ];
    let (mut script, mut rest, mut quote) = (String::new(), command, None);
    while let Some(character) = rest.chars().next() {
        let found = known.iter().find(|(name, _)| rest.starts_with(name));
        match (quote, character, found) {
            (_, '$', Some(("$$", dollar))) => script.push_str(dollar),
            (Some('\''), '$', Some((name, _))) => {
                return Err(tr!("{name} stands between single quotes, where a shell leaves it as it is", name));
            }
            (_, '$', Some((_, value))) if !value.starts_with('$') => match quote {
                None => script.push_str(&crate::ctl::next::quoted(value)),
                Some(_) if value.contains(['"', '$', '`', '\\']) => {
                    return Err(tr!("{value} cannot stand between double quotes", value));
                }
                Some(_) => script.push_str(value),
            },
            (None, '$', Some((_, value))) => script.push_str(&format!("\"{value}\"")),
            (_, '$', Some((_, value))) => script.push_str(value),
            (None | Some('"'), '\\', _) => {
                let escaped = rest.chars().nth(1).map_or(1, |next| 1 + next.len_utf8());
                script.push_str(&rest[..escaped]);
                rest = &rest[escaped..];
                continue;
            }
            (None, '\'' | '"', _) => {
                quote = Some(character);
                script.push(character);
            }
            (_, other, _) => {
                if quote == Some(other) {
                    quote = None;
                }
                script.push(other);
            }
        }
        let length = if character == '$' { found.map_or(1, |(name, _)| name.len()) } else { character.len_utf8() };
        rest = &rest[length..];
    }
    Ok(script)
}

fn in_a_shell(script: &str) -> String {
    format!("/bin/sh -c {} sh", crate::ctl::next::quoted(script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PIECES: &[&str] = &[
        "/srv/a",
        " ",
        "\\ ",
        "IN_CREATE",
        "IN_DELETE",
        ",",
        "loopable=true",
        "256",
        "rsync",
        "-a",
        "-e",
        "ssh",
        "$@",
        "$@/$#",
        "$#",
        "$%",
        "$&",
        "$$",
        "$",
        "\"",
        "'",
        "\\",
        "/srv/a/",
        "web::m",
        "sh",
        "-c",
        "|",
        ">",
        "图",
        "#",
        "--exclude=",
        "[",
    ];

    proptest! {
        #[test]
        fn any_order_of_pieces_gets_an_answer(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..20)) {
            let line = format!("/srv/a IN_CREATE {}", pieces.concat());
            for line in [pieces.concat(), pieces.join(" "), line] {
                if let Ok(Some((sketch, _))) = read_line(&line, 1) {
                    let text = sketch.text(&line);
                    let value = |path: &[&str], name: &str| {
                        let found = config::written(text.as_bytes(), path, name);
                        found.into_iter().map(|written| written.value).next()
                    };
                    let watch = sketch.watch.to_str().map(str::to_owned);
                    prop_assert_eq!(value(&["head", "sersync", "localpath"], "watch"), watch, "{}", &text);
                    let prefix = sketch.command.as_ref().map(|command| command.prefix.clone());
                    prop_assert_eq!(value(&["head", "plugin", "param"], "prefix"), prefix, "{}", &text);
                }
            }
        }
    }

    #[test]
    fn a_path_takes_its_place_in_a_shell() {
        let script = |command: &str| script(command, &shlex::split(command).unwrap(), Path::new("/srv/a b"));
        for (command, expected) in [
            ("a $@/$# $$HOME", "a \"$1\" $HOME"),
            ("a \"x $@/$#\" $%", "a \"x $1\" \"$SERSYNC_EVENT\""),
            ("ls $@ | wc", "ls '/srv/a b' | wc"),
            ("a $@ $#", "a \"${1%/*}\" \"${1##*/}\""),
            ("a \\$x $@", "a \\$x '/srv/a b'"),
        ] {
            assert_eq!(script(command).as_deref(), Ok(expected), "{command}");
        }
        for refused in ["a '$#'", "sh -c 'gzip $@/$#'", "ssh web \"rm $@/$#\"", "eval \"a $#\""] {
            assert!(script(refused).is_err(), "{refused}");
        }
    }
}
