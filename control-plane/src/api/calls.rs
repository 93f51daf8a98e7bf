//! Every call of the API: where it is, what it needs, what it is for. Routes and their description are made of this.

use aide::axum::routing::{ApiMethodRouter, delete, get, patch, post, put};
use axum::extract::DefaultBodyLimit;
use weft_policies::kinds::role::{ApiKind, RoleVerb};

use super::needs::{Need, Recorded};
use super::state::Api;
use super::{
    apply, audit, authority, backup, check, configuration, diff, drain, edges, explain, history,
    mesh_proxies, objects, openapi, principals, proxies, requests, rollback, schemas, session, taps, tokens,
    version, watch,
};

/// Body of an apply: 8 MiB.
const MAX_APPLY: usize = 8 << 20;
/// Body of an import: a chain, and room for it to be JSON.
const MAX_CHAIN: usize = 128 << 10;
/// Body of a sign-in: 4 KiB.
const MAX_SIGN_IN: usize = 4 << 10;
const OBJECT: &str = "/v1/namespaces/{namespace}/{kinds}/{name}";

/// One call: a method of a path.
pub struct ApiCall {
    pub path: &'static str,
    /// What it needs beside a token.
    pub need: Need,
    pub recorded: Recorded,
    /// What it is for, for people.
    pub summary: &'static str,
    pub method: ApiMethodRouter<Api>,
}

type CallRow = (&'static str, Need, Recorded, &'static str, ApiMethodRouter<Api>);

/// What needs a token or a session.
pub fn signed_in() -> Vec<ApiCall> {
    let rows = [changes(), objects(), proxies(), operation(), traffic(), tokens(), operators(), sessions()];
    rows.into_iter().chain([description()]).flatten().map(call).collect()
}

/// What a caller without a token and without a session may ask.
pub fn open() -> Vec<ApiCall> {
    let sign_in = post(session::sign_in).layer(DefaultBodyLimit::max(MAX_SIGN_IN));
    let summary = "Sign a browser in: the answer sets its cookie";
    vec![call(("/v1/session", Need::Nothing, Recorded::No, summary, sign_in))]
}

fn call((path, need, recorded, summary, method): CallRow) -> ApiCall {
    ApiCall { path, need, recorded, summary, method }
}

fn changes() -> Vec<CallRow> {
    use Need::{EachDocument, Nothing};
    vec![
        (
            "/v1/apply",
            EachDocument,
            Recorded::Revision,
            "Apply YAML or JSON documents as one transaction",
            post(apply::apply).layer(DefaultBodyLimit::max(MAX_APPLY)),
        ),
        (
            "/v1/diff",
            EachDocument,
            Recorded::No,
            "What an apply would change: documents, what proxies are given, whose requests are refused",
            post(diff::diff).layer(DefaultBodyLimit::max(MAX_APPLY)),
        ),
        (
            "/v1/rollback",
            EachDocument,
            Recorded::Revision,
            "Make the policies what they were after an earlier revision, as a new change",
            post(rollback::rollback),
        ),
        (
            "/v1/explain",
            Need::Somewhere(RoleVerb::Read, ApiKind::Traffic),
            Recorded::No,
            "What would become of a request, and why: route, clusters, whether the called side lets it pass",
            post(explain::explain),
        ),
        // What is not the caller's to read is left out, document by document.
        (
            "/v1/history",
            Nothing,
            Recorded::No,
            "What was changed, by whom, the newest first",
            get(history::list),
        ),
        (
            "/v1/history/{revision}",
            Nothing,
            Recorded::No,
            "One change: each document before and after, and with `wait` which proxies have it",
            get(history::one),
        ),
    ]
}

