//! Callers and servers that stop in the middle: whoever it is, the request ends at its limits, and what it held is free
//! (finding H1). Where no answer can be given any more, Envoy resets the stream, and so do we.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as wire;
use envoy_types::pb::google::protobuf::{Duration as WireDuration, UInt32Value};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use weft_dataplane::runtime::{HttpTimeouts, UpstreamProtocol};

use crate::harness::{Origin, Proxy, Setup, full, protocol, to_cluster};

const SHORT: Duration = Duration::from_millis(700);
/// More than all buffers between a server and a caller hold.
const ENDLESS: &str = "/big/134217728";

/// Which limit a test sets; the others are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Route,
    Idle,
    Duration,
}

const ALL: [Limit; 3] = [Limit::Route, Limit::Idle, Limit::Duration];

impl Limit {
    /// The counter that tells that it was reached.
    fn counter(self) -> &'static str {
        match self {
            Self::Route => "cluster.app.upstream_rq_timeout",
            Self::Idle => "http.in.downstream_rq_idle_timeout",
            Self::Duration => "http.in.downstream_rq_max_duration_reached",
        }
    }

    async fn start(self, origin: std::net::SocketAddr, upstream: UpstreamProtocol) -> (Setup, Proxy) {
        let mut setup = Setup::new();
        setup.cluster("app", &[origin], protocol(upstream));
        let timeout = if self == Self::Route { SHORT } else { Duration::ZERO };
        setup.routes(
            "routes",
            vec![to_cluster("app", |action| action.timeout = Some(wire_duration(timeout)))],
        );
        setup.http_listener(|manager| {
            manager.timeouts.stream_idle = (self == Self::Idle).then_some(SHORT);
            manager.timeouts.max_stream = (self == Self::Duration).then_some(SHORT);
        });
        let proxy = setup.start().await;
        (setup, proxy)
    }
}

fn wire_duration(span: Duration) -> WireDuration {
    WireDuration { seconds: span.as_secs().cast_signed(), nanos: span.subsec_nanos().cast_signed() }
}

/// What a stalled request may not hold.
async fn released(proxy: &mut Proxy, setup: &Setup) {
    proxy.wait_for(setup, "cluster.app.upstream_rq_active", 0).await;
    proxy.wait_for(setup, "http.in.downstream_rq_active", 0).await;
}

/// An h2 client whose windows are of this size, and which does not open them.
async fn narrow(proxy: &Proxy, window: u32) -> h2::client::SendRequest<Bytes> {
    let tcp = TcpStream::connect(proxy.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (sender, connection) =
        builder.initial_window_size(window).enable_push(false).handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://app.test{path}")).body(()).unwrap()
}

/// Reads a response until it ends; the reason where it is reset. Windows stay as they are.
async fn reset_of(mut response: Response<h2::RecvStream>) -> Option<h2::Reason> {
    let body = response.body_mut();
    let read = async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error.reason(),
                None => return None,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the stream ends")
}

/// A socket that takes little, and whose owner reads nothing.
async fn small_socket(proxy: &Proxy) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.connect(proxy.address).await.unwrap()
}

/// The attack of the review: 12 connections of 100 streams of 300 KB with a window of nothing.
#[tokio::test]
async fn h1_a_few_connections_without_a_window_take_no_cluster_down() {
    let origin = Origin::start().await;
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let mut setup = Setup::new();
        setup.cluster("app", &[origin.address], protocol(upstream));
        let timeout = Some(WireDuration { seconds: 4, nanos: 0 });
        setup.routes("routes", vec![to_cluster("app", |action| action.timeout = timeout)]);
        setup.http_listener(|manager| manager.timeouts.stream_idle = Some(Duration::from_secs(3)));
        let mut proxy = setup.start().await;
        let mut responses = Vec::new();
        let mut attackers = Vec::new();
        for _ in 0..12 {
            let mut sender = narrow(&proxy, 0).await;
            for _ in 0..100 {
                sender = sender.ready().await.unwrap();
                responses.push(sender.send_request(get("/big/327680"), true).unwrap().0);
            }
            attackers.push(sender);
        }
        let mut heads = Vec::new();
        for response in responses {
            heads.push(response.await.unwrap());
        }
        assert!(heads.iter().any(|head| head.status() == StatusCode::OK));
        for head in heads {
            // A refusal by the circuit breaker has a body too, and its caller takes none of it.
            assert!(reset_of(head).await.is_some(), "{upstream:?}: the stream was not reset");
        }
        released(&mut proxy, &setup).await;
        for mut bystander in [proxy.h1().await, proxy.h2().await] {
            assert_eq!(bystander.get("/hello").await.status, StatusCode::OK, "{upstream:?}");
        }
        drop(attackers);
    }
}

