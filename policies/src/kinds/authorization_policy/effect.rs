//! What AuthorizationPolicies change: which of them protect a port. They are never merged.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_api::names::SpiffeId;
use weft_api::{Name, ServiceId, TrustDomain};

use super::{Action, AuthorizationPolicy, AuthorizationRule, Mode, Source, SpiffeIdentity};
use crate::kinds::Service;
use crate::kinds::merge::levels_of_port;
use crate::kinds::mesh::DefaultAction;
use crate::kinds::spec::{Relation, Target};
use crate::object::{Object, PolicyKey};
use crate::set::PolicySet;

/// What protects a port: a request that a Deny matches is refused; then, with any Allow, what no Allow matches is
/// refused; with none, the default decides. What is only tried stands apart: it has no part in that.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Authorization {
    /// The Deny policies, in order of their keys.
    pub deny: Vec<Arc<Object<AuthorizationPolicy>>>,
    /// The Allow policies, in order of their keys.
    pub allow: Vec<Arc<Object<AuthorizationPolicy>>>,
    /// What is only tried, in order of the keys.
    pub shadow: Vec<Arc<Object<AuthorizationPolicy>>>,
    /// What holds when there is no Allow.
    pub default: DefaultAction,
    /// The Mesh object that set the default, where one did.
    pub default_origin: Option<PolicyKey>,
}

/// What the rules of a policy say about one caller, as far as its identity tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Callers {
    /// They speak of others only.
    Others,
    /// One speaks of everybody.
    Everybody,
    /// One speaks of it by its service, its namespace or its identity.
    Named,
}

impl Object<AuthorizationPolicy> {
    /// What the rules say about a caller.
    #[must_use]
    pub fn callers(&self, caller: &ServiceId, trust_domain: &TrustDomain) -> Callers {
        let of_rule = |rule: &AuthorizationRule| {
            if rule.from.is_empty() {
                return Callers::Everybody;
            }
            let namespace = &self.metadata.namespace;
            let each = rule.from.iter().map(|source| of_source(source, caller, namespace, trust_domain));
            each.max().unwrap_or(Callers::Others)
        };
        self.spec.rules.iter().map(of_rule).max().unwrap_or(Callers::Others)
    }
}

/// Each field that is written must match. An address and a claim are not known beforehand: they may.
fn of_source(source: &Source, caller: &ServiceId, namespace: &Name, trust_domain: &TrustDomain) -> Callers {
    let identity = SpiffeIdentity(SpiffeId::service(trust_domain, caller));
    let services = source.services.iter().any(|service| service.resolve(namespace) == *caller);
    let fields = [
        (source.services.is_empty(), services),
        (source.identities.is_empty(), source.identities.contains(&identity)),
        (source.namespaces.is_empty(), source.namespaces.contains(&caller.namespace)),
    ];
    if fields.iter().any(|(unset, matches)| !unset && !matches) {
        Callers::Others
    } else if fields.iter().all(|(unset, _)| *unset) {
        Callers::Everybody
    } else {
        Callers::Named
    }
}

impl PolicySet {
    /// The policies that protect a port of a service: those of the mesh, its namespace, the service and the port.
    #[must_use]
    pub fn authorization_for(&self, service: &ServiceId, port: &Name) -> Authorization {
        let (defaults, default_origin) = self.defaults();
        let mut all: Vec<_> = levels_of_port(&PolicyKey::of_service(service), port)
            .iter()
            .flat_map(|(_, target)| self.naming::<AuthorizationPolicy>(Relation::Target, target))
            .cloned()
            .collect();
        all.sort_by_cached_key(|policy| policy.key());
        all.dedup_by(|one, two| Arc::ptr_eq(one, two));
        let (shadow, enforced): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|policy| policy.spec.mode == Mode::Shadow);
        let (deny, allow) = enforced.into_iter().partition(|policy| policy.spec.action == Action::Deny);
        Authorization { deny, allow, shadow, default: defaults.authorization, default_origin }
    }

    /// The Allow policies that protect any port of a service and are enforced. One with several targets may come more than once.
    pub(crate) fn allowing(&self, service: &Object<Service>) -> Vec<&Object<AuthorizationPolicy>> {
        let key = service.key();
        let levels = service.spec.ports.iter().flat_map(|port| levels_of_port(&key, &port.name));
        let targets: BTreeSet<Target> = levels.map(|(_, target)| target).collect();
        let policies = targets.iter().flat_map(|target| self.naming(Relation::Target, target));
        policies
            .map(AsRef::as_ref)
            .filter(|policy: &&Object<AuthorizationPolicy>| policy.spec.action == Action::Allow)
            .filter(|policy| policy.spec.mode == Mode::Enforce)
            .collect()
    }
}
