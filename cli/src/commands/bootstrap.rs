//! `weft proxy bootstrap --envoy`: joins for a stock Envoy and writes what it needs to be a sidecar.
//!
//! The join itself, and every renewal, is `weft-proxy join`: the key is made there and stays in its files.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::client::Client;
use weft_api::flags::{JOIN_VARIABLE, UsageError};
use weft_api::rest::TokenRequest;
use weft_api::{ControlPlanes, Host, JoinToken, ServiceId, TrustDomain, WorkloadId};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::args::Bootstrap;
use crate::output;
use crate::up::binaries;

/// Joins with the token that is given, else with one that is made for `--service`; `client` is asked for only then.
pub async fn run(
    client: impl FnOnce() -> anyhow::Result<Client>,
    args: Bootstrap,
) -> anyhow::Result<ExitCode> {
    let token = match (args.token.read()?, &args.service) {
        (Some(token), service) => {
            is_for(&token, service.as_ref())?;
            token.to_string()
        }
        (None, Some(service)) => make_token(&client()?, service, &args).await?,
        (None, None) => {
            let reason =
                "say which service the workload belongs to, or give a token by --join-file or WEFT_JOIN";
            return Err(UsageError::Flag { flag: "--service", reason: reason.to_owned() }.into());
        }
    };
    let file = write(&token, &args).await?;
    let dir = args.out.display();
    let until = expiry(&args.out.join("identity.pem"))?;
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    if args.keep {
        println!("{} written. Start Envoy with it; this process keeps its identity fresh.", file.display());
        let mut keeping = std::process::Command::new(binaries::find("weft-proxy")?);
        keeping.args(["join", "--keep", "--identity-dir"]).arg(&args.out).env_remove(JOIN_VARIABLE);
        // In the place of this process, so that signals find it.
        return Err(keeping.exec()).context("weft-proxy join --keep");
    }
    println!("{} written. Start Envoy, and beside it what keeps its identity fresh:", file.display());
    println!("  envoy -c {}", file.display());
    println!("  weft-proxy join --keep --identity-dir {dir}");
    println!(
        "Without the second the certificate ends at {}, in {}, and Envoy is out of the mesh.",
        humantime::format_rfc3339_seconds(until),
        output::span(left)
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether a token is for the service that is asked for, if one is.
pub fn is_for(token: &JoinToken, service: Option<&ServiceId>) -> Result<(), UsageError> {
    match (&token.service, service) {
        (Some(of_token), Some(wanted)) if of_token != wanted => Err(UsageError::Flag {
            flag: "--service",
            reason: format!(
                "the token is for {of_token}, not for {wanted}; leave the flag out, or use another token"
            ),
        }),
        _ => Ok(()),
    }
}

/// A token for one workload of a service.
pub async fn make_token(client: &Client, service: &ServiceId, args: &Bootstrap) -> anyhow::Result<String> {
    let request = TokenRequest {
        service: service.to_string(),
        allow_labels: args.labels.clone(),
        ..TokenRequest::default()
    };
    Ok(client.create_token(&request).await?.token)
}

/// Joins and writes `envoy.yaml`; returns its path.
pub async fn write(token: &str, args: &Bootstrap) -> anyhow::Result<PathBuf> {
    let membership = join(args, token).await?;
    let out = fs::canonicalize(&args.out).with_context(|| args.out.display().to_string())?;
    let bootstrap = envoy(args, &membership, &out);
    let file = out.join("envoy.yaml");
    let text = serde_yaml::to_string(&bootstrap)?;
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(file)
}

/// What the join decided, as `weft-proxy join` leaves it in `workload.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Membership {
    control_plane: ControlPlanes,
    trust_domain: TrustDomain,
    /// Whose member the workload is.
    pub service: ServiceId,
    /// What it is called.
    pub workload: WorkloadId,
}

impl Membership {
    /// Reads it from an identity's directory.
    pub fn read(identity: &Path) -> anyhow::Result<Self> {
        let path = identity.join("workload.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }
}

async fn join(args: &Bootstrap, token: &str) -> anyhow::Result<Membership> {
    let mut command = tokio::process::Command::new(binaries::find("weft-proxy")?);
    command.arg("join").env(JOIN_VARIABLE, token).env_remove("WEFT_JOIN_FILE");
    command.arg("--identity-dir").arg(&args.out);
    command.arg("--inbound").arg(args.inbound.to_string());
    command.arg("--outbound").arg(args.outbound.to_string());
    command.arg("--admin-listen").arg(args.admin_listen.to_string());
    let optional = [
        ("--name", args.name.as_ref().map(ToString::to_string)),
        ("--address", args.address.map(|address| address.to_string())),
        ("--locality", args.locality.clone()),
        ("--control-plane", args.control_plane.as_ref().map(ToString::to_string)),
    ];
    for (flag, value) in optional {
        command.args(value.map(|value| format!("{flag}={value}")));
    }
    for (flag, values) in
        [("--app-port", &args.app_ports), ("--label", &args.labels), ("--upstream", &args.upstreams)]
    {
        command.args(values.iter().map(|value| format!("{flag}={value}")));
    }
    // It says itself what it waits for, and why it is refused.
    let status = command.status().await.context("weft-proxy join")?;
    if !status.success() {
        bail!("the join failed");
    }
    Membership::read(&args.out)
}

fn expiry(path: &Path) -> anyhow::Result<SystemTime> {
    let leaf = CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())?;
    let (_, leaf) = X509Certificate::from_der(&leaf).with_context(|| path.display().to_string())?;
    let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or_default();
    Ok(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

const CONTROL_PLANE: &str = "weft_control_plane";

/// The bootstrap: everything but identity and control plane comes over xDS.
fn envoy(args: &Bootstrap, membership: &Membership, dir: &Path) -> Value {
    let replicas = &membership.control_plane;
    let all_addresses = replicas.iter().all(|replica| matches!(replica.host, Host::Ip(_)));
    let endpoints: Vec<Value> = replicas
        .iter()
        .map(|replica| json!({"endpoint": {"address": address(&replica.host.bare(), replica.port)}}))
        .collect();
    let grpc = json!({"envoy_grpc": {"cluster_name": CONTROL_PLANE}});
    let stream = |api: &str| json!({"api_type": api, "transport_api_version": "V3", "grpc_services": [grpc], "set_node_on_first_message_only": true});
    let over_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    json!({
        "node": {"id": membership.workload.to_string(), "cluster": membership.service.to_string()},
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
            "type": if all_addresses { "STATIC" } else { "STRICT_DNS" },
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": CONTROL_PLANE,
                "endpoints": [{"lb_endpoints": endpoints}],
            },
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "15s", "timeout": "5s"},
                }},
            }},
            "transport_socket": tls(&membership.trust_domain, dir),
        }]},
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
