//! What is found between objects that name the same: those that want what only one can have, of which neither wins, and those
//! that need what none of the others gives.

use std::collections::BTreeMap;

use weft_api::{Name, ServiceId};

use super::PolicySet;
use super::routes::{applies, takes};
use crate::finding::{Code, Finding, Path, Step, missing, steps};
use crate::kinds::AuthorizationPolicy;
use crate::kinds::http_rule::RequestRules;
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Relation, Target};
use crate::object::PolicyKey;
use crate::policy::Policy;

/// What only one of several can have, by those that want it and where they say so.
type Claims<T> = BTreeMap<T, Vec<(PolicyKey, Path)>>;

/// What is found between all objects that name `target`, a conflict noted at every object in it.
pub(super) fn at(set: &PolicySet, target: &Target) -> Vec<(PolicyKey, Finding)> {
    let mut out = Vec::new();
    check_fields(set, target, &mut out);
    check_claims(set, target, &mut out);
    check_routes(set, target, &mut out);
    check_namesakes(set, target, &mut out);
    check_tokens(set, target, &mut out);
    out
}

/// Notes every field that two policies of one kind set at one target.
fn check_fields(set: &PolicySet, target: &Target, out: &mut Vec<(PolicyKey, Finding)>) {
    let mut wanted: Claims<(Kind, &'static str)> = BTreeMap::new();
    for policy in set.naming_any(Relation::Target, target) {
        for field in policy.object().fields_set() {
            wanted.entry((policy.kind(), field)).or_default().push((policy.key(), field_path(field)));
        }
    }
    for ((_, field), by) in wanted.into_iter().filter(|(_, by)| by.len() > 1) {
        let hint = "remove it from one of them, or target something more specific";
        note(&by, &format!("set {field} of {}", describe(target)), hint, out);
    }
}

/// Notes at each of those who want something that the others want it too.
fn note(by: &[(PolicyKey, Path)], what: &str, hint: &str, out: &mut Vec<(PolicyKey, Finding)>) {
    for (key, path) in by {
        let others: Vec<String> =
            by.iter().filter(|(other, _)| other != key).map(|(other, _)| other.to_string()).collect();
        let message = format!("{key} and {} both {what}", others.join(" and "));
        out.push((key.clone(), Finding::new(path.clone(), Code::Conflict, message).hint(hint)));
    }
}

/// Notes host names that two services claim.
fn check_claims(set: &PolicySet, target: &Target, out: &mut Vec<(PolicyKey, Finding)>) {
    let Target::Hostname(hostname) = target else { return };
    let places = |policy: &Policy| {
        let key = policy.key();
        let claims = policy.references().into_iter();
        let claims = claims.filter(|one| one.relation == Relation::Claim && one.target == *target);
        claims.map(|one| (key.clone(), one.path)).collect::<Vec<_>>()
    };
    let by: Vec<(PolicyKey, Path)> = set.naming_any(Relation::Claim, target).flat_map(places).collect();
    for (key, path) in &by {
        let Some((other, _)) = by.iter().find(|(other, place)| (other, place) != (key, path)) else {
            continue;
        };
        let (code, message) = if other == key {
            (Code::Duplicate, format!("{hostname} stands twice"))
        } else {
            (Code::Conflict, format!("{key} and {other} both claim the host name {hostname}"))
        };
        out.push((key.clone(), Finding::new(path.clone(), code, message).value(hostname)));
    }
}

/// Notes policies that ask for claims where no request can have any. All of them and all that take tokens name the mesh, so that
/// each change looks at all of these few.
fn check_tokens(set: &PolicySet, target: &Target, out: &mut Vec<(PolicyKey, Finding)>) {
    if *target != Target::Mesh {
        return;
    }
    let asking = set.naming::<AuthorizationPolicy>(Relation::Mention, target);
    for policy in asking.filter(|policy| policy.spec.asks_for_claims()) {
        for (index, one) in policy.spec.target_refs.iter().enumerate() {
            if set.takes_tokens(&one.resolve(&policy.metadata.namespace)) {
                continue;
            }
            let path = steps!["spec", "targetRefs", index];
            let what = format!("AuthenticationPolicy with jwt for {one}");
            let finding =
                missing(path, &what, "no request has claims there, and rules that ask for some match none");
            out.push((policy.key(), finding.hint("apply an AuthenticationPolicy with the same target")));
        }
    }
}

/// Notes routes of different kinds that take the requests of the same callers to one port: rules of one kind are in one
/// order, and there is none between two kinds.
fn check_routes(set: &PolicySet, target: &Target, out: &mut Vec<(PolicyKey, Finding)>) {
    let Target::Object(key, None) = target else { return };
    let routes: Vec<(&Policy, RequestRules<'_>)> = set
        .naming_any(Relation::Parent, target)
        .filter_map(|route| Some((route, route.request_rules()?)))
        .collect();
    if routes.iter().all(|(route, _)| route.kind() == routes[0].0.kind()) {
        return;
    }
    let id = key.id();
    let Some(service) = set.service(&id) else { return };
    for port in &service.spec.ports {
        let taking = || routes.iter().filter(|(route, rules)| takes(rules, route.metadata(), &id, port));
        for one in taking() {
            let others =
                taking().filter(|other| other.0.kind() != one.0.kind() && share_callers(one, other, &id));
            let others: Vec<String> = others.map(|(other, _)| other.key().to_string()).collect();
            if !others.is_empty() {
                let port = describe(&Target::service(&id, Some(&port.name)));
                out.push(two_kinds(one.0, &others.join(" and "), &port, target));
            }
        }
    }
}

fn two_kinds(route: &Policy, others: &str, port: &str, target: &Target) -> (PolicyKey, Finding) {
    let key = route.key();
    let parent = route.references().into_iter().find(|reference| reference.target == *target);
    let path = parent.map(|reference| reference.path).unwrap_or_default();
    let message = format!("{key} and {others} both route requests to {port}");
    let finding = Finding::new(path, Code::Conflict, message)
        .hint("name another port in parentRefs, or write the rules of both as one kind");
    (key, finding)
}

/// Whether some caller follows both routes.
fn share_callers(
    one: &(&Policy, RequestRules<'_>),
    other: &(&Policy, RequestRules<'_>),
    service: &ServiceId,
) -> bool {
    let mut callers = vec![service.namespace.clone()];
    for (route, rules) in [one, other] {
        callers.push(route.metadata().namespace.clone());
        callers.extend(rules.clients.iter().map(|client| client.name.clone()));
    }
    let follows = |(route, rules): &(&Policy, RequestRules<'_>), caller: &Name| {
        applies(route.metadata(), rules.clients, service, caller)
    };
    // Where neither names its callers, those of the service's own namespace stand for all.
    callers.iter().any(|caller| follows(one, caller) && follows(other, caller))
}

/// Notes that a Service and something outside have one name, under which both would be called and counted.
fn check_namesakes(set: &PolicySet, target: &Target, out: &mut Vec<(PolicyKey, Finding)>) {
    let Target::Object(key, None) = target else { return };
    if set.get(key).is_none() {
        return;
    }
    for other in key.namesakes().filter(|other| set.get(other).is_some()) {
        let message = format!("{key} and {other} both have the name {}", key.id());
        let finding = Finding::new(steps!["metadata", "name"], Code::Conflict, message);
        out.push((key.clone(), finding.value(&key.name).hint("name one of them otherwise")));
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
    match target {
        Target::Mesh => "the mesh".to_owned(),
        Target::Namespace(name) => format!("namespace {name}"),
        Target::Hostname(hostname) => hostname.to_string(),
        Target::Object(key, section) => format!("{key}{}", describe_section(key.kind, section.as_ref())),
    }
}

fn describe_section(kind: Kind, section: Option<&Name>) -> String {
    let what = if kind.is_backend() { "port" } else { "rule" };
    section.map(|name| format!(" {what} {name}")).unwrap_or_default()
}
