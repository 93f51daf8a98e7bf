//! Join tokens.

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::ServiceId;
use weft_api::rest::{NewToken, Outcome, RevokedToken, TokenInfo, TokenList, TokenRequest};
use weft_policies::kinds::Kind;
use weft_policies::kinds::role::{ApiKind, RoleVerb};
use weft_policies::value::Cidr;

use super::answer::NoStore;
use super::error::{ApiError, Refuses};
use super::extract::{InPath, JsonBody};
use super::rights::CallerRights;
use super::state::Api;
use crate::identity::tokens::{DEFAULT_TTL, LabelPattern, TokenError, TokenGrant, TokenRecord};

/// `POST /v1/tokens`
pub async fn create(
    State(api): State<Api>,
    rights: CallerRights,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<NoStore<NewToken>, Refuses<404>> {
    let grant = read(&request).map_err(ApiError::bad_request)?;
    rights.demand(RoleVerb::Write, ApiKind::JoinToken, Some(&grant.service.namespace))?;
    if !request.ahead {
        ensure_service(&api, &rights, &grant.service).await?;
    }
    let created = api.tokens.create(grant, &api.public, api.authority.root_spki_sha256()).await;
    let (token, record) = created.map_err(|error| match error {
        TokenError::Store(error) => ApiError::from(error),
        other => ApiError::bad_request(other.to_string()),
    })?;
    let document = NewToken { info: info(&record), token: token.to_string() };
    Ok(NoStore::new(document).about(format!("{} for {}", record.id, record.service)))
}

/// Whoever joins a service that is not there waits for it, and is called by nobody: a slip of the hand is told here, where
/// it was made.
async fn ensure_service(api: &Api, rights: &CallerRights, wanted: &ServiceId) -> Result<(), ApiError> {
    let (_, set) = api.newest().await?;
    if set.service(wanted).is_some() {
        return Ok(());
    }
    let is_seen = |id: &ServiceId| rights.may_read(ApiKind::Document(Kind::Service), id.namespace.as_str());
    let known = set.services().map(|service| service.id()).filter(is_seen);
    let refused = ApiError::no_service(wanted, known.map(|id| id.to_string()));
    Err(refused.with_remedy(
        "apply the Service first, or make the token ahead of it (weft token create --ahead; in the API ahead: true)",
    ))
}

fn read(request: &TokenRequest) -> Result<TokenGrant, String> {
    let service: ServiceId = request.service.parse().map_err(|error| format!("service: {error}"))?;
    let ttl = match &request.ttl {
        Some(text) => {
            let ttl = humantime::parse_duration(text).map_err(|error| format!("ttl {text:?}: {error}"))?;
            time::Duration::try_from(ttl).map_err(|error| format!("ttl {text:?}: {error}"))?
        }
        None => DEFAULT_TTL,
    };
    let label = |text: &String| text.parse::<LabelPattern>().map_err(|error| format!("allowLabels: {error}"));
    let allow_labels = request.allow_labels.iter().map(label).collect::<Result<_, _>>()?;
    let address =
        |text: &String| text.parse::<Cidr>().map_err(|error| format!("allowAddresses: {text:?}: {error}"));
    let allow_addresses = request.allow_addresses.iter().map(address).collect::<Result<_, _>>()?;
    let (uses, allow_no_proxy) = (request.uses.unwrap_or(1), request.allow_no_proxy);
    Ok(TokenGrant { service, ttl, uses, allow_labels, allow_addresses, allow_no_proxy })
}

fn info(record: &TokenRecord) -> TokenInfo {
    TokenInfo {
        id: record.id.clone(),
        service: record.service.to_string(),
        expires_at: record.expires_at,
        uses_left: record.uses_left,
        allow_labels: record.allow_labels.iter().map(ToString::to_string).collect(),
        allow_addresses: record.allow_addresses.iter().map(ToString::to_string).collect(),
        allow_no_proxy: record.allow_no_proxy,
    }
}

/// `GET /v1/tokens`
pub async fn list(State(api): State<Api>, rights: CallerRights) -> Result<Json<TokenList>, ApiError> {
    let tokens = api.tokens.list().await?;
    let seen = |record: &&TokenRecord| rights.may_read(ApiKind::JoinToken, record.service.namespace.as_str());
    Ok(Json(TokenList { items: tokens.iter().filter(seen).map(info).collect() }))
}

/// The join token that a path names.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct TokenPath {
    id: String,
}

/// `DELETE /v1/tokens/{id}`
pub async fn revoke(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(TokenPath { id }): InPath<TokenPath>,
) -> Result<Json<RevokedToken>, ApiError> {
    let known = api.tokens.list().await?.into_iter().find(|record| record.id == id);
    // Whether there is one of that id, only those learn who may revoke it.
    let namespace = known.as_ref().map(|record| &record.service.namespace);
    rights.demand(RoleVerb::Delete, ApiKind::JoinToken, namespace)?;
    if api.tokens.revoke(&id).await? {
        Ok(Json(RevokedToken { id, outcome: Outcome::Deleted }))
    } else {
        Err(ApiError::missing(format!("there is no token {id}")))
    }
}
