//! What AuthenticationPolicies change: what requests to a port have to prove.

use weft_api::{Name, ServiceId};

use super::AuthenticationPolicy;
use super::fields::EffectiveAuthentication;
use crate::kinds::kind::Kind;
use crate::kinds::merge::levels_of_port;
use crate::kinds::spec::{Relation, Target};
use crate::object::{Object, PolicyKey};
use crate::set::PolicySet;

/// The name of what is refused because no token was verified, where rules of authorization have theirs. No rule's name has a
/// colon.
pub const TOKEN_REQUIRED: &str = "jwt:required";

impl PolicySet {
    /// What holds for the requests to a port of a service. Later levels win: Mesh, Namespace, Service, Service port.
    #[must_use]
    pub fn authentication_for(&self, service: &ServiceId, port: &Name) -> EffectiveAuthentication {
        self.merged::<AuthenticationPolicy>(levels_of_port(&PolicyKey::of_service(service), port))
    }

    /// The policy that has requests to a port bring a token, where one does.
    #[must_use]
    pub fn token_required_by(&self, service: &ServiceId, port: &Name) -> Option<PolicyKey> {
        let jwt = self.authentication_for(service, port).jwt?;
        jwt.value.required.then_some(jwt.origin)
    }

    /// Whether a policy takes tokens somewhere in what is targeted, or around it.
    pub(crate) fn takes_tokens(&self, target: &Target) -> bool {
        let targeting = |target: &Target| {
            self.naming::<AuthenticationPolicy>(Relation::Target, target).any(|one| one.spec.jwt.is_some())
        };
        let within = |wanted: &dyn Fn(&Target) -> bool| {
            let policies = self.objects_of::<AuthenticationPolicy>().filter(|one| one.spec.jwt.is_some());
            policies.into_iter().any(|one| targets(one).iter().any(wanted))
        };
        let in_namespace = |name: &Name| {
            within(&|target| match target {
                Target::Object(key, _) => key.namespace == *name,
                Target::Namespace(other) => other == name,
                Target::Mesh => true,
                Target::Hostname(_) => false,
            })
        };
        match target {
            Target::Mesh => within(&|_| true),
            Target::Namespace(name) => in_namespace(name),
            Target::Object(key, section) if key.kind == Kind::Service => {
                targeting(&Target::Mesh)
                    || targeting(&Target::Namespace(key.namespace.clone()))
                    || targeting(&Target::Object(key.clone(), None))
                    || within(&|target| match target {
                        Target::Object(other, port) => other == key && (section.is_none() || port == section),
                        Target::Mesh | Target::Namespace(_) | Target::Hostname(_) => false,
                    })
            }
            Target::Object(..) | Target::Hostname(_) => false,
        }
    }
}

fn targets(policy: &Object<AuthenticationPolicy>) -> Vec<Target> {
    policy.spec.target_refs.iter().map(|target| target.resolve(&policy.metadata.namespace)).collect()
}
