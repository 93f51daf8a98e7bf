//! A dynamic forward proxy through the binary: the host that a request names is looked up and connected to, within
//! bounds.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

#[path = "support/binary.rs"]
mod binary;

use binary::{Application, Proxy, free_port, http_listener, raw, status};

const RBAC: &str = r#"{name: rbac, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC, rules: {action: DENY, policies: {own: {permissions: [{matcher: {name: upstream, typed_config: {"@type": type.googleapis.com/envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher, upstream_ip: {address_prefix: 127.0.0.0, prefix_len: 8}}}}], principals: [{any: true}]}}}}}, "#;

fn filter(cache: &str) -> String {
    format!(
        r#"{{name: dynamic, typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig, dns_cache_config: {{name: hosts, dns_lookup_family: V4_ONLY{cache}}}}}}}, "#
    )
}

fn cluster(cache: &str) -> String {
    format!(
        r#"  - {{name: app, connect_timeout: 2s, lb_policy: CLUSTER_PROVIDED, cluster_type: {{name: envoy.clusters.dynamic_forward_proxy, typed_config: {{"@type": type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig, dns_cache_config: {{name: hosts, dns_lookup_family: V4_ONLY{cache}}}}}}}}}
"#
    )
}

async fn start(port: u16, cache: &str, more_filters: &str) -> Proxy {
    let filters = format!("{}{more_filters}", filter(cache));
    Proxy::start(&http_listener(port, "", &filters, ""), &cluster(cache), "").await
}

async fn get(port: u16, host: &str) -> String {
    raw(port, format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_that_a_request_names_is_found_once_and_connected_to() {
    let (application, port) = (Application::start().await, free_port());
    let proxy = start(port, "", "").await;
    for host in ["localhost", "LOCALHOST", "127.0.0.1"] {
        let answer = get(port, &format!("{host}:{}", application.port)).await;
        assert_eq!(status(&answer), 200, "{answer}");
        let seen = application.seen().pop().unwrap();
        assert!(seen.contains(&format!("host: {host}:{}", application.port)), "as it came: {seen}");
    }
    proxy.wait_for("dns_cache.hosts.dns_query_attempt", 1).await;
    proxy.wait_for("dns_cache.hosts.host_added", 2).await;
    let nowhere = get(port, "nowhere.invalid").await;
    assert_eq!(status(&nowhere), 503, "{nowhere}");
    assert!(nowhere.ends_with("DNS resolution failure"), "{nowhere}");
    proxy.wait_for("dns_cache.hosts.dns_query_failure", 1).await;
    for odd in ["", "a b", "localhost:0"] {
        let answer = get(port, odd).await;
        assert_eq!(status(&answer), 400, "{odd:?}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_filtered_or_refused_is_not_connected_to() {
    let (application, port) = (Application::start().await, free_port());
    let filtered = ", resolved_address_filter: {ranges: [{address_prefix: 127.0.0.0, prefix_len: 8}]}";
    let _proxy = start(port, filtered, "").await;
    for host in ["localhost", "127.0.0.1", "127.9.9.9", "[::ffff:127.0.0.1]"] {
        let answer = get(port, &format!("{host}:{}", application.port)).await;
        assert_eq!(status(&answer), 503, "{host}: {answer}");
    }
    let port = free_port();
    let _refusing = start(port, "", RBAC).await;
    for host in ["localhost", "127.0.0.1", "127.9.9.9"] {
        let answer = get(port, &format!("{host}:{}", application.port)).await;
        assert_eq!(status(&answer), 403, "{host}: {answer}");
    }
    assert_eq!(application.seen(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_many_hosts_are_kept_is_bounded_and_the_oldest_make_room_when_their_time_is_over() {
    let (one, other, port) = (Application::start().await, Application::start().await, free_port());
    let proxy = start(port, ", max_hosts: 2, host_ttl: 1s", "").await;
    for (host, at, expected) in
        [("127.0.0.1", one.port, 200), ("localhost", one.port, 200), ("127.0.0.1", other.port, 503)]
    {
        let answer = get(port, &format!("{host}:{at}")).await;
        assert_eq!(status(&answer), expected, "{host}: {answer}");
    }
    proxy.wait_for("dns_cache.hosts.host_overflow", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let answer = get(port, &format!("127.0.0.1:{}", other.port)).await;
    assert_eq!(status(&answer), 200, "{answer}");
    proxy.wait_for("dns_cache.hosts.host_removed", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_filter_there_is_no_host() {
    let (application, port) = (Application::start().await, free_port());
    let _proxy = Proxy::start(&http_listener(port, "", "", ""), &cluster(""), "").await;
    let answer = get(port, &format!("127.0.0.1:{}", application.port)).await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.ends_with("no healthy upstream"), "{answer}");
}
