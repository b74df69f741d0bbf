//! The agent's command line: the flags of sersync 2.5.4 and our own, and the agent's life from start to exit.

use crate::agent::snapshot::State;
use crate::agent::{self, CommandError, Handle, Heart, Keeper, Launch, Load, Snapshot};
use crate::bus::{self, neighbours};
use crate::config::{self, Config, FullSyncAtStart, PluginName};
use crate::heap;
use crate::human::shortened;
use crate::language::{Language, help};
use crate::message_ids;
use crate::print;
use crate::service::fd_store::FdStore;
use crate::service::state_lock::StateLock;
use crate::service::{log, notify, status};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{CommandFactory, FromArgMatches, Parser, ValueHint};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// sysexits.h: something is wrong with the configuration. systemd does not restart after it.
const EX_CONFIG: u8 = 78;

/// systemd is told that the agent is ready when all is watched, or after so long.
const READY_AT_MOST: Duration = Duration::from_secs(20);

/// Mirror directories to other hosts as they change.
#[derive(Debug, Parser)]
#[command(name = "sersync", version, about, long_about = None, after_help = "\
Examples:
  sersync -r -o /etc/sersync/www.xml
  sersync --watch /data/www --to backup@web1::www --to web2:/srv/www --to /mnt/copy
  sersync --watch /data/www --print --format '%T %e %w%f' -e close_write,delete
  sersync --watch /data/www -m command --command '/usr/local/bin/on-change'

As a service: systemctl enable --now sersync@www (reads /etc/sersync/www.xml). See also sersyncctl.")]
pub struct Cli {
    /// Compare the whole tree with every remote at start, whatever the config says
    #[arg(short = 'r', overrides_with = "full_sync")]
    full_sync: bool,

    /// Go to the background; what there is to tell goes to the journal
    #[arg(short = 'd', overrides_with = "detach")]
    detach: bool,

    /// Run at most N rsync processes, plus one per remote for live changes [default: 10]
    #[arg(short = 'n', value_name = "N", overrides_with = "workers", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// The config [default: ./confxml.xml]
    #[arg(short = 'o', value_name = "FILE", overrides_with = "config", conflicts_with = "watch", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// No rsync: tell this plugin of every change (command, socket, http, refreshCDN)
    #[arg(short = 'm', value_name = "PLUGIN", overrides_with = "plugin", value_parser = plugin_names(), ignore_case = true)]
    plugin: Option<PluginName>,

    /// What `-m command` runs, with the path behind it; in place of a config, with --watch
    #[arg(long, value_name = "COMMAND", requires = "watch", requires = "plugin", conflicts_with = "to")]
    command: Option<String>,

    /// Start COMMAND once for many paths, which it reads from its standard input, each with a NUL byte behind it
    #[arg(long, requires = "command")]
    batch: bool,

    /// The instance's name [default: the config's file name without .xml, or the watched directory's]
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,

    /// Be on the user's message bus, not the system's
    #[arg(long)]
    user: bool,

    /// Watch this directory; no config is read
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    watch: Option<PathBuf>,

    #[arg(long, value_name = "DEST", requires = "watch", num_args = 1..)]
    #[arg(help = "Mirror it to [USER@]HOST::MODULE, [USER@]HOST:DIR, ssh://[USER@]HOST:PORT/DIR or /DIR")]
    to: Vec<String>,

    /// Where pending paths are kept over a restart
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    state_dir: Option<PathBuf>,

    /// Start one rsync a remote ahead of the next change, and replace it after so long; 0: none
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=3_600))]
    ahead: Option<u64>,

    /// Tell every event and every rsync command
    #[arg(long)]
    debug: bool,

    #[command(flatten)]
    print: print::Options,
}

