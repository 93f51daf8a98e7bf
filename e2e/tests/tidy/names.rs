//! No type name stands for two things: what is found by its name is the one that was meant.
//!
//! Read are the types that the source declares at the level of a module; those that a macro writes are not seen.

use std::collections::BTreeMap;

use regex::Regex;

use crate::nothing_in;
use crate::source;

/// Names that stand more than once: in which crates, and why that is honest.
const MORE_THAN_ONCE: &[(&str, &[&str], &str)] = &[
    (
        "Filter Locality OutlierDetection RetryBudget RetryOn TcpKeepalive",
        &["dataplane", "policies"],
        "one thing of the Gateway API and Envoy on two layers: what a policy says, and what the proxy does by it",
    ),
    (
        "HeaderMatch NewPath PathMatch QueryMatch RouteMatch",
        &["dataplane/routing", "policies"],
        "one thing of the Gateway API and Envoy on two layers: what a policy says, and what is decided by it",
    ),
    (
        "ClusterChoice Route VirtualHost WeightedCluster",
        &["dataplane", "dataplane/routing"],
        "one thing: what decides, and the proxy's alias for it with what the proxy does besides",
    ),
    (
        "GrpcProbe HttpProbe Probe TcpProbe",
        &["dataplane", "policies"],
        "a service's health check on two layers: as it is written, and as the proxy carries it out",
    ),
    (
        "Health",
        &["dataplane", "policies"],
        "an endpoint's health on two layers: as it is published, and as it was told",
    ),
    (
        "Session",
        &["api/xds", "api/xds"],
        "the two ends of a discovery stream, `client::Session` and `server::Session`",
    ),
    (
        "Object",
        &["api", "policies"],
        "a stored object on two layers: as REST shows it, and as it passed all checks",
    ),
    (
        "Membership",
        &["cli", "dataplane"],
        "one file, `workload.json`: what the proxy writes, and what `weft` reads of it",
    ),
    ("Args", &["cli", "control-plane", "dataplane", "e2e"], "clap's word for a program's command line"),
    ("Command", &["cli", "dataplane", "e2e"], "clap's word for what a program is told to do"),
    (
        "Mesh Workload",
        &["e2e", "policies"],
        "an object of a policy set, and in the harness the processes that are one",
    ),
    (
        "Subnet",
        &["cli", "e2e"],
        "a block of loopback addresses: the harness uses nothing of the program that it tests",
    ),
];

/// The crates in which each type stands, by the type's name.
fn types() -> BTreeMap<String, Vec<(String, String)>> {
    let declared =
        Regex::new(r"(?m)^(?:pub(?:\([^)]*\))? )?(?:unsafe )?(?:struct|enum|union|trait|type) (\w+)")
            .unwrap();
    let mut found: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for file in source::rust() {
        let Some((folder, _)) = file.path.split_once("/src/") else { continue };
        for name in declared.captures_iter(file.production()) {
            found.entry(name[1].to_owned()).or_default().push((folder.to_owned(), file.path.clone()));
        }
    }
    assert!(found.len() > 1000, "only {} types were found", found.len());
    found
}

#[test]
fn no_type_name_stands_for_two_things() {
    let types = types();
    let mut allowed = BTreeMap::new();
    for (names, folders, _) in MORE_THAN_ONCE {
        for name in names.split_whitespace() {
            assert!(allowed.insert(name, *folders).is_none(), "{name} stands twice in MORE_THAN_ONCE");
        }
    }
    let mut found = Vec::new();
    for (name, places) in &types {
        let mut folders: Vec<&str> = places.iter().map(|(folder, _)| &**folder).collect();
        folders.sort_unstable();
        if folders.len() > 1 && allowed.get(&**name).is_none_or(|allowed| *allowed != folders) {
            let paths: Vec<&str> = places.iter().map(|(_, path)| &**path).collect();
            found.push(format!("{name}: {}", paths.join(", ")));
        }
    }
    for name in allowed.keys() {
        if types.get(*name).is_none_or(|places| places.len() < 2) {
            found.push(format!("{name}: stands once, strike it off the list MORE_THAN_ONCE"));
        }
    }
    nothing_in(&found, "name each type for what it is, or say in MORE_THAN_ONCE why the two share a name:");
}
