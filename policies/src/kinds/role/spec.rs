//! What Role declares as a kind.

use weft_api::Name;

use super::{Role, check};
use crate::finding::Findings;
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Part, Reference, Spec};
use crate::metadata::Metadata;

impl Spec for Role {
    const KIND: Kind = Kind::Role;
    const SHAPES: &'static [Part] = &[];

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        check::check(self, metadata, out);
    }

    fn references(&self, _namespace: &Name) -> Vec<Reference> {
        Vec::new()
    }
}
