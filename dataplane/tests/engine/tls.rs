//! Mutual TLS on both sides.

use std::sync::Arc;

use http::{Method, StatusCode};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_dataplane::runtime::{
    CertifiedIdentity, ClientCertDetails, DownstreamTls, DownstreamTlsSpec, ForwardClientCert, SanMatch,
    SanMatcher, Terminal, Transport, TrustSpec, UpstreamProtocol, UpstreamTls, UpstreamTlsSpec,
};

use crate::harness::{Client, Origin, Proxy, Setup, chain, empty, to_cluster};

/// A certificate authority of one test.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test root");
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    fn pem(&self, uris: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }

    fn identity(&self, uris: &[&str]) -> CertifiedIdentity {
        let (chain, key) = self.pem(uris);
        CertifiedIdentity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    fn trust(&self, names: &[&str]) -> TrustSpec {
        TrustSpec {
            roots: vec![self.root.clone()],
            sans: names.iter().map(|name| SanMatch::Uri(SanMatcher::Exact((*name).into()))).collect(),
            ..TrustSpec::default()
        }
    }

    fn server(&self, name: &str) -> Arc<DownstreamTls> {
        let spec = DownstreamTlsSpec {
            identity: Some(self.identity(&[name])),
            trust: Some(self.trust(&[])),
            require_client_certificate: true,
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            allow_tls12: false,
        };
        Arc::new(DownstreamTls::prepare(&spec).unwrap())
    }

    fn client(&self, name: &str, expects: &str) -> Arc<UpstreamTls> {
        let spec = UpstreamTlsSpec {
            identity: Some(self.identity(&[name])),
            trust: Some(self.trust(&[expects])),
            sni: Some("http.web.shop.test".into()),
            ..UpstreamTlsSpec::default()
        };
        Arc::new(UpstreamTls::prepare(&spec).unwrap())
    }
}

const WEB: &str = "spiffe://test/ns/shop/svc/web";
const CART: &str = "spiffe://test/ns/shop/svc/cart";

/// An inbound sidecar in front of an origin.
async fn inbound(authority: &Authority) -> (Origin, Setup, Proxy) {
    let origin = Origin::start().await;
    let mut setup = Setup::new();
    setup.cluster("app", &[origin.address], |cluster| cluster.http.protocol = UpstreamProtocol::Downstream);
    setup.routes("routes", vec![to_cluster("app", |_| {})]);
    let manager = setup.manager(|manager| {
        manager.forward_client_cert = ForwardClientCert::SanitizeSet;
        manager.client_cert_details = ClientCertDetails { uri: true, dns: true, ..Default::default() };
    });
    let mut served = chain(1, Terminal::Http(manager), Some(authority.server(WEB)));
    served.matches.server_names = vec!["http.web.shop.test".into()];
    setup.listener("in", vec![served], |listener| listener.inspection.tls = true);
    let proxy = setup.start().await;
    (origin, setup, proxy)
}

async fn outbound(inbound: &Proxy, tls: Arc<UpstreamTls>, protocol: UpstreamProtocol) -> (Setup, Proxy) {
    let mut setup = Setup::new();
    setup.cluster("web", &[inbound.address], |cluster| {
        cluster.http.protocol = protocol;
        cluster.transports = vec![Transport::Tls(tls)];
    });
    setup.routes("routes", vec![to_cluster("web", |_| {})]).http_listener(|_| {});
    let proxy = setup.start().await;
    (setup, proxy)
}

#[tokio::test]
async fn two_sidecars_carry_each_protocol_over_mutual_tls() {
    let authority = Authority::new();
    let (_origin, _setup, web) = inbound(&authority).await;
    for protocol in [
        UpstreamProtocol::Http1,
        UpstreamProtocol::Http2,
        UpstreamProtocol::Downstream,
        UpstreamProtocol::Auto,
    ] {
        let (_out, cart) = outbound(&web, authority.client(CART, WEB), protocol).await;
        for mut client in [cart.h1().await, cart.h2().await] {
            let mut request = client.request(Method::GET, "/head", empty());
            request.headers_mut().insert("x-forwarded-client-cert", "By=spiffe://evil".parse().unwrap());
            let answer = client.exchange(request).await;
            assert_eq!(answer.status, StatusCode::OK, "{protocol:?}: {}", answer.text());
            let seen = answer.seen();
            let xfcc = seen["x-forwarded-client-cert"];
            assert!(xfcc.starts_with(&format!("By={WEB};Hash=")), "{xfcc}");
            assert!(xfcc.ends_with(&format!(";URI={CART}")), "{xfcc}");
            assert_eq!(seen["x-forwarded-proto"], "http", "the first proxy saw plaintext");
        }
    }
}

