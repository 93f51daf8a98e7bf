//! `weft run`: one application beside its sidecar, under one process.
//!
//! ```text
//! token ──▶ sidecar ──▶ ready ──▶ application, with HTTP_PROXY
//!
//! SIGTERM           ──▶ sidecar says goodbye, answers what was asked ──▶ application is told ──▶ sidecar ends
//! application ends  ──▶ sidecar ends ──▶ exit with the application's code
//! sidecar ends      ──▶ application is told to end ──▶ exit 1
//! ```
//!
//! The application serves until the last request that was let in is answered, and its own calls go on until it has ended.
//! Works as process 1 of a container.

mod children;
mod entry;
mod sidecar;
mod signals;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tokio::time::{MissedTickBehavior, interval, timeout};
use weft_api::client::ApiClient;
use weft_api::flags::{EX_USAGE, JOIN_VARIABLE};

pub use entry::find_program;
pub use sidecar::ask;

use crate::args::{Run, SidecarFlags};
use crate::commands::bootstrap::Membership;
use crate::up::processes;
use children::{Children, ProcessEnd, tell};
use entry::Home;
use sidecar::{RunningSidecar, reachable};
use signals::{SignalAction, Signals};

/// Between two looks at a sidecar that is starting.
const LOOK: Duration = Duration::from_millis(50);
/// A sidecar cuts what is in flight before this is over.
const SIDECAR_ENDS: Duration = Duration::from_secs(35);
/// What an application has to end when its sidecar is gone.
const APPLICATION_ENDS: Duration = Duration::from_secs(10);
/// Secrets that are none of the application's business.
const NOT_FOR_APPLICATIONS: [&str; 2] = [JOIN_VARIABLE, "WEFT_TOKEN"];

/// Runs until the application has ended, and exits with its code.
pub async fn run(client: impl FnOnce() -> anyhow::Result<ApiClient>, args: Run) -> anyhow::Result<ExitCode> {
    let program = args.command.first().context("there is no command")?;
    if let Err(missing) = find_program(program) {
        eprintln!("weft: {missing}");
        return Ok(missing.code().into());
    }
    entry::ensure_free(args.sidecar.admin())?;
    let home = Home::new(args.sidecar.identity_dir.as_deref())?;
    let token = entry::token(client, &args, &home).await?;
    let (mut children, mut signals) = (Children::try_new()?, Signals::try_new()?);
    let sidecar = RunningSidecar::start(&args.sidecar, home.path(), token.as_ref())?;
    match until_ready(&sidecar, &mut children, &mut signals).await {
        Start::Ready => {}
        Start::Failed(end) => {
            // What it said stands right above.
            eprintln!(
                "weft: the sidecar ended ({end}) before it was ready, and the application was not started"
            );
            return Ok(if end == ProcessEnd::Exited(EX_USAGE) { end.into() } else { ExitCode::FAILURE });
        }
        Start::Signalled(signal) => {
            end_sidecar(sidecar.pid, &mut children, &mut signals).await;
            return Ok(ended_by(signal));
        }
    }
    greet(home.path(), &args.sidecar);
    let application = match start(&args) {
        Ok(application) => application,
        Err(error) => {
            end_sidecar(sidecar.pid, &mut children, &mut signals).await;
            return Err(error);
        }
    };
    let mut pair = RunningPair { children, signals, sidecar, application };
    match pair.serve(args.drain_time).await {
        FirstEnd::Application(end) => {
            end_sidecar(pair.sidecar.pid, &mut pair.children, &mut pair.signals).await;
            Ok(end.into())
        }
        FirstEnd::Sidecar(end) => {
            pair.end_application(end).await;
            Ok(ExitCode::FAILURE)
        }
    }
}

enum Start {
    Ready,
    Failed(ProcessEnd),
    Signalled(Signal),
}

/// However long the control plane is away.
async fn until_ready(sidecar: &RunningSidecar, children: &mut Children, signals: &mut Signals) -> Start {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            (pid, end) = children.next() => if pid == sidecar.pid { return Start::Failed(end) },
            signal = signals.end() => return Start::Signalled(signal),
            ready = async { looks.tick().await; sidecar.is_ready().await } => if ready { return Start::Ready },
        }
    }
}

/// Who is in the mesh now, and how it reaches others.
fn greet(identity: &Path, flags: &SidecarFlags) {
    if let Ok(Membership { workload, service, .. }) = Membership::read(identity) {
        let outbound = reachable(flags.outbound());
        eprintln!(
            "weft: {workload} serves {service}, and calls others through http://{outbound} (HTTP_PROXY)"
        );
    }
}

