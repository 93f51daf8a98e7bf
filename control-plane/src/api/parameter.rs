//! What stands in paths and queries: how it is read, and the schema that says what can be read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use weft_api::rest::{MESSAGE_PATTERN, WAIT_PATTERN};
use weft_api::{Name, ServiceId};
use weft_policies::kinds::Kind;

use super::error::ApiError;

macro_rules! text_parameter {
    ($(#[$doc:meta])* $type:ident $schema:tt) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $type;

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

text_parameter! {
    /// How long to wait: `30s`.
    Wait {"type": "string", "pattern": WAIT_PATTERN}
}
text_parameter! {
    /// A selector of objects by their labels.
    Selector {"type": "string", "pattern": SELECTOR_PATTERN}
}
text_parameter! {
    /// A count: of revisions, of seconds.
    Count {"type": "integer", "minimum": 0, "maximum": u64::MAX}
}
text_parameter! {
    /// The reason for a change.
    Message {"type": "string", "maxLength": 1000, "pattern": MESSAGE_PATTERN}
}

/// One requirement after the other, with commas between: `KEY=VALUE`, `KEY!=VALUE`, `KEY in (A,B)`, `KEY notin (A,B)`, `KEY`,
/// `!KEY`.
const SELECTOR_PATTERN: &str = concat!(
    r"^(!?[A-Za-z0-9._/-]{1,253}|[A-Za-z0-9._/-]{1,253}(==?|!=)[A-Za-z0-9._-]{0,63}",
    r"|[A-Za-z0-9._/-]{1,253} (in|notin) \([A-Za-z0-9._-]{0,63}(,[A-Za-z0-9._-]{0,63})*\))",
    r"(,(!?[A-Za-z0-9._/-]{1,253}|[A-Za-z0-9._/-]{1,253}(==?|!=)[A-Za-z0-9._-]{0,63}",
    r"|[A-Za-z0-9._/-]{1,253} (in|notin) \([A-Za-z0-9._-]{0,63}(,[A-Za-z0-9._-]{0,63})*\)))*$",
);

/// A kind, by any of its names.
#[derive(Debug)]
pub struct KindWord;

impl JsonSchema for KindWord {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "KindWord".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words = Kind::ALL.into_iter().flat_map(|kind| {
            let names = [kind.plural(), kind.name()];
            names.into_iter().chain(kind.short().iter().copied())
        });
        let words: Vec<&str> = words.collect();
        json_schema!({"type": "string", "description": "A kind: its plural, its name or a short name", "enum": words})
    }
}

/// The kind that a word of a path names.
pub fn kind_of(word: &str) -> Result<Kind, ApiError> {
    Kind::named(word).ok_or_else(|| {
        let known: Vec<_> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
        ApiError::missing(format!("there are no {word:?}; the kinds are {}", known.join(", ")))
    })
}

/// The kind that a parameter names.
pub fn read_kind(word: &str) -> Result<Kind, ApiError> {
    Kind::named(word).ok_or_else(|| ApiError::bad_request(format!("kind: there is no kind {word:?}")))
}

/// A name; `parameter` is what it was given as.
pub fn read_name(parameter: &str, text: &str) -> Result<Name, ApiError> {
    Name::try_new(text).map_err(|error| ApiError::bad_request(format!("{parameter}: {error}")))
}

/// A service; `parameter` is what it was given as.
pub fn read_service(parameter: &str, text: &str) -> Result<ServiceId, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(format!("{parameter}: {text:?} is no service; write NAMESPACE/SERVICE"))
    })
}

/// How many are wanted at most.
pub fn read_limit(limit: Option<usize>, usual: usize, most: usize) -> Result<usize, ApiError> {
    let limit = limit.unwrap_or(usual);
    if (1..=most).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::bad_request(format!("limit: {limit} is not between 1 and {most}")))
}
