//! The certificate authority.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `GET /v1/ca`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    /// What every identity of the mesh begins with.
    pub trust_domain: String,
    /// What all workloads trust.
    pub root: RootStatus,
    /// What signs certificates of workloads.
    pub issuer: IssuerStatus,
    /// Certificates of workloads that have not expired.
    pub leaves: usize,
}

/// The root of the mesh's trust.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootStatus {
    /// SHA-256 of its public key, in hexadecimal: join tokens carry it.
    pub spki_sha256: String,
    /// Seconds since 1970 when it expires.
    pub expires_at: i64,
}

/// The certificate that signs those of workloads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// Seconds since 1970 when it expires; it is renewed long before.
    pub expires_at: i64,
}
