//! The state of the certificate authority.

use axum::Json;
use axum::extract::State;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::error::ApiError;
use super::state::Api;

/// `GET /v1/ca`
pub async fn status(State(api): State<Api>) -> Result<Json<Value>, ApiError> {
    let leaves = api.ledger.list().await?;
    let chain = api.authority.chain();
    let now = api.clock.unix_seconds();
    Ok(Json(json!({
        "trustDomain": api.authority.trust_domain(),
        "root": {
            "spkiSha256": HEXLOWER.encode(&api.authority.root_spki_sha256()),
            "expiresAt": chain.root.not_after.unix_timestamp(),
        },
        "issuer": {"expiresAt": chain.issuer.not_after.unix_timestamp()},
        "leaves": leaves.iter().filter(|leaf| leaf.expires_at > now).count(),
    })))
}
