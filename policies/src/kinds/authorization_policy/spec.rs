//! What AuthorizationPolicy declares as a kind.

use weft_api::Name;

use super::{AuthorizationPolicy, check, in_set};
use crate::finding::{Finding, Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Objects, Part, Reference, Relation, Spec, Target};
use crate::kinds::target::references;
use crate::metadata::Metadata;
use crate::object::PolicyKey;

impl Spec for AuthorizationPolicy {
    const KIND: Kind = Kind::AuthorizationPolicy;
    const SHAPES: &'static [Part] = &[Part::Inbound, Part::Callers];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, namespace: &Name) -> Vec<Reference> {
        let mut found = references(&self.target_refs, namespace);
        for (rule_index, rule) in self.rules.iter().enumerate() {
            for (from_index, source) in rule.from.iter().enumerate() {
                found.extend(source.services.iter().enumerate().map(|(index, service)| Reference {
                    relation: Relation::Mention,
                    target: Target::service(&service.resolve(namespace), None),
                    path: steps!["spec", "rules", rule_index, "from", from_index, "services", index],
                }));
            }
        }
        if self.asks_for_claims() {
            // Noted there, where no request can have claims.
            found.push(Reference {
                relation: Relation::Mention,
                target: Target::Mesh,
                path: steps!["spec", "rules"],
            });
        }
        found
    }

    fn check_in_set(&self, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
        in_set::check(self, key, others, out);
    }
}
