//! TCPRoute: where connections to a service go. Also taken under Gateway API's own API version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::reference::{BackendRef, ClientRef, ParentRef};
use super::route::PortFit;

mod check;
mod spec;

/// Where connections to a service go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRoute {
    /// The services whose callers follow this route.
    pub parent_refs: Vec<ParentRef>,
    /// Only these callers follow it; all when it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientRef>,
    /// Exactly one rule: connections cannot be told apart.
    pub rules: Vec<TcpRule>,
}

/// Which backends take the connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRule {
    /// A name by which policies target the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The backends, in proportion to their weights.
    pub backend_refs: Vec<BackendRef>,
}

/// The ports that it is for.
const PORT_FIT: PortFit = PortFit {
    route: "a TCPRoute",
    carries: |protocol| !protocol.is_http(),
    wants: "it fits ports of TCP and TLS",
};
