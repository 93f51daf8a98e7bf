//! Errors (RFC 9457) and the outcome of an apply.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The media type of an error answer.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Code of a problem: what the caller saw is not what is there any more (`If-Match`, `ifRevision`).
pub const CHANGED_MEANWHILE: &str = "changed_meanwhile";

/// How long a call may be asked to wait, 5 minutes at most: `30s`.
pub const WAIT_PATTERN: &str = "^([0-9]{1,5}ms|[0-9]{1,2}s|[12][0-9]{2}s|[0-5]m)$";

/// The reason for a change: one line, without control characters.
pub const MESSAGE_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// How much a violation weighs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum Severity {
    /// The set is refused.
    #[default]
    Error,
    /// The set is taken; people should look.
    Warning,
}

/// One thing that is wrong with a document: where, what, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Violation {
    /// Stable code for programs, for instance `unknown_field`, `conflict`, `missing_reference`.
    pub code: String,
    /// Path within the document, for instance `spec.rules[0].backendRefs[1].weight`.
    pub path: String,
    /// What is wrong, with the value.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Whether it keeps the set from being taken.
    #[serde(default)]
    pub severity: Severity,
    /// File (or `request`) that the document came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Position of the document in its source, from 0.
    #[serde(default)]
    pub document: usize,
    /// `KIND NAMESPACE/NAME` of the document, as far as it could be read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// Line in the source, from 1; 0 when unknown.
    #[serde(default)]
    pub line: usize,
    /// Column in the line, from 1; 0 when unknown.
    #[serde(default)]
    pub column: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}", self.source)?;
            if self.line > 0 {
                write!(f, ":{}:{}", self.line, self.column)?;
            }
            write!(f, ": ")?;
        }
        if !self.object.is_empty() {
            write!(f, "{}: ", self.object)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// An error answer of the API.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// URI of the problem type; `about:blank` where the title says it all.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Short summary, the same for every occurrence.
    pub title: String,
    /// The HTTP status of the answer, 400 to 599.
    pub status: u16,
    /// Stable code for programs.
    pub code: String,
    /// What happened this time and what to do.
    #[serde(default)]
    pub detail: String,
    /// Everything that is wrong, all at once, the first hundred; the title counts all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub violations: Vec<Violation>,
}

impl Problem {
    /// A problem without violations.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: title.to_owned(),
            status,
            code: code.to_owned(),
            detail: detail.into(),
            violations: Vec::new(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.title)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for violation in &self.violations {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

/// What an apply did to one document.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// There was no such object.
    Created,
    /// It replaced another version.
    Updated,
    /// It was already so.
    Unchanged,
    /// The object was there and is removed.
    Deleted,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        })
    }
}

/// What became of one document of an apply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedDocument {
    /// Its kind, as documents write it: `HTTPRoute`.
    pub kind: String,
    /// Its namespace; empty for kinds without one.
    #[serde(default)]
    pub namespace: String,
    /// Its name, unique for its kind in its namespace.
    pub name: String,
    /// What happened to it.
    pub outcome: Outcome,
    /// Counts the changes of its spec, from 1.
    pub generation: u64,
}

/// A proxy that had not taken the change when the wait ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Laggard {
    /// The proxy's workload, `NAMESPACE/WORKLOAD`.
    pub proxy: String,
    /// Its words when it refused; absent when it did not answer in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What `?wait=` found.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitResult {
    /// Connected proxies that the change concerns.
    pub targeted: usize,
    /// Those that took it.
    pub acked: usize,
    /// Those that refused it, or gave no answer in time.
    #[serde(default)]
    pub laggards: Vec<Laggard>,
    /// Replicas of the control plane that did not say what their proxies have.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub unheard: usize,
}

impl WaitResult {
    /// Whether every proxy concerned is known to have it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.acked >= self.targeted && self.unheard == 0
    }
}

/// The answer to an apply.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyResult {
    /// The revision that holds the set; 0 for a dry run or when nothing changed.
    pub revision: u64,
    /// True when nothing was written on purpose.
    #[serde(default)]
    pub dry_run: bool,
    /// Each document's result, in the order of the request.
    pub documents: Vec<AppliedDocument>,
    /// What people should look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Violation>,
    /// How many warnings there are, where that is more than are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning_count: Option<usize>,
    /// Present when the request asked to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<WaitResult>,
}
