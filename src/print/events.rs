//! The names of events, as inotifywait(1) writes and reads them.

use crate::watch::EventMask;

/// What is printed for each bit, in the order in which it is printed.
const PRINTED: [(EventMask, &str); 9] = [
    (EventMask::MODIFY, "MODIFY"),
    (EventMask::ATTRIB, "ATTRIB"),
    (EventMask::CLOSE_WRITE, "CLOSE_WRITE"),
    (EventMask::MOVED_TO, "MOVED_TO"),
    (EventMask::MOVED_FROM, "MOVED_FROM"),
    (EventMask::DELETE, "DELETE"),
    (EventMask::CREATE, "CREATE"),
    // Every close of a file is a `CLOSE`, too.
    (EventMask::CLOSE_WRITE, "CLOSE"),
    (EventMask::ISDIR, "ISDIR"),
];

/// The names of `mask`.
pub fn names(mask: EventMask) -> impl Iterator<Item = &'static str> {
    PRINTED.into_iter().filter(move |(bit, _)| mask.contains(*bit)).map(|(_, name)| name)
}

/// Which events are printed.
#[derive(Debug, Clone, Copy)]
pub struct Selection(EventMask);

/// A name that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// inotify has it, this does not.
    #[error("--events {0}: reading is not watched for, only changes: {known}", known = KNOWN)]
    NoChange(String),
    /// It is none at all.
    #[error("--events {0:?} is no event; there are: {known}", known = KNOWN)]
    Unknown(String),
}

const KNOWN: &str = "create, delete, close_write, close, modify, attrib, moved_from, moved_to, move";

impl Selection {
    /// The events named, in any case; none named: all but `modify`, which a file that is being written gives without end.
    pub fn parse(names: &[String]) -> Result<Self, EventError> {
        let mut mask = EventMask::empty();
        for name in names {
            mask |= match name.trim().to_ascii_lowercase().as_str() {
                "create" => EventMask::CREATE,
                "delete" => EventMask::DELETE,
                "close_write" | "close" => EventMask::CLOSE_WRITE,
                "modify" => EventMask::MODIFY,
                "attrib" => EventMask::ATTRIB,
                "moved_from" => EventMask::MOVED_FROM,
                "moved_to" => EventMask::MOVED_TO,
                "move" => EventMask::MOVED_FROM | EventMask::MOVED_TO,
                "access" | "open" | "close_nowrite" => return Err(EventError::NoChange(name.clone())),
                _ => return Err(EventError::Unknown(name.clone())),
            };
        }
        Ok(match mask.is_empty() {
            true => Self(EventMask::all() - EventMask::MODIFY),
            false => Self(mask),
        })
    }

    /// Whether an event is one of them.
    pub fn has(&self, mask: EventMask) -> bool {
        mask.intersects(self.0 - EventMask::ISDIR)
    }

    /// Whether each write counts.
    pub fn has_modify(&self) -> bool {
        self.0.contains(EventMask::MODIFY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_inotifywaits() {
        let text = |mask| names(mask).collect::<Vec<_>>().join(",");
        assert_eq!(text(EventMask::CLOSE_WRITE), "CLOSE_WRITE,CLOSE");
        assert_eq!(text(EventMask::CREATE | EventMask::ISDIR), "CREATE,ISDIR");
        let selection = Selection::parse(&["MOVE".to_owned(), "delete".to_owned()]).unwrap();
        assert!(selection.has(EventMask::MOVED_TO | EventMask::ISDIR) && selection.has(EventMask::DELETE));
        assert!(!selection.has(EventMask::CREATE | EventMask::ISDIR));
        assert_eq!(Selection::parse(&["open".to_owned()]).unwrap_err(), EventError::NoChange("open".to_owned()));
        assert!(Selection::parse(&["crate".to_owned()]).unwrap_err().to_string().contains("close_write"));
    }
}
