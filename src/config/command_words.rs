//! [`CommandLine`]: `PREFIX PATH SUFFIX` of the plugin `command`, in words.
//!
//! sersync 2.5.4 gave the whole line to a shell, and many a suffix is nothing but `>/dev/null 2>&1`. No shell sees it
//! here: the words are split as a shell would, redirections to nowhere are understood, and whatever else only a shell
//! could do is refused with the way to have one. So is a line that has another program run the path: [`evaluation`].

use super::evaluation;

/// The words around the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The words before the path; the first is the program. None: the path itself is the program.
    pub before: Vec<String>,
    /// The words behind the path.
    pub behind: Vec<String>,
    /// What is written to standard output is thrown away.
    pub quiet: bool,
    /// What is written to standard error is thrown away.
    pub silent: bool,
}

/// Why a line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// A quote is open.
    #[error("a quote is not closed in {1} \"{0}\"")]
    Unbalanced(String, &'static str),
    /// A word that means something to a shell only.
    #[error("\"{0}\" in {1} is for a shell, and none runs this")]
    Shell(String, &'static str),
    /// A program that runs the path, or the word that holds it, as code.
    #[error("{0} runs its argument as code, and a file name can be code")]
    Code(String),
    /// An interpreter that runs the list of paths as code.
    #[error("{0} runs its standard input as code, and a file name can be code")]
    CodeInput(String),
    /// A word in which another program puts the path, for an interpreter.
    #[error("\"{0}\" becomes code with a file name in it")]
    CodeText(String),
    /// A batch has no path to run.
    #[error("a batch needs a program to start, and the prefix is empty")]
    NoProgram,
}

impl CommandLineError {
    /// What to do.
    pub(super) fn help(&self) -> &'static str {
        match self {
            Self::Unbalanced(..) => "quote as in a shell: prefix=\"/usr/bin/logger -t 'two words'\"",
            Self::Shell(..) => {
                "put it into a script, or name the shell: prefix=\"/bin/sh -c 'cat &quot;$1&quot; | wc' sh\"; \
                 quote the word if it is meant as it is"
            }
            Self::Code(_) | Self::CodeText(_) => {
                "put the command into a script that reads the path from \"$1\": \
                 prefix=\"/bin/sh -c 'gzip -- &quot;$1&quot;' sh\"; for another host, \
                 prefix=\"ssh web2 xargs -0 -r COMMAND\" batch=\"true\""
            }
            Self::CodeInput(_) => "name a script or program that reads the list: prefix=\"xargs -0 -r COMMAND\"",
            Self::NoProgram => "write it: prefix=\"/usr/local/bin/on-change\"",
        }
    }
}

/// Whether the suffix is at fault.
pub(super) fn is_about_suffix(error: &CommandLineError) -> bool {
    matches!(error, CommandLineError::Unbalanced(_, "suffix") | CommandLineError::Shell(_, "suffix"))
}

impl CommandLine {
    /// Reads both halves of the line.
    pub fn read(prefix: &str, suffix: &str, batch: bool) -> Result<Self, CommandLineError> {
        let mut line = Self { before: split(prefix, "prefix")?, behind: Vec::new(), quiet: false, silent: false };
        if batch && line.before.is_empty() {
            return Err(CommandLineError::NoProgram);
        }
        let (words, to_nowhere) = without_redirections(suffix);
        // As a shell does it: from left to right.
        for redirection in to_nowhere.into_iter().rev() {
            match redirection {
                "2>/dev/null" => line.silent = true,
                "&>/dev/null" | ">&/dev/null" => (line.quiet, line.silent) = (true, true),
                "2>&1" => line.silent = line.quiet,
                "1>&2" => line.quiet = line.silent,
                _ => line.quiet = true,
            }
        }
        line.behind = split(&words, "suffix")?;
        line.check_code(batch)?;
        Ok(line)
    }

    /// Refuses a line that makes code of file names.
    fn check_code(&self, batch: bool) -> Result<(), CommandLineError> {
        let owned = |word: &str| word.to_owned();
        let words: Vec<String> = self.before.iter().chain(&self.behind).cloned().collect();
        if let Some(text) = evaluation::text_with_placeholder(&words) {
            return Err(CommandLineError::CodeText(owned(text)));
        }
        if let (true, Some(program)) = (batch, evaluation::stdin_interpreter(&words)) {
            return Err(CommandLineError::CodeInput(owned(program)));
        }
        let evaluator = match batch {
            true => evaluation::evaluator_behind_xargs(&words),
            false => evaluation::evaluator(&self.before),
        };
        evaluator.map_or(Ok(()), |program| Err(CommandLineError::Code(owned(program))))
    }
}

const TO_NOWHERE: [&str; 8] =
    [">/dev/null", "1>/dev/null", ">>/dev/null", "2>/dev/null", "&>/dev/null", ">&/dev/null", "2>&1", "1>&2"];

