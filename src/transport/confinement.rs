//! [`Confinement`]: what the rsyncs of a remote, and their ssh, may read and write. The kernel refuses everything else.
//!
//! rsync looks at a path first and opens it later, by name. Users who can write to the watched tree can swap a directory
//! for a symbolic link in between, and rsync, which may read every file of the machine, would send a file from outside.
//! No check beforehand closes that gap. Landlock (landlock(7), Linux 5.13) does: it decides at each open(2), by the file
//! that was found, and it holds for a process whatever capabilities that process has.
//!
//! A ruleset allows the root, what programs need to start, and what the config names. The agent makes it once for each
//! remote and keeps it; the child enters it right before its program starts ([`enter`]). Rules are about inodes, so a
//! ruleset is made anew when one of its paths leads somewhere else: `/etc/resolv.conf` was written anew, the root or a
//! destination was mounted again.
//!
//! What Landlock does not cover is metadata: stat(2) and readlink(2) of what is outside stay possible. Nor does it cover
//! sockets. Where the kernel has no Landlock, rsync runs without it ([`Protection::None`], [`Protection::Permissions`]).

use super::fault::{Fault, name as fault_name};
use super::output::Complaints;
use super::plan::RootIdentity;
use super::{Work, local};
use crate::beneath;
use crate::config::{Destination, RsyncOptions, has_option, option_values};
use crate::path::RelPath;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset as Rules, RulesetAttr,
    RulesetCreatedAttr, make_bitflags,
};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Uid, User};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::thread::{CapabilitySet, capabilities};
use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

type Rights = BitFlags<AccessFs>;

/// Files to be sent.
const DATA: Rights = make_bitflags!(AccessFs::{ReadFile | ReadDir});
/// Programs, their libraries and configuration.
const READ: Rights = make_bitflags!(AccessFs::{Execute | ReadFile | ReadDir});
/// The names in a directory.
const LIST: Rights = make_bitflags!(AccessFs::{ReadDir});
/// A device, or a file that is read and written.
const UPDATE: Rights = make_bitflags!(AccessFs::{ReadFile | WriteFile});
/// A directory in which a file is written, such as a log, and nothing is read.
const CREATE: Rights = make_bitflags!(AccessFs::{WriteFile | MakeReg | RemoveFile | Truncate});
/// A directory for the control socket of ssh.
const SOCKETS: Rights = make_bitflags!(AccessFs::{MakeSock | RemoveFile});

/// All that is decided: reading and writing of files as of ABI 3.
fn all() -> Rights {
    AccessFs::from_all(ABI::V3)
}

/// Paths that programs need to start, and that rsync needs to look up hosts, users and groups. No directory of `/etc` as a whole: it has
/// secrets, and so have `/etc/ssh` and `/var/lib`.
const SYSTEM: &[(&str, Rights)] = &[
    ("/usr/bin", READ),
    ("/usr/sbin", READ),
    ("/usr/lib", READ),
    ("/usr/lib32", READ),
    ("/usr/lib64", READ),
    ("/usr/libx32", READ),
    ("/usr/libexec", READ),
    ("/usr/share", READ),
    ("/usr/local/bin", READ),
    ("/usr/local/sbin", READ),
    ("/usr/local/lib", READ),
    ("/usr/local/lib64", READ),
    ("/usr/local/libexec", READ),
    ("/usr/local/share", READ),
    ("/bin", READ),
    ("/sbin", READ),
    ("/lib", READ),
    ("/lib32", READ),
    ("/lib64", READ),
    ("/libx32", READ),
    ("/nix/store", READ),
    ("/gnu/store", READ),
    ("/etc/ld.so.cache", DATA),
    ("/etc/ld.so.preload", DATA),
    ("/etc/localtime", DATA),
    ("/etc/passwd", DATA),
    ("/etc/group", DATA),
    ("/etc/nsswitch.conf", DATA),
    ("/etc/hosts", DATA),
    ("/etc/host.conf", DATA),
    ("/etc/resolv.conf", DATA),
    ("/etc/gai.conf", DATA),
    ("/etc/services", DATA),
    ("/etc/protocols", DATA),
    ("/etc/networks", DATA),
    ("/etc/popt", DATA),
    ("/etc/ssl/openssl.cnf", DATA),
    ("/etc/pki/tls/openssl.cnf", DATA),
    ("/etc/crypto-policies", DATA),
    ("/var/lib/extrausers/passwd", DATA),
    ("/var/lib/extrausers/group", DATA),
    ("/var/lib/sss/mc", DATA),
    ("/run/systemd/userdb", LIST),
    ("/proc/sys/crypto/fips_enabled", DATA),
    ("/dev/null", UPDATE),
    ("/dev/zero", UPDATE),
    ("/dev/random", DATA),
    ("/dev/urandom", DATA),
];

