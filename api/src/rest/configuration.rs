//! The configuration of one proxy: what it should have, what it was sent, what it took.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a resource stands at a proxy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub enum DeliveryState {
    /// It has what it should have.
    Acknowledged,
    /// It was sent it, and has not answered yet.
    Sent,
    /// It is sent when something else is acknowledged first.
    Waiting,
    /// It refuses it, and runs on what it had.
    Refused,
    /// It is kept from it until what it refused changes or goes.
    HeldBack,
    /// It should not have it any more, and still does.
    Unwanted,
    /// It does not ask for it.
    NotAskedFor,
    /// It is connected to none of the replicas that were heard.
    #[default]
    Unknown,
}

/// A version of a resource that a proxy was sent.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToldVersion {
    /// A hash of what it says.
    pub version: String,
    /// What it says, in Envoy's JSON; absent where the proxy brought it along from an earlier stream, and of what it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Value>,
}

/// One resource of a proxy.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyResource {
    /// Name of the resource, as proxies ask for it.
    pub name: String,
    /// A hash of what it should say; absent where the proxy should not have it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it should say, in Envoy's JSON, secrets redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Value>,
    /// Where it stands at the proxy.
    #[serde(default)]
    pub state: DeliveryState,
    /// What the proxy was sent last, where that is another version; it may have refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<ToldVersion>,
    /// What the proxy took last, where that is another version: it runs on this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<ToldVersion>,
}

/// The answer of `GET /v1/proxies/{id}/config`: beside the revision a list of ProxyResource for each type, `CDS` and so on.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyConfig {
    /// Revision of what it should have.
    pub revision: u64,
    /// Resources by type: `CDS`, `EDS`, `LDS`, `RDS`, `VHDS`, `SDS`, `RTDS`.
    #[serde(flatten)]
    pub types: BTreeMap<String, Vec<ProxyResource>>,
}
