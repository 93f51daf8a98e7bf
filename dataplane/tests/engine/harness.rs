//! An origin server, a client, and a runtime to put between them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as wire;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weft_dataplane::balance::BalanceOptions;
use weft_dataplane::breaker::{Breaker, Thresholds};
use weft_dataplane::decode::route_config;
use weft_dataplane::engine::{Engine, EngineConfig, Pinning};
use weft_dataplane::outlier::Outliers;
use weft_dataplane::runtime::{
    AccessLogs, ClientCertDetails, Cluster, Codec, DownstreamTls, Endpoint, EndpointDiscovery, Endpoints,
    FilterChain, FilterChainMatch, ForwardClientCert, Forwarding, Http1Options, Http2Options, HttpFilters,
    HttpLimits, HttpManager, HttpTimeouts, Inspection, Listener, RequestIds, RouteSource, Router, Runtime,
    ServerHeader, StripPort, TcpProxy, TcpTarget, Terminal, TrafficDirection, Transport, Underscores,
    UpgradeConfig, UpstreamHttp, UpstreamProtocol,
};
use weft_dataplane::stats::{
    ClusterStats, HttpStats, ListenerStats, StatValue, StatsRegistry, StatsScope, StatsSnapshot, TcpStats,
};
use weft_routing::path::PathOptions;

pub type Body = BoxBody<Bytes, std::io::Error>;

pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body of chunks that come one after the other, and trailers.
pub fn chunks(chunks: Vec<Bytes>, trailers: Option<HeaderMap>) -> Body {
    let frames = chunks.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers));
    StreamBody::new(futures::stream::iter(frames.map(Ok))).boxed()
}

/// A server that speaks HTTP/1.1 and h2 with prior knowledge.
pub struct Origin {
    pub address: SocketAddr,
    pub requests: Arc<AtomicU32>,
    pub connections: Arc<AtomicU32>,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (counted, accepted) = (requests.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tcp.set_nodelay(true).unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let counted = counted.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
                        answer(request, number)
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection_with_upgrades(TokioIo::new(tcp), service).await;
                });
            }
        });
        Self { address, requests, connections }
    }
}

async fn answer(mut request: Request<Incoming>, number: u32) -> Result<Response<Body>, std::io::Error> {
    let path = request.uri().path().to_owned();
    let mut response = Response::new(empty());
    if request.method() == Method::HEAD {
        // hyper leaves the body of an h2 answer to HEAD to its user.
        response.headers_mut().insert("content-length", format!("hello from {path}").len().into());
        return Ok(response);
    }
    match path.as_str() {
        "/echo" => {
            let mut echoed = Response::new(request.into_body().map_err(std::io::Error::other).boxed());
            echoed.headers_mut().insert("x-number", number.into());
            return Ok(echoed);
        }
        "/head" => {
            let mut text = format!("{} {} {:?}\n", request.method(), request.uri(), request.version());
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            // One that answers before it has the content leaves a connection that may end at any moment.
            request.body_mut().collect().await.map_err(std::io::Error::other)?;
            *response.body_mut() = full(text);
        }
        "/trailers" => {
            let sent = request.body_mut().collect().await.map_err(std::io::Error::other)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let seen = sent.trailers().and_then(|trailers| trailers.get("x-sum").cloned());
            trailers.insert("x-seen", seen.unwrap_or("none".parse().unwrap()));
            response.headers_mut().insert("trailer", "grpc-status, x-seen".parse().unwrap());
            *response.body_mut() = chunks(vec![sent.to_bytes()], Some(trailers));
        }
        "/endless" => {
            let drops = futures::stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Some((Ok(Frame::data(Bytes::from_static(b"drop"))), ()))
            });
            *response.body_mut() = StreamBody::new(Box::pin(drops)).boxed();
        }
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(400)).await;
            *response.body_mut() = full("slow");
        }
        "/flaky" => {
            if !number.is_multiple_of(3) {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
            *response.body_mut() = full(body);
        }
        "/websocket" => {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut buf = [0; 1024];
                while let Ok(n @ 1..) = io.read(&mut buf).await {
                    let text = buf[..n].to_ascii_uppercase();
                    io.write_all(&text).await.unwrap();
                }
            });
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        }
        other => {
            if let Some(size) = other.strip_prefix("/big/") {
                let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
                let count = size.parse::<usize>().unwrap() / chunk.len();
                *response.body_mut() = chunks(vec![chunk; count], None);
            } else if let Some(code) = other.strip_prefix("/status/") {
                *response.status_mut() = code.parse().unwrap();
            } else {
                response.headers_mut().insert("x-number", number.into());
                *response.body_mut() = full(format!("hello from {other}"));
            }
        }
    }
    Ok(response)
}

