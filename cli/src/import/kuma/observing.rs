//! Mesh, MeshAccessLog and MeshTrace.

use serde_json::{Map, Value, json};
use weft_api::ServiceId;
use weft_policies::Kind;

use super::resource::{KumaResource, KumaTarget};
use crate::import::drafts::Drafts;
use crate::import::input::InputNode;

pub(super) fn mesh<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    let spec = &resource.spec;
    let mtls = spec.get("mtls");
    if let Some(mtls) = &mtls {
        if mtls.get("enabledBackend").and_then(|backend| backend.text()).is_some() {
            // With certificates on, Kuma refuses what no MeshTrafficPermission lets pass.
            drafts.mesh(spec).set(&["defaults", "authorization"], "Deny");
        }
        for backend in mtls.list("backends") {
            backend.not_carried("the mesh's authority is its own: weft-control-plane --ca-cert, --leaf-ttl");
        }
    }
    if let Some(passthrough) = spec.at(&["networking", "outbound", "passthrough"])
        && let Some(passes) = passthrough.flag()
    {
        let outbound = if passes { "Allow" } else { "RegistryOnly" };
        drafts.mesh(spec).set(&["defaults", "outbound"], outbound);
    }
    for (field, why) in [
        ("routing", "near endpoints are not preferred yet, and there are no zones"),
        ("metrics", "metrics are always there: docs/tasks/scrape.md"),
        ("logging", "write a MeshAccessLog in Kuma first, or a TelemetryPolicy here"),
        ("tracing", "write a MeshTrace in Kuma first, or Mesh.tracing here"),
        ("constraints", "who may join is said by join tokens"),
        ("meshServices", "services are written, not made"),
        ("skipCreatingInitialPolicies", "no policies are made by themselves"),
    ] {
        spec.get(field).inspect(|node| node.not_carried(why));
    }
}

pub(super) fn access_logs<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    let spec = &resource.spec;
    for to in spec.list("to") {
        to.not_carried("requests are written down where they arrive, not where they are sent");
    }
    let target = match spec.get("targetRef") {
        Some(target) => resource.target(&target),
        None => Some(KumaTarget::Everybody),
    };
    let (id, target) = match (target, &resource.namespace) {
        (Some(KumaTarget::Everybody), None) => {
            let id = ServiceId::try_new("default", resource.name.as_str());
            (id, json!({"kind": "Mesh", "name": "mesh"}))
        }
        (Some(KumaTarget::Everybody), Some(name)) => (
            ServiceId::try_new(name.as_str(), resource.name.as_str()),
            json!({"kind": "Namespace", "name": name}),
        ),
        (Some(KumaTarget::Namespace(name)), _) => (
            ServiceId::try_new(name.as_str(), resource.name.as_str()),
            json!({"kind": "Namespace", "name": name}),
        ),
        (Some(KumaTarget::Service(service, _)), _) => (
            ServiceId::try_new(service.namespace.as_str(), resource.name.as_str()),
            json!({"kind": "Service", "name": service.name}),
        ),
        (None, _) => return spec.not_carried("whom it is about has no counterpart"),
    };
    let Ok(id) = id else { return };
    let mut logs = Vec::new();
    for from in spec.list("from").into_iter().chain(spec.list("rules")) {
        let source = from.get("targetRef");
        if source.is_some_and(|source| resource.target(&source) != Some(KumaTarget::Everybody)) {
            from.not_carried("requests of all callers are written down, or none");
            continue;
        }
        let backends = from.get("default").map(|default| default.list("backends")).unwrap_or_default();
        logs.extend(backends.iter().filter_map(log));
    }
    if !logs.is_empty() {
        let draft = drafts.object(Kind::TelemetryPolicy, id, spec);
        draft.write(json!({"targetRefs": [target], "accessLogs": logs}));
    }
}

fn log(backend: &InputNode<'_>) -> Option<Value> {
    let kind = backend.get("type");
    let mut log = json!({"filter": "All"});
    match kind.as_ref().and_then(InputNode::text) {
        Some("File") => {
            let file = backend.get("file")?;
            let path = file.get("path");
            match path.as_ref().and_then(InputNode::text) {
                Some("/dev/stdout") => log["sink"] = json!("Stdout"),
                Some(text) => {
                    log["sink"] = json!("File");
                    log["file"] = json!(text.rsplit('/').next());
                    path.inspect(|path| {
                        path.differs("the file stands in the directory of each sidecar's --access-log-dir");
                    });
                }
                None => log["sink"] = json!("File"),
            }
            if let Some(format) = file.get("format") {
                take_format(&format, &mut log);
            }
        }
        Some("OpenTelemetry") => {
            let endpoint = backend.at(&["openTelemetry", "endpoint"])?;
            log["sink"] = json!("Otlp");
            log["endpoint"] = json!(collector(&endpoint)?);
        }
        _ => {
            backend.not_carried("access logs go to standard output, a file or a collector");
            return None;
        }
    }
    Some(log)
}

fn take_format(format: &InputNode<'_>, log: &mut Value) {
    format.get("omitEmptyValues").inspect(|node| node.not_carried("what has no value is written as -"));
    let kind = format.get("type");
    match kind.as_ref().and_then(InputNode::text) {
        Some("Json") => {
            let mut fields = Map::new();
            for one in format.list("json") {
                let text = |field| one.get(field).and_then(|node| node.scalar());
                if let (Some(key), Some(value)) = (text("key"), text("value")) {
                    fields.insert(key, json!(value));
                }
            }
            log["format"] = json!("Json");
            log["fields"] = Value::Object(fields);
        }
        Some("Plain") | None => {
            if let Some(template) = format.get("plain").and_then(|plain| plain.text()) {
                log["template"] = json!(template.trim_end_matches('\n'));
            }
        }
        Some(_) => format.not_carried("a format is Plain or Json"),
    }
}

/// `HOST:PORT`, with or without a scheme, as the URL of a collector.
fn collector(endpoint: &InputNode<'_>) -> Option<String> {
    let text = endpoint.text()?;
    Some(if text.contains("://") { text.to_owned() } else { format!("http://{text}") })
}

pub(super) fn traces<'a>(resource: &KumaResource<'a>, drafts: &mut Drafts<'a>) {
    let spec = &resource.spec;
    let target = spec.get("targetRef");
    if resource.namespace.is_some()
        || target.is_some_and(|target| resource.target(&target) != Some(KumaTarget::Everybody))
    {
        return spec.not_carried("where spans go stands in the Mesh, for all services");
    }
    let Some(default) = spec.get("default") else { return };
    for (index, backend) in default.list("backends").into_iter().enumerate() {
        let endpoint = backend.at(&["openTelemetry", "endpoint"]).filter(|_| index == 0);
        let kind = backend.get("type");
        let is_known = kind.as_ref().and_then(InputNode::text) == Some("OpenTelemetry");
        match endpoint.filter(|_| is_known).as_ref().and_then(collector) {
            Some(endpoint) => drafts.mesh(spec).set(&["tracing", "endpoint"], endpoint),
            None => backend.not_carried("spans go to one collector of OpenTelemetry"),
        }
    }
    if let Some(sampling) = default.get("sampling") {
        if let Some(share) = sampling.get("random").and_then(|share| share.number()) {
            drafts.mesh(spec).set(&["tracing", "sampling"], share);
        }
        for field in ["overall", "client"] {
            sampling
                .get(field)
                .inspect(|node| node.not_carried("one share of requests begins a trace: random"));
        }
    }
    default
        .get("tags")
        .inspect(|node| node.not_carried("tags of spans are a TelemetryPolicy's, of a service each"));
}