#[tokio::test]
async fn h1_a_stream_without_a_window_is_reset_at_each_limit() {
    let origin = Origin::start().await;
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        for limit in ALL {
            let (setup, mut proxy) = limit.start(origin.address, upstream).await;
            let mut sender = narrow(&proxy, 0).await;
            let response = sender.send_request(get(ENDLESS), true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{upstream:?} {limit:?}");
            assert!(reset_of(response).await.is_some(), "{upstream:?} {limit:?}");
            released(&mut proxy, &setup).await;
            proxy.wait_for(&setup, limit.counter(), 1).await;
            proxy.wait_for(&setup, "http.in.downstream_rq_tx_reset", 1).await;
            let answer = sender.send_request(get("/status/204"), true).unwrap().0.await.unwrap();
            assert_eq!(answer.status(), StatusCode::NO_CONTENT, "the connection itself stays");
        }
    }
}

#[tokio::test]
async fn h1_a_reader_that_stops_is_closed_at_each_limit() {
    let origin = Origin::start().await;
    for upstream in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        for limit in ALL {
            let (setup, mut proxy) = limit.start(origin.address, upstream).await;
            let mut stuck = small_socket(&proxy).await;
            stuck.write_all(format!("GET {ENDLESS} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            proxy.wait_for(&setup, "cluster.app.upstream_rq_total", 1).await;
            released(&mut proxy, &setup).await;
            proxy.wait_for(&setup, limit.counter(), 1).await;
            proxy.wait_for(&setup, "http.in.downstream_cx_active", 0).await;
        }
    }
}

/// A full socket stops all streams of a connection, whatever their windows are.
#[tokio::test]
async fn h1_streams_on_a_full_socket_are_ended() {
    let origin = Origin::start().await;
    for limit in ALL {
        let (setup, mut proxy) = limit.start(origin.address, UpstreamProtocol::Http1).await;
        let mut stuck = small_socket(&proxy).await;
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS with a window of 2 GiB, and the same for the connection; then requests, and nothing is read.
        wire.extend([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
        wire.extend([0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0]);
        for stream in 0..10_u8 {
            let mut head = vec![0x82, 0x86, 0x01, 1, b'a', 0x04, ENDLESS.len() as u8];
            head.extend(ENDLESS.as_bytes());
            wire.extend([0, 0, head.len() as u8, 1, 5, 0, 0, 0, stream * 2 + 1]);
            wire.extend(head);
        }
        stuck.write_all(&wire).await.unwrap();
        proxy.wait_for(&setup, "cluster.app.upstream_rq_total", 10).await;
        released(&mut proxy, &setup).await;
        proxy.wait_for(&setup, limit.counter(), 10).await;
    }
}

/// What is answered without an endpoint has to be taken in time as well.
#[tokio::test]
async fn h1_a_small_answer_that_is_not_taken_is_reset() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    let direct = wire::Route {
        r#match: Some(crate::harness::prefix("/direct")),
        action: Some(wire::route::Action::DirectResponse(wire::DirectResponseAction {
            status: 200,
            body: Some(envoy_types::pb::envoy::config::core::v3::DataSource {
                specifier: Some(
                    envoy_types::pb::envoy::config::core::v3::data_source::Specifier::InlineString(
                        "hello".into(),
                    ),
                ),
                ..Default::default()
            }),
            ..Default::default()
        })),
        ..Default::default()
    };
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![direct, to_cluster("app", |_| {})]);
    setup.http_listener(|manager| manager.timeouts.stream_idle = Some(SHORT));
    let mut proxy = setup.start().await;
    let mut sender = narrow(&proxy, 0).await;
    for path in ["/direct", "/hello", "/big/65536"] {
        let response = sender.send_request(get(path), true).unwrap().0.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(reset_of(response).await.is_some(), "{path}");
    }
    released(&mut proxy, &setup).await;
}

/// All of a large answer's last piece but what the window takes would wait in the connection, with nobody to end it.
#[tokio::test]
async fn h1_the_rest_of_an_answer_that_is_not_taken_is_reset() {
    let body = vec![b'x'; 200 * 1024];
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let address = answering([head.as_bytes(), &body].concat()).await;
    let mut setup = Setup::new();
    setup.cluster("app", &[address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]);
    setup.http_listener(|manager| manager.timeouts.stream_idle = Some(SHORT));
    let proxy = setup.start().await;
    let mut sender = narrow(&proxy, 1000).await;
    let response = sender.send_request(get("/"), true).unwrap().0.await.unwrap();
    assert!(reset_of(response).await.is_some());
}

/// Responses that fill the connection's buffers whole are over for their requests; that nobody takes them ends the
/// connection.
#[tokio::test]
async fn h1_a_connection_that_takes_nothing_is_closed_without_a_request_too() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]);
    setup.http_listener(|manager| manager.timeouts.stream_idle = Some(SHORT));
    let mut proxy = setup.start().await;
    let stuck = small_socket(&proxy).await;
    let (_unread, mut write) = stuck.into_split();
    let request = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(5000));
    let writing = tokio::spawn(async move { while write.write_all(request.as_bytes()).await.is_ok() {} });
    proxy.wait_for(&setup, "http.in.downstream_cx_total", 1).await;
    proxy.wait_for(&setup, "http.in.downstream_cx_active", 0).await;
    released(&mut proxy, &setup).await;
    writing.abort();
}

