//! The lines of rc.local, of crontabs and of start scripts that start sersync 2.5.4: which config, with which options.
//!
//! The words of such a file are read as a shell would split them, and no further: nothing is expanded and nothing is
//! run. A line that holds a variable is shown with what to do by hand.

use std::path::{Path, PathBuf};

/// One start of sersync2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartLine {
    /// Counted from 1.
    pub number: usize,
    /// As written.
    pub text: String,
    /// The config that it reads; `None`: a variable stands there.
    pub config: Option<PathBuf>,
    /// `-r`.
    pub full_sync: bool,
    /// `-n`.
    pub workers: Option<u16>,
    /// `-m`, as written.
    pub plugin: Option<String>,
}

/// Programs that have sersync2 for an argument and do not start it.
const OTHERS: [&str; 21] = [
    "[", "[[", "test", "echo", "printf", "kill", "killall", "pkill", "pgrep", "pidof", "ps", "grep", "ls", "cp", "mv",
    "rm", "chmod", "chown", "which", "cat", "tar",
];

/// Every start line of `text`.
pub fn find(text: &str) -> Vec<StartLine> {
    let mut found = Vec::new();
    let mut directory = None;
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut whole = line.to_owned();
        while whole.ends_with('\\') {
            whole.pop();
            let Some((_, more)) = lines.next() else { break };
            whole.push_str(more.trim_start());
        }
        let mut reader = Reader { number: index + 1, line: &whole, directory: &mut directory, found: &mut found };
        reader.read(&whole);
    }
    found
}

/// One line while it is read.
struct Reader<'a> {
    number: usize,
    line: &'a str,
    /// Where the last `cd` went.
    directory: &'a mut Option<PathBuf>,
    found: &'a mut Vec<StartLine>,
}

impl Reader<'_> {
    fn read(&mut self, text: &str) {
        for command in commands(text) {
            if let [cd, directory, ..] = command.as_slice()
                && cd == "cd"
            {
                *self.directory = Some(Path::new("/").join(directory));
                continue;
            }
            let Some(at) = command.iter().position(|word| is_program(word)) else {
                // `su - www -c "…"`
                let inner = command.iter().filter(|word| word.contains(' ') && word.contains("sersync"));
                inner.for_each(|word| self.read(word));
                continue;
            };
            if !command[..at].iter().any(|word| OTHERS.contains(&base_name(word))) {
                let start = self.start(&command[at], &command[at + 1..]);
                self.found.push(start);
            }
        }
    }

    fn start(&self, program: &str, words: &[String]) -> StartLine {
        let (number, text) = (self.number, self.line.to_owned());
        let mut start = StartLine { number, text, config: None, full_sync: false, workers: None, plugin: None };
        let mut config = "confxml.xml".to_owned();
        let mut words = words.iter().take_while(|word| !word.contains(['<', '>']));
        while let Some(word) = words.next() {
            let Some(mut letters) = word.strip_prefix('-').map(str::chars) else { continue };
            while let Some(letter) = letters.next() {
                let value = match letter {
                    'n' | 'o' | 'm' if letters.as_str().is_empty() => words.next().cloned().unwrap_or_default(),
                    'n' | 'o' | 'm' => letters.by_ref().collect(),
                    _ => String::new(),
                };
                match letter {
                    'r' => start.full_sync = true,
                    'n' => start.workers = value.parse().ok(),
                    'o' => config = value,
                    'm' => start.plugin = Some(value),
                    _ => {}
                }
            }
        }
        let is_plain = |text: &str| !text.contains(['$', '`', '~']);
        if is_plain(&config) {
            // Without a `cd` the file lies where rc.local starts, at the root, or, as people take it, beside the program.
            let beside = Path::new(program).parent().filter(|parent| parent.is_absolute());
            let here = self.directory.as_deref().or(beside).unwrap_or(Path::new("/"));
            start.config = Some(here.join(config)).filter(|path| is_plain(&path.to_string_lossy()));
        }
        start
    }
}

