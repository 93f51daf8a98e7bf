//! Which endpoint a request goes to, where its hash decides: over rings and tables, weights, localities, priorities, panic and
//! second tries.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use weft_e2e::harness::{Answer, CONVERGES, Calls, Sidecar, Standalone, until};

/// Hashes by which the endpoints are asked for on each of these paths.
const HASHES: usize = 1_000;
const BY_HEADER: [&str; 8] =
    ["/ring", "/maglev", "/typed", "/small", "/localities", "/priorities", "/panic", "/retried"];

/// What else is hashed, with the fields of the request.
const OTHERWISE: &[(&str, &[(&str, &str)])] = &[
    ("/query?id=1", &[]),
    ("/query?x=1&id=a%20b&id=2", &[]),
    ("/query?id", &[]),
    ("/cookie", &[("cookie", "a=1; session=abc")]),
    ("/cookie", &[("cookie", "session=\"quoted\"")]),
    ("/source", &[]),
    ("/combined?id=1", &[("x-user", "a")]),
    ("/combined?id=2", &[("x-user", "a")]),
    ("/combined", &[("x-user", "a")]),
    ("/combined?id=1", &[]),
    ("/terminal?id=1", &[("x-user", "a")]),
    ("/terminal?id=2", &[("x-user", "a")]),
    ("/terminal?id=2", &[]),
    ("/rewritten", &[("x-user", "tenant-1/alice")]),
    ("/rewritten", &[("x-user", "tenant-1/bob")]),
    ("/rewritten", &[("x-user", "plain")]),
    ("/ring", &[("x-user", "b"), ("x-user", "a")]),
    ("/ring", &[("x-user", "a"), ("x-user", "b")]),
];

#[tokio::test]
async fn hashes_lead_to_the_endpoints_that_envoy_picks() -> anyhow::Result<()> {
    let endpoints = Endpoints::start().await?;
    let (envoy, weft) =
        (Ground::start(Sidecar::Envoy, &endpoints).await?, Ground::start(Sidecar::Weft, &endpoints).await?);
    let mut differ = Vec::new();
    for path in BY_HEADER {
        let mut picks = BTreeMap::new();
        for number in 0..HASHES {
            let user = format!("user-{number}");
            let fields = [("x-user", user.as_str())];
            let (wanted, got) = (envoy.ask(path, &fields).await?, weft.ask(path, &fields).await?);
            if wanted.body != got.body || wanted.status != got.status {
                differ
                    .push(format!("{path} {user}: {:?} in Envoy, {:?} in weft-proxy", wanted.body, got.body));
            }
            *picks.entry(wanted.body).or_insert(0) += 1;
        }
        ensure!(picks.len() > 1, "{path}: one endpoint takes all: {picks:?}");
    }
    for (path, fields) in OTHERWISE {
        for _ in 0..3 {
            let (wanted, got) = (envoy.ask(path, fields).await?, weft.ask(path, fields).await?);
            if wanted.body != got.body {
                differ.push(format!("{path} {fields:?}: {:?} in Envoy, {:?} here", wanted.body, got.body));
            }
        }
    }
    ensure!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ[..differ.len().min(20)].join("\n"));
    for ground in [&envoy, &weft] {
        ground.gives_cookies().await.with_context(|| format!("{:?}", ground.sidecar))?;
    }
    let (wanted, got) = (envoy.statistics().await?, weft.statistics().await?);
    ensure!(wanted["cluster.panic.lb_healthy_panic"] > 0, "{wanted:?}");
    ensure!(wanted == got, "statistics\n  Envoy:      {wanted:?}\n  weft-proxy: {got:?}");
    Ok(())
}

/// Servers that answer with their number; the last one fails where it is told so.
struct Endpoints {
    ports: Vec<u16>,
    _serving: Vec<AbortOnDropHandle<()>>,
}

