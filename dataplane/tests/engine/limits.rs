//! HTTP/2 servers that allow few streams, or none (finding H2).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::google::protobuf::Duration as WireDuration;
use http::{Response, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weft_dataplane::breaker::{Breaker, Thresholds};
use weft_dataplane::runtime::UpstreamProtocol;

use crate::harness::{Proxy, Setup, to_cluster};

/// What came to a server.
#[derive(Clone, Default)]
struct Seen {
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
    /// Streams that the server had to refuse, since there were more than it allows.
    refused: Arc<AtomicU32>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A server that allows no streams, says so at once, and answers those that had been sent before.
async fn allows_none() -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::SeqCst);
            // A caller that goes away ends the connection.
            tokio::spawn(serve_none(tcp, counted.clone()));
        }
    });
    (address, seen)
}

async fn serve_none(mut tcp: TcpStream, seen: Seen) -> std::io::Result<()> {
    tcp.write_all(&frame(4, 0, 0, &[0, 3, 0, 0, 0, 0])).await?;
    tcp.read_exact(&mut [0; 24]).await?;
    let mut settled = false;
    loop {
        let mut head = [0; 9];
        tcp.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        tcp.read_exact(&mut vec![0; length as usize]).await?;
        match head[3] {
            4 if head[4] & 1 == 0 => tcp.write_all(&frame(4, 1, 0, &[])).await?,
            4 => settled = true,
            1 if settled => {
                seen.refused.fetch_add(1, Ordering::SeqCst);
                tcp.write_all(&frame(3, 0, stream, &7_u32.to_be_bytes())).await?;
            }
            1 => {
                seen.requests.fetch_add(1, Ordering::SeqCst);
                tcp.write_all(&frame(1, 5, stream, &[0x88])).await?;
            }
            _ => {}
        }
    }
}

/// A server that allows `most` streams, each of which takes a while, and refuses what comes beyond.
async fn allows(most: u32, takes: Duration) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            counted.connections.fetch_add(1, Ordering::SeqCst);
            let seen = counted.clone();
            tokio::spawn(async move {
                let mut builder = h2::server::Builder::new();
                let mut server =
                    builder.max_concurrent_streams(most).handshake::<_, Bytes>(tcp).await.unwrap();
                while let Some(Ok((_, mut respond))) = server.accept().await {
                    seen.requests.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(async move {
                        tokio::time::sleep(takes).await;
                        // The caller may have gone.
                        let _ = respond.send_response(Response::new(()), true);
                    });
                }
            });
        }
    });
    (address, seen)
}

async fn proxy(address: SocketAddr, thresholds: Thresholds) -> (Setup, Proxy) {
    let mut setup = Setup::new();
    setup.cluster("app", &[address], |cluster| {
        cluster.http.protocol = UpstreamProtocol::Http2;
        cluster.breaker = Arc::new(Breaker::new(thresholds));
    });
    let timeout = Some(WireDuration { seconds: 15, nanos: 0 });
    setup.routes("routes", vec![to_cluster("app", |action| action.timeout = timeout)]).http_listener(|_| {});
    let proxy = setup.start().await;
    (setup, proxy)
}

/// The statuses of this many requests at once.
async fn at_once(proxy: &Proxy, count: usize) -> Vec<StatusCode> {
    let mut asking = Vec::new();
    for _ in 0..count {
        let mut client = proxy.h1().await;
        asking.push(tokio::spawn(async move { client.get("/").await.status }));
    }
    let mut statuses = Vec::new();
    for one in asking {
        statuses.push(one.await.unwrap());
    }
    statuses
}

