//! What one instance is asked to do: the parsed, checked, defaulted form of a confxml.xml or of `--watch/--to`.
//!
//! This file holds the model, and [`load`], which makes it of a file: bytes become text (`source`), text becomes
//! elements (`tree`), elements become values (`confxml`), and each step tells what is wrong with the place where it
//! is wrong (`mistake`). Nothing here knows of D-Bus, systemd or inotify.

mod access;
mod address;
mod allowance;
mod command_line;
mod command_words;
mod confxml;
mod credential;
mod crontab;
mod evaluation;
#[cfg(test)]
mod hostile_test;
mod instance;
mod lookalike;
mod mistake;
mod needs;
pub mod overlap;
mod params;
mod password;
mod plugins;
mod reading;
mod rsync_options;
mod schema;
mod source;
mod template;
mod tree;
mod web;
mod written;

pub use address::AddressError;
pub use command_line::{CommandLineError, alone_from_command_line, from_command_line};
pub use command_words::CommandLine;
pub(crate) use evaluation::{evaluator, possible_evaluator};
pub use instance::{InstanceNameError, check_instance_name, instance_name};
pub use mistake::{Mistake, Mistakes, Place, Severity};
pub use needs::{Needs, needs};
pub use params::{has_option, option_values, refusal, takes_short_value, takes_value};
pub use plugins::{Calls, CommandPlugin, PluginName, Plugins, RefreshCdnPlugin, SocketPlugin};
#[cfg(fuzzing)]
pub(crate) use source::written_text;
pub use template::{Place as TemplatePlace, Template};
pub use web::{Header, HttpPlugin, RequestBody};
pub use written::{Written, written};

use crate::calendar::Calendar;
use crate::filter::Filter;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// One instance's whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from; `None` for `--watch/--to`.
    pub file: Option<PathBuf>,
    /// `<debug start>`: tell every event and every rsync command at debug level.
    pub debug: bool,
    /// The watched directories, each with its remotes; at least one.
    pub roots: Vec<Root>,
    /// Which changes count.
    pub events: EventSwitches,
    /// Which runs delete, where `events.delete` lets any.
    pub deletions: Deletions,
    /// Maximum number of removed paths that are deleted on a remote within a minute; `None`: no limit.
    pub delete_limit: Option<u64>,
    /// Paths that never reach a remote.
    pub filter: Arc<Filter>,
    /// How rsync is called.
    pub rsync: RsyncOptions,
    /// Our own settings, the element `<agent>`.
    pub agent: AgentSettings,
    /// `<failLog>`, if it is there.
    pub fail_log: Option<FailLog>,
    /// `<crontab start="true">`.
    pub crontab: Option<Crontab>,
    /// The `<plugin>` elements.
    pub plugins: Plugins,
    /// `-m`, or `<plugin alone="true">`: every change goes straight to this plugin, there is no rsync and no root has a remote.
    pub alone: Option<PluginName>,
    /// What of the file is not followed, and why: sentences to be told once.
    pub notes: Vec<String>,
}

/// A config file that can be used, and what is odd in it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What may not be as its author meant it, in the file's order.
    pub warnings: Vec<Mistake>,
}

/// Longer files are no configs; an endless one (a device) must not fill the memory.
pub(crate) const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// Reads and checks the config file at `path`, and the password file that it names.
pub fn load(path: &Path) -> Result<Loaded, Mistakes> {
    parse_for(&contents(path)?, path, None, given_credentials())
}

/// The same for `-m`: remotes, and how they are reached, do not count.
pub fn load_alone(path: &Path, plugin: PluginName) -> Result<Loaded, Mistakes> {
    parse_for(&contents(path)?, path, Some(plugin), given_credentials())
}

