//! The process: what it is started with, signals, what the machine gives it, and what it says in its log.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "support/binary.rs"]
mod binary;

use binary::{Application, Proxy, cluster, free_port, get, http_listener, refused, soon, status};
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, SerialNumber};
use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Issues certificates, and the contexts of a bootstrap file that use them.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

fn inline(text: &str) -> serde_json::Value {
    serde_json::json!({"inline_string": text})
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// Certificate and key in PEM.
    fn leaf(&self, serial: u64) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.test".into()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn revokes(&self, serial: u64) -> String {
        let now = time::OffsetDateTime::now_utc();
        let revoked = rcgen::RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: now - time::Duration::HOUR,
            next_update: now + time::Duration::HOUR,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// A listener's context; with a validation context that has this list of revoked certificates, if any.
    fn listener_tls(&self, list: Option<&str>) -> String {
        let (certificate, key) = self.leaf(1);
        let mut common = serde_json::json!({"tls_certificates": [
            {"certificate_chain": inline(&certificate), "private_key": inline(&key)},
        ]});
        if let Some(list) = list {
            common["validation_context"] = serde_json::json!({
                "trusted_ca": inline(&self.root), "crl": inline(list), "only_verify_leaf_cert_crl": true,
            });
        }
        let context = serde_json::json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": common,
        });
        format!("      transport_socket: {{name: tls, typed_config: {context}}}")
    }

    /// A client that presents a certificate with this serial number, if any, and trusts this authority.
    fn client(&self, serial: Option<u64>) -> tokio_rustls::TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.root.as_bytes()).unwrap()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match serial {
            None => builder.with_no_client_auth(),
            Some(serial) => {
                let (certificate, key) = self.leaf(serial);
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        std::sync::Arc::new(config).into()
    }
}

/// The first bytes that a server of these clients sends, or why there are none.
async fn knock(client: &tokio_rustls::TlsConnector, port: u16) -> std::io::Result<usize> {
    let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut tls = client.connect(ServerName::try_from("a.test").unwrap(), tcp).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
    soon(tls.read(&mut [0; 64])).await
}

async fn application() -> (Application, String, String, u16) {
    let (application, port) = (Application::start().await, free_port());
    let listeners = http_listener(port, "", "", "");
    let clusters = cluster("app", &[application.port], "");
    (application, listeners, clusters, port)
}

/// M10: a terminal that closes, or a habit of reloading, cuts nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_is_ignored_with_a_line_in_the_log() {
    let (_application, listeners, clusters, port) = application().await;
    let proxy = Proxy::start(&listeners, &clusters, "").await;
    let process = Pid::from_raw(proxy.id().cast_signed()).unwrap();
    kill_process(process, Signal::HUP).unwrap();
    proxy.logs("SIGHUP is ignored").await;
    assert_eq!(status(&get(port, "/", "").await), 200);
}

/// M5: a listener that decodes and cannot be prepared is no reason to serve the others and say "ready".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_listener_that_cannot_be_prepared_ends_the_start() {
    let (_application, good, clusters, _) = application().await;
    let authority = Authority::new();
    let port = free_port();
    let listeners = [good, http_listener(port, "", "", &authority.listener_tls(None))].concat();
    let (code, text) = refused(&listeners, &clusters, "").await;
    assert_eq!(code, Some(64), "{text}");
    for part in [&*format!("in-{port}"), "filter_chains[0]", "require_client_certificate", "trusted_ca"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_open_files_is_raised_to_what_is_allowed() {
    let (_application, listeners, clusters, _) = application().await;
    let proxy = Proxy::start_after("ulimit -S -n 256", &listeners, &clusters, "").await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", proxy.id())).unwrap();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let limit: Vec<&str> = limit.split_whitespace().collect();
    assert_eq!(limit[0], limit[1], "{limits}");
    assert!(proxy.log().contains("the limit of open files is raised"), "{}", proxy.log());
}

/// L9: without descriptors the proxy waits and says so once, not with every try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_out_of_open_files_is_logged_once_and_gets_over() {
    let (_application, listeners, clusters, port) = application().await;
    let proxy = Proxy::start_after("ulimit -n 64", &listeners, &clusters, "").await;
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    proxy.logs("accept failed").await;
    // Twenty tries, were each logged: the wait is what is tested.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(proxy.log().matches("accept failed").count(), 1, "{}", proxy.log());
    drop(held);
    soon(async { while status(&get(port, "/", "").await) != 200 {} }).await;
}

