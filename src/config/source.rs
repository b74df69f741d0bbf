//! [`Source`]: the text of a config file, and where in it a byte offset lies.
//!
//! Config files come from a decade of editors: UTF-8, GBK, with and without a byte order mark, declared as
//! something else. Whatever the bytes are, text comes of them; a declaration that is wrong is never fatal.

use super::lookalike::{self, Lookalike};
use super::mistake::Place;
use crate::printable;
use std::ops::Range;
use std::path::PathBuf;

/// Lines longer than this are shown in part.
const EXCERPT_CHARACTERS: usize = 120;

/// A config file's text.
#[derive(Debug)]
pub(super) struct Source {
    /// Where the text came from, for messages.
    pub(super) file: PathBuf,
    /// Without byte order mark, and with what was meant in place of what only looks like it.
    pub(super) text: String,
    /// What only looks like XML's own characters.
    pub(super) lookalikes: Vec<Lookalike>,
    /// The text as it was written: byte for byte as long.
    written: String,
    /// The same for people's eyes, with passwords blotted out.
    shown: String,
    line_starts: Vec<usize>,
}

/// What is to be said about a file's encoding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EncodingDoubt {
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl Source {
    /// Makes text of `bytes`. Bytes that are UTF-8 are UTF-8, whatever the declaration says. What is not is taken
    /// as declared; the declaration ISO-8859-1, which sersync's own example file carried, says nothing, so GBK is
    /// tried before it.
    pub(super) fn decode(bytes: &[u8], file: PathBuf) -> (Self, Option<EncodingDoubt>) {
        let (text, doubt) = decode(bytes);
        let written = text.trim_start_matches('\u{feff}').to_owned();
        let (text, lookalikes) = lookalike::mend(&written);
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let shown = blotted(&written, &text, &without_secrets(&text));
        (Self { file, text, lookalikes, written, shown, line_starts }, doubt)
    }

    /// Whether something in it is blotted out when it is shown.
    pub(super) fn has_secrets(&self) -> bool {
        self.shown != self.written
    }

    /// Line, column and picture of `span`.
    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let line = self.line_starts.partition_point(|start| *start <= span.start).max(1);
        let line_start = self.line_starts[line - 1];
        let line_end = self.line_starts.get(line).map_or(self.written.len(), |next| next - 1);
        let start = char_start(&self.written, span.start.min(line_end));
        let end = char_start(&self.written, span.end.clamp(start, line_end.max(start)));
        let column = self.written[line_start..start].chars().count() + 1;
        let before = self.shown[line_start..start].chars().count();
        let marked = self.shown[start..end].trim_end().chars().count().max(1);
        let (excerpt, carets) = picture(self.shown[line_start..line_end].trim_end_matches('\r'), before, marked);
        Place { line, column, excerpt, carets }
    }
}

/// The text that is read of a file's bytes, as it was written: the places of mistakes are places in it.
#[cfg(fuzzing)]
pub(crate) fn written_text(bytes: &[u8]) -> String {
    Source::decode(bytes, PathBuf::new()).0.written
}

/// `written`, blotted out wherever `blotted` is no more what `text` is.
fn blotted(written: &str, text: &str, blotted: &str) -> String {
    let (text, blotted) = (text.as_bytes(), blotted.as_bytes());
    let mut shown = String::with_capacity(written.len());
    for (at, character) in written.char_indices() {
        let place = at..at + character.len_utf8();
        if text[place.clone()] == blotted[place] {
            shown.push(character);
        } else {
            shown.extend(std::iter::repeat_n('*', character.len_utf8()));
        }
    }
    shown
}

