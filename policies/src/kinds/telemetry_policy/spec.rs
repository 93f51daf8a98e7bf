//! What TelemetryPolicy declares as a kind.

use weft_api::Name;

use super::{TelemetryPolicy, check, in_set};
use crate::finding::{Finding, Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::merge::Merged;
use crate::kinds::mesh;
use crate::kinds::spec::{Objects, Part, Reference, Relation, Spec, Target};
use crate::kinds::target::references;
use crate::metadata::Metadata;
use crate::object::PolicyKey;

impl Spec for TelemetryPolicy {
    const KIND: Kind = Kind::TelemetryPolicy;
    // What begins a trace is decided where a request is first seen: at the caller's.
    const SHAPES: &'static [Part] = &[Part::Hosts, Part::Upstreams, Part::Inbound];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        let mut found = references(&self.target_refs, namespace);
        if self.tracing.is_some() {
            let target = Target::Object(mesh::key(), None);
            found.push(Reference { relation: Relation::Mention, target, path: steps!["spec", "tracing"] });
        }
        found
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        in_set::check(self, key, others, out);
    }

    fn fields_set(&self) -> Vec<&'static str> {
        self.paths()
    }
}
