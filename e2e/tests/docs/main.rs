//! README.md and docs/ are true: what they tell people to do is done, and prints what they show.
//!
//! Each page, or section of one, is gone through in one shell, at the place that its words speak of. A command fails where the
//! page shows its error, and nowhere else. What is not run stands in the output, with the reason, and is written as the
//! programs take it. `docs/reference` is made from programs and sources (`reference`).

mod containers;
mod examples;
mod ground;
mod local;
mod machines;
mod page;
mod reference;
mod shape;
mod shell;
mod written;

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::time::Instant;

use page::{Block, Content, Note, Page, Step, root};
use shell::{Ended, Shell};

const README: &str = "README.md";
/// Sections of README.md with something to do, each gone through by a test here.
const OF_README: [&str; 3] = ["Two commands", local::TOUR, local::WRITING];
/// Pages that a test here goes through, from the first block to the last.
const PAGES: [&str; 12] = [
    containers::PAGE,
    machines::PAGE,
    ground::TUTORIAL,
    ground::GRPC,
    ground::IMPORT,
    ground::BACKUP,
    ground::AUTHORIZATION,
    ground::JWT,
    ground::SCRAPE,
    ground::ROTATION,
    ground::OWN_AUTHORITY,
    ground::TROUBLESHOOTING,
];
/// Pages whose commands other tests run, by their names there.
const ELSEWHERE: [(&str, &str); 3] = [
    ("docs/observe.md", "e2e/tests/mesh/numbers.rs asks for all of it"),
    ("docs/envoy.md", "e2e/tests/mesh/existing_envoy.rs goes through it"),
    (
        "docs/operate.md",
        "e2e/tests/mesh: replicas, health, visibility; control-plane/tests/mesh: backup; a disk was filled by hand",
    ),
];

/// Commands that change nothing. What they show may have to settle first.
const ONLY_READ: [&str; 12] = [
    "weft check",
    "weft diff",
    "weft get",
    "weft proxy list",
    "weft explain",
    "weft-control-plane health",
    "weft-proxy health",
    "weft-demo call",
    "curl",
    "until",
    "sleep",
    "docker compose exec",
];
/// How long that takes: a few windows of the rates.
const SETTLES: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(300);

/// All pages that people read, but for those that are made.
fn pages() -> Vec<String> {
    let mut found = vec![README.to_owned()];
    for folder in ["docs", "docs/tasks"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the documentation") {
            let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
            if name.ends_with(".md") {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_block_is_run_or_says_why_not() {
    for path in pages() {
        if ELSEWHERE.iter().any(|(page, _)| *page == path) {
            continue;
        }
        let page = Page::read(&path).unwrap_or_else(|error| panic!("{error:#}"));
        for section in &page.sections {
            let known = PAGES.contains(&&*path) || (path == README && OF_README.contains(&&*section.title));
            let is_built = path == README && section.title == OF_README[0];
            for Block { at, note, content } in &section.blocks {
                let reason = if let Some(Note::NotRun(reason)) = note { Some(reason) } else { None };
                let is_run = known && !is_built && *content != Content::Text;
                let is_taken = matches!(content, Content::Yaml(_));
                assert!(is_run || is_taken || reason.is_some(), "{at}: say by a comment why this is not run");
                if let Some(reason) = reason {
                    println!("{at}: not run: {reason}");
                }
            }
        }
    }
}

/// Goes through blocks as a person does.
async fn follow<'a>(blocks: impl IntoIterator<Item = &'a Block>, shell: &mut Shell) -> anyhow::Result<()> {
    for block in blocks {
        follow_block(block, shell).await?;
    }
    Ok(())
}

async fn follow_block(block: &Block, shell: &mut Shell) -> anyhow::Result<()> {
    let at = &block.at;
    if let Some(Note::NotRun(reason)) = &block.note {
        println!("{at}: not run: {reason}");
        return Ok(());
    }
    match &block.content {
        Content::Commands(steps) => {
            for step in steps {
                take(step, shell).await?;
            }
        }
        Content::Yaml(text) => {
            let command = if let Some(Note::File(name)) = &block.note {
                format!("cat >{name} <<'END'\n{text}END")
            } else {
                let file = format!("of-line-{}.yaml", at.line);
                format!("cat >{file} <<'END'\n{text}END\nweft apply --dry-run -f {file}")
            };
            take(&Step { at: at.clone(), command, output: None }, shell).await?;
        }
        Content::Text => bail!("{at}: this cannot be run"),
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
                .with_context(|| format!("{}: {}", step.at, step.command));
            }
        }
    }
    println!("{}: {}", step.at, step.command.lines().next().unwrap_or_default());
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
    let at = page::At { page: README.into(), line: 1 };
    let step =
        |output: &str| Step { at: at.clone(), command: "weft".to_owned(), output: Some(output.to_owned()) };
    let ended = |status, output: &str| Ended { status, output: output.to_owned() };
    assert_eq!(judge(&step("weft: no"), &ended(1, "weft: no")), Ok(()));
    assert!(judge(&step("weft: no"), &ended(0, "weft: no")).is_err());
    assert!(judge(&step("yes"), &ended(127, "yes")).is_err());
    assert!(judge(&step("yes"), &ended(0, "no")).is_err());
    assert_eq!(judge(&Step { output: None, ..step("") }, &ended(0, "whatever")), Ok(()));
}
