//! TCPRoute: where connections to a service go. Also taken under Gateway API's own API version.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::kind::Kind;
use super::reference::{BackendRef, ClientRef, ParentRef};
use super::route::{Fit, check_services_in_set, references};
use super::spec::{Objects, Part, Reference, Spec};
use crate::finding::{Finding, Findings};
use crate::metadata::Metadata;
use crate::object::PolicyKey;

mod check;

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

/// The ports that it is for.
const FIT: Fit = Fit {
    route: "a TCPRoute",
    carries: |protocol| !protocol.is_http(),
    wants: "it fits ports of TCP and TLS",
};

impl Spec for TcpRoute {
    const KIND: Kind = Kind::TcpRoute;
    const SHAPES: &'static [Part] = &[Part::Upstreams];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        references(&self.parent_refs, self.rules.iter().map(|rule| &rule.backend_refs[..]), namespace)
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        let backends = self.rules.iter().map(|rule| &rule.backend_refs[..]);
        check_services_in_set(&self.parent_refs, backends, &FIT, key, others, out);
    }

    fn sections(&self) -> Vec<&Name> {
        self.rules.iter().filter_map(|rule| rule.name.as_ref()).collect()
    }
}
