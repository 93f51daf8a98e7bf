//! What one workload may ask of the control plane: bounded, answered with a sentence, counted, and no loss for others.

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType::UserAgentVersion;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tonic::{Code, Status};
use weft_api::ResourceKind;
use weft_api::rest::Sync;

use crate::peer::{Member, declared, join};
use crate::plane::{DEADLINE, Plane, service};
use crate::proxy::{Delta, node};

async fn mesh() -> (Plane, Member, Member) {
    let plane = Plane::start().await;
    plane.apply(&(service("web") + &service("cart"))).await;
    let web = join(&plane.join_token("shop/web").await, declared("web-1", "127.0.0.2")).await.unwrap();
    let cart = join(&plane.join_token("shop/cart").await, declared("cart-1", "127.0.0.3")).await.unwrap();
    (plane, web, cart)
}

/// D7: megabytes of refusal become a few KiB, in the API too, and the words at their beginning are kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d7_the_words_of_a_refusal_are_cut_before_anything_keeps_them() {
    let (plane, web, _) = mesh().await;
    let mut stream = Delta::open(&web, plane.running.xds).await;
    stream.subscribe(ResourceKind::Cluster, &["shop/cart/http"]).await;
    let clusters = stream.expect(ResourceKind::Cluster).await;
    stream
        .refuse(&clusters, &format!("shop/cart/http: no such \u{1b}[31msocket {}", "x".repeat(3_900_000)))
        .await;
    let status = plane.until("shop/web-1", "refusing", |status| status.sync == Sync::Refused).await;
    let message = &status.types[ResourceKind::Cluster.short()].refused[0].message;
    assert!(message.starts_with("shop/cart/http: no such \u{fffd}[31msocket xxx"), "{}", &message[..60]);
    assert!(message.len() <= 4096 && message.ends_with("bytes came)"), "{}", message.len());
    let (_, _, list) = plane.raw("GET", "/v1/proxies", Some(&plane.token), vec![]).await;
    assert!(list.len() < 16 << 10, "{} bytes", list.len());
}

/// M4(d): a client's name for itself is one short line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m4_a_user_agent_is_cut_to_one_short_line() {
    let (plane, web, _) = mesh().await;
    let calls_itself = Node {
        user_agent_name: format!("envoy\u{1b}[2J\n{}", "x".repeat(3 << 20)),
        user_agent_version_type: Some(UserAgentVersion("1.40.0".to_owned())),
        ..node(&web.id)
    };
    let mut stream = Delta::open_with(&web, calls_itself, plane.running.xds).await.unwrap();
    stream.subscribe(ResourceKind::Cluster, &[]).await;
    stream.expect(ResourceKind::Cluster).await;
    let status = plane.until("shop/web-1", "connected", |status| status.streams == 1).await;
    assert!(status.user_agent.starts_with("envoy\u{fffd}[2J xxx"), "{:?}", status.user_agent);
    assert!(status.user_agent.len() <= 256, "{}", status.user_agent.len());
}

/// D8, M4(a): 10,000 names of a type on one stream, and no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_m4_too_many_names_end_the_stream_and_are_counted() {
    let (plane, web, _) = mesh().await;
    let names: Vec<String> = (0..10_001).map(|n| format!("shop/s{n}/http")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut stream = Delta::open(&web, plane.running.xds).await;
    stream.subscribe(ResourceKind::Endpoint, &names[1..]).await;
    stream.expect(ResourceKind::Endpoint).await;
    stream.subscribe(ResourceKind::Endpoint, &names[..1]).await;
    let ended = stream.next().await.unwrap_err();
    assert_eq!(ended.code(), Code::ResourceExhausted);
    assert!(ended.message().contains("more than 10000 names"), "{ended}");
    assert!(plane.metrics().await.contains(r#"weft_xds_streams_refused_total{bound="names"} 1"#));
}

/// M3, R4: one workload that opens streams without end is refused by its own bucket; others open theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_r4_a_storm_of_one_workload_refuses_no_other() {
    let (plane, web, cart) = mesh().await;
    let storm = AggregatedDiscoveryServiceClient::new(web.channel(plane.running.xds).await);
    let again = || {
        let mut client = storm.clone();
        async move {
            client.delta_aggregated_resources(tokio_stream::empty::<DeltaDiscoveryRequest>()).await.err()
        }
    };
    let mut refused: Vec<Status> = Vec::new();
    for _ in 0..100 {
        refused.extend(futures::future::join_all((0..20).map(|_| again())).await.into_iter().flatten());
    }
    // The bucket of all would have been empty twenty times over.
    assert!(refused.len() > 1_500, "{}", refused.len());
    let other = refused.iter().find(|status| status.code() != Code::ResourceExhausted);
    assert!(other.is_none(), "{other:?}");
    // The first may have met the bound on streams at once, where they end slowly.
    assert!(refused.iter().any(|status| status.message().contains("of this workload")), "{}", refused[0]);
    for _ in 0..10 {
        let mut stream = Delta::open(&cart, plane.running.xds).await;
        stream.subscribe(ResourceKind::Cluster, &[]).await;
        stream.expect(ResourceKind::Cluster).await;
    }
    let metrics = plane.metrics().await;
    assert!(metrics.contains(r#"weft_xds_streams_refused_total{bound="rate"}"#), "{metrics}");
    assert!(!metrics.contains(r#"weft_xds_streams_refused_total{bound="crowd"}"#), "{metrics}");
}

/// D8: 16 streams of one workload; the next is told so, and a place is free once one has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d8_streams_of_one_workload_are_bounded_and_end_with_their_connection() {
    let (plane, web, _) = mesh().await;
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut stream = Delta::open(&web, plane.running.xds).await;
        stream.subscribe(ResourceKind::Cluster, &[]).await;
        stream.expect(ResourceKind::Cluster).await;
        open.push(stream);
    }
    let refused = Delta::open_as(&web, &web.id, plane.running.xds).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("16 discovery streams"), "{refused}");
    open.clear();
    let room = async {
        while Delta::open_as(&web, &web.id, plane.running.xds).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, room).await.expect("room in time");
    let metrics = plane.metrics().await;
    assert!(metrics.contains(r#"weft_xds_streams_refused_total{bound="streams"}"#), "{metrics}");
}
