//! The applications of `weft dev`: each in a process group of its own, what it says on standard error.

use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process_group};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use tokio::process::Child;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use super::plan::PlannedApplication;
use crate::args::SidecarFlags;
use crate::lines;
use crate::run::proxy_variables;
use crate::up::processes;

/// How long they may take to end by themselves.
const GRACE: Duration = Duration::from_secs(10);
/// Last lines of one that has ended come through within this time.
const ECHO: Duration = Duration::from_millis(500);

/// All applications of a `weft dev`; they end with the first of them.
#[derive(Debug, Default)]
pub struct Applications(Vec<Application>);

#[derive(Debug)]
struct Application {
    name: String,
    group: Pid,
    child: Child,
    voices: Vec<JoinHandle<()>>,
}

/// One that has ended, and how.
#[derive(Debug)]
pub struct EndedApplication {
    pub name: String,
    pub status: ExitStatus,
}

impl EndedApplication {
    /// As a shell says it.
    pub fn code(&self) -> ExitCode {
        let code = self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0));
        u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

impl Applications {
    /// Starts one. Its lines carry its name, in a column of that width.
    pub fn start(
        &mut self,
        planned: &PlannedApplication,
        sidecar: &SidecarFlags,
        width: usize,
    ) -> anyhow::Result<()> {
        let [program, rest @ ..] = &planned.command[..] else { anyhow::bail!("there is no command") };
        let mut command = processes::bound_to_this_process(Path::new(program));
        command.args(rest).envs(proxy_variables(sidecar));
        let mut command = tokio::process::Command::from(command);
        // Whatever it starts is of the group, and ends with it.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let group =
            child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it has no process id")?;
        let prefix = format!("{:width$} | ", planned.name.as_str());
        let mut voices = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let prefix = prefix.clone();
            voices.push(tokio::spawn(async move { drop(lines::pass_on(stdout, &prefix, 0).await) }));
        }
        if let Some(stderr) = child.stderr.take() {
            voices.push(tokio::spawn(async move { drop(lines::pass_on(stderr, &prefix, 0).await) }));
        }
        self.0.push(Application { name: planned.name.to_string(), group, child, voices });
        Ok(())
    }

    /// The first that has ended, once its last words are out.
    pub async fn ended(&mut self) -> anyhow::Result<Option<EndedApplication>> {
        for application in &mut self.0 {
            if let Some(status) = application.child.try_wait()? {
                let voices = futures::future::join_all(application.voices.drain(..));
                // Something that it started may hold its outputs open.
                let _ = timeout(ECHO, voices).await;
                return Ok(Some(EndedApplication { name: application.name.clone(), status }));
            }
        }
        Ok(None)
    }

    /// Ends all, with whatever they started. Returns the names of those that had to be killed.
    pub async fn end(&mut self) -> Vec<String> {
        for application in &self.0 {
            tell(application.group, Signal::TERM);
        }
        let deadline = Instant::now() + GRACE;
        let mut stubborn = Vec::new();
        for application in &mut self.0 {
            if timeout_at(deadline, application.child.wait()).await.is_err() {
                stubborn.push(application.name.clone());
            }
            // Also what it left behind.
            tell(application.group, Signal::KILL);
            drop(application.child.wait().await);
        }
        self.0.clear();
        stubborn
    }
}

fn tell(group: Pid, signal: Signal) {
    // Nobody of it may be left, which is what was wanted.
    let _ = kill_process_group(group, signal);
}
