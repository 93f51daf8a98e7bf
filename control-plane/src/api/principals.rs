//! Principals: who has a token beside the operators, and what they may do.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use weft_api::Name;
use weft_api::rest::{AccessInfo, NewPrincipal, PrincipalInfo, PrincipalList, PrincipalRequest};
use weft_policies::PolicySet;
use weft_policies::kinds::RoleBinding;
use weft_policies::kinds::role::effect::Rights;

use super::access::ApiCaller;
use super::error::ApiError;
use super::extract::JsonText;
use super::rights::{AuditDetail, CallerRights};
use super::state::Api;
use crate::identity::holders::TokenHolder;
use crate::identity::principals::{PrincipalError, PrincipalRecord};

/// Words that stand for others where a principal is named.
const TAKEN: [&str; 2] = ["operator", "page"];

/// `GET /v1/principals`
pub async fn list(State(api): State<Api>) -> Result<Json<PrincipalList>, ApiError> {
    let (_, set) = api.newest().await?;
    let items = api.holders.principals.list().await?.iter().map(|record| info(record, &set)).collect();
    Ok(Json(PrincipalList { items }))
}

fn info(record: &PrincipalRecord, set: &PolicySet) -> PrincipalInfo {
    let bindings = set.objects_of::<RoleBinding>().filter(|object| object.spec.binds(&record.name));
    let mut roles: Vec<String> = bindings.map(|object| object.spec.role.to_string()).collect();
    roles.sort();
    roles.dedup();
    PrincipalInfo {
        name: record.name.to_string(),
        created_at: record.created_at,
        token_at: record.token_at,
        roles,
    }
}

/// `POST /v1/principals`
pub async fn create(State(api): State<Api>, JsonText(body): JsonText) -> Result<Response, ApiError> {
    let request: PrincipalRequest = serde_json::from_str(&body)
        .map_err(|error| ApiError::bad_request(format!("the request: {error}")))?;
    let name = read_name(&request.name)?;
    if TAKEN.contains(&name.as_str()) {
        return Err(ApiError::bad_request(format!("{name} stands for somebody else; choose another name")));
    }
    let token = api.holders.principals.create(&name).await.map_err(|error| match error {
        PrincipalError::Store(error) => ApiError::from(error),
        PrincipalError::Exists(_) => ApiError::new(StatusCode::CONFLICT, "exists", error.to_string()),
        PrincipalError::TooMany => ApiError::new(StatusCode::CONFLICT, "too_many", error.to_string()),
    })?;
    Ok(with_token(&name, &token))
}

/// `POST /v1/principals/{name}/token`: another token, in place of the one before.
pub async fn rotate(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, ApiError> {
    let name = read_name(&name)?;
    let token = api.holders.principals.rotate(&name).await?.ok_or_else(|| missing(&name))?;
    Ok(with_token(&name, &token))
}

/// `DELETE /v1/principals/{name}`
pub async fn revoke(State(api): State<Api>, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    let name = read_name(&name)?;
    if api.holders.principals.revoke(&name).await? {
        Ok(Json(json!({"name": name, "outcome": "Deleted"})))
    } else {
        Err(missing(&name))
    }
}

/// `GET /v1/access`: what the caller may do.
pub async fn of_caller(
    Extension(caller): Extension<ApiCaller>,
    CallerRights(rights): CallerRights,
) -> Json<AccessInfo> {
    let rules = match rights.as_ref() {
        Rights::All => Vec::new(),
        Rights::Rules(rules) => rules.iter().map(|rule| json!(rule)).collect(),
    };
    let is_operator = matches!(caller.holder(), TokenHolder::Operator(_));
    Json(AccessInfo { name: caller.holder().to_string(), is_operator, rules })
}

fn read_name(text: &str) -> Result<Name, ApiError> {
    Name::try_new(text).map_err(|error| ApiError::bad_request(format!("name: {error}")))
}

fn missing(name: &Name) -> ApiError {
    ApiError::missing(format!("there is no principal {name}; `weft operator list` shows them"))
}

fn with_token(name: &Name, token: &str) -> Response {
    let document = NewPrincipal { name: name.to_string(), token: token.to_owned() };
    let mut response = ([(header::CACHE_CONTROL, "no-store")], Json(document)).into_response();
    response.extensions_mut().insert(AuditDetail { about: name.to_string(), revision: None });
    response
}
