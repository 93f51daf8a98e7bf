//! The certificate authority.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer of `GET /v1/ca`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityStatus {
    /// What every identity of the mesh begins with.
    pub trust_domain: String,
    /// What new certificates of workloads lead to.
    pub root: RootStatus,
    /// What signs certificates of workloads.
    pub issuer: IssuerStatus,
    /// Certificates of workloads that have not expired.
    pub leaves: usize,
    /// All roots that workloads trust: two while one takes the place of the other.
    #[serde(default)]
    pub roots: Vec<RootStatus>,
    /// All issuers whose certificates may be in use, or will be.
    #[serde(default)]
    pub issuers: Vec<IssuerStatus>,
    /// The replacement of the root that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// What the authority's keys are sealed with in the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<SealStatus>,
}

/// What the authority's keys are sealed with in the store.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealStatus {
    /// Version of the authority's records, one higher with each change; none in a store of an earlier release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The key that seals: the first of the seal key's file.
    pub sealing: String,
    /// The keys in the file of the control plane that answers, and those that a record needs.
    pub keys: Vec<SealKeyStatus>,
    /// Why the records cannot be read, or are not the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A key that seals the authority's keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SealKeyStatus {
    /// The first 16 digits of a hash of it.
    pub id: String,
    /// How many records need it.
    pub records: usize,
    /// Whether the file of the control plane that answers has it.
    pub held: bool,
}

/// The answer of `POST /v1/ca/reseal`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resealed {
    /// The key that all records are sealed with now.
    pub key: String,
    /// How many were sealed with another one.
    pub records: usize,
}

/// A root of the mesh's trust.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RootStatus {
    /// SHA-256 of its public key, in hexadecimal: join tokens carry it.
    pub spki_sha256: String,
    /// Seconds since 1970 when it expires.
    pub expires_at: i64,
    /// Serial number of the certificate, 40 hexadecimal digits.
    #[serde(default)]
    pub serial: String,
    /// What it is there for.
    #[serde(default)]
    pub state: CaState,
    /// Who made it, and where the key is that signs issuers below it.
    #[serde(default)]
    pub origin: RootOrigin,
    /// Certificates of workloads below it that have not expired.
    #[serde(default)]
    pub leaves: usize,
    /// PEM, as workloads and `weft` trust it.
    #[serde(default)]
    pub pem: String,
}

/// What a root or an issuer is there for.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum CaState {
    /// New certificates are signed below it.
    #[default]
    Signing,
    /// It stands in every bundle, and will sign.
    Coming,
    /// It signs no more; certificates of it are in use.
    Leaving,
}

impl CaState {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "Signing",
            Self::Coming => "Coming",
            Self::Leaving => "Leaving",
        }
    }
}

/// Who made a root, and where the key is that signs issuers below it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum RootOrigin {
    /// The mesh, which keeps its key and replaces it in time.
    #[default]
    Mesh,
    /// Its owner, by `--ca-cert` and `--ca-key`: the mesh keeps the key.
    Files,
    /// Its owner, who keeps the key: issuers come by `weft ca csr` and `weft ca import`.
    Offline,
}

impl RootOrigin {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mesh => "Mesh",
            Self::Files => "Files",
            Self::Offline => "Offline",
        }
    }
}

/// A certificate that signs those of workloads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerStatus {
    /// Seconds since 1970 when it expires; it is renewed long before.
    pub expires_at: i64,
    /// Serial number of the certificate, 40 hexadecimal digits.
    #[serde(default)]
    pub serial: String,
    /// Serial number of the root that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// What it is there for.
    #[serde(default)]
    pub state: CaState,
    /// Certificates of workloads below it that have not expired.
    #[serde(default)]
    pub leaves: usize,
}

