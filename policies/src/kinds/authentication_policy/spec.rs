//! What AuthenticationPolicy declares as a kind.

use weft_api::Name;

use super::{AuthenticationPolicy, check, in_set};
use crate::finding::{Finding, Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::merge::Merged;
use crate::kinds::spec::{Objects, Part, Reference, Relation, Spec, Target};
use crate::kinds::target::references;
use crate::metadata::Metadata;
use crate::object::PolicyKey;

impl Spec for AuthenticationPolicy {
    const KIND: Kind = Kind::AuthenticationPolicy;
    const SHAPES: &'static [Part] = &[Part::Inbound];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        let mut found = references(&self.target_refs, namespace);
        for (index, provider) in self.jwt.iter().flat_map(|jwt| &jwt.providers).enumerate() {
            found.extend(provider.jwks.backend_ref.iter().map(|backend| Reference {
                relation: Relation::Mention,
                target: Target::service(&backend.service(namespace), None),
                path: steps!["spec", "jwt", "providers", index, "jwks", "backendRef"],
            }));
        }
        // Whether claims that authorization asks for can be known is looked at there.
        let target = Target::Mesh;
        found.push(Reference { relation: Relation::Mention, target, path: steps!["spec", "jwt"] });
        found
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        in_set::check(self, key, others, out);
    }

    fn fields_set(&self) -> Vec<&'static str> {
        self.paths()
    }
}
