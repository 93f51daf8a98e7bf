//! What would become of a request, and why: asked before it is sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The body of `POST /v1/explain`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainQuestion {
    /// Who calls: `NAMESPACE/SERVICE`, or a workload, `NAMESPACE/WORKLOAD`.
    pub source: String,
    /// What is called: `NAMESPACE/SERVICE[:PORT]`, the port by name or number, or a host name as the application writes it.
    pub destination: String,
    /// The request's method; without it and a path, all that may become of requests is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Its path, with the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its headers. `host` is the host name that it is sent to, in place of the destination's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ExplainHeader>,
}

/// A header of the request that is asked about.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExplainHeader {
    /// Name of the header, in any case.
    pub name: String,
    /// Value of the header, as it is sent.
    pub value: String,
}

/// What becomes of the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum ExplainVerdict {
    /// It reaches the application, whichever of the clusters it is sent to.
    Passes,
    /// The called side refuses it, whichever of the clusters it is sent to.
    Refused,
    /// The caller's own sidecar answers it.
    Answered,
    /// It depends on the cluster that is chosen, or, where no request was asked about, on the request.
    #[default]
    Depends,
}

/// Whose sidecar was asked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedCaller {
    /// The workload, `NAMESPACE/WORKLOAD`.
    pub workload: String,
    /// The identity that it calls with.
    pub identity: String,
    /// What stands beside it: `Weft`, `Envoy`.
    pub proxy: String,
    /// How many workloads with a sidecar the service has; the first one was asked.
    pub workloads: usize,
}

/// A cluster that the request may be sent to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedCluster {
    /// Its name in the configuration.
    pub name: String,
    /// The service behind it; none where it leads out of the mesh or nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The port of that service, by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// The subset of that service, where a route names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// Its share, in parts of all weights together.
    pub weight: u32,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// How many of them are healthy.
    pub healthy: usize,
    /// The status that is answered in its place, where it does not exist or has no endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<u16>,
}

/// A value that holds, and who set it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedValue {
    /// What it is about: `requestTimeout`, `retryAttempts`, `loadBalancer`.
    pub field: String,
    /// The value that is in force.
    pub value: Value,
    /// The object that set it, `KIND NAMESPACE/NAME`; none where it is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The level at which that object speaks: `mesh`, `namespace`, `service`, `service port`, `route`, `route rule`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Where in that object it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// An answer that no application gives.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedAnswer {
    /// Its status; none of what is no request, or where nobody answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Where a redirect leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Why it is given.
    pub reason: String,
}

/// A route of the caller's sidecar.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRoute {
    /// Its name in the configuration.
    pub name: String,
    /// The document that it comes from, `HTTPRoute NAMESPACE/NAME`; none where the service has none, and all goes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The rule of that document, by name or index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What it matches, for people.
    pub matches: String,
    /// Where it leads; nothing where it answers by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<ExplainedCluster>,
    /// What it answers by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ExplainedAnswer>,
    /// The path that the called side sees, where it is rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rewritten_path: Option<String>,
    /// Time limits and retries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<ExplainedValue>,
}

/// A rule of an AuthorizationPolicy that may take requests of the caller to the port.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRule {
    /// The policy, `AuthorizationPolicy NAMESPACE/NAME`.
    pub policy: String,
    /// The rule, by name or index.
    pub rule: String,
    /// `Allow` or `Deny`.
    pub action: String,
    /// What of a request decides whether it takes it; nothing where it takes each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
}

/// The called side: one port of a service behind the route.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedPort {
    /// The service, `NAMESPACE/SERVICE`.
    pub service: String,
    /// The port that is called, by its name.
    pub port: String,
    /// The workload whose sidecar was asked; none where no member has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// Members without a sidecar, which refuse nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unguarded: Vec<String>,
    /// Whether it is called by mutual TLS.
    pub mtls: bool,
    /// Whether the request passes; none where no request was asked about and it depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<bool>,
    /// The status of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The policy that decided, `AuthorizationPolicy NAMESPACE/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Its rule, by name or index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Why it is so, in words for people.
    pub reason: String,
    /// Policies that would refuse it and are not enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<String>,
    /// Rules that may take requests of the caller, where no request was asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ExplainedRule>,
    /// Balancing, connections, circuit breakers, ejection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<ExplainedValue>,
}

/// The answer of `POST /v1/explain`: what the sidecars of both sides have now, and what they would do by it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExplainResult {
    /// The revision of the policies that it was asked of.
    pub revision: u64,
    /// What becomes of the request.
    pub verdict: ExplainVerdict,
    /// The whole in a sentence.
    pub summary: String,
    /// Whose sidecar was asked.
    pub caller: ExplainedCaller,
    /// The host name that the request is sent to.
    pub authority: String,
    /// The called service and port, `NAMESPACE/SERVICE:PORT`; none for a host that no service has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The method that was asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path that was asked about, normalised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the caller's sidecar answers by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<ExplainedAnswer>,
    /// The route that takes it; all of them where no request was asked about.
    pub routes: Vec<ExplainedRoute>,
    /// What the called side says, for each port behind the routes.
    pub ports: Vec<ExplainedPort>,
}
