//! [`Endpoint`]: one remote as rsync's command line sees it: which words name it, which environment it needs.
//!
//! A password goes into the environment of the rsync process and nowhere else. No word passes a shell.

use super::capabilities::{Capabilities, Used};
use super::confinement::{Confinement, Protection, Ruleset};
use super::kept::{self, Kept};
use crate::config::{Destination, RsyncOptions, Secret, takes_short_value, takes_value};
use crate::path::RelPath;
use crate::probe_name;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Lifts a `--max-delete` of the config.
const NO_DELETION_LIMIT: &str = "--max-delete=2147483647";

/// How long a connection may take to be made, in seconds.
const CONNECT_TIMEOUT: u32 = 20;

/// Maximum time without progress of a brief run where the config sets no timeout.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(300);

/// The same of other runs. A remote that computes checksums of files of terabytes, or compares a million entries of one
/// directory on a slow disk, sends nothing meanwhile.
const LONG_PATIENCE: Duration = Duration::from_secs(3600);

/// Has ssh print no banner of the host, which says nothing of a failure. ssh takes the first value that it finds: one
/// that the config gives counts.
const QUIETLY: [&str; 2] = ["-o", "LogLevel=ERROR"];

/// One remote, ready to be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    destination: Destination,
    params: Vec<String>,
    /// More words for ssh's command line.
    ssh: Vec<String>,
    timeout: Option<Duration>,
    /// The control socket of a shared ssh connection, where there is one.
    control_socket: Option<PathBuf>,
    /// Access of its runs.
    confinement: Arc<Confinement>,
    /// Where it keeps what runs delete or replace.
    kept: Option<Arc<Kept>>,
}

/// The forms of a run. All but those of patterns and of the whole root read NUL-separated paths, relative to the root,
/// from stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The entries named; missing ones are deleted, or left alone.
    Entries {
        /// With all that is below them, rather than nothing of it.
        below: bool,
        /// Send even what is equal by size and time.
        ignore_times: bool,
        /// Delete the missing ones.
        delete: bool,
        /// Remove a whole directory of the remote where something else is to take its place.
        force: bool,
        /// Over in a moment, and watched from here: rsync's own `--timeout` would have the daemon send a message at
        /// the start that waits 40 ms for a delayed acknowledgement (measured: 51 ms a run instead of 7).
        brief: bool,
        /// Send files whole, not what differs in them.
        whole: bool,
        /// It is a part of a comparison of the whole root: rsync prints its progress.
        progress: bool,
    },
    /// The directories named, with all below; what only the remote has below them is deleted, or left alone.
    Trees {
        /// Send even what is equal by size and time.
        ignore_times: bool,
        /// Delete what only the remote has.
        delete: bool,
        /// Maximum number of entries to delete; the others are counted. `None`: no limit.
        at_most: Option<u64>,
        /// It is the root itself, which needs no list (rsync takes a fifth longer with one, for it looks at each path
        /// from the root on), and it may take long: progress is told.
        root: bool,
    },
    /// Sends nothing, deletes nothing: prints what `Trees` would delete.
    ListTreeDeletions,
    /// Sends nothing, deletes nothing: prints what `Entries` would delete.
    ListEntryDeletions,
    /// Deletes what the patterns on stdin name and nothing else; works with every rsync since 3.0.
    DeleteMatching,
    /// Sends nothing, deletes nothing: prints what `DeleteMatching` would delete.
    ListMatching,
}

impl Form {
    /// The entries of a list that the agent makes from a tree. Nothing is deleted.
    pub fn listed(ignore_times: bool, progress: bool) -> Self {
        let (delete, force) = (false, false);
        Self::Entries { below: false, ignore_times, delete, force, brief: false, whole: false, progress }
    }

    /// Whether rsync looks into directories by itself.
    pub fn is_recursive(self) -> bool {
        matches!(self, Self::Entries { below: true, .. } | Self::Trees { .. } | Self::ListTreeDeletions)
    }

