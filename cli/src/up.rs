//! `weft up`: a whole mesh on this machine, as plain processes on addresses of 127/8, without privileges.
//!
//! ```text
//! control plane ◀── apply shop.yaml
//!   ├─ token, demo service, sidecar   for each workload of `mesh::WORKLOADS`
//!   └─ the screen of `weft top`, until Ctrl-C; then everything ends
//! ```

pub mod binaries;
pub mod mesh;
pub mod processes;

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::Up;
use crate::replicas::ReplicaClients;
use crate::top;
use mesh::LocalMesh;
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
    let started = std::time::Instant::now();
    let mesh = LocalMesh::start(args, processes).await?;
    let around = top::Surroundings {
        title: mesh.title,
        hints: mesh.hints,
        duration: args.duration.map(|duration| duration.saturating_sub(started.elapsed())),
    };
    let replicas = ReplicaClients::new(vec![mesh.client]).quietly();
    top::show(&replicas, around, || processes.fallen()).await
}
