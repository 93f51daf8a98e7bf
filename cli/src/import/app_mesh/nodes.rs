//! The mesh, and virtual nodes.

use serde_json::{Map, Value, json};
use weft_api::ServiceId;
use weft_policies::Kind;

use super::object::{AppMeshObject, of_node, ports, span};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;

pub(super) fn mesh<'a>(object: &AppMeshObject<'a>, drafts: &mut Drafts<'a>) {
    let filter = object.spec.at(&["egressFilter", "type"]);
    if let Some(filter) = &filter {
        match filter.text() {
            Some("ALLOW_ALL") => drafts.mesh(&object.root).set(&["defaults", "outbound"], "Allow"),
            Some("DROP_ALL") => drafts.mesh(&object.root).set(&["defaults", "outbound"], "RegistryOnly"),
            _ => filter.not_carried("is neither ALLOW_ALL nor DROP_ALL"),
        }
    }
    let preference = object.spec.at(&["serviceDiscovery", "ipPreference"]);
    preference.inspect(|node| node.not_carried("a member is reached by the address that it joins with"));
    object
        .spec
        .get("namespaceSelector")
        .inspect(|node| node.not_carried("who may join is said by join tokens"));
}

pub(super) fn import<'a>(node: &AppMeshObject<'a>, drafts: &mut Drafts<'a>) {
    let Some(id) = of_node(node) else {
        return node.root.not_carried("is no name here: use 1 to 63 of a-z, 0-9 and '-'");
    };
    if id.name.as_str() != node.name {
        node.root.differs(format!("is called {} here: names have small letters, digits and '-'", id.name));
    }
    let ports = ports(node);
    if ports.is_empty() {
        node.root.differs("it has no listener: port 80 is written, so that it has a name and an identity");
        drafts.port(&id, 80, "HTTP", &node.root);
    }
    for (port, protocol) in ports {
        drafts.port(&id, port, protocol, &node.root);
    }
    for listener in node.spec.list("listeners") {
        import_listener(&id, node, &listener, drafts);
    }
    if let Some(file) = node.spec.at(&["logging", "accessLog", "file"]) {
        access_log(&id, &file, node, drafts);
    }
    for backend in node.spec.list("backends") {
        backend.not_carried(
            "what a service calls is not said in its documents: weft-proxy --upstream, or Mesh.defaults.view: Declared",
        );
    }
    for (field, why) in [
        ("backendDefaults", "services take and use mutual TLS of the mesh only"),
        ("serviceDiscovery", "members join by themselves: weft-proxy run --join"),
        ("podSelector", "members join by themselves: weft-proxy run --join"),
    ] {
        node.spec.get(field).inspect(|node| node.not_carried(why));
    }
}

fn import_listener<'a>(
    id: &ServiceId,
    node: &AppMeshObject<'a>,
    listener: &InputNode<'a>,
    drafts: &mut Drafts<'a>,
) {
    listener.get("tls").inspect(|tls| tls.not_carried("services take mutual TLS of the mesh only"));
    if let Some(check) = listener.get("healthCheck") {
        health_check(id, &check, node, drafts);
    }
    if let Some(outlier) = listener.get("outlierDetection") {
        let policy = drafts.about(Kind::TrafficPolicy, id, &node.root);
        if let Some(errors) = outlier.get("maxServerErrors").and_then(|errors| errors.count()) {
            policy.set(&["outlierDetection", "consecutive5xx"], errors);
        }
        if let Some(percent) = outlier.get("maxEjectionPercent").and_then(|percent| percent.count()) {
            policy.set(&["outlierDetection", "maxEjectionPercent"], percent);
        }
        for (field, to) in [("interval", "interval"), ("baseEjectionDuration", "baseEjectionTime")] {
            if let Some(span) = outlier.get(field).as_ref().and_then(span) {
                policy.set(&["outlierDetection", to], span);
            }
        }
    }
    for protocol in ["http", "http2", "grpc", "tcp"] {
        if let Some(pool) = listener.at(&["connectionPool", protocol]) {
            pool.differs("there the server's proxy counts, here each caller's own");
            for (field, to) in [
                ("maxConnections", "maxConnections"),
                ("maxPendingRequests", "maxPendingRequests"),
                ("maxRequests", "maxRequests"),
            ] {
                if let Some(count) = pool.get(field).and_then(|count| count.count()) {
                    let policy = drafts.about(Kind::TrafficPolicy, id, &node.root);
                    policy.set(&["connection", to], count);
                }
            }
        }
        let Some(timeout) = listener.at(&["timeout", protocol]) else { continue };
        timeout.differs("there the server's proxy counts, here the caller's");
        for (field, path) in [("perRequest", ["timeouts", "request"]), ("idle", ["timeouts", "streamIdle"])] {
            match timeout.get(field) {
                Some(idle) if protocol == "tcp" => {
                    idle.not_carried("connections are not ended for being silent");
                }
                Some(written) => {
                    if let Some(span) = span(&written) {
                        drafts.about(Kind::TrafficPolicy, id, &node.root).set(&path, span);
                    }
                }
                None => {}
            }
        }
    }
}

fn health_check<'a>(
    id: &ServiceId,
    written: &InputNode<'a>,
    node: &AppMeshObject<'a>,
    drafts: &mut Drafts<'a>,
) {
    let kind = written.get("protocol");
    let mut check = json!({});
    match kind.as_ref().and_then(InputNode::text) {
        Some("http" | "http2") => {
            let path = written.get("path").and_then(|path| path.text()).unwrap_or("/");
            check["http"] = json!({"path": path});
        }
        Some("grpc") => check["grpc"] = json!({}),
        Some("tcp") => check["tcp"] = json!({}),
        _ => return written.not_carried("no such check is known"),
    }
    for (field, to) in [("intervalMillis", "interval"), ("timeoutMillis", "timeout")] {
        if let Some(milliseconds) = written.get(field).and_then(|span| span.count()) {
            check[to] = json!(format!("{milliseconds}ms"));
        }
    }
    for field in ["healthyThreshold", "unhealthyThreshold"] {
        if let Some(count) = written.get(field).and_then(|count| count.count()) {
            check[field] = json!(count);
        }
    }
    // The ports that are checked follow from what they speak.
    written.get("port").inspect(InputNode::aside);
    drafts.object(Kind::Service, id.clone(), &node.root).set(&["healthCheck"], check);
}

fn access_log<'a>(id: &ServiceId, file: &InputNode<'a>, node: &AppMeshObject<'a>, drafts: &mut Drafts<'a>) {
    let mut log = json!({"filter": "All"});
    let path = file.get("path");
    match path.as_ref().and_then(InputNode::text) {
        Some("/dev/stdout") | None => log["sink"] = json!("Stdout"),
        Some(text) => {
            log["sink"] = json!("File");
            log["file"] = json!(text.rsplit('/').next());
            path.inspect(|path| {
                path.differs("the file stands in the directory of each sidecar's --access-log-dir");
            });
        }
    }
    if let Some(template) = file.at(&["format", "text"]).and_then(|text| text.text()) {
        log["template"] = json!(template.trim_end_matches('\n'));
    } else if let Some(json) = file.at(&["format", "json"]) {
        let mut fields = Map::new();
        for one in json.items() {
            let text = |field| one.get(field).and_then(|node| node.scalar());
            if let (Some(key), Some(value)) = (text("key"), text("value")) {
                fields.insert(key, json!(value));
            }
        }
        log["format"] = json!("Json");
        log["fields"] = Value::Object(fields);
    }
    drafts.about(Kind::TelemetryPolicy, id, &node.root).set(&["accessLogs"], json!([log]));
}