/// What the file at `path` holds.
pub fn contents(path: &Path) -> Result<Vec<u8>, Mistakes> {
    let whole_file = |message: String, help: &str| {
        let (severity, file, help) = (Severity::Error, path.to_path_buf(), Some(help.to_owned()));
        Mistakes(vec![Mistake { severity, file, place: None, elsewhere: false, message, help }])
    };
    let bytes = read_regular(path)
        .map_err(|error| whole_file(format!("the config cannot be read: {error}"), "name a config with `-o FILE`"))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(whole_file("the file has more than 4 MiB".to_owned(), "it is probably no config"));
    }
    Ok(bytes)
}

/// Contents of the regular file at `path`, at most one byte more than [`FILE_LIMIT`]. A pipe would block until a writer
/// comes; a device may block as well, or never end.
pub(crate) fn read_regular(path: &Path) -> std::io::Result<Vec<u8>> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(nix::errno::Errno::EISDIR.into());
    }
    if !kind.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The directory of the system's configs.
const OWN_DIRECTORY: &str = "/etc/sersync";

/// Whether `path` is in the directory of the system's configs, also when links are followed. A config can name any file,
/// and no advice may change a file of another program.
pub fn is_own_file(path: &Path) -> bool {
    let Some(directory) = path.parent() else { return false };
    // Of a file that does not exist yet the directory says where it would be.
    let real = path.canonicalize().or_else(|_| directory.canonicalize());
    let own = Path::new(OWN_DIRECTORY);
    real.is_ok_and(|real| real.starts_with(own.canonicalize().as_deref().unwrap_or(own)))
}

/// Whether a config contains a password: in an attribute, or in a URL.
pub fn contains_password(bytes: &[u8]) -> bool {
    source::Source::decode(bytes, PathBuf::new()).0.has_secrets()
}

/// Where systemd put the credentials of the unit that this process belongs to.
fn given_credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|directory| directory.is_absolute())
}

/// The same for bytes that were read from `origin` already. Reads the password file that they name.
pub fn parse(bytes: &[u8], origin: &Path) -> Result<Loaded, Mistakes> {
    parse_for(bytes, origin, None, given_credentials())
}

/// The same for a file that is to be used later or elsewhere: what is wrong with the files that it names, such as a
/// password file that is still missing, is among the warnings.
pub fn inspect(bytes: &[u8], origin: &Path, alone: Option<PluginName>) -> Result<Loaded, Mistakes> {
    usable(read(bytes, origin, alone, given_credentials()), |mistake| !mistake.elsewhere)
}

fn parse_for(
    bytes: &[u8],
    origin: &Path,
    alone: Option<PluginName>,
    credentials: Option<PathBuf>,
) -> Result<Loaded, Mistakes> {
    usable(read(bytes, origin, alone, credentials), |_| true)
}

fn usable((config, found): (Config, Vec<Mistake>), counts: fn(&Mistake) -> bool) -> Result<Loaded, Mistakes> {
    match found.iter().any(|mistake| mistake.severity == Severity::Error && counts(mistake)) {
        true => Err(Mistakes(found)),
        false => Ok(Loaded { config, warnings: found }),
    }
}

fn read(
    bytes: &[u8],
    origin: &Path,
    alone: Option<PluginName>,
    credentials: Option<PathBuf>,
) -> (Config, Vec<Mistake>) {
    let (source, doubt) = source::Source::decode(bytes, origin.to_path_buf());
    let mut reading = reading::Reading::new(&source).with_credentials(credentials);
    if let Some(doubt) = doubt {
        reading.warn(0..source.text.lines().next().unwrap_or_default().len(), doubt.message, doubt.help);
    }
    for lookalike in &source.lookalikes {
        reading.error(lookalike.span.clone(), lookalike.message.as_str(), lookalike.help.as_str());
    }
    let document = tree::read(&mut reading);
    let config = confxml::read(&mut reading, &document, origin, alone);
    let found = reading.into_mistakes();
    (config, found)
}

/// Reads a destination as rsync has it: `[user@]host::module`, `[user@]host:directory`, `/directory`.
pub fn destination(text: &str) -> Result<Destination, AddressError> {
    address::destination(text, None, Path::new("/"))
}

