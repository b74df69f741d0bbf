//! Characters that look like XML's own and are not: typographic quotation marks, no-break and wide blanks, full-width
//! signs, dashes in place of hyphens. Web pages and input methods put them into configs, and nobody sees them there.
//!
//! Each is told, and read as what was meant, so that no second mistake follows from it. The text keeps its length:
//! what comes after has its place.

use std::ops::Range;

/// More than are ever told: a file may hold a million.
const FOUND_AT_MOST: usize = 1000;

/// One that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lookalike {
    /// Where it stands; for quotation marks with all that is between them.
    pub(super) span: Range<usize>,
    /// What is wrong.
    pub(super) message: String,
    /// What would be right.
    pub(super) help: String,
}

/// `text` with the characters in place that were meant, and what they were. Inside of values and comments, and between
/// tags, any character may stand.
pub(super) fn mend(text: &str) -> (String, Vec<Lookalike>) {
    let mut mending = Mending { text, mended: text.as_bytes().to_vec(), found: Vec::new(), comments_end: false };
    let mut at = 0;
    while let Some(next) = text[at..].find(['<', '＜']) {
        at = mending.markup(at + next);
    }
    let Mending { mended, found, .. } = mending;
    // Whole characters were replaced by ASCII alone.
    (String::from_utf8(mended).unwrap_or_else(|_| text.to_owned()), found)
}

struct Mending<'t> {
    text: &'t str,
    mended: Vec<u8>,
    found: Vec<Lookalike>,
    /// No comment with other signs than hyphens ends from here on: to search each for its end would take for ever.
    comments_end: bool,
}

impl Mending<'_> {
    /// Reads what starts with the `<` at `at`; returns where it ends.
    fn markup(&mut self, at: usize) -> usize {
        let text = self.text;
        let rest = &text[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            return comment.find("-->").map_or(text.len(), |length| at + 4 + length + 3);
        }
        for (start, end) in [("<![CDATA[", "]]>"), ("<?", ">")] {
            if rest.starts_with(start) {
                return rest.find(end).map_or(text.len(), |length| at + length + end.len());
            }
        }
        if let Some(end) = self.comment(at) {
            return end;
        }
        let mut characters = rest.chars();
        let opening = characters.next().map_or(1, char::len_utf8);
        if !characters.next().is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, '/' | '／' | '_')) {
            return at + opening;
        }
        if opening > 1 {
            self.sign(at, '＜', b"  <");
        }
        self.tag(at + opening)
    }

    /// A comment whose signs are not hyphens.
    fn comment(&mut self, at: usize) -> Option<usize> {
        let is_dash = |c: char| matches!(c, '-' | '‐' | '‑' | '–' | '—' | '―' | '−' | '－');
        let text = self.text;
        let inner = text[at..].strip_prefix("<!").or_else(|| text[at..].strip_prefix("<！"))?;
        let marks = inner.len() - inner.trim_start_matches(is_dash).len();
        if marks == 0 {
            return None;
        }
        let begins = text.len() - inner.len() + marks;
        if begins - at < 4 || self.comments_end {
            return None;
        }
        let mut ends = text[begins..].match_indices(['>', '＞']).map(|(length, _)| begins + length);
        let end = ends.find(|end| {
            let inside = &text[begins..*end];
            inside.len() - inside.trim_end_matches(is_dash).len() >= 2
        });
        self.comments_end = end.is_none();
        let end = end?;
        let after = end + text[end..].chars().next().map_or(1, char::len_utf8);
        // All of it is blank, but for the signs: nothing in it is read.
        for byte in &mut self.mended[at..after] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        self.mended[at..at + 4].copy_from_slice(b"<!--");
        self.mended[after - 3..after].copy_from_slice(b"-->");
        let help = "a comment stands between `<!--` and `-->`, with two plain hyphens each";
        self.tell(at..after, "the signs around this comment are not plain ones".to_owned(), help.to_owned());
        Some(after)
    }

    /// Reads a tag from behind its `<` to its end.
    fn tag(&mut self, mut at: usize) -> usize {
        let text = self.text;
        while let Some(character) = text[at..].chars().next() {
            let after = at + character.len_utf8();
            match character {
                '<' => return at,
                '>' => return after,
                '"' | '\'' => at = self.plain_value(after, character),
                '＞' => {
                    self.sign(at, '＞', b">  ");
                    return after;
                }
                '／' => self.sign(at, '／', b"  /"),
                '＝' => self.sign(at, '＝', b"=  "),
                _ if plain_quote(character).is_some() => {
                    at = self.value(at, character);
                    continue;
                }
                _ if is_odd_blank(character) => {
                    let message = format!("U+{:04X} is no blank that separates anything here", u32::from(character));
                    self.mended[at..after].fill(b' ');
                    self.tell(at..after, message, "put a plain blank in its place".to_owned());
                }
                _ => {}
            }
            at = at.max(after);
        }
        text.len()
    }

    /// Reads a value from behind its `quote`; returns where it ends.
    fn plain_value(&mut self, from: usize, quote: char) -> usize {
        let text = self.text;
        let length = text[from..].find(quote).unwrap_or(text.len() - from);
        let value = &text[from..from + length];
        let behind = (from + length + 1).min(text.len());
        // One that runs into another tag has its end before, perhaps at a mark that is none.
        let here = value.split('\n').next().unwrap_or(value);
        let here = here.split('<').next().unwrap_or(here);
        // So has one that ends where the next would begin.
        if here.len() == value.len() && !here.trim_end().ends_with('=') {
            return behind;
        }
        if let Some((at, mark)) = here.char_indices().find(|(_, mark)| plain_quote(*mark) == Some(quote)) {
            self.replace(from + at, mark, quote, false);
            self.tell_quotes(from - 1..from + at + mark.len_utf8());
            return from + at + mark.len_utf8();
        }
        if here.len() == value.len() { behind } else { from }
    }

    /// Reads a value that starts at `at` with `mark`, which is no plain quotation mark; returns where it ends.
    fn value(&mut self, at: usize, mark: char) -> usize {
        let text = self.text;
        let from = at + mark.len_utf8();
        let Some(quote) = plain_quote(mark) else { return from };
        // Not further than to its end: a line may hold thousands of values.
        let mut here = text[from..].char_indices().take_while(|(_, c)| !matches!(c, '\n' | '<'));
        let closing = here.find(|(_, c)| *c == quote || plain_quote(*c) == Some(quote));
        let Some((length, last)) = closing else { return from };
        self.replace(at, mark, quote, true);
        if last != quote {
            self.replace(from + length, last, quote, false);
        }
        let end = from + length + last.len_utf8();
        self.tell_quotes(at..end);
        end
    }

    /// Puts `plain` in the place of the character at `at`, with blanks before it or behind.
    fn replace(&mut self, at: usize, character: char, plain: char, is_opening: bool) {
        let place = &mut self.mended[at..at + character.len_utf8()];
        place.fill(b' ');
        let byte = if is_opening { place.last_mut() } else { place.first_mut() };
        if let (Some(byte), Ok(plain)) = (byte, u8::try_from(plain)) {
            *byte = plain;
        }
    }

    fn sign(&mut self, at: usize, sign: char, plain: &[u8; 3]) {
        self.mended[at..at + plain.len()].copy_from_slice(plain);
        let meant = String::from_utf8_lossy(plain).trim().to_owned();
        self.tell(
            at..at + plain.len(),
            format!("\"{sign}\" is no `{meant}`"),
            format!("write the plain sign, `{meant}`"),
        );
    }

    fn tell_quotes(&mut self, span: Range<usize>) {
        let message = "this value does not stand between plain quotation marks".to_owned();
        self.tell(span, message, "write \" on both sides, as the keyboard has it".to_owned());
    }

    fn tell(&mut self, span: Range<usize>, message: String, help: String) {
        if self.found.len() < FOUND_AT_MOST {
            self.found.push(Lookalike { span, message, help });
        }
    }
}

