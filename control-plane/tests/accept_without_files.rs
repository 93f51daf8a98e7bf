//! The accept loop when the process has no file descriptors left. Alone in its file: the limit is the process's.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use weft_api::TrustDomain;
use weft_control_plane::ca::{AuthoritySettings, open};
use weft_control_plane::clock::Clock;
use weft_control_plane::listener::{
    BoundListener, ConnectionLimits, Connections, IDLE_STRANGER, Security, XDS_STREAMS,
};
use weft_control_plane::metrics::Metrics;
use weft_control_plane::tls::{ClientCertificates, ListenerTls, spawn_keeper};
use weft_store::Location;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listener_serves_again_once_files_are_free() {
    let dir = tempfile::tempdir().unwrap();
    let store = weft_store::open(Location::Memory).await.unwrap();
    let trust_domain = TrustDomain::try_new("mesh.test").unwrap();
    let leaf_life = time::Duration::hours(24);
    let settings = AuthoritySettings {
        trust_domain: trust_domain.clone(),
        leaf_life,
        issuer_life: weft_control_plane::ca::ISSUER_LIFE,
        root_life: weft_control_plane::ca::ROOT_LIFE,
        server_names: Vec::new(),
        own: None,
    };
    let clock = Clock::system();
    let authority =
        open(store.as_ref(), settings, &dir.path().join("seal.key"), clock.clone()).await.unwrap();
    let shutdown = CancellationToken::new();
    let tls = ListenerTls { names: Vec::new(), clients: ClientCertificates::Optional, alpn: &[b"h2"] };
    let config = spawn_keeper(Arc::new(authority), tls, clock.clone(), shutdown.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Metrics::new().listener("xds");
    let server = BoundListener {
        socket: listener,
        security: Security::Tls { config, trust_domain },
        max_streams: XDS_STREAMS,
        room: ConnectionLimits { greeting: 100, strangers: 100, members: 100 },
        idle: IDLE_STRANGER,
        metrics: metrics.clone(),
        connections: Connections::default(),
        clock,
    };
    tokio::spawn(server.serve(Router::new(), shutdown.clone()));

    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
    let mut fillers: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    // One descriptor for the client; none is left for the server's side.
    drop(fillers.pop());
    let _client = TcpStream::connect(address).await.unwrap();
    until(|| metrics.accept_errors.get() >= 2).await;
    assert_eq!(metrics.accepted.get(), 0);
    drop(fillers);
    until(|| metrics.accepted.get() == 1).await;
    setrlimit(Resource::Nofile, before).unwrap();
    assert!(metrics.accept_errors.get() < 100, "it pauses, and does not spin");
    shutdown.cancel();
}

async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("within 20 s");
}
