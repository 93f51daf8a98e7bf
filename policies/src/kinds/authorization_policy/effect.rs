//! What AuthorizationPolicies change: which of them protect a port. They are never merged.

use std::sync::Arc;

use weft_api::{Name, ServiceId};

use super::{Action, AuthorizationPolicy};
use crate::kinds::merge::levels_of_port;
use crate::kinds::mesh::DefaultAction;
use crate::kinds::spec::Relation;
use crate::object::{Object, PolicyKey};
use crate::set::PolicySet;

/// What protects a port: a request that a Deny matches is refused; then, with any Allow, what no Allow matches is
/// refused; with none, the default decides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Authorization {
    /// The Deny policies, in order of their keys.
    pub deny: Vec<Arc<Object<AuthorizationPolicy>>>,
    /// The Allow policies, in order of their keys.
    pub allow: Vec<Arc<Object<AuthorizationPolicy>>>,
    /// What holds when there is no Allow.
    pub default: DefaultAction,
    /// The Mesh object that set the default, where one did.
    pub default_origin: Option<PolicyKey>,
}

impl PolicySet {
    /// The policies that protect a port of a service: those of the mesh, its namespace, the service and the port.
    #[must_use]
    pub fn authorization_for(&self, service: &ServiceId, port: &Name) -> Authorization {
        let (defaults, default_origin) = self.defaults();
        let mut all: Vec<_> = levels_of_port(service, port)
            .iter()
            .flat_map(|(_, target)| self.naming::<AuthorizationPolicy>(Relation::Target, target))
            .cloned()
            .collect();
        all.sort_by_cached_key(|policy| policy.key());
        all.dedup_by(|one, two| Arc::ptr_eq(one, two));
        let (deny, allow) = all.into_iter().partition(|policy| policy.spec.action == Action::Deny);
        Authorization { deny, allow, default: defaults.authorization, default_origin }
    }
}
