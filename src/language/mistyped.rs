//! What was typed wrong, in the language that is spoken. clap knows what is wrong and tells it in English; the kinds that
//! people meet are said again here, the others stay as clap tells them.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::io::Write;
use std::process::ExitCode;
use tr::tr;

/// Tells it, or prints the help or the version that was asked for. The exit status is clap's own.
pub fn tell(error: &Error) -> ExitCode {
    match in_words(error) {
        Some(text) => {
            // With no standard error there is nobody left to tell.
            let _ = writeln!(anstream::stderr(), "{text}");
        }
        None => {
            let _ = error.print();
        }
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn in_words(error: &Error) -> Option<String> {
    let of = |kind| error.get(kind).map(shown);
    let argument = || of(ContextKind::InvalidArg);
    let what = match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            let arguments = argument()?;
            tr!("missing: {arguments}", arguments)
        }
        ErrorKind::UnknownArgument => {
            let argument = argument()?;
            tr!("unexpected argument {argument}", argument)
        }
        ErrorKind::InvalidSubcommand => {
            let command = of(ContextKind::InvalidSubcommand)?;
            tr!("there is no command {command}", command)
        }
        ErrorKind::ArgumentConflict => {
            let (argument, other) = (argument()?, of(ContextKind::PriorArg)?);
            tr!("{argument} cannot stand beside {other}", argument, other)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let (argument, value) = (argument()?, of(ContextKind::InvalidValue)?);
            match std::error::Error::source(error) {
                _ if value.is_empty() => tr!("{argument} lacks its value", argument),
                Some(reason) => tr!("{value} cannot stand for {argument}: {reason}", value, argument, reason),
                None => tr!("{value} cannot stand for {argument}", value, argument),
            }
        }
        _ => return None,
    };
    let mut text = tr!("error: {what}", what);
    let suggested = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    if let Some(other) = suggested.into_iter().find_map(of) {
        text.push('\n');
        text.push_str(&tr!("did you mean {other}?", other));
    }
    if let Some(usage) = of(ContextKind::Usage) {
        let usage = usage.trim_start_matches("Usage:").trim().to_owned();
        text.push_str("\n\n");
        text.push_str(&tr!("usage: {command}", command = usage));
    }
    text.push_str("\n\n");
    text.push_str(&tr!("for more, try --help"));
    Some(text)
}

fn shown(value: &ContextValue) -> String {
    match value {
        ContextValue::Strings(all) => all.join(", "),
        ContextValue::StyledStrs(all) => all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::Cli;
    use clap::CommandFactory;

    fn told(line: &str) -> String {
        let error = Cli::command().try_get_matches_from(line.split(' ')).unwrap_err();
        in_words(&error).unwrap_or_else(|| panic!("{line}: {error}"))
    }

    #[test]
    fn the_usual_mistakes_are_known() {
        for (line, says) in [
            (
                "sersyncctl pause",
                "error: missing: <NAME>...\n\nusage: sersyncctl pause <NAME>...\n\nfor more, try --help",
            ),
            ("sersyncctl monitr www", "error: there is no command monitr\ndid you mean monitor?"),
            ("sersyncctl pause www --jso", "error: unexpected argument --jso\ndid you mean --json?"),
            ("sersyncctl wait www --timeout 5x", "error: 5x cannot stand for --timeout <TIME>: \"x\" is no unit"),
            ("sersyncctl wait www --timeout", "error: --timeout <TIME> lacks its value"),
            ("sersyncctl resync www --cancel --no-wait", "error: --cancel cannot stand beside --no-wait"),
        ] {
            assert!(told(line).starts_with(says), "{line}: {}", told(line));
        }
    }

    #[test]
    fn help_is_no_mistake() {
        let error = Cli::command().try_get_matches_from(["sersyncctl", "--help"]).unwrap_err();
        assert_eq!((in_words(&error), error.exit_code()), (None, 0));
    }
}
