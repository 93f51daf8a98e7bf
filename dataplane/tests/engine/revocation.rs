//! Revoked certificates (finding H5): refused in both directions, and live connections end.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use weft_dataplane::runtime::{
    CertifiedIdentity, DownstreamTls, DownstreamTlsSpec, RevocationLists, Terminal, Transport, TrustSpec,
    UpstreamProtocol, UpstreamTls, UpstreamTlsSpec,
};

use crate::authority::{Authority, CART, WEB};
use crate::harness::{Client, Origin, Proxy, Setup, chain, empty, to_cluster};

const LASTING: time::Duration = time::Duration::HOUR;
/// Certificates of the tests: the second is revoked in most.
const GOOD: u64 = 4711;
const BAD: u64 = 4712;
/// A body that does not come to its end while a test runs.
const ENDLESS: &str = "/endless";
const NAME: &str = "http.web.shop.test";

fn trust(authority: &Authority, names: &[&str], lists: &str) -> TrustSpec {
    let crls = RevocationLists::from_pem(lists.as_bytes()).unwrap();
    TrustSpec { crls, only_leaf_crl: true, ..authority.trust(names) }
}

fn server(authority: &Authority, own: &CertifiedIdentity, lists: &str) -> Arc<DownstreamTls> {
    let spec = DownstreamTlsSpec {
        identity: Some(own.clone()),
        trust: Some(trust(authority, &[], lists)),
        require_client_certificate: true,
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        allow_tls12: false,
    };
    Arc::new(DownstreamTls::prepare(&spec).unwrap())
}

fn client(authority: &Authority, own: &CertifiedIdentity, lists: &str) -> Arc<UpstreamTls> {
    let spec = UpstreamTlsSpec {
        identity: Some(own.clone()),
        trust: Some(trust(authority, &[WEB], lists)),
        sni: Some(NAME.into()),
        ..UpstreamTlsSpec::default()
    };
    Arc::new(UpstreamTls::prepare(&spec).unwrap())
}

/// The inbound side: HTTP under one server name, TCP under another, both to the origin.
struct Inbound {
    setup: Setup,
    proxy: Proxy,
    own: CertifiedIdentity,
    origin: Origin,
}

impl Inbound {
    async fn start(authority: &Authority, own: u64, lists: &str) -> Self {
        let origin = Origin::start().await;
        let own = authority.numbered(WEB, own);
        let mut setup = Setup::new();
        let app = |cluster: &mut weft_dataplane::runtime::Cluster| {
            cluster.http.protocol = UpstreamProtocol::Downstream;
        };
        setup.cluster("app", &[origin.address], app).routes("routes", vec![to_cluster("app", |_| {})]);
        Self::listener(&mut setup, server(authority, &own, lists));
        let proxy = setup.start().await;
        Self { setup, proxy, own, origin }
    }

    fn listener(setup: &mut Setup, tls: Arc<DownstreamTls>) {
        let manager = setup.manager(|manager| manager.http2.allow_connect = true);
        let mut http = chain(1, Terminal::Http(manager), Some(tls.clone()));
        http.matches.server_names = vec![NAME.into()];
        let tcp = setup.tcp("app");
        let mut tcp = chain(2, tcp, Some(tls));
        tcp.matches.server_names = vec!["tcp.web.shop.test".into()];
        setup.listener("in", vec![http, tcp], |listener| listener.inspection.tls = true);
    }

    async fn revokes(&mut self, authority: &Authority, lists: &str) {
        Self::listener(&mut self.setup, server(authority, &self.own, lists));
        assert!(self.proxy.engine().swap(self.setup.build()).await.is_empty());
    }

    async fn dial(&self, tls: &Arc<UpstreamTls>, name: &str, http2: bool) -> TlsStream<TcpStream> {
        let tcp = TcpStream::connect(self.proxy.address).await.unwrap();
        let config = if http2 { &tls.http2 } else { &tls.tcp };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        tokio_rustls::TlsConnector::from(config.clone()).connect(name, tcp).await.unwrap()
    }
}

/// The outbound side: HTTP on one listener, TCP on another, both to the inbound side.
struct Outbound {
    setup: Setup,
    proxy: Proxy,
    own: CertifiedIdentity,
}

