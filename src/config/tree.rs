//! The elements of a config file, each with the place of its name and of every value.
//!
//! Reading never stops at the first syntax error: a broken tag is told, kept with the attributes that can be
//! trusted, and reading goes on at the next `<`. Names are compared without case, as sersync users write them.

use super::lookalike::is_odd_blank;
use super::reading::Reading;
use super::source::char_start;
use quick_xml::XmlVersion;
use quick_xml::events::Event;
use quick_xml::events::attributes::{AttrError, Attribute as XmlAttribute, Attributes};
use quick_xml::reader::Reader;
use std::borrow::Cow;
use std::ops::Range;

/// Deeper elements are refused: the schema needs six levels, and a tree is dropped recursively.
const DEPTH_LIMIT: usize = 32;

/// A file with more elements is no config, and each of them takes room.
const ELEMENT_LIMIT: usize = 20_000;

/// A tag that is never closed is looked for to the end of the file; so often at most.
const SYNTAX_LIMIT: usize = 100;

/// No setting has nearly as many; each is compared to those before it.
const ATTRIBUTE_LIMIT: usize = 100;

/// One element.
#[derive(Debug)]
pub(super) struct Element {
    /// As written.
    pub(super) name: String,
    /// The start tag, from `<` to `>`.
    pub(super) tag: Range<usize>,
    pub(super) attributes: Vec<Attribute>,
    pub(super) children: Vec<Element>,
    /// Its tag has a syntax error, which was told: what it lacks may be written there.
    pub(super) broken: bool,
}

/// One attribute.
#[derive(Debug)]
pub(super) struct Attribute {
    /// As written.
    pub(super) name: String,
    pub(super) name_span: Range<usize>,
    /// With entities resolved.
    pub(super) value: String,
    /// Between the quotes; the quotes themselves when there is nothing between them.
    pub(super) value_span: Range<usize>,
}

/// What was read of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// The outermost elements: one in a sound file.
    pub(super) roots: Vec<Element>,
    /// No error was told, so what is not here is not in the file either.
    pub(super) sound: bool,
}

impl Element {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The first child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.is(name))
    }

    /// All children of this name.
    pub(super) fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.is(name))
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
    }

    /// The name in the start tag.
    pub(super) fn name_span(&self) -> Range<usize> {
        self.tag.start + 1..self.tag.start + 1 + self.name.len()
    }
}

/// Reads all of `reading`'s text.
pub(super) fn read(reading: &mut Reading<'_>) -> Document {
    let text = reading.text();
    let mut builder = Builder { open: Vec::new(), roots: Vec::new(), too_deep: 0, elements: 0 };
    let (mut base, mut errors) = (0, 0);
    let mut stray: Option<Range<usize>> = None;
    'resume: while !reading.is_full() {
        if errors > SYNTAX_LIMIT {
            builder.give_up(
                reading,
                base,
                "so much is wrong up to here that reading ended",
                "is this a config of sersync?",
            );
            break;
        }
        errors += 1;
        let mut reader = Reader::from_str(&text[base..]);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        config.allow_dangling_amp = true;
        while !reading.is_full() {
            if builder.elements > ELEMENT_LIMIT {
                let at = base + position(&reader);
                let help = "it is probably no config; many patterns go into a file: <exclude file=\"…\"/>";
                builder.give_up(reading, at, &format!("the file has more than {ELEMENT_LIMIT} elements"), help);
                break 'resume;
            }
            let start = base + position(&reader);
            let event = reader.read_event();
            let end = base + position(&reader);
            if let Ok(Event::Text(_) | Event::CData(_) | Event::GeneralRef(_)) = event {
                // The parser cuts it at each entity.
                stray.get_or_insert(start..end).end = end;
                continue;
            }
            if let Some(span) = stray.take() {
                stray_text(reading, span);
            }
            match event {
                Ok(Event::Start(tag) | Event::Empty(tag)) => {
                    let is_empty = text[..end].ends_with("/>");
                    let (element, resume) = read_tag(reading, start, end, tag.name().into_inner().len());
                    let leaf = resume.map_or(is_empty, |at| text[start..at].trim_end().ends_with("/>"));
                    builder.start(reading, element, leaf);
                    if let Some(at) = resume {
                        base = at;
                        continue 'resume;
                    }
                }
                Ok(Event::End(tag)) => builder.end(reading, tag.name().into_inner(), start..end),
                Ok(
                    Event::Text(_)
                    | Event::CData(_)
                    | Event::GeneralRef(_)
                    | Event::Comment(_)
                    | Event::PI(_)
                    | Event::Decl(_)
                    | Event::DocType(_),
                ) => {}
                Ok(Event::Eof) => break 'resume,
                Err(error) => {
                    // quick-xml reads on to the end of the file before it gives up on a tag; its start is known.
                    let next = text[start + 1..].find('<').map(|length| start + 1 + length);
                    let opens_tag = text[start + 1..].starts_with(|c: char| c.is_alphabetic() || c == '_');
                    if opens_tag {
                        let (mut element, resume) = read_tag(reading, start, next.unwrap_or(text.len()), usize::MAX);
                        let stop = resume.or(next).unwrap_or(text.len());
                        if !element.broken {
                            // Its quotation marks hide its `>`, though the attributes taken one by one look well.
                            tell_quotes(reading, &mut element, start, stop);
                        }
                        let leaf = text[start..stop].trim_end().ends_with("/>");
                        builder.start(reading, element, leaf);
                    } else {
                        let (what, help) = match &text[start..] {
                            comment if comment.starts_with("<!--") => {
                                ("this comment is never closed".to_owned(), "write `-->` where it ends")
                            }
                            declaration if declaration.starts_with("<?") => {
                                ("what begins with `<?` is never closed".to_owned(), "write `?>` at its end")
                            }
                            _ => (format!("not XML: {error}"), "remove it"),
                        };
                        let line_end = text[start..].find('\n').map_or(text.len(), |length| start + length);
                        reading.error(start..line_end, what, help);
                        // What follows an unclosed comment is read as if it were none: its mistakes count.
                    }
                    match next {
                        Some(at) => {
                            base = at;
                            continue 'resume;
                        }
                        None => break 'resume,
                    }
                }
            }
        }
    }
    builder.finish(reading)
}

