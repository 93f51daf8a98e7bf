//! `weft proxy bootstrap --envoy`: joins for a stock Envoy and writes what it needs to be a sidecar.
//!
//! The join itself, and every renewal, is `weft-proxy join`: the key is made there and stays in its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use weft_api::client::Client;
use weft_api::rest::TokenRequest;

use crate::args::Bootstrap;
use crate::up::binaries;

pub async fn run(client: &Client, args: Bootstrap) -> anyhow::Result<ExitCode> {
    let file = write(client, &args).await?;
    let dir = args.out.display();
    println!("{} written. Keep its identity fresh, and start Envoy:", file.display());
    println!("  weft-proxy join --keep --identity-dir {dir}");
    println!("  envoy -c {}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Joins and writes `envoy.yaml`; returns its path.
pub async fn write(client: &Client, args: &Bootstrap) -> anyhow::Result<PathBuf> {
    let request = TokenRequest {
        service: args.service.to_string(),
        allow_labels: args.labels.clone(),
        ..TokenRequest::default()
    };
    let token = client.create_token(&request).await?.token;
    let membership = join(args, &token).await?;
    let out = fs::canonicalize(&args.out).with_context(|| args.out.display().to_string())?;
    let bootstrap = envoy(args, &membership, &out)?;
    let file = out.join("envoy.yaml");
    let text = serde_yaml::to_string(&bootstrap)?;
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// What the join decided, as `weft-proxy join` leaves it in `workload.json`.
struct Membership {
    control_plane: String,
    trust_domain: String,
}

async fn join(args: &Bootstrap, token: &str) -> anyhow::Result<Membership> {
    let mut command = tokio::process::Command::new(binaries::find("weft-proxy")?);
    command.arg("join").env("WEFT_JOIN", token).arg("--identity-dir").arg(&args.out);
    command.arg("--name").arg(args.name.as_str());
    command.arg("--inbound").arg(args.inbound.to_string());
    command.arg("--outbound").arg(args.outbound.to_string());
    command.arg("--admin-listen").arg(args.admin_listen.to_string());
    if let Some(address) = args.address {
        command.arg("--address").arg(address.to_string());
    }
    for (flag, values) in
        [("--app-port", &args.app_ports), ("--label", &args.labels), ("--upstream", &args.upstreams)]
    {
        for value in values {
            command.arg(flag).arg(value);
        }
    }
    if let Some(locality) = &args.locality {
        command.arg("--locality").arg(locality);
    }
    if let Some(control_plane) = &args.control_plane {
        command.arg("--control-plane").arg(control_plane);
    }
    let output = command.output().await.context("weft-proxy join")?;
    if !output.status.success() {
        bail!("the join failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let path = args.out.join("workload.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let stored: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let field = |name: &str| {
        let value = stored[name].as_str().map(str::to_owned);
        value.with_context(|| format!("{}: no {name}", path.display()))
    };
    Ok(Membership { control_plane: field("controlPlane")?, trust_domain: field("trustDomain")? })
}

const CONTROL_PLANE: &str = "weft_control_plane";

/// The bootstrap: everything but identity and control plane comes over xDS.
fn envoy(args: &Bootstrap, membership: &Membership, dir: &Path) -> anyhow::Result<Value> {
    let (host, port) = membership
        .control_plane
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse::<u16>().ok()?)))
        .with_context(|| format!("control plane {:?} is not HOST:PORT", membership.control_plane))?;
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    let grpc = json!({"envoy_grpc": {"cluster_name": CONTROL_PLANE}});
    let stream = |api: &str| json!({"api_type": api, "transport_api_version": "V3", "grpc_services": [grpc], "set_node_on_first_message_only": true});
    let over_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    Ok(json!({
        "node": {"id": format!("{}/{}", args.service.namespace, args.name), "cluster": args.service.to_string()},
        "admin": {"address": address(&args.admin_listen.ip().to_string(), args.admin_listen.port())},
        "dynamic_resources": {
            "ads_config": stream("DELTA_GRPC"),
            "cds_config": over_ads,
            "lds_config": over_ads,
        },
        "hds_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc]},
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
        "static_resources": {"clusters": [{
            "name": CONTROL_PLANE,
            "type": if is_address { "STATIC" } else { "STRICT_DNS" },
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": CONTROL_PLANE,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(host, port)}}]}],
            },
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "15s", "timeout": "5s"},
                }},
            }},
            "transport_socket": tls(&membership.trust_domain, dir),
        }]},
    }))
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

/// Mutual TLS with the control plane: own identity and roots from files that are renamed into place at each renewal,
/// and nobody but the control plane's reserved identity at the other end.
fn tls(trust_domain: &str, dir: &Path) -> Value {
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
