//! Principals: who has a token beside the operators, and what they may do.

use axum::extract::State;
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use weft_api::Name;
use weft_api::rest::{
    AccessInfo, NewPrincipal, Outcome, PrincipalInfo, PrincipalList, PrincipalRequest, RevokedPrincipal,
};
use weft_policies::PolicySet;
use weft_policies::kinds::RoleBinding;
use weft_policies::kinds::role::effect::Rights;

use super::access::ApiCaller;
use super::answer::NoStore;
use super::error::{ApiError, Refuses};
use super::extract::{InPath, JsonBody};
use super::parameter::read_name;
use super::problem_code::ProblemCode;
use super::rights::CallerRights;
use super::state::Api;
use crate::identity::holders::{OPERATOR, TokenHolder};
use crate::identity::principals::{PrincipalError, PrincipalRecord};

/// Words that stand for others where a principal is named.
const TAKEN: [&str; 2] = [OPERATOR, "page"];

/// The principal that a path names.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct PrincipalPath {
    #[schemars(with = "Name")]
    name: String,
}

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
pub async fn create(
    State(api): State<Api>,
    JsonBody(request): JsonBody<PrincipalRequest>,
) -> Result<NoStore<NewPrincipal>, Refuses<409>> {
    let name = read_name("name", &request.name)?;
    if TAKEN.contains(&name.as_str()) {
        let detail = format!("{name} stands for somebody else; choose another name");
        return Err(ApiError::bad_request(detail).into());
    }
    let token = api.holders.principals.create(&name).await.map_err(|error| match error {
        PrincipalError::Store(error) => ApiError::from(error),
        PrincipalError::Exists(_) => ApiError::new(ProblemCode::Exists, error.to_string()),
        PrincipalError::TooMany => ApiError::new(ProblemCode::EnoughPrincipals, error.to_string()),
    })?;
    Ok(with_token(&name, &token))
}

/// `POST /v1/principals/{name}/token`: another token, in place of the one before. `operator` stands for the operators of the
/// replica that answers.
pub async fn rotate(
    State(api): State<Api>,
    InPath(path): InPath<PrincipalPath>,
) -> Result<NoStore<NewPrincipal>, ApiError> {
    let name = read_name("name", &path.name)?;
    if name.as_str() == OPERATOR {
        let token = api.holders.rotate_operator().await.map_err(|error| {
            tracing::error!(event = "operator_token_not_replaced", %error, "the operator token stays as it is");
            ApiError::unavailable(format!("{error}; the operator token stays as it is"))
        })?;
        return Ok(with_token(&name, &token));
    }
    let token = api.holders.principals.rotate(&name).await?.ok_or_else(|| missing(&name))?;
    Ok(with_token(&name, &token))
}

/// `DELETE /v1/principals/{name}`
pub async fn revoke(
    State(api): State<Api>,
    InPath(path): InPath<PrincipalPath>,
) -> Result<Json<RevokedPrincipal>, ApiError> {
    let name = read_name("name", &path.name)?;
    if api.holders.principals.revoke(&name).await? {
        Ok(Json(RevokedPrincipal { name: name.to_string(), outcome: Outcome::Deleted }))
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

fn missing(name: &Name) -> ApiError {
    ApiError::missing(format!("there is no principal {name}; `weft operator list` shows them"))
}

fn with_token(name: &Name, token: &str) -> NoStore<NewPrincipal> {
    NoStore::new(NewPrincipal { name: name.to_string(), token: token.to_owned() }).about(name.to_string())
}
