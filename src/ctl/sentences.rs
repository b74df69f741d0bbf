//! What an agent says in sentences, in the language of who reads it. An agent speaks English on the bus, to everybody; a
//! sentence that is known is said again here, one of another version is passed on as it came.

use crate::bus;
use crate::human::safe;
use crate::transport::remedies;
use tr::tr;

/// Why a method was not carried out.
pub fn answer(error: &bus::Error) -> String {
    known(error).unwrap_or_else(|| error.to_string())
}

fn known(error: &bus::Error) -> Option<String> {
    match error {
        bus::Error::NotAuthorized(said) | bus::Error::AuthenticationRequired(said) => {
            Some(tr!("not authorized: {reason}", reason = said))
        }
        bus::Error::UnknownRemote(said) => unknown_remote(said),
        bus::Error::TimedOut(said) => {
            said.strip_prefix("not in sync in time: ").map(|remotes| tr!("not in sync in time: {remotes}", remotes))
        }
        bus::Error::Paused(said) => said
            .strip_prefix("the instance is paused, and nothing is sent until `sersyncctl resume`: ")
            .map(|remotes| {
                tr!("the instance is paused, and nothing is sent until `sersyncctl resume`: {remotes}", remotes)
            }),
        bus::Error::RootMissing(said) => {
            said.strip_prefix("not in sync: ").map(|reason| tr!("not in sync: {reason}", reason))
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

/// Why a path or a run failed: rsync's words as they are, and behind them what to do.
pub fn reason(message: &str) -> String {
    match remedied(message) {
        Some((words, remedy)) => tr!("{words}; {remedy}", words = safe(words), remedy = safe(&remedy)),
        None => safe(message),
    }
}

/// A fault's words, and what to do about it, where that is known.
pub fn remedied(message: &str) -> Option<(&str, String)> {
    let (words, remedy) = remedies().find_map(|remedy| Some((message.strip_suffix(remedy)?, remedy)))?;
    Some((words.strip_suffix("; ")?, tr!(remedy)))
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
            CommandError::Paused("b".into()),
            CommandError::RootMissing("it is away".into()),
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
        for remedy in remedies() {
            let message = format!("rsync: \u{1b}; it failed; {remedy}");
            assert_eq!(remedied(&message), Some(("rsync: \u{1b}; it failed", remedy.to_owned())));
            assert_eq!(reason(&message), format!("rsync: \\u{{1b}}; it failed; {remedy}"));
        }
        assert_eq!(reason("no remedy"), "no remedy");
    }
}
