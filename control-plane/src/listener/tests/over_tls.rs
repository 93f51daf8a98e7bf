//! Connections over TLS: who is known, and what is refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::routing::get;
use axum::{Extension, Router};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::KeyPair;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName as DnsServerName, UnixTime};
use rustls::{DigitallySignedStruct, NamedGroup, ProtocolVersion, SignatureScheme};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use weft_xds::transport::PeerIdentity;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::connections;
use crate::ca::ServerName;
use crate::ca::tests::Mesh;
use crate::clock::Clock;
use crate::listener::{
    self, BoundListener, ConnectionLimits, Connections, IDLE_STRANGER, MAX_HEADERS, Security, XDS_STREAMS,
};
use crate::metrics::{HandshakeFailure, ListenerMetrics, Metrics};
use crate::tls::{ClientCertificates, ListenerTls, Peer, identify, provider, spawn_keeper};

pub(crate) type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

pub(crate) struct RunningListener {
    pub(crate) address: SocketAddr,
    pub(crate) metrics: ListenerMetrics,
    pub(crate) connections: Connections,
    shutdown: CancellationToken,
}

impl Drop for RunningListener {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// As roomy as a test needs it.
pub(crate) const ROOM: ConnectionLimits = ConnectionLimits { greeting: 1000, strangers: 1000, members: 1000 };

pub(crate) async fn serve(mesh: &Mesh) -> RunningListener {
    serve_with(mesh, ROOM, IDLE_STRANGER, Clock::system()).await
}

pub(crate) async fn serve_with(
    mesh: &Mesh,
    room: ConnectionLimits,
    idle: Duration,
    clock: Clock,
) -> RunningListener {
    let app = Router::new().merge(connections::routes()).route(
        "/who",
        get(|peer: Option<Extension<Peer>>, identity: Option<Extension<PeerIdentity>>| async move {
            assert!(identity.is_none(), "whether a certificate counts now is not for TLS to say");
            peer.map_or("nobody".to_owned(), |Extension(peer)| {
                format!(
                    "{} {}",
                    peer.spiffe,
                    peer.workload.map_or("-".into(), |workload| workload.to_string())
                )
            })
        }),
    );
    let shutdown = CancellationToken::new();
    let tls = ListenerTls {
        names: vec![ServerName::Dns("localhost".into()), ServerName::Ip("127.0.0.1".parse().unwrap())],
        clients: ClientCertificates::Optional,
        alpn: &[b"h2"],
    };
    let config = spawn_keeper(Arc::clone(&mesh.authority), tls, mesh.hand.clock(), shutdown.clone()).unwrap();
    let socket = listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let (metrics, connections) = (Metrics::new().listener("xds"), Connections::default());
    let listener = BoundListener {
        socket,
        security: Security::Tls { config, trust_domain: mesh.authority.trust_domain().clone() },
        max_streams: XDS_STREAMS,
        room,
        idle,
        metrics: metrics.clone(),
        connections: connections.clone(),
        clock,
    };
    tokio::spawn(listener.serve(app, shutdown.clone()));
    RunningListener { address, metrics, connections, shutdown }
}

/// Believes any server; what it sent is looked at afterwards.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &DnsServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

pub(crate) fn client(identity: Option<Identity>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

pub(crate) async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = DnsServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Asks the server who we are. An error is a refused certificate: TLS 1.3 shows it only at the first read.
pub(crate) async fn who(
    address: SocketAddr,
    identity: Option<Identity>,
) -> Result<String, Box<dyn std::error::Error>> {
    let stream = connect(address, client(identity)).await?;
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/who").body(Empty::<bytes::Bytes>::new())?;
    let response = requests.send_request(request).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec())?)
}

fn key_der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(key.serialize_der().into())
}

pub(crate) fn joined(mesh: &Mesh) -> Identity {
    let (leaf, key) = mesh.leaf("shop/web", "shop/web-1");
    (leaf.chain, key_der(&key))
}

