//! `org.freedesktop.LogControl1`: lets `systemctl service-log-level` and `service-log-target` change the level and
//! the target while the agent runs. The interface is systemd's, org.freedesktop.LogControl1(5).

use super::authority::Authority;
use super::error::Error;
use crate::service::log::LogControl;
use std::sync::Arc;
use zbus::message::Header;
use zbus::{Connection, interface};

/// The object at [`super::names::LOG_CONTROL_PATH`].
pub struct LogControlObject {
    pub(super) log: LogControl,
    pub(super) authority: Arc<Authority>,
}

#[interface(name = "org.freedesktop.LogControl1", introspection_docs = false)]
impl LogControlObject {
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_level(&self) -> String {
        self.log.level().to_owned()
    }

    #[zbus(property)]
    async fn set_log_level(
        &self,
        level: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Option<Header<'_>>,
    ) -> Result<(), Error> {
        if let Some(call) = call {
            self.authority.authorize_setting(bus, &call, "LogLevel").await?;
        }
        self.log.set_level(&level).map_err(|error| Error::InvalidValue(error.to_string()))
    }

    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> &'static str {
        self.log.target()
    }

    #[zbus(property)]
    async fn set_log_target(
        &self,
        target: String,
        #[zbus(connection)] bus: &Connection,
        #[zbus(header)] call: Option<Header<'_>>,
    ) -> Result<(), Error> {
        if let Some(call) = call {
            self.authority.authorize_setting(bus, &call, "LogTarget").await?;
        }
        self.log.set_target(&target).map_err(|error| Error::InvalidValue(error.to_string()))
    }

    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> String {
        self.log.identifier()
    }
}
