//! What was changed: one entry for each changeset of the log.

use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use weft_api::Name;
use weft_api::rest::{
    AppliedDocument, DocumentDiff, HistoryEntry, HistoryList, Object, Outcome, RevisionChanges, RevisionInfo,
};
use weft_policies::kinds::Kind;
use weft_policies::kinds::role::ApiKind;
use weft_policies::kinds::role::effect::Rights;
use weft_policies::set::PolicyKey;

use super::change::read_wait;
use super::delivery::AwaitedChange;
use super::document_diff::fields;
use super::error::{ApiError, Refuses};
use super::extract::{InPath, Parameters};
use super::parameter::{Count, KindWord, Wait, read_kind, read_limit, read_name};
use super::problem_code::ProblemCode;
use super::replica::until_taken;
use super::rights::{CallerRights, forbidden};
use super::state::Api;
use crate::policy::log::{ChangesetInfo, DocumentChange, LogError};
use crate::policy::repository::{parts_of_key, policy_key};

/// Entries of a page, where it is not said, and at most.
const PAGE: usize = 20;
const PAGE_MOST: usize = 100;
/// Documents of an entry.
const DOCUMENTS: usize = 100;
/// Changesets that one question looks at: those that are not of what is asked for are read all the same.
const LOOKED_AT: usize = 500;

/// Which part of the history.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct HistoryQuery {
    /// How many at most; 20 where it is not said
    #[schemars(range(min = 1, max = 100))]
    limit: Option<usize>,
    /// Only changes before this revision
    #[schemars(with = "Option<Count>")]
    before: Option<u64>,
    /// Only changes of objects of this kind
    #[schemars(with = "Option<KindWord>")]
    kind: Option<String>,
    /// Only changes of objects in this namespace
    #[schemars(with = "Option<Name>")]
    namespace: Option<String>,
    /// Only changes of objects of this name
    #[schemars(with = "Option<Name>")]
    name: Option<String>,
}

/// Whose history is wanted.
struct HistoryFilter {
    kind: Option<Kind>,
    namespace: Option<Name>,
    name: Option<Name>,
}

impl HistoryFilter {
    fn includes(&self, (kind, namespace, name): (&str, &str, &str)) -> bool {
        self.kind.is_none_or(|wanted| wanted.name() == kind)
            && self.namespace.as_ref().is_none_or(|wanted| wanted.as_str() == namespace)
            && self.name.as_ref().is_none_or(|wanted| wanted.as_str() == name)
    }

    fn is_everything(&self) -> bool {
        self.kind.is_none() && self.namespace.is_none() && self.name.is_none()
    }
}

/// `GET /v1/history`
pub async fn list(
    State(api): State<Api>,
    rights: CallerRights,
    Parameters(query): Parameters<HistoryQuery>,
) -> Result<Json<HistoryList>, ApiError> {
    let name =
        |parameter: &str, text: Option<String>| text.map(|text| read_name(parameter, &text)).transpose();
    let wanted = HistoryFilter {
        kind: query.kind.as_deref().map(read_kind).transpose()?,
        namespace: name("namespace", query.namespace)?,
        name: name("name", query.name)?,
    };
    let limit = read_limit(query.limit, PAGE, PAGE_MOST)?;
    let log = api.policies.log();
    let (newest, oldest) = (log.newest().await?, log.oldest().await?);
    let mut list = HistoryList { newest, oldest, ..HistoryList::default() };
    let looked_at = if wanted.is_everything() && *rights.0 == Rights::All { limit } else { LOOKED_AT };
    let infos = log.history(query.before, looked_at).await?;
    let count = infos.len();
    for (index, info) in infos.into_iter().enumerate() {
        // One by one: a body may have megabytes.
        let changeset = match log.changeset(info.sequence).await {
            Ok(changeset) => changeset,
            // Pruned meanwhile, and all before it.
            Err(LogError::Unknown(_)) => {
                list.before = None;
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let is_last = index + 1 == count && count < looked_at;
        list.before = (info.sequence > 1 && !is_last).then_some(info.sequence);
        let parts = changeset.changes.iter().filter_map(|change| Some((parts_of_key(&change.key)?, change)));
        let documents: Vec<AppliedDocument> = parts
            .filter(|(parts, _)| wanted.includes(*parts) && may_read(&rights, *parts))
            .take(DOCUMENTS)
            .map(|(parts, change)| outcome_of(parts, change))
            .collect();
        if !documents.is_empty() {
            list.items.push(HistoryEntry { info: info_of(info), documents });
        }
        if list.items.len() == limit {
            break;
        }
    }
    Ok(Json(list))
}

fn info_of(info: ChangesetInfo) -> RevisionInfo {
    RevisionInfo {
        revision: info.sequence,
        id: info.id,
        author: info.by.author,
        client: info.by.client,
        message: info.by.message,
        at: info.at_millis,
        changes: info.changes,
    }
}

/// What a document says, whether or not this version knows its kind.
pub fn object(document: &Bytes) -> Option<Object> {
    serde_json::from_slice(document).ok()
}

fn generation(object: &Object) -> u64 {
    object.metadata["generation"].as_u64().unwrap_or_default()
}

/// Generations count from 1 whenever an object is made, so that the first is told from the others without a look at what
/// was there before.
pub fn outcome_of((kind, namespace, name): (&str, &str, &str), change: &DocumentChange) -> AppliedDocument {
    let generation = change.document.as_ref().and_then(object).map(|object| generation(&object));
    AppliedDocument {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        outcome: match generation {
            None if change.document.is_none() => Outcome::Deleted,
            None | Some(0 | 1) => Outcome::Created,
            Some(_) => Outcome::Updated,
        },
        generation: generation.unwrap_or_default(),
    }
}

/// What to wait for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct RevisionQuery {
    /// Answer when the proxies concerned have it, or after so long, such as 30s
    #[schemars(with = "Option<Wait>")]
    wait: Option<String>,
}

/// The change that a path names.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct RevisionPath {
    #[schemars(with = "Count")]
    revision: String,
}

