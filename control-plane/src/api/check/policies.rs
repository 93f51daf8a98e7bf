//! What is wrong with what people wrote: services nobody is a member of, policies that select nothing, tokens that end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weft_api::rest::CheckSeverity::{Failure, Ok as Well, Warning};
use weft_api::rest::Violation;
use weft_api::{ServiceId, WorkloadId};
use weft_policies::PolicySet;
use weft_policies::compile::{Health, WorkloadState};
use weft_policies::kinds::mesh::DefaultAction;
use weft_policies::kinds::role::ApiKind;
use weft_policies::kinds::{Kind, Service};
use weft_policies::value::PortRef;

use super::code::CheckCode;
use super::concern::Concern;
use super::mesh::{Around, span};
use crate::identity::tokens::TokenRecord;

const DAY: i64 = 86_400;

/// Workloads of each service that have not said goodbye.
pub type ServiceMembers<'a> = BTreeMap<ServiceId, Vec<&'a WorkloadState>>;

/// What is wrong with services.
pub fn of_services(around: &Around<'_>, members: &ServiceMembers<'_>) -> Vec<Concern> {
    let set = &around.snapshot.published.set;
    let mut found = Vec::new();
    for service in set.services() {
        let id = service.id();
        let of = members.get(&id).map_or(&[][..], Vec::as_slice);
        found.extend(of_service(&id, of));
    }
    for (id, state) in &around.snapshot.workloads {
        found.extend(of_identity(set, id, state));
        found.extend(of_upstreams(set, state));
    }
    found.extend(of_subsets(set, members));
    found
}

/// Who is a member of which service.
pub fn members<'a>(around: &Around<'a>) -> ServiceMembers<'a> {
    let set = &around.snapshot.published.set;
    let stays = |state: &&WorkloadState| {
        around.snapshot.records.get(&state.id).is_none_or(|record| record.left_at.is_none())
    };
    let mut members = ServiceMembers::new();
    let mut selecting: BTreeMap<&str, Vec<(ServiceId, &Service)>> = BTreeMap::new();
    for service in set.services().filter(|service| service.spec.selector.is_some()) {
        selecting.entry(service.metadata.namespace.as_str()).or_default().push((service.id(), &service.spec));
    }
    for state in around.snapshot.workloads.values().filter(stays) {
        let mut of: BTreeSet<ServiceId> = state.services.iter().chain(&state.identity).cloned().collect();
        let selected = selecting.get(state.id.namespace.as_str()).into_iter().flatten();
        of.extend(selected.filter(|(id, spec)| state.belongs_to(id, spec)).map(|(id, _)| id.clone()));
        for service in of {
            if set.service(&service).is_some_and(|found| state.belongs_to(&service, &found.spec)) {
                members.entry(service).or_default().push(state);
            }
        }
    }
    members
}

fn of_service(id: &ServiceId, members: &[&WorkloadState]) -> Option<Concern> {
    let kind = ApiKind::Document(Kind::Service);
    if members.is_empty() {
        return Some(
            Concern::of(CheckCode::ServiceWithoutMembers, Warning, kind, format!("Service {id}"))
                .says("it has no members: requests to it are answered 503")
                .remedy(format!(
                    "weft token create --service {id} for an instance, or weft delete service {id}"
                )),
        );
    }
    let healthy = |state: &&&WorkloadState| {
        let ports = state.port_health.values().copied().max().unwrap_or_default();
        state.health.max(ports) <= Health::Degraded
    };
    (members.iter().filter(healthy).count() == 0).then(|| {
        let count = members.len();
        let who = if count == 1 {
            "its only member does not".to_owned()
        } else {
            format!("none of its {count} members does")
        };
        Concern::of(CheckCode::ServiceWithoutHealthy, Failure, kind, format!("Service {id}"))
            .says(format!("{who} take requests"))
            .remedy(format!("weft proxy list tells why, of those under {id}"))
    })
}

fn of_identity(set: &PolicySet, id: &WorkloadId, state: &WorkloadState) -> Option<Concern> {
    let service = state.identity.as_ref().filter(|service| set.service(service).is_none())?;
    // One that only calls needs no Service.
    (!state.client).then(|| {
        Concern::of(CheckCode::ServiceMissing, Failure, ApiKind::Proxy, id.to_string())
            .says(format!("it joined as {service}, and there is no such Service: nobody is told of it"))
            .remedy(format!("apply a Service {service}, or join it with --client if it only calls"))
    })
}

fn of_upstreams(set: &PolicySet, state: &WorkloadState) -> Vec<Concern> {
    let unknown = state.upstreams.iter().filter(|upstream| {
        set.backend(&upstream.service).is_none_or(|found| found.find_port(&upstream.port).is_none())
    });
    unknown
        .map(|upstream| {
            let port = match &upstream.port {
                PortRef::Number(number) => number.to_string(),
                PortRef::Name(name) => name.to_string(),
            };
            let to = format!("{}:{port}", upstream.service);
            Concern::of(CheckCode::UpstreamUnknown, Warning, ApiKind::Proxy, state.id.to_string())
                .says(format!("it opens {} for {to}, and there is no such service and port", upstream.bind))
                .remedy(format!("apply that Service, or start it without --upstream {to}"))
        })
        .collect()
}