/// Paths that ssh needs in addition.
const OF_SSH: &[(&str, Rights)] = &[
    ("/etc/ssh/ssh_config", DATA),
    ("/etc/ssh/ssh_config.d", DATA),
    ("/etc/ssh/ssh_known_hosts", DATA),
    ("/etc/ssh/ssh_known_hosts2", DATA),
    ("/etc/krb5.conf", DATA),
    ("/etc/krb5.conf.d", DATA),
    ("/etc/gss/mech.d", DATA),
    ("/var/lib/sss/pubconf", DATA),
    ("/dev/tty", UPDATE),
];

/// The confinement in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// rsync and ssh can read whatever the agent can, which is every file.
    None,
    /// rsync and ssh can read whatever the agent's user can: the agent has no capability that lets it read more.
    Permissions,
    /// The kernel refuses them everything but the root and what they need to start.
    Landlock,
}

impl Protection {
    /// As D-Bus has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Permissions => "permissions",
            Self::Landlock => "landlock",
        }
    }

    /// The best that the kernel offers.
    pub fn of_kernel() -> Self {
        if kernel() == Kernel::Without { Self::without_landlock() } else { Self::Landlock }
    }

    /// What is in force where runs are not confined.
    fn without_landlock() -> Self {
        // One that cannot be asked may have any.
        let permitted = capabilities(None).map_or(CapabilitySet::all(), |sets| sets.permitted);
        let reads_all = CapabilitySet::DAC_READ_SEARCH | CapabilitySet::DAC_OVERRIDE;
        if permitted.intersects(reads_all) { Self::None } else { Self::Permissions }
    }
}

/// Landlock support of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Without,
    /// Linux 5.13 to 5.18: nothing can be linked from one directory to another.
    WithoutRefer,
    With,
}

fn kernel() -> Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    *KERNEL.get_or_init(|| {
        // An error is one of this moment, such as no descriptor being left: then runs fail until it has passed.
        if let Ok(created) = Rules::default().handle_access(all()).and_then(Rules::create)
            && Option::<OwnedFd>::from(created).is_none()
        {
            return Kernel::Without;
        }
        let refer = Rules::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::Refer);
        if refer.is_ok() { Kernel::With } else { Kernel::WithoutRefer }
    })
}

/// A ruleset that a child enters before its program starts.
#[derive(Debug, Clone)]
pub struct Ruleset(Option<Arc<OwnedFd>>);

impl Ruleset {
    /// Everything is allowed.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// The descriptor to [`enter`], if anything is refused.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.as_ref().map(|descriptor| descriptor.as_fd())
    }
}

/// Confines the calling thread, and all that it starts, to what `ruleset` allows. It makes two system calls and nothing
/// else, so that a child may call it between clone(2) and execve(2).
pub(super) fn enter(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: landlock_restrict_self(2) takes two integers, and changes the credentials of this thread alone.
    let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    Errno::result(entered).map(drop)
}

/// Access of the rsync processes of one remote.
#[derive(Debug)]
pub struct Confinement {
    needs: Needs,
    built: Mutex<Option<Built>>,
}

impl PartialEq for Confinement {
    fn eq(&self, other: &Self) -> bool {
        self.needs == other.needs
    }
}

impl Eq for Confinement {}

