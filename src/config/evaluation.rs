//! Programs that run a text given as an argument, where a file name would be code.
//!
//! A path that is a word of its own is data for almost every program. These are the exceptions: programs that join
//! their arguments to a command for a shell, and interpreters that take a program as an argument. The lists are short
//! and cannot be complete; a script or program that evaluates its arguments itself is not recognized.

/// Programs that evaluate their arguments, wherever the path is among them.
const EVALUATORS: [&str; 18] = [
    "ssh", "slogin", "rsh", "mosh", "autossh", "dbclient", "eval", "watch", "parallel", "sem", "make", "gmake", "tmux",
    "screen", "expect", "sqlite", "gdb", "dc",
];

/// Interpreters, with the letters of the options whose value is a program or a command.
const INTERPRETERS: [(&[&str], &str); 6] = [
    (
        &[
            "sh", "bash", "rbash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "csh", "tcsh", "busybox", "su",
            "runuser", "script", "flock", "python", "pypy", "psql", "emacs", "vi", "vim", "nvim", "view", "ex",
        ],
        "c",
    ),
    (&["node", "nodejs", "bun", "deno"], "ep"),
    (&["php"], "rBRE"),
    (
        &[
            "perl", "ruby", "lua", "luajit", "mysql", "mariadb", "R", "Rscript", "julia", "groovy", "guile", "octave",
            "gnuplot", "mongo", "mongosh", "sed", "awk", "gawk", "mawk", "nawk",
        ],
        "eE",
    ),
    (&["tclsh", "wish"], ""),
    (&["env"], "S"),
];

/// Other programs with options whose value is a command. Any other option of theirs takes a path as data.
const COMMAND_OPTIONS: [(&[&str], &str); 3] =
    [(&["tar"], "IF"), (&["nc", "ncat", "lftp"], "ce"), (&["rsync", "xterm"], "e")];

/// Long options whose value is a program or a command.
const LONG_OPTIONS: [&str; 13] = [
    "command",
    "session-command",
    "eval",
    "print",
    "execute",
    "expression",
    "run",
    "source",
    "split-string",
    "rsh",
    "rsync-path",
    "to-command",
    "use-compress-program",
];

/// Interpreters whose first operand is a program, not a file.
const TEXT_FIRST: [&str; 5] = ["sed", "awk", "gawk", "mawk", "nawk"];

/// The program among the words before the path that would run the path as code.
pub fn evaluator(before: &[String]) -> Option<&str> {
    if let Some(found) = before.iter().flat_map(|word| commands_in(word)).find(|word| is_evaluator(word)) {
        return Some(found);
    }
    let last = before.last()?;
    before.iter().map(String::as_str).find(|word| {
        let name = program(word);
        let listed = INTERPRETERS.iter().chain(&COMMAND_OPTIONS).find(|(names, _)| names.contains(&name));
        listed.is_some_and(|(_, letters)| is_code_option(last, letters))
            || (*word == last && TEXT_FIRST.contains(&name))
            || (name == "perl" && opens_by_name(before))
    })
}

/// An interpreter among the words before the path that may run the path as code: one of its options stands directly
/// before the path, or its own word does. Behind a program text (`sh -c TEXT sh`) the word is only a name.
pub fn possible_evaluator(before: &[String]) -> Option<&str> {
    let (last, earlier) = before.split_last()?;
    if last.starts_with('-') {
        return before.iter().map(String::as_str).find(|word| is_interpreter(word));
    }
    let has_text = earlier.iter().enumerate().any(|(at, _)| evaluator(&before[..=at]).is_some());
    (is_interpreter(last) && !has_text).then_some(last)
}

/// An interpreter that would run its standard input: only options follow it.
pub fn stdin_interpreter(words: &[String]) -> Option<&str> {
    let at = words.iter().position(|word| is_interpreter(word) && !TEXT_FIRST.contains(&program(word)))?;
    words[at + 1..].iter().all(|word| word.starts_with('-')).then(|| words[at].as_str())
}

/// A text in which find(1) or xargs(1) would put a file name: more than the placeholder, for an interpreter or an
/// evaluator.
pub fn text_with_placeholder(words: &[String]) -> Option<&str> {
    let at = words.iter().position(|word| matches!(program(word), "find" | "xargs"))?;
    let mut marks = vec!["{}"];
    for (index, word) in words.iter().enumerate().skip(at) {
        match word.strip_prefix("-I").or_else(|| word.strip_prefix("--replace=")) {
            Some("") => marks.extend(words.get(index + 1).map(String::as_str)),
            Some(mark) => marks.push(mark),
            None => {}
        }
    }
    let runs = |word: &String| is_interpreter(word) || is_evaluator(word);
    let start = at + words[at..].iter().position(runs)?;
    (start + 1..words.len()).map(|index| (index, words[index].as_str())).find_map(|(index, word)| {
        let mark = marks.iter().find(|mark| word.contains(**mark))?;
        (word != *mark || evaluator(&words[start..index]).is_some()).then_some(word)
    })
}

/// The program that would run the paths that xargs(1) appends as code.
pub fn evaluator_behind_xargs(words: &[String]) -> Option<&str> {
    let at = words.iter().position(|word| program(word) == "xargs")?;
    evaluator(&words[at + 1..])
}