/// Builds a runtime piece by piece.
pub struct Setup {
    pub registry: StatsRegistry,
    pub runtime: Runtime,
    revision: u64,
}

impl Setup {
    pub fn new() -> Self {
        Self { registry: StatsRegistry::new(), runtime: Runtime::default(), revision: 0 }
    }

    pub fn cluster(
        &mut self,
        name: &str,
        endpoints: &[SocketAddr],
        change: impl FnOnce(&mut Cluster),
    ) -> &mut Self {
        let list: Vec<Endpoint> = endpoints.iter().copied().map(Endpoint::at).collect();
        let mut cluster = Cluster {
            name: name.into(),
            stat_name: name.into(),
            identity: 1,
            discovery: EndpointDiscovery::Static,
            connect_timeout: Duration::from_secs(2),
            http: UpstreamHttp::default(),
            balancing: BalanceOptions::default(),
            outliers: Arc::new(Outliers::new(None, list.iter().map(|e| e.address), Instant::now())),
            endpoints: Arc::new(Endpoints { list, overprovisioning: 140 }),
            transports: vec![Transport::Plaintext],
            breaker: Arc::new(Breaker::new(Thresholds::default())),
            high_breaker: Arc::new(Breaker::new(Thresholds::default())),
            stats: ClusterStats::register(&mut self.registry, &StatsScope::cluster(name)),
            keepalive: None,
            buffer_limit: 1024 * 1024,
            dns_cache: None,
        };
        change(&mut cluster);
        self.runtime.clusters.insert(name.into(), Arc::new(cluster).into());
        self
    }

    pub fn routes(&mut self, name: &str, routes: Vec<wire::Route>) -> &mut Self {
        let config = wire::RouteConfiguration {
            name: name.into(),
            virtual_hosts: vec![wire::VirtualHost {
                name: "all".into(),
                domains: vec!["*".into()],
                routes,
                ..Default::default()
            }],
            ..Default::default()
        };
        let config = route_config(&config).unwrap();
        config.register(&mut self.registry);
        self.runtime.routes.insert(name.into(), Arc::new(config).into());
        self
    }

    pub fn manager(&mut self, change: impl FnOnce(&mut HttpManager)) -> Arc<HttpManager> {
        let mut manager = HttpManager {
            stat_prefix: "in".into(),
            stats: HttpStats::register(&mut self.registry, &StatsScope::http("in")),
            codec: Codec::Auto,
            routes: RouteSource::Rds("routes".into()),
            filters: HttpFilters::new(Vec::new(), Some(Router::default())),
            server_name: "envoy".into(),
            server_header: ServerHeader::Overwrite,
            forwarding: Forwarding::default(),
            request_ids: RequestIds::default(),
            forward_client_cert: ForwardClientCert::Sanitize,
            client_cert_details: ClientCertDetails::default(),
            path: PathOptions::default(),
            strip_port: StripPort::Keep,
            timeouts: HttpTimeouts::default(),
            limits: HttpLimits::default(),
            underscores: Underscores::Allow,
            http1: Http1Options::default(),
            http2: Http2Options::default(),
            upgrades: vec![UpgradeConfig { protocol: "websocket".into(), enabled: true }],
            access_log: AccessLogs::default(),
            tracing: None,
            local_replies: None,
        };
        change(&mut manager);
        Arc::new(manager)
    }

    pub fn listener(
        &mut self,
        name: &str,
        chains: Vec<FilterChain>,
        change: impl FnOnce(&mut Listener),
    ) -> &mut Self {
        let mut listener = Listener {
            name: name.into(),
            address: "127.0.0.1:0".parse().unwrap(),
            stat_prefix: name.into(),
            stats: ListenerStats::register(&mut self.registry, &StatsScope::listener(name)),
            binds: true,
            inspection: Inspection::default(),
            filter_chains: chains.into_iter().map(Arc::new).collect(),
            default_filter_chain: None,
            backlog: None,
            direction: TrafficDirection::Unspecified,
            access_log: AccessLogs::default(),
        };
        change(&mut listener);
        self.runtime.listeners.insert(name.into(), Arc::new(listener).into());
        self
    }

    pub fn http_listener(&mut self, change: impl FnOnce(&mut HttpManager)) -> &mut Self {
        let manager = self.manager(change);
        self.listener("in", vec![chain(1, Terminal::Http(manager), None)], |_| {})
    }

    pub fn tcp(&mut self, cluster: &str) -> Terminal {
        Terminal::Tcp(Arc::new(TcpProxy {
            stat_prefix: "tcp".into(),
            stats: TcpStats::register(&mut self.registry, &StatsScope::tcp("tcp")),
            target: TcpTarget::Cluster(cluster.into()),
            idle_timeout: None,
            hash_source: false,
            connect_attempts: 1,
            max_duration: None,
            access_log: AccessLogs::default(),
        }))
    }

