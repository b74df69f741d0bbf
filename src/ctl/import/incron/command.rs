//! A command of incron's table as the plugin `command`.
//!
//! In incron every file name is code: bash reads the text that the name was put into. Here a name must never be code,
//! neither for bash nor for the program that gets it. Three rules do that, from general to particular:
//!
//! 1. **A name is a whole argument.** A word with a variable is `$@/$#`, `$@` or `$#`, or a path: it begins with `/`,
//!    `$@` or `$@/$#`, and its other characters are letters, digits and `/ . _ -` (`/backup/$#.gz`). Any other word with a
//!    variable is refused, whatever the program: only the program knows whether `print('$#')`, `s/x/$#/e`,
//!    `--rsh=$#` or `host:$#` is code. So no list of interpreters is needed for names inside of texts.
//! 2. **No builtin of bash gets a name, and no pipe carries one.** A command with a variable is started by `exec`,
//!    which knows programs only, so that `eval`, `[[`, `let` or `test -v` cannot evaluate it. Lists (`&&`, `||`, `;`)
//!    and redirections are kept. All other syntax is refused: what follows a `|` may run what it reads.
//! 3. **A short list of programs is refused,** because rules 1 and 2 cannot recognize them: programs that run a whole
//!    argument (`ssh`, `watch`, `sh -c $@/$#`). It is [`config::evaluator`], which the plugin's own configs obey too.
//!    It cannot be complete, so each accepted line names its program and word in a warning.
//!
//! A path is absolute, so that it is never an option. A bare `$#` that begins with a punctuation mark other than `.` and
//! `_` gets `./` in front, which makes it a path too. A command without a variable is bash's as it is; its standard input
//! is empty, as in incron, and not the list of paths that a batch gets.

use super::super::confxml::Command;
use super::super::said::Remark;
use super::words::{Piece, SplitError, Token, Unit, Word, split, units};
use super::{Asked, Watched};
use crate::config;
use crate::ctl::next::quoted;
use std::path::Path;
use tr::tr;

/// Words that bash reads as syntax at the start of a command.
const RESERVED: [&str; 20] = [
    "if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case", "esac", "select", "function",
    "coproc", "time", "in", "{", "}", "[[",
];

/// Commands that only a shell has.
const BUILTINS: [&str; 41] = [
    ".", ":", "alias", "bg", "bind", "break", "builtin", "caller", "cd", "command", "compgen", "complete", "continue",
    "declare", "dirs", "disown", "enable", "eval", "exec", "exit", "export", "fc", "fg", "getopts", "hash", "history",
    "jobs", "let", "local", "mapfile", "popd", "pushd", "read", "readonly", "return", "set", "shift", "shopt",
    "source", "trap", "unset",
];

/// A bare name as a path, where it could be taken for anything else.
const SAFE_NAME: &str = "n=${1##*/}; case $n in [._]*) ;; [[:punct:][:space:]]*) n=./$n; esac; ";

/// A command of a list, with its redirections.
#[derive(Default)]
struct Simple {
    words: Vec<Word>,
    redirections: Vec<(String, Word)>,
}

impl Simple {
    fn all(&self) -> impl Iterator<Item = &Word> {
        self.words.iter().chain(self.redirections.iter().map(|(_, target)| target))
    }

    fn has_variable(&self) -> bool {
        self.all().any(Word::has_variable)
    }
}

impl Word {
    fn has_variable(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    fn has_path(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_) | Piece::Events))
    }

    /// The word with nothing for its variables.
    fn text(&self) -> String {
        let texts = self.pieces.iter().map(|piece| if let Piece::Text(text) = piece { text } else { "" });
        texts.collect()
    }

    /// Whether it is a path, and nothing else could be made of it.
    fn is_path(&self) -> bool {
        let is_inert = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
        let begins = match self.pieces.first() {
            Some(Piece::Text(text)) => text.starts_with('/'),
            Some(Piece::Path | Piece::Directory) => true,
            _ => false,
        };
        let rest = |piece: &Piece| match piece {
            Piece::Text(text) => text.chars().all(is_inert),
            Piece::Events => false,
            _ => true,
        };
        begins && self.pieces.iter().all(rest)
    }
}

