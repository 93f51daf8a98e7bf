//! AuthenticationPolicy: whose tokens requests bring, and whether they have to. Enforced at the server's side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::{Name, ServiceId};

use super::target::TargetRef;
use crate::value::{HeaderName, KeysUrl};

mod check;
pub mod effect;
pub mod fields;
mod in_set;
mod keys;
mod spec;

/// Whose tokens requests bring, and whether they have to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthenticationPolicy {
    /// What the policy protects.
    pub target_refs: Vec<TargetRef>,
    /// JSON Web Tokens of end users. Of policies at several levels, the most specific that says this says all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuthentication>,
    /// Whether workloads have to prove who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Whose tokens requests bring, and whether they have to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtAuthentication {
    /// Who issues tokens. A request brings one of any of them.
    pub providers: Vec<JwtProvider>,
    /// Whether requests without a token are refused, with 401. Bad tokens always are.
    #[serde(default = "is_required")]
    pub required: bool,
}

fn is_required() -> bool {
    true
}

/// Who issues tokens, and how they are verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtProvider {
    /// A name, unique in the policy.
    pub name: Name,
    /// The `iss` of its tokens, compared exactly.
    pub issuer: String,
    /// A token's `aud` must have one of these; any will do where none is written. Neither `http://` or `https://` before one nor
    /// a slash behind it count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The keys that verify its tokens.
    pub jwks: JwksSource,
    /// Where requests have tokens: `Authorization: Bearer` and the parameter `access_token` unless written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<TokenPlaces>,
    /// Whether the application gets the token too; without, it is taken away. A cookie stays always.
    #[serde(default)]
    pub forward: bool,
    /// Claims that the application gets in headers. What callers write under these names is taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claim_to_headers: Vec<ClaimHeader>,
}

/// Keys that verify tokens: `inline`, or at `uri`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwksSource {
    /// A JSON Web Key Set (RFC 7517) of public keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inline: Option<String>,
    /// Where the key set is fetched from, by each sidecar that verifies: `https://` outside of the mesh, or `http://` at the
    /// service that `backendRef` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<KeysUrl>,
    /// The service of the mesh that has the keys. It is called by mTLS, as by any caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_ref: Option<KeysBackend>,
    /// Roots, in PEM, that the server's certificate is of; those of the machine, in
    /// `/etc/ssl/certs/ca-certificates.crt`, unless written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
}

/// The service that has keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeysBackend {
    /// The name of the service.
    pub name: Name,
    /// Its namespace; the policy's own when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// The number of its port; may be left out when the service has one port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

impl KeysBackend {
    /// The service meant, where `namespace` is the policy's.
    #[must_use]
    pub fn service(&self, namespace: &Name) -> ServiceId {
        ServiceId::new(self.namespace.clone().unwrap_or_else(|| namespace.clone()), self.name.clone())
    }
}

/// Where requests have tokens. All tokens that are in any of these places have to be good.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenPlaces {
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<TokenHeader>,
    /// Parameters of the query. They stand in logs of many programs: a header is better.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<String>,
    /// Names of cookies. A cookie goes on to the application, whatever `forward` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
}

/// A header that has tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenHeader {
    /// The name of the header.
    pub name: HeaderName,
    /// What stands before the token, such as `Bearer ` with its space.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// A claim that the application gets in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimHeader {
    /// The claim; a dot leads into an object, as in `realm_access.roles`. Lists and objects come as JSON in Base64.
    pub claim: String,
    /// The name of the header.
    pub header: HeaderName,
}
