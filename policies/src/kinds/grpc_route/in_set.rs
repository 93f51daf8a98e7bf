//! What is wrong with a GRPCRoute beside the services that it names.

use super::{FIT, GrpcRoute, effect};
use crate::finding::{Finding, steps};
use crate::kinds::route::{check_backends_in_set, check_parents_in_set};
use crate::kinds::spec::Objects;
use crate::object::PolicyKey;

pub(super) fn check(route: &GrpcRoute, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
    check_parents_in_set(&route.parent_refs, &FIT, key, others, out);
    for (index, rule) in route.rules.iter().enumerate() {
        let path = steps!["spec", "rules", index, "backendRefs"];
        check_backends_in_set(&rule.backend_refs, &path, &FIT, key, others, out);
    }
    effect::rules(route).check_reach(out);
}
