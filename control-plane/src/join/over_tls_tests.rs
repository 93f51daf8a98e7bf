//! Joining as a joiner does it: over TCP and TLS, with the root pinned by the token.

use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use weft_api::join::join_service_client::JoinServiceClient;
use weft_api::join::{JoinRequest, LeaveRequest, ProxyType, RenewRequest, Workload};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::ca::tests::Mesh;
use crate::identity::tokens::{TokenGrant, Tokens};
use crate::listener::{BoundListener, ConnectionLimits, Connections, IDLE_STRANGER, Security, XDS_STREAMS};
use crate::metrics::Metrics;
use crate::tls::{ClientCertificates, ListenerTls, identify, provider, spawn_keeper};

struct Served {
    mesh: Mesh,
    address: SocketAddr,
    shutdown: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn serve() -> Served {
    let mesh = Mesh::new().await;
    let shutdown = CancellationToken::new();
    let ledger = Ledger::spawn(Arc::clone(&mesh.store), shutdown.clone());
    let workloads = WorkloadStore::new(Arc::clone(&mesh.store), mesh.hand.clock());
    let instances = Instances::new(ledger, workloads, Arc::new(tests::Nothing), mesh.hand.clock());
    let joining = JoinServer::new(
        Arc::clone(&mesh.store),
        Arc::clone(&mesh.authority),
        Arc::new(SigningLimits::new(64)),
        instances.clone(),
        Arc::new(|_| Box::pin(async { false })),
        mesh.hand.clock(),
    );
    let app = tonic::service::Routes::new(joining.into_server()).prepare().into_axum_router();
    let app =
        app.layer(axum::middleware::from_fn_with_state(instances, crate::identity::instances::identify));
    let names = vec![crate::ca::ServerName::try_new("127.0.0.1").unwrap()];
    let tls = ListenerTls { names, clients: ClientCertificates::Optional, alpn: &[b"h2"] };
    let config = spawn_keeper(Arc::clone(&mesh.authority), tls, mesh.hand.clock(), shutdown.clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = BoundListener {
        socket: listener,
        security: Security::Tls { config, trust_domain: mesh.authority.trust_domain().clone() },
        max_streams: XDS_STREAMS,
        room: ConnectionLimits { greeting: 100, strangers: 100, members: 100 },
        idle: IDLE_STRANGER,
        metrics: Metrics::new().listener("xds"),
        connections: Connections::default(),
        clock: mesh.hand.clock(),
    };
    tokio::spawn(server.serve(app, shutdown.clone()));
    Served { mesh, address, shutdown }
}

/// A client that trusts `root` and checks the server's address in its certificate.
fn config(root: CertificateDer<'static>, identity: Option<Identity>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_webpki_verifier(verifier);
    let mut config = match identity {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

async fn client(served: &Served, identity: Option<Identity>) -> JoinServiceClient<Channel> {
    let root = served.mesh.authority.bundle().remove(0);
    let connector = TlsConnector::from(Arc::new(config(root, identity)));
    let address = served.address;
    let connect = tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let stream = TcpStream::connect(address).await?;
            let stream = connector.connect(ServerName::from(address.ip()), stream).await?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        }
    });
    // The connector does TLS; tonic without its own refuses an https URI.
    let endpoint = Endpoint::from_static("http://control-plane");
    JoinServiceClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

fn request(token: &weft_api::JoinToken, name: &str, key: &rcgen::KeyPair) -> JoinRequest {
    let csr = rcgen::CertificateParams::default().serialize_request(key).unwrap();
    JoinRequest {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        csr_der: csr.der().to_vec(),
        workload: Some(Workload {
            name: name.to_owned(),
            address: "127.0.0.2".to_owned(),
            proxy_type: ProxyType::Weft.into(),
            ..Workload::default()
        }),
    }
}

fn chain(der: Vec<Vec<u8>>) -> Vec<CertificateDer<'static>> {
    der.into_iter().map(CertificateDer::from).collect()
}

async fn token(served: &Served, service: &str) -> weft_api::JoinToken {
    let mesh = &served.mesh;
    let tokens = Tokens::new(Arc::clone(&mesh.store), mesh.hand.clock());
    let service = service.parse().unwrap();
    let grant = TokenGrant::of(service);
    let root = mesh.authority.root_spki_sha256();
    tokens.create(grant, &served.address.to_string().parse().unwrap(), root).await.unwrap().0
}

#[tokio::test]
async fn workload_joins_renews_over_mutual_tls_and_says_goodbye() {
    let served = serve().await;
    let token = token(&served, "shop/web").await;
    let root =
        X509Certificate::from_der(&served.mesh.authority.bundle()[0]).unwrap().1.public_key().raw.to_vec();
    assert_eq!(<[u8; 32]>::from(Sha256::digest(root)), token.root_spki_sha256, "what the joiner pins");

    let key = crate::ca::new_key().unwrap();
    let joined = client(&served, None).await.join(request(&token, "web-1", &key)).await.unwrap().into_inner();
    let mut identity =
        (chain(joined.certificate_chain_der), PrivateKeyDer::Pkcs8(key.serialize_der().into()));
    for _ in 0..2 {
        let key = crate::ca::new_key().unwrap();
        let csr_der = request(&token, "", &key).csr_der;
        let mut mutual = client(&served, Some(identity)).await;
        let renewed = mutual.renew(RenewRequest { csr_der }).await.unwrap().into_inner();
        identity = (chain(renewed.certificate_chain_der), PrivateKeyDer::Pkcs8(key.serialize_der().into()));
        let peer = identify(&identity.0[0], served.mesh.authority.trust_domain()).unwrap();
        assert_eq!(peer.workload.unwrap().to_string(), "shop/web-1");
    }
    client(&served, Some(identity)).await.leave(LeaveRequest {}).await.unwrap();
    let workloads = WorkloadStore::new(Arc::clone(&served.mesh.store), served.mesh.hand.clock());
    let stored = workloads.find(&"shop/web-1".parse().unwrap()).await.unwrap().unwrap();
    assert!(stored.record.left_at.is_some());
}

#[tokio::test]
async fn renewal_without_a_client_certificate_is_refused() {
    let served = serve().await;
    let csr_der = request(&token(&served, "shop/web").await, "", &crate::ca::new_key().unwrap()).csr_der;
    let refused = client(&served, None).await.renew(RenewRequest { csr_der }).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn giant_request_is_refused_before_it_is_read() {
    let served = serve().await;
    let token = token(&served, "shop/web").await;
    let mut giant = request(&token, "web-1", &crate::ca::new_key().unwrap());
    giant.csr_der = vec![0; 2 * MAX_REQUEST_BYTES];
    let refused = client(&served, None).await.join(giant).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
}