/// The plugin for a command: for each path or, where it does not use the path, once for many.
pub fn plugin(
    command: &str,
    watch: &Path,
    watched: Watched,
    asked: &Asked,
    number: usize,
    remarks: &mut Vec<Remark>,
) -> Result<Command, String> {
    let (units, dropped) = units(command);
    if units.contains(&Unit::Mask) {
        return Err(tr!("$& (the event as a number): a command gets it in words only, in SERSYNC_EVENT"));
    }
    for character in dropped {
        remarks.push(Remark::note(number, tr!("incron drops the $ of ${character}: $$ is a dollar sign", character)));
    }
    if !asked.loopable {
        let text = tr!(
            "the command must not write below {directory}: each change starts it again",
            directory = watch.display()
        );
        remarks.push(Remark::note(number, text));
    }
    let plain = Command { prefix: String::new(), suffix: String::new(), batch: false, include: None };
    if !units.iter().any(|unit| matches!(unit, Unit::Variable(..))) {
        remarks.push(Remark::note(number, tr!("it runs once for all changes that gathered while it ran before")));
        let text = units.into_iter().filter_map(|unit| if let Unit::Character(c) = unit { Some(c) } else { None });
        let script = format!("exec </dev/null; {}", text.collect::<String>());
        return Ok(Command { prefix: format!("/bin/bash -c {}", quoted(&script)), batch: true, ..plain });
    }
    if units.iter().any(|unit| matches!(unit, Unit::Variable(Piece::Events, _))) {
        let text =
            tr!("$% has no IN_ before the event's name, and is what holds now: CLOSE_WRITE, ATTRIB, CREATE, DELETE");
        remarks.push(Remark::note(number, text));
    }
    let tokens = split(units).map_err(|error| match error {
        SplitError::Unbalanced => tr!("a quote is not closed in the command"),
        SplitError::Shell(text) => {
            instead(&tr!("{text} is for a shell, and in a shell a file name can become code", text))
        }
    })?;
    let mut parts = list(tokens)?;
    for (simple, _) in &mut parts {
        if watched == Watched::File {
            whole_path(simple)?;
        }
        check(simple, watched)?;
        for word in simple.all().filter(|word| word.has_path()) {
            let program = simple.words[0].text();
            let text = tr!(
                "{program} gets a file name in {word}: make sure that it does not run its arguments as code",
                program,
                word = word.written
            );
            remarks.push(Remark::note(number, text));
        }
    }
    remarks.push(Remark::note(number, tr!("it runs for one path at a time, with its whole path, at any depth")));
    if let [(Simple { words, redirections }, "")] = parts.as_slice()
        && redirections.is_empty()
        && let [at] = words.iter().enumerate().filter(|(_, word)| word.has_variable()).collect::<Vec<_>>().as_slice()
        && at.1.pieces == [Piece::Path]
    {
        let join = |words: &[Word]| words.iter().map(|word| quoted(&word.text())).collect::<Vec<_>>().join(" ");
        return Ok(Command { prefix: join(&words[..at.0]), suffix: join(&words[at.0 + 1..]), ..plain });
    }
    let words = ["/bin/bash", "-c", &script(&parts, watch), "bash"].map(str::to_owned);
    if let Some(program) = config::evaluator(&words) {
        return Err(instead(&tr!("{program} may run {word}, and a file name can be code", program, word = command)));
    }
    Ok(Command { prefix: words.each_ref().map(|word| quoted(word)).join(" "), ..plain })
}

