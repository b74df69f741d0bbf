//! What the tests of the plugins share: names that do harm, and an agent that does nothing but tell.

use super::agent::Agent;
use super::config::Confxml;
use super::scene::Place;
use super::tree::put;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names that would do harm to a shell, a request line, a header, a form, a query, JSON or a list of lines.
pub const EVIL: [&[u8]; 6] = [
    b"$(touch owned)`touch owned`\";touch owned;'",
    b"a\r\nX-Evil: 1\r\n\r\nDELETE / HTTP/1.1",
    b"a&mask=9#frag?q=1+2;%41",
    b"-rf *",
    b"\xff\xfe\\\"}]",
    "图片 中文.jpg".as_bytes(),
];

pub fn evil(directory: &Path) -> Vec<PathBuf> {
    EVIL.iter().map(|name| put_bytes(directory, name)).collect()
}

pub fn put_bytes(directory: &Path, name: &[u8]) -> PathBuf {
    let path = directory.join(std::ffi::OsStr::from_bytes(
        &name.iter().map(|b| if *b == b'/' { b'|' } else { *b }).collect::<Vec<_>>(),
    ));
    put(&path, "content");
    path
}

/// An agent that only tells `name` of changes in the place's source.
pub fn alone(place: &Place, name: &str, attributes: &str, inner: &str) -> Agent {
    let file = Confxml::new(&place.source()).plugin(name, attributes, inner).write(&place.path("confxml.xml"));
    place.launch().config(&file).argument("-m").argument(name).start()
}

pub fn localpath(place: &Place, inner: &str) -> String {
    format!("<localpath watch=\"{}\">{inner}</localpath>", place.source().display())
}

pub fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
