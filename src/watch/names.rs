//! Names that programs use for a moment while they write something else.

use crate::config::TemporaryNames;

/// What becomes of an event on a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Reported at once.
    Report,
    /// Held back for a second.
    Hold,
    /// Never reported.
    Skip,
}

/// What becomes of events on the non-directory `name`. For directories see [`is_unpacked`].
pub fn treatment(name: &[u8], setting: TemporaryNames) -> Treatment {
    match setting {
        TemporaryNames::Hold if is_temporary(name) => Treatment::Hold,
        TemporaryNames::Skip if name.starts_with(b".") || name.ends_with(b"~") || name == b"4913" => Treatment::Skip,
        _ => Treatment::Report,
    }
}

/// Whether `name` is one that a program may use for a moment: vim's probe `4913` and swap files, backups, Emacs' locks, GLib's and rsync's files in the making, what dpkg and rpm
/// unpack before they put it in its place, NFS's removed files that are still open.
pub fn is_temporary(name: &[u8]) -> bool {
    if name == b"4913" || name.ends_with(b"~") || has_unpacked_form(name) {
        return true;
    }
    let Some(hidden) = name.strip_prefix(b".") else { return false };
    let ends_as_swap = hidden.len() >= 4 && hidden[..hidden.len() - 1].ends_with(b".sw");
    let ends_as_rsync = hidden.len() > 7
        && hidden[hidden.len() - 7] == b'.'
        && hidden[hidden.len() - 6..].iter().all(u8::is_ascii_alphanumeric);
    hidden.starts_with(b"#")
        || hidden.starts_with(b"goutputstream-")
        || hidden.starts_with(b"nfs")
        || ends_as_swap
        || ends_as_rsync
}

/// Whether `name` is one that package managers give what they unpack, directories too, until it is in its place.
pub fn is_unpacked(name: &[u8], setting: TemporaryNames) -> bool {
    setting == TemporaryNames::Hold && has_unpacked_form(name)
}

/// `NAME.dpkg-new`, `NAME.dpkg-tmp`; `NAME;5f3a90c1` of rpm.
fn has_unpacked_form(name: &[u8]) -> bool {
    let by_rpm = name.len() > 9
        && name[name.len() - 9] == b';'
        && name[name.len() - 8..].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    by_rpm || [&b".dpkg-new"[..], b".dpkg-tmp"].iter().any(|ending| name.len() > ending.len() && name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_names_of_a_moment() {
        for name in [
            "4913",
            "a.txt~",
            ".a.txt.swp",
            ".a.swx",
            ".#lock",
            ".goutputstream-A1B2C3",
            ".nfs000000001",
            ".a.txt.Ab3dEf",
            "libc.so.6.dpkg-new",
            "sh.dpkg-tmp",
            "bash;5f3a90c1",
        ] {
            assert_eq!(treatment(name.as_bytes(), TemporaryNames::Hold), Treatment::Hold, "{name}");
        }
        for name in [
            ".htaccess",
            "a.swp",
            "49130",
            ".sw",
            ".swp",
            "goutputstream-1",
            ".a.b",
            ".Ab3dEf",
            "a.Ab3dEf",
            "bash;5F3A90C1",
            ";5f3a90c1",
            ".dpkg-new",
            "a.dpkg-old",
        ] {
            assert_eq!(treatment(name.as_bytes(), TemporaryNames::Hold), Treatment::Report, "{name}");
        }
    }

    #[test]
    fn skips_what_sersync_skipped() {
        for name in [".htaccess", "a~", "4913"] {
            assert_eq!(treatment(name.as_bytes(), TemporaryNames::Skip), Treatment::Skip, "{name}");
        }
        assert_eq!(treatment(b"a.swp", TemporaryNames::Skip), Treatment::Report);
    }
}