fn position(reader: &Reader<&[u8]>) -> usize {
    // The text is in memory, so every offset in it is a usize.
    reader.buffer_position() as usize
}

/// Text between elements means nothing in this format; somebody may think it does.
fn stray_text(reading: &mut Reading<'_>, span: Range<usize>) {
    let raw = &reading.text()[span.clone()];
    let trimmed = raw.trim();
    if trimmed.is_empty() {
        return;
    }
    let start = span.start + (raw.len() - raw.trim_start().len());
    let help = match trimmed {
        page if page.contains("&lt;") || page.contains("&gt;") => {
            "it comes from a web page's source: write < and > themselves"
        }
        page if page.contains("&nbsp;") => "it comes from a web page's source: write plain blanks",
        comment if comment.contains("-->") => "comments do not nest: the first `-->` ends them all",
        _ => "settings are attributes: <name attribute=\"value\"/>",
    };
    reading.warn(start..start + trimmed.len(), "this text means nothing here and is ignored", help);
}

/// The element whose start tag is `start..end`, and where to read on if the tag is broken and has swallowed others.
fn read_tag(reading: &mut Reading<'_>, start: usize, end: usize, name_length: usize) -> (Element, Option<usize>) {
    let text = reading.text();
    let inside_end = if text[start..end].ends_with("/>") {
        end - 2
    } else if text[start..end].ends_with('>') {
        end - 1
    } else {
        end
    };
    let content = &text[start + 1..inside_end.max(start + 1)];
    let name_length = match name_length {
        usize::MAX => {
            content.find(|c: char| c.is_whitespace() || matches!(c, '/' | '>' | '=' | '"')).unwrap_or(content.len())
        }
        known => known,
    };
    let mut element = Element {
        name: content[..name_length].to_owned(),
        tag: start..end,
        attributes: Vec::new(),
        children: Vec::new(),
        broken: false,
    };
    let unclosed = !text[start..end].ends_with('>');
    let mut attributes = Attributes::new(content, name_length);
    attributes.with_checks(false);
    for attribute in attributes {
        if reading.is_full() {
            break;
        }
        let error = match attribute {
            Ok(attribute) if swallows_a_tag(&attribute.value) => None,
            Ok(attribute) => {
                match keep(reading, &mut element, content, &attribute) {
                    Kept::Yes => continue,
                    Kept::Enough => break,
                    // A tag inside the tag: the text before it lacks its `>`.
                    Kept::Tag => None,
                }
            }
            Err(error) => Some(error),
        };
        element.broken = true;
        if let Some(inner) = content.find('<') {
            let at = start + 1 + inner;
            tell_unclosed(reading, &mut element, start, at);
            element.tag.end = at;
            return (element, Some(at));
        }
        match error {
            Some(error) if !unclosed => tell_attribute(reading, error, start, &element),
            _ => break,
        }
    }
    if unclosed {
        element.broken = true;
        tell_unclosed(reading, &mut element, start, end);
    }
    (element, None)
}

