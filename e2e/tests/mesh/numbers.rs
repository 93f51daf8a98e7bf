//! What the API says of traffic is what happened, through both proxies: a server that fails, refuses or hangs is never a
//! success, and a connection shows what it carries while it is open.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_api::rest::{Edge, EdgeList, EdgePoint, EdgeProtocol, EdgeSeries, EdgeState};
use weft_e2e::harness::{Calls, Mesh, Options, Pair, Sidecar, StoreKind, Workload, until};

use crate::shop::{Callers, catalog, start_both_versions, start_catalog, tcp_port};

#[tokio::test]
async fn edges_count_what_happened_on_the_embedded_store() {
    Mesh::run(Options::new(StoreKind::Embedded), edges_count_what_happened).await;
}

#[tokio::test]
async fn a_question_asks_all_replicas() {
    Mesh::run(Options::new(StoreKind::Etcd).replicas(2), question_asks_all).await;
}

/// Callers are connected to either replica, and both tell of all.
async fn question_asks_all(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let _servers = start_both_versions(mesh).await?;
    let _trickles = Trickles::start(&callers);
    for replica in [0, 1] {
        mesh.use_api_of(replica)?;
        shows(mesh, "http", "all callers", |edge| (5.0..15.0).contains(&edge.rate)).await?;
        versions_are_told_apart(mesh).await?;
        let query = format!("destination=shop/{}", catalog(Sidecar::Weft));
        until("the series of all callers", SHOWS, async || {
            let series = series(mesh, &query).await?;
            ensure!(series.points.iter().any(|point| point.rate > 15.0), "{series:?}");
            Ok(())
        })
        .await?;
    }
    // The callers go over to the one that is left, which soon asks nobody any more.
    mesh.replica(0)?.kill()?;
    mesh.use_api_of(1)?;
    shows(mesh, "http", "all callers at one replica", |edge| edge.rate > 5.0).await
}

/// Whoever calls, and though no route and no subset names a version.
async fn versions_are_told_apart(mesh: &Mesh) -> anyhow::Result<()> {
    until("each version of each server", SHOWS, async || {
        let shown = mesh.weft(&["get", "edges", "--by", "version", "-o", "json"]).await?;
        let versions: EdgeList = serde_json::from_str(&shown)?;
        let half = |edge: &&Edge| {
            (5.0..15.0).contains(&edge.rate) && edge.success == Some(1.0) && edge.p50_ms.is_some()
        };
        let halves = versions.items.iter().filter(half);
        let halves: Vec<_> = halves.map(|edge| (edge.destination.clone(), edge.version.clone())).collect();
        for server in Sidecar::ALL {
            for version in ["v1", "v2"] {
                let wanted = (format!("shop/{}", catalog(server)), Some(version.to_owned()));
                ensure!(halves.contains(&wanted), "{wanted:?}: {shown}");
            }
        }
        ensure!(halves.len() == 4, "{shown}");
        Ok(())
    })
    .await?;
    let table = mesh.weft(&["get", "edges", "--by", "version"]).await?;
    ensure!(table.starts_with("SERVICE") && table.contains(" v2 "), "{table}");
    let query = format!("destination=shop/{}&version=v2", catalog(Sidecar::Envoy));
    until("the series of a version", SHOWS, async || {
        let series = series(mesh, &query).await?;
        ensure!(series.points.iter().any(|point| (5.0..15.0).contains(&point.rate)), "{series:?}");
        Ok(())
    })
    .await
}

/// Reports come each 5 s and a window covers 15 s: what was planted fills it by then, on a slow machine too.
const SHOWS: Duration = Duration::from_secs(60);
/// Time between two requests of a trickle.
const PACE: Duration = Duration::from_millis(100);
/// Nearly all of a window: what was under way when the change came is still in it.
const MOST: f64 = 0.95;