/// `GET /v1/history/{revision}`
pub async fn one(
    State(api): State<Api>,
    rights: CallerRights,
    InPath(RevisionPath { revision }): InPath<RevisionPath>,
    Parameters(query): Parameters<RevisionQuery>,
) -> Result<Json<RevisionChanges>, Refuses<410>> {
    let revision = revision
        .parse()
        .map_err(|_| ApiError::bad_request(format!("{revision:?} is no revision: they count from 1")))?;
    let wait = query.wait.as_deref().map(read_wait).transpose()?;
    let log = api.policies.log();
    let changeset = match log.changeset(revision).await {
        Ok(changeset) => changeset,
        Err(error) => return Err(not_kept(&api, revision, error).await.into()),
    };
    let before = match log.at(revision.saturating_sub(1)).await {
        Ok(before) => before,
        Err(error) => return Err(not_kept(&api, revision, error).await.into()),
    };
    let diff = |change: &DocumentChange| {
        let before = before.get(&change.key).and_then(object);
        let parts = parts_of_key(&change.key).filter(|parts| may_read(&rights, *parts))?;
        Some(diff_of(parts, before, change.document.as_ref().and_then(object)))
    };
    let documents: Vec<DocumentDiff> = changeset.changes.iter().filter_map(diff).collect();
    if documents.is_empty() && *rights.0 != Rights::All {
        let detail = format!("no role of yours lets you read what revision {revision} changed");
        return Err(forbidden(detail).into());
    }
    let mut changes = RevisionChanges { info: info_of(changeset.info), documents, wait: None };
    if let Some(limit) = wait {
        let changed: Vec<PolicyKey> =
            changeset.changes.iter().filter_map(|change| policy_key(&change.key)).collect();
        changes.wait = Some(until_taken(&api, AwaitedChange::of_revision(revision, &changed), limit).await);
    }
    Ok(Json(changes))
}

fn diff_of(
    (kind, namespace, name): (&str, &str, &str),
    before: Option<Object>,
    after: Option<Object>,
) -> DocumentDiff {
    let (outcome, fields) = match (&before, &after) {
        (Some(before), Some(after)) => (Outcome::Updated, fields(before, after)),
        (None, Some(_)) => (Outcome::Created, Vec::new()),
        (Some(_) | None, None) => (Outcome::Deleted, Vec::new()),
    };
    DocumentDiff {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        outcome,
        before,
        after,
        fields,
    }
}

/// Whether a document's history may be looked at; of a kind that this version does not know, by operators alone.
fn may_read(rights: &CallerRights, (kind, namespace, _): (&str, &str, &str)) -> bool {
    match Kind::named(kind) {
        Some(kind) => rights.may_read(ApiKind::Document(kind), namespace),
        None => *rights.0 == Rights::All,
    }
}

/// Says of a revision that cannot be had whether it was ever there, and which can be.
pub async fn not_kept(api: &Api, revision: u64, error: LogError) -> ApiError {
    let LogError::Unknown(_) = error else { return error.into() };
    let log = api.policies.log();
    let (newest, oldest) = match (log.newest().await, log.oldest().await) {
        (Ok(newest), Ok(oldest)) => (newest, oldest),
        (Err(error), _) | (_, Err(error)) => return error.into(),
    };
    if revision == 0 || revision > newest {
        let detail = match newest {
            0 => "no policy was ever applied, so there is no revision".to_owned(),
            newest => format!("there is no revision {revision}: they count from 1 to {newest} now"),
        };
        return ApiError::missing(detail);
    }
    let detail = format!("revision {revision} is not kept any more: the oldest that is kept is {oldest}");
    ApiError::new(ProblemCode::NotKept, detail)
}
