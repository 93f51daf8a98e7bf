//! The traffic of the whole mesh, and what of it failed: each replica keeps what its own streams reported, and a question
//! asks all.
//!
//! ```text
//! GET /v1/edges    ─▶ Traffic ─┬─ Edges, Requests of this replica
//! GET /v1/requests             └─ POST /replica/traffic at each other, over the port for xDS, with the control plane's own
//!                                 identity on both ends; all at once, for 2 s at most
//! ```
//!
//! A replica that does not answer in time is counted in the answer: what its proxies told is missing from it. So is one of an
//! older release that does not know the question.

mod asking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use weft_api::rest::{RequestList, in_order};
use weft_api::{ServiceId, SpiffeId};
use weft_xds::transport::PeerIdentity;

pub use asking::{AskError, OtherReplicas, reach};

use crate::edges::{EdgeFlow, EdgeTarget, Edges, Flows, Point, Selection};
use crate::requests::{LONGEST_ANSWER, Requests, Wanted};

/// Where a replica is asked.
const PATH: &str = "/replica/traffic";
/// Which replica is meant: behind one name there may be several.
const REPLICA: &str = "x-weft-replica";
/// What others have said is good for so long, so that many watchers ask them no more often than one.
const FRESH: Duration = Duration::from_secs(1);

/// What one replica asks another.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum TrafficQuestion {
    Flows,
    /// What a selection has carried since a step.
    Points {
        selection: Selection,
        since: u64,
    },
    /// The hops of the request that has this id.
    Request(String),
    Failures(Wanted),
}

/// What it is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct TrafficAnswer {
    flows: Vec<(ServiceId, EdgeTarget, EdgeFlow)>,
    points: Vec<(u64, Point)>,
    requests: RequestList,
}

/// An answer of all replicas that were heard.
#[derive(Clone, Debug)]
pub struct Heard<T> {
    pub all: T,
    /// Replicas that did not answer in time.
    pub unheard: usize,
}

/// What all others said, and when they were asked.
type LastAnswer = (Instant, Arc<Heard<Flows>>);

/// Asks all replicas. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Traffic {
    edges: Edges,
    requests: Requests,
    others: Option<OtherReplicas>,
    /// What the others said last. Held while they are asked: who else wants to know waits for that answer.
    last: Arc<Mutex<Option<LastAnswer>>>,
}

impl Traffic {
    /// Of this replica, and of the others where there may be any.
    #[must_use]
    pub fn new(edges: Edges, requests: Requests, others: Option<OtherReplicas>) -> Self {
        Self { edges, requests, others, last: Arc::default() }
    }

    pub async fn flows(&self) -> Heard<Flows> {
        let mut all = self.edges.flows(Instant::now());
        let Some(others) = &self.others else { return Heard { all, unheard: 0 } };
        let theirs = {
            let mut last = self.last.lock().await;
            match &*last {
                Some((at, heard)) if at.elapsed() < FRESH => Arc::clone(heard),
                _ => {
                    let heard = Arc::new(flows_of(others).await);
                    *last = Some((Instant::now(), Arc::clone(&heard)));
                    heard
                }
            }
        };
        all.add_all(&theirs.all);
        Heard { all, unheard: theirs.unheard }
    }

    /// What a selection has carried, step by step, since a step.
    pub async fn points(&self, selection: &Selection, since: u64) -> Heard<BTreeMap<u64, Point>> {
        let mut all = self.edges.points(selection, since);
        let Some(others) = &self.others else { return Heard { all, unheard: 0 } };
        let question = TrafficQuestion::Points { selection: selection.clone(), since };
        let (answers, unheard) = others.ask::<TrafficAnswer>(PATH, &question).await;
        for (step, point) in answers.into_iter().flat_map(|answer| answer.points) {
            all.entry(step).or_default().add(&point);
        }
        Heard { all, unheard }
    }

    /// The hops of one request, in their order.
    pub async fn request(&self, id: &str) -> RequestList {
        let own = self.requests.of(Instant::now(), id);
        let list = self.with_others(own, &TrafficQuestion::Request(id.to_owned())).await;
        RequestList { items: in_order(list.items), ..list }
    }

