//! All policies together: what one apply makes of them, whether they fit, and what they say about one call.
//!
//! A set is cheap to clone: a changed copy shares all the rest. Its index answers "which policies speak of this service"
//! without a walk over all of them, and what was found in checks is kept, so that a change costs what it affects.
//!
//! ```text
//!   apply(documents) -> with(changes) -> index, checks -> new set + one outcome a document
//!   http_rules_for / tcp_route_for / traffic_for / authorization_for   <- compile
//! ```

mod checks;
mod conflicts;
mod index;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use weft_api::rest::Violation;
use weft_api::{Name, ServiceId, WorkloadId};

use crate::document::{Document, Origin};
use crate::finding::{Code, Finding, steps};
use crate::kinds::kind::{Kind, Level};
use crate::kinds::merge::Merged;
use crate::kinds::mesh::{Defaults, MESH_NAME, Mesh};
use crate::kinds::service::Service;
use crate::kinds::spec::{Objects, Relation, Spec, Target};
use crate::kinds::workload::Workload;
use crate::metadata::{Metadata, default_namespace};
use crate::object::{AnyObject, Object};
use crate::policy::Policy;

pub use crate::kinds::authorization_policy::effect::Authorization;
pub use crate::kinds::merge::Effective;
pub use crate::kinds::traffic_policy::fields::EffectiveTraffic;
pub use crate::object::PolicyKey;
pub use checks::Report;
pub use routes::HttpRouteMatch;

use checks::{Checks, Stale};
use index::Index;

/// All policies of a mesh.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    policies: OrdMap<PolicyKey, Policy>,
    index: Index,
    checks: Checks,
}

/// What an apply or a delete did to one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It did not exist.
    Created,
    /// It says something else now.
    Updated,
    /// It said the same already.
    Unchanged,
    /// It is gone.
    Deleted,
}

impl Action {
    /// The word in answers of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The object.
    pub key: PolicyKey,
    /// What was done.
    pub action: Action,
    /// The generation it has now.
    pub generation: u64,
}

/// A set after an apply or a delete.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The new set.
    pub set: PolicySet,
    /// One outcome for each document or key, in their order.
    pub outcomes: Vec<Outcome>,
    /// What people should look at.
    pub warnings: Vec<Violation>,
}

impl PolicySet {
    /// A set of policies that were valid together before, for instance read from the store.
    #[must_use]
    pub fn from_policies(policies: impl IntoIterator<Item = Policy>) -> Self {
        Self::default().with(policies.into_iter().map(|policy| (policy.key(), Some(policy))))
    }

    /// This set with some objects put in, or taken out (`None`). Nothing is refused: what is wrong with it,
    /// [`PolicySet::report`] tells.
    #[must_use]
    pub fn with(&self, changes: impl IntoIterator<Item = (PolicyKey, Option<Policy>)>) -> Self {
        let mut set = self.clone();
        let mut stale = Stale::default();
        for (key, policy) in changes {
            let before = match &policy {
                Some(policy) => set.policies.insert(key.clone(), policy.clone()),
                None => set.policies.remove(&key),
            };
            if let Some(before) = &before {
                set.index.remove(before);
            }
            if let Some(policy) = &policy {
                set.index.add(policy);
            }
            let references = before.iter().chain(&policy).flat_map(Policy::references);
            stale.targets.extend(references.map(|reference| reference.target));
            stale.targets.insert(Target::Object(key.clone(), None));
            stale.objects.insert(key);
        }
        let naming: Vec<PolicyKey> =
            stale.objects.iter().flat_map(|key| set.index.naming_object(key)).cloned().collect();
        stale.objects.extend(naming);
        let mut checks = std::mem::take(&mut set.checks);
        checks.renew(&set, stale);
        set.checks = checks;
        set
    }

