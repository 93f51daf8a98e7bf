//! `/clusters`: each cluster with its limits and endpoints.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::query::QueryParameters;
use super::response::AdminResponse;
use crate::breaker::Breaker;
use crate::control::ControlHandle;
use crate::runtime::{Cluster, Endpoint, Health};

pub(super) async fn render(query: &QueryParameters, handle: &ControlHandle) -> AdminResponse {
    let as_json = query.value("format") == Some("json");
    let page = handle.inspect(move |state| {
        let mut clusters: Vec<_> = state.runtime.clusters.values().collect();
        clusters.sort_by(|a, b| a.name.cmp(&b.name));
        if as_json {
            let statuses = clusters.iter().map(|cluster| status(cluster, state.is_dynamic(&cluster.name)));
            AdminResponse::json(&json!({ "cluster_statuses": statuses.collect::<Vec<_>>() }))
        } else {
            let mut text = String::new();
            for cluster in clusters {
                lines(&mut text, cluster, state.is_dynamic(&cluster.name));
            }
            AdminResponse::text(text)
        }
    });
    page.await.unwrap_or_else(AdminResponse::gone)
}

fn limits(breaker: &Breaker) -> [(&'static str, u32); 4] {
    let limits = breaker.thresholds();
    [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ]
}

fn flags(cluster: &Cluster, index: usize, endpoint: &Endpoint) -> String {
    let mut flags = String::new();
    if cluster.outliers.is_ejected(index) {
        flags.push_str("/failed_outlier_check");
    }
    match endpoint.health {
        Health::Healthy => {}
        Health::Degraded => flags.push_str("/degraded_eds_health"),
        Health::Draining => flags.push_str("/eds_status_draining"),
        Health::Unhealthy => flags.push_str("/failed_eds_health"),
    }
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

// Writing to a String cannot fail.
fn lines(out: &mut String, cluster: &Cluster, dynamic: bool) {
    let name = &cluster.name;
    let _ = writeln!(out, "{name}::observability_name::{}", cluster.stat_name);
    for (priority, breaker) in [("default", &cluster.breaker), ("high", &cluster.high_breaker)] {
        for (limit, value) in limits(breaker) {
            let _ = writeln!(out, "{name}::{priority}_priority::{limit}::{value}");
        }
    }
    let _ = writeln!(out, "{name}::added_via_api::{dynamic}");
    for (index, endpoint) in cluster.endpoints.list.iter().enumerate() {
        let at = endpoint.address;
        let facts = [
            ("hostname", endpoint.hostname.as_deref().unwrap_or_default().to_owned()),
            ("health_flags", flags(cluster, index, endpoint)),
            ("weight", endpoint.weight.to_string()),
            ("region", endpoint.locality.region.clone()),
            ("zone", endpoint.locality.zone.clone()),
            ("sub_zone", endpoint.locality.sub_zone.clone()),
            ("priority", endpoint.priority.to_string()),
        ];
        for (fact, value) in facts {
            let _ = writeln!(out, "{name}::{at}::{fact}::{value}");
        }
    }
}

fn status(cluster: &Cluster, dynamic: bool) -> Value {
    let hosts = cluster.endpoints.list.iter().enumerate().map(|(index, endpoint)| {
        let eds = match endpoint.health {
            Health::Healthy => "HEALTHY",
            Health::Degraded => "DEGRADED",
            Health::Draining => "DRAINING",
            Health::Unhealthy => "UNHEALTHY",
        };
        let mut health = json!({ "eds_health_status": eds });
        if cluster.outliers.is_ejected(index) {
            health["failed_outlier_check"] = json!(true);
        }
        let address = endpoint.address;
        let socket = json!({ "address": address.ip().to_string(), "port_value": address.port() });
        json!({
            "address": { "socket_address": socket },
            "health_status": health,
            "weight": endpoint.weight,
            "hostname": endpoint.hostname.as_deref().unwrap_or_default(),
            "priority": endpoint.priority,
            "locality": {
                "region": endpoint.locality.region,
                "zone": endpoint.locality.zone,
                "sub_zone": endpoint.locality.sub_zone,
            },
        })
    });
    let thresholds = |priority: &str, breaker: &Breaker| {
        let mut shown = json!({ "priority": priority });
        for (limit, value) in limits(breaker) {
            shown[limit] = json!(value);
        }
        shown
    };
    json!({
        "name": &*cluster.name,
        "observability_name": &*cluster.stat_name,
        "added_via_api": dynamic,
        "host_statuses": hosts.collect::<Vec<_>>(),
        "circuit_breakers": { "thresholds": [
            thresholds("DEFAULT", &cluster.breaker), thresholds("HIGH", &cluster.high_breaker),
        ] },
    })
}