/// Paths that the config adds.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Needs {
    /// The directory of a remote on this machine.
    destination: Option<PathBuf>,
    /// The command that reaches a remote by ssh, and the host.
    shell: Option<(Vec<String>, String)>,
    params: Vec<String>,
    /// `<mayRead>`.
    may_read: Vec<PathBuf>,
    /// The control socket of the shared ssh connection.
    socket: Option<PathBuf>,
    /// No ruleset at all.
    is_lifted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    path: PathBuf,
    rights: Rights,
}

impl Place {
    /// Its path below `root`, where it is there. The root of the machine has only what the system put there.
    fn below(&self, root: &Path) -> Option<RelPath> {
        let below = self.path.strip_prefix(root).ok().filter(|_| root.parent().is_some())?;
        RelPath::new(below.as_os_str().as_encoded_bytes()).ok()
    }
}

/// Identity of the file at a path: device, inode number, and mount.
type Identity = (u32, u32, u64, u64);

/// A ruleset, and what has to be so for it to hold.
#[derive(Debug)]
struct Built {
    root: (RootIdentity, Identity),
    places: Vec<(Place, Option<Identity>)>,
    ruleset: Ruleset,
}

impl Confinement {
    pub(super) fn new(destination: &Destination, options: &RsyncOptions) -> Self {
        let rsh = option_values(&options.params).into_iter().rfind(|(name, _)| *name == "rsh");
        let rsh = rsh.and_then(|(_, command)| shlex::split(command)).filter(|words| !words.is_empty());
        let shell = match destination {
            Destination::Ssh { user, host, port, .. } => {
                let mut words = vec!["ssh".to_owned()];
                words.extend(port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]));
                words.extend(options.ssh.iter().cloned());
                Some((words, user.as_ref().map_or(host.clone(), |user| format!("{user}@{host}"))))
            }
            Destination::Daemon { host, .. } => rsh.map(|words| (words, host.clone())),
            Destination::Local { .. } => None,
        };
        let destination = match destination {
            Destination::Local { directory } => Some(directory.clone()),
            _ => None,
        };
        let (params, may_read) = (options.params.clone(), options.may_read.clone());
        let needs = Needs { destination, shell, params, may_read, socket: None, is_lifted: false };
        Self { needs, built: Mutex::new(None) }
    }

    pub(super) fn lifted(&self) -> Self {
        Self { needs: Needs { is_lifted: true, ..self.needs.clone() }, built: Mutex::new(None) }
    }

    pub(super) fn with_control_socket(&self, socket: PathBuf) -> Self {
        Self { needs: Needs { socket: Some(socket), ..self.needs.clone() }, built: Mutex::new(None) }
    }

    /// Whether the kernel confines the runs of this remote.
    pub fn protection(&self) -> Protection {
        // A copy with hard links needs the right to link from one directory to another.
        let links = self.needs.destination.is_some() && has_option(&self.needs.params, 'H', "hard-links");
        match kernel() {
            _ if self.needs.is_lifted => Protection::None,
            Kernel::WithoutRefer if links => Protection::without_landlock(),
            _ => Protection::of_kernel(),
        }
    }

    /// Whether the config asks rsync to follow links.
    fn follows_links(&self) -> bool {
        let flags = [('L', "copy-links"), ('k', "copy-dirlinks"), ('L', "copy-unsafe-links")];
        flags.iter().any(|(short, long)| has_option(&self.needs.params, *short, long))
    }

    /// The ruleset for runs in the directory that is open as `root`. Looks at the disk: not for a thread that others wait for.
    pub(super) fn ruleset(&self, root: BorrowedFd<'_>) -> io::Result<Ruleset> {
        if self.protection() != Protection::Landlock {
            return Ok(Ruleset::none());
        }
        let identity = (RootIdentity::of(root)?, identity_of(root)?);
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = built.as_ref().filter(|built| built.root == identity && built.holds()) {
            return Ok(built.ruleset.clone());
        }
        let fresh = self.build(root, identity)?;
        Ok(built.insert(fresh).ruleset.clone())
    }

    /// The ruleset that the last run in the root `identity` had; does not look whether it still holds. `None`: there is none.
    pub(super) fn last(&self, identity: RootIdentity) -> Option<Ruleset> {
        if self.protection() != Protection::Landlock {
            return Some(Ruleset::none());
        }
        let built = self.built.try_lock().ok()?;
        built.as_ref().filter(|built| built.root.0 == identity).map(|built| built.ruleset.clone())
    }

    /// The same for a process that has nothing to do with a root.
    pub(super) fn last_of_any_root(&self) -> Option<Ruleset> {
        if self.protection() != Protection::Landlock {
            return Some(Ruleset::none());
        }
        Some(self.built.try_lock().ok()?.as_ref()?.ruleset.clone())
    }

    /// The next run gets a ruleset made anew: something was refused, or failed, that a change of the system may explain.
    pub(super) fn forget(&self) {
        if let Ok(mut built) = self.built.try_lock() {
            *built = None;
        }
    }

    fn build(&self, root: BorrowedFd<'_>, identity: (RootIdentity, Identity)) -> io::Result<Built> {
        self.make_destination();
        let real_root = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
        let mut rules = Rules::default().handle_access(all()).and_then(Rules::create).map_err(io::Error::other)?;
        (&mut rules).add_rule(PathBeneath::new(root, DATA)).map_err(io::Error::other)?;
        let mut places = Vec::new();
        let mut seen = HashSet::new();
        for place in self.needs.places(&real_root) {
            if !seen.insert(place.clone()) {
                continue;
            }
            let opened = match place.below(&real_root) {
                // Users who write the tree decide where its links lead.
                Some(below) => beneath::open(root, &below, OFlag::O_PATH),
                None => open(&place.path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()),
            };
            match opened {
                Ok(opened) => {
                    let is_directory = fstat(&opened).is_ok_and(|stat| kind(stat.st_mode) == SFlag::S_IFDIR);
                    let rights = if is_directory { place.rights } else { place.rights & AccessFs::from_file(ABI::V3) };
                    if !rights.is_empty() {
                        (&mut rules).add_rule(PathBeneath::new(&opened, rights)).map_err(io::Error::other)?;
                    }
                }
                Err(error @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => return Err(error.into()),
                // A missing path needs no rule.
                Err(_) => {}
            }
            let found = identity_at(&place.path);
            places.push((place, found));
        }
        let ruleset = Option::<OwnedFd>::from(rules).map(Arc::new);
        if ruleset.is_none() {
            return Err(io::Error::other("the kernel gave no Landlock ruleset"));
        }
        Ok(Built { root: identity, places, ruleset: Ruleset(ruleset) })
    }

    /// rsync makes the last directory of its destination itself; but no rule can be about what is not there yet.
    fn make_destination(&self) {
        let Some(directory) = self.needs.destination.as_ref().filter(|directory| !directory.exists()) else { return };
        // Where this fails rsync will say why.
        let _ = match has_option(&self.needs.params, '\0', "mkpath") {
            true => std::fs::create_dir_all(directory),
            false => std::fs::create_dir(directory),
        };
    }
}

