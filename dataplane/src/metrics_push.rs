//! Pushes the statistics of edges to Envoy's metrics service, so that the control plane knows every edge's rate,
//! success and latency without another system.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::metrics::v3::StreamMetricsMessage;
use envoy_types::pb::envoy::service::metrics::v3::metrics_service_client::MetricsServiceClient;
use envoy_types::pb::envoy::service::metrics::v3::stream_metrics_message::Identifier;
use envoy_types::pb::io::prometheus::client::{
    Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use weft_api::names::{LISTENING_ADDRESS, LISTENING_STATISTIC, inbound_port};
use weft_api::{Backoff, EdgeStatistic, shadow_denied};

use crate::bootstrap::{CounterReports, MetricNaming, MetricsSink};
use crate::control::ControlHandle;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Messages that wait for the stream. A report that finds no room is dropped: totals make up for it.
const WAITING: usize = 2;
/// How often it is looked where the application listens, at least.
const SOCKETS_EACH: Duration = Duration::from_secs(15);

/// Whether a series is pushed: what the graph of edges is made of, and what policies that are tried would refuse. Everything else is asked for at `/stats`.
#[must_use]
pub fn is_of_an_edge(name: &str) -> bool {
    EdgeStatistic::parse(name).is_some() || shadow_denied(name).is_some()
}

/// Pushes until `stop` is cancelled.
pub async fn push(
    channel: Channel,
    node: Node,
    sink: MetricsSink,
    handle: ControlHandle,
    stop: CancellationToken,
) {
    let mut retry = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
    while !stop.is_cancelled() {
        let begun = tokio::time::Instant::now();
        let session = session(channel.clone(), &node, &sink, &handle);
        match stop.run_until_cancelled(session).await {
            None => return,
            Some(Err(status)) if status.code() == tonic::Code::Unimplemented => {
                tracing::info!(event = "service_not_offered", "the control plane takes no statistics");
                return;
            }
            Some(Err(status)) => {
                tracing::debug!(code = ?status.code(), message = status.message(), "metrics stream lost");
            }
            Some(Ok(())) => tracing::debug!("the metrics stream ended"),
        }
        if begun.elapsed() > LONGEST_RETRY {
            retry.reset();
        }
        stop.run_until_cancelled(tokio::time::sleep(retry.next_wait())).await;
    }
}

async fn session(
    channel: Channel,
    node: &Node,
    sink: &MetricsSink,
    handle: &ControlHandle,
) -> Result<(), tonic::Status> {
    let (reports, outgoing) = mpsc::channel(WAITING);
    let mut client = MetricsServiceClient::new(channel);
    let call = client.stream_metrics(tokio_stream::wrappers::ReceiverStream::new(outgoing));
    tokio::pin!(call);
    let mut tick = tokio::time::interval(sink.interval.max(Duration::from_millis(100)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut identifier = Some(Identifier { node: Some(node.clone()) });
    let mut deltas = Deltas::default();
    let mut intervals = Intervals::default();
    let mut sockets: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            answer = &mut call => return answer.map(|_| ()),
            _ = tick.tick() => {
                let Some(mut envoy_metrics) = collect(sink.naming, handle).await else { return Ok(()) };
                if sink.counters == CounterReports::Deltas {
                    deltas.apply(&mut envoy_metrics);
                }
                let totals = intervals.apply(&mut envoy_metrics);
                let is_due = sockets.is_none_or(|looked| looked.elapsed() >= SOCKETS_EACH);
                if is_due && let Some(family) = listening(handle).await {
                    // Where nothing is seen, the application may be about to start.
                    if !family.metric.is_empty() {
                        sockets = Some(tokio::time::Instant::now());
                    }
                    envoy_metrics.push(family);
                }
                let message = StreamMetricsMessage { identifier: identifier.take(), envoy_metrics };
                match reports.try_send(message) {
                    Ok(()) => intervals.reported.extend(totals),
                    Err(mpsc::error::TrySendError::Full(message)) => {
                        identifier = message.identifier;
                        deltas.undo(&message.envoy_metrics);
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => {}
                }
            }
        }
    }
}

async fn collect(naming: MetricNaming, handle: &ControlHandle) -> Option<Vec<MetricFamily>> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let labelled = naming == MetricNaming::Labelled;
    handle.stats(move |readings| crate::stats::families(readings, labelled, now, is_of_an_edge)).await
}

/// Where the application listens, as this machine's table of sockets has it.
async fn listening(handle: &ControlHandle) -> Option<MetricFamily> {
    let applications = handle.inspect(|state| {
        let own = state.runtime.clusters.values().filter(|cluster| inbound_port(&cluster.name).is_some());
        own.flat_map(|cluster| cluster.endpoints.list.iter().map(|endpoint| endpoint.address))
            .collect::<BTreeSet<_>>()
    });
    let sockets = crate::listening::sockets_of(&applications.await?)?;
    let metric = |socket: SocketAddr| Metric {
        label: vec![LabelPair { name: Some(LISTENING_ADDRESS.to_owned()), value: Some(socket.to_string()) }],
        gauge: Some(Gauge { value: Some(1.0) }),
        ..Metric::default()
    };
    Some(MetricFamily {
        name: Some(LISTENING_STATISTIC.to_owned()),
        r#type: Some(MetricType::Gauge as i32),
        metric: sockets.into_iter().map(metric).collect(),
        ..MetricFamily::default()
    })
}

/// What was reported of each counter so far.
#[derive(Debug, Default)]
struct Deltas(HashMap<String, f64>);

impl Deltas {
    fn apply(&mut self, families: &mut [MetricFamily]) {
        for_each_counter(families, |series, counter| {
            let reported = self.0.insert(series, *counter).unwrap_or(0.0);
            *counter -= reported;
        });
    }

    /// Takes a report back that was not sent.
    fn undo(&mut self, families: &[MetricFamily]) {
        let mut families = families.to_vec();
        for_each_counter(&mut families, |series, counter| {
            if let Some(reported) = self.0.get_mut(&series) {
                *reported -= *counter;
            }
        });
    }
}

/// Histograms as Envoy reports them: what came since the report before, whatever is said of counters.
#[derive(Debug, Default)]
struct Intervals {
    reported: HashMap<String, Histogram>,
}

impl Intervals {
    /// Takes off what was reported already; gives the totals, to be kept once the report is sent.
    fn apply(&self, families: &mut [MetricFamily]) -> Vec<(String, Histogram)> {
        let mut totals = Vec::new();
        for family in families {
            for metric in &mut family.metric {
                let series = series(family.name.as_deref().unwrap_or_default(), &metric.label);
                let Some(histogram) = &mut metric.histogram else { continue };
                let total = histogram.clone();
                if let Some(before) = self.reported.get(&series) {
                    take_off(histogram, before);
                }
                totals.push((series, total));
            }
        }
        totals
    }
}

fn take_off(histogram: &mut Histogram, before: &Histogram) {
    let less = |now: Option<u64>, then: Option<u64>| now.map(|now| now.saturating_sub(then.unwrap_or(0)));
    histogram.sample_count = less(histogram.sample_count, before.sample_count);
    histogram.sample_sum = histogram.sample_sum.map(|sum| (sum - before.sample_sum()).max(0.0));
    for (bucket, before) in histogram.bucket.iter_mut().zip(&before.bucket) {
        bucket.cumulative_count = less(bucket.cumulative_count, before.cumulative_count);
    }
}

fn series(name: &str, labels: &[LabelPair]) -> String {
    let labels: String = labels.iter().map(|label| format!(";{}={}", label.name(), label.value())).collect();
    format!("{name}{labels}")
}

fn for_each_counter(families: &mut [MetricFamily], mut each: impl FnMut(String, &mut f64)) {
    for family in families {
        let name = family.name.clone().unwrap_or_default();
        for metric in &mut family.metric {
            let series = series(&name, &metric.label);
            if let Some(value) = metric.counter.as_mut().and_then(|counter| counter.value.as_mut()) {
                each(series, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::io::prometheus::client::Counter;

    fn family(value: f64) -> Vec<MetricFamily> {
        let counter = Some(Counter { value: Some(value), ..Counter::default() });
        let metric = vec![Metric { counter, ..Metric::default() }];
        vec![MetricFamily { name: Some("cluster.a.upstream_rq_total".into()), metric, ..Default::default() }]
    }

    fn value(families: &[MetricFamily]) -> f64 {
        families[0].metric[0].counter.as_ref().unwrap().value()
    }

    #[test]
    fn deltas_are_since_the_last_report_that_was_sent() {
        let mut deltas = Deltas::default();
        let mut first = family(10.0);
        deltas.apply(&mut first);
        assert_eq!(value(&first), 10.0);
        let mut second = family(15.0);
        deltas.apply(&mut second);
        assert_eq!(value(&second), 5.0);
        deltas.undo(&second);
        let mut third = family(16.0);
        deltas.apply(&mut third);
        assert_eq!(value(&third), 6.0);
    }

    #[test]
    fn histograms_hold_what_came_since_the_last_report_that_was_sent() {
        use envoy_types::pb::io::prometheus::client::Bucket;
        let family = |count: u64| {
            let bucket =
                Bucket { cumulative_count: Some(count), upper_bound: Some(1.0), ..Bucket::default() };
            let histogram =
                Histogram { sample_count: Some(count), bucket: vec![bucket], ..Histogram::default() };
            let metric = vec![Metric { histogram: Some(histogram), ..Metric::default() }];
            vec![MetricFamily {
                name: Some("cluster.a.upstream_rq_time".into()),
                metric,
                ..Default::default()
            }]
        };
        let count = |families: &[MetricFamily]| {
            let histogram = families[0].metric[0].histogram.as_ref().unwrap();
            (histogram.sample_count(), histogram.bucket[0].cumulative_count())
        };
        let mut intervals = Intervals::default();
        let mut first = family(10);
        intervals.reported = intervals.apply(&mut first).into_iter().collect();
        assert_eq!(count(&first), (10, 10));
        let mut unsent = family(12);
        intervals.apply(&mut unsent);
        let mut third = family(15);
        intervals.apply(&mut third);
        assert_eq!(count(&third), (5, 5));
    }

    #[test]
    fn only_series_of_edges_are_pushed() {
        assert!(is_of_an_edge("cluster.shop/cart/http.upstream_rq_total"));
        assert!(is_of_an_edge("cluster.shop/cart/http.ssl.handshake"));
        assert!(!is_of_an_edge("cluster.shop/cart/http.membership_total"));
        assert!(is_of_an_edge("http.inbound/shop/cart/http.rbac.shadow_denied"));
        assert!(!is_of_an_edge("http.inbound.downstream_rq_2xx"));
    }
}
