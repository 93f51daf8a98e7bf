//! A person's shell: one for a whole section, so that what is exported or started stays.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};
use weft_e2e::harness::Place;

/// What stands after the output of each command, with how it ended.
const END: &str = "-- ended with";
/// The longest that a command of the page takes.
const LIMIT: Duration = Duration::from_secs(120);

pub struct Shell {
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    bash: Child,
}

/// What a command did.
#[derive(Debug)]
pub struct Ended {
    pub status: i32,
    /// Both streams, as a terminal shows them.
    pub output: String,
}

impl Shell {
    /// Starts in a directory, at a place.
    pub fn start(place: &Place, dir: &Path) -> anyhow::Result<Self> {
        let mut command = place.command(Path::new("/bin/bash"));
        command.args(["--noprofile", "--norc"]).current_dir(dir);
        for variable in ["WEFT_API", "WEFT_CA", "WEFT_TOKEN", "WEFT_TOKEN_FILE", "WEFT_DATA_DIR"] {
            command.env_remove(variable);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut bash = command.spawn().context("bash")?;
        let input = bash.stdin.take().context("no standard input")?;
        let output = BufReader::new(bash.stdout.take().context("no standard output")?).lines();
        Ok(Self { input, output, bash })
    }

    /// Runs one command to its end.
    pub async fn run(&mut self, command: &str) -> anyhow::Result<Ended> {
        // The command is not to read what comes after it. A comment at its end does not reach beyond the line.
        let words = format!("{{ {command}\n}} </dev/null 2>&1; printf '\\n{END} %s\\n' $?\n");
        self.input.write_all(words.as_bytes()).await?;
        tokio::time::timeout(LIMIT, self.read())
            .await
            .with_context(|| format!("{command}: not ended after {LIMIT:?}"))?
    }

    async fn read(&mut self) -> anyhow::Result<Ended> {
        let mut output = String::new();
        while let Some(line) = self.output.next_line().await? {
            if let Some(status) = line.strip_prefix(END) {
                return Ok(Ended { status: status.trim().parse()?, output: output.trim_end().to_owned() });
            }
            output.push_str(line.trim_end());
            output.push('\n');
        }
        bail!("the shell has ended; before that it said:\n{output}")
    }
}

/// What it has started in the background ends with it.
impl Drop for Shell {
    fn drop(&mut self) {
        let group = self.bash.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        group.map(|group| kill_process_group(group, Signal::KILL).ok());
    }
}
