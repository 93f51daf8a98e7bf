//! What one endpoint change and one new service cost where many proxies are connected: how many of them are woken and sent
//! something, how many bytes that is, and how long it takes to the last of them.
//!
//! Each proxy is a client of its own on a delta stream over mutual TLS, which takes all that concerns it and answers.
//! Clients and server share this machine's cores.
//!
//! `cargo bench -p weft-control-plane --profile fast --bench views -- [STREAMS] [SERVICES] [All|Declared] [table|vhds]`
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark ends at the first surprise")]

#[path = "../tests/mesh/peer.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod peer;
#[path = "../tests/mesh/plane.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod plane;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_api::join::Upstream;
use weft_api::{JoinToken, ResourceKind};

use peer::{Member, declared, join};
use plane::{Plane, service};

/// Nothing came for so long: all have what they should have.
const QUIET: Duration = Duration::from_secs(3);
/// Services in one apply.
const CHUNK: usize = 500;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run());
}

/// What arrived since it was last asked.
#[derive(Default)]
struct Arrived {
    bytes: AtomicU64,
    streams: Mutex<BTreeSet<usize>>,
    last: Mutex<Option<Instant>>,
}

impl Arrived {
    fn note(&self, stream: usize, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.streams.lock().unwrap().insert(stream);
        *self.last.lock().unwrap() = Some(Instant::now());
    }

    /// Waits until nothing more comes; streams, bytes, and when the last of it came.
    async fn take(&self) -> (usize, u64, Option<Instant>) {
        let begun = Instant::now();
        loop {
            let last = *self.last.lock().unwrap();
            if last.unwrap_or(begun).elapsed() > QUIET {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let streams = std::mem::take(&mut *self.streams.lock().unwrap()).len();
        (streams, self.bytes.swap(0, Ordering::Relaxed), self.last.lock().unwrap().take())
    }
}

async fn run() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number = |index: usize, default: usize| args.get(index).map_or(default, |arg| arg.parse().unwrap());
    let (streams, services) = (number(0, 1000), number(1, 2000));
    let view = args.get(2).map_or("All", String::as_str);
    let by_vhds = args.get(3).is_none_or(|form| form == "vhds");
    let plane = Plane::start().await;
    if view != "All" {
        let defaults = format!("{{defaults: {{view: {view}}}}}");
        plane
            .apply(&format!(
                "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: mesh}}\nspec: {defaults}\n"
            ))
            .await;
    }
    plane.apply(&(service("web") + &service("cart"))).await;
    for first in (0..services).step_by(CHUNK) {
        let chunk: String = (first..services.min(first + CHUNK)).map(|n| service(&format!("s{n}"))).collect();
        plane.apply(&chunk).await;
    }
    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(plane.join_token("shop/web").await);
    }
    let arrived = Arc::new(Arrived::default());
    let mut clients = Vec::with_capacity(streams);
    for n in 0..streams {
        let member = enter(&tokens[n % tokens.len()], n, services).await;
        clients.push(tokio::spawn(follow(n, member, plane.running.xds, by_vhds, Arc::clone(&arrived))));
    }
    let (connected, bytes, _) = arrived.take().await;
    println!(
        "{streams} streams, {services} services, view {view}, {}",
        if by_vhds { "VHDS" } else { "one table" }
    );
    println!("{:<24} {:>8} {:>8} {:>14} {:>12} {:>8}", "", "woken", "served", "bytes", "a stream", "ms");
    println!("{:<24} {:>8} {connected:>8} {bytes:>14}", "until all are in sync", "");
    for (name, document) in
        [("one endpoint", endpoint("127.9.0.1")), ("its new address", endpoint("127.9.0.2"))]
            .into_iter()
            .chain([("one new service", service("new")), ("another", service("newer"))])
    {
        let begun = Instant::now();
        let woken = plane.apply_and_wait(&document, "60s").await.wait.map_or(0, |told| told.targeted);
        let (served, bytes, last) = arrived.take().await;
        let took = last.map_or(0, |last| last.saturating_duration_since(begun).as_millis());
        let each = bytes.checked_div(served as u64).unwrap_or(0);
        println!("{name:<24} {woken:>8} {served:>8} {bytes:>14} {each:>12} {took:>8}");
    }
    drop(clients);
    plane.running.end().await;
}

/// An instance of service `s7`, which every caller of it sees.
fn endpoint(address: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1\nkind: Workload\nmetadata: {{name: one, namespace: shop}}\n\
         spec: {{address: {address}, services: [s7], proxy: {{type: None}}}}\n"
    )
}

/// Joins as one that only calls others, each ten of them the same upstreams; waits where joins are limited.
async fn enter(token: &JoinToken, n: usize, services: usize) -> Member {
    let upstream = Upstream {
        service: format!("shop/s{}", (n / 10) % services),
        port: "http".to_owned(),
        bind: "127.0.0.1:9000".to_owned(),
    };
    let workload = weft_api::join::Workload {
        client: true,
        upstreams: vec![upstream],
        app_ports: Default::default(),
        ..declared(&format!("web-{n}"), &format!("127.1.{}.{}", n / 250, n % 250 + 1))
    };
    loop {
        match join(token, workload.clone()).await {
            Ok(member) => return member,
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(status) => panic!("{status}"),
        }
    }
}

/// Takes everything that concerns it and accepts it, until the stream ends.
async fn follow(
    n: usize,
    member: Member,
    control_plane: std::net::SocketAddr,
    by_vhds: bool,
    arrived: Arc<Arrived>,
) {
    let client_features = by_vhds.then(|| "weft.virtual_hosts".to_owned()).into_iter().collect();
    let node = Node {
        id: member.id.clone(),
        user_agent_name: "bench".to_owned(),
        client_features,
        ..Node::default()
    };
    let routes = if by_vhds { "outbound/shop/vhds" } else { "outbound/shop" };
    let mut client = AggregatedDiscoveryServiceClient::new(member.channel(control_plane).await)
        .max_decoding_message_size(64 << 20);
    let (requests, outgoing) = mpsc::channel(64);
    let ask = |kind: ResourceKind, names: Vec<String>, node: Option<Node>| DeltaDiscoveryRequest {
        node,
        type_url: kind.type_url().to_owned(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(ask(ResourceKind::Cluster, Vec::new(), Some(node))).await.unwrap();
    requests.send(ask(ResourceKind::Listener, Vec::new(), None)).await.unwrap();
    requests.send(ask(ResourceKind::Route, vec![routes.to_owned()], None)).await.unwrap();
    if by_vhds {
        requests.send(ask(ResourceKind::VirtualHost, Vec::new(), None)).await.unwrap();
    }
    requests.send(ask(ResourceKind::Secret, vec!["bundle".to_owned()], None)).await.unwrap();
    let mut responses =
        client.delta_aggregated_resources(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    let mut known = BTreeSet::new();
    // It ends with the bench.
    while let Ok(Some(response)) = responses.message().await {
        arrived.note(n, response.encoded_len());
        if response.type_url == ResourceKind::Cluster.type_url() {
            let names = response.resources.iter().map(|one| one.name.clone());
            let new: Vec<String> = names.filter(|name| known.insert(name.clone())).collect();
            if !new.is_empty() {
                requests.send(ask(ResourceKind::Endpoint, new, None)).await.unwrap();
            }
        }
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(ack).await.unwrap();
    }
}
