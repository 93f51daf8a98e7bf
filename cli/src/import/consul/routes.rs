//! Routers, splitters and redirects, as one route of each service.

use serde_json::{Value, json};
use weft_api::ServiceId;
use weft_policies::Kind;

use super::catalog::{ConsulCatalog, ConsulEntry, PORT};
use super::chain::{backends, leads_elsewhere};
use super::matching::{methods, value_test, written_path};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;
use crate::import::order::note_order;

pub(super) fn import<'a>(catalog: &ConsulCatalog<'a>, drafts: &mut Drafts<'a>) {
    for entry in catalog.routers.values() {
        import_router(catalog, entry, drafts);
    }
    let without_router = catalog.splitters.iter().chain(&catalog.resolvers);
    let without_router = without_router.filter(|(service, _)| !catalog.routers.contains_key(service));
    for (service, entry) in without_router {
        if leads_elsewhere(catalog, service) {
            import_default(catalog, service, &entry.spec, drafts);
        }
    }
}

/// All requests to a service that has no router, or its connections.
fn import_default<'a>(
    catalog: &ConsulCatalog<'a>,
    service: &ServiceId,
    spec: &InputNode<'a>,
    drafts: &mut Drafts<'a>,
) {
    let is_tcp = catalog.protocol(service) == Some("TCP")
        || (catalog.protocol(service).is_none() && !catalog.splitters.contains_key(service));
    let usual = if is_tcp { "TCP" } else { "HTTP" };
    catalog.service(service, usual, spec, drafts);
    let Some(backends) = backends(catalog, service, None, (service, spec), drafts) else { return };
    let kind = if is_tcp { Kind::TcpRoute } else { Kind::HttpRoute };
    let route = drafts.object(kind, service.clone(), spec);
    route.write(json!({"parentRefs": [parent(service)], "rules": [{"backendRefs": backends}]}));
}

fn parent(service: &ServiceId) -> Value {
    json!({"kind": "Service", "name": service.name, "port": PORT})
}

fn import_router<'a>(catalog: &ConsulCatalog<'a>, entry: &ConsulEntry<'a>, drafts: &mut Drafts<'a>) {
    let (service, spec) = (&entry.id, &entry.spec);
    catalog.service(service, "HTTP", spec, drafts);
    let mut rules = Vec::new();
    for (index, route) in spec.list("routes").into_iter().enumerate() {
        let name = format!("route-{}", index + 1);
        if let Some(rule) = rule(catalog, service, &name, &route, drafts) {
            rules.push((rule, route));
        }
    }
    note_order(&rules);
    let mut rules: Vec<Value> = rules.into_iter().map(|(rule, _)| rule).collect();
    // Consul ends each list with a route to the service itself.
    if let Some(rest) = backends(catalog, service, None, (service, spec), drafts) {
        rules.push(json!({"name": "rest", "backendRefs": rest}));
    }
    let route = drafts.object(Kind::HttpRoute, service.clone(), spec);
    route.write(json!({"parentRefs": [parent(service)], "rules": rules}));
}

fn rule<'a>(
    catalog: &ConsulCatalog<'a>,
    service: &ServiceId,
    name: &str,
    route: &InputNode<'a>,
    drafts: &mut Drafts<'a>,
) -> Option<Value> {
    let mut rule = json!({"name": name});
    let http = route.at(&["match", "http"]);
    if let Some(http) = &http {
        let Some(matches) = matches(http) else {
            route.not_carried(
                "is left out, and its requests follow what comes after it: a condition is not carried",
            );
            return None;
        };
        if !matches.is_empty() {
            rule["matches"] = json!(matches);
        }
    }
    let destination = route.get("destination");
    let node = destination.as_ref().unwrap_or(route);
    let Some(target) = catalog.referred(node, service) else {
        route.not_carried(
            "is left out, and its requests follow what comes after it: its destination is not carried",
        );
        return None;
    };
    let subset = node.get("serviceSubset");
    let subset = subset.as_ref().and_then(InputNode::text);
    // A route of its own service goes by its splitter, as the rest does.
    rule["backendRefs"] = backends(catalog, &target, subset, (service, route), drafts)?;
    if let Some(destination) = &destination {
        let filters = filters(destination, http.as_ref());
        if !filters.is_empty() {
            rule["filters"] = json!(filters);
        }
        if let Some(limit) = destination.get("requestTimeout").and_then(|limit| limit.span()) {
            rule["timeouts"] = json!({"request": limit});
        }
        traffic(service, name, destination, drafts);
    }
    Some(rule)
}

