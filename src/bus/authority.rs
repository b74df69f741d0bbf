//! [`Authority`]: who may do what. Everybody may read; root and the agent's own user may change something.
//!
//! One function decides, so that polkit can join it: it gets the caller's message and the [`Action`], named as in
//! `org.sersync.agent1.policy`. The caller's user comes from the bus, never from the caller.

use super::error::Error;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::OwnedUniqueName;

/// What a caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read state, lists, and wait.
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

/// Decides for one connection to the bus: unique names are not used twice on one bus, but another bus has its own.
#[derive(Debug, Default)]
pub struct Authority {
    users: Mutex<HashMap<OwnedUniqueName, u32>>,
}

impl Authority {
    /// Whether the sender of `call` may do `action`.
    pub async fn authorize(&self, bus: &Connection, call: &Header<'_>, action: Action) -> Result<(), Error> {
        if action == Action::Inspect {
            return Ok(());
        }
        let user = self.user(bus, call).await?;
        if may_manage(user, nix::unistd::geteuid().as_raw()) {
            return Ok(());
        }
        let member = call.member().map(|member| member.to_string()).unwrap_or_default();
        Err(Error::NotAuthorized(format!(
            "user {user} may not call {member} ({}): only root and the agent's own user may; try sudo",
            action.id()
        )))
    }

    async fn user(&self, bus: &Connection, call: &Header<'_>) -> Result<u32, Error> {
        let sender =
            call.sender().ok_or_else(|| Error::NotAuthorized("the call has no sender; call through the bus".into()))?;
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

fn may_manage(user: u32, own: u32) -> bool {
    user == 0 || user == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_agents_own_user_manage() {
        assert!(may_manage(0, 988));
        assert!(may_manage(988, 988));
        assert!(!may_manage(1000, 988));
        assert!(!may_manage(1000, 0));
    }
}