fn objects() -> Vec<CallRow> {
    use Need::{Object, SomewhereOfKind};
    use RoleVerb::{Delete, Read, Write};
    vec![
        ("/v1/{kinds}", SomewhereOfKind(Read), Recorded::No, "List objects of a kind", get(objects::list)),
        (OBJECT, Object(Read), Recorded::No, "Read an object", get(objects::read)),
        (OBJECT, Object(Write), Recorded::Revision, "Replace an object", put(objects::replace)),
        (
            OBJECT,
            Object(Write),
            Recorded::Revision,
            "Change a part of an object, by a JSON merge patch (RFC 7396)",
            patch(objects::patch),
        ),
        (OBJECT, Object(Delete), Recorded::Revision, "Delete an object", delete(objects::delete)),
        (
            "/v1/watch/{kinds}",
            SomewhereOfKind(Read),
            Recorded::No,
            "Objects of a kind as they change: events `snapshot` (ObjectList), `changes` (ObjectChanges), `gone`, to be \
             resumed by `last-event-id`",
            get(watch::watch),
        ),
    ]
}

fn proxies() -> Vec<CallRow> {
    use ApiKind::Proxy;
    use Need::Somewhere;
    use RoleVerb::{Delete, Read};
    vec![
        (
            "/v1/proxies",
            Somewhere(Read, Proxy),
            Recorded::No,
            "Who is connected, and what each took",
            get(mesh_proxies::list),
        ),
        ("/v1/proxies/{id}", Somewhere(Read, Proxy), Recorded::No, "One proxy", get(mesh_proxies::one)),
        (
            "/v1/proxies/{id}/config",
            Somewhere(Read, Proxy),
            Recorded::No,
            "What a proxy should have, was sent and acknowledged, secrets redacted",
            get(configuration::of_proxy),
        ),
        (
            "/v1/proxies/{id}/revoke",
            Somewhere(Delete, Proxy),
            Recorded::Yes,
            "Take a workload out of the mesh, and its certificates with it",
            post(proxies::revoke),
        ),
        (
            "/v1/proxies/{id}/drain",
            Somewhere(RoleVerb::Write, Proxy),
            Recorded::Revision,
            "Take a workload out of balancing for everybody, or back",
            post(drain::drain),
        ),
    ]
}

fn operation() -> Vec<CallRow> {
    use Need::{Nothing, Operator, Somewhere};
    vec![
        // What is not the caller's to read is left out, finding by finding.
        (
            "/v1/check",
            Somewhere(RoleVerb::Read, ApiKind::Proxy),
            Recorded::No,
            "What is wrong with the mesh, each with its remedy",
            get(check::check),
        ),
        (
            "/v1/version",
            Nothing,
            Recorded::No,
            "Versions of control planes and proxies",
            get(version::version),
        ),
        // It holds log lines and metrics of the whole mesh.
        (
            "/v1/debug",
            Operator,
            Recorded::Yes,
            "Control planes from inside: dump, metrics, newest log lines",
            get(version::of_control_planes),
        ),
    ]
}

fn traffic() -> Vec<CallRow> {
    use ApiKind::{Tap, Traffic};
    use Need::Somewhere;
    use RoleVerb::Read;
    vec![
        ("/v1/edges", Somewhere(Read, Traffic), Recorded::No, "Traffic between services", get(edges::list)),
        (
            "/v1/edges/series",
            Somewhere(Read, Traffic),
            Recorded::No,
            "Traffic to a service over time",
            get(edges::series),
        ),
        (
            "/v1/watch/edges",
            Somewhere(Read, Traffic),
            Recorded::No,
            "Traffic between services as it goes: an event `edges` (EdgeList) each 2 s",
            get(edges::watch),
        ),
        (
            "/v1/requests",
            Somewhere(Read, Traffic),
            Recorded::No,
            "Requests that failed or were refused lately, newest first",
            get(requests::list),
        ),
        (
            "/v1/requests/{id}",
            Somewhere(Read, Traffic),
            Recorded::No,
            "The hops of one of them, by its x-request-id",
            get(requests::one),
        ),
        (
            "/v1/taps",
            Somewhere(Read, Tap),
            Recorded::Yes,
            "Requests as they end, while one looks on: events `listening` (TapListening), `request` (TapLine), `notShown` \
             (TapNotShown)",
            get(taps::watch),
        ),
    ]
}

