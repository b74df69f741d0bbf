//! Writes what the packages carry and the programs themselves know: the manual pages of their command lines, the
//! completions for bash, zsh and fish, Debian's changelog, made of CHANGELOG.md, and the licences of the crates that
//! are linked in.
//!
//! `cargo run --example generate -- DIRECTORY TARGET` writes below DIRECTORY: `man/man1`, `man/man8`, `bash`, `zsh`,
//! `fish`, and at its top `changelog.Debian` and `THIRD-PARTY-LICENSES`, for programs built for TARGET. The same tree
//! and the same `SOURCE_DATE_EPOCH` (the seconds since 1970 that stand for "today") give the same bytes.

mod notices;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use jiff::{Timestamp, tz::TimeZone};
use sersync::ctl::completion::registration;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Who answers for the packages; Cargo.toml names the same to cargo-deb.
const MAINTAINER: &str = "The sersync 3 developers <developers@sersync.org>";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(target)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        return Err("usage: generate DIRECTORY TARGET".into());
    };
    let seconds = std::env::var("SOURCE_DATE_EPOCH").map_err(|error| format!("SOURCE_DATE_EPOCH: {error}"))?;
    let today = Timestamp::from_second(seconds.parse().map_err(|error| format!("SOURCE_DATE_EPOCH: {error}"))?)?;
    let date = today.to_zoned_datetime(TimeZone::UTC).strftime("%Y-%m-%d").to_string();

    let agent = sersync::cli::Cli::command;
    let client = || sersync::ctl::Cli::command().disable_help_subcommand(true);
    page(agent(), "8", &date, AGENT, AGENT_MORE, &directory)?;
    page(client(), "1", &date, CLIENT, CLIENT_MORE, &directory)?;
    let mut whole = client();
    whole.build();
    verbs(&whole, &date, &directory)?;

    for (shell, place) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
        let asking = registration(&shell.to_string()).ok_or_else(|| format!("{shell}: sersyncctl does not know it"))?;
        // The one place that says where the completions come from.
        for (name, script) in [("sersync", script(agent(), shell)), ("sersyncctl", asking.into_bytes())] {
            let place = directory.join(place);
            fs::create_dir_all(&place)?;
            fs::write(place.join(file_of(name, shell)), script)?;
        }
    }

    let changes = include_str!("../CHANGELOG.md");
    fs::write(directory.join("changelog.Debian"), changelog(changes, today)?)?;
    fs::write(directory.join("THIRD-PARTY-LICENSES"), notices::document(&target)?)?;
    Ok(())
}

/// What the pages of the two programs say before their options.
const AGENT: &str = r#"Mirrors a directory tree to any number of remotes within milliseconds of each change: inotify tells what changed, rsync
carries it. What is mirrored, and where to, says a config, or
.B \-\-watch
and
.BR \-\-to .
It runs until it is told to stop; as a service it is
.BR sersync@.service (8).
.PP
A path that the kernel reported, or may have failed to report, stays pending for every remote until an rsync run that started
after the report has succeeded for it: in memory, and on disk.
"#;

const CLIENT: &str = r#"Asks and steers the instances that run, over D\-Bus. Without a verb it shows their status. Everybody may look; to change
something takes root, the user of the agent, or the leave of polkit.
"#;

const AGENT_MORE: &str = r#".SH FILES
.TP
.I /etc/sersync/NAME.xml
The config of the instance NAME, see
.BR sersync.xml (5).
.TP
.I /var/lib/sersync/NAME/
What is pending for its remotes, kept over a restart.
.SH "EXIT STATUS"
0 after a stop that was asked for, 2 for a command line that is not understood, 78 for a config that is wrong:
systemd does not start it again then. All else is 1.
.SH "SEE ALSO"
.BR sersyncctl (1),
.BR sersync.xml (5),
.BR sersync@.service (8),
.BR rsync (1),
.BR inotify (7)
"#;

const CLIENT_MORE: &str = concat!(
    include_str!("sersyncctl.roff"),
    r#".SH "SEE ALSO"
.BR sersync (8),
.BR sersync.xml (5),
.BR sersync@.service (8),
.BR journalctl (1),
.BR systemctl (1)
"#
);

const VERB_MORE: &str = r#".SH "SEE ALSO"
.BR sersyncctl (1)
"#;

/// A page for each verb, and for the verbs of a verb.
fn verbs(command: &Command, date: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    for verb in command.get_subcommands() {
        let verb = verb.clone().disable_help_subcommand(true);
        // Without a long form the line under NAME has said it.
        let about = verb.get_long_about().map(|about| paragraphs(&about.to_string()));
        page(verb.clone(), "1", date, &about.unwrap_or_default(), VERB_MORE, directory)?;
        verbs(&verb, date, directory)?;
    }
    Ok(())
}

