//! incron's tables: `PATH MASK COMMAND`. A line with a plain rsync becomes a mirror, any other one the plugin `command`
//! instead of rsync.
//!
//! Nothing of a table is run. Paths and masks mean what they mean in incron 0.5.12: it watches subdirectories unless
//! `recursive=false`, hidden ones only with `dotdirs=true`, and expands wildcards in a path. incron starts one command
//! for each event; here the command runs once at a time while changes gather.

mod command;
mod words;

use super::confxml::Sketch;
use super::install::{Draft, Harvest, directory_name};
use super::rsync_words;
use super::said::Remark;
use super::{ImportError, bytes_of};
use crate::config::{self, Destination, EventSwitches};
use crate::filter::Filter;
use command::plugin;
use nix::unistd::{Uid, User};
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
    dot_directories: bool,
}

/// What the path of a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Directory,
    File,
    /// A path with `*` or `?`, of files and directories.
    Wildcard,
}

/// Reads tables. `user`: for the instances of the calling user.
pub fn read(tables: &[PathBuf], user: bool) -> Result<Harvest, ImportError> {
    let mut harvest = Harvest::default();
    for table in tables {
        let text = String::from_utf8_lossy(&bytes_of(table)?).into_owned();
        if let Some(why) = owner(table).and_then(|owner| foreign(&owner, user)) {
            harvest.remarks.push(Remark::lost(0, why).of(table));
            continue;
        }
        let mut has_command = false;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            match read_line(line, number) {
                Ok(None) => {}
                Ok(Some((sketch, remarks))) => {
                    has_command |= sketch.command.is_some();
                    let file = table.file_name().unwrap_or(table.as_os_str()).to_string_lossy();
                    let text = sketch.text(&format!("{file}, line {number}"));
                    let origin = PathBuf::from(format!("{}:{number}", table.display()));
                    harvest.drafts.push(Draft::of_text(directory_name(&sketch.watch), origin, text, remarks));
                }
                Err(why) => harvest.remarks.push(Remark::lost(number, why).of(table)),
            }
        }
        if has_command && !user {
            let text = tr!(
                "incron ran these commands as root; sersync@NAME runs them as user sersync, which reads every file and \
                 writes none but its state. To let them write or become another user, install a drop-in: \
                 /usr/share/doc/sersync/drop-ins/plugin-writes.conf or plugin-user.conf"
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

/// The user whose table this is. None: root's and the system's.
fn owner(table: &Path) -> Option<String> {
    // Also from inside of the directory, and through a link.
    let table = table.canonicalize().ok()?;
    let name = table.file_name()?.to_string_lossy().into_owned();
    (table.parent()?.ends_with("spool/incron") && name != "root").then_some(name)
}

/// Why the commands of `owner` may not become those of this scope's instances; `user`: the calling user's.
fn foreign(owner: &str, user: bool) -> Option<String> {
    let advice = || tr!("as {owner}: incrontab -l >table && sersyncctl --user import incron table", owner);
    if !user {
        let why = tr!(
            "a table of user {owner}, whose commands would get the right of sersync@NAME to read every file",
            owner
        );
        return Some(format!("{why}: {}", advice()));
    }
    let caller = User::from_uid(Uid::effective()).ok().flatten().map(|user| user.name)?;
    (caller != owner).then(|| {
        let why = tr!("a table of user {owner}, whose commands would run as {caller}", owner, caller);
        format!("{why}: {}", advice())
    })
}

/// A config and what is different in it; `None`: the line says nothing.
fn read_line(line: &str, number: usize) -> Result<Option<(Sketch, Vec<Remark>)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    // A line with a NUL byte is not a text either.
    if line.contains(['\u{fffd}', '\0']) {
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
    let wildcard = wildcard(&path, &asked)?;
    let watched = match Path::new(&path).is_file() {
        _ if wildcard.is_some() => Watched::Wildcard,
        true => Watched::File,
        false => Watched::Directory,
    };
    let mut sketch = Sketch::new(Path::new(&path).components().collect());
    if watched == Watched::Directory
        && let Some(mirror) = mirror(command, &path, &asked, number)?
    {
        sketch = mirror.0;
        remarks.retain(|remark: &Remark| remark.lost);
        remarks.extend(mirror.1);
        return Ok(Some((sketch, remarks)));
    }
    sketch.events = events(asked.mask, number, &mut remarks)?;
    let mut command = plugin(command, &sketch.watch, watched, &asked, number, &mut remarks)?;
    match wildcard {
        Some((directory, expression)) => {
            sketch.watch = directory;
            command.include = Some(expression);
            let text = tr!("a wildcard in the path: what matches later is watched as well");
            remarks.push(Remark::note(number, text));
        }
        None if watched == Watched::File => {
            // A directory is what can be watched here.
            command.include = Some(regex::escape(&path));
            sketch.watch = sketch.watch.parent().unwrap_or(Path::new("/")).to_path_buf();
            sketch.patterns.push("/*/".to_owned());
        }
        None => {}
    }
    sketch.command = Some(command);
    if watched != Watched::File {
        sketch.patterns.extend(scope(&asked));
    }
    Ok(Some((sketch, remarks)))
}

/// The patterns that leave out what incron does not watch.
fn scope(asked: &Asked) -> Vec<String> {
    let flat = asked.flat.then_some("/*/*");
    let hidden = (!asked.dot_directories).then_some(".*/");
    flat.into_iter().chain(hidden).map(str::to_owned).collect()
}

/// The directory to watch for a path with wildcards, and the expression for the absolute paths that count.
fn wildcard(path: &str, asked: &Asked) -> Result<Option<(PathBuf, String)>, String> {
    let is_wildcard = |c: char| matches!(c, '*' | '?' | '[');
    let Some(first) = path.find(is_wildcard) else { return Ok(None) };
    let fixed = &path[..path[..first].rfind('/').unwrap_or(0)];
    let lines = tr!("write a line for each directory");
    if path.contains('[') {
        return Err(tr!("{path}: [ is a wildcard", path) + ": " + &lines);
    }
    if asked.flat {
        return Err(tr!("{path}: incron watches nothing for a wildcard with recursive=false", path) + ": " + &lines);
    }
    if fixed.trim_matches('/').is_empty() {
        return Err(tr!("{path}: the whole file system would be watched", path) + ": " + &lines);
    }
    let directory: PathBuf = Path::new(fixed).components().collect();
    let mut expression = regex::escape(&directory.to_string_lossy());
    for component in path[fixed.len()..].split('/').filter(|component| !component.is_empty()) {
        expression.push('/');
        let mut characters = component.chars().peekable();
        let mut is_first = true;
        while let Some(character) = characters.next() {
            // As in a shell, a hidden name is matched by its dot only.
            let piece = match (character, is_first, characters.peek()) {
                ('*', true, None | Some('.')) => "[^/.][^/]*".to_owned(),
                ('*', true, _) => "([^/.][^/]*)?".to_owned(),
                ('*', false, _) => "[^/]*".to_owned(),
                ('?', true, _) => "[^/.]".to_owned(),
                ('?', false, _) => "[^/]".to_owned(),
                (other, ..) => regex::escape(&other.to_string()),
            };
            expression.push_str(&piece);
            is_first = false;
        }
    }
    // With what is in matching directories.
    expression.push_str("(?s:/.*)?");
    Ok(Some((directory, expression)))
}

/// The first word, in which a backslash keeps a blank, and what follows it.
fn first_word(text: &str) -> (String, &str) {
    let is_blank = |c: char| c == ' ' || c == '\t';
    let text = text.trim_start_matches(is_blank);
    let mut word = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => word.extend(characters.next().map(|(_, escaped)| escaped)),
            blank if is_blank(blank) => return (word, text[at..].trim_start_matches(is_blank)),
            other => word.push(other),
        }
    }
    (word, "")
}

fn read_mask(text: &str, number: usize, remarks: &mut Vec<Remark>) -> Result<Asked, String> {
    let mut asked = Asked::default();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits > 0 {
        asked.mask = text[..digits].parse().map_err(|_| tr!("{word} is no event of inotify", word = text))?;
        if digits < text.len() {
            let note = tr!("incron reads {mask} as a number, and ignores what follows it", mask = text);
            remarks.push(Remark::note(number, note));
        }
    }
    let words = if digits > 0 { "" } else { text };
    for word in words.split(',').filter(|word| !word.is_empty()) {
        match word {
            "loopable=true" => asked.loopable = true,
            "recursive=false" => asked.flat = true,
            "dotdirs=true" => asked.dot_directories = true,
            "loopable=false" | "recursive=true" | "dotdirs=false" => {}
            _ => match word.split_once('=') {
                Some(("loopable" | "recursive" | "dotdirs", _)) => {
                    remarks.push(Remark::note(number, tr!("incron ignores {word}", word)));
                }
                Some((name, _)) => return Err(tr!("{name} is no option of incron that is known here", name)),
                None => {
                    let bits = EVENTS.iter().chain(&OTHERS).find(|(name, _)| *name == word).map(|(_, bits)| *bits);
                    asked.mask |= bits.ok_or_else(|| tr!("{word} is no event of inotify", word))?;
                }
            },
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
    // What is sent is the directory, or the entry that changed.
    let directory = source.strip_suffix("/$#").or_else(|| source.strip_suffix('/')).unwrap_or(source);
    let bare: PathBuf = Path::new(directory).components().collect();
    let has_variable = |word: &String| ["$#", "$%", "$&"].iter().any(|variable| word.contains(variable));
    if bare != sketch.watch || words.iter().any(|word| word != source && has_variable(word)) {
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
    if source.ends_with("$#") {
        // Only what an event names is sent.
        sketch.patterns.extend(scope(asked));
        if asked.flat {
            remarks.push(Remark::note(number, tr!("recursive=false: what is below its directories is left out")));
        }
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
}
