//! What GrpcRoute declares as a kind.

use weft_api::Name;

use super::{GrpcRoute, PORT_FIT, check, effect};
use crate::finding::{Finding, Findings};
use crate::kinds::http_rule::RequestRules;
use crate::kinds::kind::Kind;
use crate::kinds::route::{check_hostnames_in_set, check_services_in_set, references};
use crate::kinds::spec::{Objects, Part, Reference, Spec};
use crate::metadata::Metadata;
use crate::object::PolicyKey;

impl Spec for GrpcRoute {
    const KIND: Kind = Kind::GrpcRoute;
    const SHAPES: &'static [Part] = &[Part::Hosts, Part::Upstreams];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        references(&self.parent_refs, self.rules.iter().map(|rule| &rule.backend_refs[..]), namespace)
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        let backends = self.rules.iter().map(|rule| &rule.backend_refs[..]);
        check_services_in_set(&self.parent_refs, backends, &PORT_FIT, key, others, out);
        check_hostnames_in_set(&self.parent_refs, &self.hostnames, key, others, out);
        effect::rules(self).check_reach(out);
    }

    fn sections(&self) -> Vec<&Name> {
        self.rules.iter().filter_map(|rule| rule.name.as_ref()).collect()
    }

    fn request_rules(&self) -> Option<RequestRules<'_>> {
        Some(effect::rules(self))
    }
}