/// The request for which a connection was opened goes out before the server's settings are known, as with Envoy; nothing
/// waits on a connection that takes nothing, and none is kept.
#[tokio::test]
async fn h2_a_server_that_allows_no_streams_does_not_black_its_endpoint_out() {
    let (address, seen) = allows_none().await;
    let (setup, mut proxy) = proxy(address, Thresholds::default()).await;
    assert_eq!(at_once(&proxy, 20).await, [StatusCode::OK; 20]);
    for _ in 0..5 {
        assert_eq!(at_once(&proxy, 1).await, [StatusCode::OK]);
    }
    assert_eq!(seen.connections.load(Ordering::SeqCst), 25, "one dial a request, and no more");
    assert_eq!(seen.refused.load(Ordering::SeqCst), 0);
    proxy.wait_for(&setup, "cluster.app.upstream_cx_active", 0).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_pending_active", 0).await;
}

#[tokio::test]
async fn h2_requests_do_not_queue_behind_one_dial_or_one_stream() {
    let takes = Duration::from_secs(1);
    for most in [1, 4] {
        let (address, seen) = allows(most, takes).await;
        let (setup, mut proxy) = proxy(address, Thresholds::default()).await;
        let start = std::time::Instant::now();
        assert_eq!(at_once(&proxy, 20).await, [StatusCode::OK; 20]);
        let took = start.elapsed();
        // One after the other they would take 20 s and 5 s.
        assert!(took < takes * 4, "{most}: {took:?}");
        let connections = seen.connections.load(Ordering::SeqCst);
        let least = 20 / most;
        assert!((least..=least + least / 2).contains(&connections), "{most}: {connections} connections");
        // What is open is used again.
        assert_eq!(at_once(&proxy, 20).await, [StatusCode::OK; 20]);
        assert_eq!(seen.connections.load(Ordering::SeqCst), connections, "{most}");
        proxy.wait_for(&setup, "cluster.app.upstream_rq_pending_active", 0).await;
    }
}

/// Where the cluster may open no more connections, requests wait for a stream; where too many wait, they are refused.
#[tokio::test]
async fn h2_the_circuit_breaker_bounds_dials_and_those_who_wait() {
    let (address, seen) = allows(1, Duration::from_millis(100)).await;
    let thresholds = Thresholds { max_connections: 2, max_pending: 8, ..Thresholds::default() };
    let (setup, mut proxy) = proxy(address, thresholds).await;
    let statuses = at_once(&proxy, 30).await;
    let refused = statuses.iter().filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE).count();
    let answered = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    assert_eq!(answered + refused, 30, "{statuses:?}");
    assert!(answered > 8, "{statuses:?}");
    assert!(seen.connections.load(Ordering::SeqCst) <= 2);
    assert_eq!(seen.requests.load(Ordering::SeqCst), u32::try_from(answered).unwrap());
    proxy.wait_for(&setup, "cluster.app.upstream_rq_pending_overflow", i64::try_from(refused).unwrap()).await;
    proxy.wait_for(&setup, "cluster.app.upstream_rq_pending_active", 0).await;
}

/// A server that takes connections and never says what it allows holds up one request each time, no longer than
/// connecting may take.
#[tokio::test]
async fn h2_a_server_that_says_nothing_holds_up_those_who_wait_no_longer_than_a_dial() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut setup = Setup::new();
    setup.cluster("app", &[address], |cluster| {
        cluster.http.protocol = UpstreamProtocol::Http2;
        cluster.connect_timeout = Duration::from_millis(300);
    });
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let asking = tokio::spawn(async move { at_once(&proxy, 4).await });
    let mut held = Vec::new();
    for _ in 0..4 {
        let accepted = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
        held.push(accepted.expect("another connection is opened").unwrap());
    }
    drop((held, listener));
    assert_eq!(asking.await.unwrap(), [StatusCode::SERVICE_UNAVAILABLE; 4]);
}

/// A dial that fails fails those who wait for it, and the next request dials anew.
#[tokio::test]
async fn h2_those_who_wait_for_a_dial_hear_of_its_failure() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (_setup, proxy) = proxy(address, Thresholds::default()).await;
    assert_eq!(at_once(&proxy, 10).await, [StatusCode::SERVICE_UNAVAILABLE; 10]);
}
