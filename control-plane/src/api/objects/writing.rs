//! Replacing, patching and deleting one object.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::WorkloadId;
use weft_api::rest::{AppliedDocument, ApplyResult, Outcome};
use weft_policies::kinds::Kind;
use weft_policies::set::PolicyKey;
use weft_policies::{Document, Policy};

use super::super::apply::{self, ChangeAnswer};
use super::super::author::{Author, read_message};
use super::super::change::{ApplyMode, ChangeWishes, change_query};
use super::super::delivery::AwaitedChange;
use super::super::error::ApiError;
use super::super::extract::{DocumentText, IfMatch, InPath, MergePatch, Parameters};
use super::super::parameter::Message;
use super::super::problem_code::ProblemCode;
use super::super::replica::until_taken;
use super::super::state::Api;
use super::{ObjectPath, key_of, missing, picture_for, show, tag_of};
use crate::policy::repository::Head;

/// Refuses when the caller saw another version than the one that is there.
fn check_match(wanted: &IfMatch, current: Option<&Policy>) -> Result<(), ApiError> {
    let tag = current.map(|policy| tag_of(&show(policy)));
    if wanted.is_for(tag.as_deref()) {
        return Ok(());
    }
    let now = tag.unwrap_or_else(|| "nothing".to_owned());
    let detail = format!("If-Match is {wanted}, but there is {now}: read it again and repeat the change");
    Err(ApiError::new(ProblemCode::ChangedMeanwhile, detail))
}

change_query! {
    /// How to delete one object.
    DeleteQuery {}
}

/// How to write one object.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct WriteQuery {
    /// Why, in one line; the history tells it
    #[schemars(with = "Option<Message>")]
    message: Option<String>,
}

/// `PUT /v1/namespaces/{ns}/{kinds}/{name}`
pub async fn replace(
    State(api): State<Api>,
    InPath(path): InPath<ObjectPath>,
    author: Author,
    Parameters(query): Parameters<WriteQuery>,
    matches: IfMatch,
    DocumentText(body): DocumentText,
) -> Result<ChangeAnswer, ApiError> {
    let by = author.saying(read_message(query.message)?);
    let key = key_of(&path)?;
    let documents = one_document(&key, &body)?;
    let change = |head: &Head| {
        check_match(&matches, head.set.get(&key))?;
        head.set.apply(&documents).map_err(ApiError::violations)
    };
    Ok(ChangeAnswer::of(apply::write(&api, ApplyMode::Commit, &by, change).await?))
}

/// Reads the one document of an object, which its path names.
fn one_document(key: &PolicyKey, text: &str) -> Result<Vec<Document>, ApiError> {
    let documents = weft_policies::parse("request", text).map_err(ApiError::violations)?;
    let [document] = &documents[..] else {
        let detail = format!("one document is replaced; the request has {}", documents.len());
        return Err(ApiError::new(ProblemCode::Invalid, detail));
    };
    if document.policy.key() != *key {
        let found = document.policy.key();
        let detail = format!("the path names {key}, but the document is {found}");
        return Err(ApiError::new(ProblemCode::Invalid, detail));
    }
    Ok(documents)
}

/// `PATCH /v1/namespaces/{ns}/{kinds}/{name}`: a JSON merge patch (RFC 7396) of what people wrote.
pub async fn patch(
    State(api): State<Api>,
    InPath(path): InPath<ObjectPath>,
    author: Author,
    Parameters(query): Parameters<WriteQuery>,
    matches: IfMatch,
    MergePatch(patch): MergePatch,
) -> Result<ChangeAnswer, ApiError> {
    let by = author.saying(read_message(query.message)?);
    let key = key_of(&path)?;
    let change = |head: &Head| {
        let current = head.set.get(&key);
        check_match(&matches, current)?;
        let mut document = written(current.ok_or_else(|| missing(&key, &by.rights, &head.set, None))?);
        merge(&mut document, &patch);
        let documents = one_document(&key, &document.to_string())?;
        head.set.apply(&documents).map_err(ApiError::violations)
    };
    Ok(ChangeAnswer::of(apply::write(&api, ApplyMode::Commit, &by, change).await?))
}

/// An object as a document, without what the server keeps of it.
fn written(policy: &Policy) -> Value {
    let mut document = policy.to_value();
    if let Some(metadata) = document["metadata"].as_object_mut() {
        metadata.retain(|field, _| matches!(field.as_str(), "name" | "namespace" | "labels" | "annotations"));
    }
    document
}

/// RFC 7396, section 2: null takes a field away, an object is merged field by field, anything else takes its place.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(target) = target.as_object_mut() else { return };
    for (name, value) in fields {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// `DELETE /v1/namespaces/{ns}/{kinds}/{name}`
pub async fn delete(
    State(api): State<Api>,
    InPath(path): InPath<ObjectPath>,
    author: Author,
    Parameters(mut query): Parameters<DeleteQuery>,
    matches: IfMatch,
) -> Result<ChangeAnswer, ApiError> {
    let ChangeWishes { mode, wait, message } = query.wishes()?;
    let by = author.saying(message);
    let key = key_of(&path)?;
    let keys = [key.clone()];
    let change = |head: &Head| {
        check_match(&matches, head.set.get(&key))?;
        head.set.delete(&keys).map_err(ApiError::violations)
    };
    let mut result = apply::write(&api, mode, &by, change).await?;
    let is_described = !result.documents.is_empty();
    // The document first: where that is refused, the workload stays whole.
    if key.kind == Kind::Workload {
        take_out(&api, &key, mode, &mut result).await?;
    }
    if result.documents.is_empty() {
        let (_, set) = api.newest().await?;
        return Err(missing(&key, &by.rights, &set, picture_for(&api, key.kind).await.as_ref()));
    }
    if let Some(limit) = wait {
        let awaited = AwaitedChange::of_revision(result.revision, &keys);
        result.wait = Some(until_taken(&api, awaited, limit).await);
    }
    if !is_described && mode == ApplyMode::Commit {
        return Ok(ChangeAnswer::about(result, "a workload that joined"));
    }
    Ok(ChangeAnswer::of(result))
}

/// Takes a workload out of the mesh, whether or not a document described it.
async fn take_out(
    api: &Api,
    key: &PolicyKey,
    mode: ApplyMode,
    result: &mut ApplyResult,
) -> Result<(), ApiError> {
    let id = WorkloadId::new(key.namespace.clone(), key.name.clone());
    let is_there = match mode {
        ApplyMode::Commit => api.revocations.revoke(&id).await?.is_some(),
        ApplyMode::DryRun => {
            picture_for(api, key.kind).await.is_some_and(|snapshot| snapshot.records.contains_key(&id))
        }
    };
    if is_there && result.documents.is_empty() {
        result.documents.push(AppliedDocument {
            kind: key.kind.to_string(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            outcome: Outcome::Deleted,
            generation: 0,
        });
    }
    Ok(())
}
