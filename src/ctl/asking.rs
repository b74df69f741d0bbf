//! [`Asking`]: calls a method, and lets polkit ask for a password when the agent wants one.
//!
//! A call goes out without permission to ask first. Most callers may do what they want, or never may; only for who could
//! after a password polkit's agent is started on the terminal, and the call goes out again. A refused call has changed
//! nothing, so nothing is done twice.

use super::alive::while_alive;
use super::terminal_agent::TerminalAgent;
use crate::bus::Error;
use tokio::sync::OnceCell;
use zbus::Proxy;
use zbus::proxy::MethodFlags;

/// Whether and how a password is asked for, in one run of `sersyncctl`.
#[derive(Debug)]
pub struct Asking {
    is_allowed: bool,
    /// Started at most once. `None`: there is no terminal, or no such agent; a desktop may have one of its own.
    agent: OnceCell<Option<TerminalAgent>>,
}

impl Asking {
    /// `is_allowed` is false with `--no-ask-password`.
    pub fn new(is_allowed: bool) -> Self {
        Self { is_allowed, agent: OnceCell::new() }
    }

    /// Calls `method`. Waits for its answer as long as the agent lives: people type slowly, and a barrier may last for hours.
    pub async fn call<B, R>(&self, proxy: &Proxy<'_>, method: &str, body: &B) -> Result<R, Error>
    where
        B: serde::ser::Serialize + zbus::DynamicType,
        R: for<'d> zbus::wire::DynamicDeserialize<'d>,
    {
        let quietly = MethodFlags::NO_AUTO_START;
        match call(proxy, method, quietly, body).await {
            Err(Error::AuthenticationRequired(_)) if self.is_allowed => {
                self.agent.get_or_init(TerminalAgent::start).await;
                call(proxy, method, quietly | MethodFlags::ALLOW_INTERACTIVE_AUTH, body).await
            }
            answer => answer,
        }
    }
}

async fn call<B, R>(proxy: &Proxy<'_>, method: &str, flags: MethodFlags, body: &B) -> Result<R, Error>
where
    B: serde::ser::Serialize + zbus::DynamicType,
    R: for<'d> zbus::wire::DynamicDeserialize<'d>,
{
    let answer = proxy.call_with_flags(method, flags, body);
    // Only a call that wants no reply is without.
    while_alive(proxy.connection(), proxy.destination(), answer).await??.ok_or(Error::Bus(zbus::Error::InvalidReply))
}