/// Where the character that holds the byte at `at` starts; at most the text's end.
pub(super) fn char_start(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn decode(bytes: &[u8]) -> (String, Option<EncodingDoubt>) {
    if let Some((encoding, mark)) = encoding_rs::Encoding::for_bom(bytes) {
        let (text, broken) = encoding.decode_without_bom_handling(&bytes[mark..]);
        if !broken {
            return (text.into_owned(), None);
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (text.to_owned(), None);
    }
    let declared = declared_encoding(bytes);
    let gbk = |bytes| encoding_rs::GBK.decode_without_bom_handling_and_without_replacement(bytes);
    let known = declared.as_deref().and_then(|label| encoding_rs::Encoding::for_label(label.as_bytes()));
    let nothing_said = known.is_none_or(|e| e == encoding_rs::UTF_8 || e == encoding_rs::WINDOWS_1252);
    if nothing_said {
        let (text, found) = match gbk(bytes) {
            Some(text) => (text, "GBK"),
            None => (encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0, "ISO-8859-1"),
        };
        // The label of sersync's example file is on nearly every config: no reason to warn.
        let doubt = (known != Some(encoding_rs::WINDOWS_1252)).then(|| EncodingDoubt {
            message: format!(
                "the file is not {}: taken for {found}",
                declared
                    .map_or("UTF-8, and declares no encoding".to_owned(), |label| format!("in its encoding {label:?}"))
            ),
            help: "save it as UTF-8",
        });
        return (text.into_owned(), doubt);
    }
    // `nothing_said` is false only when the label is known.
    let encoding = known.unwrap_or(encoding_rs::GBK);
    let (text, broken) = encoding.decode_without_bom_handling(bytes);
    let doubt = broken.then(|| EncodingDoubt {
        message: format!("some bytes are neither UTF-8 nor {}: they are read as `\u{fffd}`", encoding.name()),
        help: "save the file as UTF-8",
    });
    (text.into_owned(), doubt)
}

/// What `<?xml … encoding="…"?>` says.
fn declared_encoding(bytes: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).into_owned();
    let declaration =
        head.trim_start_matches('\u{fffd}').trim_start().strip_prefix("<?xml")?.split("?>").next()?.to_owned();
    let (_, after) = declaration.split_once("encoding")?;
    let value = after.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Some(value[1..].split(quote).next()?.trim().to_owned())
}

/// The line, or a part of it, and carets below its characters `before..before + marked`. Tabs stay tabs in both, so that
/// they line up; wide characters get two carets.
fn picture(line: &str, before: usize, marked: usize) -> (String, String) {
    let first = match line.char_indices().nth(EXCERPT_CHARACTERS) {
        Some(_) => before.saturating_sub(EXCERPT_CHARACTERS / 3),
        None => 0,
    };
    let mut rest = line.chars().skip(first);
    let part = rest.by_ref().take(EXCERPT_CHARACTERS).map(|c| if c == '\t' { c } else { printable::replaced(c) });
    let (mut excerpt, mut carets, mut below) = (String::new(), String::new(), 0);
    if first > 0 {
        excerpt.push_str("… ");
        carets.push_str("  ");
    }
    for (at, character) in part.enumerate() {
        excerpt.push(character);
        let width = if is_wide(character) { 2 } else { 1 };
        match (first + at).checked_sub(before) {
            None if character == '\t' => carets.push('\t'),
            None => carets.push_str(&"  "[..width]),
            Some(inside) if inside < marked => below += width,
            Some(_) => {}
        }
    }
    if rest.next().is_some() {
        excerpt.push_str(" …");
    }
    carets.push_str(&"^".repeat(below.max(1)));
    (excerpt, carets)
}

/// Whether a terminal gives this character two columns: the East Asian wide blocks.
fn is_wide(character: char) -> bool {
    matches!(u32::from(character),
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe4f | 0xff00..=0xff60
        | 0xffe0..=0xffe6 | 0x1f300..=0x1f64f | 0x20000..=0x3fffd)
}

/// The text with the value of each attribute that looks like a password blotted out, byte for byte, whatever else is
/// wrong with it. `passwordfile` names a file and stays.
fn without_secrets(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let mut values = Vec::new();
    // Values may lie in one another where quotes are missing, and each would be searched to the end of the file.
    let mut name_end = 0;
    let [mut double, mut single] = ['"', '\''].map(|quote| Ahead::new(&lower, move |c| c == quote));
    let mut blank = Ahead::new(&lower, char::is_whitespace);
    for (at, _) in lower.match_indices("pass") {
        if at < name_end {
            continue;
        }
        let after_name = lower[at..].trim_start_matches(|c: char| c.is_ascii_alphanumeric());
        name_end = lower.len() - after_name.len();
        let Some(value) = after_name.trim_start().strip_prefix('=').map(str::trim_start) else { continue };
        if &lower[at..name_end] == "passwordfile" {
            continue;
        }
        let start = lower.len() - value.len();
        // Where the closing quote is missing, too much is blotted out rather than too little.
        values.push(match value.chars().next() {
            Some('"') => start + 1..double.from(start + 1),
            Some('\'') => start + 1..single.from(start + 1),
            _ => start..blank.from(start),
        });
    }
    let shown = blot_out(text, &values);
    // `http://user:password@host`
    let mut logins = Vec::new();
    for (at, separator) in lower.match_indices("://") {
        let start = at + separator.len();
        let authority = lower[start..].split(['/', '"', '\'', '<', '>']).next().unwrap_or_default();
        logins.extend(authority.rfind('@').map(|end| start..start + end));
    }
    blot_out(&shown, &logins)
}

/// The next character of some kind, asked for from ever later places: each part of the text is searched once.
struct Ahead<'a, F> {
    text: &'a str,
    is_meant: F,
    /// From where it was searched last, and where it was found.
    searched: Option<(usize, usize)>,
}

