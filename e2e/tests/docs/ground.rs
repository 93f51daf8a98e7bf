//! Pages that one machine is enough for: each is gone through on a machine of its own, whose loopback is empty.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use weft_e2e::harness::{MachineNetwork, Process, envoy_program, ours, process_tails};

use crate::follow;
use crate::page::{Page, root};
use crate::shell::Shell;

pub const TUTORIAL: &str = "docs/tutorial.md";
pub const GRPC: &str = "docs/tasks/grpc.md";
pub const IMPORT: &str = "docs/tasks/import.md";
pub const BACKUP: &str = "docs/tasks/backup.md";
pub const AUTHORIZATION: &str = "docs/tasks/authorization.md";
pub const JWT: &str = "docs/tasks/jwt.md";
pub const SCRAPE: &str = "docs/tasks/scrape.md";
pub const ROTATION: &str = "docs/tasks/rotation.md";
pub const OWN_AUTHORITY: &str = "docs/tasks/own-authority.md";
pub const TROUBLESHOOTING: &str = "docs/tasks/troubleshooting.md";
const ENDS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn tutorial_goes_as_it_says() {
    on_a_machine(&[TUTORIAL], Beside::Nothing).await;
}

#[tokio::test]
async fn grpc_goes_as_it_says() {
    on_a_machine(&[GRPC], Beside::Nothing).await;
}

#[tokio::test]
async fn import_goes_as_it_says() {
    on_a_machine(&[IMPORT], Beside::Nothing).await;
}

#[tokio::test]
async fn backup_goes_as_it_says() {
    on_a_machine(&[BACKUP], Beside::Nothing).await;
}

#[tokio::test]
async fn tasks_in_the_local_mesh_go_as_they_say() {
    on_a_machine(&[AUTHORIZATION, SCRAPE, ROTATION, TROUBLESHOOTING, JWT, OWN_AUTHORITY], Beside::LocalMesh)
        .await;
}

/// What runs on the machine when the pages begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// `make up`, in another terminal.
    LocalMesh,
}

async fn on_a_machine(pages: &[&str], beside: Beside) {
    let dir = tempfile::Builder::new().prefix("weft-docs-").tempdir().expect("a directory");
    let gone = go_through(dir.path(), pages, beside).await;
    gone.unwrap_or_else(|error| panic!("{error:#}\n{}", process_tails(dir.path())));
}

async fn go_through(dir: &Path, pages: &[&str], beside: Beside) -> anyhow::Result<()> {
    let mut wire = MachineNetwork::start(dir).await?;
    let machine = wire.machine("alpha").await?;
    let clone = dir.join("weft");
    std::fs::create_dir(&clone)?;
    clone_into(&clone)?;
    let up = match beside {
        Beside::Nothing => None,
        Beside::LocalMesh => {
            Some(Process::start_at(machine.place(), dir, "up", &ours("weft")?, |command| {
                command.arg("up").arg("--envoy").arg(envoy_program().unwrap_or_default()).current_dir(&clone);
            })?)
        }
    };
    for page in pages {
        let mut shell = Shell::start(machine.place(), &clone)?;
        // What is logged in to is kept in the home directory.
        shell.run("export HOME=$PWD; unset XDG_CONFIG_HOME").await?;
        follow(Page::read(page)?.blocks(), &mut shell).await?;
    }
    if let Some(up) = up {
        up.signal(Signal::INT);
        let status = up.ended(ENDS).await?;
        ensure!(status.success(), "weft up: {status}");
    }
    Ok(())
}

/// The part of a clone that pages speak of, with the programs where `make up` puts them.
pub fn clone_into(dir: &Path) -> anyhow::Result<()> {
    for folder in ["policies", "observe"] {
        symlink(root().join(folder), dir.join(folder))?;
    }
    std::fs::create_dir(dir.join("target"))?;
    symlink(ours("weft")?.parent().context("no directory")?, dir.join("target/fast"))?;
    Ok(())
}
