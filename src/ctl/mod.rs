//! `sersyncctl`: asks and steers the running instances, over the bus and nothing else. Whatever it does, anybody can
//! do with `busctl`: it holds no right and no knowledge of its own.

mod accept;
mod alive;
mod asking;
mod check;
pub mod completion;
mod error;
mod follow;
mod import;
mod instances;
mod lists;
mod monitor;
mod next;
mod proxy;
mod sentences;
mod signals;
mod status;
mod table;
mod terminal_agent;
mod view;
mod words;

pub use error::CtlError;

use crate::bus::{self, Which};
use crate::language::{Language, help, mistyped};
use asking::Asking;
use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use completion::{instances_known, remotes_known};
use instances::{Instance, Presence};
use next::Scope;
use proxy::AgentProxy;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use table::Table;
use tr::tr;
use zbus::Connection;

/// See and steer sersync instances.
#[derive(Debug, Parser)]
#[command(
    name = "sersyncctl",
    version,
    after_help = "Exit status of `status`: 0 in sync, 1 behind or degraded, 3 not running, 4 no such instance.\n\
                  Of `check`: 0 all is well, 1 warnings, 2 errors.\n\
                  Of all others: 0 done, 1 not done, 2 not understood."
)]
pub struct Cli {
    /// Talk to the instances of the calling user, not to those of the system
    #[arg(long, global = true)]
    user: bool,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Fail where polkit wants a password, instead of asking for it
    #[arg(long, global = true)]
    no_ask_password: bool,
    /// Show tables in full width, however narrow the terminal is
    #[arg(short = 'l', long, global = true)]
    full: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show whether all is in sync: a line for each instance, or the details of those named (default)
    Status {
        /// Instances, such as www
        #[arg(add = instances_known())]
        names: Vec<String>,
    },
    /// List the instances, running or not
    List,
    /// Make remotes equal to what is on disk, but for withheld deletions, and show the progress
    Resync {
        /// The instance
        #[arg(add = instances_known())]
        name: String,
        /// Its remotes; none means all
        #[arg(add = remotes_known())]
        remotes: Vec<String>,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
        /// Delete everything that only the remotes have, however much it is
        #[arg(long)]
        delete: bool,
        /// Cancel the full syncs that run or wait, instead of starting one
        #[arg(long, conflicts_with_all = ["remotes", "no_wait", "delete"])]
        cancel: bool,
    },
    /// Carry out the deletions that are withheld because they are many or another file system is mounted
    Accept {
        /// The instance
        #[arg(add = instances_known())]
        name: String,
        /// Its remotes; none means all
        #[arg(add = remotes_known())]
        remotes: Vec<String>,
        /// Do not ask
        #[arg(long, short = 'y')]
        yes: bool,
    },
    /// Try what failed at once, without waiting for its next try
    Retry {
        /// The instance
        #[arg(add = instances_known())]
        name: String,
        /// Its remotes; none means all
        #[arg(add = remotes_known())]
        remotes: Vec<String>,
    },
    /// Show the paths that failed, with the reasons
    Failures(List),
    /// Show the paths that wait to be sent
    Pending(List),
    /// Send nothing until `resume`; changes gather meanwhile
    Pause(Instances),
    /// Go on sending after `pause`
    Resume(Instances),
    /// Return when all that is on disk now, except new files still open, has reached every remote
    Wait {
        #[command(flatten)]
        instances: Instances,
        /// Give up after so long: 90, 90s, 5min, 1h, 500ms
        #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
        timeout: Option<Duration>,
    },
    /// Read the config file again
    Reload(Instances),
    /// Check configs before an agent runs with them: the file, this machine, each remote
    Check(check::Options),
    /// Make configs of another program's: sersync 2.5.4, lsyncd, incron
    Import(import::Options),
    /// Print what happens, as it happens, until Ctrl-C
    Monitor {
        /// The instance
        #[arg(add = instances_known())]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Instances {
    /// Instances: names, patterns such as 'w*', or units such as sersync@www
    #[arg(required = true, value_name = "NAME", add = instances_known())]
    names: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct List {
    /// The instance
    #[arg(add = instances_known())]
    name: String,
    /// Print at most so many [default: 50; with --json all]
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
    /// Print them all
    #[arg(long, conflicts_with = "lines")]
    all: bool,
}

/// Maximum time for an answer of the bus, and for one that an agent gives from memory.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// One run of `sersyncctl`: its connection and how it answers.
#[derive(Debug)]
struct Session {
    bus: Connection,
    json: bool,
    scope: Scope,
    asking: Asking,
    full: bool,
}

impl Session {
    async fn open(cli: &Cli) -> Result<Self, CtlError> {
        let (which, scope) = if cli.user { (Which::Session, Scope::User) } else { (Which::System, Scope::System) };
        let connecting = which.builder().method_timeout(ANSWER_TIME).build();
        let bus = tokio::time::timeout(ANSWER_TIME, connecting).await.unwrap_or_else(|_| {
            let seconds = ANSWER_TIME.as_secs();
            Err(io::Error::new(io::ErrorKind::TimedOut, format!("it does not answer within {seconds} s")).into())
        });
        let bus = bus.map_err(|source| CtlError::NoBus(scope, source))?;
        Ok(Self { bus, json: cli.json, scope, asking: Asking::new(!cli.no_ask_password), full: cli.full })
    }

    /// The methods of a running instance.
    async fn agent(&self, name: &str) -> Result<AgentProxy<'_>, CtlError> {
        Ok(AgentProxy::new(&self.bus, name, &self.asking).await?)
    }

    /// Says why a call failed: an instance that does not run gets the words for that.
    async fn explain(&self, name: &str, error: bus::Error) -> CtlError {
        match error {
            bus::Error::Bus(error) if error::is_absent(&error) => match instances::one(self, name).await {
                Ok(Some(Instance { presence: Presence::Stopped(state), .. })) => {
                    CtlError::NotRunning { scope: self.scope, instance: name.to_owned(), state }
                }
                Ok(Some(_)) => CtlError::Gone(self.scope, name.to_owned()),
                Ok(None) => CtlError::NoInstance(self.scope, name.to_owned()),
                Err(error) => error,
            },
            bus::Error::Bus(error) if alive::is_timeout(&error) => CtlError::Silent(self.scope, name.to_owned()),
            source => CtlError::Agent { scope: self.scope, instance: name.to_owned(), source },
        }
    }

    /// A table that fits the terminal; of full width in a pipe and with `--full`.
    fn table<T: Into<String>>(&self, headings: impl IntoIterator<Item = T>) -> Table {
        let terminal = || terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
        Table::new(headings).within(if self.full { None } else { terminal() })
    }

    /// Says how to go on, on standard error: in a pipe there are results alone.
    fn say_next(&self, command: &str) -> Result<(), CtlError> {
        if !self.json {
            writeln!(anstream::stderr(), "{}", words::next(command))?;
        }
        Ok(())
    }

    /// Prints one line for people; programs get nothing but JSON.
    fn say(&self, line: &str) -> Result<(), CtlError> {
        if !self.json {
            writeln!(anstream::stdout(), "{line}")?;
        }
        Ok(())
    }
}

/// The program. In what a program reads, and in what it may log of our complaints, there is English alone.
pub fn main() -> ExitCode {
    let for_programs = std::env::args_os().any(|word| word == "--json");
    let language = if for_programs { Language::English } else { Language::of_environment() };
    let command = || help::in_language(Cli::command(), language);
    completion::answer(command);
    language.speak();
    let parsed = command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand && next::of_systemd().is_some() => {
            return of_systemd(&error);
        }
        // In English clap's own words are the better ones.
        Err(error) if language == Language::English => error.exit(),
        Err(error) => return mistyped::tell(&error),
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => {
            eprintln!("sersyncctl: {}", tr!("the system does not let it start: {error}", error));
            ExitCode::FAILURE
        }
    }
}