impl Built {
    fn holds(&self) -> bool {
        self.places.iter().all(|(place, found)| identity_at(&place.path) == *found)
    }
}

impl Needs {
    /// All that is to be allowed besides the root, which is at `root`.
    fn places(&self, root: &Path) -> Vec<Place> {
        let mut places = Vec::new();
        let mut add = |path: PathBuf, rights: Rights| places.push(Place { path, rights });
        let system = |list: &[(&str, Rights)], add: &mut dyn FnMut(PathBuf, Rights)| {
            list.iter().for_each(|(path, rights)| add((*path).into(), *rights));
        };
        system(SYSTEM, &mut add);
        let home = home();
        if let Some(home) = &home {
            add(home.join(".popt"), DATA);
        }
        for variable in ["PATH", "LD_LIBRARY_PATH"] {
            let listed = std::env::var_os(variable).unwrap_or_default();
            // One that holds a home, or the root, holds more than programs.
            let is_of_programs =
                |path: &PathBuf| !root.starts_with(path) && !home.as_ref().is_some_and(|home| home.starts_with(path));
            std::env::split_paths(&listed).filter(is_of_programs).for_each(|path| add(path, READ));
        }
        for program in ["rsync", "ssh"] {
            // A link on PATH may lead to a directory of the program's own.
            if let Some(real) = program_file(program) {
                if let Some(prefix) = real.parent().and_then(Path::parent).filter(|prefix| *prefix != Path::new("/")) {
                    ["lib", "lib64"].iter().for_each(|name| add(prefix.join(name), READ));
                }
                add(real, READ);
            }
        }
        self.may_read.iter().for_each(|path| add(path.clone(), READ));
        let connect = std::env::var("RSYNC_CONNECT_PROG").ok();
        if self.shell.is_some() || connect.is_some() {
            system(OF_SSH, &mut add);
            if let Some(home) = &home {
                add(home.join(".ssh"), all());
            }
            paths_in(&connect.unwrap_or_default(), home.as_deref()).into_iter().for_each(|path| add(path, READ));
        }
        if let Some((words, host)) = &self.shell {
            for word in words {
                paths_in(word, home.as_deref()).into_iter().for_each(|path| add(path, READ));
            }
            for (path, rights) in asked_of_ssh(words, host, home.as_deref()) {
                add(path, rights);
            }
        }
        if let Some(directory) = self.socket.as_ref().and_then(|socket| socket.parent()) {
            add(directory.to_owned(), SOCKETS);
        }
        if let Some(directory) = &self.destination {
            add(directory.clone(), all());
        }
        for (name, value) in option_values(&self.params) {
            let path = Path::new(value);
            match (name, &self.destination) {
                ("password-file" | "exclude-from" | "include-from" | "early-input" | "read-batch" | "config", _) => {
                    add(path.to_owned(), DATA);
                }
                ("filter", _) => {
                    if let Some(file) = merged_file(value) {
                        add(file, DATA);
                    }
                }
                ("log-file" | "write-batch" | "only-write-batch", _) => {
                    add(path.to_owned(), UPDATE);
                    path.parent().into_iter().for_each(|above| add(above.to_owned(), CREATE));
                }
                // The receiver takes these as relative to its directory.
                (
                    "backup-dir" | "partial-dir" | "temp-dir" | "compare-dest" | "copy-dest" | "link-dest",
                    Some(directory),
                ) => add(directory.join(path), all()),
                _ => {}
            }
        }
        places.retain(|place| place.path.is_absolute());
        places
    }
}

