//! HTTPRoute: which requests to a service go where. Also taken under Gateway API's own API version.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::http_rule::{RequestRules, Rule};
use super::kind::Kind;
use super::port::Protocol;
use super::reference::{ClientRef, ParentRef};
use super::route::{Fit, check_services_in_set, references};
use super::spec::{Objects, Part, Reference, Spec};
use crate::finding::{Finding, Findings};
use crate::metadata::Metadata;
use crate::object::PolicyKey;
use crate::value::Hostname;

mod check;
mod effect;

/// Which requests to a service go where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpRoute {
    /// The services whose callers follow this route.
    pub parent_refs: Vec<ParentRef>,
    /// Only these callers follow it; all when it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientRef>,
    /// Host names that a request must have one of. A route on a Service applies to all of that service's names.
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
const FIT: Fit =
    Fit { route: "an HTTPRoute", carries: Protocol::is_http, wants: "it fits ports of HTTP, HTTP2 and GRPC" };

impl Spec for HttpRoute {
    const KIND: Kind = Kind::HttpRoute;
    const SHAPES: &'static [Part] = &[Part::Hosts, Part::Upstreams];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        references(&self.parent_refs, self.rules.iter().map(|rule| &rule.backend_refs[..]), namespace)
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        let backends = self.rules.iter().map(|rule| &rule.backend_refs[..]);
        check_services_in_set(&self.parent_refs, backends, &FIT, key, others, out);
        effect::rules(self).check_reach(out);
    }

    fn sections(&self) -> Vec<&Name> {
        self.rules.iter().filter_map(|rule| rule.name.as_ref()).collect()
    }

    fn request_rules(&self) -> Option<RequestRules<'_>> {
        Some(effect::rules(self))
    }
}
