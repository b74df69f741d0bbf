//! [`Fault`]: a named error of a run or of one path, in rsync's own words where it has some, and what to do about it.

use crate::human::shortened;

/// A named error: `name` for programs, `message` for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Such as `AuthFailed`, `ConnectionRefused`, `NoSpace`; stable.
    pub name: &'static str,
    /// What rsync said, and what to do. Never holds a secret.
    pub message: String,
    /// rsync's exit status, where a run as a whole failed; see "EXIT VALUES" in rsync(1).
    pub exit: Option<i32>,
}

/// The names, so that nobody spells one twice.
pub mod name {
    #![allow(missing_docs, reason = "each name says what it means, and `REMEDIES` what to do about it")]
    pub const AUTH_FAILED: &str = "AuthFailed";
    pub const CONNECTION_LOST: &str = "ConnectionLost";
    pub const CONNECTION_REFUSED: &str = "ConnectionRefused";
    pub const DELETE_LIMIT: &str = "DeleteLimit";
    pub const HOST_KEY_CHANGED: &str = "HostKeyChanged";
    pub const HOST_KEY_UNKNOWN: &str = "HostKeyUnknown";
    pub const HOST_UNKNOWN: &str = "HostUnknown";
    pub const IN_THE_WAY: &str = "DirectoryInTheWay";
    pub const IO_ERROR: &str = "IoError";
    pub const LINK_LEADS_OUT: &str = "LinkLeadsOut";
    pub const NAME_TOO_LONG: &str = "NameTooLong";
    pub const NO_ANSWER: &str = "NoAnswer";
    pub const NO_DIRECTORY: &str = "NoDirectory";
    pub const NO_SPACE: &str = "NoSpace";
    pub const OPTION_REFUSED: &str = "OptionRefused";
    pub const OUT_OF_MEMORY: &str = "OutOfMemory";
    pub const PARTIAL_TRANSFER: &str = "PartialTransfer";
    pub const PERMISSION_DENIED: &str = "PermissionDenied";
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    pub const READ_ONLY: &str = "ReadOnly";
    pub const ROOT_MISSING: &str = "RootMissing";
    pub const RSYNC_FAILED: &str = "RsyncFailed";
    pub const RSYNC_KILLED: &str = "RsyncKilled";
    pub const RSYNC_MISSING: &str = "RsyncMissing";
    pub const SHELL_NOT_CLEAN: &str = "ShellNotClean";
    pub const TIMEOUT: &str = "Timeout";
    pub const TOO_MANY_CONNECTIONS: &str = "TooManyConnections";
    pub const TOO_MANY_OPEN_FILES: &str = "TooManyOpenFiles";
    pub const TOO_MANY_PROCESSES: &str = "TooManyProcesses";
    pub const UNKNOWN_MODULE: &str = "UnknownModule";
    pub const UNREACHABLE: &str = "Unreachable";
}

/// What a receiver says when `--max-delete` let it delete no more; over a daemon the exit status is 0 all the same.
pub(super) const DELETIONS_STOPPED: &str = "Deletions stopped due to --max-delete limit";

