//! TLS to servers outside of the mesh, as ExternalServices are compiled: TLS 1.2 and 1.3, and certificates that do not fit.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::ensure;
use serde_json::{Value, json};
use weft_e2e::harness::{CONVERGES, Calls, Forger, Responder, Sidecar, Standalone, free_port, until};

const WORD: &str = "from outside";
const HOST: &str = "api.example.com";
/// The cluster that takes TLS 1.3 and nothing else.
const STRICT: &str = "tls13-alone";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A server by its cluster's name, and what certificate it shows.
struct Outside {
    cluster: &'static str,
    names: &'static [&'static str],
    by: Issuing,
    /// It knows TLS 1.2 alone.
    is_old: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Issuing {
    Ours,
    Strangers,
}

const SERVERS: [Outside; 9] = [
    Outside { cluster: "tls13", names: &[HOST], by: Issuing::Ours, is_old: false },
    Outside { cluster: "tls12", names: &[HOST], by: Issuing::Ours, is_old: true },
    Outside { cluster: "wildcard", names: &["*.example.com"], by: Issuing::Ours, is_old: false },
    Outside { cluster: "deeper-wildcard", names: &["*.com"], by: Issuing::Ours, is_old: false },
    Outside { cluster: "several", names: &["a.example.com", HOST], by: Issuing::Ours, is_old: true },
    Outside { cluster: "other-name", names: &["other.example.com"], by: Issuing::Ours, is_old: false },
    Outside { cluster: "other-name-tls12", names: &["other.example.com"], by: Issuing::Ours, is_old: true },
    // As clusters of the mesh are: 1.3 alone.
    Outside { cluster: STRICT, names: &[HOST], by: Issuing::Ours, is_old: true },
    Outside { cluster: "strangers", names: &[HOST], by: Issuing::Strangers, is_old: false },
];

#[tokio::test]
async fn servers_outside_are_taken_and_refused_as_in_envoy() -> anyhow::Result<()> {
    let (ours, strangers) = (Forger::stranger(None)?, Forger::stranger(None)?);
    let (mut servers, mut ports) = (Vec::new(), BTreeMap::new());
    for outside in &SERVERS {
        let by = if outside.by == Issuing::Ours { &ours } else { &strangers };
        let shown = by.server(outside.names)?;
        let shown = if outside.is_old { shown.over_tls12() } else { shown };
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port()?);
        servers.push(Responder::start(address, Some(&shown), WORD).await?);
        ports.insert(outside.cluster, address.port());
    }
    let mut told = Vec::new();
    for sidecar in Sidecar::ALL {
        let proxy =
            Standalone::start(sidecar, |admin, port| bootstrap(admin, port, &ports, &ours.root_pem()))?;
        told.push(ask_all(&proxy).await?);
    }
    ensure!(told[0] == told[1], "they differ: {:#?}", told);
    let passing = ["tls13", "tls12", "wildcard", "several"];
    let passed: Vec<&str> =
        told[0].iter().filter(|(_, said)| said[0] == "200").map(|(cluster, _)| *cluster).collect();
    ensure!(passed.len() == passing.len() && passing.iter().all(|one| passed.contains(one)), "{passed:?}");
    let refused = servers.iter().zip(&SERVERS).filter(|(_, outside)| !passing.contains(&outside.cluster));
    for (server, outside) in refused {
        ensure!(server.heard().is_empty(), "{} heard a request", outside.cluster);
    }
    Ok(())
}

/// Of each server the status of an answer, and what is counted.
async fn ask_all(proxy: &Standalone) -> anyhow::Result<BTreeMap<&'static str, Vec<String>>> {
    let calls = Calls::direct();
    let url = |cluster: &str| format!("http://{}/{cluster}", proxy.address);
    until("the proxy answers", CONVERGES, async || {
        let answer = calls.get(&url("ready")).await?;
        ensure!(answer.status == 204, "{}", answer.status);
        Ok(())
    })
    .await?;
    let mut told = BTreeMap::new();
    for Outside { cluster, .. } in &SERVERS {
        told.insert(*cluster, vec![calls.get(&url(cluster)).await?.status.to_string()]);
    }
    let lines = proxy.statistics().await?;
    for (cluster, told) in &mut told {
        for counter in ["handshake", "fail_verify_san", "fail_verify_error", "fail_verify_no_cert"] {
            let name = format!("cluster.{cluster}.ssl.{counter}: ");
            told.extend(lines.iter().filter(|line| line.starts_with(&name)).cloned());
        }
    }
    Ok(told)
}

fn least(cluster: &str) -> &'static str {
    if cluster == STRICT { "TLSv1_3" } else { "TLSv1_2" }
}

fn bootstrap(admin: u16, port: u16, servers: &BTreeMap<&'static str, u16>, ca: &str) -> String {
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let clusters: Vec<Value> = servers
        .iter()
        .map(|(cluster, port)| {
            json!({
                "name": cluster, "type": "STATIC",
                "load_assignment": {"cluster_name": cluster, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(*port)}}]}]},
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                    "@type": TLS, "sni": HOST,
                    "common_tls_context": {
                        "tls_params": {"tls_minimum_protocol_version": least(cluster), "tls_maximum_protocol_version": "TLSv1_3"},
                        "validation_context": {
                            "trusted_ca": {"inline_string": ca},
                            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": HOST}}],
                        },
                    },
                }},
            })
        })
        .collect();
    let ready = json!({"match": {"path": "/ready"}, "direct_response": {"status": 204}});
    let routes = servers
        .keys()
        .map(|cluster| json!({"match": {"path": format!("/{cluster}")}, "route": {"cluster": cluster}}));
    let routes: Vec<Value> = std::iter::once(ready).chain(routes).collect();
    let bootstrap = json!({
        "admin": {"address": at(admin)},
        "static_resources": {
            "clusters": clusters,
            "listeners": [{"name": "in", "address": at(port), "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": MANAGER, "stat_prefix": "in",
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
                    "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                    }}],
                },
            }]}]}],
        },
    });
    bootstrap.to_string()
}
