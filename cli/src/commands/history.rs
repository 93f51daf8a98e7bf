//! `weft history`: what was changed, by whom and why.

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weft_api::client::HistoryPart;
use weft_api::rest::{AppliedDocument, HistoryEntry, HistoryList, Outcome, RevisionInfo};

use super::diff::documents;
use crate::args::{HistoryArgs, OutputFormat};
use crate::output::{self, out, outln};
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: HistoryArgs) -> anyhow::Result<ExitCode> {
    if let Some(revision) = args.revision {
        return one(replicas, revision, args.output).await;
    }
    let list = gather(replicas, &args).await?;
    if !args.output.is_table() {
        output::print(args.output, &list, &[], Vec::new)?;
        return Ok(ExitCode::SUCCESS);
    }
    if list.items.is_empty() {
        outln!(
            "no change is kept{}",
            if list.newest == 0 { ": nothing was ever applied" } else { " of that" }
        );
        return Ok(ExitCode::SUCCESS);
    }
    output::print(args.output, &list, &HEAD, || list.items.iter().map(row).collect())?;
    if let Some(before) = list.before {
        outln!("there are older ones: --before {before}");
    }
    Ok(ExitCode::SUCCESS)
}

/// So many changes as are wanted. An answer may have fewer, and yet not be the last.
async fn gather(replicas: &ReplicaClients, args: &HistoryArgs) -> anyhow::Result<HistoryList> {
    let (namespace, name) = match args.name.as_deref().and_then(|name| name.split_once('/')) {
        Some((namespace, name)) => (Some(namespace.to_owned()), Some(name.to_owned())),
        None => (args.namespace.clone(), args.name.clone()),
    };
    let mut part = HistoryPart {
        limit: None,
        before: args.before,
        kind: args.kind.map(|kind| kind.plural().to_owned()),
        namespace,
        name,
    };
    let limit = args.limit.max(1);
    let mut all = HistoryList::default();
    loop {
        part.limit = Some((limit - all.items.len()).min(PAGE));
        let page = replicas.any(async |client| client.history(&part).await).await?;
        (all.newest, all.oldest, all.before) = (page.newest, page.oldest, page.before);
        all.items.extend(page.items);
        part.before = page.before;
        if page.before.is_none() || all.items.len() >= limit {
            return Ok(all);
        }
    }
}

/// The API gives no more at once.
const PAGE: usize = 100;
const HEAD: [&str; 5] = ["REVISION", "AGO", "BY", "CHANGED", "MESSAGE"];

fn row(entry: &HistoryEntry) -> Vec<String> {
    let info = &entry.info;
    vec![info.revision.to_string(), ago(info.at), by(info), changed(entry), info.message.clone()]
}

/// How long ago, in milliseconds since 1970, a change was made.
pub fn ago(millis: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    output::span(now.saturating_sub(Duration::from_millis(millis)))
}

/// Who made a change, and with what.
pub fn by(info: &RevisionInfo) -> String {
    if info.client.is_empty() { info.author.clone() } else { format!("{} ({})", info.author, info.client) }
}

/// The document where there is one, else how many.
fn changed(entry: &HistoryEntry) -> String {
    let count = |outcome: Outcome| entry.documents.iter().filter(|one| one.outcome == outcome).count();
    match &entry.documents[..] {
        [AppliedDocument { kind, namespace, name, outcome, .. }] if entry.info.changes == 1 => {
            format!("{outcome} {kind} {namespace}/{name}")
        }
        shown if shown.len() == entry.info.changes => {
            let counts = [Outcome::Created, Outcome::Updated, Outcome::Deleted].map(|one| (count(one), one));
            let counts = counts.iter().filter(|(count, _)| *count > 0);
            counts.map(|(count, outcome)| format!("{count} {outcome}")).collect::<Vec<_>>().join(", ")
        }
        [AppliedDocument { kind, namespace, name, outcome, .. }] => {
            format!("{outcome} {kind} {namespace}/{name}, and {} more", entry.info.changes - 1)
        }
        _ => format!("{} documents", entry.info.changes),
    }
}

async fn one(replicas: &ReplicaClients, revision: u64, format: OutputFormat) -> anyhow::Result<ExitCode> {
    let changes = replicas.any(async |client| client.revision(revision, None).await).await?;
    if !format.is_table() {
        output::print(format, &changes, &[], Vec::new)?;
        return Ok(ExitCode::SUCCESS);
    }
    let info = &changes.info;
    outln!("revision {}, {} ago by {}", info.revision, ago(info.at), by(info));
    if !info.message.is_empty() {
        outln!("  {}", info.message);
    }
    out!("{}", documents(&changes.documents, output::Palette::of_stdout()));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str, outcome: Outcome) -> AppliedDocument {
        let (kind, namespace) = ("Service".to_owned(), "shop".to_owned());
        AppliedDocument { kind, namespace, name: name.to_owned(), outcome, generation: 1 }
    }

    #[test]
    fn a_change_is_told_in_a_few_words() {
        let entry = |changes, documents| HistoryEntry {
            info: RevisionInfo { changes, ..RevisionInfo::default() },
            documents,
        };
        let one = document("web", Outcome::Deleted);
        assert_eq!(changed(&entry(1, vec![one.clone()])), "deleted Service shop/web");
        assert_eq!(changed(&entry(3, vec![one.clone()])), "deleted Service shop/web, and 2 more");
        let both = vec![one, document("cart", Outcome::Created)];
        assert_eq!(changed(&entry(2, both.clone())), "1 created, 1 deleted");
        assert_eq!(changed(&entry(200, both)), "200 documents");
    }
}
