//! For operators and probes on this machine: is it ready, is it alive, what does it count, where does a change stand.
//!
//! Nobody is asked who they are, so that a browser on this machine must not carry a web page's questions here: neither
//! those across origins, nor those to a name that the page's owner has pointed to this address.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::host;
use crate::ca::ServerName;
use crate::metrics::Metrics;
use crate::policy::repository::Policies;
use crate::reconciler::ReconcilerHandle;

/// What the endpoints show.
#[derive(Clone, Debug)]
pub struct Admin {
    pub reconciler: ReconcilerHandle,
    pub policies: Policies,
    pub metrics: Metrics,
    /// How fresh the store's changes are.
    pub store: watch::Receiver<weft_store::FollowHealth>,
    /// Names that it may be asked by, beside any address and `localhost`.
    pub names: Arc<[ServerName]>,
}

pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/dump", get(dump))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there are /ready, /live, /metrics and /dump\n") })
        .layer(from_fn_with_state(Arc::clone(&admin.names), turn_away_web_pages))
        .with_state(admin)
}

/// What Prometheus reads and nothing else, for a listener that others reach.
pub fn metrics_router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is /metrics\n") })
        .layer(from_fn_with_state(Arc::clone(&admin.names), turn_away_web_pages))
        .with_state(admin)
}

async fn turn_away_web_pages(
    State(names): State<Arc<[ServerName]>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "web pages are not answered here\n").into_response();
    }
    let authority = host::authority(&request);
    // A client without a host is no browser.
    let is_absent = authority.is_none() && !headers.contains_key(header::HOST);
    if is_absent || authority.is_some_and(|authority| host::is_ours(authority.host(), &names)) {
        return next.run(request).await;
    }
    let text = "this host is not one of this control plane's; ask by address, or name it with --xds-name\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.reconciler.published().borrow().ready {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: the store has not been read yet\n").into_response()
    }
}

/// All metrics, as text.
pub fn metrics_of(admin: &Admin) -> String {
    let (revision, held_back) = {
        let published = admin.reconciler.published();
        let published = published.borrow();
        (published.revision, published.held_back)
    };
    admin.metrics.render(revision, held_back)
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = metrics_of(&admin);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

async fn dump(State(admin): State<Admin>) -> Json<Value> {
    Json(dump_of(&admin).await)
}

/// Every stage of a change on its way, with its revision.
pub async fn dump_of(admin: &Admin) -> Value {
    let stored = match admin.policies.head().await {
        Ok(head) => json!({"policyRevision": head.revision(), "policies": head.set.len()}),
        Err(error) => json!({"error": error.to_string()}),
    };
    let follow = match &*admin.store.borrow() {
        weft_store::FollowHealth::Live => json!({"state": "Live"}),
        weft_store::FollowHealth::Stale { since, reason } => {
            json!({"state": "Stale", "forSeconds": since.elapsed().as_secs(), "reason": reason})
        }
    };
    let Some(snapshot) = admin.reconciler.snapshot().await else {
        return json!({"store": stored, "error": "the reconciler has ended"});
    };
    let streams = snapshot.streams.iter().map(|stream| async {
        let status = stream.status().await;
        let types = status.iter().flat_map(|status| &status.types).map(|entry| {
            json!({
                "type": entry.kind.short(), "wildcard": entry.wildcard, "subscribed": entry.subscribed,
                "responses": entry.responses, "sent": entry.sent, "acked": entry.acked, "waiting": entry.waiting,
                "refused": entry.rejected.iter().map(|r| json!({"name": r.name, "message": r.message})).collect::<Vec<_>>(),
            })
        });
        json!({
            "workload": stream.workload, "userAgent": stream.user_agent, "variant": format!("{:?}", stream.kind.variant),
            "published": stream.published, "served": status.as_ref().and_then(|status| status.revision),
            "synced": status.as_ref().is_some_and(|status| status.synced), "types": types.collect::<Vec<_>>(),
        })
    });
    let streams = futures::future::join_all(streams).await;
    let published = &snapshot.published;
    json!({
        "store": stored,
        "follow": follow,
        "compiled": {
            "ready": published.ready,
            "policyRevision": published.policy_revision,
            "publication": published.revision,
            "workloads": snapshot.workloads.len(),
            "heldBack": published.held_back,
        },
        "streams": streams,
    })
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn web_pages_are_turned_away() {
        let names: Arc<[ServerName]> = Arc::new([ServerName::Dns("cp.example.com".to_owned())]);
        let app = Router::new()
            .route("/", get(|| async { "here" }))
            .layer(from_fn_with_state(names, turn_away_web_pages));
        let status = async |uri: &str, headers: &[(&str, &str)]| {
            let request = headers
                .iter()
                .fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
            app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
        };
        for host in ["127.0.0.1:7402", "[::1]:7402", "10.1.2.3", "localhost:7402", "CP.example.com:7402"] {
            assert_eq!(status("/", &[("host", host)]).await, 200, "{host}");
            assert_eq!(status("/", &[("host", host), ("origin", "https://evil.test")]).await, 403, "{host}");
        }
        for host in ["evil.test:7402", "127.0.0.1.evil.test", "localhost.evil.test", "a b", ""] {
            assert_eq!(status("/", &[("host", host)]).await, 403, "{host}");
        }
        assert_eq!(status("http://evil.test/", &[("host", "localhost")]).await, 403, "as HTTP/2 says it");
        assert_eq!(status("/", &[]).await, 200, "a probe by HTTP/1.0");
    }
}
