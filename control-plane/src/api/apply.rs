//! Applying a set of documents: parse, validate, commit, and on request wait until the proxies have it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use weft_api::WorkloadId;
use weft_api::rest::{AppliedDocument, ApplyResult, Outcome, Violation};
use weft_policies::kinds::Kind;
use weft_policies::label_query::InvalidLabelQuery;
use weft_policies::set::{Applied, ApplyAction, PolicyKey};
use weft_policies::{DocumentsRead, LabelQuery, Policy};

use super::author::{Author, ChangeAuthor};
use super::change::{ApplyMode, ChangeWishes, change_query};
use super::delivery::AwaitedChange;
use super::error::{ApiError, Refuses, VIOLATIONS};
use super::extract::{DocumentText, Parameters};
use super::parameter::{Count, Selector};
use super::problem_code::ProblemCode;
use super::replica::until_taken;
use super::rights::AuditDetail;
use super::state::Api;
use crate::metrics::ApplyOutcome;
use crate::policy::log::LogError;
use crate::policy::repository::{Head, policy_key};

/// Another apply may move the head in between; more often than this is no accident.
const ATTEMPTS: usize = 16;

change_query! {
    /// What an apply is asked beside its documents.
    ApplyQuery {
        /// Where the documents come from, for messages
        source: Option<String>,
        /// Refuse with 412 when this is not the newest revision; 0 is a mesh that never held a policy
        #[schemars(with = "Option<Count>")]
        if_revision: Option<u64>,
        /// Delete all objects with these labels that are not in the request, as labelSelector
        #[schemars(with = "Option<Selector>")]
        prune: Option<String>,
    }
}

/// `POST /v1/apply`
pub async fn apply(
    State(api): State<Api>,
    author: Author,
    Parameters(mut query): Parameters<ApplyQuery>,
    DocumentText(body): DocumentText,
) -> Result<ChangeAnswer, Refuses<412>> {
    let ChangeWishes { mode, wait, message } = query.wishes()?;
    let by = author.saying(message);
    let prune = query.prune.as_deref().map(|text| read_selector("prune", text)).transpose()?;
    let source = query.source.as_deref().unwrap_or("request");
    let read = weft_policies::parse_among_others(source, &body);
    let DocumentsRead { documents, left_out } = read.map_err(|violations| refused(&api, violations))?;
    drop(body);
    if documents.is_empty() {
        return Err(no_document(&left_out).into());
    }
    let change = |head: &Head| {
        check_revision(query.if_revision, head.revision())?;
        let is_pruned =
            |policy: &Policy| prune.as_ref().is_some_and(|wanted| wanted.matches(&policy.metadata().labels));
        let mut applied =
            head.set.apply_and_prune(&documents, is_pruned).map_err(|found| refused(&api, found))?;
        applied.warnings.splice(0..0, left_out.iter().cloned());
        Ok(applied)
    };
    let mut result = write(&api, mode, &by, change).await?;
    if mode == ApplyMode::Commit {
        take_out_workloads(&api, &result).await?;
    }
    if let Some(limit) = wait {
        let mut applied: Vec<PolicyKey> = documents.iter().map(|document| document.policy.key()).collect();
        if prune.is_some() {
            applied = changed_by(&api, result.revision).await?;
        }
        let awaited = AwaitedChange::of_revision(result.revision, &applied);
        result.wait = Some(until_taken(&api, awaited, limit).await);
    }
    Ok(ChangeAnswer::of(result))
}

/// The refusal of a text in which there is nothing to take.
pub fn no_document(left_out: &[Violation]) -> ApiError {
    match left_out {
        [] => ApiError::bad_request("there is no document in the request"),
        [first, ..] => {
            let count = left_out.len();
            ApiError::bad_request(format!(
                "none of the {count} documents is for Weft: the first is {}",
                first.object
            ))
        }
    }
}

/// The answer to a change, with what is recorded of it.
#[derive(Debug)]
pub struct ChangeAnswer {
    result: ApplyResult,
    detail: Option<AuditDetail>,
}

impl ChangeAnswer {
    /// Of an apply, a rollback or a deletion. A trial, and what changed nothing, is not recorded.
    pub fn of(result: ApplyResult) -> Self {
        let is_change = result.documents.iter().any(|document| document.outcome != Outcome::Unchanged);
        let detail = (is_change && !result.dry_run)
            .then(|| AuditDetail { revision: Some(result.revision), ..AuditDetail::default() });
        Self { result, detail }
    }

    /// Of what changed something that is no document.
    pub fn about(result: ApplyResult, about: &str) -> Self {
        Self { result, detail: Some(AuditDetail { about: about.to_owned(), revision: None }) }
    }
}

impl IntoResponse for ChangeAnswer {
    fn into_response(self) -> Response {
        let mut response = Json(self.result).into_response();
        if let Some(detail) = self.detail {
            response.extensions_mut().insert(detail);
        }
        response
    }
}