/// A phrase of rsync, ssh or the C library, the fault it names, and what to do. The first that occurs decides.
/// Phrases: rsync 3.0.6 to 3.5.0, OpenSSH 9, glibc's strerror in the C locale.
const REMEDIES: [(&str, &str, &str); 48] = [
    (DELETIONS_STOPPED, name::DELETE_LIMIT, "raise `--max-delete` in <commonParams>, or delete by hand on the remote"),
    (
        "could not make way",
        name::IN_THE_WAY,
        "the remote has a directory there that may not be removed: it holds excluded files, or <delete> is off",
    ),
    (
        "daemon refused",
        name::PERMISSION_DENIED,
        "an `exclude` of the module in the server's rsyncd.conf refuses this name",
    ),
    (
        "auth failed on module",
        name::AUTH_FAILED,
        "check the user and password file here, and `auth users` and `secrets file` in the server's rsyncd.conf",
    ),
    ("password file must", name::AUTH_FAILED, "make the password file readable by its owner alone"),
    ("Unknown module", name::UNKNOWN_MODULE, "check the module's name here and in the server's rsyncd.conf"),
    (
        "max connections",
        name::TOO_MANY_CONNECTIONS,
        "raise `max connections` in the server's rsyncd.conf, or lower <streams perRemote> here",
    ),
    ("module is read only", name::READ_ONLY, "set `read only = no` for the module in the server's rsyncd.conf"),
    (
        "Read-only file system",
        name::READ_ONLY,
        "the remote's file system is mounted read-only; if it is a directory of this machine that the config has only \
         just named: `systemctl daemon-reload`, then restart the unit",
    ),
    ("access denied to", name::PERMISSION_DENIED, "check `hosts allow` and `hosts deny` in the server's rsyncd.conf"),
    ("Permission denied (publickey", name::AUTH_FAILED, NO_LOGIN),
    ("Permission denied (keyboard-interactive", name::AUTH_FAILED, NO_LOGIN),
    ("Permission denied (password", name::AUTH_FAILED, NO_LOGIN),
    ("Permission denied (gssapi", name::AUTH_FAILED, NO_LOGIN),
    ("Permission denied (hostbased", name::AUTH_FAILED, NO_LOGIN),
    (
        "HOST IDENTIFICATION HAS CHANGED",
        name::HOST_KEY_CHANGED,
        "the host has another key than known_hosts says: if it was installed anew, remove the old key with `ssh-keygen -R \
         HOST` as the agent's user; if it was not, somebody may be in between",
    ),
    ("Host key verification failed", name::HOST_KEY_UNKNOWN, "add the host to the known_hosts of the agent's user"),
    (
        "configured to refuse",
        name::OPTION_REFUSED,
        "allow the option in `refuse options` of the server's rsyncd.conf, or switch <delete> off if it is the deletion that is refused",
    ),
    (
        "is your shell clean?",
        name::SHELL_NOT_CLEAN,
        "the login's shell on the remote prints something before rsync starts: `ssh HOST true` has to print nothing",
    ),
    // POSIX shells, csh, and fish.
    ("rsync: command not found", name::RSYNC_MISSING, NO_RSYNC_THERE),
    ("rsync: not found", name::RSYNC_MISSING, NO_RSYNC_THERE),
    ("rsync: Command not found", name::RSYNC_MISSING, NO_RSYNC_THERE),
    ("Unknown command: rsync", name::RSYNC_MISSING, NO_RSYNC_THERE),
    ("remote command not found", name::RSYNC_MISSING, NO_RSYNC_THERE),
    // The receiver's first act, before it knows what it is to receive.
    ("[Receiver] mkdir", name::NO_DIRECTORY, NO_PARENT),
    ("rsync: mkdir", name::NO_DIRECTORY, NO_PARENT),
    ("unknown option", name::OPTION_REFUSED, "the remote's rsync is too old for an option in <commonParams>"),
    ("Connection refused", name::CONNECTION_REFUSED, "is rsyncd (or sshd) running there, and is the port right?"),
    ("No route to host", name::UNREACHABLE, "check the network between here and the remote"),
    ("Network is unreachable", name::UNREACHABLE, "check the network between here and the remote"),
    ("Connection timed out", name::UNREACHABLE, "check the network between here and the remote"),
    ("Name or service not known", name::HOST_UNKNOWN, "check the host's name, and the resolver"),
    ("Temporary failure in name resolution", name::HOST_UNKNOWN, "check the host's name, and the resolver"),
    ("Could not resolve hostname", name::HOST_UNKNOWN, "check the host's name, and the resolver"),
    ("No space left on device", name::NO_SPACE, "make room on the remote"),
    ("Disk quota exceeded", name::QUOTA_EXCEEDED, "raise the quota on the remote, or make room"),
    ("File name too long", name::NAME_TOO_LONG, "the remote's file system cannot hold this name"),
    ("Input/output error", name::IO_ERROR, "look at the kernel's log: a disk may be failing"),
    ("chroot failed", name::NO_DIRECTORY, "the module's path does not exist on the server"),
    ("chdir failed", name::NO_DIRECTORY, "the module's path does not exist on the server"),
    ("change_dir", name::NO_DIRECTORY, "the directory does not exist on the remote"),
    ("Connection reset by peer", name::CONNECTION_LOST, "the remote closed the connection: its log may say why"),
    ("connection unexpectedly closed", name::CONNECTION_LOST, "the remote closed the connection: its log may say why"),
    (
        "Too many open files",
        name::TOO_MANY_OPEN_FILES,
        "raise LimitNOFILE= of the unit (ulimit -n), or of the remote's rsyncd",
    ),
    (
        "Resource temporarily unavailable",
        name::TOO_MANY_PROCESSES,
        "raise TasksMax= and LimitNPROC= of the unit (ulimit -u), or of the remote's rsyncd",
    ),
    ("Cannot allocate memory", name::OUT_OF_MEMORY, "this machine or the remote has too little memory"),
    ("Permission denied", name::PERMISSION_DENIED, "check owner and mode of what is named"),
    ("Operation not permitted", name::PERMISSION_DENIED, "check owner and mode of what is named"),
];

