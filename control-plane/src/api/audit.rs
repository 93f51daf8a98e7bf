//! Who did what.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use weft_api::rest::AuditList;

use super::error::ApiError;
use super::extract::Parameters;
use super::state::Api;
use crate::identity::audit::AuditSelection;

/// Records of a page, where it is not said, and at most.
const PAGE: usize = 50;
const PAGE_MOST: usize = 1000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    limit: Option<usize>,
    before: Option<u64>,
    who: Option<String>,
}

/// `GET /v1/audit`
pub async fn list(
    State(api): State<Api>,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MOST).contains(&limit) {
        return Err(ApiError::bad_request(format!("limit: {limit} is not between 1 and {PAGE_MOST}")));
    }
    let wanted = AuditSelection { limit, before: query.before, who: query.who };
    Ok(Json(api.audit.list(&wanted).await?))
}