impl Outbound {
    async fn start(
        authority: &Authority,
        to: &Inbound,
        protocol: UpstreamProtocol,
        own: u64,
        lists: &str,
    ) -> Self {
        let own = authority.numbered(CART, own);
        let mut setup = Setup::new();
        Self::cluster(&mut setup, to, protocol, client(authority, &own, lists));
        setup.routes("routes", vec![to_cluster("web", |_| {})]).http_listener(|_| {});
        let tcp = setup.tcp("web");
        setup.listener("tcp", vec![chain(1, tcp, None)], |_| {});
        let proxy = setup.start().await;
        Self { setup, proxy, own }
    }

    fn cluster(setup: &mut Setup, to: &Inbound, protocol: UpstreamProtocol, tls: Arc<UpstreamTls>) {
        setup.cluster("web", &[to.proxy.address], |cluster| {
            cluster.http.protocol = protocol;
            cluster.transports = vec![Transport::Tls(tls)];
        });
    }

    async fn revokes(
        &mut self,
        authority: &Authority,
        to: &Inbound,
        protocol: UpstreamProtocol,
        lists: &str,
    ) {
        Self::cluster(&mut self.setup, to, protocol, client(authority, &self.own, lists));
        assert!(self.proxy.engine().swap(self.setup.build()).await.is_empty());
    }
}

/// Reads a body as it comes; whether it broke off.
async fn is_cut(mut body: Incoming) -> bool {
    loop {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return true,
            None => return false,
        }
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("it happens within twenty seconds")
}

#[tokio::test]
async fn a_revoked_client_is_refused_and_others_are_not() {
    let authority = Authority::new();
    let others = Authority::named("another issuer");
    let lists = [others.revokes(&[GOOD], LASTING), authority.revokes(&[1, BAD], LASTING)].concat();
    let mut inbound = Inbound::start(&authority, 1, &lists).await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let bad = Outbound::start(&authority, &inbound, protocol, BAD, "").await;
        assert_eq!(bad.proxy.h1().await.get("/hello").await.status, StatusCode::SERVICE_UNAVAILABLE);
        let good = Outbound::start(&authority, &inbound, protocol, GOOD, "").await;
        assert_eq!(good.proxy.h1().await.get("/hello").await.status, StatusCode::OK);
    }
    let Inbound { setup, proxy, .. } = &mut inbound;
    proxy.wait_for(setup, "listener.in.ssl.handshake", 2).await;
    let refused = setup.value(&proxy.engine().stats().await, "listener.in.ssl.fail_verify_error");
    assert!(refused >= 2, "{refused}");
}

