//! All policies together: what one apply makes of them, whether they fit, and what they say about one call.
//!
//! A set is immutable and cheap to clone. Its indexes answer "which policies speak of this service" without a walk
//! over all of them.
//!
//! ```text
//!   apply(documents) -> validate -> new set + one outcome a document
//!   http_rules_for / tcp_route_for / traffic_for / authorization_for   <- compile
//! ```

mod authorization;
mod conflicts;
mod index;
mod routes;
mod targets;
mod traffic;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weft_api::rest::Violation;
use weft_api::{Name, ServiceId, WorkloadId};

use crate::document::{Document, Origin};
use crate::finding::{Code, Finding, steps};
use crate::kinds::mesh::{Defaults, MESH_NAME};
use crate::kinds::{Kind, Service, Workload};
use crate::metadata::default_namespace;
use crate::policy::{Object, Policy};

pub use crate::policy::PolicyKey;
pub use authorization::Authorization;
pub use routes::HttpRouteMatch;
pub use traffic::{Effective, EffectiveTraffic};
pub use validate::Report;

use index::Index;

/// All policies of a mesh.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    policies: BTreeMap<PolicyKey, Policy>,
    index: Arc<Index>,
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
        Self::of(policies.into_iter().map(|policy| (policy.key(), policy)).collect())
    }

    fn of(policies: BTreeMap<PolicyKey, Policy>) -> Self {
        let index = Arc::new(Index::of(policies.values()));
        Self { policies, index }
    }

    /// Puts documents into the set, all or none. Server-side metadata of objects that exist is kept, and the
    /// generation grows where an object says something else.
    ///
    /// # Errors
    /// All violations of the new set, when it has any that this apply is to blame for.
    pub fn apply(&self, documents: &[Document]) -> Result<Applied, Vec<Violation>> {
        let mut policies = self.policies.clone();
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
                policies.insert(key.clone(), policy);
            }
            outcomes.push(Outcome { key, action, generation });
        }
        let set = Self::of(policies);
        let report = set.report(&origins);
        let mut errors = self.new_errors(report.errors);
        errors.extend(twice);
        if errors.is_empty() { Ok(Applied { set, outcomes, warnings: report.warnings }) } else { Err(errors) }
    }

    /// Takes objects out of the set, all or none. Objects that do not exist are not mentioned in the outcomes.
    ///
    /// # Errors
    /// All violations that the rest would have and did not have before.
    pub fn delete(&self, keys: &[PolicyKey]) -> Result<Applied, Vec<Violation>> {
        let mut policies = self.policies.clone();
        let mut outcomes = Vec::new();
        for key in keys {
            if let Some(gone) = policies.remove(key) {
                let generation = gone.metadata().generation;
                outcomes.push(Outcome { key: key.clone(), action: Action::Deleted, generation });
            }
        }
        let set = Self::of(policies);
        let report = set.report(&BTreeMap::new());
        let errors = self.new_errors(report.errors);
        if errors.is_empty() { Ok(Applied { set, outcomes, warnings: report.warnings }) } else { Err(errors) }
    }

    /// Errors that this set does not have already: a set stored by an older version must not block every change.
    fn new_errors(&self, errors: Vec<Violation>) -> Vec<Violation> {
        if errors.is_empty() {
            return errors;
        }
        let identity = |one: &Violation| (one.object.clone(), one.path.clone(), one.message.clone());
        let old: BTreeSet<_> = self.validate().iter().map(identity).collect();
        errors.into_iter().filter(|one| one.line > 0 || !old.contains(&identity(one))).collect()
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
        validate::report(self, origins)
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
        let lowest = Name::try_new("0").expect("a valid label");
        let dash_free = PolicyKey::new(kind, lowest.clone(), lowest);
        self.policies
            .range(dash_free..)
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
    pub fn keep(&mut self, key: &PolicyKey, change: impl FnOnce(&mut crate::metadata::Metadata)) {
        if let Some(policy) = self.policies.get_mut(key) {
            change(policy.metadata_mut());
            self.index = Arc::new(Index::of(self.policies.values()));
        }
    }

    /// A service.
    #[must_use]
    pub fn service(&self, id: &ServiceId) -> Option<&Arc<Object<Service>>> {
        match self.policies.get(&PolicyKey::new(Kind::Service, id.namespace.clone(), id.name.clone())) {
            Some(Policy::Service(service)) => Some(service),
            _ => None,
        }
    }

    /// A workload that a document describes.
    #[must_use]
    pub fn workload(&self, id: &WorkloadId) -> Option<&Arc<Object<Workload>>> {
        match self.policies.get(&PolicyKey::new(Kind::Workload, id.namespace.clone(), id.name.clone())) {
            Some(Policy::Workload(workload)) => Some(workload),
            _ => None,
        }
    }

    /// All services in order of namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Object<Service>>> {
        self.of_kind(Kind::Service).filter_map(|policy| match policy {
            Policy::Service(service) => Some(service),
            _ => None,
        })
    }

    /// What holds where no policy says otherwise, and whether a Mesh object says so.
    #[must_use]
    pub fn defaults(&self) -> (Defaults, Option<PolicyKey>) {
        let name = Name::try_new(MESH_NAME).expect("a valid label");
        let key = PolicyKey::new(Kind::Mesh, default_namespace(), name);
        match self.policies.get(&key) {
            Some(Policy::Mesh(mesh)) => (mesh.spec.defaults, Some(key)),
            _ => (Defaults::default(), None),
        }
    }
}

fn written_twice(key: &PolicyKey, first: &Origin, second: &Origin) -> Violation {
    let message = format!("{key} is written twice, first at {}", first.place(&steps!["metadata", "name"]));
    second.violation(&Finding::new(steps!["metadata", "name"], Code::Duplicate, message), &key.to_string())
}
