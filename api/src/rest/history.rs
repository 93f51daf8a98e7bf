//! What was changed, by whom, and going back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::mesh::Object;
use super::problem::{AppliedDocument, Outcome, WaitResult};

/// Code of a problem: a revision that was, and is not kept any more.
pub const NOT_KEPT: &str = "not_kept";

/// One change of the policies: who made it, when and why.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionInfo {
    /// Counts changes from 1 without gaps.
    pub revision: u64,
    /// Names the change; random, so that two meshes cannot be confused.
    pub id: String,
    /// Whose token or session it was.
    pub author: String,
    /// What the author used, in that program's own words; nobody verified them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client: String,
    /// Why, in the author's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Milliseconds since 1970.
    pub at: u64,
    /// How many documents it changed.
    pub changes: usize,
}

/// A change, and which documents it changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Who made the change, when, and why.
    #[serde(flatten)]
    pub info: RevisionInfo,
    /// The documents that were asked for, the first hundred of them: `changes` counts all.
    pub documents: Vec<AppliedDocument>,
}

/// The answer of `GET /v1/history`, the newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryList {
    /// Changes, the newest first.
    pub items: Vec<HistoryEntry>,
    /// Pass it as `before` to read on; absent where nothing older is kept. A page may be empty and have one: so many changes
    /// were looked at, and none of them was of what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// The newest revision; 0 before the first.
    pub newest: u64,
    /// The oldest revision that can be gone back to; 0 before the first.
    pub oldest: u64,
}

/// A field of a document that says something else.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldDiff {
    /// Path within the document, for instance `spec.rules[0].backendRefs[1].weight`.
    pub path: String,
    /// What it said; absent where it was not written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it says; absent where it is not written any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// What becomes, or became, of one document.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentDiff {
    /// Its kind, as documents write it: `HTTPRoute`.
    pub kind: String,
    /// Its namespace; empty for kinds without one.
    #[serde(default)]
    pub namespace: String,
    /// Its name, unique for its kind in its namespace.
    pub name: String,
    /// What happens to it.
    pub outcome: Outcome,
    /// What it said; absent where it did not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Object>,
    /// What it says; absent where it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Object>,
    /// The fields that differ, of a document that was there and still is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldDiff>,
}

/// The answer of `GET /v1/history/{revision}`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionChanges {
    /// Who made the change, when, and why.
    #[serde(flatten)]
    pub info: RevisionInfo,
    /// Each document that it changed, before and after.
    pub documents: Vec<DocumentDiff>,
    /// Which proxies have it; present when the request asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitResult>,
}

/// What became of an object, for one who watches.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChange {
    /// Its namespace; empty for kinds without one.
    #[serde(default)]
    pub namespace: String,
    /// Its name, unique for its kind in its namespace.
    pub name: String,
    /// What happened to it.
    pub outcome: Outcome,
    /// What it says now; absent where it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object>,
}

/// The data of an event `changes` of `GET /v1/watch/{kinds}`, whose id is the revision. An event `snapshot` carries an
/// `ObjectList`; after an event `gone` changes are missing, and the stream ends.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectChanges {
    /// The revision that changed them.
    pub revision: u64,
    /// The objects of the kind that it changed.
    pub documents: Vec<ObjectChange>,
}

/// Asks for the policies as they were after an earlier revision. How, the query says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RollbackRequest {
    /// The revision to go back to, 1 at least.
    #[schemars(range(min = 1, max = 18_446_744_073_709_551_615_u64))]
    pub to: u64,
}