    /// Whether it only tells what another run would do.
    pub fn is_dry(self) -> bool {
        matches!(self, Self::ListTreeDeletions | Self::ListEntryDeletions | Self::ListMatching)
    }

    /// Whether somebody here has to notice when nothing moves any more.
    pub fn is_brief(self) -> bool {
        matches!(self, Self::Entries { brief: true, .. })
    }
}

/// Variables of a process.
pub(super) type Environment = Vec<(&'static str, OsString)>;

/// A command line, and which doubtful options are on it.
#[derive(Debug)]
pub(super) struct CommandLine {
    pub arguments: Vec<OsString>,
    pub environment: Environment,
    pub used: Used,
}

impl Endpoint {
    /// Joins an address to the options every run of the config gets.
    pub fn new(destination: Destination, options: &RsyncOptions) -> Self {
        let RsyncOptions { params, ssh, timeout, .. } = options.clone();
        let confinement = Arc::new(Confinement::new(&destination, options));
        let kept = options.keep_deleted.map(|days| Arc::new(Kept::new(days)));
        Self { destination, params, ssh, timeout, control_socket: None, confinement, kept }
    }

    /// The same, over the shared ssh connection behind `socket`.
    pub fn with_control_socket(self, socket: PathBuf) -> Self {
        let confinement = Arc::new(self.confinement.with_control_socket(socket.clone()));
        Self { control_socket: Some(socket), confinement, ..self }
    }

    /// The same for runs that send nothing of a watched directory: they need no confinement.
    pub fn unconfined(self) -> Self {
        Self { confinement: Arc::new(self.confinement.lifted()), ..self }
    }

    /// The same for runs that keep nothing of what they delete or replace.
    pub(super) fn keeping_nothing(self) -> Self {
        Self { kept: None, ..self }
    }

    /// Whether the remote keeps what runs delete or replace.
    pub fn keeps_deleted(&self) -> bool {
        self.kept.is_some()
    }

    /// How it keeps that.
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }

    /// Whether `path` is none that is mirrored.
    pub(super) fn leaves_out(&self, path: &RelPath) -> bool {
        self.keeps_deleted() && kept::is_inside(path)
    }

    /// Access of its runs.
    pub(super) fn confinement(&self) -> &Arc<Confinement> {
        &self.confinement
    }

    /// The confinement in force for its runs.
    pub fn protection(&self) -> Protection {
        self.confinement.protection()
    }

    /// What a process that only connects to it may reach; `None` until a run has shown it.
    pub fn last_ruleset(&self) -> Option<Ruleset> {
        self.confinement.last_of_any_root()
    }

    /// The address.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// More words for ssh's command line.
    pub(super) fn ssh_options(&self) -> &[String] {
        &self.ssh
    }

    /// Whether it can be told to rename.
    pub fn can_move(&self) -> bool {
        // A shell would make something of a tilde that rsync does not.
        matches!(&self.destination, Destination::Ssh { directory, .. } if !directory.starts_with('~'))
    }

    /// Maximum time without progress of a run, brief or not.
    pub(super) fn patience(&self, brief: bool) -> Duration {
        self.timeout.unwrap_or(if brief { DEFAULT_PATIENCE } else { LONG_PATIENCE })
    }

    /// Whether the config leaves that to us.
    fn may_send_whole_files(&self) -> bool {
        let rules_it_out =
            |word: &String| matches!(word.as_str(), "--no-whole-file" | "--no-W") || word.starts_with("--append");
        !self.params.iter().any(rules_it_out)
    }

    /// Whether the config's options limit the deletions of one run.
    pub(super) fn limits_deletions(&self) -> bool {
        self.params.iter().any(|word| word.starts_with("--max-delete"))
    }

    /// What the remote puts before a path below the root when it names one in a message.
    pub(super) fn message_prefix(&self) -> Vec<u8> {
        match &self.destination {
            Destination::Daemon { module, .. } => match module.split_once('/') {
                Some((_, below)) => format!("{below}/").into_bytes(),
                None => Vec::new(),
            },
            Destination::Ssh { directory, .. } => format!("{}/", directory.trim_matches('/')).into_bytes(),
            Destination::Local { directory } => {
                // As rsync finds itself in it.
                let real = directory.canonicalize().unwrap_or_else(|_| directory.clone());
                let text = real.as_os_str().as_encoded_bytes();
                [text.strip_prefix(b"/").unwrap_or(text), b"/"].concat()
            }
        }
    }

    /// The whole command line of a run in `form`.
    pub(super) fn command_line(&self, form: Form, capabilities: Capabilities) -> CommandLine {
        let mut used = Used::default();
        let mut arguments: Vec<OsString> = self.kept.iter().map(|_| kept::spare_directory()).collect();
        arguments.extend(self.params.iter().map(OsString::from));
        if self.keeps_deleted() && !form.is_dry() {
            arguments.extend(kept::keep().map(OsString::from));
        }
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));

        match form {
            Form::DeleteMatching | Form::ListMatching => {
                add(&["--recursive", "--from0", "--include-from=-", "--exclude=*", "--delete"]);
            }
            Form::Trees { root: true, .. } => {}
            _ => add(&["--files-from=-", "--from0"]),
        }
        match form {
            Form::Entries { below, ignore_times, force, whole, progress, .. } => {
                add(if below { &["--recursive"] } else { &["--no-recursive"] });
                add(if whole && self.may_send_whole_files() { &["--whole-file"] } else { &[] });
                add(if ignore_times { &["--ignore-times"] } else { &[] });
                add(if force { &["--force"] } else { &[] });
                if progress && capabilities.info.is_worth_a_try() {
                    used.info = true;
                    add(&["--info=progress2"]);
                }
            }
            Form::Trees { ignore_times, delete, at_most, root } => {
                add(&["--recursive"]);
                add(if ignore_times { &["--ignore-times"] } else { &[] });
                add(if delete { &["--delete", "--force"] } else { &[] });
                if let Some(most) = at_most.filter(|_| delete) {
                    add(&[&format!("--max-delete={most}")]);
                }
                // A probe that came back is about to go again: a comparison would send it on for good.
                if root && at_most == Some(0) {
                    add(&[&format!("--exclude=/{}", probe_name::PATTERN)]);
                }
                if root && capabilities.info.is_worth_a_try() {
                    used.info = true;
                    add(&["--info=progress2"]);
                }
            }
            // Nothing is deleted here, and of what cannot be read nothing will be.
            Form::ListTreeDeletions => add(&["--recursive", "--delete", "--ignore-errors"]),
            Form::ListEntryDeletions => add(&["--no-recursive", "--force"]),
            Form::DeleteMatching | Form::ListMatching => {}
        }
        match form {
            Form::DeleteMatching | Form::ListMatching => {}
            Form::Entries { delete: true, .. } | Form::ListEntryDeletions
                if capabilities.delete_missing_args.is_worth_a_try() =>
            {
                used.delete_missing_args = true;
                add(&["--delete-missing-args"]);
                // Until one deletion has been seen: a daemon of 3.1 does not count them, but it names them.
                add(if capabilities.deletes_missing() || form.is_dry() { &[] } else { &["--itemize-changes"] });
            }
            // A directory that vanishes before rsync comes to it is reported by itself. That a remote does well with
            // --delete-missing-args and nothing missing would not say that it knows the option.
            _ => add(&["--ignore-missing-args"]),
        }
        if form.is_dry() {
            // With nothing to create and nothing to update, deletions are all that is left to list.
            add(&["--dry-run", "--itemize-changes", "--existing", "--ignore-existing"]);
            // A limit of the config is for what is deleted: a list that it cuts short would hide the rest.
            add(if self.limits_deletions() { &[NO_DELETION_LIMIT] } else { &[] });
        }
        if capabilities.nanoseconds.is_worth_a_try() {
            used.nanoseconds = true;
            add(&["--modify-window=-1"]);
        }
        add(&["--stats", "--no-human-readable"]);
        if let Some(timeout) = self.timeout.filter(|_| !form.is_brief()) {
            add(&[&format!("--timeout={}", timeout.as_secs().max(1))]);
        }
        let environment = self.add_destination(&mut arguments);
        CommandLine { arguments, environment, used }
    }

    /// The command line that makes an empty directory `name` in the remote's directory and changes nothing else.
    pub(super) fn make_directory(&self, name: &str) -> (Vec<OsString>, Environment) {
        self.making(name, &["--dirs", "--exclude=*"])
    }

    /// The command line that makes an empty directory `name` with mode 0700 in the remote's directory and changes nothing
    /// else, also if it exists.
    pub(super) fn make_kept_directory(&self, name: &str) -> (Vec<OsString>, Environment) {
        // Without --perms the mode counts for a new directory alone.
        self.making(name, &["--dirs", "--exclude=*", "--chmod=D700"])
    }

    /// The command line that deletes what `days` match of what is kept.
    pub(super) fn delete_days(&self, days: &[String]) -> (Vec<OsString>, Environment) {
        let directory = kept::DIRECTORY;
        // rsync looks into a directory that is not here only to delete it: it does so, except for what is protected.
        let mut options = vec![format!("--filter=hide /{directory}"), format!("--filter=risk /{directory}")];
        for day in days {
            options
                .extend([format!("--filter=risk /{directory}/{day}"), format!("--filter=risk /{directory}/{day}/**")]);
        }
        let words = ["--recursive", "--delete", "--force", "--itemize-changes"];
        let words: Vec<&str> =
            words.into_iter().chain(options.iter().map(String::as_str)).chain(["--exclude=*"]).collect();
        self.probing(&words)
    }

    /// The command line that shows whether the remote accepts the options that keep what is deleted; it changes nothing.
    pub(super) fn try_keeping(&self) -> (Vec<OsString>, Environment) {
        let [backup, directory] = kept::keep();
        self.probing(&["--dry-run", "--dirs", "--exclude=*", &backup, &directory])
    }

    fn making(&self, name: &str, options: &[&str]) -> (Vec<OsString>, Environment) {
        let (mut arguments, environment) = self.probing(options);
        let mut target = arguments.pop().unwrap_or_default();
        target.push(name);
        target.push("/");
        arguments.push(target);
        (arguments, environment)
    }

    /// The command line that removes `name` from the remote's directory, whatever is here under that name, and changes
    /// nothing else.
    pub(super) fn remove_directory(&self, name: &str) -> (Vec<OsString>, Environment) {
        let hide = format!("--filter=hide /{name}");
        let (risk, below) = (format!("--filter=risk /{name}"), format!("--filter=risk /{name}/**"));
        self.probing(&["--recursive", "--delete", "--force", &hide, &risk, &below, "--exclude=*"])
    }

    /// The same remote, reached in the same way, with no option of the config that says what is sent: a run of it that
    /// names the root changes neither its mode nor its owner.
    pub(super) fn bare(&self) -> Self {
        Self { params: ways(&self.params), ..self.clone().keeping_nothing() }
    }

    /// The command line that lists the remote's root and the entries in it that match `pattern`.
    pub(super) fn listing(&self, pattern: &str) -> (Vec<OsString>, Environment) {
        let include = format!("--include=/{pattern}");
        let (mut arguments, environment) = self.probing(&["--list-only", &include, "--exclude=*"]);
        // The source: a listing has none.
        arguments.remove(arguments.len() - 2);
        (arguments, environment)
    }

    /// The command line that gives the directory `into` the modification time of the remote's root, and nothing else.
    pub(super) fn fetch_root_time(&self, into: &Path) -> (Vec<OsString>, Environment) {
        let (mut arguments, environment) = self.probing(&["--dirs", "--times", "--exclude=*"]);
        arguments.remove(arguments.len() - 2);
        arguments.push(into.into());
        (arguments, environment)
    }

    /// The command line that gives the remote's root the modification time of the working directory, and nothing else.
    pub(super) fn send_root_time(&self, nanoseconds: bool) -> (Vec<OsString>, Environment) {
        let options = ["--dirs", "--times", "--exclude=*", "--modify-window=-1"];
        self.probing(if nanoseconds { &options } else { &options[..3] })
    }

    /// The command line that sends `file` into the remote's directory, with the time at which it arrives there.
    pub(super) fn push_without_times(&self, file: &Path) -> (Vec<OsString>, Environment) {
        self.sending(&[], file)
    }

    /// The command line that sends the directory `directory`, without what is in it, with its mode.
    pub(super) fn push_directory(&self, directory: &Path) -> (Vec<OsString>, Environment) {
        self.sending(&["--dirs", "--perms"], directory)
    }

    fn sending(&self, options: &[&str], path: &Path) -> (Vec<OsString>, Environment) {
        let (mut arguments, environment) = self.probing(options);
        let target = arguments.pop().unwrap_or_default();
        arguments.pop();
        arguments.extend([path.as_os_str().to_owned(), target]);
        (arguments, environment)
    }

    /// A command line from the working directory to the remote with these options alone.
    fn probing(&self, options: &[&str]) -> (Vec<OsString>, Environment) {
        let mut arguments: Vec<OsString> = ways(&self.params).into_iter().map(OsString::from).collect();
        arguments.extend(options.iter().map(OsString::from));
        let environment = self.add_destination(&mut arguments);
        (arguments, environment)
    }

    /// ssh's command line that has the remote run `command`, and the remote's directory as a shell finds it; `None`
    /// where [`Endpoint::can_move`] says no.
    pub(super) fn ssh_command(&self, command: &str) -> Option<(Vec<OsString>, String)> {
        let Destination::Ssh { user, host, port, directory } = &self.destination else { return None };
        if !self.can_move() {
            return None;
        }
        let words = ["-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o"];
        let mut arguments: Vec<OsString> = words.iter().map(OsString::from).collect();
        arguments.push(format!("ConnectTimeout={CONNECT_TIMEOUT}").into());
        if let Some(port) = port {
            arguments.extend(["-p".into(), port.to_string().into()]);
        }
        arguments.extend(self.ssh.iter().map(OsString::from));
        arguments.extend(QUIETLY.iter().map(OsString::from));
        if let Some(socket) = &self.control_socket {
            arguments.extend(["-o".into(), "ControlMaster=no".into(), "-S".into(), socket.into()]);
        }
        let login = user.as_ref().map_or(host.clone(), |user| format!("{user}@{host}"));
        arguments.extend(["--".into(), login.into(), command.into()]);
        let directory = if directory.starts_with('/') { directory.clone() } else { format!("./{directory}") };
        Some((arguments, directory))
    }

    fn add_destination(&self, arguments: &mut Vec<OsString>) -> Environment {
        let mut environment = vec![("LC_ALL", OsString::from("C"))];
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let login = |user: &Option<String>| user.as_ref().map_or(String::new(), |user| format!("{user}@"));
        let target: OsString = match &self.destination {
            Destination::Daemon { user, host, port, module, password } => {
                // Without the first a small push waits for four delayed acknowledgements of 40 ms; without the second a
                // run whose remote was cut off while it said nothing waits for ever.
                arguments.push("--sockopts=TCP_NODELAY,SO_KEEPALIVE".into());
                arguments.push(format!("--contimeout={CONNECT_TIMEOUT}").into());
                // Its lines would come among those that rsync prints about the run.
                arguments.push("--no-motd".into());
                // Never unset: rsync would ask the terminal.
                environment.push(("RSYNC_PASSWORD", password.as_ref().map_or("", Secret::reveal).into()));
                let port = port.map_or(String::new(), |port| format!(":{port}"));
                format!("rsync://{}{}{port}/{module}/", login(user), bracketed(host)).into()
            }
            Destination::Ssh { user, host, port, directory } => {
                // The directory's name is not for the remote's shell.
                arguments.push("--protect-args".into());
                arguments.push("--rsh".into());
                arguments.push(self.remote_shell(*port).into());
                let directory = if directory.is_empty() { "." } else { directory };
                format!("{}{}:{}/", login(user), bracketed(host), directory.trim_end_matches('/')).into()
            }
            Destination::Local { directory } => {
                let mut directory = directory.clone().into_os_string();
                directory.push("/");
                directory
            }
        };
        arguments.extend(["--".into(), "./".into(), target]);
        environment
    }

    /// rsync splits this at spaces, but for quoted ones.
    fn remote_shell(&self, port: Option<u16>) -> String {
        let mut shell = format!("ssh -o BatchMode=yes -o ServerAliveInterval=15 -o ConnectTimeout={CONNECT_TIMEOUT}");
        if let Some(port) = port {
            shell.push_str(&format!(" -p {port}"));
        }
        for word in &self.ssh {
            shell.push_str(&format!(" \"{word}\""));
        }
        shell.push_str(&format!(" {}", QUIETLY.join(" ")));
        if let Some(socket) = &self.control_socket {
            shell.push_str(&format!(" -o ControlMaster=no -S \"{}\"", socket.display()));
        }
        shell
    }
}

