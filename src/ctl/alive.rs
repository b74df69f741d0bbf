//! [`while_alive`]: stops waiting for an agent that hangs.
//!
//! An answer may take long without anything being wrong: a person types a password, a barrier waits for a remote. An agent
//! that lives answers a ping meanwhile; one that hangs or is stopped does not.

use std::io;
use std::pin::pin;
use std::time::Duration;
use zbus::Connection;
use zbus::names::BusName;

/// Time without an answer after which the agent is pinged, again and again.
const PING_AFTER: Duration = Duration::from_secs(20);

/// Maximum time for the answer to a ping. Together: 30 s.
const PING_TIME: Duration = Duration::from_secs(10);

/// Waits for `answer` of the agent with the name `agent` on the bus, as long as that agent lives.
///
/// # Errors
///
/// The agent hangs: [`is_timeout`].
pub async fn while_alive<T>(
    bus: &Connection,
    agent: &BusName<'_>,
    answer: impl Future<Output = T>,
) -> Result<T, zbus::Error> {
    let mut answer = pin!(answer);
    loop {
        if let Ok(answer) = tokio::time::timeout(PING_AFTER, &mut answer).await {
            return Ok(answer);
        }
        let ping = bus.call_method(Some(agent), "/", Some("org.freedesktop.DBus.Peer"), "Ping", &());
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer),
            // An error is an answer, too: that of the bus, for an agent that has gone. `answer` knows more then.
            pong = tokio::time::timeout(PING_TIME, ping) => if pong.is_err() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            },
        }
    }
}

/// Whether an error means that the time for an answer is over.
pub fn is_timeout(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::InputOutput(error) if error.kind() == io::ErrorKind::TimedOut)
}
