//! `weft get`: objects, and the live views that the API computes.

use std::collections::BTreeMap;
use std::process::ExitCode;

use weft_api::client::ApiClient;
use weft_api::rest::{ConditionStatus, Edge, EdgeState, Object, ObjectStatus, StatusCondition};
use weft_policies::kinds::Kind;

use super::name::full_name;
use crate::args::{EdgeGrouping, Get, ListArgs, OutputFormat};
use crate::output::{self, out, outln};
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
        print_objects(format, &object, std::slice::from_ref(&object))?;
    } else {
        let (namespace, selector) = (args.namespace.as_deref(), args.selector.as_deref());
        let list = replicas
            .any(async |client| client.list_labelled(kind.plural(), namespace, selector).await)
            .await?;
        if list.items.is_empty() && args.output.is_table() {
            outln!("no {}", kind.plural());
        } else {
            print_objects(args.output, &list, &list.items)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub const HEAD: [&str; 4] = ["NAMESPACE", "NAME", "GENERATION", "STATUS"];
const WIDE_HEAD: [&str; 6] = ["NAMESPACE", "NAME", "GENERATION", "STATUS", "PROXIES", "MESSAGE"];

fn print_objects<T: serde::Serialize>(
    format: OutputFormat,
    value: &T,
    objects: &[Object],
) -> anyhow::Result<()> {
    match format {
        OutputFormat::Wide => {
            output::print(format, value, &WIDE_HEAD, || objects.iter().map(wide_row).collect())
        }
        OutputFormat::Table | OutputFormat::Yaml | OutputFormat::Json | OutputFormat::Name => {
            output::print(format, value, &HEAD, || objects.iter().map(row).collect())
        }
    }
}

/// With who has it, and what is said against it.
fn wide_row(object: &Object) -> Vec<String> {
    let mut cells = row(object);
    let status = status_of(object);
    let proxies = status.proxies.as_ref().map(|counts| format!("{}/{}", counts.acked, counts.targeted));
    cells.push(proxies.unwrap_or_default());
    cells.push(failing(&status).map(|condition| condition.message.clone()).unwrap_or_default());
    cells
}

/// The status of an object, as far as it is one that documents have.
pub fn status_of(object: &Object) -> ObjectStatus {
    let status = object.status.clone().unwrap_or_default();
    serde_json::from_value(status).unwrap_or_default()
}

/// The first condition that does not hold. That no proxy is concerned is no trouble.
fn failing(status: &ObjectStatus) -> Option<&StatusCondition> {
    status.conditions.iter().find(|condition| condition.status == ConditionStatus::False)
}

pub fn row(object: &Object) -> Vec<String> {
    let text = |key: &str| match &object.metadata[key] {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    vec![text("namespace"), text("name"), text("generation"), status(object)]
}

/// The health of a workload; else the reason of the condition that does not hold, or of the last one, which needs the others.
fn status(object: &Object) -> String {
    let Some(status) = &object.status else { return String::new() };
    if status["drained"].is_object() {
        return "Drained".to_owned();
    }
    if let Some(health) = status["health"].as_str() {
        return health.to_owned();
    }
    let status = status_of(object);
    let told = failing(&status).or(status.conditions.last());
    told.map(|condition| condition.reason.clone()).unwrap_or_default()
}

/// Those of a service, or of a namespace, where one is named.
async fn edges(replicas: &ReplicaClients, args: &Get) -> anyhow::Result<ExitCode> {
    let mut edges = match args.by {
        EdgeGrouping::Subset => replicas.edges().await?,
        EdgeGrouping::Route => replicas.edges_by("route").await?,
        EdgeGrouping::Version => replicas.edges_by("version").await?,
    };
    let is_wanted = |service: &str| match (&args.name, &args.namespace) {
        (Some(name), namespace) => {
            let (namespace, name) = full_name(name, namespace.as_deref().unwrap_or("default"));
            service == format!("{namespace}/{name}")
        }
        (None, Some(namespace)) => service.split('/').next() == Some(namespace),
        (None, None) => true,
    };
    edges.items.retain(|edge| is_wanted(&edge.source) || is_wanted(&edge.destination));
    match args.by {
        EdgeGrouping::Subset => {
            output::print(args.output, &edges, &EDGE_HEAD, || edges.items.iter().map(edge_row).collect())?;
            if matches!(args.output, OutputFormat::Table | OutputFormat::Wide) {
                let mut called = replicas.edges_by("version").await?.items;
                called.retain(|edge| is_wanted(&edge.destination));
                out!("{}", shadow_denied(&called));
            }
        }
        EdgeGrouping::Route => {
            let head: Vec<&str> = EDGE_HEAD.into_iter().chain(["ROUTE"]).collect();
            let row = |edge: &Edge| [edge_row(edge), vec![edge.route.clone().unwrap_or_default()]].concat();
            output::print(args.output, &edges, &head, || edges.items.iter().map(row).collect())?;
        }
        EdgeGrouping::Version => {
            output::print(args.output, &edges, &VERSION_HEAD, || {
                edges.items.iter().map(version_row).collect()
            })?;
            if matches!(args.output, OutputFormat::Table | OutputFormat::Wide) {
                out!("{}", shadow_denied(&edges.items));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Head of the table of edges.
pub const EDGE_HEAD: [&str; 8] = ["FROM", "TO", "RATE", "SUCCESS", "DENIED", "P50", "P99", "MTLS"];

const VERSION_HEAD: [&str; 6] = ["SERVICE", "VERSION", "RATE", "SUCCESS", "P50", "P99"];

/// What the instances of a version answer, as their own sidecars tell it.
fn version_row(edge: &Edge) -> Vec<String> {
    let mut row = edge_row(edge);
    // Nobody in particular calls, what is refused does not come so far, and it is on the instance's own machine.
    row.remove(7);
    row.remove(4);
    row[0] = row.remove(1);
    row.insert(1, edge.version.clone().unwrap_or_default());
    row
}

/// What policies that are only tried would refuse at each port, a line each; nothing where that is nothing. The called side
/// counts it, whoever calls, so it stands below the edges and not in one of them.
pub fn shadow_denied(called: &[Edge]) -> String {
    let mut ports: BTreeMap<(&str, &str), (f64, u64)> = BTreeMap::new();
    for edge in called {
        let port = ports.entry((&edge.destination, &edge.port)).or_default();
        port.0 += edge.shadow_denied.unwrap_or_default();
        port.1 += edge.shadow_denied_total;
    }
    let tried = ports.into_iter().filter(|(_, (_, total))| *total > 0);
    let lines = tried.map(|((service, port), (rate, total))| {
        format!("shadow: at {service}:{port} {rate:.1}/s would be refused, {total} so far\n")
    });
    lines.collect()
}

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
    fn what_a_trial_would_refuse_is_told_once_for_each_port() {
        let of = |port: &str, rate, total| Edge {
            destination: "shop/cart".to_owned(),
            port: port.to_owned(),
            shadow_denied: Some(rate),
            shadow_denied_total: total,
            ..Edge::default()
        };
        let text = shadow_denied(&[of("http", 1.0, 20), of("http", 0.5, 3), of("raw", 0.0, 0)]);
        assert_eq!(text, "shadow: at shop/cart:http 1.5/s would be refused, 23 so far\n");
        assert_eq!(shadow_denied(&[]), "");
    }

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
