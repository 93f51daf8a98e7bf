//! TCPRoute: where connections to a service go. Also taken under Gateway API's own API version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::http_route::check_parents;
use super::reference::{BackendRef, ClientRef, ParentRef, check_backends};
use super::{Kind, Spec};
use crate::finding::{Code, Findings};
use crate::metadata::Metadata;

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

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpRule {
    /// A name by which policies target the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The backends, in proportion to their weights.
    pub backend_refs: Vec<BackendRef>,
}

impl Spec for TcpRoute {
    const KIND: Kind = Kind::TcpRoute;

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check_parents(&self.parent_refs, metadata, out);
        if !self.clients.is_empty() {
            out.not_supported("clients", "clients of a TCPRoute");
        }
        if self.rules.len() != 1 {
            out.add_at("rules", Code::InvalidValue, "a TCPRoute has exactly one rule")
                .value(self.rules.len());
        }
        out.each("rules", &self.rules, |out, rule| {
            if rule.backend_refs.is_empty() {
                out.add_at("backendRefs", Code::Required, "at least one backend is needed");
            }
            check_backends(&rule.backend_refs, out);
        });
    }
}
