//! What people are served: the REST API (policies in, the state of the mesh out), and on this machine alone the admin
//! endpoints and the files that `weft` finds.
//!
//! Every call needs the operator token, on loopback too, or a browser's session that began with it (`access`). Every error is a problem document with a stable code.
//!
//! | path | |
//! | --- | --- |
//! | `POST /v1/apply` | a set of documents, one transaction |
//! | `/v1/{kinds}`, `/v1/namespaces/{ns}/{kinds}/{name}` | list, read, replace, delete |
//! | `/v1/proxies` | who is connected, what each took |
//! | `/v1/edges`, `/v1/edges/series`, `/v1/watch/edges` | traffic between services: now, over the last day, as it goes |
//! | `/v1/requests` | what failed or was refused, and why |
//! | `/v1/taps` | requests as they end, for who looks on |
//! | `/v1/tokens` | what workloads join with |
//! | `/v1/ca` | the certificate authority |
//! | `/v1/backup` | the whole state, for `weft-control-plane restore` |
//! | `/v1/session`, `/v1/login-codes` | signing a browser in |
//! | `/ui/` | the page |
//! | `/openapi.json` | this, for programs |

mod access;
pub mod admin;
mod apply;
mod authority;
mod backup;
mod edges;
mod error;
mod extract;
mod host;
pub mod local_access;
mod objects;
mod openapi;
mod proxies;
mod requests;
mod session;
mod state;
mod taps;
mod tokens;
mod ui;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};

pub use access::Browsers;
pub use backup::AT_ONCE as BACKUPS_AT_ONCE;
pub use edges::WATCHERS;
pub use error::{ApiError, problem_response};
pub use state::Api;
pub use taps::VIEWERS as TAP_VIEWERS;

/// Body of an ordinary call: 1 MiB.
const MAX_BODY: usize = 1 << 20;
/// Body of an apply: 8 MiB.
const MAX_APPLY: usize = 8 << 20;

/// Body of a sign-in: 4 KiB.
const MAX_SIGN_IN: usize = 4 << 10;

/// The whole API, and the page.
pub fn router(api: Api) -> Router {
    let signing_in = Router::new()
        .route("/v1/session", post(session::sign_in).layer(DefaultBodyLimit::max(MAX_SIGN_IN)))
        .with_state(api.clone());
    signed_in(api).merge(signing_in).merge(ui::router())
}

/// What needs a token or a session.
fn signed_in(api: Api) -> Router {
    Router::new()
        .route("/v1/apply", post(apply::apply).layer(DefaultBodyLimit::max(MAX_APPLY)))
        .route("/v1/proxies", get(proxies::list))
        .route("/v1/proxies/{id}", get(proxies::one))
        .route("/v1/proxies/{id}/config", get(proxies::config))
        .route("/v1/proxies/{id}/revoke", post(proxies::revoke))
        .route("/v1/edges", get(edges::list))
        .route("/v1/edges/series", get(edges::series))
        .route("/v1/watch/edges", get(edges::watch))
        .route("/v1/requests", get(requests::list))
        .route("/v1/requests/{id}", get(requests::one))
        .route("/v1/taps", get(taps::watch))
        .route("/v1/tokens", get(tokens::list).post(tokens::create))
        .route("/v1/tokens/{id}", axum::routing::delete(tokens::revoke))
        .route("/v1/ca", get(authority::status))
        .route("/v1/backup", get(backup::take))
        .route("/v1/session", get(session::read).patch(session::change).delete(session::end))
        .route("/v1/login-codes", post(session::make_code))
        .route("/v1/{kinds}", get(objects::list))
        .route(
            "/v1/namespaces/{namespace}/{kinds}/{name}",
            get(objects::read).put(objects::replace).delete(objects::delete),
        )
        .route("/openapi.json", get(openapi::document))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(api.clone(), access::authenticate))
        .with_state(api)
}
