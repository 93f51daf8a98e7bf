//! Two replicas on one etcd.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use weft_api::client::{ApiClient, ClientError, DeleteOptions, RollbackOptions};
use weft_api::rest::{DeliveryState, DrainRequest, ProxyConfig, ProxyStatus, Sync, WaitResult};
use weft_api::{ResourceKind, TrustDomain};
use weft_control_plane::ca::{self, AuthoritySettings, ServerName};
use weft_control_plane::clock::Clock;
use weft_store::{EtcdConfig, Location, Txn};

use crate::etcd_server::EtcdServer;
use crate::peer::{declared, join};
use crate::plane::{Plane, service};
use crate::proxy::{Held, Sidecar};

async fn two(flags: &[&str]) -> (EtcdServer, Plane, Plane) {
    let etcd = EtcdServer::start().await;
    let endpoint = etcd.endpoint();
    let a = Plane::start_with(&[&["--etcd", &endpoint], flags].concat()).await;
    let seal = a.seal_key().display().to_string();
    let b = Plane::start_with(&[&["--etcd", &endpoint, "--seal-key", &seal], flags].concat()).await;
    (etcd, a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_serve_equal_versions() {
    let (_etcd, a, b) = two(&[]).await;
    a.apply(&(service("web") + &service("cart"))).await;
    b.apply(&service("payments")).await;
    let web = join(&a.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&b.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let _cart = Sidecar::start(&cart, b.running.xds).await.go_on();
    let complete = |held: &Held| {
        Sidecar::has(held, ResourceKind::Route, "outbound/shop")
            && Sidecar::has(held, ResourceKind::Listener, "inbound")
            && Sidecar::has(held, ResourceKind::Secret, "bundle")
            && Sidecar::has(held, ResourceKind::Cluster, "inbound/shop/web/http")
            && Sidecar::serves(held, "shop/web/http", 1)
            && Sidecar::serves(held, "shop/cart/http", 1)
            && Sidecar::serves(held, "shop/payments/http", 0)
    };
    let mut held = Vec::new();
    for replica in [&a, &b] {
        let mut sidecar = Sidecar::start(&web, replica.running.xds).await;
        sidecar.until("everything", complete).await;
        held.push(sidecar.held);
    }
    assert_eq!(held[0], held[1]);
    // Each takes the other's operators.
    let foreign = ApiClient::try_new(&format!("http://{}", b.running.api), &a.token, &[]).unwrap();
    assert_eq!(foreign.list("services", None).await.unwrap().items.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workload_connected_to_one_replica_is_not_degraded_by_the_other() {
    let quick = ["--degrade-after", "3s", "--drain-after", "1h", "--remove-after", "2h"];
    let (_etcd, a, b) = two(&quick).await;
    a.apply(&(service("web") + &service("cart") + &service("idle"))).await;
    let web = join(&a.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&a.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let proxy = Sidecar::start(&cart, a.running.xds).await.go_on();
    a.until("shop/cart-1", "connected", |status| status.streams == 1).await;
    let idle = join(&a.join_token("shop/idle").await, declared("idle-1", "127.0.0.4")).await.unwrap();
    let mut watcher = Sidecar::start(&web, b.running.xds).await;
    watcher.until("cart", |held| Sidecar::serves(held, "shop/cart/http", 1)).await;
    // One that goes is degraded by both: by then, so would be cart if B did not know of A's streams.
    let connected = Sidecar::start(&idle, b.running.xds).await.go_on();
    watcher.until("idle", |held| Sidecar::serves(held, "shop/idle/http", 1)).await;
    drop(connected);
    watcher.until_health("shop/idle/http", HealthStatus::Degraded as i32).await;
    let health = b.status("shop/cart-1").await.unwrap().health;
    assert_eq!(health, "Healthy");
    // And B knows when it is gone.
    drop(proxy);
    watcher.until_health("shop/cart/http", HealthStatus::Degraded as i32).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_replica_that_ended_are_gone_for_the_others() {
    let quick = ["--degrade-after", "1s", "--drain-after", "1h", "--remove-after", "2h"];
    let (_etcd, a, b) = two(&quick).await;
    a.apply(&(service("web") + &service("cart"))).await;
    let web = join(&a.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&a.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    let _proxy = Sidecar::start(&cart, a.running.xds).await.go_on();
    let mut watcher = Sidecar::start(&web, b.running.xds).await;
    watcher.until_health("shop/cart/http", HealthStatus::Healthy as i32).await;
    a.running.end().await;
    watcher.until_health("shop/cart/http", HealthStatus::Degraded as i32).await;
}

/// A cable that can be pulled out: connections stay open, and nothing passes any more.
struct Cable {
    address: SocketAddr,
    pulled: CancellationToken,
}

impl Cable {
    async fn to(server: SocketAddr) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, pulled) = (socket.local_addr().unwrap(), CancellationToken::new());
        let pulls = pulled.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = socket.accept().await {
                let pulls = pulls.clone();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        () = pulls.cancelled() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, pulled }
    }
}

/// A name is asked for at one replica while whoever has it is connected to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_name_is_kept_and_a_dead_one_given_away_by_the_other_replica() {
    let (_etcd, a, b) = two(&[]).await;
    a.apply(&service("web")).await;
    let live = join(&a.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cable = Cable::to(a.running.xds).await;
    let mut sidecar = Sidecar::start(&live, cable.address).await;
    sidecar.until("its bundle", |held| Sidecar::has(held, ResourceKind::Secret, "bundle")).await;
    let _stays = sidecar.go_on();
    a.until("shop/web-1", "connected", |status| status.streams == 1).await;
    // B has to have heard of the stream, or it would give the name away at once.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let asked = Instant::now();
    let second = join(&b.join_token("shop/web").await, declared("web-1", "127.0.0.3")).await;
    let refused = second.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
    assert!(asked.elapsed() < Duration::from_secs(2), "a live one answers soon: {:?}", asked.elapsed());
    assert_eq!(a.status("shop/web-1").await.unwrap().streams, 1);

    cable.pulled.cancel();
    let asked = Instant::now();
    let next = join(&b.join_token("shop/web").await, declared("web-1", "127.0.0.3")).await.unwrap();
    assert!(asked.elapsed() >= Duration::from_secs(2), "it was asked: {:?}", asked.elapsed());
    let _next = Sidecar::start(&next, b.running.xds).await.go_on();
    // Both tell of the new one, wherever it is connected; the old one's stream at the other is cut.
    a.until("shop/web-1", "the old one is cut", |status| status.streams == 1).await;
    live.renew(a.running.xds).await.map(drop).expect_err("it was replaced for good");
}

/// What a proxy has is asked for at whatever replica: the one that it is connected to says it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configuration_of_a_proxy_is_told_by_the_replica_that_it_is_not_connected_to() {
    let (_etcd, a, b) = two(&[]).await;
    a.apply(&(service("web") + &service("cart"))).await;
    let web = join(&a.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    b.until("shop/web-1", "known", |_| true).await;
    let state = async |plane: &Plane| {
        let config = plane.client.proxy_config("shop/web-1").await.unwrap();
        let config: ProxyConfig = serde_json::from_value(config).unwrap();
        let clusters = &config.types[ResourceKind::Cluster.short()];
        clusters.iter().find(|one| one.name == "shop/cart/http").map(|one| one.state)
    };
    for plane in [&a, &b] {
        assert_eq!(state(plane).await, Some(DeliveryState::Unknown), "it is connected to none");
    }
    let _sidecar = Sidecar::start(&web, a.running.xds).await.go_on();
    a.until("shop/web-1", "in sync", |status| status.sync == Sync::Synced).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while state(&b).await != Some(DeliveryState::Acknowledged) {
        assert!(Instant::now() < deadline, "{:?} at the other", state(&b).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for plane in [&a, &b] {
        let one = plane.client.proxy("shop/web-1").await.unwrap();
        let listed = plane.client.proxies().await.unwrap();
        assert_eq!((one.sync, one.streams), (Sync::Synced, 1), "whoever is asked");
        assert_eq!((listed.items.len(), listed.items[0].sync, listed.unheard), (1, Sync::Synced, 0));
    }
    let (of_a, of_b) = (a.client.proxy_config("shop/web-1").await, b.client.proxy_config("shop/web-1").await);
    assert_eq!(of_a.unwrap()["LDS"], of_b.unwrap()["LDS"]);
}

/// Each of two drains counts on the other's workload: whoever comes second, at whatever replica, is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_drains_of_the_last_two_instances_one_is_refused() {
    let (_etcd, a, b) = two(&[]).await;
    a.apply(&service("web")).await;
    let token = a.join_token("shop/web").await;
    let mut sidecars = Vec::new();
    for (plane, name, address) in [(&a, "web-1", "127.0.0.2"), (&b, "web-2", "127.0.0.3")] {
        let member = join(&token, declared(name, address)).await.unwrap();
        sidecars.push(Sidecar::start(&member, plane.running.xds).await.go_on());
    }
    let takes_requests = |status: &ProxyStatus| status.drained.is_none() && status.health == "Healthy";
    let asked = |undo| DrainRequest { undo, ..DrainRequest::default() };
    for round in 0..20 {
        for (plane, id) in [(&a, "shop/web-1"), (&a, "shop/web-2"), (&b, "shop/web-1"), (&b, "shop/web-2")] {
            plane.until(id, "in balancing", takes_requests).await;
        }
        let (first, second) = (asked(false), asked(false));
        let (one, other) =
            tokio::join!(a.client.drain("shop/web-1", &first), b.client.drain("shop/web-2", &second));
        let (drained, refused) = match (one, other) {
            (Ok(done), Err(refused)) | (Err(refused), Ok(done)) => (done.workload, refused),
            both => panic!("round {round}: {both:?}"),
        };
        let ClientError::Refused(problem) = refused else { panic!("round {round}: {refused:?}") };
        assert_eq!(problem.code, "last_instance", "round {round}: {problem}");
        a.client.drain(&drained, &asked(true)).await.unwrap();
    }
}

/// Proof of delivery is that of the whole mesh, and what nobody vouched for is not taken for done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_waited_for_at_all_replicas_whichever_is_asked() {
    let (etcd, a, b) = two(&[]).await;
    a.apply(&(service("web") + &service("cart"))).await;
    let (web, cart) = (a.join_token("shop/web").await, a.join_token("shop/cart").await);
    let web = join(&web, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&cart, declared("cart-1", "127.0.0.3")).await.unwrap();
    let _at_a = Sidecar::start(&web, a.running.xds).await.go_on();
    let at_b = Sidecar::start(&cart, b.running.xds).await.go_on();
    for (plane, id) in [(&a, "shop/web-1"), (&b, "shop/cart-1")] {
        plane.until(id, "in sync", |status| status.sync == Sync::Synced).await;
    }
    let told = |wait: Option<WaitResult>| {
        let wait = wait.expect("it was waited for");
        let laggards: Vec<String> = wait.laggards.iter().map(|one| one.proxy.clone()).collect();
        (wait.targeted, wait.acked, laggards, wait.unheard)
    };
    let everybody = (2, 2, Vec::new(), 0);
    let mut revisions = Vec::new();
    for (plane, name) in [(&a, "first"), (&b, "second")] {
        let applied = plane.apply_and_wait(&service(name), "10s").await;
        revisions.push(applied.revision);
        assert_eq!(told(applied.wait), everybody, "applied");
    }
    for plane in [&a, &b] {
        for revision in &revisions {
            let wait = plane.client.revision(*revision, Some("10s")).await.unwrap().wait;
            assert_eq!(told(wait), everybody, "revision {revision}");
        }
        let drain = |undo| DrainRequest { undo, force: true, wait: Some("10s".to_owned()) };
        for undo in [false, true] {
            let wait = plane.client.drain("shop/cart-1", &drain(undo)).await.unwrap().wait;
            assert_eq!(told(wait), everybody, "drained: {}", !undo);
        }
    }
    let deletion = DeleteOptions { wait: Some("10s".to_owned()), ..DeleteOptions::default() };
    let deleted = b.client.delete_with("services", "shop", "first", &deletion).await.unwrap();
    assert_eq!(told(deleted.wait), everybody, "deleted");
    let rollback = RollbackOptions { wait: Some("10s".to_owned()), ..RollbackOptions::default() };
    let rolled_back = a.client.rollback(revisions[0], &rollback).await.unwrap();
    assert_eq!(told(rolled_back.wait), everybody, "rolled back");

    // One that does not answer for what it has is named, whoever is asked.
    drop(at_b);
    let mut silent = Sidecar::start(&cart, b.running.xds).await;
    silent.until("web", |held| Sidecar::serves(held, "shop/web/http", 1)).await;
    let applied = a.apply_and_wait(&service("third"), "500ms").await;
    assert_eq!(told(applied.wait), (2, 1, vec!["shop/cart-1".to_owned()], 0));

    // A replica that is not heard, and one of a release that does not know the question, vouch for nobody.
    let config = EtcdConfig { prefix: "/weft/".to_owned(), ..etcd.config() };
    let store = weft_store::open(Location::Etcd(Box::new(config))).await.unwrap();
    store.commit(Txn::new().put("replicas/nobody", "127.0.0.1:1")).await.unwrap();
    let _other = spawn_replica_of_version("0.0.1", &etcd, &a.seal_key()).await;
    let deadline = Instant::now() + Duration::from_secs(10);
    let wait = loop {
        let wait = a.client.revision(revisions[0], Some("1s")).await.unwrap().wait.unwrap();
        if wait.unheard == 2 || Instant::now() > deadline {
            break wait;
        }
    };
    assert_eq!((wait.unheard, wait.is_complete()), (2, false), "{wait:?}");
}

/// What the others hear of a control plane of another release that runs beside them.
async fn spawn_replica_of_version(
    version: &str,
    etcd: &EtcdServer,
    seal_key: &Path,
) -> AbortOnDropHandle<()> {
    let config = EtcdConfig { prefix: "/weft/".to_owned(), ..etcd.config() };
    let store = weft_store::open(Location::Etcd(Box::new(config))).await.unwrap();
    let settings = AuthoritySettings {
        trust_domain: TrustDomain::try_new("mesh.local").unwrap(),
        leaf_life: time::Duration::hours(24),
        issuer_life: ca::ISSUER_LIFE,
        root_life: ca::ROOT_LIFE,
        server_names: Vec::new(),
        own: None,
    };
    let authority = ca::open(store.as_ref(), settings, seal_key, Clock::system()).await.unwrap();
    let identity = authority.issue_control_plane(&[ServerName::Ip(Ipv4Addr::LOCALHOST.into())]).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(weft_control_plane::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let told = Txn::new().put("replicas/of-another-release", listener.local_addr().unwrap().to_string());
    store.commit(told).await.unwrap();
    let report = serde_json::json!({"version": version, "now": Clock::system().unix_millis()}).to_string();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, report) = (acceptor.clone(), report.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(move |_| {
                    let body = Full::new(Bytes::from(report.clone()));
                    async move { Ok::<_, Infallible>(http::Response::new(body)) }
                });
                let served = http2::Builder::new(TokioExecutor::new());
                drop(served.serve_connection(TokioIo::new(stream), answer).await);
            });
        }
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_planes_of_two_versions_are_found_with_the_remedy() {
    let (etcd, a, b) = two(&[]).await;
    let of_versions = async |plane: &Plane| {
        let findings = plane.client.check().await.unwrap().findings;
        findings.into_iter().filter(|finding| finding.code == "replica_version").collect::<Vec<_>>()
    };
    assert!(of_versions(&a).await.is_empty() && of_versions(&b).await.is_empty(), "both are of this version");
    let _other = spawn_replica_of_version("0.0.1", &etcd, &a.seal_key()).await;
    for plane in [&a, &b] {
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = loop {
            if let Some(found) = of_versions(plane).await.pop() {
                break found;
            }
            assert!(Instant::now() < deadline, "{:#?}", plane.client.check().await.unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(found.what.starts_with("it is 0.0.1, and control plane"), "{found:?}");
        let remedy = found.remedy.as_deref().unwrap_or_default();
        assert!(remedy.contains("docs/tasks/upgrade.md"), "{found:?}");
    }
}
