//! The processes that this one started, and those that it inherits.
//!
//! Process 1 of a container becomes the parent of every process whose own parent is gone, and has to wait for it, or it
//! stays in the process table for good. So all children are waited for in one place, and those of nobody are let go.

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{self, SignalKind};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessEnd {
    Exited(u8),
    Killed(u8),
}

impl ProcessEnd {
    fn of(status: WaitStatus) -> Self {
        let low_byte = |number: i32| number.to_le_bytes()[0];
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(low_byte(code)),
            (None, signal) => Self::Killed(signal.map_or(0, low_byte)),
        }
    }

    /// As a shell says it.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => signal.saturating_add(128),
        }
    }
}

impl From<ProcessEnd> for ExitCode {
    fn from(end: ProcessEnd) -> Self {
        end.code().into()
    }
}

impl std::fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exit code {code}"),
            Self::Killed(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// All children of this process. Nobody else may wait for one.
#[derive(Debug)]
pub struct Children(unix::Signal);

impl Children {
    /// To be called before the first child is started.
    pub fn try_new() -> anyhow::Result<Self> {
        unix::signal(SignalKind::child()).map(Self).context("SIGCHLD")
    }

    /// Waits until one ends. Nothing is lost when this is not waited for to its end.
    pub async fn next(&mut self) -> (Pid, ProcessEnd) {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => return (pid, ProcessEnd::of(status)),
                Err(Errno::INTR) => {}
                // None has ended, or there is none.
                Ok(None) | Err(_) => drop(self.0.recv().await),
            }
        }
    }

    /// Waits until that one ends.
    pub async fn end_of(&mut self, wanted: Pid) -> ProcessEnd {
        loop {
            let (pid, end) = self.next().await;
            if pid == wanted {
                return end;
            }
        }
    }
}

/// The id of a process that was just started.
pub fn pid(child: &std::process::Child) -> io::Result<Pid> {
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("a process without an id"))
}

/// Sends a signal to a process that was not waited for yet.
pub fn tell(pid: Pid, signal: Signal) {
    // It may have ended meanwhile, which is what most signals want.
    let _ = kill_process(pid, signal);
}