/// The quotation mark that was meant by one of another kind.
fn plain_quote(mark: char) -> Option<char> {
    match mark {
        '“' | '”' | '„' | '‟' | '″' | '＂' | '«' | '»' | '「' | '」' | '〝' | '〞' => Some('"'),
        '‘' | '’' | '‚' | '‛' | '′' | '＇' | '`' | '´' => Some('\''),
        _ => None,
    }
}

/// A blank, or nothing at all to the eye, that XML does not take for one.
pub(super) fn is_odd_blank(character: char) -> bool {
    let is_invisible = matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    is_invisible || character.is_whitespace() && !character.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The mended text with its blanks folded, and how much was found.
    fn mended(text: &str) -> (String, usize) {
        let (mended, found) = mend(text);
        assert_eq!(mended.len(), text.len(), "{text}");
        (mended.split_whitespace().collect::<Vec<_>>().join(" "), found.len())
    }

    #[test]
    fn what_was_meant_is_read() {
        for (written, meant, count) in [
            ("<a b=“c d” e=’f’/>", "<a b= \"c d\" e= 'f' />", 2),
            ("<a b=\"c” d=\"e\"/>\n<f g=\"h\"/>", "<a b=\"c\" d=\"e\"/> <f g=\"h\"/>", 1),
            ("<a b=\"c”/>\n<d e=\"f\"/>", "<a b=\"c\" /> <d e=\"f\"/>", 1),
            ("<a\u{a0}b\u{3000}=\u{200b}\"c\"/>", "<a b = \"c\"/>", 3),
            ("＜a b＝\"c\"／＞", "<a b= \"c\" />", 4),
            ("<!–– a <b c=“d”/> ––><e/>", "<!-- --><e/>", 1),
            ("<!—— a ——><e/>", "<!-- --><e/>", 1),
            ("<！-- a --＞", "<!-- -->", 1),
        ] {
            let (text, found) = mended(written);
            assert_eq!((text.as_str(), found), (meant, count), "{written}");
        }
    }

    #[test]
    fn what_may_stand_there_is_left_alone() {
        for text in [
            "<a b=\"“c”\u{a0}＝／\"/>",
            "<a b='“'/>",
            "<!-- <a b=“c”/> -->",
            "<a>“text”\u{a0}</a>",
            "1 ＜ 2 < 3",
            "<![CDATA[<a b=“c”>]]>",
            "<!doctype a>",
            "<a b=“c",
            "<",
        ] {
            assert_eq!(mend(text), (text.to_owned(), Vec::new()));
        }
    }
}