    pub fn build(&mut self) -> Arc<Runtime> {
        self.revision += 1;
        let mut runtime = Runtime { revision: self.revision, ..self.runtime.clone() };
        runtime.gather_revocations(&Runtime::default());
        self.runtime = runtime;
        Arc::new(self.runtime.clone())
    }

    pub async fn start(&mut self) -> Proxy {
        self.start_with(1).await
    }

    pub async fn start_with(&mut self, workers: usize) -> Proxy {
        let mut engine = Engine::start(&EngineConfig { workers, pinning: Pinning::Free }).unwrap();
        let failures = engine.swap(self.build()).await;
        assert!(failures.is_empty(), "{failures:?}");
        let address = engine.address("in").unwrap();
        Proxy { engine: Some(engine), address }
    }

    pub fn value(&self, totals: &StatsSnapshot, name: &str) -> i64 {
        let readings = self.registry.readings(totals);
        match readings.iter().find(|reading| &*reading.name == name).map(|reading| reading.value) {
            Some(StatValue::Counter(n)) => n as i64,
            Some(StatValue::Gauge(n)) => n,
            Some(StatValue::Histogram(_)) | None => 0,
        }
    }
}

pub fn chain(identity: u64, terminal: Terminal, tls: Option<Arc<DownstreamTls>>) -> FilterChain {
    FilterChain {
        name: format!("chain-{identity}").into(),
        identity,
        matches: FilterChainMatch::default(),
        tls,
        network_filters: Vec::new(),
        terminal,
        handshake_timeout: None,
    }
}

pub fn prefix(prefix: &str) -> wire::RouteMatch {
    wire::RouteMatch {
        path_specifier: Some(wire::route_match::PathSpecifier::Prefix(prefix.into())),
        ..Default::default()
    }
}

pub fn to_cluster(cluster: &str, change: impl FnOnce(&mut wire::RouteAction)) -> wire::Route {
    let mut action = wire::RouteAction {
        cluster_specifier: Some(wire::route_action::ClusterSpecifier::Cluster(cluster.into())),
        ..Default::default()
    };
    change(&mut action);
    wire::Route {
        r#match: Some(prefix("/")),
        action: Some(wire::route::Action::Route(action)),
        ..Default::default()
    }
}

pub fn protocol(protocol: UpstreamProtocol) -> impl FnOnce(&mut Cluster) {
    move |cluster| cluster.http.protocol = protocol
}

/// A proxy in front of what a [`Setup`] says.
pub struct Proxy {
    pub engine: Option<Engine>,
    pub address: SocketAddr,
}

impl Proxy {
    pub fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    pub async fn h1(&self) -> Client {
        Client::h1(TcpStream::connect(self.address).await.unwrap()).await
    }

    pub async fn h2(&self) -> Client {
        Client::h2(TcpStream::connect(self.address).await.unwrap()).await
    }

    /// Waits until a statistic has a value.
    pub async fn wait_for(&mut self, setup: &Setup, name: &str, wanted: i64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let value = setup.value(&self.engine().stats().await, name);
            if value == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {value}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            std::thread::spawn(move || drop(engine));
        }
    }
}

/// One connection to the proxy.
pub enum Client {
    Http1(hyper::client::conn::http1::SendRequest<Body>),
    Http2(hyper::client::conn::http2::SendRequest<Body>),
}

impl Client {
    pub async fn h1<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(io: T) -> Self {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self::Http1(sender)
    }

    pub async fn h2<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>(io: T) -> Self {
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    pub async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }

    pub fn request(&self, method: Method, path: &str, body: Body) -> Request<Body> {
        let builder = Request::builder().method(method);
        match self {
            Self::Http1(_) => builder.uri(path).header("host", "app.test").body(body).unwrap(),
            Self::Http2(_) => builder.uri(format!("http://app.test{path}")).body(body).unwrap(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let request = self.request(Method::GET, path, empty());
        self.exchange(request).await
    }

    pub async fn post(&mut self, path: &str, body: Body) -> Answer {
        let request = self.request(Method::POST, path, body);
        self.exchange(request).await
    }

    pub async fn exchange(&mut self, request: Request<Body>) -> Answer {
        let response = self.send(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned();
        Answer { status: parts.status, headers: parts.headers, body: collected.to_bytes(), trailers }
    }
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The lines of `/head` as a map.
    pub fn seen(&self) -> HashMap<&str, &str> {
        self.text().lines().skip(1).filter_map(|line| line.split_once(": ")).collect()
    }
}
