//! Bytes as a POSIX shell reads them: the words of a command line, and the format of printf(1).
//!
//! For texts that people run by hand: the script of failed paths, and the line that the journal has of each run.
//! Nothing here runs them.

use super::endpoint::CommandLine;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A longer list is not written out in [`line()`].
const LIST_AT_MOST: usize = 1024;

/// What somebody types to do by hand what a run of rsync in the directory `root` does, all in one line. `list` is what
/// it reads, where that is known and anything; a long one is left out, and then has to come from elsewhere. No password is
/// in it. What is no UTF-8 in an argument is not told as it is.
pub(super) fn line(root: &Path, command: &CommandLine, list: Option<&[u8]>) -> String {
    let mut text = b"cd -- ".to_vec();
    push_word(&mut text, root.as_os_str().as_bytes());
    text.extend_from_slice(b" && ");
    if let Some(list) = list.filter(|list| (1..=LIST_AT_MOST).contains(&list.len())) {
        text.extend_from_slice(b"printf '");
        push_format(&mut text, list);
        text.extend_from_slice(b"' | ");
    }
    for (name, value) in command.environment.iter().filter(|(name, _)| *name != "RSYNC_PASSWORD") {
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        push_word(&mut text, value.as_bytes());
        text.push(b' ');
    }
    text.extend_from_slice(b"rsync");
    for argument in &command.arguments {
        text.push(b' ');
        push_word(&mut text, argument.as_bytes());
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// One word; between single quotes only a single quote means anything.
pub(super) fn push_word(text: &mut Vec<u8>, word: &[u8]) {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=@,+%".contains(byte);
    if !word.is_empty() && word.iter().all(is_plain) {
        text.extend_from_slice(word);
        return;
    }
    text.push(b'\'');
    for byte in word {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            byte => text.push(*byte),
        }
    }
    text.push(b'\'');
}

/// `bytes` as the format that has printf(1) print them, for between single quotes. Letters stay as they are; what could
/// move a cursor, or stand in another place than it seems to, becomes octal.
pub(super) fn push_format(text: &mut Vec<u8>, bytes: &[u8]) {
    let mut format = String::with_capacity(bytes.len());
    let octal = |format: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(format, "\\{byte:03o}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\'' => format.push_str("'\\''"),
                '\\' => format.push_str("\\\\"),
                '%' => format.push_str("%%"),
                ' ' => format.push(' '),
                _ if letter.is_ascii_graphic() || letter.is_alphanumeric() => format.push(letter),
                other => octal(&mut format, other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        octal(&mut format, chunk.invalid());
    }
    text.extend_from_slice(format.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::Used;
    use super::*;
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_line_names_all_but_the_password() {
        let command = CommandLine {
            arguments: vec!["-a".into(), "--rsh".into(), "ssh -p 22".into(), "--".into(), "./".into(), "h::m/".into()],
            environment: vec![("LC_ALL", "C".into()), ("RSYNC_PASSWORD", "hunter2".into())],
            used: Used::default(),
        };
        let rsync = "LC_ALL=C rsync -a --rsh 'ssh -p 22' -- ./ h::m/";
        let root = Path::new("/data/it's here");
        assert_eq!(
            line(root, &command, Some(b"page\0$(x)'\0")),
            format!("cd -- '/data/it'\\''s here' && printf 'page\\000$(x)'\\''\\000' | {rsync}")
        );
        let long = [b'x'; LIST_AT_MOST + 1];
        for list in [None, Some(long.as_slice())] {
            assert_eq!(line(Path::new("/data"), &command, list), format!("cd -- /data && {rsync}"));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn a_shell_prints_the_very_bytes(bytes in prop::collection::vec(1_u8.., 1..40), odd in "[%'`\"\\\\$()a0-9-]{0,12}") {
            let all = [b"./", bytes.as_slice(), odd.as_bytes(), b"\0"].concat();
            let mut script = b"LC_ALL=C; export LC_ALL; printf '".to_vec();
            push_format(&mut script, &all);
            script.extend_from_slice(b"'");
            prop_assert!(!script.iter().any(u8::is_ascii_control));
            let turn = crate::forks::some();
            let child = Command::new("sh").arg("/dev/stdin").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            drop(turn);
            let mut child = child.unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), &script).unwrap();
            prop_assert_eq!(child.wait_with_output().unwrap().stdout, all);
        }
    }
}