/// Long options that say how the remote is reached, rather than what is sent there.
const WAYS: &[&str] = &[
    "address",
    "blocking-io",
    "contimeout",
    "ipv4",
    "ipv6",
    "no-blocking-io",
    "old-args",
    "password-file",
    "port",
    "protect-args",
    "protocol",
    "remote-option",
    "rsh",
    "rsync-path",
    "secluded-args",
    "sockopts",
];

/// Those of `params` that say how the remote is reached.
fn ways(params: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = params.iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let name = long.split_once('=').map_or(long, |(name, _)| name);
            let value = if !long.contains('=') && takes_value(name) { words.next() } else { None };
            if WAYS.contains(&name) {
                kept.extend([word].into_iter().chain(value).cloned());
            }
            continue;
        }
        let bundle = word.strip_prefix('-').unwrap_or(word);
        for (at, letter) in bundle.char_indices() {
            if matches!(letter, '4' | '6' | 's') {
                kept.push(format!("-{letter}"));
            } else if takes_short_value(letter) {
                let attached = &bundle[at + letter.len_utf8()..];
                let value = if attached.is_empty() { words.next().map(String::as_str) } else { Some(attached) };
                if matches!(letter, 'e' | 'M') {
                    kept.extend(value.map(|value| format!("-{letter}{value}")));
                }
                break;
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::Support;
    use super::*;

    fn endpoint(destination: Destination) -> Endpoint {
        let (params, timeout) = (vec!["-atz".into()], Some(Duration::from_secs(9)));
        Endpoint::new(
            destination,
            &RsyncOptions {
                params,
                selections: Vec::new(),
                ssh: vec!["-o".into(), "ProxyCommand=nc %h 22".into()],
                timeout,
                password_file: None,
                may_read: Vec::new(),
                keep_deleted: None,
            },
        )
    }

    fn daemon() -> Destination {
        Destination::Daemon {
            user: Some("backup".into()),
            host: "::1".into(),
            port: Some(874),
            module: "www/site".into(),
            password: Some(Secret::new("hunter2".into())),
        }
    }

    /// Changed entries of a live run.
    fn entries(delete: bool, brief: bool, whole: bool) -> Form {
        Form::Entries { below: false, ignore_times: true, delete, force: delete, brief, whole, progress: false }
    }

    fn words(line: &CommandLine) -> String {
        line.arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_password_is_in_the_environment_alone() {
        let line = endpoint(daemon()).command_line(entries(true, true, false), Capabilities::default());
        assert!(!words(&line).contains("hunter2"));
        assert!(line.environment.contains(&("RSYNC_PASSWORD", "hunter2".into())));
        assert!(words(&line).ends_with("-- ./ rsync://backup@[::1]:874/www/site/"), "{}", words(&line));
        assert!(!format!("{:?}", endpoint(daemon())).contains("hunter2"));
    }

    #[test]
    fn what_a_remote_refuses_is_left_out() {
        let old = Capabilities {
            nanoseconds: Support::Refused,
            delete_missing_args: Support::Refused,
            info: Support::Refused,
            ..Capabilities::default()
        };
        for form in
            [Form::Trees { ignore_times: false, delete: true, at_most: None, root: true }, entries(true, true, false)]
        {
            let line = words(&endpoint(daemon()).command_line(form, old));
            for option in ["--modify-window", "--delete-missing-args", "--info"] {
                assert!(!line.contains(option), "{line}");
            }
            assert!(line.contains("--ignore-missing-args") && line.contains("--force"), "{line}");
        }
    }

    #[test]
    fn deletions_are_named_until_one_has_been_seen() {
        let form = entries(true, true, false);
        let names = |delete_missing_args| {
            let known = Capabilities { delete_missing_args, ..Capabilities::default() };
            words(&endpoint(daemon()).command_line(form, known)).contains("--itemize-changes")
        };
        let known = [Support::Unknown, Support::Suspected, Support::Accepted, Support::Refused];
        assert_eq!(known.map(names), [true, true, false, false]);
    }

    #[test]
    fn nothing_is_deleted_where_deleting_is_off() {
        for form in [
            entries(false, false, false),
            Form::Trees { ignore_times: false, delete: false, at_most: Some(0), root: false },
        ] {
            let line = words(&endpoint(daemon()).command_line(form, Capabilities::default()));
            assert!(!line.contains("--delete") && !line.contains("--force"), "{line}");
        }
    }

    #[test]
    fn only_long_runs_pay_for_a_timeout_of_their_own() {
        let line = |form| words(&endpoint(daemon()).command_line(form, Capabilities::default()));
        assert!(!line(entries(true, true, false)).contains("--timeout"));
        assert!(line(entries(true, false, false)).contains("--timeout=9"));
        assert!(line(Form::DeleteMatching).contains("--timeout=9"));
    }

    #[test]
    fn files_go_whole_unless_the_config_says_otherwise() {
        let form = entries(true, true, true);
        let line = |params: &str| {
            let mut endpoint = endpoint(daemon());
            endpoint.params.extend(params.split_whitespace().map(str::to_owned));
            words(&endpoint.command_line(form, Capabilities::default()))
        };
        assert!(line("").contains(" --whole-file "));
        for params in ["--no-whole-file", "--inplace --no-W", "--append", "--append-verify"] {
            assert!(!line(params).contains(" --whole-file "), "{params}");
        }
    }

    #[test]
    fn a_bare_run_keeps_only_the_options_that_reach_the_remote() {
        let bare = |words: &[&str]| ways(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(bare(&["-artuz", "--chmod=D755", "--chown", "a:b", "--log-file=/x", "--backup"]), [""; 0]);
        let words = ["-az4e", "ssh -p 9", "--rsync-path", "sudo rsync", "--port=9", "-M--fake-super", "-T", "e6"];
        assert_eq!(bare(&words), ["-4", "-essh -p 9", "--rsync-path", "sudo rsync", "--port=9", "-M--fake-super"]);
    }

    #[test]
    fn ssh_asks_nothing_and_its_directory_meets_no_shell() {
        let ssh = Destination::Ssh { user: None, host: "web2".into(), port: Some(22), directory: "/srv/w w".into() };
        let line = words(
            &endpoint(ssh)
                .with_control_socket("/run/s".into())
                .command_line(entries(true, true, false), Capabilities::default()),
        );
        assert!(line.contains("BatchMode=yes") && line.contains("--protect-args") && line.contains("-S \"/run/s\""));
        assert!(line.contains("\"-o\" \"ProxyCommand=nc %h 22\""), "{line}");
        assert!(line.ends_with("-- ./ web2:/srv/w w/"), "{line}");
    }
}