#[tokio::test]
async fn h1_an_upload_that_stops_is_answered_with_408() {
    let origin = Origin::start().await;
    for limit in [Limit::Idle, Limit::Duration] {
        let text = if limit == Limit::Idle { "stream timeout" } else { "downstream duration timeout" };
        let (setup, mut proxy) = limit.start(origin.address, UpstreamProtocol::Downstream).await;
        let mut stuck = TcpStream::connect(proxy.address).await.unwrap();
        let head = "POST /flaky HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nabc";
        stuck.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(Duration::from_secs(20), stuck.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with(text), "{limit:?}: {answer}");
        let mut sender = narrow(&proxy, 65_535).await;
        let request = Request::post("http://app.test/flaky").body(()).unwrap();
        let (response, mut body) = sender.send_request(request, false).unwrap();
        body.send_data("abc".into(), false).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT, "{limit:?}");
        proxy.wait_for(&setup, limit.counter(), 2).await;
        released(&mut proxy, &setup).await;
    }
}

/// An upload that stops after the response has begun, a conversation that falls silent, and one whose answers are not
/// taken, while the request is still open: its other half must not keep the stream.
#[tokio::test]
async fn h1_a_conversation_that_stops_is_reset_on_both_sides() {
    let origin = Origin::start().await;
    for (upstream, window) in [
        (UpstreamProtocol::Http1, 65_535),
        (UpstreamProtocol::Http2, 65_535),
        (UpstreamProtocol::Http2, 2),
        (UpstreamProtocol::Http1, 2),
    ] {
        for limit in [Limit::Idle, Limit::Duration] {
            let (setup, mut proxy) = limit.start(origin.address, upstream).await;
            let mut sender = narrow(&proxy, window).await;
            let request = Request::post("http://app.test/echo").body(()).unwrap();
            let (response, mut body) = sender.send_request(request, false).unwrap();
            body.send_data("abcdef".into(), false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert!(reset_of(response).await.is_some(), "{upstream:?} {window} {limit:?}");
            released(&mut proxy, &setup).await;
            proxy.wait_for(&setup, limit.counter(), 1).await;
        }
    }
}

/// A server that takes none of a request's body, before or after it has answered.
#[tokio::test]
async fn an_upload_that_the_server_does_not_take_is_reset() {
    for answers in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, mut ends) = mpsc::channel(1);
        tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut builder = h2::server::Builder::new();
            let mut server = builder.initial_window_size(10).handshake::<_, Bytes>(tcp).await.unwrap();
            let (request, mut respond) = server.accept().await.unwrap().unwrap();
            let mut sending = None;
            if answers {
                sending = Some(respond.send_response(Response::new(()), false).unwrap());
            }
            tokio::spawn(async move { while server.accept().await.is_some() {} });
            let reason = match &mut sending {
                Some(sending) => std::future::poll_fn(|cx| sending.poll_reset(cx)).await,
                None => std::future::poll_fn(|cx| respond.poll_reset(cx)).await,
            };
            sender.send(reason.unwrap()).await.unwrap();
            drop::<(Request<h2::RecvStream>, _)>((request, sending));
        });
        let (setup, mut proxy) = Limit::Idle.start(address, UpstreamProtocol::Http2).await;
        let mut client = proxy.h2().await;
        let request = client.request(Method::POST, "/", full(vec![b'x'; 100_000]));
        let answer = client.send(request).await;
        match answer {
            Ok(response) if answers => assert!(response.into_body().collect().await.is_err()),
            // What the server did not take was not read from the caller either.
            Ok(response) => assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT),
            Err(error) => panic!("{error}"),
        }
        let reason = tokio::time::timeout(Duration::from_secs(20), ends.recv()).await.unwrap();
        assert!(reason.is_some(), "the server hears of the end");
        released(&mut proxy, &setup).await;
    }
}

