//! How each sidecar checks its own application.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::finding::{Code, Findings};
use crate::kinds::port::{Port, Protocol};
use crate::value::{StatusRange, Timespan};

/// How each sidecar checks its own application. Exactly one of `http`, `grpc`, `tcp` and `none` is set.
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
    /// No check at all: the application counts as healthy whenever its sidecar is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub none: Option<NoProbe>,
    /// Time between two checks of one application.
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

/// A GET request, good by the status of its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// The path, with a query where one is wanted.
    pub path: String,
    /// The statuses that are good; 200 to 299 when none is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_statuses: Vec<StatusRange>,
}

/// gRPC's health protocol, good where it answers SERVING.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrpcProbe {
    /// The service asked for; empty asks for the whole server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub service: String,
}

/// A TCP connection, good where it is taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TcpProbe {}

/// Members count as healthy while they are connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NoProbe {}

/// The one probe of a [`HealthCheck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe<'a> {
    /// A GET request to each HTTP and HTTP2 port.
    Http(&'a HttpProbe),
    /// gRPC's health protocol on each GRPC port.
    Grpc(&'a GrpcProbe),
    /// A connection to each port.
    Tcp,
    /// Nothing: see [`NoProbe`].
    None,
}

impl Probe<'_> {
    /// Whether ports of this protocol are checked.
    #[must_use]
    pub const fn fits(&self, protocol: Protocol) -> bool {
        match self {
            Self::Http(_) => matches!(protocol, Protocol::Http | Protocol::Http2),
            Self::Grpc(_) => matches!(protocol, Protocol::Grpc),
            Self::Tcp => true,
            Self::None => false,
        }
    }
}

impl HealthCheck {
    /// The one probe that is set; `None` only in a spec that `check` refuses.
    #[must_use]
    pub fn probe(&self) -> Option<Probe<'_>> {
        match (&self.http, &self.grpc, &self.tcp, &self.none) {
            (Some(http), None, None, None) => Some(Probe::Http(http)),
            (None, Some(grpc), None, None) => Some(Probe::Grpc(grpc)),
            (None, None, Some(_), None) => Some(Probe::Tcp),
            (None, None, None, Some(_)) => Some(Probe::None),
            _ => None,
        }
    }

    /// What holds where a Service says nothing: an application that does not listen is found, whatever it speaks.
    #[must_use]
    pub fn implicit() -> Self {
        Self {
            http: None,
            grpc: None,
            tcp: Some(TcpProbe {}),
            none: None,
            interval: Timespan::from_secs(2),
            timeout: Self::default_timeout(),
            healthy_threshold: Self::default_healthy_threshold(),
            unhealthy_threshold: 2,
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

    pub(super) fn check(&self, ports: &[Port], out: &mut Findings) {
        match self.probe() {
            None => {
                out.add(Code::Inconsistent, "exactly one of http, grpc, tcp and none must be set");
            }
            Some(Probe::None) => {}
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
