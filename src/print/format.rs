//! [`Format`]: what is printed of an event, in the notation of inotifywait(1).

use super::events;
use crate::watch::Event;
use jiff::ZonedDateTime;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// One piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    /// `%w`: the directory, with a slash at its end.
    Directory,
    /// `%f`: the name in it.
    Name,
    /// `%e`, `%Xe`: the events, with this between them.
    Events(char),
    /// `%T`.
    Time,
    /// `%c`: the number that joins the halves of a rename, in hexadecimal.
    Cookie,
}

/// A format that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A letter that means nothing.
    #[error("--format: %{0} means nothing; there are %w %f %e %Xe %T %c %0 %n and %%")]
    Unknown(String),
    /// A `%` at the end.
    #[error("--format ends with a single %; write %% for a percent sign")]
    Cut,
    /// What strftime does not know.
    #[error("--timefmt: {0}")]
    Time(String),
}

/// How a line is made.
#[derive(Debug, Clone)]
pub struct Format {
    pieces: Vec<Piece>,
    time: String,
    end: u8,
    /// Values are quoted as in comma-separated ones.
    is_csv: bool,
    /// The file that is watched stands where its directory would, and has no name below it.
    is_one_file: bool,
}

impl Format {
    /// Reads a format; `end` closes each line.
    pub fn parse(format: &str, time: &str, end: u8) -> Result<Self, FormatError> {
        let mut pieces = Vec::new();
        let mut text = Vec::new();
        let mut signs = format.chars();
        while let Some(sign) = signs.next() {
            if sign != '%' {
                text.extend(sign.encode_utf8(&mut [0; 4]).bytes());
                continue;
            }
            let piece = match signs.next().ok_or(FormatError::Cut)? {
                '%' => Err(b'%'),
                '0' => Err(b'\0'),
                'n' => Err(b'\n'),
                'w' => Ok(Piece::Directory),
                'f' => Ok(Piece::Name),
                'e' => Ok(Piece::Events(',')),
                'T' => Ok(Piece::Time),
                'c' => Ok(Piece::Cookie),
                between => match signs.next() {
                    Some('e') => Ok(Piece::Events(between)),
                    _ => return Err(FormatError::Unknown(between.to_string())),
                },
            };
            match piece {
                Err(byte) => text.push(byte),
                Ok(piece) => {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                    pieces.push(piece);
                }
            }
        }
        pieces.push(Piece::Text(text));
        pieces.retain(|piece| *piece != Piece::Text(Vec::new()));
        let refused = |error: jiff::Error| FormatError::Time(error.to_string());
        jiff::fmt::strtime::format(time, &ZonedDateTime::now()).map_err(refused)?;
        Ok(Self { pieces, time: time.to_owned(), end, is_csv: false, is_one_file: false })
    }

    /// Directory, events and name as comma-separated values.
    pub fn csv() -> Self {
        let comma = || Piece::Text(b",".to_vec());
        let pieces = vec![Piece::Directory, comma(), Piece::Events(','), comma(), Piece::Name];
        Self { pieces, time: String::new(), end: b'\n', is_csv: true, is_one_file: false }
    }

    /// The same for a file that is watched by itself.
    pub fn of_one_file(self) -> Self {
        Self { is_one_file: true, ..self }
    }

    /// Appends the line of `event`, below the directory that was named `root`.
    pub fn write(&self, line: &mut Vec<u8>, root: &Path, event: &Event) {
        for piece in &self.pieces {
            let from = line.len();
            match piece {
                Piece::Directory if self.is_one_file => line.extend(root.as_os_str().as_bytes()),
                Piece::Name if self.is_one_file => {}
                Piece::Text(text) => line.extend(text),
                Piece::Directory => {
                    line.extend(root.as_os_str().as_bytes());
                    let above = event.path.parent().filter(|above| !above.is_root());
                    for part in above.iter().flat_map(|above| [&b"/"[..], above.as_bytes()]) {
                        // A root that was named with a slash at its end has one already.
                        let doubled = part == b"/" && line.ends_with(b"/");
                        line.extend(if doubled { &b""[..] } else { part });
                    }
                    if !line.ends_with(b"/") {
                        line.push(b'/');
                    }
                }
                Piece::Name => line.extend(event.path.file_name().as_bytes()),
                Piece::Events(between) => {
                    let names: Vec<&str> = events::names(event.mask).collect();
                    line.extend(names.join(&between.to_string()).as_bytes());
                }
                Piece::Time => {
                    // It was found to be right when it was parsed.
                    let now = jiff::fmt::strtime::format(&self.time, &ZonedDateTime::now()).unwrap_or_default();
                    line.extend(now.as_bytes());
                }
                // Writing to memory does not fail.
                Piece::Cookie => drop(write!(line, "{:x}", event.cookie)),
            }
            if self.is_csv && !matches!(piece, Piece::Text(_)) && line[from..].iter().any(|b| b",\"\n ".contains(b)) {
                let value = line.split_off(from);
                line.push(b'"');
                line.extend(
                    value.iter().flat_map(|byte| if *byte == b'"' { &b"\"\""[..] } else { std::slice::from_ref(byte) }),
                );
                line.push(b'"');
            }
        }
        line.push(self.end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::RelPath;
    use crate::watch::EventMask;

    fn line(format: &str, root: &str, path: &[u8]) -> Vec<u8> {
        let event = Event { path: RelPath::new(path).unwrap(), mask: EventMask::CREATE | EventMask::ISDIR, cookie: 31 };
        let mut line = Vec::new();
        Format::parse(format, "%Y", b'\n').unwrap().write(&mut line, Path::new(root), &event);
        line
    }

    #[test]
    fn lines_are_inotifywaits() {
        assert_eq!(line("%w %e %f", "/data", b"a/b/c"), b"/data/a/b/ CREATE,ISDIR c\n");
        assert_eq!(line("%w%f%0%:e %c%n100%%", "data/", b"\xff\n"), b"data/\xff\n\0CREATE:ISDIR 1f\n100%\n");
        assert!(line("%T", "/", b"a").starts_with(b"20"));
        let refused = |format| Format::parse(format, "%Y", b'\n').unwrap_err();
        assert_eq!((refused("%q"), refused("a%")), (FormatError::Unknown("q".to_owned()), FormatError::Cut));
    }
}