/// The commands of a list, each with the separator behind it.
fn list(tokens: Vec<Token>) -> Result<Vec<(Simple, &'static str)>, String> {
    let mut parts = Vec::new();
    let mut simple = Simple::default();
    for token in tokens {
        match token {
            Token::Word(word) => simple.words.push(word),
            Token::Redirection(operator, target) => simple.redirections.push((operator, target)),
            Token::Separator(separator) => parts.push((std::mem::take(&mut simple), separator)),
        }
    }
    match parts.last_mut() {
        Some((_, separator)) if simple.words.is_empty() && simple.redirections.is_empty() && *separator == ";" => {
            *separator = "";
        }
        _ => parts.push((simple, "")),
    }
    match parts.iter().all(|(simple, _)| simple.words.first().is_some_and(|word| !word.pieces.is_empty())) {
        true => Ok(parts),
        false => Err(tr!("a program is missing in the command")),
    }
}

/// For a watched file, which `$@` is; incron has no `$#` then.
fn whole_path(simple: &mut Simple) -> Result<(), String> {
    let targets = simple.redirections.iter_mut().map(|(_, target)| target);
    for word in simple.words.iter_mut().chain(targets) {
        if word.pieces.contains(&Piece::Name) {
            return Err(tr!("{word}: $# is empty for a watched file: write $@", word = word.written));
        }
        for piece in word.pieces.iter_mut().filter(|piece| **piece == Piece::Directory) {
            *piece = Piece::Path;
        }
    }
    Ok(())
}

/// Refuses a command in which a file name could be code.
fn check(simple: &Simple, watched: Watched) -> Result<(), String> {
    let program = &simple.words[0];
    if let Some(word) = RESERVED.iter().find(|word| program.written == **word) {
        return Err(instead(&tr!("{text} is for a shell, and in a shell a file name can become code", text = word)));
    }
    if !simple.has_variable() {
        return Ok(());
    }
    if program.has_variable() {
        return Err(instead(&tr!("{word} would be started as a program", word = program.written)));
    }
    if let Some(word) = BUILTINS.iter().find(|word| program.text() == **word) {
        return Err(instead(&tr!("{text} is for a shell, and in a shell a file name can become code", text = word)));
    }
    for word in simple.all().filter(|word| word.has_path()) {
        let is_variable = matches!(word.pieces.as_slice(), [Piece::Path | Piece::Directory | Piece::Name]);
        if !is_variable && !word.is_path() {
            return Err(instead(&tr!(
                "{word} is more than a path, and a file name in a text can be code",
                word = word.written
            )));
        }
        if watched == Watched::Wildcard && word.pieces != [Piece::Path] {
            return Err(tr!("{word}: with a wildcard in the path, only $@/$# is known", word = word.written));
        }
    }
    let texts: Vec<String> = simple.words.iter().map(Word::text).collect();
    for (at, word) in simple.words.iter().enumerate().filter(|(_, word)| word.has_path()) {
        let before = &texts[..at];
        if let Some(program) = config::evaluator(before).or_else(|| config::possible_evaluator(before)) {
            let word = &word.written;
            return Err(instead(&tr!("{program} may run {word}, and a file name can be code", program, word)));
        }
    }
    if let Some(text) = texts.iter().find(|text| text.contains("{}") && *text != "{}") {
        return Err(instead(&tr!("{word} is more than a path, and a file name in a text can be code", word = text)));
    }
    Ok(())
}

/// A reason, and what to write in the table.
fn instead(reason: &str) -> String {
    let advice = tr!("write a script that reads the path from \"$1\", and SCRIPT $@/$# in the table");
    format!("{reason}: {advice}")
}

