//! Peers in turns, and what each turn cost.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use super::build::Build;
use super::load::{self, Seen};
use super::origin::Size;
use super::process::PinnedProcess;

/// How long and how often; `cargo bench … -- --rounds 9 --seconds 4`.
#[derive(Debug, Clone, Parser)]
pub struct Effort {
    /// Turns of each peer; medians are over them.
    #[arg(long, default_value_t = 7)]
    pub rounds: usize,
    /// Seconds a turn.
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    /// Another build of weft-proxy that takes part, as one of the commit before; may be repeated
    #[arg(long, value_name = "NAME=PATH")]
    pub proxy: Vec<Build>,
    /// Put the table into BENCHMARKS.md.
    #[arg(long)]
    pub write: bool,
    /// cargo passes it.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One way from the load to the origin.
#[derive(Debug)]
pub struct Peer {
    /// Its name in the table.
    pub name: String,
    /// Where the load goes.
    pub port: u16,
    /// All processes on the way.
    pub processes: Vec<PinnedProcess>,
}

/// What one turn cost.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// CPU microseconds a request, of all the peer's processes together.
    pub cpu: f64,
    /// What the load saw.
    pub seen: Seen,
}

/// All turns of one peer with one size of answers.
#[derive(Debug)]
pub struct Row {
    /// The peer's name.
    pub peer: String,
    /// How large the answers were.
    pub size: Size,
    /// One for each round.
    pub turns: Vec<Turn>,
    /// System calls a request; none where they could not be counted.
    pub calls: Option<f64>,
    /// Resident MiB of all processes before any load.
    pub idle: f64,
    /// Resident MiB after the rounds.
    pub loaded: f64,
}

impl Peer {
    fn cpu_nanos(&self) -> anyhow::Result<u64> {
        self.processes.iter().map(PinnedProcess::cpu_nanos).sum()
    }

    fn resident(&self) -> anyhow::Result<f64> {
        self.processes.iter().map(PinnedProcess::resident).sum()
    }

    fn turn(&self, size: Size, seconds: u64) -> anyhow::Result<Turn> {
        let before = self.cpu_nanos()?;
        let seen = load::run(self.port, size, seconds).with_context(|| self.name.clone())?;
        let spent = self.cpu_nanos()? - before;
        Ok(Turn { cpu: spent as f64 / 1000.0 / seen.requests as f64, seen })
    }

    /// Counts in the kernel, by perf; the peer is not slowed down much, so it batches as it always does.
    fn calls(&self, dir: &Path, size: Size) -> anyhow::Result<Option<f64>> {
        let ids: Vec<String> = self.processes.iter().map(|process| process.id().to_string()).collect();
        let counts = dir.join("calls");
        let counting = Command::new("perf")
            .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-o"])
            .arg(&counts)
            .args(["-p", &ids.join(","), "--", "sleep", "4"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut counting) = counting else { return Ok(None) };
        std::thread::sleep(Duration::from_millis(500));
        let seen = load::run(self.port, size, 2)?;
        if !counting.wait()?.success() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&counts)?;
        let count =
            text.lines().find(|line| line.contains("sys_enter")).and_then(|line| line.split(',').next());
        Ok(count.and_then(|count| count.parse::<f64>().ok()).map(|count| count / seen.requests as f64))
    }
}

/// How long peers stand idle before their memory is read: longer than allocators keep what start-up freed.
const SETTLES: Duration = Duration::from_secs(30);

/// Lets the peers take turns, with one size of answers after the other.
pub fn hold(dir: &Path, peers: &[Peer], effort: &Effort) -> anyhow::Result<Vec<Row>> {
    std::thread::sleep(SETTLES);
    let idle = peers.iter().map(Peer::resident).collect::<anyhow::Result<Vec<f64>>>()?;
    let mut rows = Vec::new();
    for size in Size::ALL {
        let mut turns: Vec<Vec<Turn>> = peers.iter().map(|_| Vec::new()).collect();
        for peer in peers {
            peer.turn(size, 1)?;
        }
        for round in 1..=effort.rounds {
            for (peer, turns) in peers.iter().zip(&mut turns) {
                let turn = peer.turn(size, effort.seconds)?;
                eprintln!(
                    "{} round {round}: {:13} {:6.2} us {:8.0}/s",
                    size.name(),
                    peer.name,
                    turn.cpu,
                    turn.seen.rate
                );
                turns.push(turn);
            }
        }
        for ((peer, turns), idle) in peers.iter().zip(turns).zip(&idle) {
            let calls = peer.calls(dir, size)?;
            rows.push(Row {
                peer: peer.name.clone(),
                size,
                turns,
                calls,
                idle: *idle,
                loaded: peer.resident()?,
            });
        }
    }
    Ok(rows)
}
