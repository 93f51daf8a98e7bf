//! HTTPRoute: which requests to a service go where. Also taken under Gateway API's own API version.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http_rule::Rule;
use super::port::Protocol;
use super::reference::{ClientRef, ParentRef};
use super::route::PortFit;
use crate::value::Hostname;

mod check;
mod effect;
mod spec;

/// Which requests to a service go where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// The services whose callers follow this route.
    pub parent_refs: Vec<ParentRef>,
    /// Only these callers follow it; all when it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientRef>,
    /// The requests that follow it, by the host that they are for, whatever its port; all when it is left out. `*.NAME` is
    /// every name below one. The more specific host wins, before any match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
    /// The rules. All rules of all routes of a service compete: the most specific match wins.
    #[serde(default = "one_rule")]
    pub rules: Vec<Arc<Rule>>,
}

fn one_rule() -> Vec<Arc<Rule>> {
    vec![Arc::default()]
}

/// The ports that it is for.
const PORT_FIT: PortFit = PortFit {
    route: "an HTTPRoute",
    carries: Protocol::is_http,
    wants: "it fits ports of HTTP, HTTP2 and GRPC",
};