/// The file that a filter rule (`merge FILE`, `. FILE`) is read from.
fn merged_file(rule: &str) -> Option<PathBuf> {
    let (word, file) = rule.split_once([' ', '_'])?;
    (word.starts_with("merge") || word.starts_with('.')).then(|| file.trim_start().into())
}

/// The absolute paths in a word of a command line: all of it, or a part behind a blank, `=` or an option's
/// letter.
fn paths_in(word: &str, home: Option<&Path>) -> Vec<PathBuf> {
    let parts = word.split([' ', '\t', '=', ',', '"', '\'']);
    let absolute = |part: &str| {
        let is_glued = part.starts_with('-') && part.get(2..).is_some_and(|rest| rest.starts_with(['/', '~']));
        let path = if is_glued { &part[2..] } else { part };
        match path.strip_prefix("~/") {
            Some(below) => Some(home?.join(below)),
            None => path.starts_with('/').then(|| PathBuf::from(path)),
        }
    };
    let mut paths: Vec<PathBuf> = [word].into_iter().chain(parts).filter_map(absolute).collect();
    // `/` alone is a separator, or a mistake.
    paths.retain(|path| path.parent().is_some());
    paths.dedup();
    paths
}

/// The files that ssh says it will use (`ssh -G`), for keys and hosts that its own configuration names.
fn asked_of_ssh(words: &[String], host: &str, home: Option<&Path>) -> Vec<(PathBuf, Rights)> {
    let [program, arguments @ ..] = words else { return Vec::new() };
    if Path::new(program).file_name() != Some("ssh".as_ref()) {
        return Vec::new();
    }
    let mut command = Command::new(program);
    command.args(["-G"]).args(arguments).args(["--", host]).stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(output) = command.output() else { return Vec::new() };
    let mut files = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Some((name, value)) = line.split_once(' ') else { continue };
        let rights = match name {
            "identityfile" | "certificatefile" | "globalknownhostsfile" | "revokedhostkeys" => DATA,
            "pkcs11provider" | "securitykeyprovider" | "proxycommand" | "knownhostscommand" => READ,
            "userknownhostsfile" => UPDATE,
            _ => continue,
        };
        files.extend(paths_in(value, home).into_iter().map(|path| (path, rights)));
    }
    files
}

