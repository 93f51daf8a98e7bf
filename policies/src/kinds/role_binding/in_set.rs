//! What is wrong with a RoleBinding beside its Role.

use super::RoleBinding;
use crate::finding::{Finding, missing, steps};
use crate::kinds::role::Role;
use crate::kinds::spec::Objects;
use crate::object::PolicyKey;
use weft_api::ServiceId;

pub(super) fn check(binding: &RoleBinding, key: &PolicyKey, others: &dyn Objects, out: &mut Vec<Finding>) {
    let role = ServiceId::new(key.namespace.clone(), binding.role.clone());
    if others.find::<Role>(&role).is_none() {
        let effect = "nobody has anything by this binding";
        out.push(missing(steps!["spec", "role"], &format!("Role {}", binding.role), effect));
    }
}
