//! What a replica tells another one that was asked about the whole mesh.
//!
//! ```text
//! GET /v1/check, /v1/version, … ─▶ this replica ─┬─ what it finds itself
//!                                                └─ POST /replica/report at each other, for 2 or 4 s at most, or as
//!                                                   long as a change may take
//! ```
//!
//! One of an older release does not know the question: it answers 404, and is told of so.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use weft_api::rest::{ProxyConfig, ProxyStatus, ReplicaDebug, Sync, WaitResult};
use weft_api::{HostPort, WorkloadId};

use super::admin;
use super::change::LONGEST_WAIT;
use super::check::concern::{Concern, OwnFinding};
use super::check::mesh::SocketsOf;
use super::check::own as own_findings;
use super::configuration;
use super::delivery::{AwaitedChange, until_taken_here};
use super::own::OwnReplica;
use super::proxies;
use super::state::Api;
use crate::replicas::traffic::{AskError, is_meant, only_replicas};

/// Where a replica is asked.
const PATH: &str = "/replica/report";
/// How long the others have. What they look at themselves takes two seconds at most.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long they have where only what they know is asked for.
const KNOWN: Duration = Duration::from_secs(2);

/// What is wanted to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplicaQuestion {
    #[default]
    Version,
    /// This proxy, where it is connected there.
    Proxy(WorkloadId),
    /// And what it finds.
    Check,
    /// What it looks like from inside.
    Debug,
    /// What this proxy has, where it is connected there.
    Configuration(WorkloadId),
    /// Which proxies have this, after so long at most.
    Awaited { change: AwaitedChange, milliseconds: u64 },
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaReport {
    pub version: String,
    /// Milliseconds since 1970.
    pub now: u64,
    /// Proxies with streams there.
    pub proxies: Vec<ProxyStatus>,
    /// Where applications listen, as their sidecars told it.
    pub sockets: SocketsOf,
    /// What is wrong with itself.
    pub findings: Vec<OwnFinding>,
    pub debug: Option<ReplicaDebug>,
    /// What the proxy has that was asked for, secrets redacted; none where it is not connected here.
    pub configuration: Option<ProxyConfig>,
    /// Which proxies have what was asked for; none where this replica has not read it.
    pub awaited: Option<WaitResult>,
}

/// What one other replica says, and when it was asked and heard by this one's clock.
#[derive(Debug)]
pub struct OtherReplica {
    pub address: HostPort,
    pub report: Result<ReplicaReport, AskError>,
}

/// Lets other replicas ask this one. The caller's identity has been looked at before.
pub fn router(api: Api) -> Router {
    Router::new().route(PATH, post(answer)).route_layer(from_fn(only_replicas)).with_state(api)
}

async fn answer(
    State(api): State<Api>,
    headers: HeaderMap,
    Json(question): Json<ReplicaQuestion>,
) -> Response {
    if !is_meant(&headers, &api.own.id) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    Json(report(&api, question).await).into_response()
}

async fn report(api: &Api, question: ReplicaQuestion) -> ReplicaReport {
    let mut report = ReplicaReport {
        version: OwnReplica::VERSION.to_owned(),
        now: api.clock.unix_millis(),
        ..ReplicaReport::default()
    };
    match question {
        ReplicaQuestion::Version => report.proxies = connected_here(api).await,
        ReplicaQuestion::Proxy(id) => {
            let known = proxies::known(api, &id).await;
            report.proxies = known.into_iter().filter(|proxy| proxy.sync != Sync::Disconnected).collect();
        }
        ReplicaQuestion::Check => {
            let (proxies, findings) = tokio::join!(connected_here(api), own_findings::find(api));
            report.sockets = sockets_of(api, &proxies);
            report.proxies = proxies;
            report.findings = findings.into_iter().map(Concern::into_own).collect();
            // As late as it can be, for whoever compares clocks.
            report.now = api.clock.unix_millis();
        }
        ReplicaQuestion::Debug => report.debug = Some(debug(api).await),
        ReplicaQuestion::Configuration(id) => {
            report.configuration = configuration::of_connected(api, &id).await;
        }
        ReplicaQuestion::Awaited { change, milliseconds } => {
            let limit = Duration::from_millis(milliseconds).min(LONGEST_WAIT);
            report.awaited = until_taken_here(api, &change, limit).await;
        }
    }
    report
}

