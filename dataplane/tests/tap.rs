//! Taps, as the binary talks to a control plane: what it tells of, what it counts, and that it ends by itself.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "support/binary.rs"]
mod binary;

use binary::{Application, Proxy, cluster, free_port, get, http_listener, soon, status};
use envoy_types::pb::envoy::data::accesslog::v3::HttpAccessLogEntry;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use weft_api::tapping::tap_service_server::{TapService, TapServiceServer};
use weft_api::tapping::{Tap, TapOrder, TapReport};

const HTTP2: &str = ", typed_extension_protocol_options: {http: {\"@type\": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}";

/// A control plane that orders what a test says.
struct TapServer {
    port: u16,
    streams: mpsc::UnboundedReceiver<ProxyStream>,
}

/// The stream of one proxy.
struct ProxyStream {
    orders: mpsc::Sender<Result<TapOrder, Status>>,
    reports: Streaming<TapReport>,
}

struct TapOrders(mpsc::UnboundedSender<ProxyStream>);

#[tonic::async_trait]
impl TapService for TapOrders {
    type TapStream = ReceiverStream<Result<TapOrder, Status>>;

    async fn tap(&self, request: Request<Streaming<TapReport>>) -> Result<Response<Self::TapStream>, Status> {
        let (orders, outgoing) = mpsc::channel(4);
        // The test may be over.
        let _ = self.0.send(ProxyStream { orders, reports: request.into_inner() });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl TapServer {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, streams) = mpsc::unbounded_channel();
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let service = TapServiceServer::new(TapOrders(sender));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { port, streams }
    }

    async fn stream(&mut self) -> ProxyStream {
        soon(self.streams.recv()).await.unwrap()
    }
}

impl ProxyStream {
    async fn order(&self, taps: Vec<Tap>, lease_ms: u32) {
        self.orders.send(Ok(TapOrder { taps, lease_ms })).await.unwrap();
    }

    async fn report(&mut self) -> TapReport {
        soon(self.reports.message()).await.unwrap().unwrap()
    }

    /// Asks until the proxy tells of a request: the tap has arrived.
    async fn first(&mut self, port: u16, path: &str) -> HttpAccessLogEntry {
        let asking = async {
            loop {
                get(port, path, "x-request-id: id-7\r\nvia: me\r\n").await;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let report = tokio::select! {
            report = self.report() => report,
            () = asking => unreachable!("it asks for ever"),
        };
        HttpAccessLogEntry::decode(&*report.requests[0].entry).unwrap()
    }
}

fn tap(id: &str) -> Tap {
    Tap { id: id.to_owned(), outbound: true, inbound: true, ..Tap::default() }
}

async fn tapped() -> (Application, TapServer, u16, Proxy) {
    let (application, port, server) = (Application::start().await, free_port(), TapServer::start().await);
    let clusters =
        cluster("app", &[application.port], "") + &cluster("weft_control_plane", &[server.port], HTTP2);
    let proxy = Proxy::start(&http_listener(port, "", "", ""), &clusters, "").await;
    (application, server, port, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_wanted_is_told_with_the_headers_that_are_asked_for_and_others_are_not() {
    let (_application, mut server, port, _proxy) = tapped().await;
    let mut stream = server.stream().await;
    let wanted = Tap {
        destination: "app".to_owned(),
        method: "GET".to_owned(),
        path_prefix: "/items".to_owned(),
        headers: vec!["via".to_owned(), "content-length".to_owned()],
        ..tap("1")
    };
    // Clusters of the mesh are NAMESPACE/SERVICE/PORT: this one is none of theirs.
    stream.order(vec![Tap { destination: String::new(), ..wanted.clone() }], 10_000).await;
    assert_eq!(status(&get(port, "/other", "").await), 200);
    let entry = stream.first(port, "/items/7?q=1").await;
    let (request, response) = (entry.request.unwrap(), entry.response.unwrap());
    assert_eq!((&*request.path, &*request.request_id), ("/items/7?q=1", "id-7"));
    assert_eq!(request.request_headers, [("via".to_owned(), "me".to_owned())].into());
    assert!(response.response_headers.contains_key("content-length"), "{response:?}");
    assert_eq!(response.response_code.unwrap().value, 200);
    assert!(entry.common_properties.unwrap().duration.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_than_200_a_second_is_counted() {
    let (_application, mut server, port, _proxy) = tapped().await;
    let mut stream = server.stream().await;
    stream.order(vec![tap("1")], 60_000).await;
    stream.first(port, "/").await;
    let began = tokio::time::Instant::now();
    let asking = tokio::spawn(async move {
        let one = async || {
            for _ in 0..200 {
                assert_eq!(status(&get(port, "/burst", "").await), 200);
            }
        };
        tokio::join!(one(), one(), one(), one());
    });
    let (mut told, mut counted) = (0, 0);
    while told + counted < 800 {
        let report = stream.report().await;
        let is_burst =
            |entry: &[u8]| HttpAccessLogEntry::decode(entry).unwrap().request.unwrap().path == "/burst";
        told += report.requests.iter().filter(|request| is_burst(&request.entry)).count();
        for not_shown in report.not_shown {
            assert!(not_shown.inbound && not_shown.tap == "1", "{not_shown:?}");
            counted += usize::try_from(not_shown.requests).unwrap();
        }
    }
    asking.await.unwrap();
    assert_eq!(told + counted, 800);
    let most = 200 * (2 + usize::try_from(began.elapsed().as_secs()).unwrap());
    assert!(told <= most, "{told} of {most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tap_that_is_not_renewed_ends_by_itself_and_one_that_is_goes_on() {
    let (_application, mut server, port, _proxy) = tapped().await;
    let mut stream = server.stream().await;
    stream.order(vec![tap("1")], 1_000).await;
    stream.first(port, "/").await;
    for _ in 0..4 {
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        stream.order(vec![tap("1")], 1_000).await;
    }
    get(port, "/renewed", "").await;
    let is_of = |report: &TapReport, path: &str| {
        let paths =
            report.requests.iter().map(|request| HttpAccessLogEntry::decode(&*request.entry).unwrap());
        paths.into_iter().any(|entry| entry.request.unwrap().path == path)
    };
    while !is_of(&stream.report().await, "/renewed") {}
    tokio::time::sleep(std::time::Duration::from_millis(1_600)).await;
    get(port, "/after", "").await;
    stream.order(vec![Tap { path_prefix: "/again".to_owned(), ..tap("1") }], 10_000).await;
    let again = stream.first(port, "/again").await;
    assert_eq!(again.request.unwrap().path, "/again", "nothing was told in between");
}
