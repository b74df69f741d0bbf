//! `--help` in another language: clap builds the command in English, and every text in it is looked up.

use super::{Catalogue, Language};
use clap::builder::StyledStr;
use clap::{Arg, Command};
use tr::Translator;

/// clap's own words that are translated with ours.
pub const CLAPS_WORDS: [&str; 7] = [
    "Usage:",
    "Arguments",
    "Options",
    "Commands",
    "Print help",
    "Print version",
    "Print this message or the help of the given subcommand(s)",
];

/// The command with its help in `language`. What was typed wrong is told by [`super::mistyped`].
pub fn in_language(mut command: Command, language: Language) -> Command {
    let Some(catalogue) = language.catalogue() else { return command };
    // Only now it has what clap adds by itself: --help, --version, help.
    command.build();
    translate(command, &catalogue)
}

fn translate(command: Command, catalogue: &Catalogue) -> Command {
    let word = |text: &str| catalogue.translate(text, None).into_owned();
    let text = |text: Option<&StyledStr>| text.map(|text| word(&text.to_string()));
    let (about, long_about, after) =
        (text(command.get_about()), text(command.get_long_about()), text(command.get_after_help()));
    let usage = word("Usage:");
    let template = format!("{{before-help}}{{about-with-newline}}\n{usage} {{usage}}\n\n{{all-args}}{{after-help}}");
    let mut command = command
        .help_template(template)
        .subcommand_help_heading(word("Commands"))
        .mut_args(|argument| translate_argument(argument, catalogue))
        .mut_subcommands(|subcommand| translate(subcommand, catalogue));
    if let Some(about) = about {
        command = command.about(about);
    }
    if let Some(about) = long_about {
        command = command.long_about(about);
    }
    match after {
        Some(after) => command.after_help(after),
        None => command,
    }
}

fn translate_argument(mut argument: Arg, catalogue: &Catalogue) -> Arg {
    let word = |text: &str| catalogue.translate(text, None).into_owned();
    let heading = match argument.get_help_heading() {
        Some(own) => word(own),
        None if argument.is_positional() => word("Arguments"),
        None => word("Options"),
    };
    if let Some(help) = argument.get_help().map(|help| word(&help.to_string())) {
        argument = argument.help(help);
    }
    if let Some(help) = argument.get_long_help().map(|help| word(&help.to_string())) {
        argument = argument.long_help(help);
    }
    argument.help_heading(heading)
}
