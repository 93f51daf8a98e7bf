//! How names appear in a JSON Schema: strings with a format that validators of policies know.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Name, ServiceId, WorkloadId};

const LABEL_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";
const ID_PATTERN: &str = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$";

macro_rules! text_schema {
    ($type:ty, $name:literal, $format:literal, $pattern:expr) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "format": $format, "pattern": $pattern})
            }
        }
    };
}

text_schema!(Name, "Name", "name", LABEL_PATTERN);
text_schema!(ServiceId, "ServiceId", "service-id", ID_PATTERN);
text_schema!(WorkloadId, "WorkloadId", "workload-id", ID_PATTERN);
