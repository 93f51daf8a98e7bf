//! The quick tour and what one writes, beside `weft up`.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use weft_e2e::harness::{Place, Process, envoy_program, ours};

use crate::follow;
use crate::page::{self, Section};
use crate::shell::Shell;

pub const TOUR: &str = "A quick tour";
pub const WRITING: &str = "What you write";
const ENDS: Duration = Duration::from_secs(60);

#[tokio::test]
async fn quick_tour_goes_as_the_page_says() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    clone_into(dir.path()).expect("what a clone and a build leave");
    let up = Process::start(dir.path(), "up", &ours("weft").expect("weft"), |command| {
        command.arg("up").arg("--envoy").arg(envoy_program().expect("Envoy")).current_dir(dir.path());
    })
    .expect("weft up starts");
    let gone = go_through(dir.path()).await;
    gone.unwrap_or_else(|error| panic!("{error:#}\n---- weft up\n{}", up.log()));
    up.signal(Signal::INT);
    let status = up.ended(ENDS).await.expect("weft up ends");
    assert!(status.success(), "{status}");
}

async fn go_through(dir: &Path) -> anyhow::Result<()> {
    let page = page::readme()?;
    let mut shell = Shell::start(&Place::here(), dir)?;
    follow(Section::find(&page, TOUR)?, &mut shell).await?;
    write_mistakes(dir)?;
    follow(Section::find(&page, WRITING)?, &mut shell).await
}

/// The part of a clone that the page speaks of, with the programs where `make up` puts them.
fn clone_into(dir: &Path) -> anyhow::Result<()> {
    symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies"), dir.join("policies"))?;
    std::fs::create_dir(dir.join("target"))?;
    symlink(ours("weft")?.parent().context("no directory")?, dir.join("target/fast"))?;
    Ok(())
}

/// The route whose mistakes the page shows: an example, with a number written out and a letter too few.
fn write_mistakes(dir: &Path) -> anyhow::Result<()> {
    let written = std::fs::read_to_string(dir.join("policies/examples/canary-50.yaml"))?;
    let mistaken = written.replacen("port: 80", "port: eighty", 1).replacen("weight:", "weigth:", 1);
    ensure!(mistaken.len() > written.len(), "the example has changed");
    std::fs::write(dir.join("route.yaml"), mistaken)?;
    Ok(())
}
