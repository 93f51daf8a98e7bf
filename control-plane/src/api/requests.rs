//! Requests that failed or were refused, and why.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::ServiceId;
use weft_api::rest::RequestList;
use weft_policies::kinds::role::ApiKind;

use super::error::ApiError;
use super::extract::{InPath, Parameters};
use super::parameter::{read_limit, read_service};
use super::rights::CallerRights;
use super::state::Api;
use crate::requests::{LONGEST_ANSWER, USUAL_ANSWER, Wanted};

/// What may stand in the query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Query {
    /// Only calls from this service, NAMESPACE/SERVICE
    #[schemars(with = "Option<ServiceId>")]
    source: Option<String>,
    /// Only calls to this service, NAMESPACE/SERVICE
    #[schemars(with = "Option<ServiceId>")]
    destination: Option<String>,
    /// How many at most; 100 where it is not said
    #[schemars(range(min = 1, max = 1000))]
    limit: Option<usize>,
}

/// The request that a path names.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct RequestPath {
    /// The x-request-id that its answer carried
    id: String,
}

/// `GET /v1/requests`
pub async fn list(
    State(api): State<Api>,
    rights: CallerRights,
    Parameters(query): Parameters<Query>,
) -> Result<Json<RequestList>, ApiError> {
    for (parameter, service) in [("source", &query.source), ("destination", &query.destination)] {
        service.as_deref().map(|service| read_service(parameter, service)).transpose()?;
    }
    let limit = read_limit(query.limit, USUAL_ANSWER, LONGEST_ANSWER)?;
    let wanted = Wanted { source: query.source, destination: query.destination, limit };
    Ok(Json(seen(api.traffic.failures(&wanted).await, &rights)))
}

/// `GET /v1/requests/{id}`. An id that nobody knows has no hops: nothing failed that a replica was told of.
pub async fn one(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(RequestPath { id }): InPath<RequestPath>,
) -> Json<RequestList> {
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
