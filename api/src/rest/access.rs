//! Who may use the API, and who did.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::problem::Outcome;
use crate::Name;

/// A principal that shall be made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PrincipalRequest {
    /// Its name, as RoleBindings name it; `operator` and `page` are taken.
    #[schemars(with = "Name")]
    pub name: String,
}

/// A principal with its token, which is shown once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewPrincipal {
    /// Name of the principal, as RoleBindings have it.
    pub name: String,
    /// Whoever has it may do what the principal's roles say.
    pub token: String,
}

/// A principal, without its token.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalInfo {
    /// Name of the principal, as RoleBindings have it.
    pub name: String,
    /// Seconds since 1970.
    pub created_at: i64,
    /// Since when its token counts; the same, or when it was replaced last.
    pub token_at: i64,
    /// The Roles that RoleBindings give it.
    pub roles: Vec<String>,
}

/// The answer of `GET /v1/principals`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalList {
    /// All principals, ordered by name.
    pub items: Vec<PrincipalInfo>,
}

/// The answer to a principal's removal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevokedPrincipal {
    /// The name that it had.
    pub name: String,
    /// `Deleted`.
    pub outcome: Outcome,
}

/// What the caller may do.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessInfo {
    /// The principal, or `operator`.
    pub name: String,
    /// Whether everything is allowed.
    pub is_operator: bool,
    /// What its roles allow, as they write it; empty for an operator.
    pub rules: Vec<serde_json::Value>,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum AuditOutcome {
    /// It was carried out.
    #[default]
    Done,
    /// A right was missing.
    Refused,
}

/// One call that changed something, took out what is secret, or was refused for want of a right.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Milliseconds since 1970.
    pub at: u64,
    /// The principal, or `operator`.
    pub who: String,
    /// The program, in its own words; `page` for a browser that was signed in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// Address that the call came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Method and path of the call, `POST /v1/apply`.
    pub call: String,
    /// What it was about, where the path does not say: a token's service, a missing right.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The revision that it made; `weft history --revision` shows each document before and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Whether the call was carried out, and if not, why.
    #[serde(default)]
    pub outcome: AuditOutcome,
    /// How many calls the record stands for: refusals of one kind are written once a minute.
    pub count: u64,
}

/// Calls, the newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditList {
    /// At most as many as were asked for.
    pub items: Vec<AuditRecord>,
    /// Ask with `before` this for the next ones; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}