/// A watched directory and where it is mirrored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Absolute, without trailing slash (but `/` itself).
    pub path: PathBuf,
    /// At least one; none where a plugin takes rsync's place ([`Config::alone`]).
    pub remotes: Vec<Destination>,
}

/// Where a root is mirrored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A module of an rsync daemon.
    Daemon {
        /// The rsyncd user; `None` where the module asks for none.
        user: Option<String>,
        /// Host name or address; an IPv6 address without brackets.
        host: String,
        /// TCP port; `None` is rsync's own 873.
        port: Option<u16>,
        /// The module, perhaps with a path below it (`www` or `www/site`), without slashes at the ends.
        module: String,
        /// What goes into `RSYNC_PASSWORD`.
        password: Option<Secret>,
    },
    /// A directory of another host, reached by ssh.
    Ssh {
        /// The login; `None` leaves it to ssh's own configuration.
        user: Option<String>,
        /// Host name, address or `Host` alias of ssh_config.
        host: String,
        /// Port; `None` leaves it to ssh's own configuration.
        port: Option<u16>,
        /// The remote directory; relative ones start in the login's home.
        directory: String,
    },
    /// A directory of this machine.
    Local {
        /// Absolute.
        directory: PathBuf,
    },
}

impl Destination {
    /// The port that the config names.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Daemon { port, .. } | Self::Ssh { port, .. } => *port,
            Self::Local { .. } => None,
        }
    }
}

/// The address as people write it: `backup@web1::www`, `web2:/srv/www`, `/mnt/copy`. Holds no secret;
/// this is the remote's name in the journal, on D-Bus and in `sersyncctl`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |user: &Option<String>| user.as_ref().map_or(String::new(), |user| format!("{user}@"));
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match self {
            Self::Daemon { user, host, module, .. } => write!(f, "{}{}::{module}", at(user), bracketed(host)),
            Self::Ssh { user, host, directory, .. } => write!(f, "{}{}:{directory}", at(user), bracketed(host)),
            Self::Local { directory } => write!(f, "{}", directory.display()),
        }
    }
}

/// A password. Shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The password itself, for the environment of an rsync process or for a request, and for nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The `<inotify>` switches: which changes are mirrored as they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSwitches {
    /// `delete`: a removed path is removed on the remotes; false: nothing is ever deleted there.
    pub delete: bool,
    /// `createFolder`: new directories are watched and sent.
    pub create_folder: bool,
    /// `createFile`: a new file is sent at its creation, before its first close.
    pub create_file: bool,
    /// `closeWrite`: a file is sent when its writer closes it.
    pub close_write: bool,
    /// `moveFrom`: a path moved away is removed on the remotes (if `delete` allows).
    pub move_from: bool,
    /// `moveTo`: a path moved here is sent.
    pub move_to: bool,
    /// `attrib`: changes of mode, owner, times are sent.
    pub attrib: bool,
    /// `modify`: every write is sent, not only the close after it.
    pub modify: bool,
}

impl EventSwitches {
    /// What the shipped confxml.xml switches on; also what holds where the element `<inotify>` is missing.
    pub const SHIPPED: Self = Self {
        delete: true,
        create_folder: true,
        create_file: false,
        close_write: true,
        move_from: true,
        move_to: true,
        attrib: false,
        modify: false,
    };

    /// The shipped ones and attribute changes: what `--watch/--to` uses, so that the copy is exact.
    pub const EXACT: Self = Self { attrib: true, ..Self::SHIPPED };

    /// No switch on: the state of `<inotify/>` with no child.
    pub const NONE: Self = Self {
        delete: false,
        create_folder: false,
        create_file: false,
        close_write: false,
        move_from: false,
        move_to: false,
        attrib: false,
        modify: false,
    };
}

