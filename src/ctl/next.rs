//! [`Scope`]: whose instances are asked, and so how the next command to type is written. Whatever is wrong, the last line
//! says how to go on, and that line can be copied into a shell as it stands.

use super::instances::DISABLED;

/// Whose instances these are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The system's.
    System,
    /// The calling user's.
    User,
}

impl Scope {
    /// ` --user` or nothing.
    pub fn flag(self) -> &'static str {
        match self {
            Self::System => "",
            Self::User => " --user",
        }
    }

    /// Such as `sersyncctl failures www`.
    pub fn ctl(self, verb: &str, instance: &str) -> String {
        format!("sersyncctl{} {verb} {}", self.flag(), quoted(instance))
    }

    /// Such as `systemctl enable --now sersync@www`.
    pub fn systemctl(self, verb: &str, instance: &str) -> String {
        format!("systemctl{} {verb} {}", self.flag(), unit(instance))
    }

    /// What the instance and systemd said of it, the newest at the end, with explanations.
    pub fn journal(self, instance: &str) -> String {
        format!("journalctl{} -u {} -xe", self.flag(), unit(instance))
    }

    /// Brings an instance up that does not run; `state` as [`super::instances`] words it.
    pub fn bring_up(self, instance: &str, state: &str) -> String {
        match state {
            "stopped (enabled)" | "stopped (enabled-runtime)" => self.systemctl("start", instance),
            stopped if stopped == DISABLED || stopped.starts_with("stopped") => {
                self.systemctl("enable --now", instance)
            }
            // It was started, and why it is not there is written down.
            _ => self.journal(instance),
        }
    }
}

fn unit(instance: &str) -> String {
    quoted(&format!("sersync@{instance}"))
}

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    // Only a NUL byte cannot be quoted, and no name and no path has one.
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), |quoted| quoted.into_owned())
}

/// The command of systemd for the verb that was typed, if it has one: for `start www`, `systemctl start sersync@www`.
pub fn of_systemd() -> Option<String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let scope = if words.iter().any(|word| word == "--user") { Scope::User } else { Scope::System };
    let mut words = words.iter().filter(|word| !word.starts_with('-'));
    for_verb(scope, words.next()?, words.next().map_or("NAME", String::as_str))
}

fn for_verb(scope: Scope, verb: &str, instance: &str) -> Option<String> {
    let instance = super::instances::instance_of_word(instance);
    Some(match verb {
        "start" | "stop" | "restart" | "enable" | "disable" => scope.systemctl(verb, instance),
        "log" | "logs" | "journal" => format!("journalctl{} -u {}", scope.flag(), unit(instance)),
        "edit" => {
            let file = super::check::configs_of(scope).join(format!("{instance}.xml"));
            let editor = if scope == Scope::System { "sudoedit" } else { "${EDITOR:-vi}" };
            format!("{editor} {}", quoted(&file.to_string_lossy()))
        }
        _ => return None,
    })
}

/// The command that was typed, once more as root.
pub fn as_root() -> String {
    let words = std::env::args().skip(1).map(|word| quoted(&word));
    std::iter::once("sudo sersyncctl".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_copied_into_a_shell() {
        assert_eq!(Scope::System.ctl("failures", "www"), "sersyncctl failures www");
        assert_eq!(Scope::User.ctl("reload", "a b"), "sersyncctl --user reload 'a b'");
        assert_eq!(Scope::User.systemctl("start", "a;b"), "systemctl --user start 'sersync@a;b'");
        assert_eq!(Scope::System.journal("www"), "journalctl -u sersync@www -xe");
    }

    #[test]
    fn verbs_of_systemd_lead_to_it() {
        for (verb, command) in [
            ("start", "systemctl start sersync@www"),
            ("stop", "systemctl stop sersync@www"),
            ("logs", "journalctl -u sersync@www"),
            ("edit", "sudoedit /etc/sersync/www.xml"),
        ] {
            assert_eq!(for_verb(Scope::System, verb, "sersync@www").as_deref(), Some(command));
        }
        assert_eq!(for_verb(Scope::System, "bogus", "www"), None);
    }

    #[test]
    fn what_brings_an_instance_up_depends_on_why_it_is_down() {
        for (state, command) in [
            ("stopped (enabled)", "systemctl start sersync@www"),
            ("disabled", "systemctl enable --now sersync@www"),
            ("stopped", "systemctl enable --now sersync@www"),
            ("failed", "journalctl -u sersync@www -xe"),
            ("running without the bus", "journalctl -u sersync@www -xe"),
            ("starting", "journalctl -u sersync@www -xe"),
        ] {
            assert_eq!(Scope::System.bring_up("www", state), command, "{state}");
        }
    }
}