/// Whether a value runs over a line's end into another tag: its closing quote is missing.
fn swallows_a_tag(value: &str) -> bool {
    value.split_once('\n').is_some_and(|(_, rest)| rest.contains('<'))
}

/// Says why the tag that starts at `start` has no end before `next`.
fn tell_unclosed(reading: &mut Reading<'_>, element: &mut Element, start: usize, next: usize) {
    let so_far = reading.text()[start..next].trim_end();
    let name = &element.name;
    if so_far.ends_with('>') {
        tell_quotes(reading, element, start, next);
    } else if reading.text()[next..].starts_with("<!--") {
        let message = format!("a comment begins inside the tag of <{name}>");
        reading.error(next..next + 4, message, "put it before the tag, or behind its `>`");
    } else {
        let end = start + so_far.len();
        reading.error(end.saturating_sub(1)..end, format!("<{name}> lacks its `>`"), "write `/>` or `>` here");
    }
}

/// Says that the tag at `start`, which ends before `next`, opens a quotation mark too many.
fn tell_quotes(reading: &mut Reading<'_>, element: &mut Element, start: usize, next: usize) {
    let first_line = reading.text()[start..next].lines().next().map_or(0, |line| line.trim_end().len());
    let message = format!("the quotation marks of <{}> do not pair up", element.name);
    reading.error(start..start + first_line, message, "every value stands between two of them: name=\"value\"");
    element.broken = true;
    // What was taken for values may be something else.
    element.attributes.clear();
}

fn tell_attribute(reading: &mut Reading<'_>, error: AttrError, tag_start: usize, element: &Element) {
    let (at, message, help) = match error {
        AttrError::ExpectedEq(at) => (at, "a name without a value", "write name=\"value\""),
        AttrError::ExpectedValue(at) => (at, "the value is missing", "write name=\"value\""),
        AttrError::UnquotedValue(at) => (at, "a value without quotation marks", "write name=\"value\""),
        AttrError::ExpectedQuote(at, _) => (at, "the closing quotation mark is missing", "write name=\"value\""),
        AttrError::Duplicated(at, _) => (at, "this attribute is given twice", "keep one of them"),
    };
    let text = reading.text();
    // quick-xml counts bytes, and may point at the last one of a character.
    let from = char_start(text, (tag_start + 1 + at).min(element.tag.end));
    let length = text[from..].find(|c: char| c.is_whitespace() || c == '>').unwrap_or(text.len() - from);
    reading.error(from..from + length, format!("in <{}>: {message}", element.name), help);
}

enum Kept {
    Yes,
    Tag,
    Enough,
}

/// Adds an attribute to `element`, with its entities resolved.
fn keep(reading: &mut Reading<'_>, element: &mut Element, content: &str, attribute: &XmlAttribute<'_>) -> Kept {
    let key = attribute.key.into_inner();
    if key.contains('<') {
        return Kept::Tag;
    }
    let inside = element.tag.start + 1;
    let name_start = inside + offset_in(content, key);
    let value_start = inside + offset_in(content, &attribute.value);
    let name_span = name_start..name_start + key.len();
    let value_span = match attribute.value.len() {
        0 => value_start.saturating_sub(1)..value_start + 1,
        length => value_start..value_start + length,
    };
    if element.attribute(key).is_some() {
        let message = format!("`{key}` is given twice in <{}>", element.name);
        reading.error(name_span, message, "keep one of them");
        return Kept::Yes;
    }
    if element.attributes.len() >= ATTRIBUTE_LIMIT {
        reading.error(name_span, "too many attributes: this one and those behind it do not count", "remove them");
        return Kept::Enough;
    }
    let value = match attribute.normalized_value(XmlVersion::Implicit1_0) {
        Ok(value) => value.into_owned(),
        Err(_) => {
            reading.warn(value_span.clone(), "a bare `&` in a value, taken as it stands", "write `&amp;` for it");
            let mended =
                XmlAttribute { key: attribute.key, value: Cow::Owned(escape_bare_ampersands(&attribute.value)) };
            mended.normalized_value(XmlVersion::Implicit1_0).map_or(attribute.value.to_string(), Cow::into_owned)
        }
    };
    if value.contains('\0') {
        reading.error(
            value_span.clone(),
            "the value holds a NUL byte, which no path and no option can hold",
            "remove it",
        );
    }
    // At the ends of a value blanks count for nothing.
    if let Some(odd) = value.trim().chars().find(|character| is_odd_blank(*character)) {
        let what = if odd.is_whitespace() { "is no plain blank" } else { "nobody can see" };
        let message = format!("the value holds U+{:04X}, which {what}", u32::from(odd));
        reading.warn(value_span.clone(), message, "it is taken as it stands; write the value anew if it is not meant");
    }
    element.attributes.push(Attribute { name: key.to_owned(), name_span, value, value_span });
    Kept::Yes
}