impl Endpoints {
    async fn start() -> anyhow::Result<Self> {
        let (mut ports, mut serving) = (Vec::new(), Vec::new());
        for number in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            ports.push(listener.local_addr()?.port());
            serving.push(AbortOnDropHandle::new(tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, number));
                }
            })));
        }
        Ok(Self { ports, _serving: serving })
    }
}

async fn serve(mut stream: TcpStream, number: usize) {
    let (reading, mut writing) = stream.split();
    let mut lines = BufReader::new(reading).lines();
    let mut fails = false;
    while let Ok(Some(line)) = lines.next_line().await {
        fails |= line.starts_with("GET /retried ") && number == 4;
        if line.is_empty() {
            let status = if fails { "503 No" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 1\r\n\r\n{number}");
            if writing.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            fails = false;
        }
    }
}

struct Ground {
    sidecar: Sidecar,
    proxy: Standalone,
    calls: Calls,
}

impl Ground {
    async fn start(sidecar: Sidecar, endpoints: &Endpoints) -> anyhow::Result<Self> {
        let proxy = Standalone::start(sidecar, |admin, port| bootstrap(admin, port, &endpoints.ports))?;
        let this = Self { sidecar, proxy, calls: Calls::direct() };
        until("the proxy answers", CONVERGES, async || {
            let answer = this.ask("/ready", &[]).await?;
            ensure!(answer.status == 200, "{answer:?}");
            Ok(())
        })
        .await?;
        Ok(this)
    }

    async fn ask(&self, path: &str, fields: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut request = Request::get(format!("http://{}{path}", self.proxy.address));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.calls.send(request.body(Full::new(Bytes::new()))?).await
    }

    /// Who brings no cookie is given one, by which the next request finds the same endpoint.
    async fn gives_cookies(&self) -> anyhow::Result<()> {
        let first = self.ask("/cookie", &[]).await?;
        let cookie = first.headers.get("set-cookie").context("no cookie")?.to_str()?;
        let (pair, attributes) = cookie.split_once("; ").context("no attributes")?;
        ensure!(attributes == "Max-Age=60; Path=/p; SameSite=Strict; HttpOnly", "{cookie}");
        ensure!(pair.len() == "session=\"0123456789abcdef\"".len(), "{cookie}");
        for _ in 0..5 {
            let again = self.ask("/cookie", &[("cookie", pair)]).await?;
            ensure!(again.body == first.body, "{cookie}: {} and {}", first.body, again.body);
            ensure!(!again.headers.contains_key("set-cookie"), "given twice");
        }
        let none = self.ask("/ring", &[]).await?;
        ensure!(!none.headers.contains_key("set-cookie"), "nobody asked for one");
        Ok(())
    }

    /// What came to each cluster and how, but for what chance decides.
    async fn statistics(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        let ours =
            [".lb_healthy_panic", ".upstream_rq_retry", ".upstream_rq_retry_success", ".upstream_rq_200"];
        let lines = self.proxy.statistics().await?.into_iter();
        let counted = lines.filter_map(|line| {
            let (name, value) = line.split_once(": ")?;
            let is_ours = name.starts_with("cluster.") && !name.starts_with("cluster.ready.");
            let is_ours = is_ours && ours.iter().any(|end| name.ends_with(end));
            // By whether the caller is of this machine's network: of no interest here, and Envoy's alone.
            let is_ours = is_ours && !name.contains(".external.") && !name.contains(".internal.");
            is_ours.then_some(())?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(counted.collect())
    }
}

fn bootstrap(admin: u16, port: u16, endpoints: &[u16]) -> String {
    let mut text = include_str!("balancing.yaml")
        .replace("@ADMIN@", &admin.to_string())
        .replace("@PORT@", &port.to_string());
    for (number, endpoint) in endpoints.iter().enumerate() {
        let address = format!("address: {{socket_address: {{address: 127.0.0.1, port_value: {endpoint}}}}}");
        text = text.replace(&format!("@{number}@"), &address);
    }
    text
}
