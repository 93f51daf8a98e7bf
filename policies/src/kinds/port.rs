//! Ports of services, and what is spoken there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use crate::value::PortRef;

/// A port that a service is called on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The name, unique in the service.
    pub name: Name,
    /// The number that callers use.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Where the application listens, unless a workload says otherwise, or what is outside; `port` when it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<u16>,
    /// What is spoken there.
    pub protocol: Protocol,
}

impl Port {
    /// Where the application listens, unless a workload says otherwise.
    #[must_use]
    pub fn app_port(&self) -> u16 {
        self.target_port.unwrap_or(self.port)
    }
}

/// The port that a reference means.
pub(crate) fn find<'a>(ports: &'a [Port], wanted: &PortRef) -> Option<&'a Port> {
    ports.iter().find(|port| match wanted {
        PortRef::Number(number) => port.port == *number,
        PortRef::Name(name) => port.name == *name,
    })
}

/// What to tell about a port that there is not.
pub(crate) fn listed(ports: &[Port]) -> String {
    let ports: Vec<String> = ports.iter().map(|port| format!("{} ({})", port.name, port.port)).collect();
    format!("its ports are {}", ports.join(", "))
}

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1; requests may upgrade their connection to a WebSocket.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 with prior knowledge.
    #[serde(rename = "HTTP2")]
    Http2,
    /// gRPC, over HTTP/2 with prior knowledge.
    #[serde(rename = "GRPC")]
    Grpc,
    /// Bytes that nobody looks into: routed and authorized by connection.
    #[serde(rename = "TCP")]
    Tcp,
    /// TLS of the application's own.
    #[serde(rename = "TLS")]
    Tls,
}

impl Protocol {
    /// Whether requests can be told apart, routed and authorized one by one.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        })
    }
}
