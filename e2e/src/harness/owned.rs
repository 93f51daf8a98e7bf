//! A stock Envoy whose owner wrote the bootstrap: its own listener and routes, and clusters from the mesh.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use super::workload::envoy_flags;
use super::{Calls, Mesh, Process, program, until};

const START: Duration = Duration::from_secs(30);
const LISTENER: u16 = 8080;
const ADMIN: u16 = 15_000;

/// An Envoy that asks the control plane for clusters and endpoints only, state of the world.
#[derive(Debug)]
pub struct OwnerEnvoy {
    address: Ipv4Addr,
    _keep: Process,
    _envoy: Process,
}

impl OwnerEnvoy {
    /// Joins as a workload of `service`, and sends everything that its own listener takes to `cluster`.
    ///
    /// # Errors
    /// When the join is refused or Envoy does not become ready.
    pub async fn start(mesh: &mut Mesh, service: &str, cluster: &str) -> anyhow::Result<Self> {
        let address = mesh.next_address();
        let (namespace, name) = service.split_once('/').unwrap_or(("default", service));
        let name = format!("{name}-own");
        let token = mesh.token(service).await?.token;
        let dir = mesh.dir().join(&name);
        let mut keep =
            Process::start(mesh.dir(), &format!("{name}-keep"), &program::ours("weft-proxy")?, |command| {
                command.args(["join", "--keep", "--log-format", "text"]).env("WEFT_JOIN", &token);
                command.arg("--identity-dir").arg(&dir).args(["--name", &name]);
                command.args(["--address", &address.to_string()]);
                command.args(["--inbound", &format!("{address}:15006")]);
                command.args(["--outbound", &format!("{address}:15001")]);
            })?;
        until("the identity's files are there", START, async || {
            keep.check()?;
            anyhow::ensure!(dir.join("identity.sds.json").exists(), "not yet");
            Ok(())
        })
        .await?;
        let node = json!({"id": format!("{namespace}/{name}"), "cluster": service});
        let bootstrap = bootstrap(&node, address, mesh.xds(), &dir, cluster);
        let file = dir.join("own.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&bootstrap)?)?;
        let mut envoy =
            Process::start(mesh.dir(), &format!("{name}-envoy"), &program::envoy()?, |command| {
                command.arg("-c").arg(&file);
                envoy_flags(command);
            })?;
        let ready = format!("http://{address}:{ADMIN}/ready");
        let calls = Calls::direct();
        until("the owner's Envoy is ready", START, async || {
            envoy.check()?;
            let answer = calls.get(&ready).await?;
            anyhow::ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        })
        .await?;
        Ok(Self { address, _keep: keep, _envoy: envoy })
    }

    /// `http://…` of its own listener.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{LISTENER}", self.address)
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn bootstrap(
    node: &Value,
    address: Ipv4Addr,
    xds: SocketAddr,
    dir: &std::path::Path,
    cluster: &str,
) -> Value {
    let grpc = json!({"envoy_grpc": {"cluster_name": "xds"}});
    json!({
        "node": node,
        "admin": {"address": socket((address, ADMIN).into())},
        "dynamic_resources": {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [grpc]},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {
            "listeners": [listener(address, cluster)],
            "clusters": [{
                "name": "xds",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "xds",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(xds)}}]}],
                },
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                }},
                "transport_socket": tls(dir),
            }],
        },
    })
}

fn listener(address: Ipv4Addr, cluster: &str) -> Value {
    json!({
        "name": "own",
        "address": socket((address, LISTENER).into()),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "own",
                "route_config": {"name": "own", "validate_clusters": false, "virtual_hosts": [{
                    "name": "everything",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}],
                }]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}

fn tls(dir: &std::path::Path) -> Value {
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
            "common_tls_context": {
                "alpn_protocols": ["h2"],
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificate_sds_secret_configs": [secret("identity")],
                "combined_validation_context": {
                    "default_validation_context": {"match_typed_subject_alt_names": [{
                        "san_type": "URI",
                        "matcher": {"exact": "spiffe://mesh.local/control-plane"},
                    }]},
                    "validation_context_sds_secret_config": secret("bundle"),
                },
            },
        },
    })
}
