//! Adding a workload: the control plane on one machine, the workloads on two others.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use weft_e2e::harness::{Machine, MachineNetwork, Process, envoy_program, ours, process_tails};

use crate::page::{At, Block, Content, Note, Page, Step};
use crate::shell::Shell;
use crate::{follow_block, take};

pub const PAGE: &str = "docs/tasks/machines.md";

/// Commands that run on, in a terminal of their own.
const RUN_ON: [&str; 3] = ["weft-control-plane", "weft-proxy run", "envoy"];
/// Where the page begins, with the control plane.
const HERE: &str = "alpha";

/// A machine with a person at it.
struct Terminal {
    dir: PathBuf,
    shell: Shell,
    _machine: Machine,
    _application: Option<Process>,
}

#[tokio::test]
async fn workloads_are_added_as_the_page_says() {
    let dir = tempfile::Builder::new().prefix("weft-docs-").tempdir().expect("a directory");
    let gone = go_through(dir.path()).await;
    gone.unwrap_or_else(|error| panic!("{error:#}\n{}", process_tails(dir.path())));
}

async fn go_through(dir: &Path) -> anyhow::Result<()> {
    let page = Page::read(PAGE)?;
    let mut wire = MachineNetwork::start(dir).await?;
    let mut terminals = BTreeMap::new();
    for (number, name) in (1..).zip([HERE, "beta", "gamma"]) {
        let machine = wire.machine(name).await?;
        // The page's own network.
        machine.add_address(Ipv4Addr::new(10, 0, 0, number)).await?;
        terminals.insert(name, open_terminal(dir, name, machine).await?);
    }
    for block in page.blocks() {
        let at = if let Some(Note::On(machine)) = &block.note { machine.as_str() } else { HERE };
        if at != HERE {
            carry(&mut terminals, at).await?;
        }
        let terminal = terminals.get_mut(at).with_context(|| format!("there is no machine {at:?}"))?;
        start_or_follow(block, dir, at, terminal).await?;
    }
    let here = terminals.get_mut(HERE).context("no terminal")?;
    let listed = Step {
        at: At { page: page.path.clone(), line: 0 },
        command: "weft proxy list".to_owned(),
        output: Some(
            "PROXY …shop/payments-beta shop/payments Weft synced Healthy…shop/payments-gamma shop/payments Envoy \
             synced Healthy…"
                .to_owned(),
        ),
    };
    take(&listed, &mut here.shell).await
}

async fn open_terminal(dir: &Path, name: &str, machine: Machine) -> anyhow::Result<Terminal> {
    let at = dir.join(format!("at-{name}"));
    std::fs::create_dir(&at)?;
    let application = if name == HERE {
        None
    } else {
        let demo = ours("weft-demo")?;
        Some(Process::start_at(machine.place(), dir, &format!("{name}-app"), &demo, |command| {
            command.args(["serve", "--service", "payments", "--http", "127.0.0.1:8080"]);
        })?)
    };
    let mut shell = Shell::start(machine.place(), &at)?;
    let folders = [ours("weft")?, envoy_program()?];
    let folders =
        folders.iter().filter_map(|program| program.parent()).map(|folder| folder.display().to_string());
    shell.run(&format!("export PATH={}:$PATH", folders.collect::<Vec<_>>().join(":"))).await?;
    // What is logged in to is kept in the home directory.
    shell.run("export HOME=$PWD; unset XDG_CONFIG_HOME").await?;
    Ok(Terminal { dir: at, shell, _machine: machine, _application: application })
}

/// What a person takes along: a join token of its own for each machine, and what a login needs, as it is now.
async fn carry(terminals: &mut BTreeMap<&str, Terminal>, to: &str) -> anyhow::Result<()> {
    let target = terminals.get(to).with_context(|| format!("there is no machine {to:?}"))?.dir.clone();
    let here = terminals.get_mut(HERE).context("no control plane")?;
    let (token, context) = (target.join("payments.token"), "operator.context");
    if !token.exists() {
        let again = "weft token create --service shop/payments --out payments.token";
        ensure!(here.shell.run(again).await?.status == 0, "no other token");
        std::fs::copy(here.dir.join("payments.token"), token)?;
    }
    std::fs::copy(here.dir.join("weft-data").join(context), target.join(context)).context(context)?;
    Ok(())
}

/// A command that runs on goes to a log; another start of the same program ends the first.
async fn start_or_follow(block: &Block, dir: &Path, at: &str, terminal: &mut Terminal) -> anyhow::Result<()> {
    let is_run = !matches!(block.note, Some(Note::NotRun(_)));
    let (true, Content::Commands(steps)) = (is_run, &block.content) else {
        return follow_block(block, &mut terminal.shell).await;
    };
    for step in steps {
        let Some(program) = RUN_ON.iter().find(|program| step.command.starts_with(**program)) else {
            let reads =
                Step { at: step.at.clone(), command: step.command.clone(), output: step.output.clone() };
            take(&reads, &mut terminal.shell).await?;
            continue;
        };
        let (name, log) = (program.replace(['-', ' '], "_"), dir.join(format!("{at}-{program}.log")));
        let stop = format!("[ -z \"${name}\" ] || {{ kill \"${name}\"; wait \"${name}\"; }}");
        let start = format!("{{ exec {}\n}} >>'{}' 2>&1 & {name}=$!", step.command, log.display());
        for command in [stop, start] {
            terminal.shell.run(&command).await?;
        }
        if *program == RUN_ON[0] {
            let health = "weft-control-plane health".to_owned();
            take(&Step { at: step.at.clone(), command: health, output: None }, &mut terminal.shell).await?;
        }
        println!("{}: {}", step.at, step.command);
    }
    Ok(())
}
