//! `envoy.filters.http.ext_authz`: a server of the operator's own decides which requests go on.
//!
//! ```text
//!   request --check--> Verdict   Ok: the head is changed, and may be routed again
//!                                Denied: the server's answer is the caller's
//!                                Error: no verdict; refused, or let on where `failure_mode_allow` says so
//!                                Invalid: what the server wants of the head cannot be done; refused
//! ```

mod check_request;
pub(super) mod decode;
mod grpc_service;
mod http_service;
mod query;
pub(super) mod run;
mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::fraction::Fraction;
use crate::route::HeaderOps;
use crate::stats::{CounterId, StatsRegistry, StatsScope};
use query::QueryChanges;
use weft_routing::matcher::StringMatch;

/// `envoy.filters.http.ext_authz`.
#[derive(Debug)]
pub struct ExtAuthz {
    pub(super) service: AuthzService,
    /// Requests that are checked.
    pub(super) enabled: Fraction,
    /// What becomes of the others.
    pub(super) when_disabled: WhenDisabled,
    pub(super) on_error: OnError,
    /// Of the answer to a request on which there is no verdict.
    pub(super) status_on_error: StatusCode,
    pub(super) with_body: Option<WithBody>,
    pub(super) clear_route_cache: bool,
    /// Headers that a server is told of over HTTP, besides those that it always is; by gRPC alone, unless the list is empty.
    pub(super) allowed_headers: Vec<StringMatch>,
    /// Headers that it is never told of.
    pub(super) disallowed_headers: Vec<StringMatch>,
    /// How much of the body of a refusal the caller gets; `None` is all.
    pub(super) max_denied_body: Option<usize>,
    /// `charge_cluster_response_stats`: whether the route's cluster counts refusals among its responses.
    pub(super) charges_cluster: bool,
    /// `http.PREFIX.ext_authz.*`.
    pub(super) stats: ExtAuthzStats,
    /// Whether the route's cluster counts verdicts. It does not where the filter has a `stat_prefix`.
    pub(super) counts_by_cluster: bool,
}

/// `deny_at_disable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenDisabled {
    Allow,
    Deny,
}

/// What becomes of a request on which there is no verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnError {
    Deny,
    Allow,
    /// It goes on with a header that says so.
    AllowAndSay,
}

/// How much of the content the server is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WithBody {
    /// Bytes. Never 0.
    pub(super) most: usize,
    /// Whether the beginning will do; else requests with more are answered 413.
    pub(super) partial: bool,
    /// Whether a server that is asked by gRPC is told of bytes, not of text.
    pub(super) as_bytes: bool,
}

/// What a level of the routes says.
#[derive(Debug, Default)]
pub struct CheckSettings {
    pub(super) body: BodySettings,
    /// What a server that is asked by gRPC is told besides.
    pub(super) context_extensions: HashMap<String, String>,
}

/// What a level of the routes says of the content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum BodySettings {
    /// As the filter has it.
    #[default]
    Inherited,
    None,
    With(WithBody),
}

#[derive(Debug)]
pub(super) enum AuthzService {
    Http(HttpService),
    Grpc(GrpcService),
}

impl AuthzService {
    /// The cluster that the server is in.
    pub(super) fn cluster(&self) -> &Arc<str> {
        match self {
            Self::Http(service) => &service.cluster,
            Self::Grpc(service) => &service.cluster,
        }
    }
}

/// A server that is asked by gRPC.
#[derive(Debug)]
pub(super) struct GrpcService {
    pub(super) cluster: Arc<str>,
    pub(super) authority: Authority,
    /// Of the whole call; `None` leaves the bound to the request's own limits.
    pub(super) timeout: Option<Duration>,
    /// Bytes that the answer may have.
    pub(super) largest: usize,
    /// `initial_metadata`.
    pub(super) metadata: HeaderOps,
    pub(super) include_peer_certificate: bool,
    pub(super) include_tls_session: bool,
}

/// A server that is asked over HTTP: 200 lets the request on.
#[derive(Debug)]
pub(super) struct HttpService {
    pub(super) cluster: Arc<str>,
    /// Of the whole call; `None` leaves the bound to the request's own limits.
    pub(super) timeout: Option<Duration>,
    pub(super) path: CheckPath,
    /// Added to what the server is told.
    pub(super) headers_to_add: HeaderOps,
    pub(super) upstream_headers: Vec<StringMatch>,
    pub(super) upstream_headers_to_append: Vec<StringMatch>,
    /// Empty is all of them.
    pub(super) client_headers: Vec<StringMatch>,
    pub(super) client_headers_on_success: Vec<StringMatch>,
}

/// Which path the server is asked for.
#[derive(Debug)]
pub(super) enum CheckPath {
    /// The request's, behind this.
    Prefixed(Box<str>),
    Fixed(PathAndQuery),
}

/// What a server decides.
#[derive(Debug)]
pub(super) enum CheckStatus {
    Ok(HeadChanges),
    Denied(Denial),
    /// There is none; with the answer that the server wants where that is no reason to let the request on.
    Error(Option<Denial>),
    /// It wants what cannot be done.
    Invalid,
}

/// What becomes of the heads of a request that goes on, and of its response.
#[derive(Debug, Default)]
pub(super) struct HeadChanges {
    pub(super) request: Vec<RequestChange>,
    /// Headers that go behind these changes.
    pub(super) remove: Vec<HeaderName>,
    pub(super) query: QueryChanges,
    pub(super) response: HeaderOps,
}

/// What becomes of one header of a request.
#[derive(Debug)]
pub(super) enum RequestChange {
    Set(HeaderName, HeaderValue),
    Append(HeaderName, HeaderValue),
    /// The value is put behind a comma; a header that is not there stays away.
    JoinIfExists(HeaderName, HeaderValue),
}

/// The answer to a request that does not go on.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

impl Denial {
    pub(super) fn of(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }
}

impl ExtAuthz {
    /// Whether responses to requests that went on may be changed.
    pub(super) fn changes_responses(&self) -> bool {
        match &self.service {
            AuthzService::Http(service) => !service.client_headers_on_success.is_empty(),
            AuthzService::Grpc(_) => true,
        }
    }
}

/// `http.PREFIX.ext_authz.*`.
#[derive(Debug, Clone)]
pub(super) struct ExtAuthzStats {
    pub(super) ok: CounterId,
    pub(super) denied: CounterId,
    pub(super) error: CounterId,
    pub(super) invalid: CounterId,
    pub(super) disabled: CounterId,
    pub(super) failure_mode_allowed: CounterId,
}

impl ExtAuthzStats {
    pub(super) fn register(registry: &mut StatsRegistry, manager: &StatsScope, prefix: &str) -> Self {
        let scope = manager.child("ext_authz");
        let scope = if prefix.is_empty() { scope } else { scope.child(prefix) };
        Self {
            ok: registry.counter(&scope, "ok"),
            denied: registry.counter(&scope, "denied"),
            error: registry.counter(&scope, "error"),
            invalid: registry.counter(&scope, "invalid"),
            disabled: registry.counter(&scope, "disabled"),
            failure_mode_allowed: registry.counter(&scope, "failure_mode_allowed"),
        }
    }
}
