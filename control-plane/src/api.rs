//! What people are served: the REST API (policies in, the state of the mesh out), and on this machine alone the admin
//! endpoints and the files that `weft` finds.
//!
//! Every call needs a token, on loopback too, or a browser's session that began with one (`access`); what beside it is declared
//! with the call's path (`calls`), from which the description is made too (`openapi`). Every error is a problem document with a
//! stable code.
//!
//! | path | |
//! | --- | --- |
//! | `POST /v1/apply` | a set of documents, one transaction |
//! | `POST /v1/diff` | what an apply would change |
//! | `POST /v1/explain` | what would become of a request, and why |
//! | `/v1/{kinds}`, `/v1/namespaces/{ns}/{kinds}/{name}` | list, read, replace, delete |
//! | `/v1/watch/{kinds}` | objects as they change |
//! | `/v1/proxies` | who is connected, what each took |
//! | `/v1/edges`, `/v1/edges/series`, `/v1/watch/edges` | traffic between services: now, over the last day, as it goes |
//! | `/v1/requests` | what failed or was refused, and why |
//! | `/v1/check`, `/v1/version`, `/v1/debug` | what is wrong, which versions there are, control planes from inside |
//! | `/v1/history`, `/v1/rollback` | what was changed, and going back |
//! | `/v1/taps` | requests as they end, for who looks on |
//! | `/v1/tokens` | what workloads join with |
//! | `/v1/principals`, `/v1/access`, `/v1/audit` | who has a token, what the caller may do, who did what |
//! | `/v1/ca` | the certificate authority |
//! | `/v1/backup` | the whole state, for `weft-control-plane restore` |
//! | `/v1/session`, `/v1/login-codes` | signing a browser in |
//! | `/ui/` | the page |
//! | `/docs` | this, for people |
//! | `/openapi.json`, `/v1/schemas/{kind}` | this, for programs |

mod access;
pub mod admin;
mod answer;
mod apply;
mod audit;
mod author;
mod authority;
mod backup;
mod calls;
mod change;
mod check;
mod condition_times;
mod configuration;
mod delivery;
mod described;
mod diff;
mod docs;
mod document_diff;
mod drain;
mod edges;
mod effective;
mod error;
mod explain;
mod extract;
mod history;
mod host;
pub mod local_access;
mod mesh_proxies;
mod needs;
mod objects;
mod openapi;
mod own;
mod parameter;
mod principals;
mod problem_code;
mod proxies;
mod replica;
mod requests;
mod rights;
mod rollback;
mod schemas;
mod session;
mod state;
mod status;
mod taps;
mod tokens;
mod ui;
mod version;
mod watch;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};

pub use access::{Browsers, CallPace};
pub use backup::AT_ONCE as BACKUPS_AT_ONCE;
pub use edges::WATCHERS;
pub use error::{ApiError, problem_response};
pub use own::OwnReplica;
pub use problem_code::ProblemCode;
pub use replica::router as replica_router;
pub use state::Api;
pub use taps::VIEWERS as TAP_VIEWERS;

/// Body of an ordinary call: 1 MiB.
const MAX_BODY: usize = 1 << 20;

/// The whole API, and the page.
pub fn router(api: Api) -> Router {
    let (signed_in, open, description) = openapi::routes(&api);
    let docs = docs::router(&description);
    let signed_in = signed_in
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(Extension(description))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(api.clone(), access::authenticate));
    signed_in.with_state(api.clone()).merge(open.with_state(api)).merge(docs).merge(ui::router())
}
