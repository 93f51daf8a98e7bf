//! Workload: one instance. A joining proxy writes it; a file may too.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use weft_api::Name;

use crate::value::{PortRef, ServiceRef};

mod check;
mod in_set;
mod spec;

/// One instance of one or more services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// The address that others reach it on.
    #[schemars(with = "IpText")]
    pub address: IpAddr,
    /// Where the application listens, for each port name of its services.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "PortNumbers")]
    pub ports: BTreeMap<Name, u16>,
    /// Services that it belongs to, beside those whose selector matches its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceRef>,
    /// Region, zone and part of the zone that it runs in.
    #[serde(default, skip_serializing_if = "Locality::is_empty")]
    pub locality: Locality,
    /// Its share of traffic among its peers; 1 when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub weight: Option<u32>,
    /// Local ports that lead to services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// What runs beside it. Left out, it is what the joiner says, and weft-proxy where nobody joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
}

/// Where a workload runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locality {
    /// The region; empty where it is unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region: String,
    /// Zone of the region.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
    /// Part of the zone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sub_zone: String,
}

impl Locality {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.sub_zone.is_empty()
    }
}

/// A local port that leads to a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// The service that the port leads to: `NAME`, or `NAMESPACE/NAME`.
    pub service: ServiceRef,
    /// Which of the service's ports, by name or number.
    pub port: PortRef,
    /// Where the sidecar listens for it.
    #[schemars(with = "AddressText")]
    pub bind: SocketAddr,
}

/// What runs beside a workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proxy {
    /// The kind of proxy.
    #[serde(default, rename = "type")]
    pub proxy_type: ProxyType,
}

/// The kind of proxy beside a workload.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum ProxyType {
    /// weft-proxy, which joins and renews its certificate itself.
    #[default]
    Weft,
    /// A stock Envoy, which is given its certificate by file or by SDS.
    Envoy,
    /// None: the application speaks xDS itself, through gRPC.
    #[serde(rename = "GRPC")]
    Grpc,
    /// None: peers reach it in plain text.
    None,
}

/// The schema of an IP address.
#[derive(Debug)]
struct IpText;
/// The schema of an IP address with a port.
#[derive(Debug)]
struct AddressText;
/// The schema of port numbers by name.
#[derive(Debug)]
struct PortNumbers;

macro_rules! schema_only {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

schema_only!(IpText, "IpAddress", {"type": "string", "format": "ip", "description": "an IPv4 or IPv6 address"});
schema_only!(AddressText, "Address", {"type": "string", "format": "ip-port", "description": "IP:PORT"});
schema_only!(PortNumbers, "PortNumbers", {
    "type": "object",
    "propertyNames": {"type": "string", "format": "name"},
    "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 65535}
});
