//! Going back: the policies as they were after an earlier revision, as a new changeset.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::rest::{RollbackRequest, Violation};

use super::apply::{
    self, ApplyMode, ChangeAnswer, changed_by, check_revision, read_wait, refused, until_acknowledged,
};
use super::author::{Author, read_message};
use super::error::{ApiError, Refuses};
use super::extract::{JsonBody, Parameters};
use super::history::not_kept;
use super::parameter::{Count, Message, Wait};
use super::state::Api;
use crate::policy::log::LogError;
use crate::policy::repository::{EarlierPolicies, Head};

/// What is asked beside going back, as an apply is asked it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct RollbackQuery {
    /// Say what would happen, and write nothing
    #[serde(default)]
    dry_run: bool,
    /// Answer when the proxies concerned have the change, or after so long, such as 30s
    #[schemars(with = "Option<Wait>")]
    wait: Option<String>,
    /// Why, in one line; the history tells it
    #[schemars(with = "Option<Message>")]
    message: Option<String>,
    /// Refuse with 412 when this is not the newest revision
    #[schemars(with = "Option<Count>")]
    if_revision: Option<u64>,
}

/// `POST /v1/rollback`
///
/// The checks are those of today, as for any apply: what an earlier version let pass may be refused.
pub async fn rollback(
    State(api): State<Api>,
    author: Author,
    Parameters(query): Parameters<RollbackQuery>,
    JsonBody(RollbackRequest { to }): JsonBody<RollbackRequest>,
) -> Result<ChangeAnswer, Refuses<404, 410, 412>> {
    let wait = query.wait.as_deref().map(read_wait).transpose()?;
    let by = author.saying(reason(to, &read_message(query.message)?));
    let earlier = earlier(&api, to).await?;
    let mode = if query.dry_run { ApplyMode::DryRun } else { ApplyMode::Commit };
    let change = |head: &Head| {
        check_revision(query.if_revision, head.revision())?;
        head.set.restore(&earlier.set).map_err(|found| refused(&api, found))
    };
    let mut result = apply::write(&api, mode, &by, change).await?;
    if let Some(limit) = wait.filter(|_| !query.dry_run) {
        let changed = changed_by(&api, result.revision).await?;
        result.wait = Some(until_acknowledged(&api, result.revision, &changed, limit).await);
    }
    Ok(ChangeAnswer::of(result))
}

/// The policies as they were after a revision, all of them.
pub async fn earlier(api: &Api, to: u64) -> Result<EarlierPolicies, ApiError> {
    if to == 0 {
        return Err(not_kept(api, to, LogError::Unknown(to)).await);
    }
    let earlier = match api.policies.at(to).await {
        Ok(earlier) => earlier,
        Err(error) => return Err(not_kept(api, to, error).await),
    };
    let unreadable = unreadable(&earlier, to);
    if unreadable.is_empty() { Ok(earlier) } else { Err(refused(api, unreadable)) }
}

fn reason(to: u64, message: &str) -> String {
    if message.is_empty() { format!("rollback to {to}") } else { format!("rollback to {to}: {message}") }
}

/// What this version cannot read it would leave out without a word.
fn unreadable(earlier: &EarlierPolicies, to: u64) -> Vec<Violation> {
    let violation = |(key, reason): &(String, String)| Violation {
        code: "invalid_value".to_owned(),
        message: format!("as it was at revision {to}, this version does not take it: {reason}"),
        hint: Some("apply what is wanted of that revision as documents (weft history --revision)".to_owned()),
        object: key.replacen('/', " ", 1),
        ..Violation::default()
    };
    earlier.unreadable.iter().map(violation).collect()
}
