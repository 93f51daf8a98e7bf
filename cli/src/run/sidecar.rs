//! The weft-proxy beside an application: started, waited for, drained.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::ChildStderr;
use tokio::task::JoinHandle;
use weft_api::JoinToken;
use weft_api::flags::JOIN_VARIABLE;

use super::children;
use crate::args::SidecarFlags;
use crate::lines;
use crate::up::{binaries, processes};

/// How many of its lines are said again when it ends before the application.
const LAST_WORDS: usize = 12;
/// Settings of `weft` that `weft-proxy` would take for its own, and secrets that are not its business.
const NOT_FOR_IT: [&str; 5] =
    ["WEFT_CONFIG", "WEFT_CONFIG_PATH", "WEFT_JOIN_FILE", "WEFT_TOKEN", "WEFT_TOKEN_FILE"];
/// A question to the admin endpoint has an answer by then, or none.
const ANSWERS: Duration = Duration::from_secs(2);
const LONGEST_ANSWER: u64 = 4096;

/// A sidecar that was started.
#[derive(Debug)]
pub struct RunningSidecar {
    pub pid: Pid,
    admin: SocketAddr,
    said: JoinHandle<VecDeque<String>>,
}

impl RunningSidecar {
    /// Starts it. What it says goes to standard error.
    pub fn start(flags: &SidecarFlags, identity: &Path, token: Option<&JoinToken>) -> anyhow::Result<Self> {
        let program = binaries::find("weft-proxy")?;
        let mut command = processes::bound_to_this_process(&program);
        command.arg("run").args(flags.flags()).arg("--identity-dir").arg(identity);
        command.arg("--log").arg(flags.log.as_deref().unwrap_or("warn"));
        if io::stderr().is_terminal() && std::env::var_os("WEFT_LOG_FORMAT").is_none() {
            command.args(["--log-format", "text"]);
        }
        forget(&mut command, &NOT_FOR_IT);
        match token {
            Some(token) => command.env(JOIN_VARIABLE, token.to_string()),
            None => command.env_remove(JOIN_VARIABLE),
        };
        // A group of its own: it ends after the application, whatever a terminal says to all at once.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let stderr = child.stderr.take().context("a pipe was asked for")?;
        let said = tokio::spawn(lines::pass_on(ChildStderr::from_std(stderr)?, "", LAST_WORDS));
        Ok(Self { pid: children::pid(&child)?, admin: reachable(flags.admin()), said })
    }

    /// Whether it serves its first configuration.
    pub async fn is_ready(&self) -> bool {
        let answer = tokio::time::timeout(ANSWERS, ask(self.admin, "GET /ready")).await;
        answer.is_ok_and(|answer| answer.is_ok_and(|text| text.starts_with("HTTP/1.1 200 ")))
    }

    /// Has it say goodbye and take nothing new from others, until what they asked for is answered. The application's own
    /// calls go on. One that does not answer has nothing to wait for.
    pub async fn drain_inbound(&self) {
        let _ = ask(self.admin, "POST /drain_listeners?graceful&inboundonly&wait").await;
    }

    /// What it said before it ended.
    pub async fn last_words(self) -> String {
        let said = tokio::time::timeout(ANSWERS, self.said).await;
        let said = said.ok().and_then(Result::ok).unwrap_or_default();
        said.iter().map(|line| format!("\n  {line}")).collect()
    }
}

/// Starts a process without these variables.
pub fn forget(command: &mut Command, variables: &[&str]) {
    for variable in variables {
        command.env_remove(variable);
    }
}

/// Where something that listens there is found on this machine.
pub fn reachable(listens: SocketAddr) -> SocketAddr {
    match listens.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, listens.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, listens.port()).into(),
        _ => listens,
    }
}

/// Asks an admin endpoint; the whole answer, head and body.
pub async fn ask(admin: SocketAddr, what: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let request =
        format!("{what} HTTP/1.1\r\nhost: {admin}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
