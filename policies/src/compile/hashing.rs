//! What of requests is hashed, where that chooses the endpoint.

use envoy_types::pb::envoy::config::route::v3::route_action::HashPolicy;
use envoy_types::pb::envoy::config::route::v3::route_action::hash_policy::{
    ConnectionProperties, Cookie, Header, PolicySpecifier, QueryParameter,
};
use envoy_types::pb::envoy::r#type::v3::HashPolicy as ConnectionHashPolicy;
use envoy_types::pb::envoy::r#type::v3::hash_policy::{PolicySpecifier as ConnectionSpecifier, SourceIp};
use weft_api::names::Name;

use super::compiled::Origins;
use super::model::Model;
use super::wire;
use crate::kinds::reference::BackendRef;
use crate::kinds::route::backend_key;
use crate::kinds::traffic_policy::hash_on::{HashOn, HashedPart};
use crate::set::EffectiveTraffic;

/// What requests for these backends are hashed by: all that any of the backends asks for, each once, in the order of the
/// backends. So each of several keeps what is alike in all of it with one endpoint.
pub(super) fn of_backends<'a>(
    backends: impl IntoIterator<Item = &'a BackendRef>,
    namespace: &Name,
    model: &Model<'_>,
) -> (Vec<HashPolicy>, Origins) {
    let mut policies = Vec::new();
    let mut origins = Origins::default();
    for traffic in backends.into_iter().filter_map(|backend| of_backend(backend, namespace, model)) {
        add(&mut policies, &mut origins, &traffic);
    }
    (policies, origins)
}

/// What requests for a port itself are hashed by.
pub(super) fn of_port(traffic: &EffectiveTraffic) -> Vec<HashPolicy> {
    traffic.hashed_on().iter().map(policy).collect()
}

/// What holds for calls to a backend; nothing where there is none.
pub(super) fn of_backend(
    backend: &BackendRef,
    namespace: &Name,
    model: &Model<'_>,
) -> Option<EffectiveTraffic> {
    let key = backend_key(backend, namespace);
    let found = model.set.backend(&key.id()).filter(|found| found.key() == key)?;
    let port = found.backend_port(backend.port)?;
    Some(model.set.traffic_for(&key.id(), &port.name, None))
}

/// The same of connections to these backends: no more is known of one than where it comes from.
pub(super) fn of_connections(backends: &[EffectiveTraffic]) -> (Vec<ConnectionHashPolicy>, Origins) {
    let by_address = |traffic: &&EffectiveTraffic| {
        traffic.hashed_on().iter().any(|hashed| hashed.part == HashedPart::SourceAddress)
    };
    let mut origins = Origins::default();
    let hashed: Vec<_> = backends.iter().filter(by_address).collect();
    hashed.iter().for_each(|traffic| add_origins(&mut origins, traffic));
    let policy =
        ConnectionHashPolicy { policy_specifier: Some(ConnectionSpecifier::SourceIp(SourceIp::default())) };
    (hashed.first().map(|_| policy).into_iter().collect(), origins)
}

fn add_origins(origins: &mut Origins, traffic: &EffectiveTraffic) {
    origins.extend(traffic.load_balancer.as_ref().map(|set| set.origin.clone()));
    origins.extend(traffic.hash_on.as_ref().map(|set| set.origin.clone()));
}

fn add(policies: &mut Vec<HashPolicy>, origins: &mut Origins, traffic: &EffectiveTraffic) {
    let hashed = traffic.hashed_on();
    if hashed.is_empty() {
        return;
    }
    add_origins(origins, traffic);
    for hashed in hashed {
        let policy = policy(hashed);
        if !policies.contains(&policy) {
            policies.push(policy);
        }
    }
}

fn policy(hashed: &HashOn) -> HashPolicy {
    let name = hashed.name.clone().unwrap_or_default();
    let specifier = match hashed.part {
        HashedPart::Header => {
            PolicySpecifier::Header(Header { header_name: name.to_ascii_lowercase(), regex_rewrite: None })
        }
        HashedPart::Cookie => PolicySpecifier::Cookie(Cookie {
            name,
            ttl: hashed.ttl.map(|ttl| wire::duration(ttl.get())),
            path: hashed.path.clone().unwrap_or_default(),
            attributes: Vec::new(),
        }),
        HashedPart::SourceAddress => {
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true })
        }
        HashedPart::QueryParam => PolicySpecifier::QueryParameter(QueryParameter { name }),
    };
    HashPolicy { terminal: hashed.terminal, policy_specifier: Some(specifier) }
}
