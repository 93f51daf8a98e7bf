//! A member asks for too much, or says too much. It is bounded and told so, and the others notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use envoy_types::pb::io::prometheus::client::{Counter, Metric, MetricFamily};
use tokio_util::task::AbortOnDropHandle;
use tonic::Code;
use weft_api::ResourceKind;
use weft_e2e::harness::{Calls, Mesh, XdsStream, until};

use crate::ground::{ANSWER, beside, member, on_the_embedded_store, service};

on_the_embedded_store!(
    streams_of_one_identity_do_not_keep_others_out,
    names_of_a_subscription_are_bounded,
    words_of_a_refusal_are_bounded,
    user_agent_is_bounded_and_harmless,
    metrics_of_clusters_that_do_not_exist_are_not_kept,
);

/// M3 and `xds D8`: a bucket for all is emptied by one. The flood goes on all the time, and is refused for its own sake.
async fn streams_of_one_identity_do_not_keep_others_out(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let (greedy, other) = (member(mesh, "web", "web-1").await?, member(mesh, "catalog", "catalog-1").await?);
    let refused = Arc::new(AtomicUsize::new(0));
    let flood = AbortOnDropHandle::new(tokio::spawn({
        let (channel, id, refused) = (greedy.channel(mesh.xds()), greedy.id(), Arc::clone(&refused));
        async move {
            let mut open = Vec::new();
            loop {
                match XdsStream::open(channel.clone(), &id).await {
                    Ok(stream) => {
                        stream.ask(ResourceKind::Cluster, &[]).await;
                        open.push(stream);
                    }
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(status) => return status,
                }
            }
        }
    }));
    let refusals = async |more: usize| {
        let wanted = refused.load(Ordering::Relaxed) + more;
        until("the flood is refused", ANSWER, async || {
            let now = refused.load(Ordering::Relaxed);
            ensure!(now >= wanted, "{now} of {wanted}");
            Ok(())
        })
        .await
    };
    refusals(500).await?;
    let channel = other.channel(mesh.xds());
    for _ in 0..10 {
        let mut stream = XdsStream::open(channel.clone(), &other.id()).await.context("another's stream")?;
        stream.ask(ResourceKind::Cluster, &[]).await;
        stream.next(ANSWER).await.context("another's first answer")?;
    }
    refusals(500).await?;
    let proxy = mesh.client().proxy(&greedy.id()).await?;
    ensure!((1..=16).contains(&proxy.streams), "{} streams of one workload", proxy.streams);
    if flood.is_finished() {
        anyhow::bail!("the flood ended: {}", flood.await?);
    }
    Ok(())
}

/// M4 and `xds D8`: what is subscribed is kept for as long as the stream.
async fn names_of_a_subscription_are_bounded(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let greedy = member(mesh, "web", "web-1").await?;
    let mut stream = greedy.stream(mesh.xds()).await?;
    let mut end = None;
    for batch in 0..10_u32 {
        // State of the world: each request names everything that is wanted.
        let names: Vec<String> = (0..(batch + 1) * 5_000).map(|n| format!("shop/made-up-{n}/http")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        stream.ask(ResourceKind::Endpoint, &names).await;
        match stream.next(Duration::from_millis(500)).await {
            Ok(_) => {}
            Err(status) if status.code() == Code::DeadlineExceeded => {}
            Err(status) => {
                end = Some((batch, status));
                break;
            }
        }
    }
    let (batch, status) = end.context("50,000 names were taken")?;
    ensure!(batch >= 1, "already 5,000 names are too many: {status}");
    ensure!(matches!(status.code(), Code::ResourceExhausted | Code::InvalidArgument), "{status}");
    let mut stream = greedy.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Cluster, &[]).await;
    stream.next(ANSWER).await.context("a modest stream afterwards")?;
    Ok(())
}

/// `xds D7`: the words of a NACK are kept, logged and shown.
async fn words_of_a_refusal_are_bounded(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let liar = member(mesh, "web", "web-1").await?;
    let mut stream = liar.stream(mesh.xds()).await?;
    stream.ask(ResourceKind::Cluster, &[]).await;
    let words = format!("\u{1b}[31mred\u{1b}]0;title\u{7}{}", "x".repeat(3_900_000));
    for _ in 0..10 {
        let Ok(answer) = stream.next(Duration::from_secs(2)).await else { break };
        stream.nack(ResourceKind::Cluster, &[], &answer, "", &words).await;
    }
    let shown = mesh.call("GET", "/v1/proxies", "").await?;
    ensure!(shown.status == 200 && shown.body.len() < 256 * 1024, "{} bytes", shown.body.len());
    let proxy = mesh.client().proxy(&liar.id()).await?;
    let refused = &proxy.types["CDS"].refused;
    ensure!(!refused.is_empty(), "the refusal is not shown: {proxy:?}");
    ensure!(refused.iter().all(|refusal| refusal.message.len() <= 8 * 1024), "it is kept whole");
    let log = std::fs::read(mesh.dir().join("control-plane.log"))?;
    ensure!(log.len() < 1 << 20, "a log of {} bytes", log.len());
    ensure!(
        !log.contains(&0x07) && !log.windows(4).any(|bytes| bytes == b"\x1b[31"),
        "escape sequences in the log"
    );
    Ok(())
}