async fn connected_here(api: &Api) -> Vec<ProxyStatus> {
    let known = proxies::all(api).await.unwrap_or_default();
    known.into_iter().filter(|proxy| proxy.sync != Sync::Disconnected).collect()
}

fn sockets_of(api: &Api, proxies: &[ProxyStatus]) -> SocketsOf {
    let now = std::time::Instant::now();
    let of = |proxy: &ProxyStatus| {
        let sockets = api.own.applications.of(now, &proxy.id.parse().ok()?)?;
        Some((proxy.id.clone(), sockets))
    };
    proxies.iter().filter_map(of).collect()
}

/// This replica from inside.
pub async fn debug(api: &Api) -> ReplicaDebug {
    let (log, log_dropped) = api.own.log.all();
    ReplicaDebug {
        address: api.own.address.to_string(),
        version: OwnReplica::VERSION.to_owned(),
        dump: admin::dump_of(&api.own.admin).await,
        metrics: admin::metrics_of(&api.own.admin),
        log,
        log_dropped,
    }
}

/// Asks all other replicas.
pub async fn ask_others(api: &Api, question: ReplicaQuestion) -> Vec<OtherReplica> {
    let Some(others) = &api.own.others else { return Vec::new() };
    let body = Bytes::from(serde_json::to_vec(&question).expect("a word always encodes"));
    let limit = match question {
        ReplicaQuestion::Version | ReplicaQuestion::Proxy(_) | ReplicaQuestion::Configuration(_) => KNOWN,
        ReplicaQuestion::Check | ReplicaQuestion::Debug => PATIENCE,
        ReplicaQuestion::Awaited { milliseconds, .. } => {
            Duration::from_millis(milliseconds).saturating_add(KNOWN)
        }
    };
    let answers = others.ask_each(PATH, &body, limit).await;
    answers.into_iter().map(|(address, report)| OtherReplica { address, report }).collect()
}

/// What a proxy has that is connected to another replica.
pub async fn configuration_at_others(api: &Api, id: &WorkloadId) -> Option<ProxyConfig> {
    let heard = ask_others(api, ReplicaQuestion::Configuration(id.clone())).await;
    heard.into_iter().find_map(|other| other.report.ok()?.configuration)
}

/// Waits until every connected proxy of the mesh that it concerns has answered for it. A replica that is not heard, or that has not
/// even read the change, is counted: what its proxies have is not known.
pub async fn until_taken(api: &Api, change: AwaitedChange, limit: Duration) -> WaitResult {
    let milliseconds = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let asked = ask_others(api, ReplicaQuestion::Awaited { change: change.clone(), milliseconds });
    let (here, others) = tokio::join!(until_taken_here(api, &change, limit), asked);
    let theirs = others.into_iter().map(|other| other.report.ok().and_then(|report| report.awaited));
    let mut all = WaitResult::default();
    for one in std::iter::once(here).chain(theirs) {
        match one {
            Some(one) => {
                all.targeted += one.targeted;
                all.acked += one.acked;
                all.laggards.extend(one.laggards);
            }
            None => all.unheard += 1,
        }
    }
    all
}

/// All proxies, each as the replica that it is connected to knows it.
pub fn with_those_of_others(own: Vec<ProxyStatus>, others: &[OtherReplica]) -> Vec<ProxyStatus> {
    let mut by_id: BTreeMap<String, ProxyStatus> = own.into_iter().map(|one| (one.id.clone(), one)).collect();
    let theirs = others.iter().filter_map(|other| other.report.as_ref().ok());
    for proxy in theirs.flat_map(|report| &report.proxies) {
        let known = by_id.get(&proxy.id);
        if known.is_none_or(|known| known.sync == Sync::Disconnected) {
            by_id.insert(proxy.id.clone(), proxy.clone());
        }
    }
    by_id.into_values().collect()
}