async fn edges_count_what_happened(mesh: &mut Mesh) -> anyhow::Result<()> {
    let callers = Callers::start(mesh).await?;
    let servers =
        [start_catalog(mesh, Sidecar::Weft, "v1").await?, start_catalog(mesh, Sidecar::Envoy, "v1").await?];
    let _trickles = Trickles::start(&callers);
    shows(mesh, "http", "answers", |edge| {
        let shares = (edge.success, edge.failed, edge.denied);
        let whole = shares == (Some(1.0), Some(0.0), Some(0.0)) && edge.state == EdgeState::Flowing;
        let ordered = edge.p50_ms <= edge.p90_ms && edge.p90_ms <= edge.p99_ms && edge.p50_ms.is_some();
        whole && ordered && edge.mtls && (5.0..15.0).contains(&edge.rate) && edge.retries == 0.0
    })
    .await?;

    plant(&servers, "status=500").await?;
    shows(mesh, "http", "a fault", |edge| {
        edge.state == EdgeState::Failing
            && edge.failed.is_some_and(|share| share > MOST)
            && edge.success.is_some_and(|share| share < 1.0 - MOST)
    })
    .await?;

    plant(&servers, "").await?;
    mesh.apply(&Sidecar::ALL.map(deny).join("\n---\n")).await?;
    shows(mesh, "http", "a Deny", |edge| {
        edge.state == EdgeState::Flowing
            && edge.denied.is_some_and(|share| share > MOST)
            && edge.success.is_some_and(|share| share < 1.0 - MOST)
            && edge.failed == Some(0.0)
    })
    .await?;

    for server in Sidecar::ALL {
        mesh.client().delete("authorizationpolicy", "shop", &catalog(server)).await?;
    }
    plant(&servers, "delay=1h").await?;
    shows(mesh, "http", "a hung application", |edge| {
        edge.state == EdgeState::Silent && edge.open > 0 && edge.success.is_none() && edge.denied.is_none()
    })
    .await?;
    let table = mesh.weft(&["get", "edges"]).await?;
    ensure!(table.matches("silent, ").count() == Pair::ALL.len(), "{table}");

    plant(&servers, "").await?;
    shows(mesh, "http", "the recovery", |edge| edge.state == EdgeState::Flowing).await?;
    series_remember_it(mesh).await?;
    watchers_are_told(mesh).await?;
    rules_are_told_apart(mesh).await?;
    open_connections_show_what_they_carry(mesh, &callers).await
}

/// What the edges showed one after the other stands in the series of each.
async fn series_remember_it(mesh: &Mesh) -> anyhow::Result<()> {
    for pair in Pair::ALL {
        let (from, to) = (pair.caller.word(), catalog(pair.server));
        let query = format!("destination=shop/{to}&source=shop/web-{from}&port=http");
        let series = series(mesh, &query).await?;
        let most = |share: Option<f64>| share.is_some_and(|share| share > MOST);
        let has = |is: fn(&EdgePoint) -> bool| series.points.iter().any(is);
        ensure!(series.points.iter().any(|point| most(point.failed)), "{pair}: no failure: {series:?}");
        ensure!(series.points.iter().any(|point| most(point.denied)), "{pair}: no refusal: {series:?}");
        ensure!(has(|point| point.open > 10 && point.success.is_none()), "{pair}: no hang: {series:?}");
        ensure!(has(|point| point.p50_ms.is_some() && point.p50_ms <= point.p99_ms), "{pair}: {series:?}");
        let steps = series.points.windows(2).all(|two| two[1].at == two[0].at + 5 && two[0].at % 5 == 0);
        ensure!(steps, "{pair}: steps of 5 s: {series:?}");
        let minutes = self::series(mesh, &format!("{query}&step=1m")).await?;
        ensure!(minutes.points.iter().any(|point| point.rate > 1.0 && point.at % 60 == 0), "{minutes:?}");
    }
    let golden = series(mesh, &format!("destination=shop/{}&since=30", catalog(Sidecar::Weft))).await?;
    ensure!(golden.points.len() <= 6 && golden.points.iter().any(|point| point.rate > 10.0), "{golden:?}");
    for wrong in
        ["", "destination=catalog", "destination=shop/catalog-weft&step=7s", "destination=a/b&oops=1"]
    {
        let answer = mesh.call("GET", &format!("/v1/edges/series?{wrong}"), "").await?;
        ensure!(answer.status == 400, "{wrong:?}: {} {}", answer.status, answer.body);
    }
    Ok(())
}

