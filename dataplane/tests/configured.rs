//! Features of a bootstrap file through the binary: what is written there happens between real sockets.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "support/binary.rs"]
mod binary;

use std::time::Duration;

use binary::{
    Application, MANAGER, Proxy, ROUTER, cluster, free_port, get, http_listener, raw, soon, status,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_is_left_alone_and_comes_back() {
    let (good, bad, port) = (Application::start().await, Application::start().await, free_port());
    *bad.status.lock().unwrap() = "500 Internal Server Error";
    let outliers = ", outlier_detection: {consecutive_5xx: 2, interval: 0.1s, base_ejection_time: 0.5s, max_ejection_percent: 50}";
    let clusters = cluster("app", &[good.port, bad.port], outliers);
    let proxy = Proxy::start(&http_listener(port, "", "", ""), &clusters, "").await;
    for _ in 0..8 {
        get(port, "/", "").await;
    }
    assert_eq!(bad.seen().len(), 2, "two failures in a row are enough");
    proxy.wait_for("cluster.app.outlier_detection.ejections_enforced_consecutive_5xx", 1).await;
    *bad.status.lock().unwrap() = "200 OK";
    soon(async {
        while bad.seen().len() == 2 {
            assert_eq!(status(&get(port, "/", "").await), 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_names_policy_and_rule_and_the_json_log_has_it() {
    let (application, port) = (Application::start().await, free_port());
    let log = tempfile::NamedTempFile::new().unwrap();
    let rbac = r#"{name: rbac, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY, policies: {shop/no-deletes/0: {permissions: [{header: {name: ":method", string_match: {exact: DELETE}}}], principals: [{any: true}]}}}}}, "#;
    let manager = format!(
        r#"          local_reply_config: {{body_format: {{text_format_source: {{inline_string: "%LOCAL_REPLY_BODY% (%RESPONSE_CODE_DETAILS%)\n"}}}}}}
          access_log: [{{name: log, typed_config: {{"@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: {}, log_format: {{json_format: {{code: "%RESPONSE_CODE%", flags: "%RESPONSE_FLAGS%", method: "%REQ(:METHOD)%", why: "%RESPONSE_CODE_DETAILS%", none: "%REQ(X-NONE)%"}}}}}}}}]
"#,
        log.path().display()
    );
    let _proxy =
        Proxy::start(&http_listener(port, &manager, rbac, ""), &cluster("app", &[application.port], ""), "")
            .await;
    let answer = raw(port, "DELETE / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), 403, "{answer}");
    assert!(answer.contains("rbac_access_denied_matched_policy[shop/no-deletes/0]"), "{answer}");
    assert!(application.seen().is_empty());
    let line = soon(async {
        loop {
            let text = std::fs::read_to_string(log.path()).unwrap();
            if text.ends_with('\n') {
                break text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let why = "rbac_access_denied_matched_policy[shop/no-deletes/0]";
    assert_eq!(
        line,
        serde_json::json!({"code": 403, "flags": "-", "method": "DELETE", "why": why, "none": null})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_without_a_body_and_offers_of_h2c_pass() {
    let (application, port) = (Application::start().await, free_port());
    let manager = "          always_set_request_id_in_response: true\n";
    let clusters = cluster("app", &[application.port], "");
    let _proxy = Proxy::start(&http_listener(port, manager, "", ""), &clusters, "").await;
    let unmodified = get(port, "/304", "").await;
    assert_eq!(status(&unmodified), 304, "{unmodified}");
    assert!(unmodified.contains("etag: \"x\"") && unmodified.ends_with("\r\n\r\n"), "{unmodified}");
    assert!(unmodified.contains("x-request-id: "), "{unmodified}");
    let h2c = "upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    let answer = raw(
        port,
        format!("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings, close\r\n{h2c}\r\n"),
    )
    .await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert!(!answer.contains("h2c") && !answer.contains("http2-settings"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_asked_for_before_it_is_sent() {
    let (application, port) = (Application::start().await, free_port());
    let clusters = cluster("app", &[application.port], "");
    let _proxy = Proxy::start(&http_listener(port, "", "", ""), &clusters, "").await;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut first = [0; 25];
    soon(stream.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let mut rest = String::new();
    soon(stream.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.starts_with("HTTP/1.1 200 OK") && rest.ends_with("body"), "{rest}");
}

fn tcp_listener(port: u16, more: &str, filters: &str) -> String {
    format!(
        r#"  - name: tcp-{port}
    address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains: [{{filters: [{filters}{{name: tcp, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: tcp, {more}}}}}]}}]
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_is_split_by_weight_refused_by_policy_and_closed_when_silent() {
    let (one, two) = (Application::start().await, Application::start().await);
    let (split, silent, denied) = (free_port(), free_port(), free_port());
    let deny = r#"{name: rbac, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC, stat_prefix: guard, rules: {action: DENY, policies: {all: {permissions: [{any: true}], principals: [{any: true}]}}}}}, "#;
    let listeners = [
        tcp_listener(
            split,
            "weighted_clusters: {clusters: [{name: one, weight: 3}, {name: two, weight: 1}]}",
            "",
        ),
        tcp_listener(silent, "cluster: one, idle_timeout: 0.3s", ""),
        tcp_listener(denied, "cluster: two", deny),
    ]
    .concat();
    let clusters = [cluster("one", &[one.port], ""), cluster("two", &[two.port], "")].concat();
    let proxy = Proxy::start(&listeners, &clusters, "").await;
    for _ in 0..80 {
        assert_eq!(status(&get_through(split).await), 200);
    }
    let (first, second) = (one.seen().len(), two.seen().len());
    assert_eq!(first + second, 80);
    assert!((45..76).contains(&first), "{first} and {second}");
    let mut stream = TcpStream::connect(("127.0.0.1", silent)).await.unwrap();
    assert_eq!(soon(stream.read(&mut [0; 8])).await.unwrap(), 0, "a silent connection is closed");
    proxy.wait_for("tcp.tcp.idle_timeout", 1).await;
    assert_eq!(raw(denied, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await, "");
    assert_eq!(two.seen().len(), second);
    proxy.wait_for("guard.rbac.denied", 1).await;
}

/// A request over TCP of which the answer's head is read; the server keeps the connection open.
async fn get_through(port: u16) -> String {
    soon(async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1024];
        let n = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..n]).into_owned()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_resolved() {
    for kind in ["STRICT_DNS", "LOGICAL_DNS"] {
        let (application, port) = (Application::start().await, free_port());
        let clusters = format!(
            "  - {{name: app, type: {kind}, dns_lookup_family: V4_ONLY, load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: localhost, port_value: {}}}}}}}}}]}}]}}}}\n",
            application.port
        );
        let _proxy = Proxy::start(&http_listener(port, "", "", ""), &clusters, "").await;
        assert_eq!(status(&get(port, "/", "").await), 200, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_followed_when_they_are_replaced() {
    let (one, two, port) = (Application::start().await, Application::start().await, free_port());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, kind: &str, text: &str| {
        let text = format!("resources:\n- \"@type\": type.googleapis.com/{kind}\n{text}");
        std::fs::write(path("new"), text).unwrap();
        std::fs::rename(path("new"), path(name)).unwrap();
    };
    let endpoints = |port: u16| {
        format!(
            "  name: app\n  load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]}}\n"
        )
    };
    write("cds.yaml", "envoy.config.cluster.v3.Cluster", &endpoints(one.port));
    let listener = format!(
        "  name: in\n  address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}\n  filter_chains: [{{filters: [{{name: http, typed_config: {{{MANAGER}, stat_prefix: in, http_filters: [{ROUTER}], route_config: {{virtual_hosts: [{{name: all, domains: [\"*\"], routes: [{{match: {{prefix: /}}, route: {{cluster: app}}}}]}}]}}}}}}]}}]\n"
    );
    write("lds.yaml", "envoy.config.listener.v3.Listener", &listener);
    let source = |name: &str| {
        format!("{{path_config_source: {{path: {}}}, resource_api_version: V3}}", path(name).display())
    };
    let dynamic = format!(
        "dynamic_resources: {{lds_config: {}, cds_config: {}}}",
        source("lds.yaml"),
        source("cds.yaml")
    );
    let _proxy = Proxy::start("", "", &dynamic).await;
    assert!(get(port, "/", "").await.contains(&format!("x-port: {}", one.port)));
    write("cds.yaml", "envoy.config.cluster.v3.Cluster", &endpoints(two.port));
    soon(async {
        while !get(port, "/", "").await.contains(&format!("x-port: {}", two.port)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
