//! `weft audit`: who did what.

use std::process::ExitCode;

use weft_api::client::AuditPart;
use weft_api::rest::{AuditOutcome, AuditRecord};

use crate::args::Audit;
use crate::output::{self, outln};
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Audit) -> anyhow::Result<ExitCode> {
    let part = AuditPart { limit: Some(args.limit), before: args.before, who: args.who };
    let list = replicas.any(async |client| client.audit(&part).await).await?;
    let is_table = args.output.is_table();
    if list.items.is_empty() && is_table {
        outln!("no call is recorded{}", if part.who.is_some() { " of that one" } else { "" });
        return Ok(ExitCode::SUCCESS);
    }
    output::print(args.output, &list, &HEAD, || list.items.iter().map(row).collect())?;
    if let Some(before) = list.before.filter(|_| is_table) {
        outln!("there are older ones: --before {before}");
    }
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 5] = ["AGO", "WHO", "FROM", "CALL", "ABOUT"];

fn row(record: &AuditRecord) -> Vec<String> {
    let about = match record.revision {
        Some(revision) => format!("revision {revision}"),
        None => record.about.clone(),
    };
    let about = match record.outcome {
        AuditOutcome::Done => about,
        AuditOutcome::Refused if record.count > 1 => format!("refused {} times: {about}", record.count),
        AuditOutcome::Refused => format!("refused: {about}"),
    };
    vec![
        output::since(i64::try_from(record.at / 1000).unwrap_or_default()),
        record.who.clone(),
        record.from.clone(),
        record.call.clone(),
        about,
    ]
}