    /// Requests that failed, the newest first.
    pub async fn failures(&self, wanted: &Wanted) -> RequestList {
        let own = self.requests.list(Instant::now(), wanted);
        let mut list = self.with_others(own, &TrafficQuestion::Failures(wanted.clone())).await;
        // Each replica has them in the order in which they came.
        list.items.sort_by_key(|record| std::cmp::Reverse(record.at));
        list.items.truncate(wanted.limit);
        list
    }

    async fn with_others(&self, mut list: RequestList, question: &TrafficQuestion) -> RequestList {
        let Some(others) = &self.others else { return list };
        let (answers, unheard) = others.ask::<TrafficAnswer>(PATH, question).await;
        for theirs in answers.into_iter().map(|answer| answer.requests) {
            list.items.extend(theirs.items);
            list.dropped += theirs.dropped;
        }
        RequestList { unheard, ..list }
    }
}

async fn flows_of(others: &OtherReplicas) -> Heard<Flows> {
    let (answers, unheard) = others.ask::<TrafficAnswer>(PATH, &TrafficQuestion::Flows).await;
    let mut all = Flows::default();
    for (source, target, flow) in answers.iter().flat_map(|answer| &answer.flows) {
        all.add(source, target, flow);
    }
    Heard { all, unheard }
}

#[derive(Clone)]
struct Answering {
    edges: Edges,
    requests: Requests,
    replica: Arc<str>,
}

/// Where other replicas ask this one. The caller's identity has been looked at before.
pub fn router(edges: Edges, requests: Requests, replica: &str) -> Router {
    let answering = Answering { edges, requests, replica: replica.into() };
    Router::new().route(PATH, post(answer)).route_layer(from_fn(only_replicas)).with_state(answering)
}

/// Before a body is read: nobody but a control plane of this mesh may ask.
pub async fn only_replicas(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<PeerIdentity>();
    match peer.map(|peer| &peer.spiffe) {
        Some(SpiffeId::ControlPlane { .. }) => next.run(request).await,
        Some(SpiffeId::Service { .. }) | None => StatusCode::FORBIDDEN.into_response(),
    }
}

/// Whether a question is for this replica.
pub fn is_meant(headers: &HeaderMap, replica: &str) -> bool {
    headers.get(REPLICA).is_some_and(|meant| meant.as_bytes() == replica.as_bytes())
}

