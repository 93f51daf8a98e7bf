//! What people are served: the REST API (policies in, the state of the mesh out), and on this machine alone the admin
//! endpoints and the files that `weft` finds.
//!
//! Every call needs a token, on loopback too, or a browser's session that began with one (`access`); what beside it is declared
//! with the call's path (`needs`). Every error is a problem document with a stable code.
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
//! | `/v1/history`, `/v1/rollback` | what was changed, and going back |
//! | `/v1/taps` | requests as they end, for who looks on |
//! | `/v1/tokens` | what workloads join with |
//! | `/v1/principals`, `/v1/access`, `/v1/audit` | who has a token, what the caller may do, who did what |
//! | `/v1/ca` | the certificate authority |
//! | `/v1/backup` | the whole state, for `weft-control-plane restore` |
//! | `/v1/session`, `/v1/login-codes` | signing a browser in |
//! | `/ui/` | the page |
//! | `/openapi.json` | this, for programs |

mod access;
pub mod admin;
mod apply;
mod audit;
mod author;
mod authority;
mod backup;
mod diff;
mod document_diff;
mod edges;
mod error;
mod explain;
mod extract;
mod history;
mod host;
pub mod local_access;
mod needs;
mod objects;
mod openapi;
mod principals;
mod proxies;
mod requests;
mod rights;
mod rollback;
mod session;
mod state;
mod taps;
mod tokens;
mod ui;
mod watch;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use weft_policies::kinds::role::{ApiKind, RoleVerb};

use needs::{Need, Recorded, needs};

pub use access::{Browsers, CallPace};
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
    let mut router = Router::new();
    for (path, need, recorded, methods) in calls() {
        router = router.route(path, needs(&api, need, recorded, methods));
    }
    router
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn_with_state(api.clone(), access::authenticate))
        .with_state(api)
}

/// Every call with what it needs, and whether it is recorded.
fn calls() -> Vec<(&'static str, Need, Recorded, MethodRouter<Api>)> {
    use ApiKind::{Audit, JoinToken, Proxy, Tap, Traffic};
    use Need::{EachDocument, Everywhere, Nothing, Object, Operator, Somewhere, SomewhereOfKind};
    use RoleVerb::{Delete, Read, Write};
    let object = "/v1/namespaces/{namespace}/{kinds}/{name}";
    vec![
        (
            "/v1/apply",
            EachDocument,
            Recorded::Revision,
            post(apply::apply).layer(DefaultBodyLimit::max(MAX_APPLY)),
        ),
        ("/v1/diff", EachDocument, Recorded::No, post(diff::diff).layer(DefaultBodyLimit::max(MAX_APPLY))),
        ("/v1/explain", Somewhere(Read, Traffic), Recorded::No, post(explain::explain)),
        ("/v1/rollback", EachDocument, Recorded::Revision, post(rollback::rollback)),
        ("/v1/{kinds}", SomewhereOfKind(Read), Recorded::No, get(objects::list)),
        (object, Object(Read), Recorded::No, get(objects::read)),
        (object, Object(Write), Recorded::Revision, put(objects::replace)),
        (object, Object(Write), Recorded::Revision, patch(objects::patch)),
        (object, Object(Delete), Recorded::Revision, delete(objects::delete)),
        // What is not the caller's to read is left out, document by document.
        ("/v1/history", Nothing, Recorded::No, get(history::list)),
        ("/v1/history/{revision}", Nothing, Recorded::No, get(history::one)),
        ("/v1/proxies", Somewhere(Read, Proxy), Recorded::No, get(proxies::list)),
        ("/v1/proxies/{id}", Somewhere(Read, Proxy), Recorded::No, get(proxies::one)),
        ("/v1/proxies/{id}/config", Somewhere(Read, Proxy), Recorded::No, get(proxies::config)),
        ("/v1/proxies/{id}/revoke", Somewhere(Delete, Proxy), Recorded::Yes, post(proxies::revoke)),
        ("/v1/edges", Somewhere(Read, Traffic), Recorded::No, get(edges::list)),
        ("/v1/edges/series", Somewhere(Read, Traffic), Recorded::No, get(edges::series)),
        ("/v1/watch/edges", Somewhere(Read, Traffic), Recorded::No, get(edges::watch)),
        ("/v1/watch/{kinds}", SomewhereOfKind(Read), Recorded::No, get(watch::watch)),
        ("/v1/requests", Somewhere(Read, Traffic), Recorded::No, get(requests::list)),
        ("/v1/requests/{id}", Somewhere(Read, Traffic), Recorded::No, get(requests::one)),
        ("/v1/taps", Somewhere(Read, Tap), Recorded::Yes, get(taps::watch)),
        ("/v1/tokens", Somewhere(Read, JoinToken), Recorded::No, get(tokens::list)),
        ("/v1/tokens", Somewhere(Write, JoinToken), Recorded::Yes, post(tokens::create)),
        ("/v1/tokens/{id}", Somewhere(Delete, JoinToken), Recorded::Yes, delete(tokens::revoke)),
        ("/v1/principals", Operator, Recorded::No, get(principals::list)),
        ("/v1/principals", Operator, Recorded::Yes, post(principals::create)),
        ("/v1/principals/{name}", Operator, Recorded::Yes, delete(principals::revoke)),
        ("/v1/principals/{name}/token", Operator, Recorded::Yes, post(principals::rotate)),
        ("/v1/audit", Everywhere(Read, Audit), Recorded::No, get(audit::list)),
        // It holds sealed keys and hashes of tokens.
        ("/v1/backup", Operator, Recorded::Yes, get(backup::take)),
        ("/v1/ca", Nothing, Recorded::No, get(authority::status)),
        ("/v1/access", Nothing, Recorded::No, get(principals::of_caller)),
        (
            "/v1/session",
            Nothing,
            Recorded::No,
            get(session::read).patch(session::change).delete(session::end),
        ),
        ("/v1/login-codes", Nothing, Recorded::Yes, post(session::make_code)),
        ("/openapi.json", Nothing, Recorded::No, get(openapi::document)),
    ]
}
