//! The supervisor of a service, as far as the service can tell: a socket that hears what it says of itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixDatagram;
use tokio::time::Instant;

/// Hears one service.
#[derive(Debug)]
pub struct SupervisorSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl SupervisorSocket {
    /// Listens on `DIR/NAME.notify`.
    ///
    /// # Errors
    /// When that cannot be bound.
    pub fn listen(dir: &Path, name: &str) -> anyhow::Result<Self> {
        let path = dir.join(format!("{name}.notify"));
        let socket = UnixDatagram::bind(&path).with_context(|| path.display().to_string())?;
        Ok(Self { socket, path })
    }

    /// Tells a program about itself, and how long it may be silent.
    pub fn watch(&self, command: &mut Command, silence: Duration) {
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", silence.as_micros().to_string());
    }

    /// Waits until something is said that begins so; returns all that was said before.
    ///
    /// # Errors
    /// When it is not said in time; the text tells what was.
    pub async fn hears(&self, beginning: &str, limit: Duration) -> anyhow::Result<Vec<String>> {
        let deadline = Instant::now() + limit;
        let mut before = Vec::new();
        loop {
            let mut bytes = [0; 1024];
            let heard = tokio::time::timeout_at(deadline, self.socket.recv(&mut bytes)).await;
            let late = || format!("no {beginning:?} within {limit:?}: {before:?}");
            let length = heard.with_context(late)??;
            let said = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if said.starts_with(beginning) {
                return Ok(before);
            }
            before.push(said);
        }
    }
}
