//! `check`: whether a config will work here, before it has to: what is wrong in the file, what this machine lacks, what
//! each remote lets us do. Asks no agent and no bus; changes nothing that stays.

mod credentials;
mod here;
mod report;
mod scratch;
mod there;

pub use report::{Finding, Level};

use super::error::CtlError;
use crate::config::{self, Config, Severity};
use crate::transport::Endpoint;
use report::Report;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The options of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 all is well, 1 it will work, but see the warnings, 2 something does not work.")]
pub struct Options {
    /// Configs, such as /etc/sersync/www.xml, or names of instances
    #[arg(required = true)]
    configs: Vec<String>,
    /// Do not talk to the remotes
    #[arg(long)]
    no_probe: bool,
    /// Give up on a remote after so long: 90, 90s, 5min
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = super::parse_timeout)]
    timeout: Duration,
}

/// Checks each config. `user`: a name stands for a config of the calling user, not of the system.
pub async fn run(options: &Options, user: bool, json: bool) -> Result<ExitCode, CtlError> {
    let mut worst = Level::Good;
    let mut all = Vec::new();
    for given in &options.configs {
        let file = config_file(given, user);
        let report = check(&file, options).await;
        worst = worst.max(report.worst());
        match json {
            true => all.push(report.to_json()),
            false => write!(anstream::stdout(), "{report}")?,
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
fn config_file(given: &str, user: bool) -> PathBuf {
    let path = PathBuf::from(given);
    if given.contains('/') || path.is_file() {
        return path;
    }
    let directory = match user {
        false => PathBuf::from("/etc/sersync"),
        true => user_configs(),
    };
    directory.join(format!("{given}.xml"))
}

/// `$XDG_CONFIG_HOME/sersync`, or `~/.config/sersync`.
pub fn user_configs() -> PathBuf {
    let configured = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|home| home.is_absolute());
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(".config");
    configured.unwrap_or_else(home).join("sersync")
}

async fn check(file: &Path, options: &Options) -> Report {
    let mut report = Report::new(file);
    let gathered = match credentials::Gathered::of(file) {
        Ok(gathered) => gathered,
        Err(error) => {
            let text = format!("cannot be gathered: {error}");
            report.add(Finding::new(Level::Error, "credentials", text).next("check as root, with room in /run"));
            return report;
        }
    };
    let loaded = match &gathered {
        Some(gathered) => config::load_with_credentials(file, gathered.directory()),
        None => config::load(file),
    };
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
            let text = format!("{errors} to mend before an agent starts with it");
            report.add(Finding::new(Level::Error, "the file", text).next("mend them, then check again"));
            return report;
        }
    };
    if report.is_empty() {
        report.add(Finding::new(Level::Good, "the file", "is understood"));
    }
    for note in &config.notes {
        report.add(Finding::new(Level::Note, "the file", note.clone()));
    }
    here::look(&config, file, &mut report);
    let missing: Vec<Finding> = gathered.iter().flat_map(|gathered| gathered.findings()).collect();
    let is_complete = missing.is_empty();
    missing.into_iter().for_each(|finding| report.add(finding));
    if !options.no_probe && is_complete {
        probe_all(&config, options.timeout, &mut report).await;
    }
    report
}

/// Each remote in a task of its own; told in the config's order.
async fn probe_all(config: &Config, timeout: Duration, report: &mut Report) {
    let probes: Vec<_> = config
        .roots
        .iter()
        .flat_map(|root| &root.remotes)
        .map(|destination| {
            let endpoint = Endpoint::new(destination.clone(), &config.rsync);
            let deletes = config.events.delete;
            tokio::spawn(async move { there::look(&endpoint, deletes, timeout).await })
        })
        .collect();
    for probe in probes {
        match probe.await {
            Ok(findings) => findings.into_iter().for_each(|finding| report.add(finding)),
            Err(broken) => report.add(Finding::new(Level::Error, "a probe", broken.to_string())),
        }
    }
}
