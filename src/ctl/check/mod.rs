//! `check`: whether a config will work here, before it has to: what is wrong in the file, what this machine lacks, what
//! each remote lets us do. Asks no agent and no bus; changes nothing that stays.
//!
//! A process of its own follows the config (`worker`), with the rights that the service has (`rights`) where root calls
//! the check: what a config names is neither read, run nor written as root.

mod credentials;
mod here;
mod report;
mod rights;
mod scratch;
mod there;
mod worker;

pub use report::{Finding, Level};

use super::error::CtlError;
use super::next::{Scope, quoted};
use super::words;
use crate::config::overlap::{self, Places};
use crate::config::{self, Config, Severity};
use crate::transport::Endpoint;
use report::Report;
use rights::{Rights, Unknown};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::watch;
use tr::tr;
use worker::{Ended, Task};

/// The options of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 all is well, 1 it will work, but see the warnings, 2 something does not work.")]
pub struct Options {
    /// Configs, such as /etc/sersync/www.xml, or names of instances
    #[arg(required = true, add = super::completion::configs())]
    configs: Vec<String>,
    /// Do not talk to the remotes
    #[arg(long)]
    no_probe: bool,
    /// Give up on a remote after so long: 90, 90s, 5min [default: 60s]
    #[arg(long, value_name = "TIME", default_value = "60s", hide_default_value = true, value_parser = super::parse_timeout)]
    timeout: Duration,
    /// Print findings for the process that started this one, until its pipe closes
    #[arg(long, hide = true)]
    worker: bool,
}

/// Checks each config. `user`: a name stands for a config of the calling user, not of the system.
pub async fn run(options: &Options, user: bool, json: bool) -> Result<ExitCode, CtlError> {
    if options.worker {
        let file = options.configs.first().map(PathBuf::from).unwrap_or_default();
        return Ok(worker::work(options, &file).await?);
    }
    let mut worst = Level::Good;
    let mut all = Vec::new();
    let scope = if user { Scope::User } else { Scope::System };
    for given in &options.configs {
        let file = config_file(given, scope);
        let mut report = Report::new(&file);
        if let Some(signal) = check(&file, scope, options, json, &mut report).await {
            // As a shell reports it.
            return Ok(ExitCode::from(128 + signal as u8));
        }
        let again = format!("sersyncctl{} check {}", scope.flag(), quoted(given));
        let report = match is_of_the_system(scope, &file) && !nix::unistd::geteuid().is_root() {
            // Only root can check what the service can do.
            true => report.end(format!("sudo {again}"), format!("sudo {again}")),
            false => report.end(edit(&file), start(scope, &file)),
        };
        worst = worst.max(report.worst());
        match json {
            true => all.push(report.to_json()),
            false => {
                write!(anstream::stdout(), "{report}")?;
                writeln!(anstream::stderr(), "{}", words::next(report.next()))?;
            }
        }
    }
    if json {
        writeln!(anstream::stdout(), "{:#}", json!(all))?;
    }
    Ok(ExitCode::from(match worst {
        Level::Good | Level::Note => 0,
        Level::Warning => 1,
        Level::Error => 2,
    }))
}

/// A name without a slash that is no file here is an instance's.
fn config_file(given: &str, scope: Scope) -> PathBuf {
    let path = PathBuf::from(given);
    if given.contains('/') || path.is_file() {
        return path;
    }
    configs_of(scope).join(format!("{given}.xml"))
}

/// Where the units look for configs.
pub fn configs_of(scope: Scope) -> PathBuf {
    match scope {
        Scope::System => PathBuf::from("/etc/sersync"),
        Scope::User => user_configs(),
    }
}

/// What opens a config, to correct it.
fn edit(file: &Path) -> String {
    format!("${{EDITOR:-vi}} {}", quoted(&file.to_string_lossy()))
}

/// What starts an instance with this config.
fn start(scope: Scope, file: &Path) -> String {
    match config::instance_name(file) {
        Ok(name) if file == configs_of(scope).join(format!("{name}.xml")) => scope.systemctl("enable --now", &name),
        _ => format!("sersync{} -o {}", scope.flag(), quoted(&file.to_string_lossy())),
    }
}

/// Whether it is the config of an instance of the system.
fn is_of_the_system(scope: Scope, file: &Path) -> bool {
    scope == Scope::System && file.parent() == Some(configs_of(scope).as_path())
}

/// `$XDG_CONFIG_HOME/sersync`, or `~/.config/sersync`.
fn user_configs() -> PathBuf {
    let configured = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".config");
    configured.unwrap_or_else(home).join("sersync")
}

