//! What an agent says in sentences, in the language of who reads it. An agent speaks English on the bus, to everybody; a
//! sentence that is known is said again here, one of another version is passed on as it came.

use crate::bus;
use crate::human::safe;
use tr::tr;

/// Why a method was not carried out.
pub fn answer(error: &bus::Error) -> String {
    known(error).unwrap_or_else(|| error.to_string())
}

fn known(error: &bus::Error) -> Option<String> {
    match error {
        bus::Error::NotAuthorized(said) => Some(tr!("not authorized: {reason}", reason = said)),
        bus::Error::UnknownRemote(said) => unknown_remote(said),
        bus::Error::TimedOut(said) => {
            said.strip_prefix("not in sync in time: ").map(|remotes| tr!("not in sync in time: {remotes}", remotes))
        }
        bus::Error::BadConfig(said) => said
            .strip_prefix("the config was not reloaded, the old one stays in force:\n")
            .map(|mistakes| tr!("the config was not reloaded, the old one stays in force:\n{mistakes}", mistakes)),
        bus::Error::NoConfigFile(said) => (said
            == "this instance has no config file to reload: it was started with --watch/--to")
            .then(|| tr!("this instance has no config file to reload: it was started with --watch/--to")),
        bus::Error::Stopping(said) => (said == "the agent is stopping; start it again to go on")
            .then(|| tr!("the agent is stopping; start it again to go on")),
        _ => None,
    }
}

fn unknown_remote(said: &str) -> Option<String> {
    if said == "this instance was started with -m: it has no remotes to sync" {
        return Some(tr!("this instance was started with -m: it has no remotes to sync"));
    }
    let (remote, others) = said.strip_prefix("no remote ")?.split_once(" in this instance; it has: ")?;
    Some(tr!("no remote {remote} in this instance; it has: {others}", remote, others))
}

/// Why a path or a run failed: rsync's words as they are, and behind the last semicolon what to do.
pub fn reason(message: &str) -> String {
    let Some((words, remedy)) = message.rsplit_once("; ") else { return safe(message) };
    let remedy = remedy.trim_end();
    let remedy = tr!(remedy);
    tr!("{words}; {remedy}", words = safe(words), remedy = safe(&remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::CommandError;

    #[test]
    fn the_agents_sentences_are_known() {
        for error in [
            CommandError::UnknownRemote("a".into(), "b, c".into()),
            CommandError::NoRemotes,
            CommandError::TimedOut("b".into()),
            CommandError::BadConfig("b".into()),
            CommandError::NoConfigFile,
            CommandError::Stopping,
        ] {
            let sentence = error.to_string();
            assert_eq!(known(&bus::Error::from(error)).as_ref(), Some(&sentence));
        }
        assert_eq!(answer(&bus::Error::TimedOut("in other words".into())), "in other words");
    }

    #[test]
    fn a_remedy_follows_rsyncs_words() {
        assert_eq!(reason("auth failed; check\u{1b} it"), "auth failed; check\\u{1b} it");
        assert_eq!(reason("no remedy"), "no remedy");
    }
}
