//! Who names what. Made of what objects declare, and kept up with each change.

use imbl::OrdSet;
use weft_api::Name;

use crate::kinds::kind::Kind;
use crate::kinds::spec::{Relation, Target};
use crate::object::PolicyKey;
use crate::policy::Policy;

/// All references, by what they name. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Index(OrdSet<IndexEntry>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct IndexEntry {
    target: Target,
    relation: Relation,
    by: PolicyKey,
}

impl Index {
    /// Takes the references of an object in.
    pub(super) fn add(&mut self, policy: &Policy) {
        for entry in entries(policy) {
            self.0.insert(entry);
        }
    }

    /// Takes the references of an object out.
    pub(super) fn remove(&mut self, policy: &Policy) {
        for entry in entries(policy) {
            self.0.remove(&entry);
        }
    }

    /// The objects that name `target` in this relation, in order of their keys.
    pub(super) fn naming<'a>(
        &'a self,
        relation: Relation,
        target: &Target,
    ) -> impl Iterator<Item = &'a PolicyKey> + use<'a> {
        let (first, target) = (first_of(Kind::ALL[0]), target.clone());
        self.0
            .range(IndexEntry { target: target.clone(), relation, by: first }..)
            .take_while(move |entry| entry.relation == relation && entry.target == target)
            .map(|entry| &entry.by)
    }

    /// The objects that name an object, or a section of it, in whatever relation.
    pub(super) fn naming_object<'a>(
        &'a self,
        key: &PolicyKey,
    ) -> impl Iterator<Item = &'a PolicyKey> + use<'a> {
        let (first, key) = (first_of(Kind::ALL[0]), key.clone());
        let target = Target::Object(key.clone(), None);
        self.0
            .range(IndexEntry { target, relation: Relation::Parent, by: first }..)
            .take_while(move |entry| matches!(&entry.target, Target::Object(named, _) if *named == key))
            .map(|entry| &entry.by)
    }
}

fn entries(policy: &Policy) -> impl Iterator<Item = IndexEntry> {
    let by = policy.key();
    policy.references().into_iter().map(move |reference| IndexEntry {
        target: reference.target,
        relation: reference.relation,
        by: by.clone(),
    })
}

/// A key that no other of its kind goes before.
pub(super) fn first_of(kind: Kind) -> PolicyKey {
    let lowest = Name::try_new("0").expect("a valid label");
    PolicyKey::new(kind, lowest.clone(), lowest)
}
