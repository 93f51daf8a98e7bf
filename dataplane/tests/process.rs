//! The process: what it is started with, signals, and what the machine gives it.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "support/binary.rs"]
mod binary;

use binary::{Application, Proxy, cluster, free_port, get, http_listener, refused, soon, status};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;

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
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["a.test".into()]).unwrap().self_signed(&key).unwrap();
    let inline = |text: &str| serde_json::json!({"inline_string": text});
    let context = serde_json::json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {"tls_certificates": [
            {"certificate_chain": inline(&certificate.pem()), "private_key": inline(&key.serialize_pem())},
        ]},
    });
    let port = free_port();
    let tls = format!("      transport_socket: {{name: tls, typed_config: {context}}}");
    let listeners = [good, http_listener(port, "", "", &tls)].concat();
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
