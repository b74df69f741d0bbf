//! `sersyncctl`: asks and steers the running instances, over the bus and nothing else. Whatever it does, anybody can
//! do with `busctl`: it holds no right and no knowledge of its own.

mod asking;
mod check;
mod error;
mod follow;
mod import;
mod instances;
mod lists;
mod monitor;
mod proxy;
mod signals;
mod status;
mod table;
mod terminal_agent;
mod view;

pub use error::CtlError;

use crate::bus::{self, Which};
use asking::Asking;
use clap::{Parser, Subcommand};
use instances::{Instance, Presence};
use proxy::AgentProxy;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;
use std::time::Duration;
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
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show whether all is in sync: a line for each instance, or the details of those named (default)
    Status {
        /// Instances, such as www
        names: Vec<String>,
    },
    /// List the instances, running or not
    List,
    /// Make remotes equal to what is on disk, whatever they hold now, and show the progress
    Resync {
        /// The instance
        name: String,
        /// Its remotes; none means all
        remotes: Vec<String>,
        /// Return at once
        #[arg(long)]
        no_wait: bool,
        /// Cancel the full syncs that run or wait, instead of starting one
        #[arg(long, conflicts_with_all = ["remotes", "no_wait"])]
        cancel: bool,
    },
    /// Try what failed at once, without waiting for its next try
    Retry {
        /// The instance
        name: String,
        /// Its remotes; none means all
        remotes: Vec<String>,
    },
    /// Show the paths that failed, with the reasons
    Failures(List),
    /// Show the paths that wait to be sent
    Pending(List),
    /// Send nothing until `resume`; changes gather meanwhile
    Pause {
        /// The instance
        name: String,
    },
    /// Go on sending after `pause`
    Resume {
        /// The instance
        name: String,
    },
    /// Return when all that is on disk now has reached every remote
    Wait {
        /// The instance
        name: String,
        /// Give up after so long: 90, 90s, 5min, 1h, 500ms
        #[arg(long, value_name = "TIME", value_parser = parse_timeout)]
        timeout: Option<Duration>,
    },
    /// Read the config file again
    Reload {
        /// The instance
        name: String,
    },
    /// Check configs before an agent runs with them: the file, this machine, each remote
    Check(check::Options),
    /// Make configs of another program's: sersync 2.5.4, lsyncd, incron
    Import(import::Options),
    /// Print what happens, as it happens, until Ctrl-C
    Monitor {
        /// The instance
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// The instance
    name: String,
    /// Print at most so many [default: 50; with --json all]
    #[arg(short = 'n', long, value_name = "COUNT")]
    lines: Option<usize>,
    /// Print them all
    #[arg(long, conflicts_with = "lines")]
    all: bool,
}

/// One run of `sersyncctl`: its connection and how it answers.
#[derive(Debug)]
struct Session {
    bus: Connection,
    json: bool,
    /// What the next command must carry: ` --user`, or nothing.
    user: &'static str,
    asking: Asking,
}

impl Session {
    async fn open(cli: &Cli) -> Result<Self, CtlError> {
        let (which, name, user) =
            if cli.user { (Which::Session, "user", " --user") } else { (Which::System, "system", "") };
        let bus = which.builder().build().await.map_err(|source| CtlError::NoBus { bus: name, user, source })?;
        Ok(Self { bus, json: cli.json, user, asking: Asking::new(!cli.no_ask_password) })
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
                    CtlError::NotRunning(name.to_owned(), state, self.user)
                }
                Ok(Some(_)) => CtlError::Gone(name.to_owned(), self.user),
                Ok(None) => CtlError::NoInstance(name.to_owned(), self.user),
                Err(error) => error,
            },
            error => CtlError::Agent(error),
        }
    }

    /// Prints one line for people; programs get nothing but JSON.
    fn say(&self, line: &str) -> Result<(), CtlError> {
        if !self.json {
            writeln!(anstream::stdout(), "{line}")?;
        }
        Ok(())
    }
}

/// Runs one command and returns its exit status.
pub async fn run(cli: Cli) -> ExitCode {
    match obey(cli).await {
        Ok(code) => code,
        // Whoever reads has read enough.
        Err(CtlError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // With no standard error there is nobody left to tell.
            let _ = writeln!(anstream::stderr(), "sersyncctl: {error}");
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
        Verb::Resync { name, cancel: true, .. } => follow::cancel(&session, &name).await?,
        Verb::Resync { name, remotes, no_wait, .. } => follow::resync(&session, &name, &remotes, !no_wait).await?,
        Verb::Retry { name, remotes } => retry(&session, &name, &remotes).await?,
        Verb::Failures(list) => lists::failures(&session, &list).await?,
        Verb::Pending(list) => lists::pending(&session, &list).await?,
        Verb::Pause { name } => {
            done(&session, &name, session.agent(&name).await?.pause().await).await?;
            session.say(&format!("{name} is paused: changes gather until sersyncctl{} resume {name}", session.user))?;
        }
        Verb::Resume { name } => {
            done(&session, &name, session.agent(&name).await?.resume().await).await?;
            session.say(&format!("{name} goes on"))?;
        }
        Verb::Wait { name, timeout } => {
            let usec = timeout.map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
            done(&session, &name, session.agent(&name).await?.wait_synced(usec).await).await?;
            session.say(&format!("{name} is in sync"))?;
        }
        Verb::Reload { name } => {
            done(&session, &name, session.agent(&name).await?.reload().await).await?;
            session.say(&format!("{name} has read its config"))?;
        }
        // Done before a bus was looked for.
        Verb::Check(_) | Verb::Import(_) => {}
        Verb::Monitor { name } => monitor::run(&session, &name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn retry(session: &Session, name: &str, remotes: &[String]) -> Result<(), CtlError> {
    let count = done(session, name, session.agent(name).await?.retry(remotes).await).await?;
    if session.json {
        writeln!(anstream::stdout(), "{}", serde_json::json!({ "retried": count }))?;
    }
    match count {
        0 => session.say("nothing had failed"),
        1 => session.say("1 path is tried again"),
        many => session.say(&format!("{} paths are tried again", crate::human::count(many))),
    }
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
        _ => return Err(format!("{unit:?} is no unit; take ms, s, min or h")),
    };
    let number: u64 = number.parse().map_err(|_| "a time is a number and a unit, such as 90s or 5min".to_owned())?;
    number.checked_mul(factor).map(Duration::from_millis).ok_or_else(|| format!("{text} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
