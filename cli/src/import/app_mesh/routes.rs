//! Virtual services, and the routes of the routers behind them.

use serde_json::{Value, json};
use weft_api::ServiceId;
use weft_policies::Kind;

use super::matching;
use super::object::{AppMeshCatalog, AppMeshObject, of_node, of_virtual_service, ports, referred, span};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;
use crate::import::names;
use crate::import::order::note_order;

pub(super) fn import<'a>(catalog: &AppMeshCatalog<'a>, service: &AppMeshObject<'a>, drafts: &mut Drafts<'a>) {
    let Some((id, hostname)) = of_virtual_service(service) else {
        return service.root.not_carried("has no name that can be taken");
    };
    let provider = service.spec.get("provider");
    let node = provider.as_ref().and_then(|provider| referred(&provider.get("virtualNode")?, "virtualNode"));
    let router =
        provider.as_ref().and_then(|provider| referred(&provider.get("virtualRouter")?, "virtualRouter"));
    match (
        node.map(|name| (name, catalog.nodes.get(name))),
        router.map(|name| (name, catalog.routers.get(name))),
    ) {
        (Some((_, Some(node))), _) => lead_to_node(&id, service, node, drafts),
        (_, Some((name, Some(router)))) => lead_through_router(catalog, &id, service, (name, router), drafts),
        (Some((name, None)), _) | (_, Some((name, None))) => {
            return service.root.not_carried(format!("{name}, which provides it, is in none of the files"));
        }
        (None, None) => return service.root.not_carried("nothing provides it"),
    }
    if let Some(hostname) = hostname {
        drafts.object(Kind::Service, id, &service.root).set(&["hostnames"], json!([hostname]));
    }
}

fn lead_to_node<'a>(
    id: &ServiceId,
    service: &AppMeshObject<'a>,
    node: &AppMeshObject<'a>,
    drafts: &mut Drafts<'a>,
) {
    let Some(target) = of_node(node) else { return };
    if target == *id {
        return;
    }
    for (port, protocol) in ports(node) {
        drafts.port(id, port, protocol, &service.root);
        let kind = kind_of(protocol);
        let name = if kind == Kind::HttpRoute { id.name.to_string() } else { format!("{}-{port}", id.name) };
        let Ok(route) = ServiceId::try_new(id.namespace.as_str(), &name) else { continue };
        let mut backend = json!({"name": target.name, "port": port});
        if target.namespace != id.namespace {
            backend["namespace"] = json!(target.namespace);
        }
        let parent = json!({"kind": "Service", "name": id.name, "port": port});
        let draft = drafts.object(kind, route, &service.root);
        draft.write(json!({"parentRefs": [parent], "rules": [{"backendRefs": [backend]}]}));
    }
}

fn kind_of(protocol: &str) -> Kind {
    match protocol {
        "TCP" => Kind::TcpRoute,
        "GRPC" => Kind::GrpcRoute,
        _ => Kind::HttpRoute,
    }
}

fn lead_through_router<'a>(
    catalog: &AppMeshCatalog<'a>,
    id: &ServiceId,
    service: &AppMeshObject<'a>,
    (name, router): (&str, &AppMeshObject<'a>),
    drafts: &mut Drafts<'a>,
) {
    router.spec.get("awsName").inspect(InputNode::aside);
    let ports = ports(router);
    for (port, protocol) in &ports {
        drafts.port(id, *port, protocol, &service.root);
    }
    let mut routes: Vec<_> = catalog.routes.iter().filter(|route| route.router == name).collect();
    // The lowest number goes first; those without one are the last.
    let priority = |route: &InputNode<'a>| route.get("priority").and_then(|priority| priority.count());
    routes.sort_by_key(|route| priority(&route.spec).unwrap_or(u32::MAX));
    let mut by_kind: Vec<(Kind, Vec<(Value, InputNode<'a>)>)> = Vec::new();
    for (index, route) in routes.into_iter().enumerate() {
        let named = route.name.as_deref().and_then(names::plain);
        let route = &route.spec;
        let rule = named.map_or_else(|| format!("route-{}", index + 1), |name| name.to_string());
        let known = ["httpRoute", "http2Route", "grpcRoute", "tcpRoute"];
        let Some((field, written)) = known.into_iter().find_map(|field| Some((field, route.get(field)?)))
        else {
            route.not_carried("says nothing of requests");
            continue;
        };
        let kind = match field {
            "grpcRoute" => Kind::GrpcRoute,
            "tcpRoute" => Kind::TcpRoute,
            _ => Kind::HttpRoute,
        };
        let port = written.at(&["match", "port"]);
        if port.as_ref().is_some_and(|port| ports.len() != 1 || port.count() != Some(u32::from(ports[0].0))) {
            written.not_carried("is left out: a route for one of several ports is not carried");
            continue;
        }
        let Some(made) = made(catalog, kind, (id, &rule), &written, drafts) else { continue };
        match by_kind.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, rules)) => rules.push((made, route.clone())),
            None => by_kind.push((kind, vec![(made, route.clone())])),
        }
    }
    if by_kind.is_empty() {
        service.root.not_carried("its router has no route that is carried");
    }
    for (kind, rules) in by_kind {
        note_order(&rules);
        let of: Vec<InputNode<'a>> = rules.iter().map(|(_, of)| of.clone()).collect();
        let rules: Vec<Value> = rules.into_iter().map(|(rule, _)| rule).collect();
        for node in &of {
            drafts.object(kind, id.clone(), node);
        }
        let draft = drafts.object(kind, id.clone(), &service.root);
        draft.write(json!({"parentRefs": [{"kind": "Service", "name": id.name}], "rules": rules}));
    }
}

