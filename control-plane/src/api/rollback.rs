//! Going back: the policies as they were after an earlier revision, as a new changeset.

use axum::extract::State;
use weft_api::rest::{RollbackRequest, Violation};

use super::apply::{self, ChangeAnswer, changed_by, check_revision, refused};
use super::author::Author;
use super::change::{ChangeWishes, change_query};
use super::delivery::AwaitedChange;
use super::error::{ApiError, Refuses};
use super::extract::{JsonBody, Parameters};
use super::history::not_kept;
use super::parameter::Count;
use super::replica::until_taken;
use super::state::Api;
use crate::policy::log::LogError;
use crate::policy::repository::{EarlierPolicies, Head};

change_query! {
    /// What is asked beside going back, as an apply is asked it.
    RollbackQuery {
        /// Refuse with 412 when this is not the newest revision
        #[schemars(with = "Option<Count>")]
        if_revision: Option<u64>,
    }
}

/// `POST /v1/rollback`
///
/// The checks are those of today, as for any apply: what an earlier version let pass may be refused.
pub async fn rollback(
    State(api): State<Api>,
    author: Author,
    Parameters(mut query): Parameters<RollbackQuery>,
    JsonBody(RollbackRequest { to }): JsonBody<RollbackRequest>,
) -> Result<ChangeAnswer, Refuses<404, 410, 412>> {
    let ChangeWishes { mode, wait, message } = query.wishes()?;
    let by = author.saying(reason(to, &message));
    let earlier = earlier(&api, to).await?;
    let change = |head: &Head| {
        check_revision(query.if_revision, head.revision())?;
        head.set.restore(&earlier.set).map_err(|found| refused(&api, found))
    };
    let mut result = apply::write(&api, mode, &by, change).await?;
    if let Some(limit) = wait {
        let changed = changed_by(&api, result.revision).await?;
        let awaited = AwaitedChange::of_revision(result.revision, &changed);
        result.wait = Some(until_taken(&api, awaited, limit).await);
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
