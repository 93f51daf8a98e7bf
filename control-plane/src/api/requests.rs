//! Requests that failed or were refused, and why.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use weft_api::ServiceId;
use weft_api::rest::RequestList;
use weft_policies::kinds::role::ApiKind;

use super::error::ApiError;
use super::extract::Parameters;
use super::rights::CallerRights;
use super::state::Api;
use crate::requests::{LONGEST_ANSWER, USUAL_ANSWER, Wanted};

/// What may stand in the query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    source: Option<String>,
    destination: Option<String>,
    limit: Option<usize>,
}

/// `GET /v1/requests`
pub async fn list(
    State(api): State<Api>,
    rights: CallerRights,
    Parameters(query): Parameters<Query>,
) -> Result<Json<RequestList>, ApiError> {
    for service in [&query.source, &query.destination].into_iter().flatten() {
        service
            .parse::<ServiceId>()
            .map_err(|error| ApiError::bad_request(format!("{error}; write it as NAMESPACE/SERVICE")))?;
    }
    let limit = query.limit.unwrap_or(USUAL_ANSWER).min(LONGEST_ANSWER);
    let wanted = Wanted { source: query.source, destination: query.destination, limit };
    Ok(Json(seen(api.traffic.failures(&wanted).await, &rights)))
}

/// `GET /v1/requests/{id}`. An id that nobody knows has no hops: nothing failed that a replica was told of.
pub async fn one(State(api): State<Api>, rights: CallerRights, Path(id): Path<String>) -> Json<RequestList> {
    Json(seen(api.traffic.request(&id).await, &rights))
}

/// A request is seen from both of its ends, and from where it was told.
fn seen(mut list: RequestList, rights: &CallerRights) -> RequestList {
    list.items.retain(|record| {
        let ends = [Some(&record.service), record.source.as_ref(), record.destination.as_ref()];
        ends.into_iter().flatten().any(|service| rights.may_read_of(ApiKind::Traffic, service))
    });
    list
}