/// Names the command of systemd that does what was typed.
fn of_systemd(error: &clap::Error) -> ExitCode {
    let typed = error.get(ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
    let text = tr!("{command} is left to systemd", command = format_args!("{typed:?}"));
    let next = next::of_systemd().unwrap_or_default();
    // With no standard error there is nobody left to tell.
    let _ = writeln!(anstream::stderr(), "sersyncctl: {text}\n{}", words::next(&next));
    ExitCode::from(2)
}

/// Runs one command and returns its exit status.
async fn run(cli: Cli) -> ExitCode {
    match obey(cli).await {
        Ok(code) => code,
        // Whoever reads has read enough.
        Err(CtlError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn obey(cli: Cli) -> Result<ExitCode, CtlError> {
    // No running instance is asked for this.
    if let Some(Verb::Check(options)) = &cli.verb {
        return check::run(options, cli.user, cli.json).await;
    }
    if let Some(Verb::Import(options)) = &cli.verb {
        return import::run(options, cli.user, cli.json);
    }
    let session = Session::open(&cli).await?;
    match cli.verb.unwrap_or(Verb::Status { names: Vec::new() }) {
        Verb::Status { names } => return status::run(&session, &names).await,
        Verb::List => status::list(&session).await?,
        Verb::Resync { name, cancel: true, .. } => {
            for name in instances::meant(&session, &[name]).await? {
                follow::cancel(&session, &name).await?;
            }
        }
        Verb::Resync { name, remotes, no_wait, delete, .. } => {
            for name in instances::meant(&session, &[name]).await? {
                follow::resync(&session, &name, &remotes, delete, !no_wait).await?;
            }
        }
        Verb::Accept { name, remotes, yes } => {
            let name = instances::only(&session, &name).await?;
            return accept::run(&session, &name, &remotes, yes).await;
        }
        Verb::Retry { name, remotes } => {
            for name in instances::meant(&session, &[name]).await? {
                retry(&session, &name, &remotes).await?;
            }
        }
        Verb::Failures(mut list) => {
            list.name = instances::only(&session, &list.name).await?;
            lists::failures(&session, &list).await?;
        }
        Verb::Pending(mut list) => {
            list.name = instances::only(&session, &list.name).await?;
            lists::pending(&session, &list).await?;
        }
        Verb::Pause(Instances { names }) => {
            return each(&session, &names, async |name| {
                done(&session, name, session.agent(name).await?.pause().await).await?;
                session.say(&tr!("{instance} is paused: changes gather meanwhile", instance = name))?;
                session.say_next(&session.scope.ctl("resume", name))
            })
            .await;
        }
        Verb::Resume(Instances { names }) => {
            return each(&session, &names, async |name| {
                done(&session, name, session.agent(name).await?.resume().await).await?;
                session.say(&tr!("{instance} goes on", instance = name))
            })
            .await;
        }
        Verb::Wait { instances: Instances { names }, timeout } => {
            let deadline = timeout.map(|time| Instant::now() + time);
            return each(&session, &names, async |name| {
                let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                let usec = left.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
                done(&session, name, session.agent(name).await?.wait_synced(usec).await).await?;
                session.say(&tr!("{instance} is in sync", instance = name))
            })
            .await;
        }
        Verb::Reload(Instances { names }) => {
            return each(&session, &names, async |name| {
                done(&session, name, session.agent(name).await?.reload().await).await?;
                session.say(&tr!("{instance} has read its config", instance = name))
            })
            .await;
        }
        // Done before a bus was looked for.
        Verb::Check(_) | Verb::Import(_) => {}
        Verb::Monitor { name } => monitor::run(&session, &instances::only(&session, &name).await?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Carries `command` out for each instance that `names` mean, whatever comes of the others.
async fn each(
    session: &Session,
    names: &[String],
    command: impl AsyncFn(&str) -> Result<(), CtlError>,
) -> Result<ExitCode, CtlError> {
    let mut code = ExitCode::SUCCESS;
    for name in instances::meant(session, names).await? {
        match command(&name).await {
            Ok(()) => {}
            Err(CtlError::Output(error)) => return Err(error.into()),
            Err(error) => {
                complain(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// With no standard error there is nobody left to tell.
fn complain(error: &CtlError) {
    let _ = writeln!(anstream::stderr(), "sersyncctl: {error}");
}

async fn retry(session: &Session, name: &str, remotes: &[String]) -> Result<(), CtlError> {
    let count = done(session, name, session.agent(name).await?.retry(remotes).await).await?;
    if session.json {
        writeln!(anstream::stdout(), "{}", serde_json::json!({ "retried": count }))?;
    }
    if count == 0 {
        return session.say(&tr!("nothing had failed"));
    }
    let paths = crate::human::count(count);
    session.say(&tr!("{paths} path is tried again" | "{paths} paths are tried again" % count, paths = paths))?;
    session.say_next(&session.scope.ctl("failures", name))
}

async fn done<T>(session: &Session, name: &str, answer: Result<T, bus::Error>) -> Result<T, CtlError> {
    match answer {
        Ok(value) => Ok(value),
        Err(error) => Err(session.explain(name, error).await),
    }
}

/// A time as systemd.time(7) writes the short ones; a bare number is seconds.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit.trim() {
        "ms" => 1,
        "" | "s" | "sec" => 1000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(tr!("{unit} is no unit; take ms, s, min or h", unit = format_args!("{unit:?}"))),
    };
    let number: u64 = number.parse().map_err(|_| tr!("a time is a number and a unit, such as 90s or 5min"))?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(|| tr!("{time} is too long", time = text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_timeouts() {
        for (text, millis) in [("90", 90_000), ("90s", 90_000), ("5min", 300_000), ("1h", 3_600_000), ("500ms", 500)] {
            assert_eq!(parse_timeout(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "5 parsecs", "-1", "99999999999999999999"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }
}