/// The home directory of the agent's user, as ssh finds it.
fn home() -> Option<PathBuf> {
    let of_user = User::from_uid(Uid::effective()).ok().flatten().map(|user| user.dir);
    of_user.filter(|home| home.is_absolute() && home != Path::new("/"))
}

/// Where a program on `PATH` really is.
fn program_file(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(name)).find_map(|file| file.canonicalize().ok())
}

fn kind(mode: u32) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

/// `STATX_MNT_ID_UNIQUE` (Linux 6.8), for a number that no later mount gets; older kernels ignore it.
const UNIQUE_MOUNT: u32 = 0x4000;

fn statx_identity(directory: BorrowedFd<'_>, path: &Path, flags: AtFlags) -> Result<Identity, rustix::io::Errno> {
    let wanted = StatxFlags::INO | StatxFlags::MNT_ID | StatxFlags::from_bits_retain(UNIQUE_MOUNT);
    let found = statx(directory, path, flags, wanted)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino, found.stx_mnt_id))
}

fn identity_of(open: BorrowedFd<'_>) -> io::Result<Identity> {
    Ok(statx_identity(open, Path::new(""), AtFlags::EMPTY_PATH)?)
}

fn identity_at(path: &Path) -> Option<Identity> {
    statx_identity(CWD, path, AtFlags::empty()).ok()
}

/// What to do about a link that leads out of the root.
pub(super) const REMEDY_FOR_LINKS: &str = "name the directory that it leads to in <mayRead path=\"…\"/> of <rsync>, or leave `-L`, `-k` and \
     `--copy-unsafe-links` out of <commonParams>";

/// Cause of a refusal to read a path of the root.
enum Refusal {
    /// It, or a directory on the way, is a link.
    Link,
    /// The path has changed since the refusal: another file, or none.
    Changed,
    /// The agent may not read it either.
    Denied,
}

impl Work<'_> {
    /// Sorts out what rsync was not let read. A path that was a link for a while is pending again: rsync was refused the
    /// file that it led to. A link that the config has rsync follow is a failure with a name of its own. A path that the
    /// agent itself may not read keeps its failure.
    pub(super) fn review_refusals(&self, found: &mut Complaints) {
        if self.ruleset.descriptor().is_none() {
            return;
        }
        let (refused, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut found.failed).into_iter().partition(|(_, fault)| is_refusal(fault));
        found.failed = others;
        if refused.is_empty() {
            return;
        }
        let confinement = self.endpoint.confinement();
        // Should it be the ruleset that does not fit any more, the next run has another.
        confinement.forget();
        for (path, fault) in refused {
            match refusal(self.root.as_fd(), &path) {
                Refusal::Denied => found.failed.push((path, fault)),
                Refusal::Link if confinement.follows_links() => {
                    let message = format!("a link leads out of the watched directory; {REMEDY_FOR_LINKS}");
                    found.failed.push((path, Fault::new(fault_name::LINK_LEADS_OUT, message)));
                }
                Refusal::Link | Refusal::Changed => found.vanished.push(path),
            }
        }
    }
}

/// Whether rsync says that it could not read something here; the remote has complaints of that name, too. Before 3.2 it
/// does not say which side speaks.
fn is_refusal(fault: &Fault) -> bool {
    const HERE: [&str; 3] = ["rsync: [sender] ", "rsync: send_files failed to open \"", "rsync: opendir \""];
    fault.name == fault_name::PERMISSION_DENIED && HERE.iter().any(|words| fault.message.starts_with(words))
}