/// The same over HTTP/1.1: the server's connection is closed, although its socket takes nothing more.
#[tokio::test]
async fn an_upload_that_an_http1_server_does_not_take_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move { listener.accept().await.unwrap() });
    let (setup, mut proxy) = Limit::Idle.start(address, UpstreamProtocol::Http1).await;
    let mut client = proxy.h2().await;
    let (sender, receiver) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let uploading = tokio::spawn(async move {
        while sender.send(Ok(Frame::data(vec![b'x'; 64 * 1024].into()))).await.is_ok() {}
    });
    let request = client.request(Method::POST, "/", StreamBody::new(ReceiverStream::new(receiver)).boxed());
    let response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    released(&mut proxy, &setup).await;
    proxy.wait_for(&setup, "cluster.app.upstream_cx_active", 0).await;
    uploading.abort();
    drop(held.await.unwrap());
}

#[tokio::test]
async fn h1_a_tunnel_whose_caller_takes_nothing_ends() {
    let origin = Origin::start().await;
    for limit in [Limit::Idle, Limit::Duration] {
        let (setup, mut proxy) = limit.start(origin.address, UpstreamProtocol::Http1).await;
        let mut stuck = small_socket(&proxy).await;
        let upgrade =
            "GET /websocket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stuck.write_all(upgrade.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stuck.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 101");
        let (_unread, mut write) = stuck.into_split();
        let chunk = vec![b'x'; 64 * 1024];
        let writing = tokio::spawn(async move { while write.write_all(&chunk).await.is_ok() {} });
        released(&mut proxy, &setup).await;
        proxy.wait_for(&setup, limit.counter(), 1).await;
        proxy.wait_for(&setup, "cluster.app.upstream_cx_active", 0).await;
        writing.abort();
    }
}

#[tokio::test]
async fn h1_a_tunnel_in_a_stream_without_a_window_ends() {
    let origin = Origin::start().await;
    for limit in [Limit::Idle, Limit::Duration] {
        let (setup, mut proxy) = limit.start(origin.address, UpstreamProtocol::Auto).await;
        let mut sender = narrow(&proxy, 0).await;
        sender = sender.ready().await.unwrap();
        proxy.wait_for(&setup, "http.in.downstream_cx_total", 1).await;
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut request =
            Request::builder().method("CONNECT").uri("http://app.test/websocket").body(()).unwrap();
        request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        let (response, mut body) = sender.send_request(request, false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        body.send_data(vec![b'x'; 30_000].into(), false).unwrap();
        assert!(reset_of(response).await.is_some(), "{limit:?}");
        released(&mut proxy, &setup).await;
        proxy.wait_for(&setup, limit.counter(), 1).await;
    }
}

/// The route's time also runs while a request waits to be tried again, and there it can still be answered.
#[tokio::test]
async fn a_route_timeout_between_two_tries_is_answered() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    let slow = Some(WireDuration { seconds: 60, nanos: 0 });
    setup.routes(
        "routes",
        vec![to_cluster("app", |action| {
            action.timeout = Some(wire_duration(SHORT));
            action.retry_policy = Some(wire::RetryPolicy {
                retry_on: "5xx".into(),
                retry_back_off: Some(wire::retry_policy::RetryBackOff {
                    base_interval: slow,
                    max_interval: slow,
                }),
                num_retries: Some(UInt32Value { value: 5 }),
                ..Default::default()
            });
        })],
    );
    setup.http_listener(|manager| manager.timeouts = HttpTimeouts { stream_idle: None, ..manager.timeouts });
    let mut proxy = setup.start().await;
    // The wait is drawn at random: one of a few is longer than the route's time.
    let mut client = proxy.h1().await;
    for _ in 0..5 {
        assert_eq!(client.get("/status/503").await.status, StatusCode::GATEWAY_TIMEOUT);
    }
    released(&mut proxy, &setup).await;
}

/// A server that answers with these bytes whatever it is asked, and keeps its connections.
async fn answering(bytes: Vec<u8>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut tcp, _)) = listener.accept().await {
            tcp.read_buf(&mut Vec::new()).await.unwrap();
            tcp.write_all(&bytes).await.unwrap();
            held.push(tcp);
        }
    });
    address
}