fn tokens() -> Vec<CallRow> {
    use ApiKind::JoinToken;
    use Need::Somewhere;
    use RoleVerb::{Delete, Read, Write};
    let token = "/v1/tokens/{id}";
    vec![
        ("/v1/tokens", Somewhere(Read, JoinToken), Recorded::No, "List join tokens", get(tokens::list)),
        ("/v1/tokens", Somewhere(Write, JoinToken), Recorded::Yes, "Make a join token", post(tokens::create)),
        (token, Somewhere(Delete, JoinToken), Recorded::Yes, "Revoke a join token", delete(tokens::revoke)),
    ]
}

fn operators() -> Vec<CallRow> {
    use Need::{Everywhere, Nothing, Operator};
    vec![
        (
            "/v1/principals",
            Operator,
            Recorded::No,
            "Who has a token beside the operators, and which roles",
            get(principals::list),
        ),
        (
            "/v1/principals",
            Operator,
            Recorded::Yes,
            "Make a principal, and its token",
            post(principals::create),
        ),
        (
            "/v1/principals/{name}",
            Operator,
            Recorded::Yes,
            "Remove a principal: its token opens nothing any more",
            delete(principals::revoke),
        ),
        (
            "/v1/principals/{name}/token",
            Operator,
            Recorded::Yes,
            "Another token, in place of the one before",
            post(principals::rotate),
        ),
        (
            "/v1/audit",
            Everywhere(RoleVerb::Read, ApiKind::Audit),
            Recorded::No,
            "Who did what, the newest first",
            get(audit::list),
        ),
        // It holds sealed keys and hashes of tokens.
        (
            "/v1/backup",
            Operator,
            Recorded::Yes,
            "The whole state of the mesh, for `weft-control-plane restore`",
            get(backup::take),
        ),
        ("/v1/ca", Nothing, Recorded::No, "State of the certificate authority", get(authority::status)),
        (
            "/v1/ca/rotation",
            Operator,
            Recorded::Yes,
            "Replace the root of the mesh, stage by stage",
            post(authority::rotate),
        ),
        (
            "/v1/ca/rotation",
            Operator,
            Recorded::Yes,
            "Undo the replacement of the root: the old one stays",
            delete(authority::abort),
        ),
        (
            "/v1/ca/reseal",
            Operator,
            Recorded::Yes,
            "Seal the authority's keys at rest with the newest seal key",
            post(authority::reseal),
        ),
        (
            "/v1/ca/csr",
            Operator,
            Recorded::Yes,
            "The request for a certificate of the mesh's issuer, for the owner of an offline root to sign",
            post(authority::request),
        ),
        (
            "/v1/ca/import",
            Operator,
            Recorded::Yes,
            "Bring the signed chain of the mesh's issuer: the mesh moves to its root, or renews its issuer",
            post(authority::import).layer(DefaultBodyLimit::max(MAX_CHAIN)),
        ),
    ]
}

fn sessions() -> Vec<CallRow> {
    use Need::Nothing;
    vec![
        ("/v1/access", Nothing, Recorded::No, "What the caller may do", get(principals::of_caller)),
        ("/v1/session", Nothing, Recorded::No, "What this browser's session may do", get(session::read)),
        (
            "/v1/session",
            Nothing,
            Recorded::No,
            "Let this session change things, or only read",
            patch(session::change),
        ),
        ("/v1/session", Nothing, Recorded::No, "Sign this browser out", delete(session::end)),
        (
            "/v1/login-codes",
            Nothing,
            Recorded::Yes,
            "A code that signs one browser in, within a minute",
            post(session::make_code),
        ),
    ]
}

fn description() -> Vec<CallRow> {
    use Need::Nothing;
    vec![
        (
            "/v1/schemas/{kind}",
            Nothing,
            Recorded::No,
            "The JSON Schema (2020-12) of a kind's documents",
            get(schemas::of_kind),
        ),
        ("/openapi.json", Nothing, Recorded::No, "This description", get(openapi::document)),
    ]
}
