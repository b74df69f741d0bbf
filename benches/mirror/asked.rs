//! [`Asked`]: the agent as its clients meet it, on a message bus of the stand's own.

use crate::stand::INSTANCE;
use futures_core::Stream;
use sersync::bus::names;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use zbus::OwnedObjectPath;
use zbus::Proxy;

/// See the module.
pub struct Asked {
    runtime: Runtime,
    agent: Proxy<'static>,
}

impl Asked {
    /// The agent that has its name on the bus at `address`.
    pub fn on(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let agent = runtime.block_on(async {
            let connection = zbus::connection::Builder::address(address).build().await?;
            let (name, path) = (names::bus_name(INSTANCE), names::agent_path(INSTANCE));
            Proxy::new(&connection, name, path, names::AGENT).await
        });
        Self { runtime, agent: agent.expect("an agent on the bus") }
    }

    /// The time from the call until the agent tells that it is done.
    pub fn full_sync(&self) -> Duration {
        self.runtime.block_on(async {
            let mut finished = self.agent.receive_signal("FullSyncFinished").await.expect("a bus");
            let start = Instant::now();
            let job: OwnedObjectPath =
                self.agent.call("FullSync", &(Vec::<String>::new(),)).await.expect("a full sync");
            loop {
                let told = std::future::poll_fn(|context| Pin::new(&mut finished).poll_next(context)).await;
                let message = told.expect("a bus that lives");
                let (of, success, result): (OwnedObjectPath, bool, String) =
                    message.body().deserialize().expect("what the interface says");
                if of == job {
                    assert!(success, "{result}");
                    return start.elapsed();
                }
            }
        })
    }
}
