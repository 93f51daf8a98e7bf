//! The real binary against a discovery server in this process: readiness, traffic, refusals by name, a server that
//! goes away, and the end by SIGTERM.

#![allow(clippy::unwrap_used, reason = "a test ends where an expectation fails")]

mod harness;
mod virtual_hosts;

use std::time::Duration;

use harness::{Proxy, Server, application, free_port, soon};
use weft_api::ResourceKind;
use weft_xds::server::SessionEvent;

/// Cluster, endpoints, listener and routes of one application.
fn resources(listen: u16, application: u16) -> Vec<std::sync::Arc<weft_api::Resource>> {
    vec![
        harness::cluster("app", ""),
        harness::endpoints("app", application),
        harness::listener("web", listen),
        harness::routes("web-routes", "app"),
    ]
}

async fn serves_and_follows(api_type: &str) {
    let (one, two) = (application("one").await, application("two").await);
    let listen = free_port();
    let mut server = Server::start().await;
    server.publish(&resources(listen, one));
    let proxy = Proxy::start(server.port(), api_type, &[]);
    proxy.until_ready().await;
    assert_eq!(harness::get(listen).await.unwrap(), "one", "ready means that every worker serves");
    server.publish(&resources(listen, two));
    soon(async {
        while harness::get(listen).await.unwrap() != "two" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_by_delta_ads_and_follows_a_change_of_endpoints() {
    serves_and_follows("DELTA_GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_by_state_of_the_world_ads_and_follows_a_change_of_endpoints() {
    serves_and_follows("GRPC").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_resource_is_refused_by_name_and_field_while_its_sibling_serves() {
    let one = application("one").await;
    let (listen, other) = (free_port(), free_port());
    let mut server = Server::start().await;
    server.publish(&resources(listen, one));
    let proxy = Proxy::start(server.port(), "DELTA_GRPC", &[]);
    proxy.until_ready().await;
    let mut changed = resources(listen, one);
    changed[0] = harness::cluster("app", "lb_policy: CLUSTER_PROVIDED");
    changed.push(harness::cluster("second", ""));
    changed.push(harness::endpoints("second", one));
    changed.push(harness::listener_with("sibling", other, "sibling-routes"));
    changed.push(harness::routes("sibling-routes", "second"));
    server.publish(&changed);
    let words = soon(server.event(|event| match event {
        SessionEvent::Nacked { kind: ResourceKind::Cluster, message, .. } => Some(message.clone()),
        _ => None,
    }))
    .await;
    assert!(words.starts_with("app: lb_policy CLUSTER_PROVIDED:"), "{words}");
    soon(async {
        while harness::get(other).await.ok().as_deref() != Some("one") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(harness::get(listen).await.unwrap(), "one", "the version before goes on");
    let dump = proxy.admin("/config_dump?resource=dynamic_active_clusters&name_regex=%5Eapp$").await;
    assert!(dump.contains("error_state") && dump.contains("lb_policy CLUSTER_PROVIDED"), "{dump}");
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_away_and_comes_back_costs_no_request() {
    let one = application("one").await;
    let listen = free_port();
    let mut server = Server::start().await;
    server.publish(&resources(listen, one));
    let proxy = Proxy::start(server.port(), "DELTA_GRPC", &[]);
    proxy.until_ready().await;
    let port = server.port();
    server.stop().await;
    for _ in 0..50 {
        assert_eq!(harness::get(listen).await.unwrap(), "one");
    }
    let mut server = Server::start_on(port).await;
    let two = application("two").await;
    server.publish(&resources(listen, two));
    soon(async {
        while harness::get(listen).await.unwrap() != "two" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(proxy.admin("/ready").await.ends_with("LIVE\n"));
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_not_ready_before_the_endpoints_are_there() {
    let one = application("one").await;
    let listen = free_port();
    let mut server = Server::start().await;
    let all = resources(listen, one);
    // The routes are missing: the listener must not open.
    server.publish(&all[..3]);
    let proxy = Proxy::start(server.port(), "GRPC", &[]);
    soon(server.event(|event| {
        matches!(event, SessionEvent::Sent { kind: ResourceKind::Listener, .. }).then_some(())
    }))
    .await;
    assert!(!proxy.admin("/ready").await.contains("LIVE"));
    assert!(harness::get(listen).await.is_err(), "nobody listens yet");
    server.publish(&all);
    proxy.until_ready().await;
    assert_eq!(harness::get(listen).await.unwrap(), "one");
    assert_eq!(proxy.end().await, Some(0));
}

#[tokio::test]
async fn wrong_usage_exits_64_and_names_what_is_wrong() {
    for (args, named) in [
        (vec!["run", "--workers", "none"], "--workers"),
        (vec!["run", "-c", "/nonexistent/bootstrap.yaml"], "/nonexistent/bootstrap.yaml"),
        (vec!["run", "--config", "/nonexistent/flags.yaml"], "/nonexistent/flags.yaml"),
        (vec!["join", "--join", "nonsense"], "--join"),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_weft-proxy"))
            .args(&args)
            .env("WEFT_IDENTITY_DIR", std::env::temp_dir().join("weft-proxy-usage"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
        assert!(said.contains(named), "{args:?}: {said}");
    }
}

#[tokio::test]
async fn a_static_resource_that_cannot_be_used_is_named_and_exits_64() {
    let file = harness::write(
        "static_resources: {clusters: [{name: a, lb_policy: CLUSTER_PROVIDED, load_assignment: {cluster_name: a}}]}",
    );
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_weft-proxy"))
        .args(["run", "--admin-listen", "127.0.0.1:0", "-c", file.path().to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("\"a\"") && said.contains("lb_policy CLUSTER_PROVIDED"), "{said}");
}