const NO_LOGIN: &str = "the ssh key was not accepted: try `ssh` to that host as the agent's user";

const NO_RSYNC_THERE: &str = "rsync is not installed on the remote, or not in the PATH of its login";

const NO_PARENT: &str =
    "the remote directory cannot be made: make it there, with its parents, for the login to write to";

/// Line of an ssh that connects by itself, since the shared connection has gone.
const NO_SHARED_CONNECTION: &str = "Control socket connect(";

/// An exit status of rsync that says it all, the fault it names, and what to do.
const OF_EXITS: [(i32, &str, &str); 3] = [
    (25, name::DELETE_LIMIT, "`--max-delete` in <commonParams> stopped the run"),
    (30, name::TIMEOUT, "nothing moved for the time that <timeout> allows"),
    (35, name::UNREACHABLE, "no answer to the attempt to connect: check the network, and the port"),
];

/// Every remedy, for those who translate them.
pub fn remedies() -> impl Iterator<Item = &'static str> {
    let of_exits = OF_EXITS.iter().map(|(_, _, remedy)| *remedy);
    REMEDIES.iter().map(|(_, _, remedy)| *remedy).chain(of_exits).chain([super::confinement::REMEDY_FOR_LINKS])
}

/// Maximum length of a message, in bytes. rsync names paths in it, of up to 4 KiB each, and every failed path has one.
const LONGEST: usize = 1024;

impl Fault {
    /// A fault in our own words.
    pub fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: shortened(message.into(), LONGEST), exit: None }
    }

    /// What rsync's `words` mean, if they hold a phrase that is known.
    pub(super) fn from_words(words: &str) -> Option<Self> {
        Self::from_frame(words, words)
    }

    /// The same, where only the part `frame` of the words is rsync's own; the rest names a file.
    pub(super) fn from_frame(frame: &str, words: &str) -> Option<Self> {
        let (_, name, remedy) = REMEDIES.iter().find(|(phrase, _, _)| frame.contains(phrase))?;
        Some(Self::new(name, format!("{}; {remedy}", words.trim())))
    }

    /// What a whole run's end means: its exit status as in rsync(1), "EXIT VALUES", and what it wrote to stderr.
    pub(super) fn from_exit(exit: Option<i32>, stderr: &str) -> Self {
        Self { exit, ..Self::of_run(exit, stderr) }
    }

    fn of_run(exit: Option<i32>, stderr: &str) -> Self {
        let words = telling_lines(stderr);
        let Some(exit) = exit else {
            return Self::new(name::RSYNC_KILLED, format!("rsync was killed by a signal {words}").trim_end());
        };
        if let Some((_, name, remedy)) = OF_EXITS.iter().find(|(known, ..)| *known == exit) {
            return Self::new(name, format!("{words}; {remedy}"));
        }
        if let Some(fault) = Self::from_words(&words) {
            return fault;
        }
        match exit {
            10 | 12 => {
                Self::new(name::CONNECTION_LOST, format!("{words} (rsync exit {exit}); the remote's log may say why"))
            }
            20 => Self::new(name::RSYNC_KILLED, format!("rsync was told to stop: {words}")),
            _ => Self::new(name::RSYNC_FAILED, format!("{words} (rsync exit {exit})")),
        }
    }
}

