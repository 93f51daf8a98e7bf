//! Bytes that are no HTTP/1.1, from a caller and from a server, at both proxies with one configuration: what Envoy refuses
//! weft-proxy refuses with the same status, and what only weft-proxy refuses stands here.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use weft_e2e::harness::{CONVERGES, Sidecar, Standalone, until};

use crate::ground::{ANSWER, Attacks};

/// A request's first line and fields, what follows them, and the status of Envoy and of weft-proxy.
type Case = (&'static str, &'static str, u16, u16);

const REQUESTS: &[Case] = &[
    ("GET / HTTP/1.1\r\nhost: a\r\n", "", 200, 200),
    // Framing that two readers could understand in two ways.
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n",
        "0\r\n\r\n",
        400,
        400,
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 5\r\n", "abcde", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ncontent-length: 4\r\n", "abcd", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4, 4\r\n", "abcd", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +4\r\n", "abcd", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -4\r\n", "abcd", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n", "abcd", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n", "", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n", "0\r\n\r\n", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n", "0\r\n\r\n", 501, 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n", "0\r\n\r\n", 501, 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n", "0\r\n\r\n", 501, 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n", "", 501, 501),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n", "0\r\n\r\n", 400, 400),
    ("CONNECT a:80 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n", "abc", 400, 400),
    ("CONNECT a:80 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n", 501, 501),
    // Chunks that are none, after a head that is in order.
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n", "-3\r\nabc\r\n0\r\n\r\n", 400, 400),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n", "3\nabc\n0\n\n", 400, 400),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        400,
        400,
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n", "3;a=b\r\nabc\r\n0\r\n\r\n", 200, 200),
    // Heads.
    ("GET / HTTP/1.1\r\nhost: a\r\nx-a : 1\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x002\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\x012\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a\r\n: x\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx(a): 1\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a\nx-b: 1\n", "", 200, 200),
    ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n", "", 200, 200),
    ("GET / HTTP/1.1\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a b\r\n", "", 400, 400),
    ("GET / HTTP/1.1\r\nhost: a/b\r\n", "", 400, 400),
    ("get / HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("FOO / HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("PROPFIND / HTTP/1.1\r\nhost: a\r\n", "", 200, 200),
    ("GET * HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("GET a HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("GET ftp://b/ HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("GET http:///x HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("GET http://b/c HTTP/1.1\r\nhost: a\r\n", "", 200, 200),
    ("GET /a b HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("GET /a#b HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("GET /\u{e4} HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("CONNECT a HTTP/1.1\r\nhost: a\r\n", "", 400, 400),
    ("GET / HTTP/1.0\r\nhost: a\r\n", "", 426, 426),
    // What Envoy takes, and others read otherwise.
    ("GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\n", "", 200, 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r2\r\n", "", 200, 400),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n", "", 200, 400),
    ("GET / HTTP/1.1\r\nhost: u@a\r\n", "", 200, 400),
    ("GET  / HTTP/1.1\r\nhost: a\r\n", "", 200, 400),
];

/// What a server answers before it closes the connection.
const RESPONSES: &[Case] = &[
    ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", "ok", 200, 200),
    ("HTTP/1.1 200 OK\ncontent-length: 2\n", "ok", 200, 200),
    ("HTTP/1.1 200 OK\r\n", "ok", 200, 200),
    ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n", "", 204, 204),
    ("HTTP/1.1 103 Early Hints\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, 200),
    (
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n",
        "2\r\nok\r\n0\r\n\r\n",
        502,
        502,
    ),
    ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n", "ok", 502, 502),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n", "ok", 502, 502),
    ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n", "ok", 502, 502),
    ("HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n", 502, 502),
    ("HTTP/1.1 200 OK\r\nx-a : 1\r\ncontent-length: 2\r\n", "ok", 502, 502),
    ("HTTP/1.1 200 OK\r\nx-a: 1\x012\r\ncontent-length: 2\r\n", "ok", 502, 502),
    ("HTTP/1.1 99 X\r\ncontent-length: 2\r\n", "ok", 502, 502),
    ("garbage\r\n", "", 502, 502),
    // What Envoy takes, and others read otherwise.
    ("HTTP/1.1 200 OK\r\nx-a: 1\r\n 2\r\ncontent-length: 2\r\n", "ok", 200, 502),
    ("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n", 200, 502),
    ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n", "", 101, 502),
];

#[tokio::test]
async fn what_is_no_request_is_refused_as_envoy_refuses_it() -> anyhow::Result<()> {
    let mut attacks = Attacks::default();
    for sidecar in Sidecar::ALL {
        let ground = Ground::start(sidecar).await?;
        for &(head, rest, envoy, ours) in REQUESTS {
            let wanted = status_of(sidecar, envoy, ours);
            let outcome = ground.request(head, rest, wanted).await;
            attacks.held(format!("{}: {head:?}", sidecar.word()), outcome);
        }
    }
    attacks.end()
}

#[tokio::test]
async fn what_is_no_response_is_answered_as_envoy_answers_it() -> anyhow::Result<()> {
    let mut attacks = Attacks::default();
    for sidecar in Sidecar::ALL {
        let ground = Ground::start(sidecar).await?;
        for &(head, rest, envoy, ours) in RESPONSES {
            *ground.answer.lock().expect("nobody panics with it") = format!("{head}\r\n{rest}").into_bytes();
            let outcome = ground.plain(status_of(sidecar, envoy, ours)).await;
            attacks.held(format!("{}: {head:?}", sidecar.word()), outcome);
        }
    }
    attacks.end()
}

fn status_of(sidecar: Sidecar, envoy: u16, ours: u16) -> u16 {
    match sidecar {
        Sidecar::Envoy => envoy,
        Sidecar::Weft => ours,
    }
}

/// A proxy before an application that writes what it is told to.
struct Ground {
    proxy: Standalone,
    answer: Arc<Mutex<Vec<u8>>>,
    seen: Arc<Mutex<Vec<String>>>,
    _application: AbortOnDropHandle<()>,
}

impl Ground {
    async fn start(sidecar: Sidecar) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let application = listener.local_addr()?.port();
        let (answer, seen) = (Arc::new(Mutex::new(OK.to_vec())), Arc::<Mutex<Vec<String>>>::default());
        let serving = tokio::spawn(serve(listener, answer.clone(), seen.clone()));
        let proxy = Standalone::start(sidecar, |admin, port| bootstrap(admin, port, application))?;
        let this = Self { proxy, answer, seen, _application: AbortOnDropHandle::new(serving) };
        until("the proxy answers", CONVERGES, async || this.plain(200).await).await?;
        Ok(this)
    }

    /// A request in order.
    async fn plain(&self, wanted: u16) -> anyhow::Result<()> {
        self.request("GET / HTTP/1.1\r\nhost: a\r\n", "", wanted).await
    }

    /// One answer, and nothing of what is refused reaches the application.
    async fn request(&self, head: &str, rest: &str, wanted: u16) -> anyhow::Result<()> {
        self.seen.lock().expect("nobody panics with it").clear();
        let smuggled = if wanted < 400 { "" } else { "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n" };
        let bytes = format!("{head}connection: close\r\n\r\n{rest}{smuggled}");
        let answer = tokio::time::timeout(ANSWER, said(self.proxy.address, bytes.as_bytes()))
            .await
            .context("no end")??;
        let status = answer.get(9..12).unwrap_or_default();
        ensure!(status == wanted.to_string(), "not {wanted}: {answer:?}");
        ensure!(answer.matches("HTTP/1.").count() == 1, "not one answer: {answer:?}");
        let seen = self.seen.lock().expect("nobody panics with it");
        ensure!(!seen.iter().any(|head| head.contains("/smuggled")), "the application saw {seen:?}");
        Ok(())
    }
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// What a server is told when it has said it.
async fn said(proxy: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(proxy).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    // A reset ends a connection too.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// One request on each connection, whose content is not waited for.
async fn serve(listener: TcpListener, answer: Arc<Mutex<Vec<u8>>>, seen: Arc<Mutex<Vec<String>>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let (answer, seen) = (answer.clone(), seen.clone());
        tokio::spawn(async move {
            let mut bytes = Vec::new();
            while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                    return;
                }
            }
            let chunked = bytes.windows(18).any(|word| word == b"transfer-encoding:");
            while chunked && !bytes.ends_with(b"0\r\n\r\n") {
                if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                    return;
                }
            }
            seen.lock().expect("nobody panics with it").push(String::from_utf8_lossy(&bytes).into_owned());
            let answer = answer.lock().expect("nobody panics with it").clone();
            if stream.write_all(&answer).await.is_ok() && stream.shutdown().await.is_ok() {
                // The proxy reads it whole before it closes.
                let _ = tokio::time::timeout(Duration::from_secs(1), stream.read_to_end(&mut bytes)).await;
            }
        });
    }
}

fn bootstrap(admin: u16, port: u16, application: u16) -> String {
    format!(
        r#"
node: {{id: shop/web-1, cluster: shop/web}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - name: in
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          http_filters:
          - name: router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: app, timeout: 5s}}}}]}}]}}
  clusters:
  - name: app
    load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {application}}}}}}}}}]}}]}}
"#
    )
}
