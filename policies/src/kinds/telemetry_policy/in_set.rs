//! What is wrong with a TelemetryPolicy beside what it targets.

use super::TelemetryPolicy;
use crate::finding::{Finding, missing, steps};
use crate::kinds::mesh::{self, Mesh};
use crate::kinds::spec::Objects;
use crate::kinds::target::check_request_targets_in_set;
use crate::object::PolicyKey;

pub(super) fn check(policy: &TelemetryPolicy, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
    check_request_targets_in_set(&policy.target_refs, "it is about requests", key, others, out);
    let traces = others.find::<Mesh>(&mesh::key().id()).is_some_and(|mesh| mesh.spec.tracing.is_some());
    if policy.tracing.is_some() && !traces {
        let effect = "nothing is traced until it does";
        out.push(missing(steps!["spec", "tracing"], "tracing of the Mesh", effect));
    }
}
