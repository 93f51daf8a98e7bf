//! A process with a log file, which ends when it is dropped and when the test is killed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Place, until};

/// Ends a program when the process that started it is gone, however it went. Part of util-linux, which every Debian has.
const BIND_TO_PARENT: &str = "/usr/bin/setpriv";
const TAIL: usize = 30;

/// A running program.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts a program; its output goes to `DIR/NAME.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        dir: &Path,
        name: &str,
        program: &Path,
        arrange: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        Self::start_at(&Place::here(), dir, name, program, arrange)
    }

    /// Starts a program somewhere else than the test runs.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_at(
        place: &Place,
        dir: &Path,
        name: &str,
        program: &Path,
        arrange: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        // Entering a place changes credentials, which would undo the binding: it comes after.
        let bound = [BIND_TO_PARENT, "--pdeathsig", "KILL", "--"].map(OsStr::new);
        let mut words = place.prefix().iter().map(OsString::as_os_str).chain(bound);
        let mut command = Command::new(words.next().context("no program")?);
        command.args(words).arg(program);
        arrange(&mut command);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{}: {}", name, program.display()))?;
        Ok(Self { name: name.to_owned(), log, child })
    }

    /// Fails with the last words when it has ended.
    ///
    /// # Errors
    /// When it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, tail(&self.log, TAIL)),
            None => Ok(()),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        // It may have ended meanwhile.
        pid.map(|pid| kill_process(pid, signal).ok());
    }

    /// Asks it to end, and waits.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn end(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let what = format!("{} ends on SIGTERM", self.name);
        until(&what, limit, async || self.child.try_wait()?.context("it still runs")).await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        until(&what, limit, async || self.child.try_wait()?.context("it still runs")).await
    }

    /// Kills it, as a machine that loses power does.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it says what it says.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.log)
    }

    pub(super) fn kill_now(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// The ends of all logs in a directory, for a test that failed.
#[must_use]
pub fn tails(dir: &Path) -> String {
    let mut logs: Vec<PathBuf> = dir.read_dir().into_iter().flatten().flatten().map(|e| e.path()).collect();
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    logs.iter().map(|log| format!("---- {}\n{}", log.display(), tail(log, TAIL))).collect()
}

fn tail(log: &Path, count: usize) -> String {
    let text = read(log);
    let lines: Vec<&str> = text.lines().collect();
    let cut = |line: &&str| line.chars().take(400).chain(['\n']).collect::<String>();
    lines[lines.len().saturating_sub(count)..].iter().map(cut).collect()
}

fn read(log: &Path) -> String {
    std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