/// Runs the agent to its end.
pub fn main() -> ExitCode {
    heap::let_large_blocks_go();
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    // Before anything else opens descriptors.
    let store = FdStore::from_env();
    let command = help::in_language(Cli::command(), Language::of_environment());
    let cli = Cli::from_arg_matches(&command.get_matches_from(print::translated(std::env::args_os())))
        .unwrap_or_else(|error| error.exit());
    if let Some(watch) = cli.watch.as_ref().filter(|_| cli.print.print) {
        return print::run(watch, &cli.print);
    }
    let prepared = match Prepared::new(&cli) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(error.exit_code());
        }
    };
    if cli.detach
        && let Err(error) = nix::unistd::daemon(false, false)
    {
        eprintln!("sersync: cannot go to the background: {error}");
        return ExitCode::FAILURE;
    }
    // One thread serves: the engine is one task, and what could block has threads of its own.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(serve(prepared, &cli, store));
            // A thread that still looks at a disk that does not answer must not hold up the end.
            runtime.shutdown_timeout(Duration::from_millis(100));
            code
        }
        Err(error) => {
            eprintln!("sersync: the system does not let it start: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(
        "sersync: --watch with -m {0}: without a config only -m command --command COMMAND can be run; name one with -o FILE"
    )]
    Plugin(PluginName),
    #[error("{0}")]
    Config(#[from] config::Mistakes),
    #[error("sersync: {0}")]
    CommandLine(#[from] config::CommandLineError),
    #[error("sersync: {0}")]
    InstanceName(#[from] config::InstanceNameError),
    #[error("sersync: {0}: {1}")]
    Path(PathBuf, std::io::Error),
}

impl StartError {
    fn exit_code(&self) -> u8 {
        match self {
            // What clap uses for a wrong command line.
            Self::Plugin(_) => 2,
            _ => EX_CONFIG,
        }
    }
}

/// All that can be wrong was looked at.
struct Prepared {
    instance: String,
    config: Config,
    warnings: Vec<String>,
    state_directory: PathBuf,
}

impl Prepared {
    fn new(cli: &Cli) -> Result<Self, StartError> {
        let (mut config, warnings, name) = match &cli.watch {
            Some(watch) => {
                let config = match (cli.plugin, &cli.command) {
                    (None, _) => config::from_command_line(watch, &cli.to)?,
                    (Some(PluginName::Command), Some(command)) => {
                        config::alone_from_command_line(watch, command, cli.batch)?
                    }
                    (Some(plugin), _) => return Err(StartError::Plugin(plugin)),
                };
                let name = config.roots.first().and_then(|root| root.path.file_name());
                (config.clone(), Vec::new(), name.map(|name| name.to_string_lossy().into_owned()))
            }
            None => {
                let file = cli.config.clone().unwrap_or_else(|| PathBuf::from("confxml.xml"));
                // Going to the background changes the directory, and a reload must find the file again.
                let file = std::path::absolute(&file).map_err(|error| StartError::Path(file, error))?;
                let loaded = load(&file, cli.plugin)?;
                let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
                let name = if cli.instance.is_none() { Some(config::instance_name(&file)?) } else { None };
                (loaded.config, warnings, name)
            }
        };
        let instance = cli.instance.clone().or(name).unwrap_or_else(|| "sersync".to_owned());
        config::check_instance_name(&instance)?;
        Overrides::of(cli).apply(&mut config);
        let mut state_directory = state_directory(cli, &config, &instance);
        if config.alone.is_some() {
            // What is pending for remotes is kept for when they count again.
            state_directory.push("alone");
        }
        let state_directory =
            std::path::absolute(&state_directory).map_err(|error| StartError::Path(state_directory, error))?;
        Ok(Self { instance, config, warnings, state_directory })
    }
}

/// Reads a config for rsync, or for a plugin in its place.
fn load(file: &Path, alone: Option<PluginName>) -> Result<config::Loaded, config::Mistakes> {
    match alone {
        None => config::load(file),
        Some(plugin) => config::load_alone(file, plugin),
    }
}

/// Plugins by their names, which completions offer.
fn plugin_names() -> impl TypedValueParser<Value = PluginName> {
    PossibleValuesParser::new(PluginName::ALL.map(|(name, _)| name)).try_map(|name| {
        let known = PluginName::ALL.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
        known.map(|(_, plugin)| *plugin).ok_or("unknown plugin")
    })
}

/// Settings of the command line. They go before those of the config, at start and at each reload.
#[derive(Debug, Clone, Copy)]
struct Overrides {
    full_sync: bool,
    workers: Option<u16>,
    ahead: Option<u64>,
    debug: bool,
}

impl Overrides {
    fn of(cli: &Cli) -> Self {
        Self { full_sync: cli.full_sync, workers: cli.workers, ahead: cli.ahead, debug: cli.debug }
    }

    fn apply(self, config: &mut Config) {
        if self.full_sync {
            config.agent.full_sync_at_start = FullSyncAtStart::Always;
        }
        if let Some(workers) = self.workers {
            config.agent.workers = usize::from(workers);
        }
        if let Some(seconds) = self.ahead {
            config.agent.ahead = Duration::from_secs(seconds);
        }
        config.debug |= self.debug;
    }
}

/// `--state-dir`, else what the config says, else what systemd gives, else `/var/lib/sersync/NAME` for root and the
/// XDG state directory for others.
fn state_directory(cli: &Cli, config: &Config, instance: &str) -> PathBuf {
    if let Some(directory) = cli.state_dir.as_ref().or(config.agent.state_directory.as_ref()) {
        return directory.clone();
    }
    // systemd separates several by colons; the unit has one.
    if let Some(given) = std::env::var_os("STATE_DIRECTORY").filter(|given| !given.is_empty()) {
        return PathBuf::from(given);
    }
    if nix::unistd::geteuid().is_root() {
        return Path::new("/var/lib/sersync").join(instance);
    }
    let state_home = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".local/state");
    state_home.unwrap_or_else(home).join("sersync").join(instance)
}

async fn serve(prepared: Prepared, cli: &Cli, store: Option<FdStore>) -> ExitCode {
    let mut signals = Signals::catch();
    let Prepared { instance, config, warnings, state_directory } = prepared;
    let log = match log::init(&instance, config.debug, cli.detach) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("sersync: {error}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    for note in &config.notes {
        tracing::info!("{note}");
    }
    if let Err(error) = &signals {
        tracing::error!("signals cannot be caught ({error}): `kill` ends the agent without notice");
    }
    let lock = tokio::select! {
        lock = StateLock::take(&state_directory) => lock,
        () = ended_by(&mut signals) => return ExitCode::SUCCESS,
    };
    let _lock = match lock {
        Ok(lock) => lock,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let launch = Launch {
        load: loader(&config, cli),
        instance: instance.clone(),
        config,
        state_directory,
        heart: heart(),
        keeper: store.map(|store| Box::new(store) as Box<dyn Keeper>),
    };
    let (handle, engine) = match agent::launch(launch) {
        Ok(launched) => launched,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let mut engine = tokio::spawn(engine);
    let (ready, is_ready) = watch::channel(false);
    let mut tasks = JoinSet::new();
    if let Ok(signals) = signals {
        tasks.spawn(signals.follow(handle.clone(), is_ready));
    }
    let which = if cli.user { bus::Which::Session } else { bus::Which::System };
    let mut bus = None;
    // Nothing in here is waited for any more when the engine has ended, such as after SIGTERM.
    let running = async {
        let bus = bus.insert(bus::serve(handle.clone(), &instance, which.clone(), log).await);
        let mut neighbours = Vec::new();
        match bus.refused() {
            None => neighbours = neighbours::mirrors(&which, bus.name()).await,
            Some(error) => tracing::warn!("{error}"),
        }
        if let Err(conflict) = handle.begin(neighbours).await {
            return conflict;
        }
        tasks.spawn(notify::report_status(handle.snapshots()));
        // systemd does not wait longer for the watches of a large tree.
        let _ = tokio::time::timeout(READY_AT_MOST, watching(handle.snapshots())).await;
        notify::ready(&status::line(&handle.snapshot(), SystemTime::now()));
        ready.send_replace(true);
        if bus.refused().is_some() {
            bus.entered().await;
            let neighbours = neighbours::mirrors(&which, bus.name()).await;
            if let Err(conflict) = handle.begin(neighbours).await {
                return conflict;
            }
        }
        std::future::pending().await
    };
    let mut conflict = None;
    let ended = tokio::select! {
        ended = &mut engine => ended,
        found = running => {
            conflict = Some(found);
            handle.stop().await;
            engine.await
        }
    };
    tasks.abort_all();
    if let Some(bus) = bus {
        bus.close().await;
    }
    match (ended, conflict) {
        (Ok(()), Some(CommandError::Conflict(conflict))) => {
            tracing::error!(message_id = message_ids::LOOP, "{}", CommandError::Conflict(conflict));
            ExitCode::from(EX_CONFIG)
        }
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(error), _) => {
            tracing::error!("the engine broke: {error}; this is a defect, please report it");
            ExitCode::FAILURE
        }
    }
}

/// Returns at a signal that ends the agent; never where signals cannot be caught.
async fn ended_by(signals: &mut io::Result<Signals>) {
    match signals {
        Ok(signals) => signals.end().await,
        Err(_) => std::future::pending().await,
    }
}

/// Returns when the watches are set, or it is known that some cannot be, or the engine has ended.
async fn watching(mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let _ = snapshots.wait_for(|snapshot| snapshot.state != State::Starting).await;
}

/// Maximum length of the mistakes of a config in an answer on the bus, in bytes.
const LONGEST_ANSWER: usize = 16 << 10;

/// Reads the config again, as it was read at start.
fn loader(config: &Config, cli: &Cli) -> Load {
    let Some(file) = config.file.clone() else { return Arc::new(|| Err(CommandError::NoConfigFile)) };
    let (overrides, given, alone) = (Overrides::of(cli), cli.plugin, config.alone);
    Arc::new(move || {
        let bad = |mistakes: config::Mistakes| CommandError::BadConfig(shortened(mistakes.to_string(), LONGEST_ANSWER));
        let loaded = load(&file, given).map_err(bad)?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut config = loaded.config;
        if config.alone != alone {
            let message = "whether a plugin runs alone is decided at start: restart the agent";
            return Err(CommandError::BadConfig(format!("{}: {message}", file.display())));
        }
        overrides.apply(&mut config);
        Ok(config)
    })
}

/// systemd's watchdog, beaten by the engine itself.
fn heart() -> Option<Heart> {
    let mut watchdog = notify::Watchdog::from_env();
    let interval = watchdog.interval()?;
    Some(Heart { interval, beat: Box::new(move || watchdog.beat()) })
}

/// SIGTERM and SIGINT end the agent, SIGHUP reads the config again. Caught from the first moment on: none of them ends a
/// process that has begun to take up what an earlier one left.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when the agent has to end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Obeys the signals. systemd is notified of a reload once the agent is ready.
    async fn follow(mut self, handle: Handle, is_ready: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => {
                    let notifies = *is_ready.borrow();
                    if notifies {
                        notify::reloading();
                    }
                    // The engine has told in the journal what came of it.
                    let _ = handle.reload().await;
                    if notifies {
                        notify::ready(&status::line(&handle.snapshot(), SystemTime::now()));
                    }
                }
            }
        }
        notify::stopping("stopping");
        handle.stop().await;
    }
}
