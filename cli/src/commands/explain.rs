//! `weft explain`: what would become of a request, and why requests failed or were refused.

mod ask;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weft_api::rest::{Hop, RequestList, RequestRecord};

use crate::args::{Explain, OutputFormat};
use crate::output::{self, out, outln};
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Explain) -> anyhow::Result<ExitCode> {
    match &args.request_id {
        Some(id) => one(replicas, id, args.output).await,
        None if args.recent => recent(replicas, &args).await,
        None => ask::run(replicas, &args).await,
    }
}

async fn one(replicas: &ReplicaClients, id: &str, format: OutputFormat) -> anyhow::Result<ExitCode> {
    let list = replicas.request(id).await?;
    if !format.is_table() {
        output::print(format, &list, &[], Vec::new)?;
    } else if list.items.is_empty() {
        outln!(
            "nothing is known of request {id}: it has not failed within the last ten minutes, or its sidecars tell of it in a \
             moment"
        );
    } else {
        let hops: Vec<String> = list.items.iter().map(hop).collect();
        out!("{}", hops.join("\n"));
    }
    note_dropped(&list);
    Ok(if list.items.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A hop in a few lines: who saw what, why, and what to look at.
pub fn hop(record: &RequestRecord) -> String {
    let side = match record.hop {
        Hop::Outbound => "outbound",
        Hop::Inbound => "inbound",
    };
    let mut text = format!("{}  {side}  {}  {:.1}ms\n", record.workload, summary(record), record.duration_ms);
    text.push_str(&format!("  {}\n", record.reason));
    for (name, value) in [
        ("caller", &record.peer),
        ("route", &record.route),
        ("upstream", &record.upstream),
        ("policy", &record.policy),
        ("details", &record.details),
    ] {
        if let Some(value) = value {
            text.push_str(&format!("  {name}: {value}\n"));
        }
    }
    if !record.flags.is_empty() {
        text.push_str(&format!("  flags: {}\n", record.flags.join(",")));
    }
    if let Some(remedy) = &record.remedy {
        text.push_str(&format!("  next: {remedy}\n"));
    }
    text
}

/// `GET cart/items HTTP/1.1 503`
fn summary(record: &RequestRecord) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let target = format!("{}{}", text(&record.authority), text(&record.path));
    let status = record.status.map(|status| status.to_string());
    let words = [text(&record.method), target, record.protocol.clone(), status.unwrap_or_default()];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

async fn recent(replicas: &ReplicaClients, args: &Explain) -> anyhow::Result<ExitCode> {
    let of = |service: &Option<String>| service.clone().filter(|service| service != "-");
    let (source, destination) = (of(&args.from), of(&args.to));
    let list = replicas.requests(source.as_deref(), destination.as_deref()).await?;
    if list.items.is_empty() && args.output.is_table() {
        outln!("no request has failed within the last ten minutes");
    } else {
        output::print(args.output, &list, &HEAD, || list.items.iter().map(row).collect())?;
    }
    note_dropped(&list);
    Ok(ExitCode::SUCCESS)
}

const HEAD: [&str; 6] = ["AGO", "FROM", "TO", "STATUS", "REASON", "REQUEST"];

fn row(record: &RequestRecord) -> Vec<String> {
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = now.saturating_sub(Duration::from_millis(record.at));
    vec![
        output::span(ago),
        or_dash(&record.source),
        or_dash(&record.destination),
        record.status.map_or("-".to_owned(), |status| status.to_string()),
        record.reason.clone(),
        record.id.clone(),
    ]
}

fn note_dropped(list: &RequestList) {
    if list.dropped > 0 {
        eprintln!(
            "{} more failures of the last ten minutes were not kept: there were too many",
            list.dropped
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_says_who_what_why_and_what_next() {
        let record = RequestRecord {
            workload: "shop/cart-1".to_owned(),
            hop: Hop::Inbound,
            method: Some("GET".to_owned()),
            authority: Some("cart".to_owned()),
            path: Some("/admin".to_owned()),
            protocol: "HTTP/1.1".to_owned(),
            status: Some(403),
            reason: "shop/cart-1: rule shop/a/b denies this to spiffe://m/x".to_owned(),
            remedy: Some("weft get authorizationpolicy a -n shop".to_owned()),
            duration_ms: 0.25,
            ..RequestRecord::default()
        };
        assert_eq!(
            hop(&record),
            "shop/cart-1  inbound  GET cart/admin HTTP/1.1 403  0.2ms\n  shop/cart-1: rule shop/a/b denies this to \
             spiffe://m/x\n  next: weft get authorizationpolicy a -n shop\n"
        );
    }
}
