//! Between replicas: one asks another for what its sidecars tell, and is told as long as it listens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};
use weft_api::HostPort;

use super::hearing::{SidecarHearing, hearing};
use crate::reconciler::ReconcilerHandle;
use crate::replicas::traffic::{OtherReplicas, is_meant, only_replicas};
use crate::taps::{OpenTap, TapFilter, Taps, ViewerNews};

/// Where a replica is asked.
const PATH: &str = "/replica/taps";
/// What waits of other replicas for one viewer; while there is no room they are not read.
pub(super) const PASSED_ON: usize = 256;
/// How often a replica says whom it hears, or at least that it is there.
const PACE: Duration = Duration::from_secs(1);
/// A replica that says nothing for so long is not heard.
const SILENCE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(2);
/// Bytes of one line: a request with all its headers.
const LONGEST_LINE: usize = 1 << 20;

/// What another replica says; a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromReplica {
    News(ViewerNews),
    Hearing(Vec<SidecarHearing>),
    /// It does not answer any more. Never sent.
    #[serde(skip)]
    Lost,
}

/// Asks a replica until the viewer is gone, again and again where it does not answer.
pub(super) async fn follow(
    others: OtherReplicas,
    id: String,
    address: HostPort,
    filter: TapFilter,
    news: mpsc::Sender<(String, FromReplica)>,
) {
    let question = serde_json::to_vec(&filter).expect("strings and numbers always encode");
    loop {
        if let Some(error) = listen(&others, &id, &address, question.clone().into(), &news).await {
            tracing::debug!(error, replica = id, %address, "a replica is not heard by a tap");
        }
        if news.send((id.clone(), FromReplica::Lost)).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Passes on what a replica says until it ends; says why it ended.
async fn listen(
    others: &OtherReplicas,
    id: &str,
    address: &HostPort,
    question: Bytes,
    news: &mpsc::Sender<(String, FromReplica)>,
) -> Option<String> {
    let opened = tokio::time::timeout(SILENCE, others.open(id, address, PATH, question)).await;
    let mut answer = match opened {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Some(error.to_string()),
        Err(_) => return Some("no answer in time".to_owned()),
    };
    let mut text = BytesMut::new();
    loop {
        let piece = match tokio::time::timeout(SILENCE, answer.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(Some(Err(error))) => return Some(error.to_string()),
            Ok(None) => return None,
            Err(_) => return Some("it is silent".to_owned()),
        };
        text.extend_from_slice(&piece);
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line = text.split_to(end);
            text.advance(1);
            // One of another version may say more.
            if let Ok(told) = serde_json::from_slice::<FromReplica>(&line)
                && news.send((id.to_owned(), told)).await.is_err()
            {
                return None;
            }
        }
        if text.len() > LONGEST_LINE {
            return Some("a line of it has no end".to_owned());
        }
    }
}

#[derive(Clone)]
struct TellingReplica {
    taps: Taps,
    reconciler: ReconcilerHandle,
    replica: Arc<str>,
}

/// Where other replicas ask this one.
pub fn router(taps: Taps, reconciler: ReconcilerHandle, replica: &str) -> Router {
    let telling = TellingReplica { taps, reconciler, replica: replica.into() };
    Router::new().route(PATH, post(tell)).route_layer(from_fn(only_replicas)).with_state(telling)
}

async fn tell(
    State(telling): State<TellingReplica>,
    headers: HeaderMap,
    Json(filter): Json<TapFilter>,
) -> Response {
    if !is_meant(&headers, &telling.replica) {
        return StatusCode::MISDIRECTED_REQUEST.into_response();
    }
    let Ok(tap) = telling.taps.open(filter.clone()) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let lines = ReplicaLines { telling, filter, tap, pace, said: None };
    let lines = futures::stream::unfold(lines, async |mut lines| {
        let line = lines.next().await?;
        Some((Ok::<_, Infallible>(line), lines))
    });
    Body::from_stream(lines).into_response()
}

/// What is said to one replica for one of its viewers.
struct ReplicaLines {
    telling: TellingReplica,
    filter: TapFilter,
    tap: OpenTap,
    pace: Interval,
    said: Option<Vec<SidecarHearing>>,
}

impl ReplicaLines {
    /// The next line; an empty one where there is nothing to say. It is asked for as long as somebody reads.
    async fn next(&mut self) -> Option<Bytes> {
        let told = tokio::select! {
            news = self.tap.next() => Some(FromReplica::News(news?)),
            _ = self.pace.tick() => {
                self.tap.renew();
                let TellingReplica { taps, reconciler, .. } = &self.telling;
                let now = hearing(reconciler, taps, &self.filter).await;
                (self.said.as_ref() != Some(&now)).then(|| {
                    self.said = Some(now.clone());
                    FromReplica::Hearing(now)
                })
            }
        };
        let mut line = told.and_then(|told| serde_json::to_vec(&told).ok()).unwrap_or_default();
        line.push(b'\n');
        Some(line.into())
    }
}