fn refusal(root: BorrowedFd<'_>, path: &RelPath) -> Refusal {
    let kind = match beneath::open(root, path, OFlag::O_PATH) {
        Ok(found) => fstat(&found).map(|stat| kind(stat.st_mode)),
        Err(error) => Err(error),
    };
    match kind {
        Ok(SFlag::S_IFLNK) | Err(Errno::ELOOP) => Refusal::Link,
        Ok(SFlag::S_IFREG | SFlag::S_IFDIR) => {
            match beneath::open(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY) {
                Ok(_) => Refusal::Changed,
                Err(Errno::ELOOP) => Refusal::Link,
                Err(error) if beneath::is_elsewhere(error) => Refusal::Changed,
                Err(_) => Refusal::Denied,
            }
        }
        Err(error) if beneath::is_elsewhere(error) => Refusal::Changed,
        Ok(_) | Err(_) => Refusal::Denied,
    }
}

/// The fault for a run that could not be confined.
pub(super) fn not_confined(error: &io::Error) -> Fault {
    local::fault("rsync could not be confined to what it may read", error)
}

/// The fault for a child that was not started, if its ruleset may be the reason.
pub(super) fn may_be_out_of_reach(error: &io::Error, ruleset: &Ruleset) -> Option<Fault> {
    let is_refused = error.kind() == io::ErrorKind::PermissionDenied && ruleset.descriptor().is_some();
    is_refused.then(|| {
        let message = format!(
            "rsync could not be run: {error}; it may be run from the directories of PATH: if it needs files elsewhere, \
             name them in <mayRead path=\"…\"/> of <rsync>"
        );
        Fault::new(fault_name::RSYNC_FAILED, message)
    })
}

