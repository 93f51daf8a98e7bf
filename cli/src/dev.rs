//! `weft dev`: several applications in a mesh of their own, with nothing prepared and nothing left behind.
//!
//! ```text
//! temporary directory ── control plane ◀── services
//!   └─ token, sidecar     for each NAME:PORT
//!        └─ application   once all sidecars are ready; what it says goes to standard error, behind its name
//! ```

mod application;
mod loopback;
mod mesh;
mod plan;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::{Dev, OutputFormat};
use crate::output;
use crate::run::find_program;
use crate::up::processes::Processes;
use application::Applications;
use mesh::{DevMesh, DevService};

/// Between two looks at everybody.
const LOOK: Duration = Duration::from_millis(50);
/// An application that does not listen by then may be one that only calls others.
const LISTENS: Duration = Duration::from_secs(5);

/// Runs until Ctrl-C, or until one of the applications has ended.
pub async fn run(args: Dev) -> anyhow::Result<ExitCode> {
    let planned = plan::parse(&args.words)?;
    for one in &planned {
        if let Some(Err(missing)) = one.command.first().map(|word| find_program(word)) {
            eprintln!("weft: {}: {missing}", one.name);
            return Ok(missing.code().into());
        }
    }
    mesh::ensure_free(&planned)?;
    let heard = |kind| signal(kind).context("signals cannot be handled");
    let mut terminate = heard(SignalKind::terminate())?;
    let mut interrupt = heard(SignalKind::interrupt())?;
    let mut hangup = heard(SignalKind::hangup())?;
    let dir = tempfile::Builder::new().prefix("weft-dev-").tempdir();
    let dir = dir.context("no temporary directory for the mesh's data; TMPDIR says where it is made")?;
    let mut processes = Processes::try_new(&dir.path().join("logs"))?;
    let mut applications = Applications::default();
    let live = async {
        let mesh = DevMesh::start(&planned, dir.path(), &mut processes).await?;
        let width = planned.iter().map(|one| one.name.as_str().len()).max().unwrap_or(0);
        for member in &mesh.members {
            applications.start(&member.planned, &member.sidecar, width)?;
        }
        watch(&mesh, args.output, &mut processes, &mut applications).await
    };
    let ended = tokio::select! {
        ended = live => ended,
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        _ = interrupt.recv() => Ok(ExitCode::SUCCESS),
        _ = hangup.recv() => Ok(ExitCode::SUCCESS),
    };
    let mut stubborn = applications.end().await;
    stubborn.extend(processes.end().await);
    for name in &stubborn {
        eprintln!("weft: {name} did not end by itself and was killed");
    }
    dir.close().context("the temporary directory")?;
    ended
}

/// Prints how things are reached once they are, and waits until something ends.
async fn watch(
    mesh: &DevMesh,
    format: OutputFormat,
    processes: &mut Processes,
    applications: &mut Applications,
) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let (mut silent, mut is_told) = (mesh.members.iter().collect::<Vec<_>>(), false);
    loop {
        processes.check()?;
        if let Some(ended) = applications.ended().await? {
            eprintln!("weft: {} ended ({}), and so the others do", ended.name, ended.status);
            return Ok(ended.code());
        }
        if !is_told {
            silent = still_silent(silent).await;
            if silent.is_empty() || started.elapsed() > LISTENS {
                tell(mesh, format)?;
                for member in &silent {
                    let port = member.planned.port;
                    eprintln!("weft: {} does not listen on 127.0.0.1:{port} yet", member.planned.name);
                }
                is_told = true;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Those of them that do not listen yet.
async fn still_silent(members: Vec<&DevService>) -> Vec<&DevService> {
    let mut silent = Vec::new();
    for member in members {
        if TcpStream::connect(("127.0.0.1", member.planned.port)).await.is_err() {
            silent.push(member);
        }
    }
    silent
}

fn tell(mesh: &DevMesh, format: OutputFormat) -> anyhow::Result<()> {
    let text = match format {
        OutputFormat::Json => format!("{}\n", summary(mesh)),
        OutputFormat::Yaml => serde_yaml::to_string(&summary(mesh))?,
        OutputFormat::Name => {
            mesh.members.iter().map(|member| format!("{}\n", member.planned.name)).collect()
        }
        OutputFormat::Table | OutputFormat::Wide => picture(mesh),
    };
    // The mesh goes on, whether or not somebody reads this.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn summary(mesh: &DevMesh) -> serde_json::Value {
    let services = mesh.members.iter().map(|member| {
        let mut service = json!({
            "name": member.planned.name.as_str(),
            "outbound": member.sidecar.outbound().to_string(),
            "address": member.sidecar.address.map(|address| address.to_string()),
        });
        if !member.upstreams.is_empty() {
            service["upstreams"] =
                member.upstreams.iter().map(|(name, at)| (name.clone(), json!(at))).collect();
        }
        service
    });
    json!({"api": mesh.api, "tokenFile": mesh.token_file, "services": services.collect::<Vec<_>>()})
}

fn picture(mesh: &DevMesh) -> String {
    let rows: Vec<Vec<String>> = mesh.members.iter().map(row).collect();
    let mut text =
        output::table(&["SERVICE", "PROTOCOL", "APPLICATION", "OTHERS CALL", "CALLS OTHERS THROUGH"], &rows);
    for member in &mesh.members {
        for (name, at) in &member.upstreams {
            text.push_str(&format!("{} reaches {name} at {at}\n", member.planned.name));
        }
    }
    text.push_str("\nEverything between them is mutual TLS. HTTP_PROXY is set for each of them. Ctrl-C ends all. Try:\n");
    let callee = mesh.members.iter().find(|member| member.planned.protocol.is_http());
    let caller =
        mesh.members.iter().find(|caller| callee.is_some_and(|callee| !std::ptr::eq(*caller, callee)));
    if let (Some(callee), Some(caller)) = (callee, caller.or(callee)) {
        let (name, outbound) = (&callee.planned.name, caller.sidecar.outbound());
        text.push_str(&format!(
            "  curl -x http://{outbound} http://{name}/    # as {} does\n",
            caller.planned.name
        ));
    }
    text.push_str(&format!("  weft --token-file {} get edges\n", mesh.token_file.display()));
    text
}

fn row(member: &DevService) -> Vec<String> {
    use weft_policies::kinds::service::Protocol;
    let planned = &member.planned;
    let called = match planned.protocol {
        Protocol::Http | Protocol::Http2 => format!("http://{}/", planned.name),
        Protocol::Grpc => format!("{}:{}", planned.name, planned.port),
        Protocol::Tcp | Protocol::Tls => "a local port".to_owned(),
    };
    vec![
        planned.name.to_string(),
        planned.protocol.to_string(),
        format!("127.0.0.1:{}", planned.port),
        called,
        format!("http://{}", member.sidecar.outbound()),
    ]
}
