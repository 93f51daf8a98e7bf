//! What every object carries beside its spec.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use crate::finding::{Code, Findings};

/// Name, labels, and what the server keeps about an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The name, unique for its kind in its namespace.
    pub name: Name,
    /// The namespace; `default` when it is left out.
    #[serde(default = "default_namespace")]
    pub namespace: Name,
    /// Labels, by which selectors find the object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes for people and tools; nothing reads them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Written by the server: tells an object from a later one of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Written by the server: grows by one with each change of labels, annotations or spec.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Written by the server: the revision of the store that holds this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Written by the server: when the object was first written, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// The namespace of documents that name none.
#[must_use]
pub fn default_namespace() -> Name {
    Name::try_new("default").expect("a valid label")
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Metadata {
    /// Metadata of an object that is not stored yet.
    #[must_use]
    pub fn new(namespace: Name, name: Name) -> Self {
        Self {
            name,
            namespace,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            uid: None,
            generation: 0,
            resource_version: None,
            created_at: None,
        }
    }

    /// Whether what people write is equal; what the server writes is not compared.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.namespace == other.namespace
            && self.labels == other.labels
            && self.annotations == other.annotations
    }

    pub(crate) fn check(&self, out: &mut Findings) {
        out.at("labels", |out| check_labels(&self.labels, out));
    }
}

/// Notes labels that are too long or have characters that a selector cannot hold.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>, out: &mut Findings) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
    for (key, value) in labels {
        if key.is_empty() || key.len() > 253 || !key.bytes().all(allowed) {
            let message =
                format!("{key:?} is not a label key: use 1 to 253 letters, digits, '-', '_', '.' and '/'");
            out.add_at(key.clone(), Code::InvalidValue, message).value(key);
        }
        if value.len() > 63 || !value.bytes().all(|b| allowed(b) && b != b'/') {
            let message =
                format!("{value:?} is not a label value: use at most 63 letters, digits, '-', '_' and '.'");
            out.add_at(key.clone(), Code::InvalidValue, message).value(value);
        }
    }
}
