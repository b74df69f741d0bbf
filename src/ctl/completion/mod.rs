//! What a shell offers at the Tab key: `COMPLETE=bash sersyncctl` prints what it has to load, and it then asks this program
//! for each word.
//!
//! Names of instances and of remotes are those of this moment. An answer that does not come at once is left out: whoever
//! presses Tab waits for it.

mod bash;

use super::check::configs_of;
use super::instances::names_of_units;
use super::next::Scope;
use super::view::View;
use crate::bus::{Which, names};
use crate::config::check_instance_name;
use bash::Bash;
use clap::Command;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate, PathCompleter, ValueCompleter};
use clap_complete::env::{Fish, Shells, Zsh};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;
use zbus::Connection;
use zbus::fdo::DBusProxy;

/// How long the bus may take, from the connection to the last answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// The variable by which a shell asks.
const VARIABLE: &str = "COMPLETE";

/// Answers a shell and ends the process, if a shell asks.
pub fn answer(command: impl Fn() -> Command) {
    CompleteEnv::with_factory(command).var(VARIABLE).shells(SHELLS).complete();
}

/// What `shell` has to load, for packages: `bash`, `zsh`, `fish`; `None` for a shell that is not known. It is to be found
/// under the names `sersyncctl`, `_sersyncctl` and `sersyncctl.fish`.
pub fn registration(shell: &str) -> Option<String> {
    let mut script = Vec::new();
    // A vector takes all that is written.
    SHELLS.completer(shell)?.write_registration(VARIABLE, NAME, NAME, NAME, &mut script).ok()?;
    if shell == "zsh" {
        script.extend_from_slice(ZSH_AUTOLOAD.as_bytes());
    }
    String::from_utf8(script).ok()
}

/// zsh loads a file of its function path at the first Tab key, as the body of a function; that key wants an answer, too.
const ZSH_AUTOLOAD: &str = r#"
if [[ $funcstack[1] == _sersyncctl ]]; then
    _clap_dynamic_completer_sersyncctl "$@"
fi
"#;

const NAME: &str = "sersyncctl";

const SHELLS: Shells<'static> = Shells(&[&Bash, &Zsh, &Fish]);

/// Names of instances: those with a config, those on the bus, those that systemd has in memory.
pub fn instances_known() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| offer(instances(Typed::now().scope), current))
}

/// Names of the remotes of the instance that was typed.
pub fn remotes_known() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let typed = Typed::now();
        let remotes = typed.instance().map(|instance| remotes(typed.scope, instance)).unwrap_or_default();
        // Each is named once.
        let missing = remotes.into_iter().filter(|remote| !typed.words.contains(remote) || current == remote.as_str());
        offer(missing, current)
    })
}

/// Config files, and names of instances, which stand for theirs.
pub fn configs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let mut offered = offer(instances(Typed::now().scope), current);
        let is_config = |path: &Path| path.extension().is_some_and(|extension| extension == "xml");
        offered.extend(PathCompleter::any().filter(is_config).complete(current));
        offered
    })
}

fn offer(words: impl IntoIterator<Item = String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let begun = current.to_string_lossy();
    words.into_iter().filter(|word| word.starts_with(&*begun)).map(CompletionCandidate::new).collect()
}

/// The line so far: a shell hands its words over behind `--`.
struct Typed {
    scope: Scope,
    /// The words that are no options, the program's name first.
    words: Vec<String>,
}

impl Typed {
    fn now() -> Self {
        Self::of(std::env::args().skip_while(|word| word != "--").skip(1))
    }

    fn of(line: impl Iterator<Item = String>) -> Self {
        let (options, words): (Vec<_>, Vec<_>) = line.partition(|word| word.starts_with('-'));
        let scope = if options.iter().any(|option| option == "--user") { Scope::User } else { Scope::System };
        Self { scope, words }
    }

    /// Program, verb, instance.
    fn instance(&self) -> Option<&str> {
        self.words.get(2).map(String::as_str)
    }
}

fn instances(scope: Scope) -> BTreeSet<String> {
    let mut found = configured(&configs_of(scope));
    found.extend(in_time(scope, running).unwrap_or_default());
    found
}

/// The instances that have a config in `directory`.
pub fn configured(directory: &Path) -> BTreeSet<String> {
    // One that may not be read, or is not there, has none to offer.
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".xml").filter(|name| check_instance_name(name).is_ok()).map(str::to_owned)
    });
    names.collect()
}

async fn running(bus: Connection) -> zbus::Result<BTreeSet<String>> {
    let owned = DBusProxy::new(&bus).await?.list_names().await?;
    let mut found: BTreeSet<_> = owned.iter().filter_map(|name| names::instance_of(name.as_str())).collect();
    found.extend(names_of_units(&bus).await);
    Ok(found)
}

fn remotes(scope: Scope, instance: &str) -> Vec<String> {
    let view = in_time(scope, async |bus| View::read(&bus, &names::bus_name(instance), instance).await);
    view.map(|view| view.remotes.into_iter().map(|remote| remote.name).collect()).unwrap_or_default()
}

/// Asks the bus; `None` when there is no answer in time, for whatever reason.
fn in_time<T>(scope: Scope, ask: impl AsyncFnOnce(Connection) -> zbus::Result<T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let which = match scope {
        Scope::System => Which::System,
        Scope::User => Which::Session,
    };
    let answer = runtime.block_on(async {
        let asking = async { ask(which.builder().build().await?).await };
        tokio::time::timeout(PATIENCE, asking).await
    });
    // Whatever still blocks a thread must not hold up the shell.
    runtime.shutdown_background();
    answer.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Typed {
        Typed::of(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn the_line_tells_scope_and_instance() {
        let line = typed("sersyncctl resync www web");
        assert_eq!((line.scope, line.instance()), (Scope::System, Some("www")));
        let line = typed("sersyncctl --user retry --json notes");
        assert_eq!((line.scope, line.instance()), (Scope::User, Some("notes")));
        assert_eq!(typed("sersyncctl resync").instance(), None);
    }

    #[test]
    fn packages_get_a_script_for_each_shell() {
        for shell in ["bash", "zsh", "fish"] {
            let script = registration(shell).unwrap();
            assert!(script.contains("COMPLETE=") && script.contains("sersyncctl"), "{shell}: {script}");
        }
        assert_eq!(registration("sh"), None);
    }
}
