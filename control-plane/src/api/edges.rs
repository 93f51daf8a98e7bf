//! What flows between services.

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use weft_api::rest::EdgeList;

use super::state::Api;

/// `GET /v1/edges`
pub async fn list(State(api): State<Api>) -> Json<EdgeList> {
    Json(api.edges.list(Instant::now()))
}
