//! MeshHTTPRoute and MeshTCPRoute.

use serde_json::{Value, json};
use weft_api::{Name, ServiceId};
use weft_policies::Kind;

use super::backends::{assumed, backends};
use super::resource::{KumaResource, KumaTarget};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;

/// Whose route one is: its namespace, and the callers that follow it.
struct RouteReach {
    namespace: Name,
    clients: Option<Value>,
}

pub(super) fn http<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    each_destination(resource, drafts, |to, service, port, reach, index, drafts| {
        to.get("hostnames").inspect(|node| node.not_carried("is for gateways, of which there are none"));
        drafts.port(service, port, "HTTP", to);
        let mut rules = Vec::new();
        let mut catches_all = false;
        for (number, rule) in to.list("rules").into_iter().enumerate() {
            let Some(matches) = matches(&rule) else {
                rule.not_carried(
                    "is left out, and its requests follow what comes after it: a match is not carried",
                );
                continue;
            };
            let default = rule.get("default");
            let refs = default.as_ref().map(|default| default.list("backendRefs")).unwrap_or_default();
            let filters = default.as_ref().map(filters).unwrap_or_default();
            let mut made = json!({"name": format!("rule-{}", number + 1), "matches": matches});
            catches_all |= matches.contains(&json!({"path": {"type": "PathPrefix", "value": "/"}}));
            let redirects = filters.iter().any(|filter| filter["type"] == "RequestRedirect");
            if !redirects {
                made["backendRefs"] = if refs.is_empty() {
                    own(service, port, reach)
                } else {
                    match backends(resource, &refs, &reach.namespace, "HTTP", drafts) {
                        Some(backends) => backends,
                        None => {
                            rule.not_carried("is left out, and its requests follow what comes after it");
                            continue;
                        }
                    }
                };
            }
            if !filters.is_empty() {
                made["filters"] = json!(filters);
            }
            rules.push(made);
        }
        if !catches_all {
            to.differs("what no rule matches goes to the service itself, as Kuma 2 has it: remove the last rule to refuse it");
            rules.push(json!({"name": "rest", "backendRefs": own(service, port, reach)}));
        }
        put(Kind::HttpRoute, resource, to, (service, port), reach, &rules, index, drafts);
    });
}

pub(super) fn tcp<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    each_destination(resource, drafts, |to, service, port, reach, index, drafts| {
        if reach.clients.is_some() {
            return to.not_carried("a TCPRoute is for all callers that see it");
        }
        drafts.port(service, port, "TCP", to);
        let refs: Vec<InputNode<'a>> = to
            .list("rules")
            .iter()
            .filter_map(|rule| rule.get("default"))
            .flat_map(|default| default.list("backendRefs"))
            .collect();
        if let Some(backends) = backends(resource, &refs, &reach.namespace, "TCP", drafts) {
            let rules = vec![json!({"backendRefs": backends})];
            put(Kind::TcpRoute, resource, to, (service, port), reach, &rules, index, drafts);
        }
    });
}

fn own(service: &ServiceId, port: u16, reach: &RouteReach) -> Value {
    let mut backend = json!({"name": service.name, "port": port});
    if service.namespace != reach.namespace {
        backend["namespace"] = json!(service.namespace);
    }
    json!([backend])
}

/// Visits the services that a route of Kuma is about.
fn each_destination<'a>(
    resource: &KumaResource<'a>,
    drafts: &mut Drafts<'a>,
    mut visit: impl FnMut(&InputNode<'a>, &ServiceId, u16, &RouteReach, usize, &mut Drafts<'a>),
) {
    let callers = match resource.spec.get("targetRef") {
        Some(target) => resource.target(&target),
        None => Some(KumaTarget::Everybody),
    };
    for (index, to) in resource.spec.list("to").into_iter().enumerate() {
        let target = to.get("targetRef").and_then(|target| resource.target(&target));
        let Some(KumaTarget::Service(service, port)) = target else {
            to.not_carried("a route is about one service");
            continue;
        };
        let clients = match &callers {
            Some(KumaTarget::Everybody) => None,
            Some(KumaTarget::Namespace(name)) => Some(json!([{"kind": "Namespace", "name": name}])),
            Some(KumaTarget::Service(..)) | None => {
                to.not_carried("a route is for all callers or for those of a namespace");
                continue;
            }
        };
        let port = port.or_else(|| drafts.port_of(&service)).unwrap_or_else(|| assumed(&service, &to));
        // In the system's namespace it is for everybody, as a route of the service's own namespace is here.
        let namespace = resource.namespace.clone().unwrap_or_else(|| service.namespace.clone());
        visit(&to, &service, port, &RouteReach { namespace, clients }, index, drafts);
    }
}

