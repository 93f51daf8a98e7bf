//! One rule of an AuthorizationPolicy as one policy of Envoy's RBAC: permissions (any of them) and principals (any of
//! them).

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::rbac::v3::permission::{self, Rule};
use envoy_types::pb::envoy::config::rbac::v3::principal::{self, Authenticated, Identifier};
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Policy, Principal};
use envoy_types::pb::envoy::config::route::v3::HeaderMatcher;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::value_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    DoubleMatcher, ListMatcher, OrMatcher, PathMatcher, StringMatcher, ValueMatcher, double_matcher,
    list_matcher, path_matcher,
};
use serde_json::Value;
use weft_api::names::{Name, SpiffeId, TrustDomain};

use super::super::{jwt, wire};
use crate::kinds::authorization_policy::{Action, AuthorizationRule, Condition, Operation, Source};
use crate::kinds::route_match::{PathMatch, PathMatchType};
use crate::kinds::service::Port;
use crate::value::PortRef;

/// What a rule is read in the light of.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleContext<'a> {
    pub(super) action: Action,
    /// The policy's namespace, which services named without one belong to.
    pub(super) namespace: &'a Name,
    pub(super) trust_domain: &'a TrustDomain,
    /// The port that is protected.
    pub(super) port: &'a Port,
}

/// Compiles a rule for one port; `None` when nothing that arrives there can match it.
pub(super) fn compile(rule: &AuthorizationRule, context: &RuleContext<'_>) -> Option<Policy> {
    let is_http = context.port.protocol.is_http();
    if !rule.when.is_empty() && !is_http {
        return None;
    }
    let conditions: Vec<Permission> = rule.when.iter().map(|one| condition(one, context.action)).collect();
    let mut permissions = Vec::new();
    if rule.to.is_empty() {
        permissions.push(all_of(conditions));
    } else {
        let here = |operation: &&Operation| {
            (is_http || !operation.needs_http()) && names_port(&operation.ports, context.port)
        };
        for operation in rule.to.iter().filter(here) {
            let mut parts = operation_parts(operation);
            parts.extend(conditions.iter().cloned());
            permissions.push(all_of(parts));
        }
    }
    let principals = if rule.from.is_empty() {
        vec![principal(Identifier::Any(true))]
    } else {
        let here = |source: &&Source| is_http || source.claims.is_empty();
        rule.from.iter().filter(here).map(|one| source(one, context)).collect()
    };
    let can_match = !permissions.is_empty() && !principals.is_empty();
    can_match.then(|| Policy { permissions, principals, ..Default::default() })
}

fn names_port(ports: &[PortRef], port: &Port) -> bool {
    let names = |one: &PortRef| match one {
        PortRef::Number(number) => *number == port.port,
        PortRef::Name(name) => *name == port.name,
    };
    ports.is_empty() || ports.iter().any(names)
}

/// What an operation asks beside the port: each field by one of its values.
fn operation_parts(operation: &Operation) -> Vec<Permission> {
    let mut parts = Vec::new();
    if !operation.methods.is_empty() {
        let methods = operation.methods.iter().map(|method| header(":method", wire::exact(method.as_str())));
        parts.push(any_of(methods.collect()));
    }
    if !operation.paths.is_empty() {
        parts.push(any_of(operation.paths.iter().flat_map(paths).collect()));
    }
    if !operation.grpc_methods.is_empty() {
        let methods = operation.grpc_methods.iter().map(|method| match method.strip_suffix("/*") {
            Some(service) => url_path(wire::prefix(format!("/{service}/"))),
            None => url_path(wire::exact(format!("/{method}"))),
        });
        parts.push(any_of(methods.collect()));
    }
    parts
}

/// A path as one or two matchers: a prefix is of whole elements, `/a` fits `/a` and `/a/b`, not `/ab`.
fn paths(path: &PathMatch) -> Vec<Permission> {
    match path.match_type {
        PathMatchType::Exact => vec![url_path(wire::exact(&path.value))],
        PathMatchType::RegularExpression => vec![url_path(wire::regex(&path.value))],
        PathMatchType::PathPrefix => match path.value.trim_end_matches('/') {
            "" => vec![permission(Rule::Any(true))],
            prefix => {
                vec![url_path(wire::exact(prefix)), url_path(wire::prefix(format!("{prefix}/")))]
            }
        },
    }
}

/// A header with one of the values. weft-proxy, and Envoy up to 1.36, compare repeated headers joined by commas; Envoy 1.40
/// compares each for itself, and is content with one that fits. An Allow wants the whole to be one value, which only the former
/// can see (`dataplane/PARITY.md`); a Deny must not be escaped by adding a second one, so it looks at each element.
fn condition(condition: &Condition, action: Action) -> Permission {
    let values = condition.values.iter().map(|value| {
        let matcher = match action {
            Action::Allow => wire::exact(value),
            Action::Deny => wire::regex(format!(r"(?s)(.*,)?[ \t]*{}[ \t]*(,.*)?", regex::escape(value))),
        };
        header(condition.header.as_str(), matcher)
    });
    any_of(values.collect())
}