/// H5 and its log: who was refused, and why, once a minute each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_handshakes_of_clients_are_logged_once_with_peer_and_reason() {
    let (authority, application, port) = (Authority::new(), Application::start().await, free_port());
    let clusters = cluster("app", &[application.port], "");
    let tls = authority.listener_tls(Some(&authority.revokes(7)));
    let proxy = Proxy::start(&http_listener(port, "", "", &tls), &clusters, "").await;
    let (good, revoked, nobody) =
        (authority.client(Some(8)), authority.client(Some(7)), authority.client(None));
    let foreign = Authority { root: authority.root.clone(), ..Authority::new() }.client(Some(9));
    for _ in 0..4 {
        assert!(knock(&good, port).await.unwrap() > 0);
        for refused in [&revoked, &nobody, &foreign] {
            assert!(!knock(refused, port).await.is_ok_and(|n| n > 0));
        }
    }
    let listener = format!("listener.127.0.0.1_{port}.ssl");
    proxy.wait_for(&format!("{listener}.fail_verify_error"), 8).await;
    proxy.wait_for(&format!("{listener}.fail_verify_no_cert"), 4).await;
    proxy.wait_for(&format!("{listener}.connection_error"), 0).await;
    let log = proxy.log();
    for (text, peer) in [
        ("the certificate is revoked", "serial 07"),
        ("no certificate was presented", "127.0.0.1"),
        ("no root of the trust bundle has issued the certificate", "serial 09"),
    ] {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
        assert_eq!(lines.len(), 1, "{text}: {log}");
        assert!(lines[0].contains(peer) && lines[0].contains("handshake failed"), "{}", lines[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_handshakes_with_servers_are_logged_once_with_peer_and_reason() {
    let (servers, callers) = (Authority::new(), Authority::new());
    let (application, inner, outer) = (Application::start().await, free_port(), free_port());
    let app = cluster("app", &[application.port], "");
    let server = http_listener(inner, "", "", &servers.listener_tls(Some(&servers.revokes(7))));
    let _server = Proxy::start(&server, &app, "").await;
    let secured = |root: &str, leaf: (String, String)| {
        let context = serde_json::json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [{"certificate_chain": inline(&leaf.0), "private_key": inline(&leaf.1)}],
                "validation_context": {"trusted_ca": inline(root)},
            },
        });
        cluster("app", &[inner], &format!(", transport_socket: {{name: tls, typed_config: {context}}}"))
    };
    let untrusted = secured(&callers.root, callers.leaf(2));
    let proxy = Proxy::start(&http_listener(outer, "", "", ""), &untrusted, "").await;
    for _ in 0..3 {
        assert_eq!(status(&get(outer, "/", "").await), 503);
    }
    proxy.wait_for("cluster.app.ssl.fail_verify_error", 3).await;
    let log = proxy.log();
    assert_eq!(log.matches("a TLS handshake with a server failed").count(), 1, "{log}");
    assert!(log.contains("no root of the trust bundle has issued the certificate"), "{log}");
    drop(proxy);
    let revoked = secured(&servers.root, servers.leaf(7));
    let proxy = Proxy::start(&http_listener(outer, "", "", ""), &revoked, "").await;
    for _ in 0..3 {
        assert_eq!(status(&get(outer, "/", "").await), 503);
    }
    proxy.logs("a server refused our certificate").await;
    let log = proxy.log();
    assert_eq!(log.matches("a server refused our certificate").count(), 1, "{log}");
    assert!(log.contains("CertificateRevoked"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_revocation_list_is_refused_by_field() {
    let (_application, _, clusters, port) = application().await;
    let tls = Authority::new().listener_tls(Some("nonsense"));
    let (code, text) = refused(&http_listener(port, "", "", &tls), &clusters, "").await;
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("validation_context.crl: crl cannot be read"), "{text}");
}
