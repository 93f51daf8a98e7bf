//! The quick tour and what one writes, beside `weft up`.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::Signal;
use weft_e2e::harness::{Place, Process, envoy_program, ours};

use crate::ground::clone_into;
use crate::page::Page;
use crate::shell::Shell;
use crate::{README, follow};

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
    let page = Page::read(README)?;
    let mut shell = Shell::start(&Place::here(), dir)?;
    follow(&page.section(TOUR)?.blocks, &mut shell).await?;
    write_mistakes(dir)?;
    follow(&page.section(WRITING)?.blocks, &mut shell).await
}

/// The route whose mistakes the page shows: an example, with a number written out and a letter too few.
fn write_mistakes(dir: &Path) -> anyhow::Result<()> {
    let written = std::fs::read_to_string(dir.join("policies/examples/canary-50.yaml"))?;
    let mistaken = written.replacen("port: 80", "port: eighty", 1).replacen("weight:", "weigth:", 1);
    ensure!(mistaken.len() > written.len(), "the example has changed");
    std::fs::write(dir.join("route.yaml"), mistaken)?;
    Ok(())
}
