//! Service: a name, its ports, and which workloads are its members.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::{Kind, Spec};
use crate::finding::{Code, Findings};
use crate::metadata::{Metadata, check_labels};
use crate::value::{Hostname, StatusRange, Timespan};

/// How many bytes `PORT.SERVICE.NAMESPACE` and `WORKLOAD.SERVICE.NAMESPACE` may have without dots: with the two dots,
/// one more and a trust domain of 120 bytes they stay below the 253 of a DNS name.
pub const SNI_LABELS_MAX: usize = 130;

/// A name, its ports, and which workloads are its members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Where callers reach it.
    pub ports: Vec<Port>,
    /// The workloads of its namespace that belong to it. Those that name it in their `services` belong to it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Named parts of the members, which a route can choose.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subsets: Vec<Subset>,
    /// How each sidecar checks its own application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// More names by which callers know it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<Hostname>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// The name, unique in the service.
    pub name: Name,
    /// The number that callers use.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Where the application listens, unless a workload says otherwise; `port` when it is left out.
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

/// What is spoken on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    /// HTTP/1.1, upgradable.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 with prior knowledge.
    #[serde(rename = "HTTP2")]
    Http2,
    /// gRPC.
    #[serde(rename = "GRPC")]
    Grpc,
    /// Bytes.
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

/// Labels that a workload must have, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// The labels; none select nothing.
    pub match_labels: BTreeMap<String, String>,
}

impl Selector {
    /// Whether a workload with `labels` is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.match_labels.is_empty() && has_labels(labels, &self.match_labels)
    }
}

/// A named part of the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subset {
    /// The name, unique in the service.
    pub name: Name,
    /// The labels that its members have, beside being members of the service.
    pub match_labels: BTreeMap<String, String>,
}

impl Subset {
    /// Whether a member with `labels` is in this subset.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        has_labels(labels, &self.match_labels)
    }
}

fn has_labels(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// How each sidecar checks its own application. Exactly one of `http`, `grpc` and `tcp` is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// A GET request to each HTTP and HTTP2 port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpProbe>,
    /// gRPC's health protocol on each GRPC port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcProbe>,
    /// A connection to each port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpProbe>,
    /// Time between checks.
    #[serde(default = "HealthCheck::default_interval")]
    pub interval: Timespan,
    /// How long a check may take.
    #[serde(default = "HealthCheck::default_timeout")]
    pub timeout: Timespan,
    /// How many good checks make an unhealthy application healthy.
    #[serde(default = "HealthCheck::default_healthy_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: u32,
    /// How many bad checks make a healthy application unhealthy.
    #[serde(default = "HealthCheck::default_unhealthy_threshold")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: u32,
}

/// A GET request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// The path, with a query where one is wanted.
    pub path: String,
    /// The statuses that are good; 200 to 299 when none is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_statuses: Vec<StatusRange>,
}

/// gRPC's health protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcProbe {
    /// The service asked for; empty asks for the whole server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
}

/// A connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {}

/// The one probe of a [`HealthCheck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<'a> {
    /// A GET request to each HTTP and HTTP2 port.
    Http(&'a HttpProbe),
    /// gRPC's health protocol on each GRPC port.
    Grpc(&'a GrpcProbe),
    /// A connection to each port.
    Tcp,
}

impl Probe<'_> {
    /// Whether ports of this protocol are checked.
    #[must_use]
    pub const fn fits(&self, protocol: Protocol) -> bool {
        match self {
            Self::Http(_) => matches!(protocol, Protocol::Http | Protocol::Http2),
            Self::Grpc(_) => matches!(protocol, Protocol::Grpc),
            Self::Tcp => true,
        }
    }
}

