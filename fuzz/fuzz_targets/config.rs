//! Any bytes as a config file: reading them ends soon, in little memory, with a config or with mistakes whose places
//! lie in the file.
//!
//! What only a large file can do wrong has to be reached by small inputs: `A \x01 B \x01 C` stands for `A`, as many `B` as
//! 256 KiB hold, and `C`; with `\x02` it is 4 MiB, the longest file that is read at all.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sersync::config::{Config, Mistake, Severity, parse};
use std::borrow::Cow;
use std::path::Path;

/// What all mistakes of a file may say, in bytes: nobody reads more, and it is kept in memory.
const TOLD_AT_MOST: usize = 2 * 1024 * 1024;

fuzz_target!(|data: &[u8]| {
    let file = stretched(data);
    match parse(&file, Path::new("/nowhere/fuzz.xml")) {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|mistake| mistake.severity == Severity::Warning));
            check_config(&loaded.config);
            check_mistakes(&file, &loaded.warnings);
        }
        Err(mistakes) => {
            assert!(mistakes.0.iter().any(|mistake| mistake.severity == Severity::Error), "refused for no reason");
            check_mistakes(&file, &mistakes.0);
        }
    }
});

fn stretched(data: &[u8]) -> Cow<'_, [u8]> {
    for (mark, length) in [(1, 256 * 1024), (2, 4 * 1024 * 1024)] {
        let mut parts = data.splitn(3, |byte| *byte == mark);
        if let (Some(start), Some(middle @ [_, ..]), Some(end)) = (parts.next(), parts.next(), parts.next()) {
            let times = (length - (start.len() + end.len()).min(length)) / middle.len();
            return [start, &middle.repeat(times), end].concat().into();
        }
    }
    data.into()
}

/// What the rest of the program takes for granted.
fn check_config(config: &Config) {
    assert!(!config.roots.is_empty());
    for root in &config.roots {
        assert!(root.path.is_absolute());
        assert_eq!(root.remotes.is_empty(), config.alone.is_some(), "a plugin in rsync's place has no remotes");
        for remote in &root.remotes {
            assert!(!remote.to_string().contains(['\0', '\n']), "{remote}");
        }
    }
    assert!(config.agent.streams > 0 && config.agent.workers > 0 && config.agent.batch_paths > 0);
    assert!(config.rsync.params.iter().all(|word| !word.contains('\0')));
}

fn check_mistakes(file: &[u8], mistakes: &[Mistake]) {
    let text = sersync::fuzzing::config_text(file);
    let lines: Vec<&str> = text.split('\n').collect();
    let mut told = 0;
    for mistake in mistakes {
        let shown = mistake.to_string();
        told += shown.len();
        let help = mistake.help.as_deref().unwrap_or_default();
        assert!(!mistake.message.chars().chain(help.chars()).any(char::is_control), "{shown:?}");
        let Some(place) = &mistake.place else { continue };
        let line = place.line.checked_sub(1).and_then(|line| lines.get(line));
        let line = line.unwrap_or_else(|| panic!("line {} of {}: {shown}", place.line, lines.len()));
        let columns = line.chars().count() + 1;
        assert!((1..=columns).contains(&place.column), "column {} of {columns}: {shown}", place.column);
        assert_eq!(shown.lines().count(), 3 + usize::from(mistake.help.is_some()), "{shown}");
    }
    assert!(told <= TOLD_AT_MOST, "{told} bytes");
}
