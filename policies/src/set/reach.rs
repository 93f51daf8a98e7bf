//! Whose traffic a change may alter in other ways than by who may call whom: where requests go, and how they are carried.
//!
//! More than what really changes may be named here, never less: who is not named is promised that nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use weft_api::{Name, ServiceId};

use super::PolicySet;
use crate::kinds::authorization_policy::AuthorizationPolicy;
use crate::kinds::kind::Registration;
use crate::kinds::mesh::Mesh;
use crate::kinds::spec::{Relation, Spec as _, Target};
use crate::object::PolicyKey;
use crate::policy::Policy;

/// Calls that a change may alter, with the object that does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Of everybody, to everybody.
    all: Option<PolicyKey>,
    /// Of everybody, to these services.
    services: BTreeMap<ServiceId, PolicyKey>,
    /// To and from all services of these namespaces.
    namespaces: BTreeMap<Name, PolicyKey>,
}

impl Reach {
    /// What the objects that differ between two sets may alter. AuthorizationPolicies, and what the Mesh says of
    /// authorization, are looked at by [`PolicySet::passage`].
    #[must_use]
    pub fn of(before: &PolicySet, after: &PolicySet, changed: &[PolicyKey]) -> Self {
        let mut reach = Self::default();
        for key in changed {
            if key.kind == AuthorizationPolicy::KIND {
                continue;
            }
            if key.kind == Mesh::KIND {
                reach.add_mesh(key, before, after);
            } else if key.kind.registration() == Registration::Itself {
                // Whom it is a member of, and what it calls by ports of its own.
                reach.namespaces.insert(key.namespace.clone(), key.clone());
            } else {
                for set in [before, after] {
                    for service in services_of(key, set, &[before, after], &mut reach) {
                        reach.services.insert(service, key.clone());
                    }
                }
            }
        }
        reach
    }

    /// The object that may alter calls of a service to another one, if there is one.
    #[must_use]
    pub fn alters(&self, caller: &ServiceId, service: &ServiceId) -> Option<&PolicyKey> {
        let of_namespace = |id: &ServiceId| self.namespaces.get(&id.namespace);
        let of_service = self.services.get(service);
        self.all.as_ref().or(of_service).or_else(|| of_namespace(service)).or_else(|| of_namespace(caller))
    }

    fn add_mesh(&mut self, key: &PolicyKey, before: &PolicySet, after: &PolicySet) {
        let rest = |set: &PolicySet| {
            let mut mesh = set.find::<Mesh>(&key.id()).map(|object| object.spec.clone()).unwrap_or_default();
            mesh.defaults.authorization = Mesh::default().defaults.authorization;
            mesh
        };
        if rest(before) != rest(after) {
            self.all = Some(key.clone());
        }
    }
}

/// The services that an object of a set speaks of, and those that requests to them are led to. Whole namespaces, and the
/// mesh, are put into `reach`.
fn services_of(
    key: &PolicyKey,
    set: &PolicySet,
    both: &[&PolicySet],
    reach: &mut Reach,
) -> BTreeSet<ServiceId> {
    let mut found = BTreeSet::new();
    if key.kind.is_backend() {
        found.insert(key.id());
    }
    for target in set.get(key).into_iter().flat_map(spoken_of) {
        match target {
            Target::Mesh => reach.all = Some(key.clone()),
            Target::Namespace(namespace) => drop(reach.namespaces.insert(namespace, key.clone())),
            Target::Object(named, _) if named.kind.is_backend() => drop(found.insert(named.id())),
            // A policy of a route is about what the route is about.
            Target::Object(route, _) => {
                let routes = both.iter().filter_map(|set| set.get(&route));
                found.extend(routes.flat_map(spoken_of).filter_map(service));
            }
            Target::Hostname(_) => {}
        }
    }
    let led_to = |id: &ServiceId| {
        let hangs = both.iter().flat_map(|set| set.naming_any(Relation::Parent, &Target::service(id, None)));
        hangs.flat_map(spoken_of).filter_map(service).collect::<Vec<_>>()
    };
    let behind: Vec<ServiceId> = found.iter().flat_map(led_to).collect();
    found.extend(behind);
    found
}

