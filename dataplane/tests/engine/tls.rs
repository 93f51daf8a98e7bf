//! Mutual TLS on both sides.

use std::sync::Arc;

use http::{Method, StatusCode};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_dataplane::runtime::{
    ClientCertDetails, DownstreamTls, DownstreamTlsSpec, ForwardClientCert, Terminal, Transport,
    UpstreamProtocol, UpstreamTls, UpstreamTlsSpec,
};

use crate::authority::{Anyone, Authority, CART, WEB};
use crate::harness::{Client, Origin, Proxy, Setup, chain, empty, to_cluster};

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
    let (out, mut cart) = outbound(&web, authority.client(CART, CART), UpstreamProtocol::Http1).await;
    let answer = cart.h1().await.get("/hello").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.text().contains("TLS_error"), "{}", answer.text());
    cart.wait_for(&out, "cluster.web.ssl.fail_verify_san", 1).await;
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
    web.wait_for(&setup, "listener.in.ssl.fail_verify_error", 2).await;
    web.wait_for(&setup, "listener.in.ssl.connection_error", 0).await;
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