impl HealthCheck {
    /// The one probe that is set; `None` only in a spec that `check` refuses.
    #[must_use]
    pub fn probe(&self) -> Option<Probe<'_>> {
        match (&self.http, &self.grpc, &self.tcp) {
            (Some(http), None, None) => Some(Probe::Http(http)),
            (None, Some(grpc), None) => Some(Probe::Grpc(grpc)),
            (None, None, Some(_)) => Some(Probe::Tcp),
            _ => None,
        }
    }

    fn default_interval() -> Timespan {
        Timespan::from_secs(10)
    }

    fn default_timeout() -> Timespan {
        Timespan::from_secs(1)
    }

    fn default_healthy_threshold() -> u32 {
        1
    }

    fn default_unhealthy_threshold() -> u32 {
        3
    }

    fn check(&self, ports: &[Port], out: &mut Findings) {
        match self.probe() {
            None => {
                out.add(Code::Inconsistent, "exactly one of http, grpc and tcp must be set");
            }
            Some(probe) if !ports.iter().any(|port| probe.fits(port.protocol)) => {
                out.add(Code::ProtocolMismatch, "no port of this service speaks what the health check asks")
                    .hint("http checks HTTP and HTTP2 ports, grpc checks GRPC ports, tcp checks any");
            }
            Some(_) => {}
        }
        if let Some(http) = &self.http {
            let fits =
                http.path.starts_with('/') && http.path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
            if !fits {
                out.at("http", |out| {
                    out.add_at("path", Code::InvalidValue, "must begin with / and hold no spaces")
                        .value(&http.path);
                });
            }
        }
        for (field, span) in [("interval", self.interval), ("timeout", self.timeout)] {
            if span.is_zero() {
                out.add_at(field, Code::InvalidValue, "must be longer than zero").value(span);
            }
        }
        if self.timeout > self.interval {
            out.add_at(
                "timeout",
                Code::Inconsistent,
                format!("must not exceed the interval of {}", self.interval),
            )
            .value(self.timeout);
        }
    }
}

impl Service {
    /// The port with this name.
    #[must_use]
    pub fn port(&self, name: &Name) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == *name)
    }

    /// The port with this number.
    #[must_use]
    pub fn port_number(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.port == number)
    }

    /// The port that a reference means.
    #[must_use]
    pub fn find_port(&self, port: &crate::value::PortRef) -> Option<&Port> {
        match port {
            crate::value::PortRef::Number(number) => self.port_number(*number),
            crate::value::PortRef::Name(name) => self.port(name),
        }
    }

    /// The subset with this name.
    #[must_use]
    pub fn subset(&self, name: &Name) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name == *name)
    }
}

impl Spec for Service {
    const KIND: Kind = Kind::Service;

    fn check(&self, metadata: &Metadata, out: &mut Findings) {
        if self.ports.is_empty() {
            out.add_at("ports", Code::Required, "a service has at least one port");
        }
        out.unique("ports", &self.ports, "name", |port| port.name.clone());
        out.unique("ports", &self.ports, "port", |port| port.port);
        out.each("ports", &self.ports, |out, port| {
            let length = port.name.as_str().len() + metadata.name.as_str().len() + metadata.namespace.as_str().len();
            if length > SNI_LABELS_MAX {
                let message = format!(
                    "port, service and namespace have {length} characters together, {SNI_LABELS_MAX} at most fit a server name"
                );
                out.add_at("name", Code::InvalidValue, message).value(&port.name);
            }
        });
        if let Some(selector) = &self.selector {
            out.at("selector", |out| {
                if selector.match_labels.is_empty() {
                    out.add_at("matchLabels", Code::Required, "at least one label is needed")
                        .hint("leave selector out where workloads name the service themselves");
                }
                out.at("matchLabels", |out| check_labels(&selector.match_labels, out));
            });
        }
        out.unique("subsets", &self.subsets, "name", |subset| subset.name.clone());
        out.each("subsets", &self.subsets, |out, subset| {
            if subset.match_labels.is_empty() {
                out.add_at("matchLabels", Code::Required, "at least one label is needed");
            }
            out.at("matchLabels", |out| check_labels(&subset.match_labels, out));
        });
        if let Some(check) = &self.health_check {
            out.at("healthCheck", |out| check.check(&self.ports, out));
        }
        for (index, hostname) in self.hostnames.iter().enumerate() {
            if hostname.is_wildcard() {
                out.at("hostnames", |out| {
                    out.add_at(index, Code::InvalidValue, "a service's host name cannot be a wildcard")
                        .value(hostname);
                });
            }
        }
    }
}
