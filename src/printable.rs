//! Escapes for characters that must not be printed in text from others.
//!
//! The name of a file can hold what moves a terminal's cursor, or what turns the order of the text around it (U+202E).
//! Every text that people read goes through here: a terminal's, the journal's, the sentences on D-Bus.

use std::fmt::{self, Write};
use unicode_general_category::{GeneralCategory, get_general_category};

/// Whether `character` is escaped or replaced before it is printed: control and format characters, and the separators of
/// lines and paragraphs.
pub fn is_unprintable(character: char) -> bool {
    let is_special = |category| {
        matches!(
            category,
            GeneralCategory::Control
                | GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        )
    };
    !character.is_ascii_graphic() && character != ' ' && is_special(get_general_category(character))
}

/// Writes `text` to `to`, with escapes for what may not be printed, except for the characters of `kept`.
pub fn push_escaped(to: &mut impl Write, text: &str, kept: &[char]) -> fmt::Result {
    for character in text.chars() {
        if is_unprintable(character) && !kept.contains(&character) {
            write!(to, "{}", character.escape_default())?;
        } else {
            to.write_char(character)?;
        }
    }
    Ok(())
}

/// `text` on one line, with escapes for what may not be printed.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    // Writing to a string cannot fail.
    let _ = push_escaped(&mut escaped, text, &[]);
    escaped
}

/// `character`, or the replacement character for what may not be printed.
pub fn replaced(character: char) -> char {
    if is_unprintable(character) { char::REPLACEMENT_CHARACTER } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_or_hides_text_is_printed() {
        for bad in [
            '\n',
            '\u{1b}',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0001}',
        ] {
            assert!(is_unprintable(bad), "{bad:?}");
        }
        for good in [' ', 'a', '~', 'é', '\u{301}', '目', '\u{a0}', '😀', '\u{fffd}'] {
            assert!(!is_unprintable(good), "{good:?}");
        }
        assert_eq!(escaped("a\u{202e}b\t"), "a\\u{202e}b\\t");
    }
}
