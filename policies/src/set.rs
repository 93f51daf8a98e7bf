//! All policies together: what one apply makes of them, whether they fit, and what they say about one call.
//!
//! A set is cheap to clone: a changed copy shares all the rest. Its index answers "which policies speak of this service"
//! without a walk over all of them, and what was found in checks is kept, so that a change costs what it affects.
//!
//! ```text
//!   apply(documents) -> with(changes) -> index, checks -> new set + one outcome a document
//!   http_rules_for / tcp_route_for / traffic_for / authorization_for   <- compile
//! ```

mod apply;
mod checks;
mod conflicts;
mod findings;
mod index;
mod passage;
mod reach;
mod routes;

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use weft_api::{Name, ServiceId, WorkloadId};

use crate::kinds::backend::Backend;
use crate::kinds::external_service::ExternalService;
use crate::kinds::kind::{Kind, Level};
use crate::kinds::merge::Merged;
use crate::kinds::mesh::{self, Defaults, Mesh};
use crate::kinds::service::Service;
use crate::kinds::spec::{Objects, Relation, Spec, Target};
use crate::kinds::workload::Workload;
use crate::metadata::Metadata;
use crate::metadata::default_namespace;
use crate::object::{AnyObject, Object};
use crate::policy::Policy;

pub use crate::kinds::authentication_policy::fields::EffectiveAuthentication;
pub use crate::kinds::merge::Effective;
pub use crate::kinds::telemetry_policy::fields::EffectiveTelemetry;
pub use crate::kinds::traffic_policy::fields::EffectiveTraffic;
pub use crate::object::PolicyKey;
pub use apply::{Applied, AppliedObject, ApplyAction};
pub use findings::Report;
pub use passage::{Circumstance, Passage, PassageChange, PassageVerdict, Refuser, RuleAtPort};
pub use reach::Reach;
pub use routes::HttpRouteMatch;

use findings::SetFindings;
use index::Index;

/// All policies of a mesh.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    policies: OrdMap<PolicyKey, Policy>,
    index: Index,
    findings: SetFindings,
}

impl PolicySet {
    /// The keys of the objects that are in one set only, or are not equal in both. Costs what differs, for sets of
    /// which one was made from the other.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<PolicyKey> {
        let differs = self.policies.diff(&other.policies).map(|item| match item {
            DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key,
        });
        differs.cloned().collect()
    }

    /// The policy with this key.
    #[must_use]
    pub fn get(&self, key: &PolicyKey) -> Option<&Policy> {
        self.policies.get(key)
    }

    /// All policies in order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.policies.values()
    }

    /// The policies of one kind in order of namespace and name.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Policy> {
        self.policies
            .range(index::first_of(kind)..)
            .map(|(_, policy)| policy)
            .take_while(move |policy| policy.kind() == kind)
    }

    /// How many policies there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.policies.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Writes what the server keeps about an object; neither generation nor meaning changes.
    pub fn keep(&mut self, key: &PolicyKey, change: impl FnOnce(&mut Metadata)) {
        if let Some(policy) = self.policies.get_mut(key) {
            change(policy.metadata_mut());
        }
    }

    /// The object of kind `S` with this namespace and name.
    #[must_use]
    pub fn find<S: Spec>(&self, id: &ServiceId) -> Option<&Arc<Object<S>>> {
        self.policies.get(&PolicyKey::new(S::KIND, id.namespace.clone(), id.name.clone()))?.of()
    }

    /// The service of this id, if a document describes one.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<Object<Service>>> {
        self.find(id)
    }

    /// A workload that a document describes.
    #[must_use]
    pub fn workload(&self, id: &WorkloadId) -> Option<&Arc<Object<Workload>>> {
        self.find(&ServiceId::new(id.namespace.clone(), id.name.clone()))
    }

    /// All services in order of namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Object<Service>>> {
        self.of_kind(Kind::Service).filter_map(Policy::of)
    }

    /// What is called by this name, of the mesh or outside of it, if a document describes it.
    #[must_use]
    pub fn backend(&self, id: &ServiceId) -> Option<Backend<'_>> {
        Backend::find(id, self)
    }

    /// The key of what is called by this name; a service's where nothing is.
    #[must_use]
    pub fn backend_key(&self, id: &ServiceId) -> PolicyKey {
        self.backend(id).map_or_else(|| PolicyKey::of_service(id), Backend::key)
    }

    /// All that can be called: the services of the mesh in order of namespace and name, then what is outside.
    pub fn backends(&self) -> impl Iterator<Item = Backend<'_>> {
        let services = self.services().map(|service| Backend::Service(service));
        let outside = self.objects_of::<ExternalService>().map(|external| Backend::External(external));
        services.chain(outside.filter(|external| self.service(&external.id()).is_none()))
    }

    /// The Mesh object, if a document describes it.
    #[must_use]
    pub fn mesh(&self) -> Option<&Arc<Object<Mesh>>> {
        self.find(&mesh::key().id())
    }

    /// All objects of kind `S`, in order of their keys.
    pub fn objects_of<S: Spec>(&self) -> impl Iterator<Item = &Arc<Object<S>>> {
        self.of_kind(S::KIND).filter_map(Policy::of)
    }

    /// The object of kind `S` that is the mesh's, in no namespace.
    #[must_use]
    pub fn of_the_mesh<S: Spec>(&self, name: &Name) -> Option<&S> {
        self.find::<S>(&ServiceId::new(default_namespace(), name.clone())).map(|object| &object.spec)
    }

    /// What holds where no policy says otherwise, and whether a Mesh object says so.
    #[must_use]
    pub fn defaults(&self) -> (Defaults, Option<PolicyKey>) {
        match self.mesh() {
            Some(mesh) => (mesh.spec.defaults, Some(mesh.key())),
            None => (Defaults::default(), None),
        }
    }

    /// The objects of kind `S` that name `target` in this relation, in order of their keys.
    pub(crate) fn naming<'a, S: Spec>(
        &'a self,
        relation: Relation,
        target: &Target,
    ) -> impl Iterator<Item = &'a Arc<Object<S>>> + use<'a, S> {
        self.naming_any(relation, target).filter_map(Policy::of)
    }

    /// The objects of all kinds that name `target` in this relation, in order of their keys.
    pub(crate) fn naming_any<'a>(
        &'a self,
        relation: Relation,
        target: &Target,
    ) -> impl Iterator<Item = &'a Policy> + use<'a> {
        self.index.naming(relation, target).filter_map(|key| self.policies.get(key))
    }

    /// What the policies of a kind that have one of these targets say together. Later targets win field by field.
    pub(crate) fn merged<P: Merged>(&self, targets: Vec<(Level, Target)>) -> P::Effective {
        let mut effective = P::Effective::default();
        for (level, target) in targets {
            for policy in self.naming::<P>(Relation::Target, &target) {
                policy.spec.merge_into(&mut effective, &policy.key(), level);
            }
        }
        effective
    }
}

impl Objects for PolicySet {
    fn object(&self, key: &PolicyKey) -> Option<&dyn AnyObject> {
        self.policies.get(key).map(Policy::object)
    }
}
