//! The processes of a local mesh: started with a log each, watched, and ended without a trace.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// All processes, in the order in which they were started.
pub struct Processes {
    logs: PathBuf,
    members: Vec<ChildProcess>,
}

struct ChildProcess {
    name: String,
    log: PathBuf,
    child: Child,
}

impl Processes {
    /// Logs go to files in a directory.
    pub fn try_new(logs: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(logs).with_context(|| logs.display().to_string())?;
        Ok(Self { logs: logs.to_owned(), members: Vec::new() })
    }

    /// Where the logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Starts a process. `arrange` gives it arguments and environment.
    pub fn start(
        &mut self,
        name: &str,
        program: &Path,
        arrange: impl FnOnce(&mut Command),
    ) -> anyhow::Result<()> {
        let log = self.logs.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        let mut command = bound_to_this_process(program);
        arrange(&mut command);
        let mut command = tokio::process::Command::from(command);
        // A group of its own: Ctrl-C in the terminal reaches this program only, which ends the others in order.
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        self.members.push(ChildProcess { name: name.to_owned(), log, child });
        Ok(())
    }

    /// Fails when a process has ended, with its last words.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.members.iter_mut().try_for_each(ChildProcess::check)
    }

    /// Fails when the first one, the control plane, has ended. Of the others, says which have and where their logs are.
    pub fn fallen(&mut self) -> anyhow::Result<Vec<String>> {
        let Some((first, others)) = self.members.split_first_mut() else { return Ok(Vec::new()) };
        first.check()?;
        let mut fallen = Vec::new();
        for member in others {
            if let Some(status) = member.child.try_wait()? {
                fallen.push(format!("{} has ended ({status}): {}", member.name, member.log.display()));
            }
        }
        Ok(fallen)
    }

    /// Ends all, and the first one (the control plane) only when the others are gone, so that they can say goodbye.
    /// Returns the names of those that had to be killed.
    pub async fn end(&mut self) -> Vec<String> {
        let mut others = self.members.split_off(self.members.len().min(1));
        let mut stubborn = end_together(&mut others).await;
        stubborn.extend(end_together(&mut self.members).await);
        self.members.clear();
        stubborn
    }
}

impl ChildProcess {
    fn check(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let (name, log) = (&self.name, self.log.display());
        bail!("{name} ended ({status}). Its last words, from {log}:\n{}", last_lines(&self.log, 12))
    }
}

async fn end_together(members: &mut [ChildProcess]) -> Vec<String> {
    for member in members.iter() {
        signal(member, Signal::TERM);
    }
    let deadline = tokio::time::Instant::now() + GRACE;
    let mut stubborn = Vec::new();
    for member in members {
        if tokio::time::timeout_at(deadline, member.child.wait()).await.is_err() {
            signal(member, Signal::KILL);
            drop(member.child.wait().await);
            stubborn.push(member.name.clone());
        }
    }
    stubborn
}

fn signal(member: &ChildProcess, signal: Signal) {
    let pid = member.child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(pid) = pid {
        // It may have ended meanwhile, which is what was wanted.
        let _ = kill_process(pid, signal);
    }
}

/// Where util-linux is there, the kernel ends the process even when this one is killed outright.
pub fn bound_to_this_process(program: &Path) -> Command {
    let setpriv = Path::new("/usr/bin/setpriv");
    if setpriv.is_file() {
        let mut command = Command::new(setpriv);
        command.args(["--pdeathsig", "TERM", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// The end of a log.
pub fn last_lines(log: &Path, count: usize) -> String {
    let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| format!("  {line}\n")).collect()
}