/// One rule of a route; nothing where it cannot be carried, which is noted.
fn made<'a>(
    catalog: &AppMeshCatalog<'a>,
    kind: Kind,
    (id, name): (&ServiceId, &str),
    written: &InputNode<'a>,
    drafts: &mut Drafts<'a>,
) -> Option<Value> {
    let mut rule = json!({"name": name});
    let asked = written.get("match");
    let one = match (kind, &asked) {
        (Kind::HttpRoute, Some(asked)) => matching::http(asked),
        (Kind::GrpcRoute, Some(asked)) => matching::grpc(asked),
        _ => Some(json!({})),
    };
    let Some(one) = one else {
        written.not_carried("is left out, and its requests follow other routes: a condition is not carried");
        return None;
    };
    if one != json!({}) {
        rule["matches"] = json!([one]);
    }
    let mut backends = Vec::new();
    for target in
        written.at(&["action", "weightedTargets"]).map(|targets| targets.items()).unwrap_or_default()
    {
        let node = target
            .get("virtualNode")
            .and_then(|node| node.text())
            .or_else(|| target.at(&["virtualNodeRef", "name"])?.text());
        target.at(&["virtualNodeRef", "namespace"]).inspect(InputNode::aside);
        let node = node.and_then(|name| catalog.nodes.get(name));
        let Some((node, service)) = node.and_then(|node| Some((node, of_node(node)?))) else {
            written.not_carried(
                "is left out, and its requests follow other routes: a target is in none of the files",
            );
            return None;
        };
        let port = target.get("port").and_then(|port| port.count());
        let port = port.or_else(|| ports(node).first().map(|(port, _)| u32::from(*port))).unwrap_or(80);
        let mut backend = json!({"name": service.name, "port": port});
        if service.namespace != id.namespace {
            backend["namespace"] = json!(service.namespace);
        }
        if let Some(weight) = target.get("weight").and_then(|weight| weight.count()) {
            backend["weight"] = json!(weight);
        }
        backends.push(backend);
    }
    rule["backendRefs"] = json!(backends);
    if kind != Kind::TcpRoute {
        traffic(kind, id, name, written, drafts);
        if let Some(limit) = written.at(&["timeout", "perRequest"]).as_ref().and_then(span) {
            rule["timeouts"] = json!({"request": limit});
        }
    }
    Some(rule)
}

/// Second tries and idle streams, which a policy says of the rule.
fn traffic<'a>(kind: Kind, id: &ServiceId, rule: &str, written: &InputNode<'a>, drafts: &mut Drafts<'a>) {
    if let Some(idle) = written.at(&["timeout", "idle"]).as_ref().and_then(span) {
        drafts.about_rule(kind, id, rule, written).set(&["timeouts", "streamIdle"], idle);
    }
    let Some(retry) = written.get("retryPolicy") else { return };
    let mut on: Vec<&str> = Vec::new();
    for node in retry.list("httpRetryEvents").into_iter().chain(retry.list("tcpRetryEvents")) {
        match node.text() {
            Some("server-error") => on.push("5xx"),
            Some("gateway-error") => on.push("GatewayError"),
            Some("client-error") => on.push("Retriable4xx"),
            Some("stream-error") => on.push("RefusedStream"),
            Some("connection-error") => on.push("ConnectFailure"),
            _ => node.not_carried("no such failure is tried again"),
        }
    }
    for node in retry.list("grpcRetryEvents") {
        node.not_carried("statuses of gRPC are not tried again");
    }
    if on.is_empty() {
        return retry.not_carried("no failure that it names is tried again here");
    }
    let policy = drafts.about_rule(kind, id, rule, written);
    policy.set(&["retry", "on"], json!(on));
    if let Some(attempts) = retry.get("maxRetries").and_then(|attempts| attempts.count()) {
        policy.set(&["retry", "attempts"], attempts);
    }
    if let Some(limit) = retry.get("perRetryTimeout").as_ref().and_then(span) {
        policy.set(&["timeouts", "backendRequest"], limit);
    }
}
