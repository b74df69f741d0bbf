//! The plugin `socket`, as sersync 2.5.4 had it: connect, send the absolute path, close. No newline follows it.

use super::target::{CallError, News};
use crate::config::SocketPlugin;
use std::os::unix::ffi::OsStrExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A TCP server that takes one path for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Socket(pub SocketPlugin);

impl Socket {
    pub fn address(&self) -> String {
        let SocketPlugin { host, port, .. } = &self.0;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    pub async fn send(&self, news: &News) -> Result<(), CallError> {
        let down = |error: std::io::Error| CallError::down(format!("{}: {error}", self.address()));
        let host = self.0.host.trim_start_matches('[').trim_end_matches(']');
        let mut stream = TcpStream::connect((host, self.0.port)).await.map_err(down)?;
        stream.write_all(news.absolute.as_os_str().as_bytes()).await.map_err(down)?;
        stream.shutdown().await.map_err(down)
    }
}
