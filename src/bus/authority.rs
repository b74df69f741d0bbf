//! [`Authority`]: who may do what. Root and the agent's own user may do all; for others polkit decides, by the actions
//! of `org.sersync.agent1.policy`, and where there is no polkit they may do neither.
//!
//! Every method that changes something or shows names of files asks here first. The caller's user comes from the bus,
//! never from the caller. Properties need no permission: they show states and counts.

use super::Which;
use super::error::Error;
use super::limit::{Limit, Place};
use super::polkit::{Answer, Polkit, Question, user_name};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::{Flags, Header};
use zbus::names::{OwnedUniqueName, UniqueName};

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// See the names of files.
    Inspect,
    /// Change what the agent does.
    Manage,
}

impl Action {
    /// Its polkit name.
    pub fn id(self) -> &'static str {
        match self {
            Self::Inspect => "org.sersync.agent1.inspect",
            Self::Manage => "org.sersync.agent1.manage",
        }
    }
}

/// Callers whose user is remembered; above that the memory starts afresh.
const REMEMBERED: usize = 256;

/// Maximum number of calls whose permission is being looked up: of one connection, and of all.
const QUESTIONS: (usize, usize) = (16, 256);

/// Maximum number of callers of `WaitSynced` that wait: of one connection, of one user, and of all.
const WAITING: (usize, usize, usize) = (16, 256, 1024);

/// Decides for one connection to the bus: unique names are not used twice on one bus, but another bus has its own.
#[derive(Debug)]
pub struct Authority {
    instance: String,
    users: Mutex<HashMap<OwnedUniqueName, u32>>,
    questions: Limit<OwnedUniqueName>,
    waiting: Limit<OwnedUniqueName>,
    waiting_users: Limit<u32>,
    /// On a user's bus there is none: nobody but that user and root comes there.
    polkit: Option<Polkit>,
}

impl Authority {
    /// For the instance of that name, on such a bus.
    pub(super) fn new(instance: &str, which: &Which) -> Self {
        let polkit = (*which != Which::Session).then(Polkit::default);
        Self {
            instance: instance.to_owned(),
            users: Mutex::default(),
            questions: Limit::new(QUESTIONS.0, QUESTIONS.1),
            waiting: Limit::new(WAITING.0, WAITING.2),
            waiting_users: Limit::new(WAITING.1, WAITING.2),
            polkit,
        }
    }

    /// Whether the sender of the method call `call` may do `action`. Waits for people to type a password, if the call
    /// allows it.
    pub async fn authorize(&self, bus: &Connection, call: &Header<'_>, action: Action) -> Result<(), Error> {
        let interactive = call.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let member = call.member().map(|member| member.to_string()).unwrap_or_default();
        self.decide(bus, call, action, &format!("call {member} of {}", self.instance), Some(interactive)).await
    }

    /// Whether the sender of `call` may set `property`. Nobody is asked for a password: zbus holds the tree of objects
    /// while it sets a property, so that waiting for people would hold up everybody else.
    pub async fn authorize_setting(&self, bus: &Connection, call: &Header<'_>, property: &str) -> Result<(), Error> {
        self.decide(bus, call, Action::Manage, &format!("set {property} of {}", self.instance), None).await
    }