#[tokio::test]
async fn joined_workload_is_known_by_service_and_name() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let answer = who(server.address, Some(joined(&mesh))).await.unwrap();
    assert_eq!(answer, "spiffe://mesh.test/ns/shop/svc/web shop/web-1");
}

#[tokio::test]
async fn client_without_certificate_is_nobody() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    assert_eq!(who(server.address, None).await.unwrap(), "nobody");
}

#[tokio::test]
async fn server_sends_its_chain_with_the_root_that_tokens_name() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let stream = connect(server.address, client(None)).await.unwrap();
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap();
    assert_eq!(chain.len(), 3);
    let root = X509Certificate::from_der(&chain[2]).unwrap().1;
    assert_eq!(<[u8; 32]>::from(Sha256::digest(root.public_key().raw)), mesh.authority.root_spki_sha256());
    let peer = identify(&chain[0], mesh.authority.trust_domain()).unwrap();
    assert_eq!(peer.spiffe, mesh.authority.control_plane_id());
    assert_eq!(peer.workload, None);
}

#[tokio::test]
async fn connection_is_tls13_with_the_post_quantum_exchange_and_no_ticket() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut stream = connect(server.address, client(None)).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(session.negotiated_key_exchange_group().unwrap().name(), NamedGroup::X25519MLKEM768);
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.read_u8().await.unwrap();
    assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn all_three_curves_are_spoken_and_no_other() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    use rustls::crypto::aws_lc_rs::kx_group as kx;
    for group in [kx::X25519MLKEM768, kx::X25519, kx::SECP256R1, kx::SECP384R1] {
        let mut only = (*provider()).clone();
        only.kx_groups = vec![group];
        let mut config = ClientConfig::builder_with_provider(Arc::new(only))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let spoken = connect(server.address, config).await;
        assert_eq!(spoken.is_ok(), group.name() != NamedGroup::secp384r1, "{:?}", group.name());
    }
}

#[tokio::test]
async fn certificate_of_another_mesh_is_refused() {
    let (mesh, other) = (Mesh::new().await, Mesh::new().await);
    let server = serve(&mesh).await;
    who(server.address, Some(joined(&other))).await.unwrap_err();
    assert_eq!(server.metrics.handshakes_failed(HandshakeFailure::unknown_issuer).get(), 1);
}

#[tokio::test]
async fn expired_certificate_is_refused() {
    let mesh = Mesh::with_leaf_life(time::Duration::hours(1)).await;
    let server = serve(&mesh).await;
    let identity = joined(&mesh);
    mesh.hand.forward(time::Duration::hours(2));
    who(server.address, Some(identity)).await.unwrap_err();
}

#[tokio::test]
async fn new_connections_get_the_renewed_server_certificate() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let leaf = async || {
        let stream = connect(server.address, client(None)).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let first = leaf().await;
    assert_eq!(leaf().await, first);
    let leader = mesh.leader().await;
    mesh.hand.forward(time::Duration::days(16));
    for _ in 0..2 {
        mesh.authority.renew_issuer(mesh.store.as_ref(), &leader, true).await.unwrap();
    }
    let renewed = async {
        while leaf().await == first {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), renewed).await.expect("renewed with the issuer");
}

#[tokio::test]
async fn request_with_too_many_headers_is_refused() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let stream = connect(server.address, client(None)).await.unwrap();
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::get("https://localhost/who");
    for number in 0..=MAX_HEADERS {
        request = request.header(format!("x-{number}"), "1");
    }
    let response = requests.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 431);
}

#[tokio::test]
async fn shutdown_ends_the_server_while_a_client_is_connected() {
    let mesh = Mesh::new().await;
    let server = serve(&mesh).await;
    let mut stream = connect(server.address, client(None)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.read_u8().await.unwrap();
    server.shutdown.cancel();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection ends");
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}
