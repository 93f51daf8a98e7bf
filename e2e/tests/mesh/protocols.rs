//! All four pairs times all protocols: traffic flows, the server sees who calls, and nobody gets in without a
//! certificate of the mesh.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weft_e2e::harness::{
    CONVERGES, Calls, GrpcFinding, Mesh, Options, Pair, Presented, Sidecar, StoreKind, Workload, dial, until,
};

use crate::shop::{Callers, catalog, start_catalog, tcp_port};

#[tokio::test]
async fn every_pair_carries_every_protocol_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), every_pair_carries_every_protocol).await;
}

#[tokio::test]
async fn every_pair_carries_every_protocol_on_etcd() {
    Mesh::run(Options::new(StoreKind::Etcd), every_pair_carries_every_protocol).await;
}

async fn every_pair_carries_every_protocol(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let weft = start_catalog(mesh, Sidecar::Weft, "v1").await?;
    let envoy = start_catalog(mesh, Sidecar::Envoy, "v1").await?;
    mesh.in_sync(&[callers.ids(), vec![weft.id(), envoy.id()]].concat()).await?;
    for pair in Pair::ALL {
        let server = if pair.server == Sidecar::Weft { &weft } else { &envoy };
        let caller = callers.of(pair);
        reaches(caller, pair).await.with_context(|| format!("{pair}: first request"))?;
        carries_http(caller, server, pair).await.with_context(|| format!("{pair}: HTTP"))?;
        carries_grpc(caller, server, pair).await.with_context(|| format!("{pair}: gRPC"))?;
        carries_web_sockets(caller, server, pair).await.with_context(|| format!("{pair}: WebSocket"))?;
        carries_tcp(caller, server, pair).await.with_context(|| format!("{pair}: TCP"))?;
    }
    for server in [&weft, &envoy] {
        let what = server.id();
        refuses_plain_connections(server).await.with_context(|| format!("{what}: plain"))?;
        refuses_strangers(server, &catalog_sni(server))
            .await
            .with_context(|| format!("{what}: strangers"))?;
    }
    Ok(())
}

/// Endpoints reach a caller a moment after its own readiness.
async fn reaches(caller: &Workload, pair: Pair) -> anyhow::Result<()> {
    let url = format!("http://{}/", catalog(pair.server));
    until("a request is answered", CONVERGES, async || caller.calls().get(&url).await?.tree().map(|_| ()))
        .await
}

async fn carries_http(caller: &Workload, server: &Workload, pair: Pair) -> anyhow::Result<()> {
    let (calls, host) = (caller.calls(), catalog(pair.server));
    for (url, protocol) in [
        (format!("http://{host}/"), "HTTP/1.1"),
        (format!("http://{host}.shop/"), "HTTP/1.1"),
        (format!("http://{host}.shop.mesh:80/"), "HTTP/1.1"),
        (format!("http://{host}:8081/"), "HTTP/2.0"),
    ] {
        let tree = calls.get(&url).await?.tree().context(url.clone())?;
        ensure!(tree.peer == caller.spiffe(), "{url}: the server saw {:?}", tree.peer);
        ensure!(tree.protocol == protocol, "{url}: the server was spoken to in {}", tree.protocol);
        ensure!(tree.workload == server.name(), "{url}: {} answered", tree.workload);
    }
    for url in [format!("http://{host}/"), format!("http://{host}:8081/")] {
        let tree = calls.get_h2(&url).await?.tree().with_context(|| format!("h2 {url}"))?;
        ensure!(tree.peer == caller.spiffe(), "h2 {url}: the server saw {:?}", tree.peer);
        ensure!(tree.protocol == "HTTP/2.0", "h2 {url}: the server was spoken to in {}", tree.protocol);
    }
    let body = "weft ".repeat(200_000);
    for answer in [
        calls.post(&format!("http://{host}/echo"), body.clone()).await?,
        calls.post_h2(&format!("http://{host}:8081/echo"), body.clone()).await?,
    ] {
        ensure!(answer.status == 200 && answer.body == body, "the echo of 1 MB differs: {}", answer.status);
    }
    let unknown = calls.get("http://nobody/").await?;
    ensure!(unknown.status == 502 && unknown.body.contains("RegistryOnly"), "{unknown:?}");
    Ok(())
}

async fn carries_grpc(caller: &Workload, server: &Workload, pair: Pair) -> anyhow::Result<()> {
    let (calls, authority) = (caller.calls(), format!("{}:9000", catalog(pair.server)));
    let expected = GrpcFinding { peer: caller.spiffe(), workload: server.name().to_owned() };
    let found = calls.grpc_unary(&authority).await?;
    ensure!(found == expected, "unary: {found:?}");
    let found = calls.grpc_server_stream(&authority).await?;
    ensure!(found == expected, "server streaming: {found:?}");
    let found = calls.grpc_conversation(&authority).await?;
    ensure!(found == expected, "conversation: {found:?}");
    Ok(())
}

async fn carries_web_sockets(caller: &Workload, server: &Workload, pair: Pair) -> anyhow::Result<()> {
    let host = catalog(pair.server);
    let greeting = caller.calls().web_socket(&host).await?;
    let expected = format!("{host} {} {}", server.name(), caller.spiffe());
    ensure!(greeting == expected, "{greeting}");
    Ok(())
}

async fn carries_tcp(caller: &Workload, server: &Workload, pair: Pair) -> anyhow::Result<()> {
    let local = (caller.address(), tcp_port(pair.server)).into();
    let greeting = Calls::tcp(local).await?;
    let expected = format!("{} v1 {}", catalog(pair.server), server.name());
    ensure!(greeting == expected, "{greeting}");
    Ok(())
}

/// The name that chooses the HTTP port of a server's inbound listener.
fn catalog_sni(server: &Workload) -> String {
    let service = server.name().trim_end_matches("-v1");
    format!("http.{service}.shop.mesh.local")
}

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: catalog\r\nconnection: close\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Plain HTTP gets no answer: the listener takes TLS only.
async fn refuses_plain_connections(server: &Workload) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(server.inbound()).await?;
    // The proxy may have closed already.
    drop(stream.write_all(REQUEST).await);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await;
    ensure!(read.is_ok(), "the connection stays open");
    let text = String::from_utf8_lossy(&answer);
    ensure!(!text.contains("HTTP/1.1"), "an answer came: {text}");
    Ok(())
}

/// TLS without a certificate, with one of another authority, or with one of the mesh: only the last gets an answer.
async fn refuses_strangers(server: &Workload, sni: &str) -> anyhow::Result<()> {
    let forged = Presented::forged("spiffe://mesh.local/ns/shop/svc/web-weft")?;
    for (who, presented) in [("nobody", None), ("a forger", Some(&forged))] {
        let answer = ask(server, sni, presented).await.unwrap_or_default();
        ensure!(answer.is_empty(), "{who} got an answer: {answer}");
    }
    let member = Presented::load(server.identity_dir())?;
    let answer = ask(server, sni, Some(&member)).await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "a member of the mesh got: {answer}");
    let elsewhere = ask(server, "http.nobody.shop.mesh.local", Some(&member)).await.unwrap_or_default();
    ensure!(!elsewhere.contains(" 200"), "a name of no service got an answer: {elsewhere}");
    Ok(())
}

async fn ask(server: &Workload, sni: &str, presented: Option<&Presented>) -> anyhow::Result<String> {
    let mut stream = dial(server.inbound(), sni, b"http/1.1", presented).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut answer)).await.context("no end")??;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
