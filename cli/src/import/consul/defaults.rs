//! What holds for one service, for all proxies, and for the mesh.

use serde_json::{Value, json};
use weft_api::ServiceId;
use weft_policies::Kind;

use super::catalog::{ConsulCatalog, protocol};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;

/// Of a service, by its service-defaults.
pub(super) fn import<'a>(catalog: &ConsulCatalog<'a>, service: &ServiceId, drafts: &mut Drafts<'a>) {
    let Some(entry) = catalog.defaults.get(service) else { return };
    let spec = &entry.spec;
    if let Some(written) = spec.get("protocol")
        && written.text().and_then(protocol).is_none()
    {
        written.not_carried("no such protocol is known: tcp is taken");
    }
    catalog.service(service, "TCP", spec, drafts);
    if let Some(limit) = spec.get("localRequestTimeoutMs")
        && let Some(milliseconds) = limit.count()
    {
        limit.differs("there the server's proxy cuts the request, here the caller's");
        let policy = drafts.about(Kind::TrafficPolicy, service, spec);
        policy.set(&["timeouts", "request"], format!("{milliseconds}ms"));
    }
    for (field, why) in [
        ("localConnectTimeoutMs", "a sidecar reaches its own application at once, or not at all"),
        (
            "maxInboundConnections",
            "connections are limited at the caller: TrafficPolicy connection.maxConnections",
        ),
        (
            "upstreamConfig",
            "it is about the calls of this service; a TrafficPolicy is about calls to a service, of all callers",
        ),
        ("destination", "write an ExternalService for what is outside"),
        ("externalSNI", "write an ExternalService with tls for what is outside"),
        ("mutualTLSMode", "services take mutual TLS only"),
        ("mode", "traffic is not redirected to the proxy: callers address it"),
        ("transparentProxy", "traffic is not redirected to the proxy: callers address it"),
        ("meshGateway", "there are no mesh gateways"),
        ("expose", "paths are not opened to those outside of the mesh"),
        ("envoyExtensions", "extensions of Envoy are not carried"),
        ("rateLimits", "limits of requests are not policies yet"),
        ("balanceInboundConnections", "connections are spread by the kernel"),
    ] {
        spec.get(field).inspect(|node| node.not_carried(why));
    }
}

/// Of all proxies, by proxy-defaults.
pub(super) fn of_all_proxies<'a>(
    catalog: &mut ConsulCatalog<'a>,
    spec: &InputNode<'a>,
    drafts: &mut Drafts<'a>,
) {
    if let Some(written) = spec.at(&["config", "protocol"]) {
        let text = written.text().map(str::to_owned);
        match text.filter(|text| protocol(text).is_some()) {
            Some(text) => catalog.protocol = Some(text),
            None => written.not_carried("no such protocol is known"),
        }
    }
    for (field, node) in spec.get("config").map(|config| config.fields()).unwrap_or_default() {
        match field {
            "protocol" => {}
            _ if field.starts_with("envoy_") => node.not_carried("raw configuration of Envoy is not carried"),
            _ => node.not_carried("has no counterpart for all services at once"),
        }
    }
    if let Some(logs) = spec.get("accessLogs") {
        access_logs(&logs, drafts);
    }
    for (field, why) in [
        ("mutualTLSMode", "services take mutual TLS only"),
        ("mode", "traffic is not redirected to the proxy: callers address it"),
        ("transparentProxy", "traffic is not redirected to the proxy: callers address it"),
        ("meshGateway", "there are no mesh gateways"),
        ("failoverPolicy", "there is no failover to other places yet"),
        ("prioritizeByLocality", "near endpoints are not preferred yet"),
    ] {
        spec.get(field).inspect(|node| node.not_carried(why));
    }
}

fn access_logs<'a>(logs: &InputNode<'a>, drafts: &mut Drafts<'a>) {
    if logs.get("enabled").and_then(|enabled| enabled.flag()) != Some(true) {
        return logs.not_carried("is not switched on");
    }
    let mut log = json!({"filter": "All"});
    match logs.get("type").map(|kind| (kind.text(), kind)) {
        None | Some((Some("stdout"), _)) => log["sink"] = json!("Stdout"),
        Some((Some("file"), _)) => {
            log["sink"] = json!("File");
            if let Some(path) = logs.get("path") {
                path.differs("the file stands in the directory of each sidecar's --access-log-dir");
                let file = path.text().and_then(|path| path.rsplit('/').next());
                log["file"] = json!(file);
            }
        }
        Some((_, kind)) => {
            return kind.not_carried("access logs go to standard output, a file or a collector");
        }
    }
    if let Some(template) = logs.get("textFormat").and_then(|format| format.text()) {
        log["template"] = json!(template.trim_end_matches('\n'));
    } else if let Some(format) = logs.get("jsonFormat") {
        let fields = format.text().and_then(|text| serde_json::from_str::<Value>(text).ok());
        match fields {
            Some(fields) => {
                log["format"] = json!("Json");
                log["fields"] = fields;
            }
            None => format.not_carried("is no JSON"),
        }
    }
    if let Some(disabled) = logs.get("disableListenerLogs")
        && disabled.flag() == Some(true)
    {
        disabled.differs("connections that no request came of are written down too");
    }
    let id = ServiceId::try_new("default", "access-logs").expect("a valid name");
    let draft = drafts.object(Kind::TelemetryPolicy, id, logs);
    draft.write(json!({"targetRefs": [{"kind": "Mesh", "name": "mesh"}], "accessLogs": [log]}));
}

/// Of the mesh, by its entry.
pub(super) fn of_mesh<'a>(spec: &InputNode<'a>, drafts: &mut Drafts<'a>) {
    if let Some(only) = spec.at(&["transparentProxy", "meshDestinationsOnly"])
        && let Some(is_only) = only.flag()
    {
        let outbound = if is_only { "RegistryOnly" } else { "Allow" };
        drafts.mesh(spec).set(&["defaults", "outbound"], outbound);
    }
    for (field, why) in [
        ("allowEnablingPermissiveMutualTLS", "services take mutual TLS only"),
        ("tls", "versions and ciphers are chosen by the proxies"),
        ("http", "requests are always normalised before they are judged"),
        ("peering", "there are no peered clusters"),
        ("limits", "limits of the control plane are its own"),
        ("validateClusters", "a route that names a cluster always waits for it"),
    ] {
        spec.get(field).inspect(|node| node.not_carried(why));
    }
}
