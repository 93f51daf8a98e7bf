//! What TcpRoute declares as a kind.

use weft_api::Name;

use super::{PORT_FIT, TcpRoute, check};
use crate::finding::{Finding, Findings};
use crate::kinds::kind::Kind;
use crate::kinds::route::{check_services_in_set, references};
use crate::kinds::spec::{Objects, Part, Reference, Spec};
use crate::metadata::Metadata;
use crate::object::PolicyKey;

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
        check_services_in_set(&self.parent_refs, backends, &PORT_FIT, key, others, out);
    }

    fn sections(&self) -> Vec<&Name> {
        self.rules.iter().filter_map(|rule| rule.name.as_ref()).collect()
    }
}
