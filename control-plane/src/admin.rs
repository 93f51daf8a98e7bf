//! For operators and probes on this machine: is it ready, is it alive, what does it count, where does a change stand.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::policies::Policies;
use crate::reconciler::Reconciling;

/// What the endpoints show.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The mesh.
    pub reconciling: Reconciling,
    /// The policies.
    pub policies: Policies,
    /// Counts.
    pub metrics: Metrics,
    /// How fresh the store's changes are.
    pub store: watch::Receiver<weft_store::Health>,
}

/// The endpoints.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/dump", get(dump))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /ready, /live, /metrics and /dump\n") })
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.reconciling.published().borrow().ready {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the store has not been read yet\n").into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let (revision, held_back) = {
        let published = admin.reconciling.published();
        let published = published.borrow();
        (published.revision, published.held_back)
    };
    let text = admin.metrics.render(revision, held_back);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// Every stage of a change on its way, with its revision.
async fn dump(State(admin): State<Admin>) -> Json<Value> {
    let stored = match admin.policies.head().await {
        Ok(head) => json!({"policyRevision": head.revision(), "policies": head.set.len()}),
        Err(error) => json!({"error": error.to_string()}),
    };
    let follow = match &*admin.store.borrow() {
        weft_store::Health::Live => json!({"state": "Live"}),
        weft_store::Health::Stale { since, reason } => {
            json!({"state": "Stale", "forSeconds": since.elapsed().as_secs(), "reason": reason})
        }
    };
    let Some(picture) = admin.reconciling.picture().await else {
        return Json(json!({"store": stored, "error": "the reconciler has ended"}));
    };
    let streams = picture.streams.iter().map(|stream| async {
        let status = stream.status().await;
        let lanes = status.iter().flat_map(|status| &status.lanes).map(|lane| {
            json!({
                "type": lane.kind.short(), "wildcard": lane.wildcard, "subscribed": lane.subscribed,
                "responses": lane.responses, "sent": lane.sent, "acked": lane.acked, "waiting": lane.waiting,
                "refused": lane.rejected.iter().map(|r| json!({"name": r.name, "message": r.message})).collect::<Vec<_>>(),
            })
        });
        json!({
            "workload": stream.workload, "userAgent": stream.user_agent, "variant": format!("{:?}", stream.kind.variant),
            "published": stream.published, "served": status.as_ref().and_then(|status| status.revision),
            "synced": status.as_ref().is_some_and(|status| status.synced), "types": lanes.collect::<Vec<_>>(),
        })
    });
    let streams = futures::future::join_all(streams).await;
    let published = &picture.published;
    Json(json!({
        "store": stored,
        "follow": follow,
        "compiled": {
            "ready": published.ready,
            "policyRevision": published.policy_revision,
            "publication": published.revision,
            "workloads": picture.workloads.len(),
            "heldBack": published.held_back,
        },
        "streams": streams,
    }))
}
