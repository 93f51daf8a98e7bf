//! The edges of the mesh, as the API shows them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::ServiceId;
use weft_api::rest::Edge;

use super::Flows;

/// What is told apart beside source, destination and port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum EdgesBy {
    /// Subsets, where calls name them.
    #[default]
    Subset,
    Route,
    /// What the instances of each version answer, whoever calls: told by their own sidecars.
    Version,
}

/// In place of a calling service: all of them.
const ANY_SOURCE: &str = "-";

/// The edges among what flows, ordered. What was never used is none.
#[must_use]
pub fn shown(flows: &Flows, by: EdgesBy) -> Vec<Edge> {
    let edges = flows.wholes.iter().filter(|(_, flow)| flow.used);
    let edges = edges.map(|((source, target), flow)| flow.edge(source.to_string(), target));
    match by {
        EdgesBy::Subset => edges.collect(),
        EdgesBy::Route => by_rule(flows, edges.collect()),
        EdgesBy::Version => by_version(flows),
    }
}

fn by_version(flows: &Flows) -> Vec<Edge> {
    let versions = flows.versions.iter().filter(|(_, flow)| flow.used);
    versions.map(|((_, target), flow)| flow.edge(ANY_SOURCE.to_owned(), target)).collect()
}

/// Rules have no connections: whether their requests go by mutual TLS is known of their caller.
fn by_rule(flows: &Flows, edges: Vec<Edge>) -> Vec<Edge> {
    let mut secured: BTreeMap<String, bool> = BTreeMap::new();
    for edge in edges {
        *secured.entry(edge.source).or_insert(true) &= edge.mtls;
    }
    let rules = flows.rules.iter().filter(|(_, flow)| flow.used);
    let mtls = |source: &ServiceId| secured.get(&source.to_string()).copied().unwrap_or_default();
    rules
        .map(|((source, target), flow)| Edge { mtls: mtls(source), ..flow.edge(source.to_string(), target) })
        .collect()
}