/// The commands for bash, with the path as its first argument.
fn script(parts: &[(Simple, &'static str)], watch: &Path) -> String {
    let words = || parts.iter().flat_map(|(simple, _)| simple.all());
    let mut script = String::new();
    if words().any(|word| word.pieces == [Piece::Name]) {
        script.push_str(SAFE_NAME);
    }
    if watch == Path::new("/") && words().any(|word| word.pieces == [Piece::Directory]) {
        script.push_str("d=${1%/*}; ");
    }
    let is_alone = parts.len() == 1;
    for (simple, separator) in parts {
        let mut line: Vec<String> = simple.words.iter().map(|word| argument(word, watch)).collect();
        for (operator, target) in &simple.redirections {
            let target = if operator.contains(">&") || operator.contains("<&") {
                String::new()
            } else {
                argument(target, watch)
            };
            line.push(format!("{operator}{target}"));
        }
        let line = line.join(" ");
        script.push_str(&match (simple.has_variable(), is_alone) {
            (true, true) => format!("exec {line}"),
            (true, false) => format!("(exec {line})"),
            (false, _) => line,
        });
        match *separator {
            "" => {}
            ";" => script.push_str("; "),
            other => script.push_str(&format!(" {other} ")),
        }
    }
    script
}

/// A word for bash, which expands it to one argument.
fn argument(word: &Word, watch: &Path) -> String {
    match word.pieces.as_slice() {
        [] => return "''".to_owned(),
        [Piece::Name] => return "\"$n\"".to_owned(),
        // Nothing is left of a path in the root directory.
        [Piece::Directory] if watch == Path::new("/") => return "\"${d:-/}\"".to_owned(),
        _ => {}
    }
    let pieces = word.pieces.iter().map(|piece| match piece {
        Piece::Text(text) => quoted(text),
        Piece::Path => "\"$1\"".to_owned(),
        Piece::Directory => "\"${1%/*}\"".to_owned(),
        Piece::Name => "\"${1##*/}\"".to_owned(),
        Piece::Events => "\"$SERSYNC_EVENT\"".to_owned(),
    });
    pieces.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(command: &str) -> Result<(String, String), String> {
        let asked = Asked::default();
        plugin(command, Path::new("/srv/in"), Watched::Directory, &asked, 1, &mut Vec::new())
            .map(|command| (command.prefix, command.suffix))
    }

    #[test]
    fn a_whole_word_becomes_an_argument() {
        for (command, prefix, suffix) in [
            ("/bin/run --fast $@/$# 'a b'", "/bin/run --fast", "'a b'"),
            ("sh -c 'gzip \"$$1\"' x '$@/$#'", "sh -c 'gzip \"$1\"' x", ""),
            ("nice -n 5 python3 /opt/x.py \"$@/$#\" # now", "nice -n 5 python3 /opt/x.py", ""),
        ] {
            assert_eq!(convert(command), Ok((prefix.to_owned(), suffix.to_owned())), "{command}");
        }
    }

    #[test]
    fn what_is_left_of_a_shell_expands_each_word_to_one_argument() {
        for (command, expected) in [
            ("cp $@/$# /backup/$#.gz", "exec cp \"$1\" /backup/\"${1##*/}\".gz"),
            ("a $@ $# $%", &format!("{SAFE_NAME}exec a \"${{1%/*}}\" \"$n\" \"$SERSYNC_EVENT\"")),
            ("gzip -c $@/$# >>/var/log/x 2>&1", "exec gzip -c \"$1\" >>/var/log/x 2>&1"),
            ("cd /srv && gzip $@/$#; ok 'it'\\''s'", "cd /srv && (exec gzip \"$1\"); ok \"it's\""),
            ("logger \"got $%!\" $@/$#;", "exec logger 'got '\"$SERSYNC_EVENT\"'!' \"$1\""),
        ] {
            let script = convert(command).map(|(prefix, _)| shlex::split(&prefix).unwrap());
            let expected = ["/bin/bash", "-c", expected, "bash"].map(str::to_owned).to_vec();
            assert_eq!(script, Ok(expected), "{command}");
        }
        let without = convert("echo $$HOME | wc");
        assert_eq!(without, Ok(("/bin/bash -c 'exec </dev/null; echo $HOME | wc'".to_owned(), String::new())));
    }
}
