//! AuthorizationPolicy: who may call what. Enforced at the server's side.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::{Name, SpiffeId};

use super::route_match::{Method, PathMatch};
use super::target::TargetRef;
use crate::value::{Cidr, HeaderName, PortRef, ServiceRef};

mod check;
pub mod effect;
mod in_set;
mod spec;

/// Who may call what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationPolicy {
    /// What the policy protects.
    pub target_refs: Vec<TargetRef>,
    /// What happens to requests that a rule matches. A Deny always beats an Allow; where there is an Allow, what no
    /// Allow matches is refused.
    pub action: Action,
    /// Whether it is enforced.
    #[serde(default)]
    pub mode: Mode,
    /// The rules. A request is matched by the policy when one rule matches it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<AuthorizationRule>,
}

impl AuthorizationPolicy {
    /// Whether a rule looks at claims.
    pub(crate) fn asks_for_claims(&self) -> bool {
        self.rules.iter().flat_map(|rule| &rule.from).any(|source| !source.claims.is_empty())
    }
}

/// What happens to requests that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Action {
    /// They pass, unless a Deny matches them.
    Allow,
    /// They are refused, whatever else allows them: a request with 403, a connection by closing it.
    Deny,
}

/// Whether a policy is enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// It decides which requests pass.
    #[default]
    Enforce,
    /// It refuses nothing and allows nothing: the sidecar of the called side counts the requests that pass and that it would
    /// refuse beside the policies that are enforced. Beside an Allow that is enforced, or a default of Deny, another Allow
    /// refuses nothing more, and nothing is counted of it.
    Shadow,
}

/// One rule. `from`, `to` and `when` must all match, each of them when it is written; a rule with none of them
/// matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationRule {
    /// A name, unique in the policy: refusals tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Callers; one of them must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Source>,
    /// Operations; one of them must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Operation>,
    /// Conditions; all of them must match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
}

/// A caller. Each field that is written must match, by one of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// Services: `NAME` of the policy's namespace, or `NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceRef>,
    /// SPIFFE ids of callers, compared whole and exactly.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub identities: Vec<SpiffeIdentity>,
    /// All services of namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<Name>,
    /// Addresses of the caller's end of the connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<Cidr>,
    /// Claims of a verified token, which an AuthenticationPolicy of the target has requests bring. One of the entries must
    /// match, and of an entry each claim: `{iss: https://login.example.com, role: [admin, owner]}`. A value is a string, a
    /// number, true or false, or a list of which one must be equal; a claim that is a list matches by one of its elements,
    /// and `scope` and `scp` are lists of the words in them. An object leads to the claims within: `{realm_access: {roles:
    /// admin}}`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// An operation. Each field that is written must match, by one of its values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Ports of the target service, by name or number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRef>,
    /// Methods of HTTP requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    /// Paths, compared after they are normalised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathMatch>,
    /// Methods of gRPC, `package.Service/Method` or `package.Service/*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grpc_methods: Vec<String>,
}

impl Operation {
    /// Whether only requests of HTTP can match.
    #[must_use]
    pub fn needs_http(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty() || !self.grpc_methods.is_empty()
    }
}

/// A condition on a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// The name of the request header.
    pub header: HeaderName,
    /// Its value must be one of these.
    pub values: Vec<String>,
}

/// A SPIFFE identity, compared exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpiffeIdentity(pub SpiffeId);

impl std::fmt::Display for SpiffeIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for SpiffeIdentity {
    type Err = crate::value::InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self)
            .map_err(|error: weft_api::names::InvalidName| Self::Err::new(error.to_string()))
    }
}

crate::value::text_value!(
    SpiffeIdentity,
    "Identity",
    "spiffe-id",
    "spiffe://TRUST-DOMAIN/ns/NAMESPACE/svc/SERVICE"
);
