//! README.md is true: what it tells people to do is done, and prints what it shows.
//!
//! Each section is gone through in one shell, at the place that its words speak of. A command fails where the page shows
//! its error, and nowhere else. What is not run stands in the output, with the reason.

mod containers;
mod local;
mod machines;
mod page;
mod shape;
mod shell;

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use page::{Block, Content, Note, Section, Step};
use shell::{Ended, Shell};

/// Sections with something to do, each gone through by a test here.
const GONE_THROUGH: [&str; 5] =
    ["Two commands", local::TOUR, local::WRITING, containers::TOUR, machines::WORKLOAD];

/// Commands that change nothing. What they show may have to settle first.
const ONLY_READ: [&str; 5] =
    ["weft get", "weft proxy list", "weft-control-plane health", "curl", "docker compose exec"];
/// How long that takes: a few windows of the rates.
const SETTLES: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(300);

#[test]
fn every_block_is_run_or_says_why_not() {
    for section in page::readme().expect("README.md") {
        let known = GONE_THROUGH.contains(&section.title.as_str());
        let excused = section.blocks.iter().all(|block| matches!(block.note, Some(Note::NotRun(_))));
        assert!(known || excused, "{:?} has blocks that no test runs", section.title);
        for Block { line, note, content } in section.blocks {
            let reason = if let Some(Note::NotRun(reason)) = note { Some(reason) } else { None };
            let is_run = section.title != GONE_THROUGH[0] && content != Content::Text;
            assert!(is_run || reason.is_some(), "README.md:{line}: say by a comment why this is not run");
            if let Some(reason) = reason {
                println!("README.md:{line}: not run: {reason}");
            }
        }
    }
}

/// Goes through a section as a person does.
async fn follow(section: &Section, shell: &mut Shell) -> anyhow::Result<()> {
    for block in &section.blocks {
        follow_block(block, shell).await?;
    }
    Ok(())
}

async fn follow_block(block: &Block, shell: &mut Shell) -> anyhow::Result<()> {
    if let Some(Note::NotRun(reason)) = &block.note {
        println!("README.md:{}: not run: {reason}", block.line);
        return Ok(());
    }
    match &block.content {
        Content::Commands(steps) => {
            for step in steps {
                take(step, shell).await?;
            }
        }
        Content::Yaml(text) => {
            let file = format!("readme-{}.yaml", block.line);
            let command = format!("cat >{file} <<'END'\n{text}END\nweft apply --dry-run -f {file}");
            take(&Step { line: block.line, command, output: None }, shell).await?;
        }
        Content::Text => bail!("README.md:{}: this cannot be run", block.line),
    }
    Ok(())
}

async fn take(step: &Step, shell: &mut Shell) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLES;
    let may_settle = ONLY_READ.iter().any(|reads| step.command.starts_with(reads));
    loop {
        let ended = shell.run(&step.command).await?;
        match judge(step, &ended) {
            Ok(()) => break,
            Err(_) if may_settle && Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Err(why) => {
                let shown = step.output.as_deref().unwrap_or_default();
                return Err(anyhow::anyhow!(
                    "{why}\n---- the page\n{shown}\n---- it printed\n{}",
                    ended.output
                ))
                .with_context(|| format!("README.md:{}: {}", step.line, step.command));
            }
        }
    }
    println!("README.md:{}: {}", step.line, step.command.lines().next().unwrap_or_default());
    Ok(())
}

fn judge(step: &Step, ended: &Ended) -> Result<(), String> {
    let is_to_fail = step.output.as_ref().is_some_and(|shown| shown.starts_with("weft"));
    if is_to_fail != (ended.status != 0) {
        return Err(format!("it ends with status {}", ended.status));
    }
    step.output.as_ref().map_or(Ok(()), |shown| shape::compare(shown, &ended.output))
}

#[test]
fn command_fails_where_the_page_shows_its_error_and_nowhere_else() {
    let step = |output: &str| Step { line: 1, command: "weft".to_owned(), output: Some(output.to_owned()) };
    let ended = |status, output: &str| Ended { status, output: output.to_owned() };
    assert_eq!(judge(&step("weft: no"), &ended(1, "weft: no")), Ok(()));
    assert!(judge(&step("weft: no"), &ended(0, "weft: no")).is_err());
    assert!(judge(&step("yes"), &ended(127, "yes")).is_err());
    assert!(judge(&step("yes"), &ended(0, "no")).is_err());
    assert_eq!(judge(&Step { output: None, ..step("") }, &ended(0, "whatever")), Ok(()));
}
