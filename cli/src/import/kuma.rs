//! Kuma's policies, universal and of Kubernetes.
//!
//! A policy with `to` is the callers', as ours of traffic are; one with `from` or `rules` the called side's. A policy that is
//! for some proxies only, by `targetRef`, has a counterpart where those are the callers of a namespace, or the members of a
//! service that is called.

mod backends;
mod observing;
mod permissions;
mod resource;
mod routes;
mod traffic;

use super::drafts::Drafts;
use super::input::ImportInput;
use super::options::ImportOptions;
use resource::take;

pub fn import<'a>(inputs: &'a [ImportInput], options: &ImportOptions, drafts: &mut Drafts<'a>) {
    let mut resources = Vec::new();
    for input in inputs {
        resources.extend(take(input, options));
    }
    // What services there are, first: others name their ports.
    resources.sort_by_key(|(kind, _)| *kind != "MeshService");
    let mut mesh = None;
    for (kind, resource) in &resources {
        match *kind {
            "Mesh" if mesh.replace(&resource.name).is_some_and(|other| *other != resource.name) => {
                resource.spec.not_carried("there is one mesh here: this is the second");
            }
            "Mesh" => observing::mesh(resource, drafts),
            "MeshService" => backends::service(resource, drafts),
            "MeshTrafficPermission" => permissions::import(resource, drafts),
            "MeshHTTPRoute" => routes::http(resource, drafts),
            "MeshTCPRoute" => routes::tcp(resource, drafts),
            "MeshTimeout" => traffic::import(resource, traffic::timeouts, drafts),
            "MeshRetry" => traffic::import(resource, traffic::retries, drafts),
            "MeshCircuitBreaker" => traffic::import(resource, traffic::breakers, drafts),
            "MeshLoadBalancingStrategy" => traffic::import(resource, traffic::balancing, drafts),
            "MeshHealthCheck" => traffic::health(resource, drafts),
            "MeshAccessLog" => observing::access_logs(resource, drafts),
            "MeshTrace" => observing::traces(resource, drafts),
            other => resource.spec.not_carried(no_counterpart(other)),
        }
    }
}

fn no_counterpart(kind: &str) -> String {
    let why = match kind {
        "MeshRateLimit" => "limits of requests are not policies yet",
        "MeshFaultInjection" => "planted faults are not policies yet",
        "MeshGateway" | "MeshGatewayRoute" | "MeshGatewayInstance" => "there are no gateways yet",
        "MeshExternalService" | "ExternalService" | "MeshPassthrough" => {
            "write an ExternalService for what is outside"
        }
        "MeshProxyPatch" | "ProxyTemplate" => "raw configuration of Envoy is not carried",
        "MeshMetric" => "metrics are always there: docs/tasks/scrape.md",
        "MeshTLS" => "services take mutual TLS only, and versions and ciphers are chosen by the proxies",
        "MeshMultiZoneService" | "Zone" | "ZoneIngress" | "ZoneEgress" => "there are no zones",
        "TrafficPermission" | "TrafficRoute" | "TrafficLog" | "TrafficTrace" | "CircuitBreaker"
        | "FaultInjection" | "HealthCheck" | "RateLimit" | "Retry" | "Timeout" => {
            "the policies before Kuma 2.0 are not read: move to the Mesh… ones first"
        }
        "Dataplane" => "workloads join by themselves: weft-proxy run --join",
        _ => "no such kind is known",
    };
    format!("{kind}: {why}")
}
