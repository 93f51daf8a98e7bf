//! What this process is told while an application runs beside it.

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAction {
    /// End: the sidecar drains, then the application is told the same.
    End(Signal),
    /// For the application alone.
    PassOn(Signal),
}

/// The signals that are heard.
#[derive(Debug)]
pub struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    hangup: unix::Signal,
    user1: unix::Signal,
    user2: unix::Signal,
    /// Ctrl-C reaches every process of a terminal: the application has heard it, and decides what it means.
    at_terminal: bool,
}

impl Signals {
    /// To be called before anything is started that a signal should end.
    pub fn try_new() -> anyhow::Result<Self> {
        let hear = |kind: SignalKind| unix::signal(kind).context("signals cannot be handled");
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            quit: hear(SignalKind::quit())?,
            hangup: hear(SignalKind::hangup())?,
            user1: hear(SignalKind::user_defined1())?,
            user2: hear(SignalKind::user_defined2())?,
            at_terminal: io::stdin().is_terminal(),
        })
    }

    /// The next one that the application has to be told of.
    pub async fn next(&mut self) -> SignalAction {
        loop {
            return tokio::select! {
                _ = self.terminate.recv() => SignalAction::End(Signal::TERM),
                _ = self.interrupt.recv() => if self.at_terminal { continue } else { SignalAction::End(Signal::INT) },
                _ = self.quit.recv() => if self.at_terminal { continue } else { SignalAction::End(Signal::QUIT) },
                _ = self.hangup.recv() => SignalAction::PassOn(Signal::HUP),
                _ = self.user1.recv() => SignalAction::PassOn(Signal::USR1),
                _ = self.user2.recv() => SignalAction::PassOn(Signal::USR2),
            };
        }
    }

    /// The next one that ends this process while no application runs yet.
    pub async fn end(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}
