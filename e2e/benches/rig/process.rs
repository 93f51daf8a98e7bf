//! A process under measurement: where it runs, what it used, how much memory it holds.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long a peer may take until it answers.
const STARTS: Duration = Duration::from_secs(20);

/// A program bound to one processor; killed when dropped.
#[derive(Debug)]
pub struct PinnedProcess {
    child: Child,
    log: PathBuf,
}

impl PinnedProcess {
    /// Starts `program` on `processor`; its output goes to `DIR/NAME.log`.
    pub fn start(
        dir: &Path,
        name: &str,
        processor: usize,
        program: &Path,
        args: &[&str],
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log)?;
        // Both exec, so that the child's id is the program's.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "taskset", "-c", &processor.to_string()]);
        command.arg(program).args(args).current_dir(dir).stdin(Stdio::null());
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("{name}: {}", program.display()))?;
        Ok(Self { child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `GET path` on `port` answers 200.
    pub fn answers(&mut self, port: u16, path: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + STARTS;
        loop {
            let answer = get(port, path);
            if answer.as_ref().is_ok_and(|head| head.starts_with("HTTP/1.1 200")) {
                return Ok(());
            }
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} does not answer {path} on port {port} ({answer:?}):\n{said}", self.log.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Nanoseconds on a processor since its start, of all its threads.
    pub fn cpu_nanos(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let on_cpu = text.split_whitespace().next().context("schedstat is empty")?;
            sum += on_cpu.parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Resident memory in MiB.
    pub fn resident(&self) -> anyhow::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for PinnedProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut head = [0; 64];
    let n = stream.read(&mut head)?;
    Ok(String::from_utf8_lossy(&head[..n]).into_owned())
}