impl<'a, F: Fn(char) -> bool> Ahead<'a, F> {
    fn new(text: &'a str, is_meant: F) -> Self {
        Self { text, is_meant, searched: None }
    }

    /// Where the first one at `start` or behind it is; the text's end if there is none.
    fn from(&mut self, start: usize) -> usize {
        match self.searched {
            Some((from, found)) if (from..=found).contains(&start) => found,
            _ => {
                let length = self.text[start..].find(&self.is_meant);
                let found = length.map_or(self.text.len(), |length| start + length);
                self.searched = Some((start, found));
                found
            }
        }
    }
}

/// `text` with asterisks in `ranges`, which are in the order of their starts.
fn blot_out(text: &str, ranges: &[Range<usize>]) -> String {
    let (mut shown, mut done) = (String::with_capacity(text.len()), 0);
    for range in ranges {
        let (start, end) = (range.start.max(done), range.end.max(done));
        shown.push_str(&text[done..start]);
        shown.extend(text[start..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { '*' }));
        done = end;
    }
    shown.push_str(&text[done..]);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::decode(text.as_bytes(), PathBuf::from("x.xml")).0
    }

    fn text_of(bytes: &[u8]) -> (String, bool) {
        let (source, doubt) = Source::decode(bytes, PathBuf::from("x.xml"));
        (source.text, doubt.is_some())
    }

    #[test]
    fn bytes_decide_before_the_declaration() {
        let latin = "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>";
        let (gbk, _, _) = encoding_rs::GBK.encode("监控");
        assert_eq!(text_of(format!("{latin}监控").as_bytes()), (format!("{latin}监控"), false));
        assert_eq!(text_of(&[latin.as_bytes(), &gbk].concat()), (format!("{latin}监控"), false));
        assert_eq!(text_of(&[latin.as_bytes(), b"caf\xe9"].concat()), (format!("{latin}café"), false));
        let declared = "<?xml version='1.0' encoding='gb2312'?>";
        assert_eq!(text_of(&[declared.as_bytes(), &gbk].concat()), (format!("{declared}监控"), false));
        assert_eq!(text_of(&gbk), ("监控".to_owned(), true));
        assert_eq!(text_of(b"\xef\xbb\xbf<head/>"), ("<head/>".to_owned(), false));
        assert_eq!(text_of(b"\xff\xfe<\0a\0"), ("<a".to_owned(), false));
    }

    #[test]
    fn carets_stand_below_what_they_mark() {
        let place = source("<a>\r\n\t<b 监控=\"x\"/>\r\n").place(&(17..18));
        assert_eq!((place.line, place.column), (2, 9));
        assert_eq!(place.excerpt, "\t<b 监控=\"x\"/>");
        assert_eq!(place.carets, "\t         ^");
    }

    #[test]
    fn end_of_file_and_long_lines_have_a_place() {
        assert_eq!(source("").place(&(0..0)).carets, "^");
        let long = format!("{}<x/>{}", " ".repeat(500), "y".repeat(500));
        let place = source(&long).place(&(500..504));
        assert_eq!(place.column, 501);
        assert!(place.excerpt.chars().count() < 130 && place.excerpt.contains("<x/>"), "{}", place.excerpt);
        assert_eq!(place.carets.find('^'), Some(place.excerpt.replace('…', " ").find("<x/>").unwrap()));
    }

    #[test]
    fn passwords_are_never_shown() {
        let line = r#"<cdninfo passwd = "hun监r2" PASSWORD='a b' username="u" passwordfile="/etc/p"/>"#;
        let shown = without_secrets(line);
        assert_eq!(shown, r#"<cdninfo passwd = "********" PASSWORD='***' username="u" passwordfile="/etc/p"/>"#);
        assert_eq!(without_secrets(r#"<cdninfo passwd="secret"#), r#"<cdninfo passwd="******"#);
        assert_eq!(without_secrets("<cdninfo passwd=secret x=1"), "<cdninfo passwd=****** x=1");
        assert_eq!(without_secrets("passwd='a\nb'"), "passwd='*\n*'");
        assert_eq!(without_secrets("<x url='http://me:p@w@host/@'/>"), "<x url='http://******@host/@'/>");
    }
}
