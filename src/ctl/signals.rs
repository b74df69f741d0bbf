//! [`Signals`]: what one running instance sends, until it leaves the bus.

use super::error::CtlError;
use super::next::Scope;
use super::{Session, done};
use crate::bus::names;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::{MatchRule, Message, MessageStream};

/// The signals of one instance, from the moment of the making on.
pub struct Signals {
    instance: String,
    scope: Scope,
    sent: MessageStream,
    owner: MessageStream,
}

impl Signals {
    /// Listens to a running instance.
    pub async fn of(session: &Session, instance: &str) -> Result<Self, CtlError> {
        let name = names::bus_name(instance);
        let changes = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender("org.freedesktop.DBus")
            .interface("org.freedesktop.DBus")
            .member("NameOwnerChanged")
            .arg(0, name.as_str())
            .build()?;
        let owner = MessageStream::for_match_rule(changes, &session.bus, None).await?;
        let dbus = DBusProxy::new(&session.bus).await?;
        let bus_name = zbus::names::BusName::try_from(name)?;
        let sender = dbus.get_name_owner(bus_name).await.map_err(|error| zbus::Error::from(error).into());
        let sender = done(session, instance, sender).await?;
        let all = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(sender)
            .path_namespace(names::agent_path(instance))
            .build()?;
        let sent = MessageStream::for_match_rule(all, &session.bus, None).await?;
        Ok(Self { instance: instance.to_owned(), scope: session.scope, sent, owner })
    }

    /// The next one. Safe to drop and to call again: nothing is lost between.
    pub async fn next(&mut self) -> Result<Message, CtlError> {
        let gone = || CtlError::Gone(self.scope, self.instance.clone());
        poll_fn(|context| {
            // What it said before it went comes first.
            if let Poll::Ready(message) = Pin::new(&mut self.sent).poll_next(context) {
                return Poll::Ready(message.map_or_else(|| Err(gone()), |message| Ok(message?)));
            }
            Pin::new(&mut self.owner).poll_next(context).map(|_| Err(gone()))
        })
        .await
    }
}
