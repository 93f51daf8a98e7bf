//! `weft get`: objects, and the live views that the API computes.

use std::process::ExitCode;

use weft_api::client::ApiClient;
use weft_api::rest::{Edge, EdgeState, Object};
use weft_policies::kinds::Kind;

use super::name::full_name;
use crate::args::{Get, ListArgs, OutputFormat};
use crate::output;
use crate::replicas::ReplicaClients;

pub async fn run(replicas: &ReplicaClients, args: Get) -> anyhow::Result<ExitCode> {
    match args.kind.as_str() {
        "edges" | "edge" => return edges(replicas, &args).await,
        "proxies" | "proxy" => return super::proxy::list(replicas, ListArgs { output: args.output }).await,
        _ => {}
    }
    let kind: Kind = args.kind.parse().map_err(|error| anyhow::anyhow!("{error}; and edges, proxies"))?;
    if args.watch {
        return super::watch::run(replicas, kind, &args).await;
    }
    if let Some(name) = &args.name {
        let (namespace, name) = full_name(name, args.namespace.as_deref().unwrap_or("default"));
        let read = async |client: &ApiClient| client.object(kind.plural(), namespace, name).await;
        let object = replicas.any(read).await?;
        // One object is worth reading whole.
        let format = if args.output == OutputFormat::Table { OutputFormat::Yaml } else { args.output };
        output::print(format, &object, &HEAD, || vec![row(&object)])?;
    } else {
        let (namespace, selector) = (args.namespace.as_deref(), args.selector.as_deref());
        let list = replicas
            .any(async |client| client.list_labelled(kind.plural(), namespace, selector).await)
            .await?;
        if list.items.is_empty() && matches!(args.output, OutputFormat::Table | OutputFormat::Wide) {
            println!("no {}", kind.plural());
        } else {
            output::print(args.output, &list, &HEAD, || list.items.iter().map(row).collect())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub const HEAD: [&str; 4] = ["NAMESPACE", "NAME", "GENERATION", "STATUS"];

pub fn row(object: &Object) -> Vec<String> {
    let text = |key: &str| match &object.metadata[key] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    vec![text("namespace"), text("name"), text("generation"), status(object)]
}

/// The health of a workload, or the names of the conditions that hold.
fn status(object: &Object) -> String {
    let Some(status) = &object.status else { return String::new() };
    if status["drained"].is_object() {
        return "Drained".to_owned();
    }
    if let Some(health) = status["health"].as_str() {
        return health.to_owned();
    }
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let holding = conditions.filter(|c| c["status"] == "True").filter_map(|c| c["type"].as_str());
    holding.collect::<Vec<_>>().join(",")
}

/// Those of a service, or of a namespace, where one is named.
async fn edges(replicas: &ReplicaClients, args: &Get) -> anyhow::Result<ExitCode> {
    let mut edges = replicas.edges().await?;
    let is_wanted = |service: &str| match (&args.name, &args.namespace) {
        (Some(name), namespace) => {
            let (namespace, name) = full_name(name, namespace.as_deref().unwrap_or("default"));
            service == format!("{namespace}/{name}")
        }
        (None, Some(namespace)) => service.split('/').next() == Some(namespace),
        (None, None) => true,
    };
    edges.items.retain(|edge| is_wanted(&edge.source) || is_wanted(&edge.destination));
    output::print(args.output, &edges, &EDGE_HEAD, || edges.items.iter().map(edge_row).collect())?;
    Ok(ExitCode::SUCCESS)
}

/// Head of the table of edges.
pub const EDGE_HEAD: [&str; 8] = ["FROM", "TO", "RATE", "SUCCESS", "DENIED", "P50", "P99", "MTLS"];

fn percent(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{:.1}%", share * 100.0))
}

/// One edge as a row.
pub fn edge_row(edge: &Edge) -> Vec<String> {
    let subset = edge.subset.as_ref().map(|subset| format!(" {subset}")).unwrap_or_default();
    let milliseconds = |value: Option<f64>| value.map_or("-".to_owned(), |ms| format!("{ms:.1}ms"));
    let success = match edge.state {
        EdgeState::Silent => format!("silent, {} open", edge.open),
        EdgeState::Flowing | EdgeState::Idle | EdgeState::Failing => percent(edge.success),
    };
    let success = if edge.ejected > 0 { format!("{success}, {} ejected", edge.ejected) } else { success };
    vec![
        edge.source.clone(),
        format!("{}:{}{subset}", edge.destination, edge.port),
        format!("{:.1}/s", edge.rate),
        success,
        percent(edge.denied),
        milliseconds(edge.p50_ms),
        milliseconds(edge.p99_ms),
        if edge.mtls { "yes" } else { "no" }.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hung_server_is_told_from_one_that_answers() {
        let answers = Edge { state: EdgeState::Flowing, rate: 2.0, success: Some(1.0), ..Edge::default() };
        assert_eq!(edge_row(&answers)[2..4], ["2.0/s", "100.0%"]);
        let hangs = Edge { state: EdgeState::Silent, open: 12, ..Edge::default() };
        assert_eq!(edge_row(&hangs)[2..4], ["0.0/s", "silent, 12 open"]);
        let ejects = Edge { ejected: 1, ..answers };
        assert_eq!(edge_row(&ejects)[3], "100.0%, 1 ejected");
    }
}
