//! A policy: an object of any kind.

use std::any::Any;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::finding::Finding;
use crate::kinds;
use crate::kinds::http_rule::RequestRules;
use crate::kinds::kind::Kind;
use crate::kinds::spec::{Part, Reference, Spec};
use crate::kinds::table::with_kinds;
use crate::metadata::Metadata;

pub use crate::object::{AnyObject, Object, PolicyKey};

macro_rules! declare_policy {
    ($($(#[$doc:meta])* $kind:ident $module:ident $row:tt)*) => {
        /// An object of any kind. Cloning one shares it.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Policy {
            $($(#[$doc])* $kind(Arc<Object<kinds::$module::$kind>>),)*
        }

        impl Policy {
            /// The object, whatever its kind.
            #[must_use]
            pub fn object(&self) -> &dyn AnyObject {
                match self {
                    $(Self::$kind(object) => object.as_ref(),)*
                }
            }

            fn object_mut(&mut self) -> &mut dyn AnyObject {
                match self {
                    $(Self::$kind(object) => Arc::<Object<kinds::$module::$kind>>::make_mut(object),)*
                }
            }

            /// The shared object, an `Arc<Object<S>>` of the kind's own `S`.
            fn shared(&self) -> &dyn Any {
                match self {
                    $(Self::$kind(object) => object,)*
                }
            }

            /// The kind, without looking into the object.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Builds a policy from a spec whose shape was checked already.
            pub(crate) fn build(
                kind: Kind,
                api_version: &'static str,
                metadata: Metadata,
                spec: Value,
            ) -> Result<Self, Vec<Finding>> {
                Ok(match kind {
                    $(Kind::$kind => Self::$kind(Object::build(api_version, metadata, spec)?),)*
                })
            }
        }
    };
}
with_kinds!(declare_policy);

impl Policy {
    /// The object's name in the whole mesh.
    #[must_use]
    pub fn key(&self) -> PolicyKey {
        self.object().key()
    }

    /// The object, where it is of kind `S`.
    #[must_use]
    pub fn of<S: Spec>(&self) -> Option<&Arc<Object<S>>> {
        self.shared().downcast_ref()
    }

    /// Name, labels, and what the server keeps.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        self.object().metadata()
    }

    /// Changes what the server keeps about the object.
    pub fn metadata_mut(&mut self) -> &mut Metadata {
        self.object_mut().metadata_mut()
    }

    /// The objects, sections and host names that it names, whether or not they exist.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        self.object().references()
    }

    /// What of the compiled configuration it shapes.
    #[must_use]
    pub fn shapes(&self) -> &'static [Part] {
        self.object().shapes()
    }

    /// The rules by which it routes requests, where it does.
    #[must_use]
    pub fn request_rules(&self) -> Option<RequestRules<'_>> {
        self.object().request_rules()
    }

    /// Whether people wrote the same: API version, names, labels, annotations and spec.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.object().says_the_same(other.object())
    }

    /// The whole object as it is stored and read back.
    #[must_use]
    pub fn to_value(&self) -> Value {
        self.object().to_value()
    }

    /// Reads what [`Policy::to_value`] wrote.
    ///
    /// # Errors
    /// When it is not a whole, valid object; the first reason is given.
    pub fn from_value(value: Value) -> Result<Self, StoredPolicyError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stored {
            api_version: String,
            kind: Kind,
            metadata: Metadata,
            spec: Value,
        }
        let stored: Stored =
            serde_json::from_value(value).map_err(|error| StoredPolicyError(error.to_string()))?;
        let object = format!("{} {}/{}", stored.kind, stored.metadata.namespace, stored.metadata.name);
        let api_version =
            stored.kind.api_versions().iter().find(|version| **version == stored.api_version).ok_or_else(
                || StoredPolicyError(format!("{object}: unknown apiVersion {:?}", stored.api_version)),
            )?;
        Self::build(stored.kind, api_version, stored.metadata, stored.spec).map_err(|found| {
            let reason =
                found.first().map(|one| format!("{}: {}", one.path, one.message)).unwrap_or_default();
            StoredPolicyError(format!("{object}: {reason}"))
        })
    }
}

/// A stored object that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored policy cannot be read: {0}")]
pub struct StoredPolicyError(String);