/// The matches of a route; nothing where a condition cannot be carried.
fn matches(http: &InputNode<'_>) -> Option<Vec<Value>> {
    let mut one = json!({});
    let ignores_case = http.get("caseInsensitive").and_then(|ignore| ignore.flag()) == Some(true);
    if let Some((field, text, node)) = written_path(http) {
        let (kind, value) = match field {
            "pathExact" if ignores_case => ("RegularExpression", regex::escape(text)),
            "pathExact" => ("Exact", text.to_owned()),
            "pathPrefix" if ignores_case => ("RegularExpression", format!("{}.*", regex::escape(text))),
            "pathPrefix" => ("PathPrefix", text.to_owned()),
            _ => ("RegularExpression", text.to_owned()),
        };
        if kind == "PathPrefix" && text != "/" {
            node.differs(format!("is compared by whole elements here: {text} does not match {text}x"));
        }
        let value = if ignores_case { format!("(?i){value}") } else { value };
        one["path"] = json!({"type": kind, "value": value});
    }
    for (list, field) in [("header", "headers"), ("queryParam", "queryParams")] {
        let mut tests = Vec::new();
        for node in http.list(list) {
            let name = node.get("name")?.text()?;
            tests.push(value_test(&node)?.into_value(name));
        }
        if !tests.is_empty() {
            one[field] = json!(tests);
        }
    }
    let methods = methods(http)?;
    if methods.is_empty() {
        return Some(if one == json!({}) { Vec::new() } else { vec![one] });
    }
    let with = |method: String| {
        let mut one = one.clone();
        one["method"] = json!(method);
        one
    };
    Some(methods.into_iter().map(with).collect())
}

fn filters(destination: &InputNode<'_>, http: Option<&InputNode<'_>>) -> Vec<Value> {
    let mut filters = Vec::new();
    if let Some(rewrite) = destination.get("prefixRewrite")
        && let Some(text) = rewrite.text()
    {
        let path = match http.and_then(written_path).map(|(field, _, _)| field) {
            Some("pathExact") => Some(json!({"type": "ReplaceFullPath", "replaceFullPath": text})),
            Some("pathPrefix") | None => {
                Some(json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": text}))
            }
            Some(_) => None,
        };
        match path {
            Some(path) => filters.push(json!({"type": "URLRewrite", "urlRewrite": {"path": path}})),
            None => rewrite.not_carried("has a meaning with a prefix or a whole path only"),
        }
    }
    for (field, kind, key) in [
        ("requestHeaders", "RequestHeaderModifier", "requestHeaderModifier"),
        ("responseHeaders", "ResponseHeaderModifier", "responseHeaderModifier"),
    ] {
        let Some(headers) = destination.get(field) else { continue };
        let mut modifier = json!({});
        for verb in ["set", "add"] {
            let values = headers.get(verb).map(|verb| verb.fields()).unwrap_or_default();
            let values: Vec<Value> = values
                .into_iter()
                .filter_map(|(name, value)| Some(json!({"name": name, "value": value.scalar()?})))
                .collect();
            if !values.is_empty() {
                modifier[verb] = json!(values);
            }
        }
        let removed: Vec<&str> = headers.list("remove").iter().filter_map(InputNode::text).collect();
        if !removed.is_empty() {
            modifier["remove"] = json!(removed);
        }
        let mut filter = json!({"type": kind});
        filter[key] = modifier;
        filters.push(filter);
    }
    filters
}

/// Second tries and idle streams, which a policy says of the rule.
fn traffic<'a>(route: &ServiceId, rule: &str, destination: &InputNode<'a>, drafts: &mut Drafts<'a>) {
    let attempts = destination.get("numRetries");
    let mut on = Vec::new();
    if let Some(connect) = destination.get("retryOnConnectFailure")
        && connect.flag() == Some(true)
    {
        on.push("ConnectFailure");
    }
    for node in destination.list("retryOn") {
        match node.text().and_then(retry_on) {
            Some(known) => on.push(known),
            None => node.not_carried("no such failure is tried again"),
        }
    }
    let codes = destination.list("retryOnStatusCodes");
    let codes: Vec<u32> = codes.iter().filter_map(InputNode::count).collect();
    if on.is_empty() && codes.is_empty() {
        attempts.inspect(|node| node.not_carried("Consul tries nothing again where no failure is named"));
    } else {
        let policy = drafts.about_rule(Kind::HttpRoute, route, rule, destination);
        // One second try is Envoy's own default.
        let attempts = attempts.and_then(|attempts| attempts.count()).unwrap_or(1);
        policy.set(&["retry", "attempts"], attempts);
        if !on.is_empty() {
            policy.set(&["retry", "on"], json!(on));
        }
        if !codes.is_empty() {
            policy.set(&["retry", "codes"], json!(codes));
        }
    }
    if let Some(idle) = destination.get("idleTimeout").and_then(|idle| idle.span()) {
        drafts.about_rule(Kind::HttpRoute, route, rule, destination).set(&["timeouts", "streamIdle"], idle);
    }
}

fn retry_on(written: &str) -> Option<&'static str> {
    Some(match written {
        "5xx" => "5xx",
        "gateway-error" => "GatewayError",
        "reset" => "Reset",
        "reset-before-request" => "ResetBeforeRequest",
        "connect-failure" => "ConnectFailure",
        "refused-stream" => "RefusedStream",
        "retriable-4xx" => "Retriable4xx",
        _ => return None,
    })
}
