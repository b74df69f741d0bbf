//! Local users, who may call the agent on the bus.

use crate::siege::Siege;
use crate::ward::INSTANCE;
use sersync::bus::names;
use tokio::runtime::{Builder, Runtime};
use zbus::message::Flags;
use zbus::{Connection, Message};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn connect(address: &str) -> Connection {
    zbus::connection::Builder::address(address).build().await.unwrap()
}

/// A call of the agent's interface.
fn call(member: &'static str) -> zbus::message::Builder<'static> {
    Message::method_call(names::agent_path(INSTANCE), member)
        .destination(names::bus_name(INSTANCE))
        .interface(names::AGENT)
}

/// The name of the error with which the agent answers; empty: it succeeded.
async fn error_of<B>(bus: &Connection, member: &'static str, body: &B) -> String
where
    B: serde::Serialize + zbus::DynamicType + Sync,
{
    let (name, path) = (names::bus_name(INSTANCE), names::agent_path(INSTANCE));
    match bus.call_method(Some(name), path, Some(names::AGENT), member, body).await {
        Ok(_) => String::new(),
        Err(zbus::Error::MethodError(name, ..)) => name.to_string(),
        Err(error) => panic!("{member}: {error}"),
    }
}

#[test]
fn long_messages_are_not_read() {
    let mut siege = Siege::lay(|_| Vec::new());
    let text = "x".repeat(1 << 20);
    let body = (vec![text.as_str(); 31],);
    siege.under("30 calls with 31 MiB each", |address| {
        runtime().block_on(async {
            let bus = connect(address).await;
            for member in ["FullSync", "Retry", "AcceptDeletions"].into_iter().cycle().take(30) {
                assert_eq!(error_of(&bus, member, &body).await, "org.sersync.Error.TooLarge");
            }
            // As many at once, to any object, and signals, which have no answer.
            for _ in 0..10 {
                let flags = Flags::NO_REPLY_EXPECTED;
                bus.send(&call("Retry").with_flags(flags).build(&body).unwrap()).await.unwrap();
                let name = names::bus_name(INSTANCE);
                let signal = Message::signal("/", "org.example.Any", "Thing").destination(name);
                bus.send(&signal.build(&body).unwrap()).await.unwrap();
            }
            assert_eq!(error_of(&bus, "Retry", &(vec!["nowhere"],)).await, "org.sersync.Error.UnknownRemote");
        });
    });
}

#[test]
fn callers_that_wait_are_limited() {
    let mut siege = Siege::lay(|place| vec![Siege::nowhere(place)]);
    siege.under("60,000 calls of WaitSynced, with a remote that is down", |address| {
        runtime().block_on(async {
            let bus = connect(address).await;
            // Without an answer, a bus does not count them.
            for _ in 0..60_000 {
                let flags = Flags::NO_REPLY_EXPECTED;
                bus.send(&call("WaitSynced").with_flags(flags).build(&(0_u64,)).unwrap()).await.unwrap();
            }
            assert_eq!(error_of(&bus, "WaitSynced", &(1_u64,)).await, "org.sersync.Error.TooManyCalls");
            let other = connect(address).await;
            assert_eq!(error_of(&other, "WaitSynced", &(1_u64,)).await, "org.sersync.Error.TimedOut");
        });
    });
}

#[test]
fn callers_that_leave_wait_no_more() {
    let mut siege = Siege::lay(|place| vec![Siege::nowhere(place)]);
    siege.under("400 callers of WaitSynced that leave", |address| {
        runtime().block_on(async {
            for _ in 0..25 {
                let bus = connect(address).await;
                for _ in 0..16 {
                    bus.send(&call("WaitSynced").build(&(0_u64,)).unwrap()).await.unwrap();
                }
                // The bus has delivered them when it answers a call that came later.
                assert_eq!(error_of(&bus, "Retry", &(vec!["nowhere"],)).await, "org.sersync.Error.UnknownRemote");
            }
            let bus = connect(address).await;
            crate::bus::eventually("room for a caller", async || {
                let answer = error_of(&bus, "WaitSynced", &(1_u64,)).await;
                (answer == "org.sersync.Error.TimedOut").then_some(())
            })
            .await;
        });
    });
}
