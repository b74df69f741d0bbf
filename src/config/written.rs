//! [`written`]: where a config file says what, for those who compare its words with another program's reading of them.
//! What the words mean here is in [`super::Config`].

use super::reading::Reading;
use super::source::Source;
use super::tree::{self, Element};
use std::path::PathBuf;

/// An attribute as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The line of its value, counted from 1.
    pub line: usize,
    /// Its value, with entities resolved.
    pub value: String,
}

/// Every attribute `name` of the elements at `path`, which starts with the outermost element's name, in the file's order.
pub fn written(bytes: &[u8], path: &[&str], name: &str) -> Vec<Written> {
    let (source, _) = Source::decode(bytes, PathBuf::new());
    let document = tree::read(&mut Reading::new(&source));
    let mut level: Vec<&Element> = document.roots.iter().collect();
    for (depth, step) in path.iter().enumerate() {
        if depth > 0 {
            level = level.iter().flat_map(|element| &element.children).collect();
        }
        level.retain(|element| element.is(step));
    }
    let found = level.iter().filter_map(|element| element.attribute(name));
    found
        .map(|attribute| Written { line: source.place(&attribute.value_span).line, value: attribute.value.clone() })
        .collect()
}