/// A caller: each field by one of its values.
fn source(source: &Source, context: &RuleContext<'_>) -> Principal {
    let mut parts = Vec::new();
    if !source.services.is_empty() {
        let names = source.services.iter().map(|service| {
            let identity = SpiffeId::service(context.trust_domain, &service.resolve(context.namespace));
            authenticated(wire::exact(identity.to_string()))
        });
        parts.push(any_id(names.collect()));
    }
    if !source.identities.is_empty() {
        let names = source.identities.iter().map(|identity| authenticated(wire::exact(identity.to_string())));
        parts.push(any_id(names.collect()));
    }
    if !source.namespaces.is_empty() {
        let names = source.namespaces.iter().map(|namespace| {
            authenticated(wire::prefix(format!("spiffe://{}/ns/{namespace}/svc/", context.trust_domain)))
        });
        parts.push(any_id(names.collect()));
    }
    if !source.cidrs.is_empty() {
        let ranges = source.cidrs.iter().map(|cidr| {
            principal(Identifier::DirectRemoteIp(CidrRange {
                address_prefix: cidr.address.to_string(),
                prefix_len: Some(wire::uint32(cidr.prefix.into())),
            }))
        });
        parts.push(any_id(ranges.collect()));
    }
    if !source.claims.is_empty() {
        let alternatives = source.claims.iter().map(|claims| {
            let mut parts = Vec::new();
            claim_parts(&mut Vec::new(), claims, &mut parts);
            all_ids(parts)
        });
        parts.push(any_id(alternatives.collect()));
    }
    all_ids(parts)
}

/// What is asked of claims below a path: each of them by one of its values.
fn claim_parts<'a>(
    path: &mut Vec<&'a str>,
    claims: &'a serde_json::Map<String, Value>,
    parts: &mut Vec<Principal>,
) {
    for (name, wanted) in claims {
        path.push(name);
        match wanted {
            Value::Object(inner) => claim_parts(path, inner, parts),
            Value::Array(values) => parts.push(claim(path, values)),
            Value::String(_) | Value::Bool(_) | Value::Number(_) | Value::Null => {
                parts.push(claim(path, std::slice::from_ref(wanted)));
            }
        }
        path.pop();
    }
}

/// A claim with one of these values, or a list of which one element is.
fn claim(path: &[&str], values: &[Value]) -> Principal {
    let each = values.iter().filter_map(scalar).flat_map(|value| {
        let one = ValueMatcher { match_pattern: Some(value) };
        let element = list_matcher::MatchPattern::OneOf(Box::new(one.clone()));
        let list = MatchPattern::ListMatch(Box::new(ListMatcher { match_pattern: Some(element) }));
        [one, ValueMatcher { match_pattern: Some(list) }]
    });
    jwt::claim(path, MatchPattern::OrMatch(OrMatcher { value_matchers: each.collect() }))
}

/// The matcher of a value; checks let nothing else through.
fn scalar(value: &Value) -> Option<MatchPattern> {
    Some(match value {
        Value::String(text) => MatchPattern::StringMatch(wire::exact(text)),
        Value::Bool(wanted) => MatchPattern::BoolMatch(*wanted),
        Value::Number(number) => MatchPattern::DoubleMatch(DoubleMatcher {
            match_pattern: Some(double_matcher::MatchPattern::Exact(number.as_f64()?)),
        }),
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    })
}

fn permission(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn url_path(matcher: StringMatcher) -> Permission {
    permission(Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(matcher)) }))
}

fn header(name: &str, matcher: StringMatcher) -> Permission {
    permission(Rule::Header(HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(matcher)),
        ..Default::default()
    }))
}

fn any_of(mut rules: Vec<Permission>) -> Permission {
    match rules.len() {
        1 => rules.remove(0),
        _ => permission(Rule::OrRules(permission::Set { rules })),
    }
}

fn all_of(mut rules: Vec<Permission>) -> Permission {
    match rules.len() {
        0 => permission(Rule::Any(true)),
        1 => rules.remove(0),
        _ => permission(Rule::AndRules(permission::Set { rules })),
    }
}

fn principal(identifier: Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}

fn authenticated(name: StringMatcher) -> Principal {
    principal(Identifier::Authenticated(Authenticated { principal_name: Some(name) }))
}

fn any_id(mut ids: Vec<Principal>) -> Principal {
    match ids.len() {
        1 => ids.remove(0),
        _ => principal(Identifier::OrIds(principal::Set { ids })),
    }
}

fn all_ids(mut ids: Vec<Principal>) -> Principal {
    match ids.len() {
        1 => ids.remove(0),
        _ => principal(Identifier::AndIds(principal::Set { ids })),
    }
}
