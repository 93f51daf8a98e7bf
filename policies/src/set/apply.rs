//! Changing a set: all or none of the documents, and one outcome for each.

use std::collections::{BTreeMap, BTreeSet};

use weft_api::rest::Violation;

use super::PolicySet;
use super::checks::{self, Stale};
use super::findings::Report;
use crate::document::{Document, DocumentSource};
use crate::finding::{Code, Finding, steps};
use crate::kinds::spec::Target;
use crate::object::PolicyKey;
use crate::policy::Policy;

/// What an apply or a delete did to one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ApplyAction {
    /// It did not exist.
    Created,
    /// It says something else now.
    Updated,
    /// It said the same already.
    Unchanged,
    /// It was there and is taken out.
    Deleted,
}

impl ApplyAction {
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
pub struct AppliedObject {
    /// The object that the document or the key names.
    pub key: PolicyKey,
    /// What was done to the object.
    pub action: ApplyAction,
    /// The generation it has now.
    pub generation: u64,
}

/// A set after an apply or a delete.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The set with all of it; the old one is as it was.
    pub set: PolicySet,
    /// One outcome for each document or key, in their order, then one for each object that was pruned.
    pub outcomes: Vec<AppliedObject>,
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
            let called_alike = std::iter::once(key.clone()).chain(key.namesakes());
            stale.targets.extend(called_alike.map(|key| Target::Object(key, None)));
            stale.objects.insert(key);
        }
        let naming: Vec<PolicyKey> =
            stale.objects.iter().flat_map(|key| set.index.naming_object(key)).cloned().collect();
        stale.objects.extend(naming);
        let mut findings = std::mem::take(&mut set.findings);
        checks::renew(&mut findings, &set, stale);
        set.findings = findings;
        set
    }

    /// Puts documents into the set, all or none. Server-side metadata of objects that exist is kept, and the
    /// generation grows where an object says something else.
    ///
    /// # Errors
    /// All violations of the new set, when it has any that this apply is to blame for.
    pub fn apply(&self, documents: &[Document]) -> Result<Applied, Vec<Violation>> {
        self.apply_and_prune(documents, |_| false)
    }

    /// As [`PolicySet::apply`], and takes out the objects that are to be pruned and are in none of the documents; their
    /// outcomes follow those of the documents.
    ///
    /// # Errors
    /// As [`PolicySet::apply`].
    pub fn apply_and_prune(
        &self,
        documents: &[Document],
        is_to_be_pruned: impl Fn(&Policy) -> bool,
    ) -> Result<Applied, Vec<Violation>> {
        let mut changes = Vec::new();
        let mut sources = BTreeMap::new();
        let mut outcomes = Vec::with_capacity(documents.len());
        let mut twice = Vec::new();
        for document in documents {
            let mut policy = document.policy.clone();
            let key = policy.key();
            if let Some(first) = sources.insert(key.clone(), &document.source) {
                twice.push(written_twice(&key, first, &document.source));
                continue;
            }
            let (action, generation) = match self.policies.get(&key) {
                Some(old) if old.says_the_same(&policy) => {
                    (ApplyAction::Unchanged, old.metadata().generation)
                }
                Some(old) => {
                    let created_at = old.metadata().created_at.clone();
                    (ApplyAction::Updated, succeed(old, &mut policy, created_at))
                }
                None => {
                    policy.metadata_mut().generation = 1;
                    (ApplyAction::Created, 1)
                }
            };
            if action != ApplyAction::Unchanged {
                changes.push((key.clone(), Some(policy)));
            }
            outcomes.push(AppliedObject { key, action, generation });
        }
        let pruned =
            self.iter().filter(|policy| is_to_be_pruned(policy) && !sources.contains_key(&policy.key()));
        for policy in pruned {
            let (key, generation) = (policy.key(), policy.metadata().generation);
            changes.push((key.clone(), None));
            outcomes.push(AppliedObject { key, action: ApplyAction::Deleted, generation });
        }
        let set = self.with(changes);
        let Report { mut errors, warnings } = set.findings.report_since(&self.findings, &sources);
        errors.extend(twice);
        if errors.is_empty() { Ok(Applied { set, outcomes, warnings }) } else { Err(errors) }
    }

    /// Makes this set what another one says, an earlier one of the same mesh, all or none. Objects that say the same are not
    /// mentioned in the outcomes. Among routes of equal specificity the older goes first, so that the time of creation comes
    /// back too; what was deleted meanwhile comes back under a new uid.
    ///
    /// # Errors
    /// All violations that the earlier set has by the checks of today and this one does not have.
    pub fn restore(&self, earlier: &Self) -> Result<Applied, Vec<Violation>> {
        let (mut changes, mut outcomes) = (Vec::new(), Vec::new());
        for key in self.differences(earlier) {
            let (action, generation, policy) = match (self.policies.get(&key), earlier.policies.get(&key)) {
                (Some(now), Some(then))
                    if now.says_the_same(then) && now.metadata().created_at == then.metadata().created_at =>
                {
                    continue;
                }
                (Some(now), Some(then)) => {
                    let mut policy = then.clone();
                    let generation = succeed(now, &mut policy, then.metadata().created_at.clone());
                    (ApplyAction::Updated, generation, Some(policy))
                }
                (None, Some(then)) => {
                    let mut policy = then.clone();
                    let metadata = policy.metadata_mut();
                    (metadata.uid, metadata.generation) = (None, 1);
                    (ApplyAction::Created, 1, Some(policy))
                }
                (Some(now), None) => (ApplyAction::Deleted, now.metadata().generation, None),
                (None, None) => continue,
            };
            changes.push((key.clone(), policy));
            outcomes.push(AppliedObject { key, action, generation });
        }
        let set = self.with(changes);
        let Report { errors, warnings } = set.findings.report_since(&self.findings, &BTreeMap::new());
        if errors.is_empty() { Ok(Applied { set, outcomes, warnings }) } else { Err(errors) }
    }

    /// Takes objects out of the set, all or none. Objects that do not exist are not mentioned in the outcomes.
    ///
    /// # Errors
    /// All violations that the rest would have and did not have before.
    pub fn delete(&self, keys: &[PolicyKey]) -> Result<Applied, Vec<Violation>> {
        let mut seen = BTreeSet::new();
        let gone = keys.iter().filter(|key| seen.insert(*key)).filter_map(|key| self.policies.get(key));
        let outcomes: Vec<AppliedObject> = gone
            .map(|policy| {
                let generation = policy.metadata().generation;
                AppliedObject { key: policy.key(), action: ApplyAction::Deleted, generation }
            })
            .collect();
        let set = self.with(outcomes.iter().map(|outcome| (outcome.key.clone(), None)));
        let Report { errors, warnings } = set.findings.report_since(&self.findings, &BTreeMap::new());
        if errors.is_empty() { Ok(Applied { set, outcomes, warnings }) } else { Err(errors) }
    }

    /// Everything that is wrong or unwise in how the policies fit together, errors first.
    #[must_use]
    pub fn validate(&self) -> Vec<Violation> {
        let Report { errors, warnings } = self.report(&BTreeMap::new());
        errors.into_iter().chain(warnings).collect()
    }

    /// What is wrong or unwise in how one object fits together with the others.
    #[must_use]
    pub fn found_in(&self, key: &PolicyKey) -> Vec<Violation> {
        self.findings.of(key)
    }

    /// As [`PolicySet::validate`], with line and column of the objects whose source is known.
    #[must_use]
    pub fn report(&self, sources: &BTreeMap<PolicyKey, &DocumentSource>) -> Report {
        self.findings.report(sources)
    }
}

/// Gives an object what the server keeps of the one that it replaces, and the next generation, which is returned.
fn succeed(old: &Policy, new: &mut Policy, created_at: Option<String>) -> u64 {
    let kept = old.metadata().clone();
    let metadata = new.metadata_mut();
    metadata.uid = kept.uid;
    metadata.created_at = created_at;
    metadata.resource_version = kept.resource_version;
    metadata.generation = kept.generation + 1;
    metadata.generation
}

fn written_twice(key: &PolicyKey, first: &DocumentSource, second: &DocumentSource) -> Violation {
    let message = format!("{key} is written twice, first at {}", first.place(&steps!["metadata", "name"]));
    second.violation(&Finding::new(steps!["metadata", "name"], Code::Duplicate, message), &key.to_string())
}