    /// The keys of the objects that are in one set only, or are not equal in both. Costs what differs, for sets of
    /// which one was made from the other.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<PolicyKey> {
        let differs = self.policies.diff(&other.policies).map(|item| match item {
            DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. } => key,
        });
        differs.cloned().collect()
    }

    /// Puts documents into the set, all or none. Server-side metadata of objects that exist is kept, and the
    /// generation grows where an object says something else.
    ///
    /// # Errors
    /// All violations of the new set, when it has any that this apply is to blame for.
    pub fn apply(&self, documents: &[Document]) -> Result<Applied, Vec<Violation>> {
        let mut changes = Vec::new();
        let mut origins = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(documents.len());
        let mut twice = Vec::new();
        for document in documents {
            let mut policy = document.policy.clone();
            let key = policy.key();
            if let Some(first) = origins.insert(key.clone(), &document.origin) {
                twice.push(written_twice(&key, first, &document.origin));
                continue;
            }
            let (action, generation) = match self.policies.get(&key) {
                Some(old) if old.says_the_same(&policy) => (Action::Unchanged, old.metadata().generation),
                Some(old) => {
                    let kept = old.metadata().clone();
                    let metadata = policy.metadata_mut();
                    metadata.uid = kept.uid;
                    metadata.created_at = kept.created_at;
                    metadata.resource_version = kept.resource_version;
                    metadata.generation = kept.generation + 1;
                    (Action::Updated, kept.generation + 1)
                }
                None => {
                    policy.metadata_mut().generation = 1;
                    (Action::Created, 1)
                }
            };
            if action != Action::Unchanged {
                changes.push((key.clone(), Some(policy)));
            }
            outcomes.push(Outcome { key, action, generation });
        }
        let set = self.with(changes);
        let Report { mut errors, warnings } = set.checks.report_since(&self.checks, &origins);
        errors.extend(twice);
        if errors.is_empty() { Ok(Applied { set, outcomes, warnings }) } else { Err(errors) }
    }

    /// Takes objects out of the set, all or none. Objects that do not exist are not mentioned in the outcomes.
    ///
    /// # Errors
    /// All violations that the rest would have and did not have before.
    pub fn delete(&self, keys: &[PolicyKey]) -> Result<Applied, Vec<Violation>> {
        let mut seen = BTreeSet::new();
        let gone = keys.iter().filter(|key| seen.insert(*key)).filter_map(|key| self.policies.get(key));
        let outcomes: Vec<Outcome> = gone
            .map(|policy| {
                let generation = policy.metadata().generation;
                Outcome { key: policy.key(), action: Action::Deleted, generation }
            })
            .collect();
        let set = self.with(outcomes.iter().map(|outcome| (outcome.key.clone(), None)));
        let Report { errors, warnings } = set.checks.report_since(&self.checks, &BTreeMap::new());
        if errors.is_empty() { Ok(Applied { set, outcomes, warnings }) } else { Err(errors) }
    }

    /// Everything that is wrong or unwise in how the policies fit together, errors first.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        let Report { errors, warnings } = self.report(&BTreeMap::new());
        errors.into_iter().chain(warnings).collect()
    }

    /// As [`PolicySet::validate`], with line and column of the objects whose origin is known.
    #[must_use]
    pub fn report(&self, origins: &BTreeMap<PolicyKey, &Origin>) -> Report {
        self.checks.report(origins)
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

    /// A service.
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

    /// What holds where no policy says otherwise, and whether a Mesh object says so.
    #[must_use]
    pub fn defaults(&self) -> (Defaults, Option<PolicyKey>) {
        let name = Name::try_new(MESH_NAME).expect("a valid label");
        match self.find::<Mesh>(&ServiceId::new(default_namespace(), name)) {
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

fn written_twice(key: &PolicyKey, first: &Origin, second: &Origin) -> Violation {
    let message = format!("{key} is written twice, first at {}", first.place(&steps!["metadata", "name"]));
    second.violation(&Finding::new(steps!["metadata", "name"], Code::Duplicate, message), &key.to_string())
}
