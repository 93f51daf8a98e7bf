//! RoleBinding: which principals have a Role.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use crate::finding::{Code, Findings};
use crate::metadata::{Metadata, default_namespace};

mod check;
mod in_set;
mod spec;

/// Which principals have a Role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleBinding {
    /// Name of the Role.
    pub role: Name,
    /// The principals that have the role.
    #[schemars(length(min = 1))]
    pub subjects: Vec<Subject>,
}

/// Somebody with a token of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// Name of the principal, as `weft operator create` was told it.
    pub principal: Name,
}

impl RoleBinding {
    /// Whether a principal has the role by this.
    #[must_use]
    pub fn binds(&self, principal: &Name) -> bool {
        self.subjects.iter().any(|subject| subject.principal == *principal)
    }
}

/// Notes an object in a namespace, whose rules are of the whole mesh.
pub(super) fn check_of_the_mesh(kind: &str, metadata: &Metadata, out: &mut Findings) {
    if metadata.namespace != default_namespace() {
        out.add(Code::InvalidValue, format!("a {kind} is the mesh's, and in no namespace"))
            .value(metadata.namespace.as_str())
            .hint("leave metadata.namespace out");
    }
}
