//! What Mesh declares as a kind.

use weft_api::Name;

use super::{Mesh, check};
use crate::finding::{Findings, steps};
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Part, Reference, Relation, Spec, Target};
use crate::metadata::Metadata;

impl Spec for Mesh {
    const KIND: Kind = Kind::Mesh;
    const SHAPES: &'static [Part] = &[Part::Hosts, Part::Routes, Part::Sidecars];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, _namespace: &Name) -> Vec<Reference> {
        vec![Reference { relation: Relation::Target, target: Target::Mesh, path: steps!["spec"] }]
    }
}