async fn answer(
    State(Answering { edges, requests, replica }): State<Answering>,
    headers: HeaderMap,
    Json(question): Json<TrafficQuestion>,
) -> Response {
    if !is_meant(&headers, &replica) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let answer = match question {
        TrafficQuestion::Flows => {
            let flows = edges.flows(Instant::now());
            let flows =
                flows.iter().map(|(source, target, flow)| (source.clone(), target.clone(), flow.clone()));
            TrafficAnswer { flows: flows.collect(), ..TrafficAnswer::default() }
        }
        TrafficQuestion::Points { selection, since } => TrafficAnswer {
            points: edges.points(&selection, since).into_iter().collect(),
            ..TrafficAnswer::default()
        },
        TrafficQuestion::Request(id) => {
            TrafficAnswer { requests: requests.of(Instant::now(), &id), ..TrafficAnswer::default() }
        }
        TrafficQuestion::Failures(mut wanted) => {
            wanted.limit = wanted.limit.min(LONGEST_ANSWER);
            TrafficAnswer { requests: requests.list(Instant::now(), &wanted), ..TrafficAnswer::default() }
        }
    };
    Json(answer).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt as _;
    use weft_api::EdgeStatistic;
    use weft_api::rest::RequestRecord;

    use super::*;
    use crate::clock::Clock;
    use crate::edges::{FINE, Moment, Sample};

    const TRUST_DOMAIN: &str = "mesh.local";

    fn peer(spiffe: &str) -> PeerIdentity {
        PeerIdentity { spiffe: spiffe.parse().unwrap(), workload: None, service: None, instance: None }
    }

    fn used() -> Edges {
        let edges = Edges::default();
        let target = EdgeTarget::named("shop/cart/http");
        let sample = Sample::default().with(EdgeStatistic::Handshakes, 1.0);
        let (workload, source) = ("shop/web-1".parse().unwrap(), "shop/web".parse().unwrap());
        let now = Moment::now(&Clock::system());
        edges.record(now, &workload, &source, [(target.clone(), sample.clone())]);
        let sample = sample.with(EdgeStatistic::Completed, 7.0);
        edges.record(now, &workload, &source, [(target, sample)]);
        edges
    }

    fn failed() -> Requests {
        let (requests, workload) = (Requests::default(), "shop/web-1".parse().unwrap());
        let record = |id: &str| RequestRecord { id: id.to_owned(), ..RequestRecord::default() };
        requests.record(Instant::now(), &workload, vec![record("one"), record("two")]);
        requests.note_dropped(Instant::now(), 3);
        requests
    }

    async fn ask(
        question: &TrafficQuestion,
        replica: &str,
        peer: Option<PeerIdentity>,
    ) -> (StatusCode, Vec<u8>) {
        let body = Body::from(serde_json::to_vec(question).unwrap());
        let request = Request::post(PATH).header("content-type", "application/json").header(REPLICA, replica);
        let mut request = request.body(body).unwrap();
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        let answer = router(used(), failed(), "one").oneshot(request).await.unwrap();
        (answer.status(), to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn only_a_replica_is_answered_and_only_by_the_one_that_it_means() {
        let replica = format!("spiffe://{TRUST_DOMAIN}/control-plane");
        let workload = format!("spiffe://{TRUST_DOMAIN}/ns/shop/svc/web");
        for (meant, asks, expected) in [
            ("one", None, StatusCode::FORBIDDEN),
            ("one", Some(&workload), StatusCode::FORBIDDEN),
            ("two", Some(&replica), StatusCode::MISDIRECTED_REQUEST),
            ("one", Some(&replica), StatusCode::OK),
        ] {
            let (status, _) = ask(&TrafficQuestion::Flows, meant, asks.map(|spiffe| peer(spiffe))).await;
            assert_eq!(status, expected, "{asks:?} asks {meant}");
        }
    }

    #[tokio::test]
    async fn what_is_told_is_what_is_known() {
        let replica = || Some(peer(&format!("spiffe://{TRUST_DOMAIN}/control-plane")));
        let (_, body) = ask(&TrafficQuestion::Flows, "one", replica()).await;
        let answer: TrafficAnswer = serde_json::from_slice(&body).unwrap();
        let [(source, target, flow)] = &answer.flows[..] else { panic!("{answer:?}") };
        assert_eq!(
            (source.to_string(), target),
            ("shop/web".to_owned(), &EdgeTarget::named("shop/cart/http"))
        );
        assert!(flow.used && (flow.events - 7.0).abs() < 1e-9, "{flow:?}");
        let selection = Selection {
            source: None,
            destination: "shop/cart".parse().unwrap(),
            port: None,
            subset: None,
            route: None,
            version: None,
            grain: FINE,
        };
        let (_, body) = ask(&TrafficQuestion::Points { selection, since: 0 }, "one", replica()).await;
        let answer: TrafficAnswer = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer.points.iter().map(|(_, point)| point.events()).sum::<u64>(), 7);
        for (question, ids) in [
            (TrafficQuestion::Request("one".to_owned()), vec!["one"]),
            (TrafficQuestion::Failures(Wanted { limit: 1, ..Wanted::default() }), vec!["two"]),
            (
                TrafficQuestion::Failures(Wanted { limit: usize::MAX, ..Wanted::default() }),
                vec!["two", "one"],
            ),
        ] {
            let (_, body) = ask(&question, "one", replica()).await;
            let answer: TrafficAnswer = serde_json::from_slice(&body).unwrap();
            let told: Vec<&str> = answer.requests.items.iter().map(|record| &*record.id).collect();
            assert_eq!((told, answer.requests.dropped), (ids, 3), "{question:?}");
        }
    }
}
