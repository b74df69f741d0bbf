//! [`Polkit`]: asks polkit whether a caller may do something, and has it ask the caller for a password when it must.
//!
//! A question is put without interaction first; that answer comes at once, or polkit counts as absent. Only when a
//! password is wanted and the caller allowed it does a second question wait for people: until they answer, until the
//! caller leaves the bus, or [`PATIENCE`]. Each caller's questions wait in that caller's own tasks, and no user has more
//! than [`QUESTIONS_AT_ONCE`] of them, so that nobody can use up what others need. Nothing is remembered here:
//! polkit itself remembers who has authenticated.

use super::limit::Limit;
use crate::aside::aside;
use futures_core::Stream;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::UniqueName;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus_polkit::policykit1::{AuthorityProxy, AuthorizationResult, CheckAuthorizationFlags, Subject};

/// polkit answers from memory, but it may have to be started first.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Who has not typed a password by then is not there.
const PATIENCE: Duration = Duration::from_secs(300);

/// So many questions about one user may wait for an answer.
const QUESTIONS_AT_ONCE: usize = 16;

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The caller may.
    Yes,
    /// The caller may not, whoever they are.
    No,
    /// The caller may after a password, and did not allow to be asked for it.
    PasswordWanted,
    /// The caller may after a password, and there is nobody who could ask for it, or it was not given.
    NotAuthenticated,
    /// Too many questions about this user wait already.
    TooMany,
    /// polkit is not there, or does not answer; the text says which.
    Absent(String),
}

/// What is to be known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// The bus on which the call came.
    pub bus: &'a Connection,
    /// The call; its sender is the one who wants something.
    pub call: &'a Header<'a>,
    /// The sender's user.
    pub user: u32,
    /// The action's name in org.sersync.agent1.policy.
    pub action: &'static str,
    /// The instance, which rules and texts can name.
    pub instance: &'a str,
    /// Whether the sender may be asked for a password.
    pub interactive: bool,
}

/// polkit, as one instance asks it.
#[derive(Debug)]
pub(super) struct Polkit {
    waiting: Limit<u32>,
    cancellations: AtomicU64,
}

impl Default for Polkit {
    fn default() -> Self {
        Self { waiting: Limit::new(QUESTIONS_AT_ONCE, usize::MAX), cancellations: AtomicU64::default() }
    }
}

impl Polkit {
    /// Puts the question, and waits for the answer.
    pub async fn ask(&self, question: Question<'_>) -> Answer {
        let Some(_place) = self.waiting.take(question.user) else { return Answer::TooMany };
        match tokio::time::timeout(ANSWER_TIME, self.check(question, "")).await {
            Err(_) => Answer::Absent(format!("it did not answer within {} s", ANSWER_TIME.as_secs())),
            Ok(Err(error)) => Answer::Absent(error.to_string()),
            Ok(Ok(result)) if result.is_authorized => Answer::Yes,
            Ok(Ok(result)) if !result.is_challenge => Answer::No,
            Ok(Ok(_)) if !question.interactive => Answer::PasswordWanted,
            Ok(Ok(_)) => self.ask_people(question).await,
        }
    }

    async fn ask_people(&self, question: Question<'_>) -> Answer {
        let id = format!("sersync-{}", self.cancellations.fetch_add(1, Ordering::Relaxed));
        tokio::select! {
            result = self.check(question, &id) => match result {
                Ok(result) if result.is_authorized => Answer::Yes,
                Ok(_) => Answer::NotAuthenticated,
                Err(error) => Answer::Absent(error.to_string()),
            },
            // Who has left hears no answer; polkit takes its question back.
            () = left(question.bus, question.call.sender()) => {
                self.cancel(question.bus, &id).await;
                Answer::NotAuthenticated
            }
            () = tokio::time::sleep(PATIENCE) => {
                self.cancel(question.bus, &id).await;
                Answer::NotAuthenticated
            }
        }
    }

    /// With a cancellation id, people are asked.
    async fn check(&self, question: Question<'_>, cancellation: &str) -> zbus::Result<AuthorizationResult> {
        let subject =
            Subject::new_for_message_header(question.call).map_err(|error| zbus::Error::Failure(error.to_string()))?;
        let flags = match cancellation {
            "" => CheckAuthorizationFlags::empty(),
            _ => CheckAuthorizationFlags::ALLOW_USER_INTERACTION,
        };
        let user = user_name(question.user).await;
        let details = HashMap::from([("instance", question.instance), ("user", user.as_str())]);
        let body = (subject, question.action, details, flags, cancellation);
        let polkit = authority(question.bus).await?;
        // Not its method `check_authorization`: the connection's time limit is too short for people.
        let result = polkit.inner().call_with_flags("CheckAuthorization", MethodFlags::empty(), &body).await?;
        // Only a call that wants no reply is without.
        result.ok_or(zbus::Error::InvalidReply)
    }

    async fn cancel(&self, bus: &Connection, cancellation: &str) {
        let cancelling = async { authority(bus).await?.cancel_check_authorization(cancellation).await };
        if let Err(error) = cancelling.await {
            tracing::debug!(%error, "a question to polkit could not be taken back");
        }
    }
}

/// Name of a user, or the number of one without a name. A server of the network may be asked for it.
pub(super) async fn user_name(user: u32) -> String {
    let known = aside(move || nix::unistd::User::from_uid(user.into())).await;
    known.ok().and_then(Result::ok).flatten().map_or_else(|| user.to_string(), |known| known.name)
}

async fn authority(bus: &Connection) -> zbus::Result<AuthorityProxy<'static>> {
    AuthorityProxy::builder(bus).cache_properties(CacheProperties::No).build().await
}

/// Returns when `sender` has left the bus. Without a bus that reports it, never.
///
/// All callers share one subscription: a bus allows a connection 512 of them.
pub(super) async fn left(bus: &Connection, sender: Option<&UniqueName<'_>>) {
    let gone = async {
        let sender: &UniqueName<'_> = sender.ok_or(zbus::Error::MissingField)?;
        let bus = DBusProxy::new(bus).await?;
        let mut changes = pin!(bus.receive_name_owner_changed_with_args(&[(2, "")]).await?);
        // It may have left before the subscription. Signals are taken in meanwhile: 64 of them that wait would keep the
        // answer back.
        let mut owned = pin!(bus.name_has_owner(sender.clone().into()));
        let mut is_answered = false;
        loop {
            tokio::select! {
                change = poll_fn(|context| Stream::poll_next(changes.as_mut(), context)) => match change {
                    Some(change) if change.args()?.name() != sender.as_str() => {}
                    _ => return Ok::<_, zbus::Error>(()),
                },
                is_there = &mut owned, if !is_answered => {
                    is_answered = true;
                    if !is_there? {
                        return Ok(());
                    }
                }
            }
        }
    };
    if gone.await.is_err() {
        std::future::pending::<()>().await;
    }
}