/// The lines that say something, on one line, at most a few hundred characters: those with a known phrase, which a
/// login banner of any length must not hide, and of the others the last ones.
fn telling_lines(stderr: &str) -> String {
    const ENOUGH: usize = 600;
    let says_something = |line: &&str| !line.is_empty() && !line.starts_with(NO_SHARED_CONNECTION);
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(says_something).collect();
    let is_known = |line: &str| REMEDIES.iter().any(|(phrase, ..)| line.contains(phrase));
    let mut room = ENOUGH;
    let mut take = |line: &str| {
        let fits = line.len() <= room;
        room = room.saturating_sub(if fits { line.len() } else { 0 });
        fits
    };
    let mut told = vec![false; lines.len()];
    for (told, line) in told.iter_mut().zip(&lines) {
        *told = is_known(line) && take(line);
    }
    for (told, line) in told.iter_mut().zip(&lines).rev() {
        *told = *told || take(line);
    }
    let mut text = String::new();
    let mut is_gap = false;
    for (told, line) in told.into_iter().zip(lines) {
        if !told {
            is_gap = true;
            continue;
        }
        let gap = if std::mem::take(&mut is_gap) { "… " } else { "" };
        let bar = if text.is_empty() { "" } else { " | " };
        text.push_str(&format!("{bar}{gap}{line}"));
    }
    if is_gap { text + " …" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_get_their_name_and_a_remedy() {
        let cases = [
            (
                5,
                "@ERROR: auth failed on module www\nrsync error: error starting client-server protocol (code 5) at main.c(1863)",
                name::AUTH_FAILED,
            ),
            (5, "@ERROR: max connections (1) reached -- try again later", name::TOO_MANY_CONNECTIONS),
            (
                10,
                "rsync: [sender] failed to connect to 127.0.0.1 (127.0.0.1): Connection refused (111)",
                name::CONNECTION_REFUSED,
            ),
            (11, "rsync: [receiver] write failed on \"x\" (in www): No space left on device (28)", name::NO_SPACE),
            (30, "rsync error: timeout in data send/receive (code 30) at io.c(201)", name::TIMEOUT),
            (14, "rsync: [sender] fork: Resource temporarily unavailable (11)", name::TOO_MANY_PROCESSES),
            (12, "rsync error: error in rsync protocol data stream (code 12)", name::CONNECTION_LOST),
            (3, "what is this", name::RSYNC_FAILED),
        ];
        for (exit, words, name) in cases {
            let fault = Fault::from_exit(Some(exit), words);
            assert_eq!(fault.name, name, "{words}");
            assert!(!fault.message.contains('\n'), "{fault:?}");
        }
        assert_eq!(Fault::from_exit(None, "").name, name::RSYNC_KILLED);
    }

    #[test]
    fn no_banner_hides_the_reason() {
        let banner = "All use of this machine is watched and written down.\n".repeat(40);
        let cases = [
            ("user@web1: Permission denied (keyboard-interactive).", name::AUTH_FAILED),
            ("bash: line 1: rsync: command not found", name::RSYNC_MISSING),
            ("fish: Unknown command: rsync", name::RSYNC_MISSING),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                name::HOST_KEY_CHANGED,
            ),
            ("protocol version mismatch -- is your shell clean?", name::SHELL_NOT_CLEAN),
            ("rsync: [Receiver] mkdir \"/no/such\" failed: No such file or directory (2)", name::NO_DIRECTORY),
            ("rsync: mkdir \"/no/such\" failed: No such file or directory (2)", name::NO_DIRECTORY),
        ];
        for (words, name) in cases {
            let last = "rsync: connection unexpectedly closed (0 bytes received so far) [sender]";
            let fault = Fault::from_exit(Some(12), &format!("{banner}{words}\n{banner}{last}"));
            assert_eq!(fault.name, name, "{words}");
            assert!(fault.message.contains(words.lines().next().unwrap()), "{fault:?}");
            assert!(fault.message.contains(last) && fault.message.len() < 1_200, "{fault:?}");
        }
        let long = "x".repeat(5_000);
        assert!(Fault::from_exit(Some(12), &long).message.len() < 200);
    }

    #[test]
    fn the_end_of_a_shared_connection_is_no_refusal() {
        let words = "Control socket connect(/var/lib/sersync/www/ssh-1): Connection refused\n\
                     ssh: connect to host web1 port 22: No route to host";
        assert_eq!(Fault::from_exit(Some(255), words).name, name::UNREACHABLE);
    }
}