fn base_name(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or(word)
}

/// `sersync2`, `sersync`, `sersync2-64bit`: not a config and not `sersyncctl`.
fn is_program(word: &str) -> bool {
    let name = base_name(word);
    name.strip_prefix("sersync").is_some_and(|rest| {
        !word.contains(' ') && !rest.contains('.') && !rest.starts_with("ctl") && !rest.starts_with('@')
    })
}

/// The commands of a line, each in words; comments are none.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut quote) = (None::<String>, None);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (Some(_), _) => word.get_or_insert_default().push(character),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            // `2>&1` and `&>file` are words of their own kind, no ends of a command.
            (None, '>' | '<') => {
                word.get_or_insert_default().push(character);
                word.get_or_insert_default().extend(characters.next_if_eq(&'&'));
            }
            (None, '&') if characters.peek() == Some(&'>') => word.get_or_insert_default().push('&'),
            (None, ';' | '&' | '|' | '(' | ')' | '\n') => {
                end(&mut commands, &mut word);
                commands.push(Vec::new());
            }
            (None, blank) if blank.is_whitespace() => end(&mut commands, &mut word),
            (None, _) => word.get_or_insert_default().push(character),
        }
    }
    end(&mut commands, &mut word);
    commands
}

fn end(commands: &mut [Vec<String>], word: &mut Option<String>) {
    if let (Some(command), Some(word)) = (commands.last_mut(), word.take()) {
        command.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(line: &str) -> StartLine {
        let mut found = find(line);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        found.remove(0)
    }

    #[test]
    fn reads_the_ways_people_start_it() {
        let configs = [
            ("/usr/local/sersync/sersync2 -d -r -o /etc/a.xml", "/etc/a.xml"),
            ("/usr/local/sersync/sersync2 -dro /etc/a.xml >/dev/null 2>&1 &", "/etc/a.xml"),
            ("cd /opt/sersync && nohup ./sersync2 -r -d -o conf/a.xml &> /tmp/log &", "/opt/sersync/conf/a.xml"),
            ("cd '/opt/my sersync'; ./sersync2 -d -r", "/opt/my sersync/confxml.xml"),
            ("@reboot root /opt/sersync2 -o/etc/a.xml -r", "/etc/a.xml"),
            ("*/5 * * * * pgrep sersync2 || /opt/sersync/sersync2 -r -o /etc/a.xml", "/etc/a.xml"),
            ("su - www -c \"/opt/sersync2 -d -r -o '/etc/a b.xml'\"", "/etc/a b.xml"),
            ("if [ -x /opt/sersync2 ]; then /opt/sersync2 -rd -o a.xml; fi", "/opt/a.xml"),
            ("/opt/sersync2 \\\n  -r \\\n  -o /etc/a.xml", "/etc/a.xml"),
        ];
        for (line, config) in configs {
            let start = only(line);
            assert_eq!((start.config.as_deref(), start.full_sync), (Some(Path::new(config)), true), "{line}");
        }
    }

    #[test]
    fn keeps_the_options() {
        let start = only("/opt/sersync2 -d -n 20 -m refreshCDN -o /etc/a.xml");
        assert_eq!((start.workers, start.plugin.as_deref(), start.full_sync), (Some(20), Some("refreshCDN"), false));
        assert_eq!(only("/opt/sersync2 -n8 -o $CONF").config, None);
        assert_eq!(only("cd $HOME && ./sersync2 -d").config, None);
    }

    #[test]
    fn knows_what_starts_nothing() {
        for line in [
            "#/opt/sersync2 -d",
            "killall sersync2",
            "ps aux | grep sersync2",
            "chmod +x /opt/sersync/sersync2",
            "systemctl start sersync@www",
            "sersyncctl status",
            "ls /opt/sersync/conf.xml",
        ] {
            assert_eq!(find(line), [], "{line}");
        }
    }
}
