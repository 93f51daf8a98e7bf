//! What was planted, and found.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use weft_e2e::harness::{Answer, Mesh, Sidecar, until};

/// Commands beyond this are one too many.
const MOST_COMMANDS: usize = 2;

/// How long the word may take: an edge is silent only after a window of 20 s.
const PATIENCE: Duration = Duration::from_secs(45);

/// Which failures were found, and beside which proxy.
#[derive(Default)]
pub struct Notebook {
    found: BTreeSet<(&'static str, Sidecar)>,
    /// What the commands said of those that were not found: all are told of at once.
    unfound: Vec<String>,
}

/// A command of `weft`: its words.
pub type Command<'a> = &'a [&'a str];

impl Notebook {
    /// Runs the commands until the words stand in what they print.
    pub async fn find(
        &mut self,
        mesh: &Mesh,
        (failure, beside): (&'static str, Sidecar),
        commands: &[Command<'_>],
        words: &[&str],
    ) -> anyhow::Result<()> {
        ensure!(commands.len() <= MOST_COMMANDS && !words.is_empty(), "{failure}: {commands:?}");
        let what = format!("the cause of {failure} beside {beside:?} is found");
        let found = until(&what, PATIENCE, async || {
            let mut said = String::new();
            for command in commands {
                said.push_str(&mesh.weft(command).await?);
            }
            let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
            ensure!(missing.is_empty(), "{missing:?} do not stand in\n{said}");
            Ok(())
        })
        .await;
        match found {
            Ok(()) => drop(self.found.insert((failure, beside))),
            Err(error) => self.unfound.push(format!("{error:#}")),
        }
        Ok(())
    }

    /// Finds it by the id that the answer carries.
    pub async fn find_by_id(
        &mut self,
        mesh: &Mesh,
        failure: (&'static str, Sidecar),
        answer: &Answer,
        words: &[&str],
    ) -> anyhow::Result<()> {
        let id = answer.headers.get("x-request-id").map(|id| id.to_str()).transpose()?.unwrap_or_default();
        ensure!(!id.is_empty(), "no x-request-id: {} {}", answer.status, answer.body);
        self.find(mesh, failure, &[&["explain", "--request-id", id]], words).await
    }

    /// Whether each was found beside each proxy.
    pub fn has_all(&self, failures: &[&'static str]) -> anyhow::Result<()> {
        let all: BTreeSet<_> =
            failures.iter().flat_map(|failure| Sidecar::ALL.map(|beside| (*failure, beside))).collect();
        let differ: Vec<_> = all.symmetric_difference(&self.found).collect();
        ensure!(differ.is_empty(), "not found: {differ:?}\n{}", self.unfound.join("\n"));
        Ok(())
    }
}
