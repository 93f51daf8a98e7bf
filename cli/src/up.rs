//! `weft up`: a whole mesh on this machine, as plain processes on addresses of 127/8, without privileges.
//!
//! ```text
//! control plane ◀── apply shop.yaml
//!   ├─ token, demo service, sidecar   for each workload of `mesh::WORKLOADS`
//!   └─ live table, from the API, until Ctrl-C; then everything ends
//! ```

pub mod binaries;
pub mod mesh;
mod picture;
pub mod processes;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Up;
use mesh::LocalMesh;
use picture::Screen;
use processes::Processes;

/// Runs until Ctrl-C, SIGTERM, the end of `--duration`, or the death of the control plane; that of another part shows.
pub async fn run(args: Up) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut processes = Processes::try_new(&args.data_dir.join("logs"))?;
    let ended = tokio::select! {
        ended = live(&args, &mut processes) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    eprintln!("\nending everything");
    let stubborn = processes.end().await;
    for name in &stubborn {
        eprintln!("{name} did not end by itself and was killed");
    }
    ended.map(|()| ExitCode::SUCCESS)
}

async fn live(args: &Up, processes: &mut Processes) -> anyhow::Result<()> {
    let started = Instant::now();
    let mesh = LocalMesh::start(args, processes).await?;
    let mut screen = Screen::new(std::io::stdout().is_terminal());
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        seconds.tick().await;
        let fallen = processes.fallen()?;
        screen.show(&mesh.client, &mesh.greeting, &fallen).await;
        if args.duration.is_some_and(|duration| started.elapsed() >= duration) {
            return Ok(());
        }
    }
}
