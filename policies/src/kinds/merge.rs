//! Kinds whose policies are merged by level, field by field: the most specific that sets a field wins it.
//!
//! Such a kind writes a table of its fields with `merged_fields!`. From the table follow what holds when all levels are
//! merged, where each value comes from, and which fields two policies of one target may not both set.

use serde::Serialize;
use weft_api::Name;

use super::kind::Level;
use super::spec::{Spec, Target};
use crate::object::PolicyKey;

/// A value, and who set it where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective<T> {
    /// The value that holds.
    pub value: T,
    /// The object that set it.
    pub origin: PolicyKey,
    /// The path in that object.
    pub path: String,
    /// The level at which it speaks.
    #[serde(skip)]
    pub level: Level,
}

impl<T: Serialize> Effective<T> {
    /// The same with the value as JSON.
    pub(crate) fn as_json(&self) -> Effective<serde_json::Value> {
        Effective {
            value: serde_json::to_value(&self.value).unwrap_or_default(),
            origin: self.origin.clone(),
            path: self.path.clone(),
            level: self.level,
        }
    }
}

/// A kind that is merged by level.
pub trait Merged: Spec {
    /// What holds when policies of all levels are merged. A field that none sets is `None`.
    type Effective: Default;

    /// Takes over every field that the policy sets.
    fn merge_into(&self, effective: &mut Self::Effective, origin: &PolicyKey, level: Level);

    /// The paths of the fields that it sets.
    fn paths(&self) -> Vec<&'static str>;
}

/// The targets of policies that speak about a port of a service, the broadest first.
#[must_use]
pub fn levels_of_port(backend: &PolicyKey, port: &Name) -> Vec<(Level, Target)> {
    vec![
        (Level::Mesh, Target::Mesh),
        (Level::Namespace, Target::Namespace(backend.namespace.clone())),
        (Level::Service, Target::Object(backend.clone(), None)),
        (Level::ServicePort, Target::Object(backend.clone(), Some(port.clone()))),
    ]
}

/// Makes what holds for a kind, and its [`Merged`], from one table: a row is a field, its path in the document, and how
/// it is read.
macro_rules! merged_fields {
    (
        $(#[$about:meta])* $effective:ident of $spec:ty {
            $($(#[$doc:meta])* $field:ident: $type:ty = $path:literal, |$policy:ident| $read:expr;)*
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $effective {
            $($(#[$doc])* #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<Effective<$type>>,)*
        }

        impl $effective {
            /// The objects that set any field, sorted.
            #[must_use]
            pub fn origins(&self) -> Vec<PolicyKey> {
                let mut origins = Vec::new();
                $(origins.extend(self.$field.as_ref().map(|set| set.origin.clone()));)*
                origins.sort();
                origins.dedup();
                origins
            }

            /// All values that an object sets, by the names of their fields here.
            #[must_use]
            pub fn values(&self) -> Vec<(&'static str, Effective<serde_json::Value>)> {
                let mut values = Vec::new();
                $(values.extend(self.$field.as_ref().map(|set| (stringify!($field), set.as_json())));)*
                values
            }
        }

        impl Merged for $spec {
            type Effective = $effective;

            fn merge_into(&self, effective: &mut $effective, origin: &PolicyKey, level: Level) {
                $({
                    let $policy = self;
                    if let Some(value) = $read {
                        let origin = origin.clone();
                        effective.$field = Some(Effective { value, origin, path: $path.to_owned(), level });
                    }
                })*
            }

            fn paths(&self) -> Vec<&'static str> {
                let mut paths = Vec::new();
                $({
                    let $policy = self;
                    if $read.is_some() {
                        paths.push($path);
                    }
                })*
                paths
            }
        }
    };
}
pub(crate) use merged_fields;