async fn series(mesh: &Mesh, query: &str) -> anyhow::Result<EdgeSeries> {
    let answer = mesh.call("GET", &format!("/v1/edges/series?{query}"), "").await?;
    ensure!(answer.status == 200, "{query}: {} {}", answer.status, answer.body);
    Ok(serde_json::from_str(&answer.body)?)
}

/// Two pictures of the mesh, one after the other, on one connection.
async fn watchers_are_told(mesh: &Mesh) -> anyhow::Result<()> {
    let api = mesh.api();
    let address = api.strip_prefix("http://").context("the API is plain on loopback")?.trim_end_matches('/');
    let mut stream = TcpStream::connect(address).await?;
    let asked = format!(
        "GET /v1/watch/edges?source=shop/web-weft HTTP/1.1\r\nhost: weft\r\nauthorization: Bearer {}\r\n\r\n",
        mesh.operator_token()?
    );
    stream.write_all(asked.as_bytes()).await?;
    let (mut told, mut buffer) = (String::new(), vec![0; 1 << 16]);
    let two = async {
        while told.matches("event: edges\ndata: {").count() < 2 {
            let read = stream.read(&mut buffer).await?;
            ensure!(read > 0, "the stream ended: {told}");
            told.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        Ok(())
    };
    tokio::time::timeout(SHOWS, two).await.context("two pictures in time")??;
    ensure!(told.contains("content-type: text/event-stream"), "{told}");
    ensure!(
        told.contains("shop/web-weft") && !told.contains("shop/web-envoy"),
        "only what was asked for: {told}"
    );
    Ok(())
}

async fn rules_are_told_apart(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.apply(&Sidecar::ALL.map(rules).join("\n---\n")).await?;
    until("edges by rule", SHOWS, async || {
        let answer = mesh.call("GET", "/v1/edges?by=route", "").await?;
        let edges: EdgeList = serde_json::from_str(&answer.body)?;
        for pair in Pair::ALL {
            let (from, to) = (format!("shop/web-{}", pair.caller.word()), catalog(pair.server));
            let of = |rule: &str| {
                let route = format!("HTTPRoute shop/{to} rule {rule}");
                let is_its = |edge: &&Edge| edge.source == from && edge.route.as_ref() == Some(&route);
                edges.items.iter().find(is_its).cloned()
            };
            let edge = of("all").with_context(|| format!("{pair}: {:?}", edges.items))?;
            let named =
                edge.destination == format!("shop/{to}") && edge.port == "http" && edge.subset.is_none();
            let flows = edge.rate > 5.0 && edge.success == Some(1.0) && edge.p50_ms.is_some() && edge.mtls;
            ensure!(named && flows, "{pair}: {edge:?}");
            ensure!(of("none").is_none(), "{pair}: nothing follows that rule");
        }
        Ok(())
    })
    .await?;
    let of_rule =
        format!("destination=shop/{0}&route=HTTPRoute%20shop/{0}%20rule%20all", catalog(Sidecar::Envoy));
    until("a series of the rule", SHOWS, async || {
        let series = series(mesh, &of_rule).await?;
        ensure!(series.points.iter().any(|point| point.rate > 10.0), "{series:?}");
        Ok(())
    })
    .await
}

/// A route with a rule that takes all requests, and one that takes none.
pub fn rules(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         parentRefs: [{{kind: Service, name: {name}, port: 80}}]\n  rules:\n  \
         - {{name: none, matches: [{{path: {{value: /nothing}}}}], backendRefs: [{{name: {name}, port: 80}}]}}\n  \
         - {{name: all, backendRefs: [{{name: {name}, port: 80}}]}}\n"
    )
}

