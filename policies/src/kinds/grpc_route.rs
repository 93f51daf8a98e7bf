//! GRPCRoute: which calls of gRPC to a service go where. Also taken under Gateway API's own API version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::port::Protocol;
use super::reference::{BackendRef, ClientRef, ParentRef};
use super::resilience::{RouteRetry, Timeouts};
use super::route::PortFit;
use super::route_filter::{HeaderModifier, RequestMirror};
use super::route_match::{HeaderMatch, ValueMatchType};
use crate::value::Hostname;

mod check;
mod effect;
mod spec;

/// Which calls to a service go where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRoute {
    /// The services whose callers follow this route.
    pub parent_refs: Vec<ParentRef>,
    /// Only these callers follow it; all when it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientRef>,
    /// The calls that follow it, by the host that they are for, whatever its port; all when it is left out. `*.NAME` is
    /// every name below one. The more specific host wins, before any match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
    /// The rules. All rules of all routes of a service compete: the most specific match wins. With none, all calls fit
    /// and lead nowhere.
    #[serde(default = "one_rule")]
    pub rules: Vec<GrpcRule>,
}

fn one_rule() -> Vec<GrpcRule> {
    vec![GrpcRule::default()]
}

/// What happens to the calls that fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcRule {
    /// A name, unique in the route, by which policies target the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// A call fits when one of these does; all fit when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcMatch>,
    /// What is done to calls and answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<GrpcFilter>,
    /// Where calls go, in proportion to the weights. With none, they fail with UNAVAILABLE.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<BackendRef>,
    /// How long calls may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// What is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RouteRetry>,
    /// How calls of one session stay with one backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_persistence: Option<serde_json::Map<String, serde_json::Value>>,
}

/// One way to match a call: all that is written must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcMatch {
    /// The service and method; all when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<MethodMatch>,
    /// Headers that must be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
}

/// A service and a method of gRPC to match. At least one of the two is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MethodMatch {
    /// How both are compared.
    #[serde(default, rename = "type")]
    pub match_type: ValueMatchType,
    /// The service with its package, `package.Service`; all when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The method; all when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// A filter: its type, and the one field of that type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcFilter {
    /// Which field is set.
    #[serde(rename = "type")]
    pub filter_type: GrpcFilterType,
    /// Changes to the headers of a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes to the headers of an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// A copy of each call to another backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
    /// Gateway API's reference to an extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extension_ref: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The type of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrpcFilterType {
    /// Changes headers of the call; its field is `requestHeaderModifier`.
    RequestHeaderModifier,
    /// Changes headers of the answer; its field is `responseHeaderModifier`.
    ResponseHeaderModifier,
    /// Copies calls to another backend; its field is `requestMirror`.
    RequestMirror,
    /// An extension of Gateway API; its field is `extensionRef`.
    ExtensionRef,
}

/// The ports that it is for.
const PORT_FIT: PortFit = PortFit {
    route: "a GRPCRoute",
    carries: |protocol| matches!(protocol, Protocol::Grpc | Protocol::Http2),
    wants: "it fits ports of GRPC and HTTP2",
};
