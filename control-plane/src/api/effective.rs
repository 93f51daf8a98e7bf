//! What holds for an object when policies of all levels are merged, each value with who set it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weft_api::ServiceId;
use weft_api::rest::{EffectiveValues, ExplainedValue};
use weft_policies::compile::{built_in_of_backends, built_in_of_requests};
use weft_policies::kinds::port::Port;
use weft_policies::kinds::reference::ParentKind;
use weft_policies::kinds::role::{ApiKind, RoleVerb};
use weft_policies::set::{
    Effective, EffectiveAuthentication, EffectiveTelemetry, EffectiveTraffic, PolicyKey,
};
use weft_policies::{Policy, PolicySet};

use super::rights::CallerRights;

/// What a route does with its requests; the other fields are about the backend.
const OF_REQUESTS: [&str; 7] = [
    "request_timeout",
    "backend_request_timeout",
    "stream_idle_timeout",
    "retry_attempts",
    "retry_codes",
    "retry_on",
    "retry_backoff",
];

/// Names of objects, as far as the one who asks may read them.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a CallerRights);

impl Shown<'_> {
    /// `KIND NAMESPACE/NAME`, or where that is not theirs to read, that there is one.
    pub fn key(&self, key: &PolicyKey) -> String {
        if self.may_read(key) { key.to_string() } else { hidden(key) }
    }

    /// Whether an object may be read.
    pub fn may_read(&self, key: &PolicyKey) -> bool {
        self.0.0.may(RoleVerb::Read, ApiKind::Document(key.kind), Some(&key.namespace))
    }
}

/// In place of the name of an object.
pub fn hidden(key: &PolicyKey) -> String {
    let article =
        if "AEIOU".contains(key.kind.name().chars().next().unwrap_or_default()) { "an" } else { "a" };
    format!("{article} {} of namespace {}", key.kind, key.namespace)
}

/// What holds for each port of a Service or of what is outside, and for each rule of a route; nothing for other kinds.
pub fn of_object(key: &PolicyKey, set: &PolicySet, shown: &Shown<'_>) -> Vec<EffectiveValues> {
    let id = ServiceId::new(key.namespace.clone(), key.name.clone());
    if let Some(backend) = set.backend(&id).filter(|backend| backend.key() == *key) {
        return backend.ports().iter().map(|port| of_port(&id, port, set, shown)).collect();
    }
    let route = set.get(key).filter(|route| route.request_rules().is_some());
    route.map(|route| of_route(route, set, shown)).unwrap_or_default()
}

fn of_port(service: &ServiceId, port: &Port, set: &PolicySet, shown: &Shown<'_>) -> EffectiveValues {
    let traffic = set.traffic_for(service, &port.name, None);
    let mut values = of_backends(&traffic, shown);
    if port.protocol.is_http() {
        values.extend(of_requests(&traffic, shown));
        values.extend(of_authentication(set.authentication_for(service, &port.name), shown));
    }
    values.extend(of_telemetry(&set.telemetry_for(service, &port.name), shown));
    // What somebody set stands first.
    values.sort_by_key(|value| value.origin.is_none());
    EffectiveValues { of: format!("port {}", port.name), values }
}

/// What holds for the requests of each rule, at each port that the route is attached to.
fn of_route(route: &Policy, set: &PolicySet, shown: &Shown<'_>) -> Vec<EffectiveValues> {
    let (key, namespace) = (route.key(), &route.metadata().namespace);
    let parents = route.request_rules().map(|rules| rules.parents).unwrap_or_default();
    let services = parents.iter().filter(|parent| parent.kind == ParentKind::Service);
    let services: BTreeSet<ServiceId> = services.map(|parent| parent.service(namespace)).collect();
    let mut found = Vec::new();
    for id in &services {
        for port in set.service(id).into_iter().flat_map(|service| &service.spec.ports) {
            let mut rules = set.http_rules_for(id, port, namespace);
            rules.retain(|one| one.route.key() == key);
            rules.sort_by_key(|one| one.rule_index);
            rules.dedup_by_key(|one| one.rule_index);
            found.extend(rules.iter().map(|one| EffectiveValues {
                of: format!("rule {} at {id}:{}", one.rule_name(), port.name),
                values: of_requests(&set.traffic_for(id, &port.name, Some(one)), shown),
            }));
        }
    }
    found
}

/// What holds for the requests of a route.
pub fn of_requests(traffic: &EffectiveTraffic, shown: &Shown<'_>) -> Vec<ExplainedValue> {
    let mut set = traffic.values();
    set.retain(|(field, _)| OF_REQUESTS.contains(field));
    with_origins(&set, shown, &built_in_of_requests())
}

/// What holds for calls to a backend.
pub fn of_backends(traffic: &EffectiveTraffic, shown: &Shown<'_>) -> Vec<ExplainedValue> {
    let mut set = traffic.values();
    set.retain(|(field, _)| !OF_REQUESTS.contains(field));
    with_origins(&set, shown, &built_in_of_backends())
}

/// What is logged and traced of requests.
fn of_telemetry(telemetry: &EffectiveTelemetry, shown: &Shown<'_>) -> Vec<ExplainedValue> {
    with_origins(&telemetry.values(), shown, &[])
}

/// Whose tokens requests bring, by the names of the providers, and whether they have to.
fn of_authentication(found: EffectiveAuthentication, shown: &Shown<'_>) -> Vec<ExplainedValue> {
    let Some(Effective { value, origin, path, level }) = found.jwt else { return Vec::new() };
    let names: Vec<String> = value.providers.iter().map(|provider| provider.name.to_string()).collect();
    let value = json!({"providers": names, "required": value.required});
    with_origins(&[("jwt", Effective { value, origin, path, level })], shown, &[])
}

fn with_origins(
    set: &[(&str, Effective<Value>)],
    shown: &Shown<'_>,
    built_in: &[(&str, Value)],
) -> Vec<ExplainedValue> {
    let unset = built_in.iter().filter(|(field, _)| set.iter().all(|(other, _)| other != field));
    let unset = unset.map(|(field, value)| ExplainedValue {
        field: camel_case(field),
        value: value.clone(),
        ..ExplainedValue::default()
    });
    let set = set.iter().map(|(field, one)| ExplainedValue {
        field: camel_case(field),
        value: one.value.clone(),
        origin: Some(shown.key(&one.origin)),
        level: Some(one.level.to_string()),
        path: shown.may_read(&one.origin).then(|| one.path.clone()),
    });
    set.chain(unset).collect()
}

/// `retry_attempts` as the API writes names: `retryAttempts`.
fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(word.len().min(1));
        name + &head.to_ascii_uppercase() + tail
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_api() {
        assert_eq!(camel_case("retry_attempts"), "retryAttempts");
        assert_eq!(camel_case("consecutive_5xx"), "consecutive5xx");
        assert_eq!(camel_case("requests"), "requests");
    }
}