/// A connection of each pair, over which some bytes have gone.
pub async fn open_connections(callers: &Callers) -> anyhow::Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for pair in Pair::ALL {
        let port = (callers.of(pair).address(), tcp_port(pair.server));
        let mut stream = TcpStream::connect(port).await?;
        let mut greeted = [0; 1];
        stream.read_exact(&mut greeted).await.with_context(|| format!("{pair}: a greeting"))?;
        stream.write_all(&[b'x'; 10_000]).await?;
        connections.push(stream);
    }
    Ok(connections)
}

async fn open_connections_show_what_they_carry(mesh: &Mesh, callers: &Callers) -> anyhow::Result<()> {
    let connections = open_connections(callers).await?;
    shows(mesh, "tcp", "open connections", |edge| {
        edge.protocol == EdgeProtocol::Tcp
            && edge.open == 1
            && edge.bytes_sent.is_some_and(|rate| rate > 100.0)
            && edge.bytes_received.is_some_and(|rate| rate > 100.0)
            && edge.denied.is_none()
    })
    .await?;
    shows(mesh, "tcp", "connections at rest", |edge| edge.state == EdgeState::Idle && edge.open == 1).await?;
    drop(connections);
    shows(mesh, "tcp", "no connections", |edge| edge.open == 0).await
}

/// Waits until the edges of all pairs are as they should be.
async fn shows(mesh: &Mesh, port: &str, what: &str, is_right: impl Fn(&Edge) -> bool) -> anyhow::Result<()> {
    until(&format!("the edges show {what}"), SHOWS, async || {
        let list = mesh.client().edges().await?;
        ensure!(list.unheard == 0, "{} replicas were not heard", list.unheard);
        let edges = list.items;
        for pair in Pair::ALL {
            let (from, to) = (format!("shop/web-{}", pair.caller.word()), catalog(pair.server));
            let is_its = |edge: &&Edge| {
                edge.source == from && edge.destination == format!("shop/{to}") && edge.port == port
            };
            let edge = edges.iter().find(is_its).with_context(|| format!("{pair}: not among {edges:?}"))?;
            ensure!(is_right(edge), "{pair}: {edge:?}");
        }
        Ok(())
    })
    .await
}

async fn plant(servers: &[Workload], fault: &str) -> anyhow::Result<()> {
    for server in servers {
        Calls::direct().get(&format!("{}/fault?{fault}", server.app())).await?;
    }
    Ok(())
}

fn deny(server: Sidecar) -> String {
    let name = catalog(server);
    format!(
        "apiVersion: weft.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{targetRefs: [{{kind: Service, name: {name}}}], action: Deny, \
         rules: [{{name: nobody, from: [{{services: [web-weft, web-envoy]}}]}}]}}\n"
    )
}

/// A request of each pair at a steady pace, whether those before it were answered or not.
pub struct Trickles(#[expect(dead_code, reason = "ends them when dropped")] JoinSet<()>);

impl Trickles {
    pub fn start(callers: &Callers) -> Self {
        let mut tasks = JoinSet::new();
        for pair in Pair::ALL {
            let (calls, url) = (callers.of(pair).calls(), format!("http://{}/", catalog(pair.server)));
            tasks.spawn(async move {
                let (mut asked, mut ticks) = (JoinSet::new(), tokio::time::interval(PACE));
                loop {
                    ticks.tick().await;
                    let (calls, url) = (calls.clone(), url.clone());
                    // What became of it is asked of the mesh. Each ends in time, so that few are open at once.
                    asked.spawn(async move { drop(calls.get(&url).await) });
                    while asked.try_join_next().is_some() {}
                }
            });
        }
        Self(tasks)
    }
}
