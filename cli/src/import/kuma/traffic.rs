//! MeshTimeout, MeshRetry, MeshCircuitBreaker, MeshLoadBalancingStrategy and MeshHealthCheck.

use serde_json::{Value, json};
use weft_api::ServiceId;
use weft_policies::Kind;

use super::resource::{KumaResource, KumaTarget};
use crate::import::drafts::{Drafts, ObjectDraft};
use crate::import::input::InputNode;

/// Visits what a policy of the callers says of each destination, as a TrafficPolicy.
pub(super) fn import<'a>(
    resource: &KumaResource<'a>,
    read: impl Fn(&InputNode<'a>, &mut PolicyReading<'_, 'a>),
    drafts: &mut Drafts<'a>,
) {
    for field in ["from", "rules"] {
        let why = "it is about requests as they come in; a TrafficPolicy is about those that go out";
        resource.spec.get(field).inspect(|node| node.not_carried(why));
    }
    let is_for_all = match resource.spec.get("targetRef") {
        Some(target) => resource.target(&target) == Some(KumaTarget::Everybody),
        None => true,
    };
    for to in resource.spec.list("to") {
        if !is_for_all {
            to.not_carried("a TrafficPolicy is for all callers");
            continue;
        }
        let target = match to.get("targetRef") {
            Some(target) => resource.target(&target),
            None => Some(KumaTarget::Everybody),
        };
        let (Some(target), Some(default)) = (target, to.get("default")) else {
            to.not_carried("its target has no counterpart");
            continue;
        };
        let (id, target) = match (target, &resource.namespace) {
            (KumaTarget::Service(service, port), _) => of_service(service, port, &to, drafts),
            (KumaTarget::Everybody, None) => {
                let id = ServiceId::try_new("default", "all-services").expect("a valid name");
                (id, json!({"kind": "Mesh", "name": "mesh"}))
            }
            (KumaTarget::Namespace(name), _) => {
                let Ok(id) = ServiceId::try_new(name.as_str(), "all-services") else { continue };
                (id, json!({"kind": "Namespace", "name": name}))
            }
            (KumaTarget::Everybody, Some(_)) => {
                to.not_carried(
                    "it is about all that a namespace calls; a TrafficPolicy is about what is called",
                );
                continue;
            }
        };
        let mut reading = PolicyReading { id, target, of: to.clone(), drafts };
        read(&default, &mut reading);
    }
}

/// The policy about a service, or about one of its ports where that has a name.
fn of_service(
    service: ServiceId,
    port: Option<u16>,
    to: &InputNode<'_>,
    drafts: &Drafts<'_>,
) -> (ServiceId, Value) {
    let mut target = json!({"kind": "Service", "name": service.name});
    let Some(port) = port else { return (service, target) };
    let named = drafts.port_name(&service, port).and_then(|name| {
        let id = ServiceId::try_new(service.namespace.as_str(), &format!("{}-{name}", service.name)).ok()?;
        Some((id, name))
    });
    let Some((id, name)) = named else {
        to.differs(format!("holds for all ports of {service}: port {port} has no name in these files"));
        return (service, target);
    };
    target["sectionName"] = json!(name);
    (id, target)
}

/// The TrafficPolicy that a destination gets, made when something is carried.
pub(super) struct PolicyReading<'d, 'a> {
    id: ServiceId,
    target: Value,
    of: InputNode<'a>,
    drafts: &'d mut Drafts<'a>,
}

impl<'a> PolicyReading<'_, 'a> {
    fn policy(&mut self) -> &mut ObjectDraft<'a> {
        let draft = self.drafts.object(Kind::TrafficPolicy, self.id.clone(), &self.of);
        draft.set(&["targetRefs"], json!([self.target]));
        draft
    }

    /// Carries a length of time. `what` is written for no limit where Weft has such a word.
    fn span(&mut self, node: Option<InputNode<'a>>, path: &[&str]) {
        let Some(node) = node else { return };
        match node.span() {
            Some(span) if span == "0s" && path[0] == "connection" => {
                node.not_carried("there is always a limit");
            }
            Some(span) => self.policy().set(path, span),
            None => {}
        }
    }

    fn count(&mut self, node: Option<InputNode<'a>>, path: &[&str]) {
        if let Some(count) = node.and_then(|node| node.count()) {
            self.policy().set(path, count);
        }
    }
}

pub(super) fn timeouts<'a>(default: &InputNode<'a>, out: &mut PolicyReading<'_, 'a>) {
    out.span(default.get("connectionTimeout"), &["connection", "connectTimeout"]);
    out.span(default.get("idleTimeout"), &["connection", "idleTimeout"]);
    out.span(default.at(&["http", "requestTimeout"]), &["timeouts", "request"]);
    out.span(default.at(&["http", "streamIdleTimeout"]), &["timeouts", "streamIdle"]);
}

