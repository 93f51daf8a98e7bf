//! The traffic of the whole mesh: each replica keeps what its own streams reported, and a question asks all.
//!
//! ```text
//! GET /v1/edges ─▶ Traffic ─┬─ Edges of this replica
//!                           └─ POST /replica/traffic at each other, over the port for xDS, with the control plane's own
//!                              identity on both ends; all at once, for 2 s at most
//! ```
//!
//! A replica that does not answer in time is counted in the answer: its callers' traffic is missing from it.

mod asking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Extension, Json, Router};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use weft_api::{ServiceId, SpiffeId};
use weft_xds::transport::PeerIdentity;

pub use asking::OtherReplicas;

use crate::edges::{Edges, Flow, Flows, Point, Selection, Target};

/// Where a replica is asked.
const PATH: &str = "/replica/traffic";
/// Which replica is meant: behind one name there may be several.
const REPLICA: &str = "x-weft-replica";
/// What others have said is good for so long, so that many watchers ask them no more often than one.
const FRESH: Duration = Duration::from_secs(1);

/// What one replica asks another.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Question {
    /// What flows now.
    Flows,
    /// What a selection has carried since a step.
    Points { selection: Selection, since: u64 },
}

/// What it is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Answer {
    flows: Vec<(ServiceId, Target, Flow)>,
    points: Vec<(u64, Point)>,
}

/// An answer of all replicas that were heard.
#[derive(Clone, Debug)]
pub struct Heard<T> {
    /// Their figures together.
    pub all: T,
    /// Replicas that did not answer in time.
    pub unheard: usize,
}

/// Asks all replicas. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Traffic {
    edges: Edges,
    others: Option<OtherReplicas>,
    /// What the others said last. Held while they are asked: who else wants to know waits for that answer.
    last: Arc<Mutex<Option<(Instant, Arc<Heard<Flows>>)>>>,
}

impl Traffic {
    /// Of this replica, and of the others where there may be any.
    #[must_use]
    pub fn new(edges: Edges, others: Option<OtherReplicas>) -> Self {
        Self { edges, others, last: Arc::default() }
    }

    /// What flows now.
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
        add_flows(&mut all, &theirs.all);
        Heard { all, unheard: theirs.unheard }
    }

    /// What a selection has carried, step by step, since a step.
    pub async fn points(&self, selection: &Selection, since: u64) -> Heard<BTreeMap<u64, Point>> {
        let mut all = self.edges.points(selection, since);
        let Some(others) = &self.others else { return Heard { all, unheard: 0 } };
        let question = Question::Points { selection: selection.clone(), since };
        let (answers, unheard) = others.ask(&question).await;
        for (step, point) in answers.into_iter().flat_map(|answer| answer.points) {
            all.entry(step).or_default().add(&point);
        }
        Heard { all, unheard }
    }
}

async fn flows_of(others: &OtherReplicas) -> Heard<Flows> {
    let (answers, unheard) = others.ask(&Question::Flows).await;
    let mut all = Flows::new();
    for answer in answers {
        let theirs = answer.flows.into_iter().map(|(source, target, flow)| ((source, target), flow));
        add_flows(&mut all, &theirs.collect());
    }
    Heard { all, unheard }
}

fn add_flows(all: &mut Flows, more: &Flows) {
    for (edge, flow) in more {
        all.entry(edge.clone()).or_default().add(flow);
    }
}

#[derive(Clone)]
struct Answering {
    edges: Edges,
    replica: Arc<str>,
}

/// Where other replicas ask this one. The caller's identity has been looked at before.
pub fn router(edges: Edges, replica: &str) -> Router {
    Router::new().route(PATH, post(answer)).with_state(Answering { edges, replica: replica.into() })
}

async fn answer(
    State(Answering { edges, replica }): State<Answering>,
    peer: Option<Extension<PeerIdentity>>,
    headers: HeaderMap,
    Json(question): Json<Question>,
) -> axum::response::Response {
    let is_replica = peer.is_some_and(|peer| matches!(peer.spiffe, SpiffeId::ControlPlane { .. }));
    if !is_replica {
        return StatusCode::FORBIDDEN.into_response();
    }
    if headers.get(REPLICA).is_none_or(|meant| meant.as_bytes() != replica.as_bytes()) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let answer = match question {
        Question::Flows => {
            let flows = edges.flows(Instant::now()).into_iter();
            let flows = flows.map(|((source, target), flow)| (source, target, flow));
            Answer { flows: flows.collect(), ..Answer::default() }
        }
        Question::Points { selection, since } => {
            Answer { points: edges.points(&selection, since).into_iter().collect(), ..Answer::default() }
        }
    };
    Json(answer).into_response()
}
