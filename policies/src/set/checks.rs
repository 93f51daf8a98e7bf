//! What is wrong with a set, kept up with each change: only what a change can concern is looked at anew.
//!
//! The name of an object that does not exist is a warning, since it may come later and order never matters; a port,
//! a subset or a rule that an existing object does not have is an error.

use std::collections::BTreeSet;

use super::findings::SetFindings;
use super::{PolicySet, conflicts};
use crate::kinds::spec::Target;
use crate::object::PolicyKey;

/// What is to be looked at anew after a change.
#[derive(Debug, Default)]
pub(super) struct Stale {
    /// Objects that changed, and those that name them.
    pub(super) objects: BTreeSet<PolicyKey>,
    /// What objects named that changed, before or after.
    pub(super) targets: BTreeSet<Target>,
}

/// Looks anew at what is stale.
pub(super) fn renew(findings: &mut SetFindings, set: &PolicySet, stale: Stale) {
    for key in stale.objects {
        let found = set.get(&key).map(|policy| policy.object().check_in_set(set)).unwrap_or_default();
        if found.is_empty() {
            findings.objects.remove(&key);
        } else {
            findings.objects.insert(key, found.into());
        }
    }
    for target in stale.targets {
        let found = conflicts::at(set, &target);
        if found.is_empty() {
            findings.conflicts.remove(&target);
        } else {
            findings.conflicts.insert(target, found.into());
        }
    }
}