/// Subsets that a route sends requests to, and that no member is in.
fn of_subsets(set: &PolicySet, members: &ServiceMembers<'_>) -> Vec<Concern> {
    let mut found = Vec::new();
    for policy in
        [Kind::HttpRoute, Kind::GrpcRoute, Kind::TcpRoute].into_iter().flat_map(|kind| set.of_kind(kind))
    {
        let key = policy.key();
        let mut backends = BTreeSet::new();
        backends_with_subset(&policy.to_value()["spec"], &mut backends);
        for (name, namespace, subset) in backends {
            let namespace = namespace.unwrap_or_else(|| key.namespace.to_string());
            let Ok(service) = format!("{namespace}/{name}").parse::<ServiceId>() else { continue };
            let Some(spec) = set.service(&service).map(|service| &service.spec) else { continue };
            let Some(meant) = spec.subsets.iter().find(|one| one.name.as_str() == subset) else { continue };
            let of = members.get(&service).map_or(&[][..], Vec::as_slice);
            if of.is_empty() || of.iter().any(|state| state.is_in_subset(&service, meant)) {
                continue;
            }
            let labels: Vec<String> =
                meant.match_labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let labels = labels.join(",");
            found.push(
                Concern::of(CheckCode::SubsetEmpty, Warning, ApiKind::Document(key.kind), key.to_string())
                    .says(format!("it sends requests to {subset} of {service}, and no member has {labels}"))
                    .remedy(format!(
                        "start an instance with --label {labels}, or take that backend out of the route"
                    )),
            );
        }
    }
    found
}

/// Name, namespace and subset of whatever names all of that.
fn backends_with_subset(value: &Value, found: &mut BTreeSet<(String, Option<String>, String)>) {
    match value {
        Value::Object(fields) => {
            let text = |key: &str| fields.get(key).and_then(Value::as_str).map(str::to_owned);
            if let (Some(name), Some(subset)) = (text("name"), text("subset")) {
                found.insert((name, text("namespace"), subset));
            }
            fields.values().for_each(|inner| backends_with_subset(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| backends_with_subset(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is wrong with how policies fit together, as an apply warns of it.
pub fn of_policies(set: &PolicySet) -> Vec<Concern> {
    let mut found: Vec<Concern> = set.validate().iter().filter_map(of_violation).collect();
    let spoken_for = set.of_kind(Kind::AuthorizationPolicy).next().is_some();
    if !spoken_for && set.defaults().0.authorization == DefaultAction::Allow && !set.is_empty() {
        found.push(
            Concern::of_the_mesh(CheckCode::DefaultAllow, Well, "Mesh mesh")
                .says("there is no AuthorizationPolicy, and the default is Allow: every member may call every service")
                .remedy("apply AuthorizationPolicies, or a Mesh with defaults.authorization: Deny"),
        );
    }
    found
}

fn of_violation(violation: &Violation) -> Option<Concern> {
    let code = match violation.code.as_str() {
        "missing_reference" => CheckCode::PolicySelectsNothing,
        "unreachable_rule" => CheckCode::RuleUnreachable,
        _ => return None,
    };
    let kind: Kind = violation.object.split(' ').next()?.parse().ok()?;
    let (namespace, name) = violation.object.split_once(' ')?.1.split_once('/')?;
    let remedy = format!(
        "{}; or weft delete {} {namespace}/{name}",
        violation.hint.as_deref().unwrap_or("write what is there"),
        kind.name().to_lowercase()
    );
    Some(
        Concern::of(code, Warning, ApiKind::Document(kind), violation.object.clone())
            .says(format!("{}: {}", violation.path, violation.message))
            .remedy(remedy),
    )
}

/// Join tokens that were made for long, and end soon or have ended unused.
pub fn of_tokens(now: i64, tokens: &[TokenRecord]) -> Vec<Concern> {
    let is_for_long = |token: &&TokenRecord| token.expires_at - token.created_at > DAY && token.uses_left > 0;
    let ends = |token: &&TokenRecord| token.expires_at - now < DAY;
    let ending = tokens.iter().filter(is_for_long).filter(ends);
    ending
        .map(|token| {
            let left = token.expires_at - now;
            let when = if left > 0 { format!("ends in {}", span(left)) } else { format!("ended {} ago", span(-left)) };
            Concern::of(CheckCode::TokenEnds, Warning, ApiKind::JoinToken, token.service.to_string())
                .says(format!("join token {} {when}, with {} uses left", token.id, token.uses_left))
                .remedy(format!(
                    "weft token create --service {} --ttl 30d --uses N where instances start with it; weft token revoke {} if none does",
                    token.service, token.id
                ))
        })
        .collect()
}
