//! What was changed, and going back.

use http::Method;

use super::{APPLY_TIMEOUT, ApiClient, ClientError, encode, object_path, query, wait};
use crate::rest::{
    ApplyResult, DiffResult, ExplainQuestion, ExplainResult, HistoryList, RevisionChanges, RollbackRequest,
};

/// Which part of the history; by default the newest changes, of everything.
#[derive(Clone, Debug, Default)]
pub struct HistoryPart {
    /// How many changes at most; 100 at most.
    pub limit: Option<usize>,
    /// Only changes before this revision.
    pub before: Option<u64>,
    /// Only changes of this kind.
    pub kind: Option<String>,
    /// Only changes in this namespace.
    pub namespace: Option<String>,
    /// Only changes of objects of this name.
    pub name: Option<String>,
}

/// What a delete is asked to do beside deleting; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Say what would happen and write nothing.
    pub dry_run: bool,
    /// Return when every connected proxy concerned has the change, or after this long (`30s`).
    pub wait: Option<String>,
    /// Why, in one line; the history tells it.
    pub message: Option<String>,
}

/// What a rollback is asked to do beside going back; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct RollbackOptions {
    /// Say what would happen and write nothing.
    pub dry_run: bool,
    /// Return when every connected proxy concerned has the change, or after this long (`30s`).
    pub wait: Option<String>,
    /// Why, in one line; the history tells it.
    pub message: Option<String>,
    /// Refuse when this is not the newest revision.
    pub if_revision: Option<u64>,
}

impl ApiClient {
    /// Deletes one object.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn delete_with(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<ApplyResult, ClientError> {
        let parameters = [
            ("dryRun", options.dry_run.then(|| "true".to_owned())),
            ("wait", options.wait.clone()),
            ("message", options.message.clone()),
        ];
        let path = format!("{}?{}", object_path(kind, namespace, name), query(parameters));
        let answer = self.answer(Method::DELETE, &path, "application/json", String::new());
        self.within(self.limit(APPLY_TIMEOUT) + options.wait.as_deref().map(wait).unwrap_or_default(), answer)
            .await
    }

    /// Changes a part of one object, by a JSON merge patch (RFC 7396).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn patch(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: &serde_json::Value,
    ) -> Result<ApplyResult, ClientError> {
        let path = object_path(kind, namespace, name);
        let answer = self.answer(Method::PATCH, &path, "application/merge-patch+json", patch.to_string());
        self.within(self.limit(APPLY_TIMEOUT), answer).await
    }

    /// What an apply of these documents would change. Nothing is written.
    ///
    /// # Errors
    /// [`ClientError::Refused`] lists every violation that an apply would be refused for.
    pub async fn diff(&self, documents: &str) -> Result<DiffResult, ClientError> {
        let answer = self.answer(Method::POST, "/v1/diff", "application/yaml", documents.to_owned());
        self.within(self.limit(APPLY_TIMEOUT), answer).await
    }

    /// What going back to a revision would change. Nothing is written.
    ///
    /// # Errors
    /// [`NOT_KEPT`](crate::rest::NOT_KEPT) where that was pruned; see [`ClientError`].
    pub async fn diff_to(&self, revision: u64) -> Result<DiffResult, ClientError> {
        let path = format!("/v1/diff?to={revision}");
        let answer = self.answer(Method::POST, &path, "application/yaml", String::new());
        self.within(self.limit(APPLY_TIMEOUT), answer).await
    }

    /// What would become of a request, and why.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn explain(&self, question: &ExplainQuestion) -> Result<ExplainResult, ClientError> {
        let body = serde_json::to_string(question).expect("text and lists");
        let answer = self.answer(Method::POST, "/v1/explain", "application/json", body);
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// What was changed, the newest first. A part of it may be empty and have more before it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn history(&self, part: &HistoryPart) -> Result<HistoryList, ClientError> {
        let number = |number: Option<u64>| number.map(|number| number.to_string());
        let limit = part.limit.map(|limit| limit.to_string());
        let parameters = [
            ("limit", limit),
            ("before", number(part.before)),
            ("kind", part.kind.clone()),
            ("namespace", part.namespace.clone()),
            ("name", part.name.clone()),
        ];
        self.get(&format!("/v1/history?{}", query(parameters))).await
    }

    /// One change, each document before and after; with `limit` (`30s`) which of the proxies have it by then.
    ///
    /// # Errors
    /// [`NOT_KEPT`](crate::rest::NOT_KEPT) where it was pruned; see [`ClientError`].
    pub async fn revision(&self, revision: u64, limit: Option<&str>) -> Result<RevisionChanges, ClientError> {
        let query = limit.map(|limit| format!("?wait={}", encode(limit))).unwrap_or_default();
        let path = format!("/v1/history/{revision}{query}");
        let answer = self.answer(Method::GET, &path, "application/json", String::new());
        self.within(self.limit(APPLY_TIMEOUT) + limit.map(wait).unwrap_or_default(), answer).await
    }

    /// Makes the policies what they were after revision `to`, as a new one.
    ///
    /// # Errors
    /// [`NOT_KEPT`](crate::rest::NOT_KEPT) where that was pruned; see [`ClientError`].
    pub async fn rollback(&self, to: u64, options: &RollbackOptions) -> Result<ApplyResult, ClientError> {
        let parameters = [
            ("dryRun", options.dry_run.then(|| "true".to_owned())),
            ("wait", options.wait.clone()),
            ("message", options.message.clone()),
            ("ifRevision", options.if_revision.map(|revision| revision.to_string())),
        ];
        let body = serde_json::to_string(&RollbackRequest { to }).map_err(|error| self.garbled(&error))?;
        let path = format!("/v1/rollback?{}", query(parameters));
        let answer = self.answer(Method::POST, &path, "application/json", body);
        self.within(self.limit(APPLY_TIMEOUT) + options.wait.as_deref().map(wait).unwrap_or_default(), answer)
            .await
    }
}