/// The manual page of one command: what clap knows of it, with `description` before the options and `more` at the end.
fn page(
    command: Command,
    section: &str,
    date: &str,
    description: &str,
    more: &str,
    directory: &Path,
) -> Result<(), Box<dyn Error>> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let has_verbs = command.get_subcommands().next().is_some();
    let after = command.get_after_help().map(ToString::to_string);
    let usage = command.clone().render_usage().to_string();
    let man = Man::new(command)
        .title(name.to_uppercase())
        .section(section)
        .date(date)
        .source(concat!("sersync ", env!("CARGO_PKG_VERSION")))
        .manual("sersync");
    let place = directory.join(format!("man/man{section}"));
    fs::create_dir_all(&place)?;
    let mut file = fs::File::create(place.join(format!("{name}.{section}")))?;
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    writeln!(file, ".SH SYNOPSIS\n{}", escaped(usage.trim_start_matches("Usage: ")))?;
    if !description.is_empty() {
        write!(file, ".SH DESCRIPTION\n{description}")?;
    }
    man.render_options_section(&mut file)?;
    if has_verbs {
        man.render_subcommands_section(&mut file)?;
    }
    if let Some(after) = after {
        write!(file, ".SH NOTES\n{}", paragraphs(&after))?;
    }
    file.write_all(more.as_bytes())?;
    Ok(())
}

/// Text of a help as a page has it. What is indented there is to be typed, and stands as it is.
fn paragraphs(text: &str) -> String {
    let mut roff = String::new();
    let mut literal = false;
    let mut fresh = true;
    for line in text.lines() {
        let indented = line.starts_with("  ");
        if indented != literal {
            roff += if indented { ".PP\n.RS 4\n.nf\n" } else { ".fi\n.RE\n.PP\n" };
            (literal, fresh) = (indented, true);
        }
        if line.is_empty() {
            if !fresh {
                roff += ".PP\n";
            }
            fresh = true;
            continue;
        }
        // Each line of a help is a statement of its own.
        if !fresh && !literal {
            roff += ".br\n";
        }
        roff += &escaped(line.trim());
        roff.push('\n');
        fresh = false;
    }
    if literal {
        roff += ".fi\n.RE\n";
    }
    roff
}

/// A line that roff takes for nothing but text.
fn escaped(line: &str) -> String {
    let line = line.replace('\\', "\\e").replace('-', "\\-");
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

/// The name under which a shell looks for the completion of a command.
fn file_of(name: &str, shell: Shell) -> String {
    match shell {
        Shell::Zsh => format!("_{name}"),
        Shell::Fish => format!("{name}.fish"),
        _ => name.to_owned(),
    }
}

/// A completion that knows the verbs and options of the command, and asks nobody.
fn script(mut command: Command, shell: Shell) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// CHANGELOG.md's releases as Debian writes them. A release that has no date yet gets today's.
fn changelog(text: &str, today: Timestamp) -> Result<String, Box<dyn Error>> {
    let mut releases = text.split("\n## ").skip(1).peekable();
    releases.peek().ok_or("CHANGELOG.md: it names no release (## VERSION (DATE))")?;
    let mut all = String::new();
    for release in releases {
        let (head, body) = release.split_once('\n').unwrap_or((release, ""));
        let version = head.split_whitespace().next().ok_or("CHANGELOG.md: a heading `##` without a version")?;
        let date = head.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or_default();
        let at = match date.parse::<jiff::civil::Date>() {
            Ok(date) => date.to_zoned_datetime(TimeZone::UTC)?,
            Err(_) => today.to_zoned_datetime(TimeZone::UTC),
        };
        if !all.is_empty() {
            all.push('\n');
        }
        all += &format!("sersync ({version}-1) unstable; urgency=medium\n\n");
        for line in items(body) {
            all += &format!("{line}\n");
        }
        all += &format!("\n -- {MAINTAINER}  {}\n", at.strftime("%a, %d %b %Y %H:%M:%S %z"));
    }
    Ok(all)
}

/// The paragraphs and items of a release, each behind an asterisk, in lines as long as Debian wants them.
fn items(body: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in body.lines() {
        if line.is_empty() || line.starts_with('#') {
            goes_on = false;
            continue;
        }
        match items.last_mut() {
            Some(item) if goes_on && !line.starts_with("- ") => *item += &format!(" {}", line.trim()),
            _ => items.push(line.trim_start_matches("- ").to_owned()),
        }
        goes_on = true;
    }
    items.iter().flat_map(|item| wrapped(&without_links(item))).collect()
}

/// One item: an asterisk before its first line, a blank in that place before the others.
fn wrapped(item: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in item.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= 79 => *line += &format!(" {word}"),
            Some(_) => lines.push(format!("    {word}")),
            None => lines.push(format!("  * {word}")),
        }
    }
    lines
}

fn without_links(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, link)) = rest.split_once('[') {
        let Some((text, behind)) = link.split_once("](") else { break };
        let Some((_, behind)) = behind.split_once(')') else { break };
        plain += before;
        plain += text;
        rest = behind;
    }
    plain + rest
}
