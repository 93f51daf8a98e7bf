//! What Workload declares as a kind.

use weft_api::Name;

use super::{Workload, check, in_set};
use crate::finding::{Finding, Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Objects, Part, Reference, Relation, Spec, Target};
use crate::metadata::Metadata;
use crate::object::PolicyKey;
use crate::value::ServiceRef;

impl Spec for Workload {
    const KIND: Kind = Kind::Workload;
    // The compiler reads the registry's workload, which this one is a part of.
    const SHAPES: &'static [Part] = &[];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        let mention = |service: &ServiceRef, list, index| Reference {
            relation: Relation::Mention,
            target: Target::service(&service.resolve(namespace), None),
            path: steps!["spec", list, index],
        };
        let services =
            self.services.iter().enumerate().map(|(index, service)| mention(service, "services", index));
        // What an upstream names is a service, or outside of the mesh.
        let upstreams = self.upstreams.iter().enumerate().flat_map(|(index, upstream)| {
            let service = mention(&upstream.service, "upstreams", index);
            let key = PolicyKey::of_service(&upstream.service.resolve(namespace));
            let outside =
                key.namesakes().map(|key| Reference { target: Target::Object(key, None), ..service.clone() });
            let outside: Vec<Reference> = outside.collect();
            std::iter::once(service).chain(outside)
        });
        services.chain(upstreams).collect()
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        in_set::check(self, key, others, out);
    }
}
