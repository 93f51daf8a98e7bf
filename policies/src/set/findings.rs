//! What is wrong with a set, kept with it and shown as violations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use weft_api::rest::Violation;

use crate::document::DocumentSource;
use crate::finding::Finding;
use crate::kinds::spec::Target;
use crate::object::PolicyKey;

/// What is wrong with a set, and what is unwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The set cannot be taken.
    pub errors: Vec<Violation>,
    /// The set is taken, and people should look.
    pub warnings: Vec<Violation>,
}

/// Everything that was found in a set. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct SetFindings {
    /// In single objects, beside those that they name.
    pub(super) objects: OrdMap<PolicyKey, Arc<[Finding]>>,
    /// In objects that name the same.
    pub(super) conflicts: OrdMap<Target, Arc<[(PolicyKey, Finding)]>>,
}

impl SetFindings {
    /// All that was found: in each object, then between them.
    fn iter(&self) -> impl Iterator<Item = (&PolicyKey, &Finding)> {
        let in_objects =
            self.objects.iter().flat_map(|(key, found)| found.iter().map(move |finding| (key, finding)));
        let between = self.conflicts.values().flat_map(|found| found.iter());
        in_objects.chain(between.map(|(key, finding)| (key, finding)))
    }

    /// Everything as violations, with the places that are known.
    pub(super) fn report(&self, sources: &BTreeMap<PolicyKey, &DocumentSource>) -> Report {
        self.report_of(self.iter(), sources)
    }

    /// What was found in one object, by itself and between it and others.
    pub(super) fn of(&self, key: &PolicyKey) -> Vec<Violation> {
        let in_object = self.objects.get(key).into_iter().flat_map(|found| found.iter());
        let between = self.conflicts.values().flat_map(|found| found.iter());
        let between = between.filter(|(one, _)| one == key).map(|(_, finding)| finding);
        let object = key.to_string();
        in_object.chain(between).map(|finding| crate::document::unplaced(finding, &object)).collect()
    }

    /// As [`SetFindings::report`], but only what is new since `before`, or stands in a document that is known: a set stored by
    /// an older version must not block every change, and nobody reads what each change repeats.
    pub(super) fn report_since(
        &self,
        before: &Self,
        sources: &BTreeMap<PolicyKey, &DocumentSource>,
    ) -> Report {
        let identity = |(key, finding): (&PolicyKey, &Finding)| {
            (key.clone(), finding.path.clone(), finding.message.clone())
        };
        let old: BTreeSet<_> = before.iter().map(identity).collect();
        let shown = self.iter().filter(|one| sources.contains_key(one.0) || !old.contains(&identity(*one)));
        self.report_of(shown, sources)
    }

    fn report_of<'a>(
        &self,
        found: impl Iterator<Item = (&'a PolicyKey, &'a Finding)>,
        sources: &BTreeMap<PolicyKey, &DocumentSource>,
    ) -> Report {
        let mut report = Report::default();
        for (key, finding) in found {
            let object = key.to_string();
            let violation = match sources.get(key) {
                Some(source) => source.violation(finding, &object),
                None => crate::document::unplaced(finding, &object),
            };
            if finding.code.is_warning() {
                report.warnings.push(violation);
            } else {
                report.errors.push(violation);
            }
        }
        report
    }
}
