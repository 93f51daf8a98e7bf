//! Policies: from YAML to a valid set, and from a set to xDS. Pure: no files, no clock, no network, no randomness.
//!
//! ```text
//!   text -> document::parse -> Document -> PolicySet::apply -> PolicySet -> compile -> Resource
//! ```
//!
//! It does not store anything, and it does not know who is connected.

pub mod compile;
pub mod document;
pub mod finding;
pub mod kinds;
pub mod label_query;
pub mod metadata;
pub mod object;
pub mod policy;
pub mod schema;
pub mod set;
mod structure;
mod suggest;
pub mod value;

pub use document::{Document, DocumentsRead, parse, parse_among_others};
pub use kinds::Kind;
pub use label_query::LabelQuery;
pub use policy::{Object, Policy};
pub use schema::schema;
pub use set::{PolicyKey, PolicySet};
pub use suggest::suggest;
