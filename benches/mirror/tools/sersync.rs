//! Ours, as built with the release profile.

use super::{Running, Tool};
use crate::stand::{INSTANCE, Stand};
use crate::support::agent::Launch;
use crate::support::tree::Judge;

/// `sersync --watch … --to …`, with more arguments in a variant.
pub struct Sersync {
    name: &'static str,
    arguments: &'static [&'static str],
}

impl Sersync {
    /// As it is without any setting.
    pub fn plain() -> Self {
        Self { name: "sersync", arguments: &[] }
    }

    /// With an rsync that is started ahead of the next change.
    pub fn ahead() -> Self {
        Self { name: "sersync ahead", arguments: &["--ahead", "30"] }
    }
}

impl Tool for Sersync {
    fn name(&self) -> &str {
        self.name
    }

    fn version(&self) -> Result<String, String> {
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    fn setup(&self) -> String {
        let more = self.arguments.iter().map(|argument| format!(" {argument}")).collect::<String>();
        format!("`sersync --watch SOURCE --to URL{more}`")
    }

    fn start(&self, stand: &Stand) -> Running {
        let launch = Launch::new(&stand.path("agent")).mirror(&stand.source(), stand.urls());
        let launch = self.arguments.iter().fold(launch, |launch, argument| launch.argument(argument));
        let launch =
            stand.environment().into_iter().fold(launch, |launch, (name, value)| launch.environment(name, value));
        let launch = match stand.bus() {
            Some(address) => {
                let launch = launch.argument("--user").argument("--instance").argument(INSTANCE);
                launch.environment("DBUS_SESSION_BUS_ADDRESS", address)
            }
            None => launch,
        };
        Running::agent(launch.spawn())
    }

    /// Whole: modes, owners and modification times, too.
    fn judge(&self) -> Judge {
        Judge::default()
    }
}
