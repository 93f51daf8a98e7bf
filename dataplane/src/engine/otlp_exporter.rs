//! Sends what a worker has to tell OpenTelemetry collectors: batch after batch, over clusters as filters use them.

use std::rc::Rc;
use std::time::Duration;

use futures::future::join_all;
use http::HeaderMap;
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

use super::async_client::{Call, CallError, call};
use super::clock::{now, within};
use super::clusters::Clusters;
use super::local::Local;
use super::otlp_buffers::{CollectorTurn, OtlpBatch};
use super::unary::{self, UnaryError, UnaryMethod};
use crate::otlp::{OtlpCollector, OtlpRecord, SCOPE};

/// Bytes that the answer to a batch may have.
const LARGEST_ANSWER: usize = 64 * 1024;
/// How long the last batches may take when the proxy ends.
const AT_THE_END: Duration = Duration::from_secs(2);

/// Why a batch was not taken.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Answer(#[from] UnaryError),
}

/// Sends batches as they become due, for ever. One task of the worker runs this; it sleeps while there is nothing to tell.
pub(super) async fn export(worker: Rc<Local>, clusters: Rc<Clusters>) {
    loop {
        let due = worker.otlp.due();
        let wait = async {
            match due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = worker.otlp.changed.notified() => {}
        }
        for batch in worker.otlp.take(now()) {
            tokio::task::spawn_local(send(Rc::clone(&worker), Rc::clone(&clusters), batch));
        }
    }
}

/// Sends what waits, before the worker ends.
pub(super) async fn flush(worker: &Rc<Local>, clusters: &Rc<Clusters>) {
    let far = now() + Duration::from_secs(3600);
    let batches = worker.otlp.take(far).into_iter();
    let sending = join_all(batches.map(|batch| send(Rc::clone(worker), Rc::clone(clusters), batch)));
    within(&worker.deadlines, Some(AT_THE_END), sending).await;
}

async fn send(worker: Rc<Local>, clusters: Rc<Clusters>, batch: OtlpBatch) {
    let OtlpBatch { to, records, by_timer } = batch;
    let (shard, count) = (&worker.shard, records.len() as u64);
    if by_timer && let Some(counter) = to.stats.timer_flushed {
        shard.inc(counter);
    }
    let rejected = tell(&worker, &clusters, &to, records).await;
    let dropped = match &rejected {
        Ok(rejected) => (*rejected).min(count),
        Err(_) => count,
    };
    shard.add(to.stats.sent, count - dropped);
    shard.add(to.stats.dropped, dropped);
    match (worker.otlp.sent(&to, rejected.is_ok()), rejected) {
        (Some(CollectorTurn::Failing), Err(error)) => {
            tracing::warn!(event = "collector_away", cluster = %to.cluster, %error, "the collector takes nothing: what it is told is dropped");
        }
        (Some(CollectorTurn::Recovered), _) => {
            tracing::info!(event = "collector_back", cluster = %to.cluster, "the collector takes what it is told again");
        }
        (Some(CollectorTurn::Failing) | None, _) => {}
    }
}

/// Tells a collector; how many of the records it did not want.
async fn tell(
    worker: &Rc<Local>,
    clusters: &Clusters,
    to: &OtlpCollector,
    records: Vec<OtlpRecord>,
) -> Result<u64, ExportError> {
    let (mut spans, mut logs) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            OtlpRecord::Span(span) => spans.push(*span),
            OtlpRecord::Log(log) => logs.push(*log),
        }
    }
    let snapshot = clusters.snapshot();
    let cluster = snapshot.cluster(&to.cluster).ok_or(CallError::NoCluster)?;
    let mut rejected = 0;
    if !spans.is_empty() {
        let answer = call(worker, cluster, of_spans(to, spans)).await?;
        let answer: ExportTraceServiceResponse = unary::message(&answer)?;
        rejected += answer.partial_success.map_or(0, |partial| partial.rejected_spans);
    }
    if !logs.is_empty() {
        let answer = call(worker, cluster, of_logs(to, logs)).await?;
        let answer: ExportLogsServiceResponse = unary::message(&answer)?;
        rejected += answer.partial_success.map_or(0, |partial| partial.rejected_log_records);
    }
    Ok(u64::try_from(rejected).unwrap_or(0))
}

fn of_spans(to: &OtlpCollector, spans: Vec<Span>) -> Call {
    let scope_spans = vec![ScopeSpans { scope: Some(scope()), spans, ..Default::default() }];
    let resource = Some(to.resource.clone());
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..Default::default() }],
    };
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    method(to, path).call(HeaderMap::new(), &request)
}

fn of_logs(to: &OtlpCollector, log_records: Vec<LogRecord>) -> Call {
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, ..Default::default() }];
    let resource = Some(to.resource.clone());
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource, scope_logs, ..Default::default() }],
    };
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    method(to, path).call(HeaderMap::new(), &request)
}

fn method(to: &OtlpCollector, path: &'static str) -> UnaryMethod {
    UnaryMethod {
        authority: to.authority.clone(),
        path: PathAndQuery::from_static(path),
        timeout: to.timeout,
        largest: LARGEST_ANSWER,
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    }
}
