//! [`Template`]: a text with places such as `{path}` in it, for URLs and bodies of `<deshost>`.
//!
//! Only the names that it knows stand for something; any other brace is a brace, so that JSON needs no quoting.

/// What a place of a [`Template`] stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The path below `watch`, percent-encoded.
    Path,
    /// What happened, such as `CLOSE_WRITE`.
    Event,
    /// The same as a decimal inotify mask.
    Mask,
    /// `1` for a directory, else `0`.
    IsDir,
    /// The instance's name, percent-encoded.
    Instance,
}

const PLACES: [(&str, Place); 5] = [
    ("{path}", Place::Path),
    ("{event}", Place::Event),
    ("{mask}", Place::Mask),
    ("{isdir}", Place::IsDir),
    ("{instance}", Place::Instance),
];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// A text with places in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Reads `text`. `Err`: a lower-case word in braces that stands for nothing, such as `{file}`.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some((name, place)) = PLACES.iter().find(|(name, _)| rest.starts_with(name)) {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Place(*place));
                rest = &rest[name.len()..];
                continue;
            }
            if let Some(word) = word_in_braces(rest) {
                return Err(word.to_owned());
            }
            plain.push(first);
            rest = &rest[first.len_utf8()..];
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The text, with each place as `value` has it, which sees what is before it too.
    pub fn fill(&self, value: impl Fn(Place, &str) -> String) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place(place) => filled.push_str(&value(*place, &filled)),
            }
        }
        filled
    }

    /// The names of all places there are, for messages.
    pub fn places() -> String {
        PLACES.map(|(name, _)| name).join(", ")
    }
}

/// As it was written.
impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.fill(|place, _| {
            let known = PLACES.iter().find(|(_, known)| *known == place);
            known.map_or_else(String::new, |(name, _)| (*name).to_owned())
        }))
    }
}

fn word_in_braces(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('{')?;
    let end = inner.find('}')?;
    let is_word = end > 0 && inner[..end].bytes().all(|byte| byte.is_ascii_lowercase());
    is_word.then(|| &text[..end + 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_filled_and_other_braces_stay() {
        let template = Template::new(r#"{"files":["https://x/{path}"],"n":{"a":{}}} {mask}"#).unwrap();
        let filled = template.fill(|place, _| if place == Place::Path { "{mask}".into() } else { "8".into() });
        assert_eq!(filled, r#"{"files":["https://x/{mask}"],"n":{"a":{}}} 8"#, "a value is not filled again");
        assert_eq!(Template::new("https://x/{file}"), Err("{file}".to_owned()));
        assert_eq!(template.to_string(), r#"{"files":["https://x/{path}"],"n":{"a":{}}} {mask}"#);
    }
}