/// How far the replacement of the root is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// How far it is.
    pub stage: RotationStageName,
    /// Seconds since 1970.
    pub started_at: i64,
    /// Seconds since 1970 when this stage began.
    pub stage_since: i64,
    /// Seconds over which workloads renew their certificates.
    pub spread_seconds: u32,
    /// It is being undone: the old root stays.
    pub aborted: bool,
    /// Whether the old root vouches for the new one. Where it does not, whoever knows the mesh by the old one alone (a join
    /// token, a context of `weft`) finds it until the last stage begins.
    #[serde(default = "yes")]
    pub vouched: bool,
    /// Who asked for it; none where the age of the root did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What the next stage waits for, 100 at most.
    pub waits_for: Vec<RotationWait>,
    /// How many that are.
    pub waits: usize,
    /// Workloads that trust only the root that leaves, and whose certificates are over: they join again when they come. 100 at
    /// most.
    pub left_behind: Vec<String>,
}

/// Older control planes replace roots by such alone as the one before vouches for.
const fn yes() -> bool {
    true
}

/// A stage of the replacement of a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum RotationStageName {
    /// The new root stands beside the old one in every bundle, and signs nothing.
    DistributingRoot,
    /// Certificates of workloads are signed under the new root, and renewed early.
    RenewingLeaves,
    /// The control planes show certificates under the new root.
    MovingControlPlanes,
}

/// Something that a stage waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationWait {
    /// A workload, `NAMESPACE/NAME`, a control plane and its address, or a join token and its id.
    pub who: String,
    /// What it lacks, for the next stage to begin.
    pub reason: RotationWaitReason,
    /// Seconds since 1970 after which it is not waited for any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

/// Why a stage waits for somebody.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub enum RotationWaitReason {
    /// It is connected, and has not acknowledged the bundle with both roots.
    BundleNotAcknowledged,
    /// It tells that it does not trust both roots yet.
    RootNotTrusted,
    /// It is not connected and tells nothing.
    Away,
    /// A certificate of it below the root that leaves is in its life.
    LeafLives,
    /// It is a join token that names the root that leaves, which does not vouch for the new one.
    TokenLives,
    /// The control plane has not read the newest roots, or shows a certificate below the root that leaves.
    ReplicaBehind,
    /// The control plane is of a version that cannot rotate.
    ReplicaTooOld,
    /// All have moved a moment ago.
    Settling,
}

impl RotationWaitReason {
    /// The reason in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::BundleNotAcknowledged => "has not acknowledged the bundle with both roots",
            Self::RootNotTrusted => "does not trust both roots yet",
            Self::Away => "is away and tells nothing",
            Self::LeafLives => "has a certificate below the root that leaves",
            Self::TokenLives => "names the root that leaves, which does not vouch for the new one",
            Self::ReplicaBehind => "has not taken the newest roots yet",
            Self::ReplicaTooOld => "is of a version that cannot rotate a root: upgrade it",
            Self::Settling => "has moved a moment ago",
        }
    }
}

/// What `POST /v1/ca/rotation` is asked for.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotationRequest {
    /// How long the workloads' renewals are spread over, `30s` to `7d`; an hour unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m|[1-9][0-9]?h|[1-7]d)$"))]
    pub spread: Option<String>,
}

/// The answer of `POST /v1/ca/csr`: what the owner of an offline root signs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRequest {
    /// The certificate request (PKCS #10), PEM. Its key was made by the mesh and stays there.
    pub pem: String,
    /// SHA-256 of its public key, in hexadecimal.
    pub spki_sha256: String,
    /// Seconds since 1970 when the key was made. Asked again before the import, the request is the same.
    pub created_at: i64,
}

/// What `POST /v1/ca/import` takes.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerImport {
    /// PEM: the certificate of the issuer whose request was signed, then who signed it, up to and with the root.
    pub chain: String,
    /// How long the workloads' renewals are spread over, `30s` to `7d`; an hour unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([1-9][0-9]{0,4}s|[1-9][0-9]{0,3}m|[1-9][0-9]?h|[1-7]d)$"))]
    pub spread: Option<String>,
}