/// `suffix` without the words at its end that send output nowhere, and these, the last first.
fn without_redirections(suffix: &str) -> (String, Vec<&'static str>) {
    let spaced = suffix.replace("> /dev/null", ">/dev/null");
    let mut rest = spaced.trim_end();
    let mut found = Vec::new();
    while let Some(word) = TO_NOWHERE.into_iter().filter(|word| rest.ends_with(word)).max_by_key(|word| word.len()) {
        let before = &rest[..rest.len() - word.len()];
        if !before.is_empty() && !before.ends_with(char::is_whitespace) {
            break;
        }
        found.push(word);
        rest = before.trim_end();
    }
    (rest.to_owned(), found)
}

fn split(text: &str, what: &'static str) -> Result<Vec<String>, CommandLineError> {
    if let Some(word) = for_a_shell(text) {
        return Err(CommandLineError::Shell(word, what));
    }
    shlex::split(text).ok_or_else(|| CommandLineError::Unbalanced(text.to_owned(), what))
}

/// What stands outside of quotes that a shell would not take as it is.
fn for_a_shell(text: &str) -> Option<String> {
    let (mut quote, mut escaped) = (None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '|' | ';' | '&' | '<' | '>' | '(' | ')' | '`' | '$' | '*' | '?') | (Some('"'), '`' | '$') => {
                let begun = text[..at].rsplit(char::is_whitespace).next().map_or(0, str::len);
                return text[at - begun..].split_whitespace().next().map(str::to_owned);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(prefix: &str, suffix: &str) -> (Vec<String>, Vec<String>, bool, bool) {
        let line = CommandLine::read(prefix, suffix, false).unwrap();
        (line.before, line.behind, line.quiet, line.silent)
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn redirections_to_nowhere_are_understood() {
        let (before, behind, quiet, silent) = words("/bin/sh", ">/dev/null 2>&1");
        assert_eq!((before, behind, quiet, silent), (strings(&["/bin/sh"]), vec![], true, true));
        let (_, behind, quiet, silent) = words("x", "--fast 'a b' > /dev/null");
        assert_eq!((behind, quiet, silent), (strings(&["--fast", "a b"]), true, false));
        let (_, behind, quiet, silent) = words("x", "2>&1");
        assert_eq!((behind, quiet, silent), (vec![], false, false));
    }

    #[test]
    fn a_line_that_makes_code_of_a_file_name_is_refused() {
        use CommandLineError::{Code, CodeInput, CodeText};
        let read = |prefix: &str, suffix: &str, batch| CommandLine::read(prefix, suffix, batch);
        for prefix in ["sh -c", "/usr/bin/ssh web2 purge", "python3.11 -c", "su www -c", "make -C /srv", "php -r"] {
            assert!(matches!(read(prefix, "", false), Err(Code(_))), "{prefix}");
        }
        assert!(matches!(read("find", "-exec sh -c 'gzip {}' ';'", false), Err(CodeText(_))));
        assert!(matches!(read("xargs -0 -I% sh -c 'gzip %'", "", true), Err(CodeText(_))));
        assert!(matches!(read("/bin/sh", "", true), Err(CodeInput(_))));
        assert!(matches!(read("xargs -0 ssh web2 purge", "", true), Err(Code(_))));
        for (prefix, batch) in [
            ("/bin/sh", false),
            ("sh -c 'gzip \"$1\"' sh", false),
            ("ssh web2 xargs -0 -r purge", true),
            ("sh -c 'xargs -0 gzip'", true),
        ] {
            assert!(read(prefix, "", batch).is_ok(), "{prefix}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused_and_a_named_shell_gets_it() {
        for (prefix, suffix) in
            [("cat", "| wc"), ("a; b", ""), ("echo $HOME", ""), ("a", ">/tmp/log"), ("a", "\"`b`\"")]
        {
            let refused = CommandLine::read(prefix, suffix, false);
            assert!(matches!(refused, Err(CommandLineError::Shell(..))), "{prefix} {suffix}: {refused:?}");
        }
        // The blank is one of two bytes, as it comes along from a web page.
        let refused = CommandLine::read("a", "\u{a0};b c", false);
        assert_eq!(refused, Err(CommandLineError::Shell(";b".to_owned(), "suffix")));
        let (before, ..) = words(r#"/bin/sh -c 'cat "$1" | wc' sh"#, "");
        assert_eq!(before, strings(&["/bin/sh", "-c", r#"cat "$1" | wc"#, "sh"]));
        assert!(matches!(CommandLine::read("'open", "", false), Err(CommandLineError::Unbalanced(..))));
        assert_eq!(CommandLine::read(" ", "", true), Err(CommandLineError::NoProgram));
    }
}