/// Reads a label selector; `parameter` is what it was given as.
pub fn read_selector(parameter: &str, text: &str) -> Result<LabelQuery, ApiError> {
    text.parse().map_err(|error: InvalidLabelQuery| ApiError::bad_request(format!("{parameter}: {error}")))
}

/// Revokes the workloads whose documents were deleted. A change that says it was written, and ends before this, is made
/// whole by deleting the workload again.
async fn take_out_workloads(api: &Api, result: &ApplyResult) -> Result<(), ApiError> {
    let gone = result
        .documents
        .iter()
        .filter(|one| one.outcome == Outcome::Deleted && one.kind == Kind::Workload.name());
    for document in gone {
        if let Ok(id) = format!("{}/{}", document.namespace, document.name).parse::<WorkloadId>() {
            api.revocations.revoke(&id).await?;
        }
    }
    Ok(())
}

/// The policies that a revision changed.
pub async fn changed_by(api: &Api, revision: u64) -> Result<Vec<PolicyKey>, ApiError> {
    let changeset = api.policies.log().changeset(revision).await?;
    Ok(changeset.changes.iter().filter_map(|change| policy_key(&change.key)).collect())
}

/// Refuses when the caller saw another revision than the newest.
pub fn check_revision(wanted: Option<u64>, now: u64) -> Result<(), ApiError> {
    match wanted {
        Some(wanted) if wanted != now => {
            let detail = format!("nothing was applied: the policies are at revision {now}, not {wanted}");
            Err(ApiError::new(ProblemCode::ChangedMeanwhile, detail))
        }
        Some(_) | None => Ok(()),
    }
}

pub fn refused(api: &Api, violations: Vec<Violation>) -> ApiError {
    api.metrics.applied(ApplyOutcome::refused);
    ApiError::violations(violations)
}

/// Changes the set of policies in one transaction. When another change came in between, the change is made anew on what
/// is there then: nothing is ever committed on a validation, or a condition, that no longer holds.
#[tracing::instrument(skip_all, name = "apply", fields(revision))]
pub async fn write(
    api: &Api,
    mode: ApplyMode,
    by: &ChangeAuthor,
    change: impl Fn(&Head) -> Result<Applied, ApiError>,
) -> Result<ApplyResult, ApiError> {
    let _turn = match mode {
        ApplyMode::DryRun => None,
        ApplyMode::Commit => Some(api.writing.lock().await),
    };
    for _ in 0..ATTEMPTS {
        let head: Head = api.policies.head().await?;
        let applied = change(&head)?;
        // Whatever led to it, an apply, a rollback or a deletion: each document is looked at, in a trial too.
        by.rights.0.check_change(&head.set, &applied)?;
        let unchanged = applied.outcomes.iter().all(|outcome| outcome.action == ApplyAction::Unchanged);
        if mode == ApplyMode::DryRun {
            return Ok(describe(applied, 0, mode));
        }
        if unchanged {
            api.metrics.applied(ApplyOutcome::unchanged);
            return Ok(describe(applied, head.revision(), mode));
        }
        match api.policies.commit(&head, &applied.set, &by.by).await {
            Ok(committed) => {
                api.metrics.applied(ApplyOutcome::committed);
                tracing::Span::current().record("revision", committed.revision());
                return Ok(describe(applied, committed.revision(), mode));
            }
            Err(LogError::Moved { .. }) => {}
            Err(error) => {
                api.metrics.applied(ApplyOutcome::failed);
                return Err(error.into());
            }
        }
    }
    api.metrics.applied(ApplyOutcome::failed);
    Err(ApiError::contended())
}

fn describe(applied: Applied, revision: u64, mode: ApplyMode) -> ApplyResult {
    let document = |outcome: &weft_policies::set::AppliedObject| AppliedDocument {
        kind: outcome.key.kind.to_string(),
        namespace: outcome.key.namespace.to_string(),
        name: outcome.key.name.to_string(),
        outcome: self::outcome(outcome.action),
        generation: outcome.generation,
    };
    let count = applied.warnings.len();
    let mut warnings = applied.warnings;
    warnings.truncate(VIOLATIONS);
    ApplyResult {
        revision,
        dry_run: mode == ApplyMode::DryRun,
        documents: applied.outcomes.iter().map(document).collect(),
        warnings,
        warning_count: (count > VIOLATIONS).then_some(count),
        wait: None,
    }
}

/// As answers tell it.
pub fn outcome(action: ApplyAction) -> Outcome {
    match action {
        ApplyAction::Created => Outcome::Created,
        ApplyAction::Updated => Outcome::Updated,
        ApplyAction::Unchanged => Outcome::Unchanged,
        ApplyAction::Deleted => Outcome::Deleted,
    }
}
