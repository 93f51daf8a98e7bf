//! The state of the certificate authority.

use axum::Json;
use axum::extract::State;
use data_encoding::HEXLOWER;
use weft_api::rest::{AuthorityStatus, IssuerStatus, RootStatus};

use super::error::ApiError;
use super::state::Api;

/// `GET /v1/ca`
pub async fn status(State(api): State<Api>) -> Result<Json<AuthorityStatus>, ApiError> {
    let leaves = api.ledger.list().await?;
    let chain = api.authority.chain();
    let now = api.clock.unix_seconds();
    Ok(Json(AuthorityStatus {
        trust_domain: api.authority.trust_domain().to_string(),
        root: RootStatus {
            spki_sha256: HEXLOWER.encode(&api.authority.root_spki_sha256()),
            expires_at: chain.root.not_after.unix_timestamp(),
        },
        issuer: IssuerStatus { expires_at: chain.issuer.not_after.unix_timestamp() },
        leaves: leaves.iter().filter(|leaf| leaf.expires_at > now).count(),
    }))
}
