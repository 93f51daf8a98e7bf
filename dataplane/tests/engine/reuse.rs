//! Upstream connections that the server closes when it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{Setup, to_cluster};

/// Answers one request on each connection as if it were to stay, and closes when the second arrives.
async fn treacherous() -> (std::net::SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answered = Arc::new(AtomicU32::new(0));
    let count = answered.clone();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut buf = [0; 4096];
                assert!(tcp.read(&mut buf).await.unwrap() > 0);
                count.fetch_add(1, Ordering::SeqCst);
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                let _ = tcp.read(&mut buf).await;
            });
        }
    });
    (address, answered)
}

#[tokio::test]
async fn a_request_that_met_a_closing_connection_is_sent_on_a_fresh_one() {
    let (address, answered) = treacherous().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    for _ in 0..20 {
        let answer = client.get("/").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "ok"));
    }
    assert_eq!(answered.load(Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_post_that_may_have_had_an_effect_is_not_repeated() {
    let (address, answered) = treacherous().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    assert_eq!(client.post("/", crate::harness::full("1")).await.status, StatusCode::OK);
    let second = client.post("/", crate::harness::full("2")).await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.text().contains("connection termination"), "{}", second.text());
    assert_eq!(answered.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buf = [0; 4096];
                let _ = tcp.read(&mut buf).await;
                tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            });
        }
    });
    let mut setup = Setup::new();
    setup.cluster("app", &[address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    for _ in 0..5 {
        let answer = client.post("/", crate::harness::full("x")).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, "ok"));
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
}