/// Where `part`, a slice of `whole`, starts in it. quick-xml borrows names and raw values from the text it was given.
fn offset_in(whole: &str, part: &str) -> usize {
    let offset = part.as_ptr() as usize - whole.as_ptr() as usize;
    debug_assert!(offset + part.len() <= whole.len());
    offset
}

fn escape_bare_ampersands(raw: &str) -> String {
    let mut pieces = raw.split('&');
    let mut mended = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_entity =
            piece.find(';').is_some_and(|end| quick_xml::escape::unescape(&format!("&{}", &piece[..=end])).is_ok());
        mended.push_str(if is_entity { "&" } else { "&amp;" });
        mended.push_str(piece);
    }
    mended
}

/// Puts elements into each other.
struct Builder {
    /// The elements whose end tag has not come yet, outermost first.
    open: Vec<Element>,
    roots: Vec<Element>,
    /// Open elements below the depth limit, which are not kept.
    too_deep: usize,
    /// How many there were.
    elements: usize,
}

impl Builder {
    fn start(&mut self, reading: &mut Reading<'_>, element: Element, leaf: bool) {
        self.elements += 1;
        if self.open.len() + self.too_deep >= DEPTH_LIMIT {
            if self.too_deep == 0 && !leaf {
                reading.error(
                    element.tag.clone(),
                    "elements are nested too deep",
                    "no setting lies deeper than six levels",
                );
            }
            self.too_deep += usize::from(!leaf);
        } else if leaf {
            self.add(element);
        } else {
            self.open.push(element);
        }
    }

    fn end(&mut self, reading: &mut Reading<'_>, name: &str, tag: Range<usize>) {
        if self.too_deep > 0 {
            self.too_deep -= 1;
            return;
        }
        let Some(depth) = self.open.iter().rposition(|element| element.is(name)) else {
            let message = format!("</{name}> closes nothing that is open here");
            match self.open.last() {
                Some(last) => {
                    reading.error(tag, message, format!("<{}> is open; remove this or write </{0}>", last.name))
                }
                None => reading.error(tag, message, "remove it"),
            }
            return;
        };
        while self.open.len() > depth + 1 {
            self.close_unclosed(reading);
        }
        self.close();
    }

    fn close(&mut self) {
        if let Some(element) = self.open.pop() {
            self.add(element);
        }
    }

    fn close_unclosed(&mut self, reading: &mut Reading<'_>) {
        // A broken tag has been told already, and whether it meant to close itself cannot be known.
        if let Some(Element { name, tag, broken: false, .. }) = self.open.last() {
            reading.error(
                tag.clone(),
                format!("<{name}> is never closed"),
                format!("write </{name}>, or close it here with `/>`"),
            );
        }
        self.close();
    }

    fn add(&mut self, element: Element) {
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.roots.push(element),
        }
    }

    /// Says why the rest is not read; the elements that are open are not to blame.
    fn give_up(&mut self, reading: &mut Reading<'_>, at: usize, message: &str, help: &str) {
        reading.error(at..at, message, help);
        while !self.open.is_empty() {
            self.close();
        }
    }

    fn finish(mut self, reading: &mut Reading<'_>) -> Document {
        while !self.open.is_empty() {
            self.close_unclosed(reading);
        }
        Document { roots: self.roots, sound: !reading.has_errors() }
    }
}
