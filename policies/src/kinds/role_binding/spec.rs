//! What RoleBinding declares as a kind.

use weft_api::Name;

use super::{RoleBinding, check, in_set};
use crate::finding::{Finding, Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Objects, Part, Reference, Relation, Spec, Target};
use crate::metadata::Metadata;
use crate::object::PolicyKey;

impl Spec for RoleBinding {
    const KIND: Kind = Kind::RoleBinding;
    const SHAPES: &'static [Part] = &[];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        let role = PolicyKey::new(Kind::Role, namespace.clone(), self.role.clone());
        vec![Reference {
            relation: Relation::Mention,
            target: Target::Object(role, None),
            path: steps!["spec", "role"],
        }]
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        in_set::check(self, key, others, out);
    }
}