#[tokio::test]
async fn a_server_with_another_identity_is_not_spoken_to() {
    let authority = Authority::new();
    let (origin, _setup, web) = inbound(&authority).await;
    let (_out, cart) = outbound(&web, authority.client(CART, CART), UpstreamProtocol::Http1).await;
    let answer = cart.h1().await.get("/hello").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("TLS_error"), "{}", answer.text());
    assert_eq!(origin.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn plaintext_foreign_and_doubtful_clients_are_refused() {
    let authority = Authority::new();
    let (origin, mut setup, mut web) = inbound(&authority).await;
    let mut plain = TcpStream::connect(web.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert_eq!(plain.read(&mut [0; 64]).await.unwrap_or(0), 0);
    let foreign = Authority::new();
    let doubtful =
        [foreign.identity(&[CART]), authority.identity(&[CART, "spiffe://test/ns/shop/svc/other"])];
    for identity in doubtful {
        let spec = UpstreamTlsSpec {
            identity: Some(identity),
            trust: Some(authority.trust(&[WEB])),
            sni: Some("http.web.shop.test".into()),
            ..UpstreamTlsSpec::default()
        };
        let tls = Arc::new(UpstreamTls::prepare(&spec).unwrap());
        let (_out, cart) = outbound(&web, tls, UpstreamProtocol::Http1).await;
        assert_eq!(cart.h1().await.get("/hello").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(origin.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
    web.wait_for(&setup, "listener.in.no_filter_chain_match", 1).await;
    web.wait_for(&setup, "listener.in.ssl.connection_error", 2).await;
    setup.build();
}

fn client_config(authority: &Authority, alpn: &[&[u8]]) -> Arc<rustls::ClientConfig> {
    let (chain, key) = authority.pem(&[CART]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(Anyone(provider.clone()));
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// The test looks at the server through its own proxy elsewhere; here any certificate will do.
#[derive(Debug)]
struct Anyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        m: &[u8],
        c: &CertificateDer<'_>,
        d: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(m, c, d, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_client_hello_in_single_bytes_is_understood() {
    let authority = Authority::new();
    let (_origin, _setup, web) = inbound(&authority).await;
    let tcp = TcpStream::connect(web.address).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let (slow, fast) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let (mut from, mut to) = tokio::io::split(fast);
        let (mut back, mut out) = tcp.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut back, &mut to).await });
        let mut byte = [0];
        let mut sent = 0_u32;
        while from.read_exact(&mut byte).await.is_ok() {
            out.write_all(&byte).await.unwrap();
            sent += 1;
            if sent.is_multiple_of(64) {
                tokio::task::yield_now().await;
            }
        }
    });
    let connector = tokio_rustls::TlsConnector::from(client_config(&authority, &[b"h2"]));
    let name = ServerName::try_from("http.web.shop.test").unwrap();
    let tls = connector.connect(name, slow).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(Client::h2(tls).await.get("/hello").await.text(), "hello from /hello");
}

#[tokio::test]
async fn a_name_that_no_chain_has_is_closed() {
    let authority = Authority::new();
    let (_origin, setup, mut web) = inbound(&authority).await;
    let connector = tokio_rustls::TlsConnector::from(client_config(&authority, &[]));
    let tcp = TcpStream::connect(web.address).await.unwrap();
    let name = ServerName::try_from("grpc.web.shop.test").unwrap();
    assert!(connector.connect(name, tcp).await.is_err());
    web.wait_for(&setup, "listener.in.no_filter_chain_match", 1).await;
}

#[tokio::test]
async fn certificates_rotate_without_a_failed_request_or_a_closed_connection() {
    let authority = Authority::new();
    let (origin, mut inside, mut web) = inbound(&authority).await;
    let (mut outside, mut cart) = outbound(&web, authority.client(CART, WEB), UpstreamProtocol::Http1).await;
    let mut client = cart.h1().await;
    for round in 0..10 {
        assert_eq!(client.get("/hello").await.status, StatusCode::OK, "round {round}");
        let manager = inside.manager(|_| {});
        let mut served = chain(1, Terminal::Http(manager), Some(authority.server(WEB)));
        served.matches.server_names = vec!["http.web.shop.test".into()];
        inside.listener("in", vec![served], |listener| listener.inspection.tls = true);
        assert!(web.engine().swap(inside.build()).await.is_empty());
        let tls = authority.client(CART, WEB);
        outside.cluster("web", &[web.address], |cluster| cluster.transports = vec![Transport::Tls(tls)]);
        assert!(cart.engine().swap(outside.build()).await.is_empty());
    }
    assert_eq!(origin.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    cart.wait_for(&outside, "cluster.web.upstream_cx_total", 1).await;
}

#[tokio::test]
async fn a_peer_that_is_no_longer_trusted_is_cut_off() {
    let authority = Authority::new();
    let (_origin, mut inside, mut web) = inbound(&authority).await;
    let (_outside, cart) = outbound(&web, authority.client(CART, WEB), UpstreamProtocol::Http1).await;
    let mut client = cart.h1().await;
    assert_eq!(client.get("/hello").await.status, StatusCode::OK);
    let spec = DownstreamTlsSpec {
        identity: Some(authority.identity(&[WEB])),
        trust: Some(Authority::new().trust(&[])),
        require_client_certificate: true,
        ..DownstreamTlsSpec::default()
    };
    let manager = inside.manager(|_| {});
    let distrusting =
        chain(1, Terminal::Http(manager), Some(Arc::new(DownstreamTls::prepare(&spec).unwrap())));
    inside.listener("in", vec![distrusting], |listener| listener.inspection.tls = true);
    assert!(web.engine().swap(inside.build()).await.is_empty());
    web.wait_for(&inside, "http.in.downstream_cx_active", 0).await;
    assert_eq!(client.get("/hello").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

/// A client of the inbound sidecar with a certificate of its own, over HTTP/1.1.
async fn enter(authority: &Authority, web: &Proxy, change: impl FnOnce(&mut CertificateParams)) -> Client {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(CART.try_into().unwrap())];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    let leaf = params.signed_by(&key, &authority.issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        .with_client_auth_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
        )
        .unwrap();
    let tcp = TcpStream::connect(web.address).await.unwrap();
    let name = ServerName::try_from("http.web.shop.test").unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    Client::h1(tls).await
}

#[tokio::test]
async fn a_connection_ends_before_the_certificate_of_its_peer() {
    let authority = Authority::new();
    let (_origin, setup, mut web) = inbound(&authority).await;
    let expiry = time::OffsetDateTime::now_utc() + time::Duration::seconds(5);
    let mut client = enter(&authority, &web, |params| params.not_after = expiry).await;
    assert_eq!(client.get("/hello").await.status, StatusCode::OK);
    web.wait_for(&setup, "http.in.downstream_cx_active", 0).await;
    assert!(time::OffsetDateTime::now_utc() < expiry, "it ends while the certificate is good");
    let mut lasting = enter(&authority, &web, |_| {}).await;
    assert_eq!(lasting.get("/hello").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_revoked_certificate_is_cut_off_and_let_in_no_more() {
    let authority = Authority::new();
    let (_origin, mut inside, mut web) = inbound(&authority).await;
    let serial = || rcgen::SerialNumber::from(4711_u64);
    let mut revoked = enter(&authority, &web, |params| params.serial_number = Some(serial())).await;
    assert_eq!(revoked.get("/hello").await.status, StatusCode::OK);
    let now = time::OffsetDateTime::now_utc();
    let list = rcgen::CertificateRevocationListParams {
        this_update: now - time::Duration::minutes(1),
        next_update: now + time::Duration::hours(1),
        crl_number: rcgen::SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: serial(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&authority.issuer).unwrap();
    let spec = DownstreamTlsSpec {
        identity: Some(authority.identity(&[WEB])),
        trust: Some(TrustSpec {
            crls: vec![list.der().clone()],
            only_leaf_crl: true,
            ..authority.trust(&[])
        }),
        require_client_certificate: true,
        ..DownstreamTlsSpec::default()
    };
    let manager = inside.manager(|_| {});
    let mut checking =
        chain(1, Terminal::Http(manager), Some(Arc::new(DownstreamTls::prepare(&spec).unwrap())));
    checking.matches.server_names = vec!["http.web.shop.test".into()];
    inside.listener("in", vec![checking], |listener| listener.inspection.tls = true);
    assert!(web.engine().swap(inside.build()).await.is_empty());
    web.wait_for(&inside, "http.in.downstream_cx_active", 0).await;
    let mut good = enter(&authority, &web, |_| {}).await;
    assert_eq!(good.get("/hello").await.status, StatusCode::OK, "others are let in");
    let mut again = enter(&authority, &web, |params| params.serial_number = Some(serial())).await;
    let request = again.request(Method::GET, "/hello", empty());
    assert!(again.send(request).await.is_err(), "a revoked certificate is refused");
}

#[tokio::test]
async fn a_websocket_passes_over_mutual_tls() {
    let authority = Authority::new();
    let (_origin, _setup, web) = inbound(&authority).await;
    let (_out, cart) = outbound(&web, authority.client(CART, WEB), UpstreamProtocol::Downstream).await;
    let mut client = cart.h1().await;
    let mut request = client.request(Method::GET, "/websocket", empty());
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
    let mut response = client.send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = hyper_util::rt::TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut answer = [0; 5];
    io.write_all(b"hello").await.unwrap();
    io.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HELLO");
}