/// M4: what a node calls itself is shown in lists, on terminals and in the log.
async fn user_agent_is_bounded_and_harmless(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&service("web")).await?;
    let liar = member(mesh, "web", "web-1").await?;
    let node = Node {
        id: liar.id(),
        user_agent_name: format!("\u{1b}[2J\u{1b}]52;c;x\u{7}{}", "a".repeat(2_000_000)),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion("v".repeat(1_000_000))),
        ..Node::default()
    };
    let mut stream = XdsStream::open_with(liar.channel(mesh.xds()), node).await?;
    stream.ask(ResourceKind::Cluster, &[]).await;
    stream.next(ANSWER).await.context("its stream")?;
    let proxy = mesh.client().proxy(&liar.id()).await?;
    ensure!(proxy.user_agent.len() <= 512, "{} bytes are shown", proxy.user_agent.len());
    let log = std::fs::read(mesh.dir().join("control-plane.log"))?;
    ensure!(log.len() < 1 << 20, "a log of {} bytes", log.len());
    ensure!(
        !log.contains(&0x07) && !log.windows(4).any(|bytes| bytes == b"\x1b[2J"),
        "escape sequences in the log"
    );
    let listed = mesh.weft(&["proxy", "list", "-o", "wide"]).await?;
    ensure!(listed.contains("shop/web-1") && !listed.contains('\u{1b}'), "on the terminal: {listed:?}");
    Ok(())
}

/// M4: edges are kept for destinations that exist.
async fn metrics_of_clusters_that_do_not_exist_are_not_kept(mesh: &mut Mesh) -> anyhow::Result<()> {
    mesh.apply(&[service("web"), service("catalog")].concat()).await?;
    let liar = member(mesh, "web", "web-1").await?;
    let _liar = beside(mesh, &liar).await?;
    let report = |values: Vec<(String, f64)>| StreamMetricsMessage {
        envoy_metrics: values.into_iter().map(|(name, value)| counter(&name, value)).collect(),
        ..StreamMetricsMessage::default()
    };
    let made_up = |n: u32| (format!("cluster.shop/made-up-{n}/http.upstream_rq_total"), 1000.0);
    let mut reports = Vec::new();
    for round in 0..3_u32 {
        let value = f64::from(round) * 1000.0;
        let mut values: Vec<_> = (round * 10_000..(round + 1) * 10_000).map(made_up).collect();
        values.push(("cluster.shop/catalog/http.upstream_rq_total".to_owned(), value));
        values.push(("cluster.shop/catalog/http.upstream_cx_total".to_owned(), 1.0 + value));
        values.push(("cluster.shop/catalog/http.upstream_rq_time".to_owned(), f64::NAN));
        reports.push(report(values));
    }
    let mut client = MetricsServiceClient::new(liar.channel(mesh.xds()));
    // The last message is read before the call is answered.
    client.stream_metrics(futures::stream::iter(reports)).await.context("a report")?;
    let edges = mesh.client().edges().await?.items;
    ensure!(edges.iter().any(|edge| edge.destination == "shop/catalog"), "the one that exists is not kept");
    let strange: Vec<_> = edges.iter().filter(|edge| edge.destination != "shop/catalog").take(3).collect();
    ensure!(strange.is_empty(), "{} edges, among them {strange:?}", edges.len());
    let metrics = Calls::direct().get(&format!("{}/metrics", mesh.admin())).await?;
    ensure!(!metrics.body.contains("made-up"), "the control plane's own metrics name them");
    Ok(())
}

fn counter(name: &str, value: f64) -> MetricFamily {
    MetricFamily {
        name: Some(name.to_owned()),
        r#type: Some(0),
        metric: vec![Metric {
            counter: Some(Counter { value: Some(value), ..Counter::default() }),
            ..Metric::default()
        }],
        ..MetricFamily::default()
    }
}