pub(super) fn retries<'a>(default: &InputNode<'a>, out: &mut PolicyReading<'_, 'a>) {
    default
        .get("tcp")
        .inspect(|node| node.not_carried("connections are tried again by the proxy's own measure"));
    default.get("grpc").inspect(|node| node.not_carried("statuses of gRPC are not tried again"));
    let Some(http) = default.get("http") else { return };
    let (mut on, mut codes) = (Vec::new(), Vec::new());
    for node in http.list("retryOn") {
        let Some(word) = node.scalar() else { continue };
        match (word.as_str(), word.parse::<u16>()) {
            (_, Ok(code)) => codes.push(code),
            ("5XX" | "5xx", _) => on.push("5xx"),
            ("GatewayError", _) => on.push("GatewayError"),
            ("Reset", _) => on.push("Reset"),
            ("Retriable4xx", _) => on.push("Retriable4xx"),
            ("ConnectFailure", _) => on.push("ConnectFailure"),
            ("RefusedStream", _) => on.push("RefusedStream"),
            (other, _) if other.starts_with("HttpMethod") => {
                return http
                    .not_carried("second tries by method cannot be said: they would be of all methods");
            }
            _ => node.not_carried("no such failure is tried again"),
        }
    }
    if !on.is_empty() {
        out.policy().set(&["retry", "on"], json!(on));
    }
    if !codes.is_empty() {
        out.policy().set(&["retry", "codes"], json!(codes));
    }
    out.count(http.get("numRetries"), &["retry", "attempts"]);
    out.span(http.get("perTryTimeout"), &["timeouts", "backendRequest"]);
    out.span(http.at(&["backOff", "baseInterval"]), &["retry", "backoff"]);
    if let Some(most) = http.at(&["backOff", "maxInterval"]) {
        most.not_carried("the longest wait is ten of the least");
    }
}

pub(super) fn breakers<'a>(default: &InputNode<'a>, out: &mut PolicyReading<'_, 'a>) {
    for (field, to) in [
        ("maxConnections", "maxConnections"),
        ("maxPendingRequests", "maxPendingRequests"),
        ("maxRequests", "maxRequests"),
    ] {
        out.count(default.at(&["connectionLimits", field]), &["connection", to]);
    }
    let Some(outlier) = default.get("outlierDetection") else { return };
    if outlier.get("disabled").and_then(|disabled| disabled.flag()) == Some(true) {
        return outlier.not_carried("is switched off");
    }
    for field in ["interval", "baseEjectionTime"] {
        out.span(outlier.get(field), &["outlierDetection", field]);
    }
    out.count(outlier.get("maxEjectionPercent"), &["outlierDetection", "maxEjectionPercent"]);
    for (detector, to) in
        [("totalFailures", "consecutive5xx"), ("gatewayFailures", "consecutiveGatewayFailures")]
    {
        out.count(outlier.at(&["detectors", detector, "consecutive"]), &["outlierDetection", to]);
    }
}

pub(super) fn balancing<'a>(default: &InputNode<'a>, out: &mut PolicyReading<'_, 'a>) {
    default.get("localityAwareness").inspect(|node| node.not_carried("near endpoints are not preferred yet"));
    let Some(balancer) = default.get("loadBalancer") else { return };
    let kind = balancer.get("type");
    match kind.as_ref().and_then(InputNode::text) {
        Some(kind @ ("RoundRobin" | "LeastRequest" | "Random")) => {
            out.policy().set(&["loadBalancer"], json!({"type": kind}));
        }
        Some(other) => {
            balancer.not_carried(format!(
                "{other}: what requests are hashed on is not carried: write a TrafficPolicy with hashOn"
            ));
        }
        None => {}
    }
    if let Some(choices) = balancer.at(&["leastRequest", "choiceCount"])
        && choices.count() != Some(2)
    {
        choices.not_carried("the less busy of two is taken, chosen at random");
    }
}

/// A MeshHealthCheck, as what each sidecar asks its own application.
pub(super) fn health<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    let target = resource.spec.get("targetRef");
    if let Some(target) = target
        && resource.target(&target) != Some(KumaTarget::Everybody)
    {
        return resource.spec.not_carried("checks are not the callers' here");
    }
    for to in resource.spec.list("to") {
        let target = to.get("targetRef").and_then(|target| resource.target(&target));
        let (Some(KumaTarget::Service(service, port)), Some(default)) = (target, to.get("default")) else {
            to.not_carried("a check is of one service");
            continue;
        };
        let is_on = |kind: &str| {
            let node = default.get(kind)?;
            (node.get("disabled").and_then(|disabled| disabled.flag()) != Some(true)).then_some(node)
        };
        let mut check = json!({});
        if let Some(http) = is_on("http") {
            let path = http.get("path").and_then(|path| path.text()).unwrap_or("/");
            let statuses: Vec<u32> =
                http.list("expectedStatuses").iter().filter_map(InputNode::count).collect();
            check["http"] = json!({"path": path});
            if !statuses.is_empty() {
                check["http"]["expectedStatuses"] = json!(statuses);
            }
        } else if let Some(grpc) = is_on("grpc") {
            let name = grpc.get("serviceName").and_then(|name| name.text()).unwrap_or_default();
            check["grpc"] = if name.is_empty() { json!({}) } else { json!({"service": name}) };
        } else if let Some(tcp) = is_on("tcp") {
            for field in ["send", "receive"] {
                tcp.get(field).inspect(|node| node.not_carried("a connection that is taken is good"));
            }
            check["tcp"] = json!({});
        } else {
            to.not_carried("asks nothing");
            continue;
        }
        for field in ["interval", "timeout"] {
            if let Some(span) = default.get(field).and_then(|span| span.span()) {
                check[field] = json!(span);
            }
        }
        for field in ["healthyThreshold", "unhealthyThreshold"] {
            if let Some(count) = default.get(field).and_then(|count| count.count()) {
                check[field] = json!(count);
            }
        }
        to.differs("each sidecar checks its own application, and tells the mesh; callers do not ask");
        if let Some(port) = port {
            let protocol = if check["grpc"].is_object() { "GRPC" } else { "HTTP" };
            drafts.port(&service, port, protocol, &to);
        }
        if drafts.port_of(&service).is_none() {
            to.not_carried(format!("no port of {service} is told: name its MeshService too"));
            continue;
        }
        drafts.object(Kind::Service, service, &to).set(&["healthCheck"], check);
    }
}