fn start(args: &Run) -> anyhow::Result<Pid> {
    let [program, rest @ ..] = &args.command[..] else { anyhow::bail!("there is no command") };
    // In the group of this process: it may read from the terminal.
    let mut command = processes::bound_to_this_process(Path::new(program));
    command.args(rest).envs(proxy_variables(&args.sidecar));
    sidecar::forget(&mut command, &NOT_FOR_APPLICATIONS);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
    Ok(children::pid(&child)?)
}

/// What tells an application to call others through its sidecar, and itself without.
pub fn proxy_variables(flags: &SidecarFlags) -> [(&'static str, String); 4] {
    let proxy = format!("http://{}", reachable(flags.outbound()));
    let loopback = "localhost,127.0.0.1,127.0.0.0/8,::1";
    let direct = ["NO_PROXY", "no_proxy"].into_iter().find_map(|name| std::env::var(name).ok());
    let direct = match direct.filter(|hosts| !hosts.is_empty()) {
        Some(hosts) => format!("{hosts},{loopback}"),
        None => loopback.to_owned(),
    };
    [("HTTP_PROXY", proxy.clone()), ("http_proxy", proxy), ("NO_PROXY", direct.clone()), ("no_proxy", direct)]
}

fn ended_by(signal: Signal) -> ExitCode {
    ProcessEnd::Killed(signal.as_raw().to_le_bytes()[0]).into()
}

async fn end_sidecar(pid: Pid, children: &mut Children, signals: &mut Signals) {
    tell(pid, Signal::TERM);
    let ended = async {
        loop {
            tokio::select! {
                _ = children.end_of(pid) => return,
                // Told twice, it ends at once.
                _ = signals.end() => tell(pid, Signal::TERM),
            }
        }
    };
    if timeout(SIDECAR_ENDS, ended).await.is_err() {
        eprintln!("weft: the sidecar did not end and is killed");
        tell(pid, Signal::KILL);
        children.end_of(pid).await;
    }
}

/// An application and its sidecar, both running.
struct RunningPair {
    children: Children,
    signals: Signals,
    sidecar: RunningSidecar,
    application: Pid,
}

/// Which of the two processes ended first, and how.
enum FirstEnd {
    Application(ProcessEnd),
    Sidecar(ProcessEnd),
}

impl RunningPair {
    /// Until one of both has ended.
    async fn serve(&mut self, drain_time: Duration) -> FirstEnd {
        let signal = loop {
            tokio::select! {
                (pid, end) = self.children.next() => if let Some(outcome) = self.outcome(pid, end) { return outcome },
                told = self.signals.next() => match told {
                    SignalAction::PassOn(signal) => tell(self.application, signal),
                    SignalAction::End(signal) => break signal,
                },
            }
        };
        if let Some(outcome) = self.drain(drain_time).await {
            return outcome;
        }
        tell(self.application, signal);
        loop {
            tokio::select! {
                (pid, end) = self.children.next() => if let Some(outcome) = self.outcome(pid, end) { return outcome },
                SignalAction::PassOn(signal) | SignalAction::End(signal) = self.signals.next() => tell(self.application, signal),
            }
        }
    }

    /// The sidecar drains while the application still answers. Whoever says it twice does not want to wait.
    async fn drain(&mut self, limit: Duration) -> Option<FirstEnd> {
        let application = self.application;
        let drained = timeout(limit, self.sidecar.drain_inbound());
        tokio::pin!(drained);
        loop {
            tokio::select! {
                _ = &mut drained => return None,
                (pid, end) = self.children.next() => {
                    let outcome = outcome(application, self.sidecar.pid, pid, end);
                    if outcome.is_some() {
                        return outcome;
                    }
                }
                told = self.signals.next() => match told {
                    SignalAction::PassOn(signal) => tell(application, signal),
                    SignalAction::End(_) => return None,
                },
            }
        }
    }

    fn outcome(&self, pid: Pid, end: ProcessEnd) -> Option<FirstEnd> {
        outcome(self.application, self.sidecar.pid, pid, end)
    }

    /// Without its sidecar the application is cut off: better that whoever watches this process starts both again.
    async fn end_application(mut self, of_sidecar: ProcessEnd) {
        let said = self.sidecar.last_words().await;
        eprintln!(
            "weft: the sidecar ended ({of_sidecar}), and so the application is told to end. Its last words:{said}"
        );
        tell(self.application, Signal::TERM);
        if timeout(APPLICATION_ENDS, self.children.end_of(self.application)).await.is_err() {
            eprintln!("weft: the application did not end and is killed");
            tell(self.application, Signal::KILL);
            self.children.end_of(self.application).await;
        }
    }
}

fn outcome(application: Pid, sidecar: Pid, ended: Pid, end: ProcessEnd) -> Option<FirstEnd> {
    if ended == application {
        Some(FirstEnd::Application(end))
    } else {
        (ended == sidecar).then_some(FirstEnd::Sidecar(end))
    }
}
