//! `import`: another program's set-up becomes configs of ours: those of sersync 2.5.4, of lsyncd, of incron.
//!
//! Each source makes [`Draft`]s of what it reads, and says line by line what is different here or cannot be kept. A
//! draft is written only when the config's own reader takes it. The files that are read are never changed, and what is
//! in them is never run.

mod confxml;
mod incron;
mod install;
mod lsyncd;
mod lua;
mod rsync_words;
mod said;
mod sersync;
mod start_line;

use super::error::CtlError;
use super::next::{Scope, quoted};
use crate::config::{self, FILE_LIMIT, PluginName};
use clap::ValueHint;
use install::{Draft, Written, name_drafts};
use said::{Line, Outcome, Remark};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tr::tr;

/// The options of `import`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sersyncctl import sersync /usr/local/sersync/conf --dry-run
  sersyncctl import sersync /usr/local/sersync/confxml.xml --name www
  sersyncctl import lsyncd /etc/lsyncd/lsyncd.conf.lua
  sersyncctl import incron /etc/incron.d/www

Exit status: 0 all was taken over, 1 something was not: it says what, and why.")]
pub struct Options {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, clap::Subcommand)]
enum Source {
    /// Check configs of sersync 2.5.4 and copy them, and show what stands for the lines that start it
    Sersync {
        /// Configs, or directories of them
        #[arg(required = true, value_name = "FILE|DIR")]
        files: Vec<PathBuf>,
        /// Look for start lines in this file, such as a crontab [default: /etc/rc.local /etc/rc.d/rc.local]
        #[arg(long, value_name = "FILE")]
        rc: Vec<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Convert what a config of lsyncd declares; it is read, not run
    Lsyncd {
        /// The config, such as /etc/lsyncd/lsyncd.conf.lua
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Convert lines of incron's tables: a mirror for an rsync, the plugin `command` for all else
    Incron {
        /// Tables, such as /etc/incron.d/www or /var/spool/incron/root
        #[arg(required = true, value_name = "TABLE")]
        tables: Vec<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
}

/// Where configs go.
#[derive(Debug, clap::Args)]
struct Place {
    /// The directory that gets them [default: /etc/sersync, with --user ~/.config/sersync]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    to: Option<PathBuf>,
    /// Write nothing: print the configs, and on standard error what there is to say
    #[arg(long)]
    dry_run: bool,
    /// Replace a config that is there and differs
    #[arg(long)]
    force: bool,
    /// The instance's name, where one config comes of it
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Why nothing could be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file that was named.
    Read {
        /// It.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is larger than [`FILE_LIMIT`].
    TooLarge(PathBuf),
    /// A directory without configs.
    NoConfigs(PathBuf),
    /// `--name` for several.
    OneName {
        /// What was given.
        name: String,
        /// So many there are.
        count: usize,
        /// What they would be called.
        names: String,
    },
    /// `--name` is none.
    Name(#[from] config::InstanceNameError),
}

impl ImportError {
    /// What is wrong.
    pub fn what(&self) -> String {
        match self {
            Self::Read { path, source } => format!("{}: {source}", path.display()),
            Self::TooLarge(path) => {
                let (path, limit) = (path.display(), FILE_LIMIT / (1024 * 1024));
                tr!("{path} is larger than {limit} MiB: import it in parts", path, limit)
            }
            Self::NoConfigs(directory) => {
                tr!("{directory}: no file in it ends in .xml", directory = directory.display())
            }
            Self::OneName { name, count, names } => {
                tr!("--name {name} is for one config, and there are {count} ({names})", name, count, names)
            }
            Self::Name(error) => format!("--name: {error}"),
        }
    }

    /// What to type next.
    pub fn next(&self) -> String {
        match self {
            Self::Read { path, .. } | Self::TooLarge(path) => format!("ls -l {}", quoted(&path.to_string_lossy())),
            Self::NoConfigs(directory) => format!("ls -l {}", quoted(&directory.to_string_lossy())),
            Self::OneName { .. } | Self::Name(_) => "sersyncctl import --help".to_owned(),
        }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what(), super::words::next(&self.next()))
    }
}

/// Imports, and says what came of it. `user`: for the instances of the calling user.
pub fn run(options: &Options, user: bool, json: bool) -> Result<ExitCode, CtlError> {
    let (mut harvest, place) = match &options.source {
        Source::Sersync { files, rc, place } => (sersync::read(files, rc)?, place),
        Source::Lsyncd { file, place } => (lsyncd::read(file)?, place),
        Source::Incron { tables, place } => (incron::read(tables, user)?, place),
    };
    name_drafts(&mut harvest.drafts, place.name.as_deref())?;
    let scope = if user { Scope::User } else { Scope::System };
    let home = super::check::configs_of(scope);
    let directory = place.to.clone().unwrap_or_else(|| home.clone());
    let mut outcome = Outcome::new(scope, directory == home, place.dry_run);
    for draft in harvest.drafts {
        let target = directory.join(format!("{}.xml", draft.name));
        outcome.add(settle(draft, target, place));
    }
    outcome.remarks = harvest.remarks;
    outcome.lines = harvest.lines;
    outcome.print(json)?;
    Ok(if outcome.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks a draft as the agent will, and writes it.
fn settle(mut draft: Draft, target: PathBuf, place: &Place) -> said::Settled {
    // The lines of a text of our own are those of the file that it is to be.
    let place_of_mistakes = if draft.is_copy { &draft.origin } else { &target };
    let (found, refused) = match config::inspect(&draft.bytes, place_of_mistakes, draft.judged_as) {
        Ok(loaded) => (loaded.warnings, false),
        Err(mistakes) => (mistakes.0, true),
    };
    draft.mistakes = found;
    let written = match (refused, place.dry_run) {
        (true, _) => Written::Refused,
        (false, true) => Written::Shown,
        (false, false) => install::write(&draft, &target, place.force),
    };
    said::Settled { draft, target, written }
}

/// The bytes of a file that was named.
fn bytes_of(path: &Path) -> Result<Vec<u8>, ImportError> {
    // Named for "none", as in `--rc /dev/null`; any other device or pipe could block.
    if path == Path::new("/dev/null") {
        return Ok(Vec::new());
    }
    let read = config::read_regular(path);
    let bytes = read.map_err(|source| ImportError::Read { path: path.to_path_buf(), source })?;
    // The beginning alone would become other configs than the whole.
    if bytes.len() as u64 > FILE_LIMIT { Err(ImportError::TooLarge(path.to_path_buf())) } else { Ok(bytes) }
}

/// The plugin of this name, without case.
fn plugin_named(text: &str) -> Option<PluginName> {
    PluginName::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, plugin)| *plugin)
}
