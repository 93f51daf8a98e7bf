//! Changes of the configuration under load, and the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use weft_dataplane::runtime::{
    AccessLog, AccessLogs, LogSink, LogTarget, Terminal, TrafficDirection, UpstreamProtocol,
};

use crate::harness::{Client, Origin, Setup, chain, empty, to_cluster};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_routes_clusters_and_endpoints_change() {
    let (one, two) = (Origin::start().await, Origin::start().await);
    let mut setup = Setup::new();
    setup.cluster("a", &[one.address], |_| {}).cluster("b", &[two.address], |_| {});
    setup.routes("routes", vec![to_cluster("a", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start_with(2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for n in 0..4 {
        let mut client = if n % 2 == 0 { proxy.h1().await } else { proxy.h2().await };
        let stop = stop.clone();
        callers.push(tokio::spawn(async move {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = client.get("/hello").await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                sent += 1;
            }
            sent
        }));
    }
    for round in 0..60_u64 {
        let cluster = if round % 2 == 0 { "b" } else { "a" };
        setup.routes("routes", vec![to_cluster(cluster, |_| {})]);
        let both = [one.address, two.address];
        setup.cluster("a", &both[..1 + (round % 2) as usize], |cluster| {
            cluster.identity = round / 10;
            cluster.http.protocol =
                if round % 20 < 10 { UpstreamProtocol::Http1 } else { UpstreamProtocol::Http2 };
        });
        setup.http_listener(|manager| manager.request_ids.generate = round % 3 == 0);
        assert!(proxy.engine().swap(setup.build()).await.is_empty());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.unwrap() > 10);
    }
    proxy.wait_for(&setup, "http.in.downstream_cx_total", 4).await;
}

#[tokio::test]
async fn a_removed_endpoint_gets_no_more_requests_and_finishes_those_it_has() {
    let (old, new) = (Origin::start().await, Origin::start().await);
    let mut setup = Setup::new();
    setup.cluster("app", &[old.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let mut slow = proxy.h1().await;
    let under_way = tokio::spawn(async move { slow.get("/slow").await });
    let deadline = Instant::now() + Duration::from_secs(3);
    while old.requests.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    setup.cluster("app", &[new.address], |_| {});
    assert!(proxy.engine().swap(setup.build()).await.is_empty());
    let mut client = proxy.h1().await;
    for _ in 0..5 {
        assert_eq!(client.get("/hello").await.status, StatusCode::OK);
    }
    assert_eq!(under_way.await.unwrap().text(), "slow");
    assert_eq!((old.requests.load(Ordering::SeqCst), new.requests.load(Ordering::SeqCst)), (1, 5));
}

#[tokio::test]
async fn a_removed_chain_ends_its_connections_and_a_removed_listener_its_socket() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let mut client = proxy.h1().await;
    assert_eq!(client.get("/hello").await.status, StatusCode::OK);
    let manager = setup.manager(|_| {});
    setup.listener("in", vec![chain(2, Terminal::Http(manager), None)], |_| {});
    assert!(proxy.engine().swap(setup.build()).await.is_empty());
    proxy.wait_for(&setup, "http.in.downstream_cx_active", 0).await;
    assert_eq!(proxy.h1().await.get("/hello").await.status, StatusCode::OK, "the socket stayed");
    setup.runtime.listeners.clear();
    assert!(proxy.engine().swap(setup.build()).await.is_empty());
    assert!(TcpStream::connect(proxy.address).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_reported_and_harms_no_other_listener() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut setup = Setup::new();
    setup.routes("routes", Vec::new()).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let manager = setup.manager(|_| {});
    let address = taken.local_addr().unwrap();
    setup.listener("other", vec![chain(1, Terminal::Http(manager), None)], |listener| {
        listener.address = address;
    });
    let failures = proxy.engine().swap(setup.build()).await;
    assert_eq!(failures.len(), 1);
    assert_eq!(&*failures[0].name, "other");
    assert_eq!(proxy.h1().await.get("/").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_drain_lets_requests_finish_and_tells_both_protocols() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let (mut one, mut two, mut idle) = (proxy.h1().await, proxy.h2().await, proxy.h1().await);
    assert_eq!(idle.get("/hello").await.status, StatusCode::OK);
    assert_eq!(two.get("/hello").await.status, StatusCode::OK);
    let slow = one.request(Method::GET, "/slow", empty());
    let first = tokio::spawn(async move { one.exchange(slow).await });
    let second = tokio::spawn(async move { two.get("/slow").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = proxy.address;
    let engine = proxy.engine.take().unwrap();
    let start = Instant::now();
    let drained = tokio::spawn(async move {
        engine.drain(Duration::from_millis(150), Duration::from_secs(10)).await;
        engine
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let during = idle.get("/hello").await;
    assert_eq!((during.status, &during.headers["connection"]), (StatusCode::OK, &"close".parse().unwrap()));
    let first = first.await.unwrap();
    assert_eq!((first.text(), &first.headers["connection"]), ("slow", &"close".parse().unwrap()));
    assert_eq!(second.await.unwrap().text(), "slow");
    let engine = drained.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(TcpStream::connect(address).await.is_err());
    std::thread::spawn(move || drop(engine));
}

/// What an application was asked may need others, so its own calls go on until it has answered, in either drain.
#[tokio::test]
async fn own_calls_go_on_while_what_others_reach_drains() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let manager = setup.manager(|_| {});
    setup.listener("out", vec![chain(1, Terminal::Http(manager), None)], |listener| {
        listener.direction = TrafficDirection::Outbound;
    });
    let mut proxy = setup.start_with(2).await;
    let own = proxy.engine().address("out").unwrap();
    let mut asked = proxy.h1().await;
    let mut kept = Client::h1(TcpStream::connect(own).await.unwrap()).await;
    assert_eq!(kept.get("/hello").await.status, StatusCode::OK);
    let under_way = tokio::spawn(async move { asked.get("/slow").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let address = proxy.address;
    let engine = proxy.engine.take().unwrap();
    let only_inbound = engine.drain_inbound(Duration::ZERO, Duration::from_secs(10));
    let drained = tokio::spawn(only_inbound);
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "what others reach still listens");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = kept.get("/hello").await;
    assert_eq!((answer.status, answer.headers.get("connection")), (StatusCode::OK, None));
    let mut fresh = Client::h1(TcpStream::connect(own).await.unwrap()).await;
    assert_eq!(fresh.get("/hello").await.status, StatusCode::OK);
    assert_eq!(under_way.await.unwrap().text(), "slow");
    drained.await.unwrap();
    assert_eq!(kept.get("/hello").await.status, StatusCode::OK, "and after it");
    engine.drain(Duration::from_secs(5), Duration::from_secs(10)).await;
    assert!(TcpStream::connect(own).await.is_err());
    std::thread::spawn(move || drop(engine));
}

#[tokio::test]
async fn what_does_not_finish_is_cut_at_the_limit() {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|_| {});
    let mut proxy = setup.start().await;
    let mut client = proxy.h1().await;
    let request = client.request(Method::GET, "/big/268435456", empty());
    let mut response = client.send(request).await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    let start = Instant::now();
    proxy.engine().drain(Duration::ZERO, Duration::from_millis(300)).await;
    assert!((250..3000).contains(&(start.elapsed().as_millis() as u64)));
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn access_logs_are_written_in_envoys_format() {
    let origin = Origin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |_| {});
    setup.routes("routes", vec![to_cluster("app", |_| {})]).http_listener(|manager| {
        let sink = LogSink::File(path.clone());
        let to = LogTarget::Lines { sink, format: Arc::default() };
        manager.access_log = AccessLogs::new(vec![AccessLog { to, filter: None }]);
    });
    let proxy = setup.start().await;
    let mut client = proxy.h1().await;
    client.post("/echo?q=1", crate::harness::full("12345")).await;
    let deadline = Instant::now() + Duration::from_secs(5);
    let line = loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.ends_with('\n') {
            break text;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(line.contains("\"POST /echo?q=1 HTTP/1.1\" 200 - 5 5 "), "{line}");
    assert!(line.trim_end().ends_with(&format!("\"app.test\" \"{}\"", origin.address)), "{line}");
}
