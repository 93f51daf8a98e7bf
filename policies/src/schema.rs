//! The JSON Schema of each kind, made of the same structs that read it.

use std::collections::BTreeMap;

use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::kinds;
use crate::kinds::kind::Kind;
use crate::kinds::spec::Spec;
use crate::kinds::table::with_kinds;
use crate::metadata::Metadata;

macro_rules! declare_schema {
    ($($(#[$doc:meta])* $kind:ident $module:ident $row:tt)*) => {
        /// The JSON Schema (draft 2020-12) of a whole document of one kind.
        #[must_use]
        pub fn schema(kind: Kind) -> Value {
            match kind {
                $(Kind::$kind => of::<kinds::$module::$kind>(),)*
            }
        }
    };
}
with_kinds!(declare_schema);

fn of<S: Spec>() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let spec = generator.subschema_for::<S>();
    let metadata = generator.subschema_for::<Metadata>();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": S::KIND.name(),
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": {"type": "string", "enum": S::KIND.api_versions()},
            "kind": {"type": "string", "enum": [S::KIND.name()]},
            "metadata": metadata,
            "spec": spec,
            "status": {"type": "object", "description": "written by the server; ignored when it is sent"},
        },
        "$defs": generator.take_definitions(true),
    })
}

/// Schemas, each made at first use.
#[derive(Debug, Default)]
pub(crate) struct Schemas(BTreeMap<Kind, Value>);

impl Schemas {
    pub(crate) fn of(&mut self, kind: Kind) -> &Value {
        self.0.entry(kind).or_insert_with(|| schema(kind))
    }
}
