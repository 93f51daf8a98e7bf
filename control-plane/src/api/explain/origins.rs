//! Values that hold, each with who set it.

use serde_json::Value;
use weft_api::rest::ExplainedValue;
use weft_policies::compile::{built_in_of_backends, built_in_of_requests};
use weft_policies::kinds::role::{ApiKind, RoleVerb};
use weft_policies::set::{Effective, EffectiveTraffic, PolicyKey};

use super::super::rights::CallerRights;

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

/// What holds for the requests of a route.
pub fn of_requests(traffic: &EffectiveTraffic, shown: &Shown<'_>) -> Vec<ExplainedValue> {
    values(traffic, shown, &built_in_of_requests(), |field| OF_REQUESTS.contains(&field))
}

/// What holds for calls to a backend.
pub fn of_backends(traffic: &EffectiveTraffic, shown: &Shown<'_>) -> Vec<ExplainedValue> {
    values(traffic, shown, &built_in_of_backends(), |field| !OF_REQUESTS.contains(&field))
}

fn values(
    traffic: &EffectiveTraffic,
    shown: &Shown<'_>,
    built_in: &[(&str, Value)],
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<ExplainedValue> {
    let set: Vec<(&str, Effective<Value>)> =
        traffic.values().into_iter().filter(|(field, _)| is_wanted(field)).collect();
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
