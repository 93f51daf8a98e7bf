//! Who did what.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::rest::AuditList;

use super::error::ApiError;
use super::extract::Parameters;
use super::parameter::{Count, read_limit};
use super::state::Api;
use crate::identity::audit::AuditSelection;

/// Records of a page, where it is not said, and at most.
const PAGE: usize = 50;
const PAGE_MOST: usize = 1000;

/// Which of the records are wanted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct AuditQuery {
    /// How many at most; 50 where it is not said
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
    /// Only calls before this moment, milliseconds since 1970
    #[schemars(with = "Option<Count>")]
    before: Option<u64>,
    /// Only calls of this principal, or of `operator`
    who: Option<String>,
}

/// `GET /v1/audit`
pub async fn list(
    State(api): State<Api>,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    let limit = read_limit(query.limit, PAGE, PAGE_MOST)?;
    let wanted = AuditSelection { limit, before: query.before, who: query.who };
    Ok(Json(api.audit.list(&wanted).await?))
}