    /// `interactive` is `None` where nobody can be asked, whatever the caller allows.
    async fn decide(
        &self,
        bus: &Connection,
        call: &Header<'_>,
        action: Action,
        what: &str,
        interactive: Option<bool>,
    ) -> Result<(), Error> {
        let _place = self.questions.take(sender_of(call)?.to_owned().into()).ok_or_else(|| {
            let most = QUESTIONS.0;
            Error::TooManyCalls(format!(
                "too many calls wait for an answer, and {what} is not one of them: make at most {most} at once"
            ))
        })?;
        let user = self.user(bus, call).await?;
        if is_trusted(user, nix::unistd::geteuid().as_raw()) {
            return Ok(());
        }
        let answer = match &self.polkit {
            None => Answer::Absent("it is not on a user's bus".into()),
            Some(polkit) => {
                let (action, instance) = (action.id(), &*self.instance);
                let interactive = interactive == Some(true);
                polkit.ask(Question { bus, call, user, action, instance, interactive }).await
            }
        };
        let id = action.id();
        let user = user_name(user).await;
        Err(match answer {
            Answer::Yes => return Ok(()),
            Answer::No => Error::NotAuthorized(format!(
                "user {user} may not {what}: polkit does not allow {id}; try sudo, or a rule for it, polkit(8)"
            )),
            Answer::PasswordWanted if interactive.is_none() => {
                Error::NotAuthorized(format!("user {user} may not {what} ({id}): try sudo"))
            }
            Answer::PasswordWanted => Error::AuthenticationRequired(format!(
                "user {user} may not {what} without a password ({id}): let the call ask for it, or try sudo"
            )),
            Answer::NotAuthenticated => Error::NotAuthorized(format!(
                "user {user} may not {what}: nobody authenticated for {id}; try again on a terminal, or try sudo"
            )),
            Answer::TooMany => Error::NotAuthorized(format!(
                "user {user} may not {what}: too many calls of this user wait for {id}; end them first"
            )),
            Answer::Absent(why) => Error::NotAuthorized(format!(
                "user {user} may not {what} ({id}): without polkit ({why}) only root and the agent's own user may; try \
                 sudo, or see systemctl status polkit"
            )),
        })
    }

    /// A place for `call` among the callers that wait for the remotes.
    pub async fn may_wait(&self, bus: &Connection, call: &Header<'_>) -> Result<Waiting, Error> {
        let too_many = |whose: &str, most: usize| {
            Error::TooManyCalls(format!(
                "{most} calls of WaitSynced {whose} wait already: wait for their answers, or end them, before the next one"
            ))
        };
        let sender = self.waiting.take(sender_of(call)?.to_owned().into());
        let sender = sender.ok_or_else(|| too_many("by this connection, or 1024 by all,", WAITING.0))?;
        let user = self.waiting_users.take(self.user(bus, call).await?);
        let user = user.ok_or_else(|| too_many("by this user, or 1024 by all,", WAITING.1))?;
        Ok(Waiting { _sender: sender, _user: user })
    }

    /// The name of the user who sent `call`, or the number of one without a name.
    pub async fn user_name(&self, bus: &Connection, call: &Header<'_>) -> Result<String, Error> {
        Ok(user_name(self.user(bus, call).await?).await)
    }

    async fn user(&self, bus: &Connection, call: &Header<'_>) -> Result<u32, Error> {
        let sender = sender_of(call)?;
        let known = self.remembered().get(sender).copied();
        if let Some(user) = known {
            return Ok(user);
        }
        let user =
            DBusProxy::new(bus).await?.get_connection_unix_user(sender.clone().into()).await.map_err(|error| {
                Error::NotAuthorized(format!("the bus does not know the user of {sender}: {error}"))
            })?;
        let mut users = self.remembered();
        if users.len() >= REMEMBERED {
            users.clear();
        }
        users.insert(sender.to_owned().into(), user);
        Ok(user)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<OwnedUniqueName, u32>> {
        // The map is whole after any panic: every change to it is one call.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of one caller that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    _sender: Place<OwnedUniqueName>,
    _user: Place<u32>,
}

fn sender_of<'c>(call: &'c Header<'_>) -> Result<&'c UniqueName<'c>, Error> {
    call.sender().ok_or_else(|| Error::NotAuthorized("the call has no sender; call through the bus".into()))
}

fn is_trusted(user: u32, own: u32) -> bool {
    user == 0 || user == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_agents_own_user_need_no_polkit() {
        assert!(is_trusted(0, 988));
        assert!(is_trusted(988, 988));
        assert!(!is_trusted(1000, 988));
        assert!(!is_trusted(1000, 0));
    }
}