#[tokio::test]
async fn a_revoked_server_is_not_spoken_to() {
    let authority = Authority::new();
    let lists = authority.revokes(&[BAD], LASTING);
    let inbound = Inbound::start(&authority, BAD, "").await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let mut out = Outbound::start(&authority, &inbound, protocol, GOOD, &lists).await;
        let answer = out.proxy.h1().await.get("/hello").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.text().contains("the certificate is revoked"), "{}", answer.text());
        out.proxy.wait_for(&out.setup, "cluster.web.ssl.fail_verify_error", 1).await;
        out.proxy.wait_for(&out.setup, "cluster.web.ssl.connection_error", 0).await;
    }
    let tcp = Outbound::start(&authority, &inbound, UpstreamProtocol::Http1, GOOD, &lists).await;
    let address = tcp.proxy.engine.as_ref().unwrap().address("tcp").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert_eq!(inbound.origin.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// Lists that say nothing about an issuer, or are past their time, or are of another issuer of the same name, refuse
/// nobody: neither an outage of the control plane nor a new issuer may. What is on an old list stays refused.
#[tokio::test]
async fn missing_and_expired_lists_refuse_nobody_who_is_not_on_one() {
    let authority = Authority::new();
    let (foreign, namesake) = (Authority::named("another issuer"), Authority::new());
    let past = time::Duration::minutes(-5);
    for (what, lists, good, bad) in [
        ("of another issuer", foreign.revokes(&[GOOD, BAD], LASTING), true, true),
        ("of another issuer of the same name", namesake.revokes(&[GOOD, BAD], LASTING), true, true),
        ("expired", authority.revokes(&[BAD], past), true, false),
        (
            "of two issuers of one name",
            [namesake.revokes(&[GOOD], LASTING), authority.revokes(&[BAD], LASTING)].concat(),
            true,
            false,
        ),
        ("empty", authority.revokes(&[], LASTING), true, true),
    ] {
        let inbound = Inbound::start(&authority, 1, &lists).await;
        for (serial, passes) in [(GOOD, good), (BAD, bad)] {
            let out = Outbound::start(&authority, &inbound, UpstreamProtocol::Http1, serial, &lists).await;
            let status = out.proxy.h1().await.get("/hello").await.status;
            assert_eq!(status == StatusCode::OK, passes, "a list {what}: {serial} got {status}");
        }
    }
}

/// What is open with a client that is revoked: an idle HTTP/1 connection, a stream, a WebSocket, TCP.
#[tokio::test]
async fn live_connections_of_a_revoked_client_end() {
    let authority = Authority::new();
    let mut inbound = Inbound::start(&authority, 1, "").await;
    let bad = client(&authority, &authority.numbered(CART, BAD), "");
    let good = client(&authority, &authority.numbered(CART, GOOD), "");
    let mut idle = Client::h1(inbound.dial(&bad, NAME, false).await).await;
    assert_eq!(idle.get("/hello").await.status, StatusCode::OK);
    let mut streams = Client::h2(inbound.dial(&bad, NAME, true).await).await;
    let endless = streams.send(streams.request(Method::GET, ENDLESS, empty())).await.unwrap();
    assert_eq!(endless.status(), StatusCode::OK);
    let mut socket = Client::h1(inbound.dial(&bad, NAME, false).await).await;
    let mut upgrade = socket.request(Method::GET, "/websocket", empty());
    upgrade.headers_mut().insert("connection", "upgrade".parse().unwrap());
    upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let mut upgraded = socket.send(upgrade).await.unwrap();
    let mut socket = TokioIo::new(hyper::upgrade::on(&mut upgraded).await.unwrap());
    let mut raw = inbound.dial(&bad, "tcp.web.shop.test", false).await;
    raw.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(raw.read(&mut [0; 256]).await.unwrap() > 0);
    let mut bystander = Client::h1(inbound.dial(&good, NAME, false).await).await;
    assert_eq!(bystander.get("/hello").await.status, StatusCode::OK);

    let lists = authority.revokes(&[BAD], LASTING);
    inbound.revokes(&authority, &lists).await;
    let start = std::time::Instant::now();
    assert!(soon(is_cut(endless.into_body())).await, "a stream under way is cut");
    assert_eq!(soon(socket.read(&mut [0; 8])).await.unwrap_or(0), 0, "a tunnel ends");
    assert_eq!(soon(raw.read(&mut [0; 8])).await.unwrap_or(0), 0, "TCP ends");
    let request = idle.request(Method::GET, "/hello", empty());
    assert!(idle.send(request).await.is_err(), "an idle connection ends");
    let request = streams.request(Method::GET, "/hello", empty());
    assert!(streams.send(request).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let Inbound { setup, proxy, .. } = &mut inbound;
    proxy.wait_for(setup, "http.in.downstream_cx_active", 1).await;
    assert_eq!(bystander.get("/hello").await.status, StatusCode::OK, "others stay");
    // The same again changes nothing.
    inbound.revokes(&authority, &lists).await;
    assert_eq!(bystander.get("/hello").await.status, StatusCode::OK);
    let Inbound { setup, proxy, .. } = &mut inbound;
    proxy.wait_for(setup, "http.in.downstream_cx_total", 4).await;
}

/// The other side: connections to a server that is revoked, pooled, in use, and tunnels.
#[tokio::test]
async fn live_connections_to_a_revoked_server_end() {
    let authority = Authority::new();
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let inbound = Inbound::start(&authority, BAD, "").await;
        let mut out = Outbound::start(&authority, &inbound, protocol, GOOD, "").await;
        let mut client = out.proxy.h1().await;
        assert_eq!(client.get("/hello").await.status, StatusCode::OK);
        let mut streaming = out.proxy.h2().await;
        let endless = streaming.send(streaming.request(Method::GET, ENDLESS, empty())).await.unwrap();
        assert_eq!(endless.status(), StatusCode::OK);
        let address = out.proxy.engine().address("tcp").unwrap();
        let mut raw = TcpStream::connect(address).await.unwrap();
        raw.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n").await.unwrap();
        assert!(raw.read(&mut [0; 256]).await.unwrap() > 0);

        out.revokes(&authority, &inbound, protocol, &authority.revokes(&[BAD], LASTING)).await;
        let start = std::time::Instant::now();
        assert_eq!(client.get("/hello").await.status, StatusCode::SERVICE_UNAVAILABLE, "not a pooled one");
        assert_eq!(soon(raw.read(&mut [0; 8])).await.unwrap_or(0), 0, "TCP ends");
        assert!(soon(is_cut(endless.into_body())).await, "{protocol:?}: what is in use is cut");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        out.proxy.wait_for(&out.setup, "cluster.web.upstream_cx_active", 0).await;
        out.proxy.wait_for(&out.setup, "cluster.web.upstream_rq_active", 0).await;
    }
}

/// What is left of a chain, or of a cluster, that is gone: it goes on for a while, but not with somebody who is revoked.
#[tokio::test]
async fn live_connections_of_chains_and_clusters_that_are_gone_end_too() {
    let authority = Authority::new();
    let mut inbound = Inbound::start(&authority, 1, "").await;
    let bad = client(&authority, &authority.numbered(CART, BAD), "");
    let mut raw = inbound.dial(&bad, "tcp.web.shop.test", false).await;
    raw.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(raw.read(&mut [0; 256]).await.unwrap() > 0);
    let tls = server(&authority, &inbound.own, &authority.revokes(&[BAD], LASTING));
    let manager = inbound.setup.manager(|_| {});
    inbound.setup.listener("in", vec![chain(3, Terminal::Http(manager), Some(tls))], |_| {});
    assert!(inbound.proxy.engine().swap(inbound.setup.build()).await.is_empty());
    assert_eq!(soon(raw.read(&mut [0; 8])).await.unwrap_or(0), 0, "a tunnel of a chain that is gone ends");

    let inbound = Inbound::start(&authority, BAD, "").await;
    let protocol = UpstreamProtocol::Http1;
    let mut out = Outbound::start(&authority, &inbound, protocol, GOOD, "").await;
    let mut raw = TcpStream::connect(out.proxy.engine().address("tcp").unwrap()).await.unwrap();
    raw.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(raw.read(&mut [0; 256]).await.unwrap() > 0);
    out.setup.runtime.clusters.remove("web");
    let tls = client(&authority, &out.own, &authority.revokes(&[BAD], LASTING));
    out.setup.cluster("other", &[inbound.proxy.address], |cluster| {
        cluster.transports = vec![Transport::Tls(tls)];
    });
    assert!(out.proxy.engine().swap(out.setup.build()).await.is_empty());
    assert_eq!(soon(raw.read(&mut [0; 8])).await.unwrap_or(0), 0, "a tunnel of a cluster that is gone ends");
}

/// A list that names others, and a new certificate of our own, leave connections alone on both sides.
#[tokio::test]
async fn connections_stay_where_a_list_says_nothing_of_them() {
    let authority = Authority::new();
    let mut inbound = Inbound::start(&authority, 1, "").await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let mut out = Outbound::start(&authority, &inbound, protocol, GOOD, "").await;
        let mut client = out.proxy.h1().await;
        for round in 0..3 {
            assert_eq!(client.get("/hello").await.status, StatusCode::OK);
            let lists = authority.revokes(&[BAD, 100 + round], LASTING);
            inbound.revokes(&authority, &lists).await;
            out.own = authority.numbered(CART, GOOD);
            out.revokes(&authority, &inbound, protocol, &lists).await;
        }
        assert_eq!(client.get("/hello").await.status, StatusCode::OK);
        out.proxy.wait_for(&out.setup, "cluster.web.upstream_cx_total", 1).await;
    }
}

#[test]
fn what_is_no_revocation_list_is_refused() {
    let list = Authority::new().revokes(&[1], LASTING);
    // Its first byte is no sequence any more.
    let broken = list.replacen("-----\nM", "-----\nA", 1);
    for wrong in ["nonsense".to_owned(), broken.clone(), [list.clone(), broken].concat()] {
        let error = RevocationLists::from_pem(wrong.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("crl cannot be read"), "{error}");
    }
    assert!(RevocationLists::from_pem(b" \n").unwrap().is_empty());
    assert!(!RevocationLists::from_pem(list.as_bytes()).unwrap().is_empty());
}
