//! What people are served: the REST API (policies in, the state of the mesh out), and on this machine alone the admin
//! endpoints and the files that `weft` finds.
//!
//! Every call needs the operator token, on loopback too. Every error is a problem document with a stable code.
//!
//! | path | |
//! | --- | --- |
//! | `POST /v1/apply` | a set of documents, one transaction |
//! | `/v1/{kinds}`, `/v1/namespaces/{ns}/{kinds}/{name}` | list, read, replace, delete |
//! | `/v1/proxies` | who is connected, what each took |
//! | `/v1/edges`, `/v1/edges/series`, `/v1/watch/edges` | traffic between services: now, over the last day, as it goes |
//! | `/v1/tokens` | what workloads join with |
//! | `/v1/ca` | the certificate authority |
//! | `/v1/backup` | the whole state, for `weft-control-plane restore` |
//! | `/openapi.json` | this, for programs |

pub mod admin;
mod apply;
mod authority;
mod backup;
mod edges;
mod error;
mod extract;
pub mod local_access;
mod objects;
mod openapi;
mod proxies;
mod state;
mod tokens;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};

pub use backup::AT_ONCE as BACKUPS_AT_ONCE;
pub use edges::WATCHERS;
pub use error::{ApiError, problem_response};
pub use state::Api;

/// Body of an ordinary call: 1 MiB.
const MAX_BODY: usize = 1 << 20;
/// Body of an apply: 8 MiB.
const MAX_APPLY: usize = 8 << 20;

/// The whole API.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/apply", post(apply::apply).layer(DefaultBodyLimit::max(MAX_APPLY)))
        .route("/v1/proxies", get(proxies::list))
        .route("/v1/proxies/{id}", get(proxies::one))
        .route("/v1/proxies/{id}/config", get(proxies::config))
        .route("/v1/proxies/{id}/revoke", post(proxies::revoke))
        .route("/v1/edges", get(edges::list))
        .route("/v1/edges/series", get(edges::series))
        .route("/v1/watch/edges", get(edges::watch))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", axum::routing::delete(tokens::revoke))
        .route("/v1/ca", get(authority::status))
        .route("/v1/backup", get(backup::take))
        .route("/v1/{kinds}", get(objects::list))
        .route(
            "/v1/namespaces/{namespace}/{kinds}/{name}",
            get(objects::read).put(objects::replace).delete(objects::delete),
        )
        .route("/openapi.json", get(openapi::document))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(api.clone(), authenticate))
        .with_state(api)
}

/// Lets through whoever carries the operator token.
async fn authenticate(State(api): State<Api>, request: Request, next: Next) -> Result<Response, ApiError> {
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    let Some(token) = token else {
        return Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "send `Authorization: Bearer TOKEN`; the token is in operator.token in the control plane's data directory",
        ));
    };
    if api.operators.verify(token.trim()).await? {
        Ok(next.run(request).await)
    } else {
        Err(ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", "this token is not known here"))
    }
}
