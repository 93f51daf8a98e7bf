//! What TrafficPolicy declares as a kind.

use weft_api::Name;

use super::{TrafficPolicy, check, in_set};
use crate::finding::{Finding, Findings};
use crate::kinds::kind::Kind;
use crate::kinds::merge::Merged;
use crate::kinds::spec::{Objects, Part, Reference, Spec};
use crate::kinds::target::references;
use crate::metadata::Metadata;
use crate::object::PolicyKey;

impl Spec for TrafficPolicy {
    const KIND: Kind = Kind::TrafficPolicy;
    const SHAPES: &'static [Part] = &[Part::Clusters, Part::Hosts, Part::Upstreams, Part::Leading];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        references(&self.target_refs, namespace)
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        in_set::check(self, key, others, out);
    }

    fn fields_set(&self) -> Vec<&'static str> {
        self.paths()
    }
}