/// Whether perl reads its operands by `<>`, which runs a name that ends in `|`. In place (`-i`) it does not.
fn opens_by_name(words: &[String]) -> bool {
    let clusters = || words.iter().filter(|word| word.starts_with('-') && !word.starts_with("--"));
    clusters().any(|word| word.contains(['n', 'p'])) && !clusters().any(|word| word.contains('i'))
}

fn is_interpreter(word: &str) -> bool {
    INTERPRETERS.iter().any(|(names, _)| names.contains(&program(word)))
}

fn is_code_option(word: &str, letters: &str) -> bool {
    match word.strip_prefix("--") {
        Some(long) => LONG_OPTIONS.contains(&long),
        None => word.strip_prefix('-').is_some_and(|cluster| cluster.contains(|c| letters.contains(c))),
    }
}

/// The name of a program, without its directory and its version (`python3.11`).
fn program(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word).trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'))
}

/// Whether a word names a program of [`EVALUATORS`]; not a file of that name elsewhere.
fn is_evaluator(word: &str) -> bool {
    let is_program = word.rsplit_once('/').is_none_or(|(directory, _)| directory.ends_with("bin"));
    is_program && EVALUATORS.contains(&program(word))
}

/// The words that may be a command: the word itself, or those of each command with a variable in a text.
fn commands_in(word: &str) -> impl Iterator<Item = &str> {
    let is_text = word.contains(char::is_whitespace);
    let commands = word.split(|c: char| "|&;()`\n".contains(c)).filter(move |part| !is_text || part.contains('$'));
    let words = commands.flat_map(|part| part.split(|c: char| c.is_whitespace() || "'\"".contains(c)));
    words.filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        shlex::split(text).unwrap()
    }

    #[test]
    fn a_path_that_would_be_code_is_recognized() {
        for line in [
            "ssh web ls",
            "/usr/bin/ssh -p 22 web ls",
            "watch",
            "parallel gzip",
            "make -C /x",
            "sh -c",
            "/bin/bash -ec",
            "sudo -u www sh -c",
            "python3.11 -c",
            "/usr/bin/python3 -Wc",
            "node -e",
            "node --eval",
            "php8.2 -r",
            "perl -e",
            "perl -ne print",
            "perl -n /opt/x.pl",
            "ruby -e",
            "psql -c",
            "psql db -qc",
            "mysql -e",
            "mariadb db --execute",
            "su bob -c",
            "runuser -u bob -c",
            "flock /f -c",
            "script -q -c",
            "sed",
            "gawk",
            "sed -e",
            "lua5.4 -e",
            "sqlite3 db",
            "env -S",
            "tar -c -I",
            "rsync --rsh",
            "sh -c 'ssh web rm \"$1\"' sh",
            "sh -c 'eval \"$1\"' sh",
        ] {
            assert!(evaluator(&words(line)).is_some(), "{line}");
        }
        for line in [
            "gzip -c",
            "cp -r",
            "sh",
            "bash -x",
            "sh -e",
            "python3 /opt/x.py",
            "perl -w /opt/x.pl",
            "perl -pi -e s/a/b/",
            "sh -c 'gzip \"$1\"' sh",
            "sed -i s/a/b/",
            "awk '{print}'",
            "find",
            "tar -czf",
            "/srv/ssh/run",
            "/srv/ssh",
            "sh -c 'cd \"$1\" && make' sh",
            "watchdog",
            "python3 -c 'print(1)'",
            "grep -e x",
            "flock /f gzip",
            "sudo -u www gzip",
        ] {
            assert_eq!(evaluator(&words(line)), None, "{line}");
        }
    }

    #[test]
    fn an_interpreter_is_recognized_by_what_stands_before_the_path() {
        for line in ["sh", "bash -x", "python3 -W", "su bob -", "sh -c --", "vim -", "env sh", "flock /l bash"] {
            assert!(possible_evaluator(&words(line)).is_some(), "{line}");
        }
        for line in ["sh -c 'gzip \"$1\"' sh", "python3 /opt/x.py", "gzip -k", "sed -i s/a/b/", "tar -czf"] {
            assert_eq!(possible_evaluator(&words(line)), None, "{line}");
        }
    }

    #[test]
    fn a_list_that_would_be_code_is_recognized() {
        for line in ["sh", "/bin/bash -s", "python3 -", "perl -w", "sudo -u www sh"] {
            assert!(stdin_interpreter(&words(line)).is_some(), "{line}");
        }
        for line in ["xargs -0 gzip", "sh /opt/x.sh", "python3 -c 'print(1)'", "tar -T -"] {
            assert_eq!(stdin_interpreter(&words(line)), None, "{line}");
        }
        for line in [
            "xargs -0 -I{} sh -c 'gzip {}'",
            "xargs -0 -I % sh -c 'gzip %'",
            "find /x -exec ssh web rm {} ';'",
            "find /x -exec sh -c {} ';'",
        ] {
            assert!(text_with_placeholder(&words(line)).is_some(), "{line}");
        }
        assert_eq!(evaluator_behind_xargs(&words("xargs -0 ssh web rm")), Some("ssh"));
        assert_eq!(evaluator_behind_xargs(&words("ssh web xargs -0 -r rm --")), None);
        for line in ["xargs -0 -I{} sh -c 'gzip \"$1\"' sh {}", "xargs -0 -I{} cp {} /x/{}.bak", "gzip {}x"] {
            assert_eq!(text_with_placeholder(&words(line)), None, "{line}");
        }
    }
}