#[allow(clippy::too_many_arguments, reason = "all of them are one route")]
fn put<'a>(
    kind: Kind,
    resource: &KumaResource<'a>,
    to: &InputNode<'a>,
    (service, port): (&ServiceId, u16),
    reach: &RouteReach,
    rules: &[Value],
    index: usize,
    drafts: &mut Drafts<'a>,
) {
    let name =
        if index == 0 { resource.name.to_string() } else { format!("{}-{}", resource.name, index + 1) };
    let Ok(id) = ServiceId::try_new(reach.namespace.as_str(), &name) else {
        return to.not_carried(format!("{name} is no name here"));
    };
    let mut parent = json!({"kind": "Service", "name": service.name, "port": port});
    if service.namespace != reach.namespace {
        parent["namespace"] = json!(service.namespace);
    }
    let draft = drafts.object(kind, id, to);
    draft.write(json!({"parentRefs": [parent], "rules": rules}));
    if let Some(clients) = &reach.clients {
        draft.set(&["clients"], clients.clone());
    }
}

fn matches(rule: &InputNode<'_>) -> Option<Vec<Value>> {
    let mut matches = Vec::new();
    for node in rule.list("matches") {
        let mut one = json!({});
        if let Some(path) = node.get("path") {
            one["path"] = json!({"type": path.get("type")?.text()?, "value": path.get("value")?.text()?});
        }
        if let Some(method) = node.get("method") {
            one["method"] = json!(method.text()?);
        }
        for field in ["headers", "queryParams"] {
            let mut tests = Vec::new();
            for test in node.list(field) {
                tests.push(value_test(&test)?);
            }
            if !tests.is_empty() {
                one[field] = json!(tests);
            }
        }
        matches.push(one);
    }
    Some(matches)
}

fn value_test(node: &InputNode<'_>) -> Option<Value> {
    let name = node.get("name")?.text()?;
    let value = node.get("value").and_then(|value| value.scalar()).unwrap_or_default();
    let kind = node.get("type");
    let (kind, value) = match kind.as_ref().and_then(InputNode::text).unwrap_or("Exact") {
        "Exact" => ("Exact", value),
        "RegularExpression" => ("RegularExpression", value),
        "Prefix" => ("RegularExpression", format!("{}.*", regex::escape(&value))),
        "Present" => ("RegularExpression", ".*".to_owned()),
        other => {
            node.not_carried(format!("{other}: no such condition is known"));
            return None;
        }
    };
    Some(json!({"name": name, "type": kind, "value": value}))
}

/// The filters of a rule, which are Gateway API's but for details.
fn filters(default: &InputNode<'_>) -> Vec<Value> {
    let mut filters = Vec::new();
    for node in default.list("filters") {
        let kind = node.get("type");
        let Some(kind) = kind.as_ref().and_then(InputNode::text) else { continue };
        let (field, known): (&str, &[&str]) = match kind {
            "RequestHeaderModifier" => ("requestHeaderModifier", &["set", "add", "remove"]),
            "ResponseHeaderModifier" => ("responseHeaderModifier", &["set", "add", "remove"]),
            "RequestRedirect" => ("requestRedirect", &["scheme", "hostname", "path", "port", "statusCode"]),
            "URLRewrite" => ("urlRewrite", &["hostname", "path"]),
            "RequestMirror" => {
                node.not_carried("requests are not copied yet");
                continue;
            }
            other => {
                node.not_carried(format!("{other}: no such filter is known"));
                continue;
            }
        };
        let Some(written) = node.get(field) else { continue };
        let mut made = json!({});
        for name in known {
            if let Some(value) = written.get(name) {
                made[*name] = value.copied();
            }
        }
        let mut filter = json!({"type": kind});
        filter[field] = made;
        filters.push(filter);
    }
    filters
}
