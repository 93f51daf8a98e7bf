//! Two policies of one kind that set one field of one target.

use std::collections::BTreeMap;

use super::index::Target;
use super::traffic::fields_set;
use super::validate::Out;
use super::{PolicyKey, PolicySet};
use crate::finding::{Code, Finding, Path, Step};

/// Notes every field that two TrafficPolicies set at one level, at both of them: neither wins.
pub(super) fn check(set: &PolicySet, out: &mut Out) {
    for (target, policies) in set.index.traffic.iter().filter(|(_, policies)| policies.len() > 1) {
        let mut set_by: BTreeMap<&'static str, Vec<PolicyKey>> = BTreeMap::new();
        for policy in policies {
            for field in fields_set(&policy.spec) {
                set_by.entry(field).or_default().push(policy.key());
            }
        }
        for (field, keys) in set_by.into_iter().filter(|(_, keys)| keys.len() > 1) {
            for key in &keys {
                let others: Vec<String> =
                    keys.iter().filter(|other| *other != key).map(PolicyKey::to_string).collect();
                let message =
                    format!("{key} and {} both set {field} of {}", others.join(" and "), describe(target));
                let finding = Finding::new(field_path(field), Code::Conflict, message)
                    .hint("remove it from one of them, or target something more specific");
                out.add(key, finding);
            }
        }
    }
    check_hostnames(set, out);
}

/// Notes host names that two services claim.
fn check_hostnames(set: &PolicySet, out: &mut Out) {
    let mut claimed: BTreeMap<&str, Vec<(PolicyKey, usize)>> = BTreeMap::new();
    for service in set.services() {
        for (index, hostname) in service.spec.hostnames.iter().enumerate() {
            claimed.entry(hostname.as_str()).or_default().push((service.key(), index));
        }
    }
    for (hostname, by) in claimed.into_iter().filter(|(_, by)| by.len() > 1) {
        for (key, index) in &by {
            let other =
                by.iter().find(|(other, place)| (other, place) != (key, index)).map(|(other, _)| other);
            let Some(other) = other else { continue };
            let path = crate::finding::steps!["spec", "hostnames", *index];
            let (code, message) = if other == key {
                (Code::Duplicate, format!("{hostname} stands twice"))
            } else {
                (Code::Conflict, format!("{key} and {other} both claim the host name {hostname}"))
            };
            out.add(key, Finding::new(path, code, message).value(hostname));
        }
    }
}

fn field_path(field: &'static str) -> Path {
    let mut path = Path::default();
    for step in field.split('.') {
        path.push(Step::from(step));
    }
    path
}

fn describe(target: &Target) -> String {
    let part = |name: &Option<weft_api::Name>, what: &str| {
        name.as_ref().map(|name| format!(" {what} {name}")).unwrap_or_default()
    };
    match target {
        Target::Mesh => "the mesh".to_owned(),
        Target::Namespace(name) => format!("namespace {name}"),
        Target::Service(id, port) => format!("Service {id}{}", part(port, "port")),
        Target::HttpRoute(id, rule) => format!("HTTPRoute {id}{}", part(rule, "rule")),
        Target::TcpRoute(id, rule) => format!("TCPRoute {id}{}", part(rule, "rule")),
    }
}
