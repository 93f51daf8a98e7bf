//! Going back: the policies as they were after an earlier revision, as a new changeset.

use axum::extract::State;
use weft_api::rest::{RollbackRequest, Violation};

use super::apply::{
    self, ApplyMode, ChangeAnswer, changed_by, check_revision, read_wait, refused, until_acknowledged,
};
use super::author::{Author, read_message};
use super::error::Refuses;
use super::extract::JsonBody;
use super::history::not_kept;
use super::state::Api;
use crate::policy::log::LogError;
use crate::policy::repository::{EarlierPolicies, Head};

/// `POST /v1/rollback`
///
/// The checks are those of today, as for any apply: what an earlier version let pass may be refused.
pub async fn rollback(
    State(api): State<Api>,
    author: Author,
    JsonBody(request): JsonBody<RollbackRequest>,
) -> Result<ChangeAnswer, Refuses<404, 410, 412>> {
    let to = request.to;
    let wait = request.wait.as_deref().map(read_wait).transpose()?;
    let by = author.saying(reason(to, &read_message(request.message)?));
    if to == 0 {
        return Err(not_kept(&api, to, LogError::Unknown(to)).await.into());
    }
    let earlier = match api.policies.at(to).await {
        Ok(earlier) => earlier,
        Err(error) => return Err(not_kept(&api, to, error).await.into()),
    };
    let unreadable = unreadable(&earlier, to);
    if !unreadable.is_empty() {
        return Err(refused(&api, unreadable).into());
    }
    let mode = if request.dry_run { ApplyMode::DryRun } else { ApplyMode::Commit };
    let change = |head: &Head| {
        check_revision(request.if_revision, head.revision())?;
        head.set.restore(&earlier.set).map_err(|found| refused(&api, found))
    };
    let mut result = apply::write(&api, mode, &by, change).await?;
    if let Some(limit) = wait.filter(|_| !request.dry_run) {
        let changed = changed_by(&api, result.revision).await?;
        result.wait = Some(until_acknowledged(&api, result.revision, &changed, limit).await);
    }
    Ok(ChangeAnswer::of(result))
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
