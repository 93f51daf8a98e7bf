//! What makes a RoleBinding valid by itself.

use std::collections::BTreeSet;

use super::{RoleBinding, check_of_the_mesh};
use crate::finding::{Code, Findings};
use crate::metadata::Metadata;

pub(super) fn check(binding: &RoleBinding, metadata: &Metadata, out: &mut Findings) {
    check_of_the_mesh("RoleBinding", metadata, out);
    if binding.subjects.is_empty() {
        out.add_at("subjects", Code::Required, "a RoleBinding without subjects gives nobody anything");
    }
    let mut seen = BTreeSet::new();
    out.each("subjects", &binding.subjects, |out, subject| {
        if !seen.insert(subject.principal.clone()) {
            out.add_at("principal", Code::Duplicate, "stands twice").value(subject.principal.as_str());
        }
    });
}
