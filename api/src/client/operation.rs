//! Running a mesh: what is wrong with it, which versions it has, taking a workload out of balancing.

use http::Method;

use super::{APPLY_TIMEOUT, ApiClient, ClientError, encode, wait};
use crate::rest::{
    AuthorityStatus, CheckResult, DebugInfo, DrainRequest, DrainResult, IssuerImport, IssuerRequest,
    Resealed, RotationRequest, VersionInfo,
};

impl ApiClient {
    /// What the control planes know to be wrong.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn check(&self) -> Result<CheckResult, ClientError> {
        let answer = self.answer(Method::GET, "/v1/check", "application/json", String::new());
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// The versions of control planes and proxies.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn version(&self) -> Result<VersionInfo, ClientError> {
        self.get("/v1/version").await
    }

    /// What each control plane tells of itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn debug(&self) -> Result<DebugInfo, ClientError> {
        let answer = self.answer(Method::GET, "/v1/debug", "application/json", String::new());
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// Begins to replace the root of the mesh.
    ///
    /// # Errors
    /// `root_rotation` where that is done already; see [`ClientError`].
    pub async fn rotate_root(&self, request: &RotationRequest) -> Result<AuthorityStatus, ClientError> {
        let body = serde_json::to_string(request).map_err(|error| self.garbled(&error))?;
        let answer = self.answer(Method::POST, "/v1/ca/rotation", "application/json", body);
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// Undoes the replacement of the root: the old one stays.
    ///
    /// # Errors
    /// `root_rotation` where none is under way; see [`ClientError`].
    pub async fn abort_rotation(&self) -> Result<AuthorityStatus, ClientError> {
        let answer = self.answer(Method::DELETE, "/v1/ca/rotation", "application/json", String::new());
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// Seals the authority's keys at rest with the newest seal key.
    ///
    /// # Errors
    /// `seal_key_missing` where another control plane does not have it; see [`ClientError`].
    pub async fn reseal(&self) -> Result<Resealed, ClientError> {
        let answer = self.answer(Method::POST, "/v1/ca/reseal", "application/json", String::new());
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// The request for a certificate of the mesh's issuer, for the owner of an offline root to sign.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn issuer_request(&self) -> Result<IssuerRequest, ClientError> {
        let answer = self.answer(Method::POST, "/v1/ca/csr", "application/json", String::new());
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// Brings the signed chain of the mesh's issuer.
    ///
    /// # Errors
    /// `unfit_authority` where it does not fit, `root_rotation` where a rotation is under way; see [`ClientError`].
    pub async fn import_issuer(&self, import: &IssuerImport) -> Result<AuthorityStatus, ClientError> {
        let body = serde_json::to_string(import).map_err(|error| self.garbled(&error))?;
        let answer = self.answer(Method::POST, "/v1/ca/import", "application/json", body);
        self.within(APPLY_TIMEOUT, answer).await
    }

    /// Takes a workload out of balancing, or back.
    ///
    /// # Errors
    /// `last_instance` where nobody else would be left; see [`ClientError`].
    pub async fn drain(&self, id: &str, request: &DrainRequest) -> Result<DrainResult, ClientError> {
        let body = serde_json::to_string(request).map_err(|error| self.garbled(&error))?;
        let path = format!("/v1/proxies/{}/drain", encode(id));
        let answer = self.answer(Method::POST, &path, "application/json", body);
        self.within(APPLY_TIMEOUT + request.wait.as_deref().map(wait).unwrap_or_default(), answer).await
    }
}
