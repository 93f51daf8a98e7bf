//! HTTP filters: what a request passes between the connection manager and the router, and its response on the way back.
//!
//! ```text
//!   Any  --decode-->  HttpFilter { name, Filter }      in HttpManager, in order
//!   Any  --decode-->  Override                         in RouteConfig, by level and filter name
//!   head of a request  --chain::on_request-->   continue, or an answer
//!   head of a response --chain::on_response-->  in reverse order, on answers of our own too
//! ```
//!
//! A filter may wait, and read the request's content before it goes on; who does not ask for that has no cost by it.
//!
//! Each filter has a folder: what it means, how it is read (`decode`) and what it does (`run`). [`Filter`] is closed and
//! matched exhaustively: a filter that is read and not run does not compile.

pub mod buffer;
pub(crate) mod chain;
pub mod compressor;
pub(crate) mod connection;
pub mod cors;
pub mod decode;
mod dynamic_forward_proxy;
pub mod ext_authz;
pub mod fault;
pub mod header_mutation;
pub mod jwt_authn;
pub mod local_rate_limit;
pub mod rbac;
pub(crate) mod request;
pub(crate) mod state;

use std::sync::Arc;

use buffer::Buffer;
use compressor::{Compressor, CompressorOverride};
use cors::{Cors, CorsPolicy};
use ext_authz::{CheckSettings, ExtAuthz};
use fault::{Fault, FaultSettings};
use header_mutation::{HeaderMutation, Mutations};
use jwt_authn::JwtAuthn;
use local_rate_limit::LocalRateLimit;
use rbac::Rbac;
use weft_routing::rbac::HttpRbac;

/// One entry of `http_filters`.
#[derive(Debug, Clone)]
pub struct HttpFilter {
    /// The entry's name, by which `typed_per_filter_config` means it.
    pub name: Arc<str>,
    pub filter: Filter,
}

/// The filters that there are, but for the router.
#[derive(Debug, Clone)]
pub enum Filter {
    /// `envoy.filters.http.rbac`.
    Rbac(Rbac),
    /// `envoy.filters.http.dynamic_forward_proxy`: finds the addresses of the host that a request names, where its route
    /// leads to a cluster that needs them.
    DynamicForwardProxy,
    /// `envoy.filters.http.header_mutation`.
    HeaderMutation(HeaderMutation),
    /// `envoy.filters.http.fault`.
    Fault(Fault),
    /// `envoy.filters.http.local_ratelimit`.
    LocalRateLimit(Arc<LocalRateLimit>),
    /// `envoy.filters.http.cors`.
    Cors(Cors),
    /// `envoy.filters.http.buffer`.
    Buffer(Buffer),
    /// `envoy.filters.http.ext_authz`.
    ExtAuthz(Arc<ExtAuthz>),
    /// `envoy.filters.http.compressor`.
    Compressor(Arc<Compressor>),
    /// `envoy.filters.http.jwt_authn`.
    JwtAuthn(Arc<JwtAuthn>),
}

impl Filter {
    /// Whether it has anything to do with responses.
    #[must_use]
    pub fn sees_responses(&self) -> bool {
        match self {
            Self::Rbac(_)
            | Self::DynamicForwardProxy
            | Self::Fault(_)
            | Self::Buffer(_)
            | Self::JwtAuthn(_) => false,
            Self::HeaderMutation(_) | Self::LocalRateLimit(_) | Self::Cors(_) | Self::Compressor(_) => true,
            Self::ExtAuthz(authz) => authz.changes_responses(),
        }
    }

    /// The clusters that it calls about a request.
    #[must_use]
    pub fn clusters(&self) -> Vec<&Arc<str>> {
        match self {
            Self::ExtAuthz(authz) => vec![authz.service.cluster()],
            Self::JwtAuthn(authn) => authn.clusters().collect(),
            Self::Rbac(_)
            | Self::DynamicForwardProxy
            | Self::HeaderMutation(_)
            | Self::Fault(_)
            | Self::LocalRateLimit(_)
            | Self::Cors(_)
            | Self::Buffer(_)
            | Self::Compressor(_) => Vec::new(),
        }
    }

    /// Whether an override is of this filter's type. One of another type has no effect, as in Envoy: a route
    /// configuration does not know which filters the listeners that use it have, so that it cannot be refused.
    #[must_use]
    pub fn takes(&self, special: &Override) -> bool {
        match special {
            Override::Disabled => true,
            Override::Rbac(_) => matches!(self, Self::Rbac(_)),
            Override::HeaderMutation(_) => matches!(self, Self::HeaderMutation(_)),
            Override::Fault(_) => matches!(self, Self::Fault(_)),
            Override::LocalRateLimit(_) => matches!(self, Self::LocalRateLimit(_)),
            Override::Cors(_) => matches!(self, Self::Cors(_)),
            Override::Buffer(_) => matches!(self, Self::Buffer(_)),
            Override::ExtAuthz(_) => matches!(self, Self::ExtAuthz(_)),
            Override::Compressor(_) => matches!(self, Self::Compressor(_)),
            Override::JwtAuthn(_) => matches!(self, Self::JwtAuthn(_)),
        }
    }
}

/// What `typed_per_filter_config` says of one filter at one level.
#[derive(Debug, Clone)]
pub enum Override {
    /// The filter is left out.
    Disabled,
    Rbac(Arc<HttpRbac>),
    HeaderMutation(Arc<Mutations>),
    Fault(Arc<FaultSettings>),
    LocalRateLimit(Arc<LocalRateLimit>),
    /// What pages of other origins may do.
    Cors(Arc<CorsPolicy>),
    /// Another limit of the content.
    Buffer(Buffer),
    /// What a server is told.
    ExtAuthz(Arc<CheckSettings>),
    /// Whether responses are compressed.
    Compressor(CompressorOverride),
    /// The name of what tokens are needed.
    JwtAuthn(Arc<str>),
}

/// What a level says of a filter of one kind: `None` where it says something else.
impl Override {
    fn rbac(&self) -> Option<&Arc<HttpRbac>> {
        if let Self::Rbac(policies) = self { Some(policies) } else { None }
    }

    fn header_mutation(&self) -> Option<&Arc<Mutations>> {
        if let Self::HeaderMutation(mutations) = self { Some(mutations) } else { None }
    }

    fn fault(&self) -> Option<&Arc<FaultSettings>> {
        if let Self::Fault(settings) = self { Some(settings) } else { None }
    }

    fn local_rate_limit(&self) -> Option<&Arc<LocalRateLimit>> {
        if let Self::LocalRateLimit(limit) = self { Some(limit) } else { None }
    }

    fn cors(&self) -> Option<&Arc<CorsPolicy>> {
        if let Self::Cors(policy) = self { Some(policy) } else { None }
    }
    fn buffer(&self) -> Option<Buffer> {
        if let Self::Buffer(buffer) = self { Some(*buffer) } else { None }
    }
    fn ext_authz(&self) -> Option<&Arc<CheckSettings>> {
        if let Self::ExtAuthz(settings) = self { Some(settings) } else { None }
    }
    fn compressor(&self) -> CompressorOverride {
        if let Self::Compressor(said) = self { *said } else { CompressorOverride::default() }
    }
    fn jwt_authn(&self) -> Option<&str> {
        if let Self::JwtAuthn(name) = self { Some(name) } else { None }
    }
}