/// Has the process that `command` starts confined.
pub(super) fn confine_command(command: &mut tokio::process::Command, ruleset: Ruleset) {
    // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are allowed. It makes two system
    // calls and neither allocates nor locks.
    unsafe {
        command.pre_exec(move || match ruleset.descriptor() {
            Some(descriptor) => enter(descriptor).map_err(io::Error::from),
            None => Ok(()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_command_line_are_found() {
        let found = |word: &str| -> Vec<String> {
            paths_in(word, Some(Path::new("/home/web"))).iter().map(|path| path.display().to_string()).collect()
        };
        assert_eq!(found("/etc/my key"), ["/etc/my key", "/etc/my"]);
        assert_eq!(found("-i/etc/key"), ["/etc/key"]);
        assert_eq!(found("-F~/config"), ["/home/web/config"]);
        assert_eq!(found("UserKnownHostsFile=/a,/b"), ["/a", "/b"]);
        assert_eq!(found("ProxyCommand=/opt/proxy -k ~/key %h"), ["/opt/proxy", "/home/web/key"]);
        assert_eq!(found("ssh -p 22 a/b / -é"), [""; 0]);
        assert_eq!(merged_file(". /etc/rules"), Some("/etc/rules".into()));
        assert_eq!(merged_file("merge,- /etc/rules"), Some("/etc/rules".into()));
        assert_eq!(merged_file("- /etc"), None);
    }

    fn needs(params: &str, destination: Destination, may_read: &[&str]) -> Vec<Place> {
        let options = RsyncOptions {
            params: shlex::split(params).unwrap(),
            selections: Vec::new(),
            ssh: Vec::new(),
            timeout: None,
            password_file: None,
            may_read: may_read.iter().map(PathBuf::from).collect(),
            keep_deleted: None,
        };
        Confinement::new(&destination, &options).needs.places(Path::new("/data/www"))
    }

    #[test]
    fn a_pattern_is_not_a_file_and_a_directory_of_the_remote_is_not_one_here() {
        let has =
            |places: &[Place], path: &str| places.iter().find(|place| place.path == Path::new(path)).map(|p| p.rights);
        let params = "--exclude=/etc --filter='- /root' --exclude-from=/x/list --backup-dir=/b --log-file=/log/rsync";
        let daemon =
            Destination::Daemon { user: None, host: "h".into(), port: None, module: "m".into(), password: None };
        let remote = needs(params, daemon, &["/srv/media"]);
        assert_eq!(["/etc", "/root", "/b"].map(|path| has(&remote, path)), [None; 3]);
        assert_eq!(has(&remote, "/x/list"), Some(DATA));
        assert_eq!(has(&remote, "/log"), Some(CREATE));
        assert_eq!(has(&remote, "/srv/media"), Some(READ));
        assert_eq!(has(&remote, "/etc/ssh/ssh_config"), None, "no ssh");

        let local = needs(params, Destination::Local { directory: "/copy".into() }, &[]);
        assert_eq!([has(&local, "/copy"), has(&local, "/b")], [Some(all()); 2]);
        for place in remote.iter().chain(&local) {
            let shadow = Path::new("/etc/shadow");
            assert!(!shadow.starts_with(&place.path), "{place:?}");
        }
    }

    #[test]
    fn what_the_remote_refuses_is_no_refusal_here() {
        let is_one = |line: &str| is_refusal(&Fault::from_words(line).unwrap());
        assert!(is_one("rsync: [sender] send_files failed to open \"/data/a\": Permission denied (13)"));
        assert!(is_one("rsync: [sender] opendir \"/data/a\" failed: Permission denied (13)"));
        assert!(is_one("rsync: send_files failed to open \"/data/a\": Permission denied (13)"));
        assert!(!is_one("rsync: [receiver] mkstemp \"/[sender] \" (in www) failed: Permission denied (13)"));
        assert!(!is_one("rsync: mkstemp \"/.a.Ab12Cd\" (in www) failed: Permission denied (13)"));
        assert!(!is_one("ERROR: daemon refused to receive file \"[sender] \""));
        assert!(!is_one("rsync: [sender] send_files failed to open \"/data/a\": Input/output error (5)"));
    }

    #[test]
    fn a_place_in_the_tree_is_told_from_one_beside_it() {
        let below = |path: &str, root: &str| Place { path: path.into(), rights: DATA }.below(Path::new(root));
        assert_eq!(below("/data/www/lists/a", "/data/www"), Some(RelPath::new(b"lists/a").unwrap()));
        assert_eq!(below("/data/www2", "/data/www"), None);
        assert_eq!(below("/data", "/data/www"), None);
        assert_eq!(below("/data", "/"), None, "all of the machine");
    }

    #[test]
    fn a_ruleset_is_made_once_and_again_when_a_place_leads_elsewhere() {
        if Protection::of_kernel() != Protection::Landlock {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::create_dir(at("root")).unwrap();
        std::fs::write(at("list"), "").unwrap();
        let options = RsyncOptions {
            params: vec![format!("--exclude-from={}", at("list").display())],
            selections: Vec::new(),
            ssh: Vec::new(),
            timeout: None,
            password_file: None,
            may_read: Vec::new(),
            keep_deleted: None,
        };
        let confinement = Confinement::new(&Destination::Local { directory: at("copy") }, &options);
        let root = std::fs::File::open(at("root")).unwrap();
        let identity = RootIdentity::of(root.as_fd()).unwrap();
        assert!(confinement.last(identity).is_none(), "nothing was asked of it");
        let number = || {
            let ruleset = confinement.ruleset(root.as_fd()).unwrap();
            Arc::as_ptr(&ruleset.0.unwrap())
        };
        let first = number();
        assert!(at("copy").is_dir(), "no rule can be about what is not there");
        assert_eq!(number(), first);
        // Kept, so that the second has another address.
        let kept = confinement.last(identity).unwrap();
        std::fs::write(at("new"), "").unwrap();
        std::fs::rename(at("new"), at("list")).unwrap();
        let second = number();
        assert_ne!(second, first);
        assert_eq!(number(), second);
        confinement.forget();
        assert!(confinement.last(identity).is_none() && kept.descriptor().is_some());
    }
}
