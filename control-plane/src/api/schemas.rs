//! JSON Schemas of kinds, for editors and for those who make documents.

use axum::Json;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;
use super::extract::InPath;
use super::parameter::{KindWord, kind_of};

/// Whose schema is wanted.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SchemaPath {
    #[schemars(with = "KindWord")]
    kind: String,
}

/// `GET /v1/schemas/{kind}`
pub async fn of_kind(InPath(path): InPath<SchemaPath>) -> Result<Json<Value>, ApiError> {
    Ok(Json(weft_policies::schema(kind_of(&path.kind)?)))
}