/// What an object is about. What it mentions in passing is as it was.
fn spoken_of(policy: &Policy) -> Vec<Target> {
    let is_about = |relation: Relation| match relation {
        Relation::Parent | Relation::Backend | Relation::Target | Relation::Claim => true,
        Relation::Mention => false,
    };
    let references = policy.references().into_iter();
    references.filter(|reference| is_about(reference.relation)).map(|reference| reference.target).collect()
}

fn service(target: Target) -> Option<ServiceId> {
    match target {
        Target::Object(key, _) => key.kind.is_backend().then(|| key.id()),
        Target::Mesh | Target::Namespace(_) | Target::Hostname(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> PolicySet {
        let documents = crate::parse("test", text).unwrap_or_else(|found| panic!("{found:#?}"));
        PolicySet::default().apply(&documents).unwrap_or_else(|found| panic!("{found:#?}")).set
    }

    fn services(names: &[&str]) -> String {
        let one = |name: &&str| {
            format!(
                "apiVersion: weft.dev/v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}]}}\n---\n"
            )
        };
        names.iter().map(one).collect()
    }

    fn route(parent: &str, backend: &str) -> String {
        format!(
            "apiVersion: weft.dev/v1\nkind: HTTPRoute\nmetadata: {{name: {parent}-{backend}, namespace: shop}}\n\
             spec: {{parentRefs: [{{kind: Service, name: {parent}, port: 80}}], rules: [{{matches: [{{path: {{type: \
             PathPrefix, value: /{backend}}}}}], backendRefs: [{{name: {backend}, port: 80}}]}}]}}\n---\n"
        )
    }

    fn altered(before: &str, after: &str) -> Vec<String> {
        let (before, after) = (set(before), set(after));
        let reach = Reach::of(&before, &after, &before.differences(&after));
        let caller: ServiceId = "load/gen".parse().unwrap();
        let names = ["shop/a", "shop/b", "shop/c", "shop/d"].into_iter();
        names
            .filter(|name| reach.alters(&caller, &name.parse().unwrap()).is_some())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_route_alters_its_parent_and_all_that_requests_there_are_led_to() {
        let base = services(&["a", "b", "c", "d"]) + &route("a", "b");
        assert_eq!(altered(&base, &(base.clone() + &route("a", "c"))), ["shop/a", "shop/b", "shop/c"]);
        assert_eq!(altered(&(base.clone() + &route("a", "c")), &base), ["shop/a", "shop/b", "shop/c"]);
        assert_eq!(altered(&base, &base), Vec::<String>::new());
    }

    #[test]
    fn a_policy_of_traffic_alters_what_it_targets() {
        let base = services(&["a", "b", "c", "d"]) + &route("a", "b");
        let policy = |target: &str| {
            format!(
                "apiVersion: weft.dev/v1\nkind: TrafficPolicy\nmetadata: {{name: t, namespace: shop}}\n\
                 spec: {{targetRefs: [{target}], timeouts: {{request: 1s}}}}\n"
            )
        };
        let with = |target| altered(&base, &(base.clone() + &policy(target)));
        assert_eq!(with("{kind: Service, name: c}"), ["shop/c"]);
        assert_eq!(with("{kind: HTTPRoute, name: a-b}"), ["shop/a", "shop/b"]);
        assert_eq!(with("{kind: Namespace, name: shop}").len(), 4);
    }

    #[test]
    fn what_the_mesh_says_of_authorization_alone_alters_no_route() {
        let base = services(&["a", "b", "c", "d"]);
        let mesh = |defaults: &str| {
            format!(
                "{base}apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {{name: mesh}}\nspec: {{defaults: {{{defaults}}}}}\n"
            )
        };
        assert_eq!(altered(&base, &mesh("authorization: Deny")), Vec::<String>::new());
        assert_eq!(altered(&base, &mesh("outbound: Allow")).len(), 4);
    }
}