/// Which runs delete what only the remote has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletions {
    /// All of them.
    Always,
    /// Comparisons of the whole tree, at start, by the clock or asked for; what is removed later stays until the next one.
    FullSyncs,
    /// What is removed while the agent watches; comparisons of the whole tree leave alone what only the remote has.
    Live,
}

/// How rsync is called, apart from what each run adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RsyncOptions {
    /// `<commonParams params>`, split into words as a shell would, without what the runs decide
    /// themselves (`-r`, `-R`, `--delete…`) and without `-u` unless [`AgentSettings::keep_newer`].
    pub params: Vec<String>,
    /// Options among them that keep entries from the remotes, each with what never arrives.
    pub selections: Vec<String>,
    /// `<ssh identity credential options>`: words for the command line of ssh.
    pub ssh: Vec<String>,
    /// `<timeout>`: rsync's I/O timeout.
    pub timeout: Option<Duration>,
    /// `<auth passwordfile>`, where a password was read from it: for a command that people run. Ours get the password.
    pub password_file: Option<PathBuf>,
    /// `<mayRead>`: what rsync and ssh may read besides the watched directory and what they need to start.
    pub may_read: Vec<PathBuf>,
    /// `<keepDeleted days>`: number of days for which a remote keeps what runs delete or replace; `None`: it does not.
    pub keep_deleted: Option<u16>,
}

/// Names that editors, package managers and rsync use for a moment (`4913`, `*~`, `.*.sw?`, …).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemporaryNames {
    /// Held back for a second, then sent if they are still there.
    Hold,
    /// As sersync 2.5.4: files that start with `.`, end with `~`, or are called `4913` are never sent by an event.
    Skip,
}

/// Whether the whole tree is compared when the agent starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullSyncAtStart {
    /// At each start (`-r`).
    Always,
    /// Only what was pending when the agent stopped: changes made in between wait for the next full sync.
    Never,
    /// Unless it is certain that no change was missed.
    Auto,
}

/// The element `<agent>`: settings that sersync 2.5.4 did not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentSettings {
    /// How long the first change after quiet waits for its siblings.
    pub gather: Duration,
    /// At most so many paths go into one rsync run.
    pub batch_paths: usize,
    /// At most so many rsync runs to one remote at once.
    pub streams: usize,
    /// One rsync a remote is started ahead of the next change, and replaced after so long; zero: none.
    pub ahead: Duration,
    /// Maximum number of rsync runs of the agent (`-n`). Each remote may have one live run in addition.
    pub workers: usize,
    /// Full sync at start.
    pub full_sync_at_start: FullSyncAtStart,
    /// Where the pending paths are kept over a restart; `None`: the default place.
    pub state_directory: Option<PathBuf>,
    /// Above so many pending paths a remote's set folds siblings into their directory.
    pub pending_limit: usize,
    /// What becomes of temporary names.
    pub temporary_names: TemporaryNames,
    /// Leave a file alone that is newer on the remote (rsync's `-u`).
    pub keep_newer: bool,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            gather: Duration::ZERO,
            batch_paths: 20_000,
            streams: 3,
            ahead: Duration::ZERO,
            workers: 10,
            full_sync_at_start: FullSyncAtStart::Auto,
            state_directory: None,
            pending_limit: 200_000,
            temporary_names: TemporaryNames::Hold,
            keep_newer: false,
        }
    }
}

/// `<failLog>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailLog {
    /// Where the report of failed paths goes.
    pub path: PathBuf,
    /// `timeToExecute`, in minutes in the file: the longest pause before what failed is tried again.
    pub interval: Duration,
}

/// `<crontab start="true">`: a full sync from time to time.
#[derive(Debug, Clone, PartialEq)]
pub struct Crontab {
    /// When.
    pub when: When,
    /// What these full syncs leave out: what all leave out, and what `<crontabfilter start="true">` names.
    pub filter: Arc<Filter>,
}

/// When full syncs are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// `schedule`, in minutes in the file: the time between two of them.
    Every(Duration),
    /// `calendar`.
    At(Calendar),
}
