//! The words of an rsync command line, and what of a [`Sketch`] each stands for.

use super::confxml::{Sketch, Ssh};
use crate::config;
use crate::language::text;
use tr::tr;

/// What is left when options are taken.
#[derive(Debug, Default, PartialEq)]
pub struct Taken {
    /// Sources and destination.
    pub places: Vec<String>,
    /// `--delete` and its like stood there.
    pub deletes: bool,
    /// `--port`.
    pub port: Option<u16>,
    /// Options that cannot be kept, each with the reason.
    pub lost: Vec<String>,
}

/// Why some options cannot be kept.
const LOST: [(&[&str], &str); 6] = [
    (&["append", "append-verify"], text!("a file that changes in its middle would stay different")),
    (
        &["include", "include-from", "filter", "cvs-exclude"],
        text!("what is excluded is named by <exclude pattern=…>, without rules that take it in again"),
    ),
    (&["delete-excluded"], text!("what is excluded is not touched on the remotes")),
    (&["dry-run", "list-only", "only-write-batch", "write-batch", "read-batch"], text!("it would mirror nothing")),
    (
        &["files-from", "remove-source-files", "remove-sent-files"],
        text!("a mirror sends the tree, and leaves it as it is"),
    ),
    (&["daemon", "config"], text!("it is for a server")),
];

/// Why an option of rsync, without its hyphens, cannot be kept.
pub fn reason_against(name: &str) -> Option<&'static str> {
    let translated = LOST.iter().find(|(names, _)| names.contains(&name)).map(|(_, reason)| *reason);
    translated.or_else(|| config::refusal(name))
}

/// Sorts the words behind `rsync` into `sketch`.
pub fn take(words: &[String], sketch: &mut Sketch) -> Taken {
    let mut taken = Taken::default();
    let mut words = words.iter().cloned();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None if config::takes_value(long) => (long, words.next()),
                None => (long, None),
            };
            take_long(name, value, sketch, &mut taken);
        } else if word.len() > 1 && word.starts_with('-') && word != "--" {
            take_short(&word[1..], &mut words, sketch, &mut taken);
        } else if word != "--" {
            taken.places.push(word);
        }
    }
    taken
}

fn take_long(name: &str, value: Option<String>, sketch: &mut Sketch, taken: &mut Taken) {
    if let Some(reason) = reason_against(name) {
        taken.lost.push(format!("--{name}: {}", tr!(reason)));
        return;
    }
    match (name, value) {
        ("exclude", Some(pattern)) => sketch.patterns.push(pattern),
        ("exclude-from", Some(file)) => sketch.pattern_files.push(file),
        ("password-file", Some(file)) => sketch.password_file = Some(file),
        ("port", Some(port)) => match port.parse() {
            Ok(port) => taken.port = Some(port),
            Err(_) => taken.lost.push(tr!("--port={port}: it is no port", port)),
        },
        ("timeout", Some(time)) => match time.parse() {
            // 0 is none.
            Ok(time) => sketch.timeout = Some(time).filter(|time| *time > 0),
            _ => taken.lost.push(tr!("--timeout={time}: it is no number of seconds", time)),
        },
        ("rsh", Some(command)) => {
            match ssh(&command) {
                Ok(found) => sketch.ssh.take_in(found),
                Err(reason) => taken.lost.push(format!("--rsh='{command}': {reason}")),
            };
        }
        ("update", None) => sketch.keep_newer = true,
        ("recursive" | "relative" | "verbose" | "quiet" | "progress" | "stats" | "human-readable", None) => {}
        ("itemize-changes" | "ignore-times" | "force" | "protect-args" | "secluded-args", None) => {}
        (name, None) if name == "del" || name == "delete" || name.starts_with("delete-") => taken.deletes = true,
        (name, None) => sketch.params.push(format!("--{name}")),
        (name, Some(value)) => sketch.params.push(format!("--{name}={value}")),
    }
}

fn take_short(letters: &str, words: &mut impl Iterator<Item = String>, sketch: &mut Sketch, taken: &mut Taken) {
    let mut kept = String::new();
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        let mut value = || match letters.as_str() {
            "" => words.next().unwrap_or_default(),
            _ => letters.by_ref().collect(),
        };
        match letter {
            'e' => {
                let command = value();
                take_long("rsh", Some(command), sketch, taken);
            }
            'f' => {
                let rule = value();
                take_long("filter", Some(rule), sketch, taken);
            }
            'T' | 'B' | 'M' | '@' => {
                let value = value();
                sketch.params.push(format!("-{letter}{value}"));
            }
            'u' => sketch.keep_newer = true,
            'n' => take_long("dry-run", None, sketch, taken),
            'C' | 'F' => take_long("cvs-exclude", None, sketch, taken),
            'P' => sketch.params.push("--partial".to_owned()),
            // What a run sends and prints is its own business.
            'r' | 'R' | 'v' | 'q' | 'i' | 'h' | 'I' | 's' | '0' => {}
            kept_letter => kept.push(kept_letter),
        }
    }
    if !kept.is_empty() {
        sketch.params.push(format!("-{kept}"));
    }
}

/// An ssh command line such as `ssh -p 2222 -i /root/.ssh/mirror`.
pub fn ssh(command: &str) -> Result<Ssh, String> {
    let words = shlex::split(command).ok_or_else(|| tr!("a quote is not closed"))?;
    let Some((program, words)) = words.split_first() else { return Err(tr!("it is empty")) };
    if program.rsplit('/').next() != Some("ssh") {
        return Err(tr!("only ssh carries rsync here"));
    }
    let mut ssh = Ssh::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = |short: &str| match word.strip_prefix(short) {
            Some("") => words.next().cloned(),
            Some(attached) => Some(attached.to_owned()),
            None => None,
        };
        if let Some(port) = value("-p") {
            ssh.port = Some(port.parse().map_err(|_| tr!("its port is none"))?);
        } else if let Some(identity) = value("-i") {
            ssh.identity = Some(identity);
        } else {
            ssh.options.push(word.clone());
        }
    }
    Ok(ssh)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn options_find_their_place() {
        let line = "-avzue 'ssh -p2222 -i /k -o BatchMode=yes' --delete --exclude=*.tmp --exclude /cache/ \
                    --password-file /p --timeout=30 --port 8873 --bwlimit=100 -P -n /a/ h::m";
        let mut sketch = Sketch::new(PathBuf::from("/a"));
        let taken = take(&shlex::split(line).unwrap(), &mut sketch);
        assert_eq!(sketch.params, ["-az", "--bwlimit=100", "--partial"]);
        assert_eq!(sketch.patterns, ["*.tmp", "/cache/"]);
        assert_eq!((sketch.timeout, sketch.keep_newer, taken.deletes, taken.port), (Some(30), true, true, Some(8873)));
        assert_eq!(sketch.ssh.options, ["-o", "BatchMode=yes"]);
        assert_eq!((sketch.ssh.port, sketch.ssh.identity.as_deref()), (Some(2222), Some("/k")));
        assert_eq!((taken.places.len(), taken.lost.len()), (2, 1));
        assert!(ssh("rsh -l me").is_err());
    }
}
