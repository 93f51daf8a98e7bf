//! What a stock Envoy needs of Weft: who it is, where its configuration comes from, and where its reports go.

use std::path::Path;

use serde_json::{Value, json};
use weft_api::names::{CONTROL_PLANE_CLUSTER, RUNTIME_LAYER, SYSTEM_ROOTS_SECRET};
use weft_api::{Host, TrustDomain};

use super::Membership;
use super::merge::EnvoyTakes;
use crate::args::BootstrapArgs;

/// How long an Envoy of its owner waits for clusters and listeners of the mesh before it starts with its own.
const OWNER_WAITS: &str = "5s";
/// How long any Envoy waits for its runtime layer: a control plane that knows none does not answer.
const RUNTIME_WAITS: &str = "2s";

/// The whole bootstrap: all but identity and control plane comes over xDS. `dir` holds the identity.
pub fn bootstrap(args: &BootstrapArgs, membership: &Membership, dir: &Path) -> Value {
    let mut whole = additions(args, membership, dir, EnvoyTakes::Everything);
    whole["admin"] =
        json!({"address": address(&args.admin_listen.ip().to_string(), args.admin_listen.port())});
    // As an Envoy has it that is told of no layers.
    if let Some(layers) = whole["layered_runtime"]["layers"].as_array_mut() {
        layers.push(json!({"name": "admin", "admin_layer": {}}));
    }
    // Without a configuration of the mesh it has none at all.
    for list in ["cds_config", "lds_config"] {
        whole["dynamic_resources"][list]["initial_fetch_timeout"] = json!("0s");
    }
    whole
}

/// What is added to the bootstrap of an Envoy that has its own.
pub fn additions(args: &BootstrapArgs, membership: &Membership, dir: &Path, takes: EnvoyTakes) -> Value {
    let grpc = json!({"envoy_grpc": {"cluster_name": CONTROL_PLANE_CLUSTER}});
    let stream = |api: &str| json!({"api_type": api, "transport_api_version": "V3", "grpc_services": [grpc]});
    let over_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": OWNER_WAITS});
    let mut ads = stream("DELTA_GRPC");
    ads["set_node_on_first_message_only"] = json!(true);
    let mut added = json!({
        "node": {"id": membership.workload.to_string(), "cluster": membership.service.to_string()},
        "dynamic_resources": {"ads_config": ads, "cds_config": over_ads},
        "stats_flush_interval": "5s",
        "stats_sinks": [{
            "name": "envoy.stat_sinks.metrics_service",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.metrics.v3.MetricsServiceConfig",
                "transport_api_version": "V3",
                "grpc_service": grpc,
                "histogram_emit_mode": "HISTOGRAM",
            },
        }],
        "static_resources": {"clusters": [control_plane(membership, dir)]},
    });
    if let Some(roots) = weft_api::system_roots::file() {
        added["static_resources"]["secrets"] = json!([{
            "name": SYSTEM_ROOTS_SECRET,
            "validation_context": {"trusted_ca": {"filename": roots}},
        }]);
    }
    match takes {
        EnvoyTakes::Everything => {
            added["dynamic_resources"]["lds_config"] = over_ads;
            added["layered_runtime"] = runtime();
        }
        EnvoyTakes::Clusters => {}
    }
    // Where nobody calls, nothing is checked.
    if !args.is_client() {
        added["hds_config"] = stream("GRPC");
    }
    added
}

/// A layer that the control plane gives: by it somebody may look on requests.
fn runtime() -> Value {
    let source = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": RUNTIME_WAITS});
    json!({"layers": [{
        "name": RUNTIME_LAYER,
        "rtds_layer": {"name": RUNTIME_LAYER, "rtds_config": source},
    }]})
}

fn control_plane(membership: &Membership, dir: &Path) -> Value {
    let replicas = &membership.control_plane;
    let all_addresses = replicas.iter().all(|replica| matches!(replica.host, Host::Ip(_)));
    let endpoints: Vec<Value> = replicas
        .iter()
        .map(|replica| json!({"endpoint": {"address": address(&replica.host.bare(), replica.port)}}))
        .collect();
    json!({
        "name": CONTROL_PLANE_CLUSTER,
        "type": if all_addresses { "STATIC" } else { "STRICT_DNS" },
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": CONTROL_PLANE_CLUSTER,
            "endpoints": [{"lb_endpoints": endpoints}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "15s", "timeout": "5s"},
            }},
        }},
        "transport_socket": tls(&membership.trust_domain, dir),
    })
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

/// Mutual TLS with the control plane: own identity and roots from files that are renamed into place at each renewal,
/// and nobody but the control plane's reserved identity at the other end.
fn tls(trust_domain: &TrustDomain, dir: &Path) -> Value {
    let secret = |name: &str| {
        json!({"name": name, "sds_config": {
            "path_config_source": {
                "path": dir.join(format!("{name}.sds.json")),
                "watched_directory": {"path": dir},
            },
            "resource_api_version": "V3",
        }})
    };
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "max_session_keys": 0,
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_3",
                    "tls_maximum_protocol_version": "TLSv1_3",
                    "ecdh_curves": ["X25519MLKEM768", "X25519", "P-256"],
                },
                "tls_certificate_sds_secret_configs": [secret("identity")],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [{
                        "san_type": "URI",
                        "matcher": {"exact": format!("spiffe://{trust_domain}/control-plane")},
                    }]},
                    "validation_context_sds_secret_config": secret("bundle"),
                },
            },
        },
    })
}