/// Checks one config. Returns the signal that stopped it, if one did.
async fn check(
    file: &Path,
    scope: Scope,
    options: &Options,
    json: bool,
    report: &mut Report,
) -> Option<nix::sys::signal::Signal> {
    let rights = match scope == Scope::System && nix::unistd::geteuid().is_root() {
        true => match Rights::of(&config::instance_name(file).unwrap_or_default()) {
            Ok(rights) => Some(rights),
            Err(Unknown(name)) => {
                let text = tr!(
                    "{name} does not exist on this machine: the check ran as root, who has rights that the service lacks",
                    name
                );
                let next = tr!("install the package, or run `systemd-sysusers`, then check again");
                report.add(Finding::new(Level::Warning, tr!("the service's user"), text).next(next));
                None
            }
        },
        false => None,
    };
    let gathered = match credentials::Gathered::of(file, rights.as_ref().map(|rights| &rights.user)) {
        Ok(gathered) => gathered,
        Err(error) => {
            let text = tr!("cannot be gathered: {error}", error);
            report.add(
                Finding::new(Level::Error, tr!("credentials"), text).next(tr!("check as root, with room in /run")),
            );
            return None;
        }
    };
    let missing: Vec<Finding> = gathered.iter().flat_map(|gathered| gathered.findings()).collect();
    let task = Task {
        file,
        rights: rights.as_ref(),
        credentials: gathered.as_ref().map(credentials::Gathered::directory),
        probe: !options.no_probe && missing.is_empty(),
        for_programs: json,
    };
    match worker::delegate(&task, options).await {
        Ok(Ended::Found(findings)) => findings.into_iter().chain(missing).for_each(|finding| report.add(finding)),
        Ok(Ended::Stopped(signal)) => return Some(signal),
        Err(error) => report.add(worker::failed(&error)),
    }
    None
}

/// The findings of a worker.
async fn look(file: &Path, options: &Options) -> Vec<Finding> {
    let mut report = Report::new(file);
    let bytes = match config::contents(file) {
        Ok(bytes) => bytes,
        Err(mistakes) => {
            mistakes.0.iter().for_each(|mistake| report.add(Finding::of_mistake(mistake)));
            return report.into_findings();
        }
    };
    let loaded = config::parse(&bytes, file);
    let config = match loaded {
        Ok(loaded) => {
            for warning in loaded.warnings {
                report.add(Finding::of_mistake(&warning));
            }
            loaded.config
        }
        Err(mistakes) => {
            for mistake in &mistakes.0 {
                report.add(Finding::of_mistake(mistake));
            }
            let errors = mistakes.0.iter().filter(|mistake| mistake.severity == Severity::Error).count();
            let text = tr!(
                "{errors} mistake to mend before an agent starts with it"
                    | "{errors} mistakes to mend before an agent starts with it" % errors,
                errors
            );
            report.add(Finding::new(Level::Error, tr!("the file"), text).next(tr!("mend them, then check again")));
            here::look_at_secrets(file, &bytes, &mut report);
            return report.into_findings();
        }
    };
    if report.is_empty() {
        report.add(Finding::new(Level::Good, tr!("the file"), tr!("is understood")));
    }
    for note in &config.notes {
        report.add(Finding::new(Level::Note, tr!("the file"), note.clone()));
    }
    here::look_at_secrets(file, &bytes, &mut report);
    here::look(&config, file, &mut report);
    look_at_neighbours(&config, file, &mut report);
    if !options.no_probe {
        match worker::stop() {
            Ok(stop) => probe_all(&config, options.timeout, &stop, &mut report).await,
            Err(error) => report.add(worker::failed(&error)),
        }
    }
    report.into_findings()
}

/// Compares the mirrors of the config with those of the other configs in its directory, if that is where the units look.
fn look_at_neighbours(config: &Config, file: &Path, report: &mut Report) {
    let Some(directory) = file.parent().filter(|directory| is_configs(directory)) else { return };
    let files = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let others = files.filter(|other| other.file_name() != file.file_name()).filter_map(|other| {
        let name = config::instance_name(&other).ok().filter(|_| other.extension().is_some_and(|end| end == "xml"))?;
        Some(overlap::mirrors(&name, &config::load(&other).ok()?.config.roots))
    });
    let own = overlap::mirrors("", &config.roots);
    for conflict in Places::new(own, others.flatten().collect()).conflicts(config.events.delete) {
        let finding = Finding::new(Level::Error, tr!("other configs"), conflict.to_string());
        report.add(finding.next(tr!("leave one of them out, or give each a place of its own")));
    }
}

/// Whether `directory` holds the configs of units.
fn is_configs(directory: &Path) -> bool {
    [Scope::System, Scope::User].into_iter().any(|scope| directory == configs_of(scope))
}

/// Each remote in a task of its own; told in the config's order.
async fn probe_all(config: &Config, timeout: Duration, stop: &watch::Receiver<bool>, report: &mut Report) {
    let roots: Vec<PathBuf> = config.roots.iter().map(|root| root.path.clone()).collect();
    let probes: Vec<_> = config
        .roots
        .iter()
        .flat_map(|root| root.remotes.iter().map(move |destination| (&root.path, destination)))
        .map(|(root, destination)| {
            let (root, roots) = (root.clone(), roots.clone());
            let endpoint = Endpoint::new(destination.clone(), &config.rsync).unconfined();
            let deletes = config.events.delete;
            let stop = stop.clone();
            tokio::spawn(async move { there::look(&endpoint, (&root, &roots), deletes, timeout, stop).await })
        })
        .collect();
    for probe in probes {
        match probe.await {
            Ok(findings) => findings.into_iter().for_each(|finding| report.add(finding)),
            Err(broken) => report.add(Finding::new(Level::Error, tr!("a probe"), broken.to_string())),
        }
    }
}
