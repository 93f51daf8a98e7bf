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

#[cfg(test)]
mod tests {
    use weft_api::rest::Violation;

    use super::*;
    use crate::{Document, parse};

    fn documents(kind: &str, name: &str, spec: &str) -> Vec<Document> {
        let text = format!(
            "apiVersion: weft.dev/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{spec}}}\n"
        );
        parse("test", &text).unwrap_or_else(|found| panic!("{found:#?}\n{text}"))
    }

    fn asking(target: &str) -> Vec<Document> {
        let rules = "action: Allow, rules: [{from: [{claims: [{sub: a}]}]}]";
        documents("AuthorizationPolicy", "claims", &format!("targetRefs: [{target}], {rules}"))
    }

    fn taking(target: &str) -> Vec<Document> {
        let jwt = "jwt: {providers: [{name: a, issuer: a, jwks: {uri: 'https://a.test/keys'}}]}";
        documents("AuthenticationPolicy", "tokens", &format!("targetRefs: [{target}], {jwt}"))
    }

    #[test]
    fn claims_that_no_request_can_have_are_warned_of_until_tokens_are_taken() {
        let port = "ports: [{name: http, port: 80, protocol: HTTP}]";
        let services = ["web", "catalog"].map(|name| documents("Service", name, port)).concat();
        let empty = PolicySet::default().apply(&services).unwrap().set;
        let warns = |found: &[Violation]| {
            found.iter().any(|one| one.message.contains("AuthenticationPolicy with jwt"))
        };
        let (service, port) = ("{kind: Service, name: web}", "{kind: Service, name: web, sectionName: http}");
        let namespace = "{kind: Namespace, name: shop}";
        for asks in [service, port, namespace] {
            let asked = empty.apply(&asking(asks)).unwrap();
            assert!(warns(&asked.warnings), "{asks}: {:?}", asked.warnings);
            for takes in [service, port, namespace, "{kind: Mesh, name: mesh}"] {
                let left = asked.set.apply(&taking(takes)).unwrap().set.validate();
                assert!(!warns(&left), "{asks}, {takes}: {left:?}");
            }
            let elsewhere = asked.set.apply(&taking("{kind: Service, name: catalog}")).unwrap();
            let left = elsewhere.set.validate();
            assert_eq!(warns(&left), asks != namespace, "{asks}: {left:?}");
        }
    }
}
