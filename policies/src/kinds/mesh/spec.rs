//! What Mesh declares as a kind.

use weft_api::Name;

use super::{Mesh, check};
use crate::finding::Findings;
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Part, Reference, Spec};
use crate::metadata::Metadata;

impl Spec for Mesh {
    const KIND: Kind = Kind::Mesh;
    const SHAPES: &'static [Part] = &[Part::Routes, Part::Sidecars];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, _namespace: &Name) -> Vec<Reference> {
        Vec::new()
    }
}
