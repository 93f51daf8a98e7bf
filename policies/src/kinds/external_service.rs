//! ExternalService: something outside of the mesh, by the names under which the mesh's applications call it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weft_api::Name;

use super::port::{Port, Protocol};
use super::reference::{ClientKind, ClientRef};
use crate::value::{HostAddress, Hostname, PortRef, SubjectAltName};

mod check;
mod in_set;
mod spec;

/// Something outside of the mesh. It shares its names with the Services of its namespace: edges, statistics and policies
/// name both alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalService {
    /// The names by which applications call it; `*.NAME` stands for all names below one, each of which is looked up by
    /// itself.
    pub hosts: Vec<Hostname>,
    /// Where applications call it; `targetPort` is the port outside, where that is another one.
    pub ports: Vec<Port>,
    /// How it is found: by addresses that are written here, or by names that each proxy looks up.
    #[serde(default)]
    pub resolution: HostResolution,
    /// Where it is. May be left out with `DNS`: then the hosts themselves are looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<ExternalEndpoint>,
    /// Whether the proxies of the callers speak TLS to it; the application's own bytes go out as they are where it is left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ExternalTls>,
    /// The only callers whose sidecars lead there; all where it is left out. It binds nobody who goes around a sidecar.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientRef>,
}

/// How something outside is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HostResolution {
    /// At the addresses of `endpoints`.
    Static,
    /// By names, which each caller's proxy looks up.
    #[default]
    #[serde(rename = "DNS")]
    Dns,
}

/// One place of something outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalEndpoint {
    /// An IP address, or with resolution `DNS` a name.
    pub address: HostAddress,
    /// Its port; that of the service where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

/// TLS that the caller's proxy speaks, with a certificate of nobody: it shows none of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExternalTls {
    /// Whether the proxy speaks it. `Originate` unless it is written.
    #[serde(default)]
    pub mode: ExternalTlsMode,
    /// The server name that is asked for; the host where there is one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sni: Option<Hostname>,
    /// Certificates of the authorities that may have issued the server's, in PEM; those of the proxy's system where it is
    /// left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_certificates: Option<String>,
    /// The names of which the server's certificate must have one: DNS names, addresses or URIs; `sni` where it is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// Who speaks TLS to something outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTlsMode {
    /// The application, or nobody.
    None,
    /// The caller's proxy. Ports of protocol TLS are left to the application.
    #[default]
    Originate,
}

impl ExternalService {
    /// What the caller's proxy secures connections to a port with, where it does.
    #[must_use]
    pub fn originates(&self, protocol: Protocol) -> Option<&ExternalTls> {
        match protocol {
            Protocol::Tls => None,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tcp => {
                self.tls.as_ref().filter(|tls| tls.mode == ExternalTlsMode::Originate)
            }
        }
    }

    /// The server name that is asked for.
    #[must_use]
    pub fn server_name<'a>(&'a self, tls: &'a ExternalTls) -> Option<&'a Hostname> {
        tls.sni.as_ref().or(match &self.hosts[..] {
            [only] => Some(only),
            _ => None,
        })
    }

    /// The host that it is called by where the caller names none: the first that is no wildcard.
    #[must_use]
    pub fn host(&self) -> Option<&Hostname> {
        self.hosts.iter().find(|host| !host.is_wildcard())
    }

    /// Whether each request says which host is looked up, so that nothing leads there without one.
    #[must_use]
    pub fn is_on_demand(&self) -> bool {
        self.endpoints.is_empty() && (self.hosts.len() > 1 || self.hosts.iter().any(Hostname::is_wildcard))
    }

    /// Whether callers of a namespace are led there.
    #[must_use]
    pub fn is_for(&self, namespace: &Name) -> bool {
        self.clients.is_empty() || self.names_client(namespace)
    }

    /// Whether callers of a namespace are named.
    #[must_use]
    pub fn names_client(&self, namespace: &Name) -> bool {
        self.clients.iter().any(|client| client.kind == ClientKind::Namespace && client.name == *namespace)
    }

    /// The port that a reference means.
    #[must_use]
    pub fn find_port(&self, port: &PortRef) -> Option<&Port> {
        super::port::find(&self.ports, port)
    }
}
