//! What makes an ExternalService valid by itself.

use std::net::IpAddr;

use x509_parser::pem::Pem;

use super::{ExternalEndpoint, ExternalService, ExternalTls, ExternalTlsMode, HostResolution};
use crate::finding::{Code, Findings};
use crate::kinds::port::Protocol;
use crate::kinds::reference::ClientKind;
use crate::metadata::Metadata;
use crate::value::{HostAddress, Hostname};

/// Each is a domain of virtual hosts of all callers.
const HOSTS_MAX: usize = 64;
const ENDPOINTS_MAX: usize = 256;
/// Each is a cluster, and virtual hosts of all callers.
const PORTS_MAX: usize = 32;
/// In bytes. They stand in the cluster of each port.
const CA_MAX: usize = 64 << 10;

pub(super) fn check(external: &ExternalService, _metadata: &Metadata, out: &mut Findings) {
    for (field, what, length, most) in [
        ("hosts", "host", external.hosts.len(), HOSTS_MAX),
        ("ports", "port", external.ports.len(), PORTS_MAX),
    ] {
        if length == 0 {
            out.add_at(field, Code::Required, format!("at least one {what} is needed"));
        } else if length > most {
            out.add_at(field, Code::InvalidValue, format!("there are at most {most}")).value(length);
        }
    }
    out.unique("ports", &external.ports, "name", |port| port.name.clone());
    out.unique("ports", &external.ports, "port", |port| port.port);
    out.each("hosts", &external.hosts, |out, host| {
        if host.as_str().ends_with(".mesh") {
            out.add(Code::InvalidValue, "names that end in .mesh are those of services of the mesh")
                .value(host);
        }
    });
    check_endpoints(external, out);
    if let Some(tls) = &external.tls {
        out.at("tls", |out| match tls.mode {
            ExternalTlsMode::None => check_unused(tls, out),
            ExternalTlsMode::Originate => check_tls(external, tls, out),
        });
    }
    out.each("clients", &external.clients, |out, client| {
        if client.kind == ClientKind::Service {
            out.not_supported("kind", "a Service as client of an ExternalService")
                .value("Service")
                .hint("name its namespace: kind: Namespace");
        }
    });
    out.unique("clients", &external.clients, "name", |client| client.name.clone());
}

fn check_endpoints(external: &ExternalService, out: &mut Findings) {
    let endpoints = &external.endpoints;
    if endpoints.len() > ENDPOINTS_MAX {
        let message = format!("there are at most {ENDPOINTS_MAX}");
        out.add_at("endpoints", Code::InvalidValue, message).value(endpoints.len());
    }
    if let Some(wildcard) = external.hosts.iter().find(|host| host.is_wildcard()) {
        let reason = format!("{wildcard} stands for many hosts, each of which is looked up by itself");
        if external.resolution == HostResolution::Static {
            out.add_at("resolution", Code::Inconsistent, reason.clone()).hint("write resolution: DNS");
        }
        if !endpoints.is_empty() {
            out.add_at("endpoints", Code::Inconsistent, reason).hint("leave endpoints out");
        }
    } else if external.resolution == HostResolution::Static && endpoints.is_empty() {
        out.add_at("endpoints", Code::Required, "with resolution Static, at least one address is needed");
    }
    if external.is_on_demand() {
        out.each("ports", &external.ports, |out, port| {
            if port.target_port.is_some_and(|target| target != port.port) {
                let reason =
                    "hosts that are looked up by themselves are called on the port that the caller names";
                out.add_at("targetPort", Code::Inconsistent, reason).hint("leave targetPort out");
            }
            if matches!(port.protocol, Protocol::Http2 | Protocol::Grpc) {
                out.not_supported("protocol", "HTTP/2 to several hosts of one ExternalService")
                    .value(port.protocol)
                    .hint("make an ExternalService for each host");
            }
        });
    }
    out.each("endpoints", endpoints, |out, endpoint| check_endpoint(external, endpoint, out));
    out.unique("endpoints", endpoints, "address", |endpoint| {
        let port = endpoint.port.map(|port| format!(" port {port}")).unwrap_or_default();
        format!("{}{port}", endpoint.address)
    });
}

fn check_endpoint(external: &ExternalService, endpoint: &ExternalEndpoint, out: &mut Findings) {
    match &endpoint.address {
        HostAddress::Name(name) => {
            if external.resolution == HostResolution::Static {
                out.add_at(
                    "address",
                    Code::Inconsistent,
                    "with resolution Static, endpoints are IP addresses",
                )
                .value(name)
                .hint("write resolution: DNS");
            } else if name.is_wildcard() {
                out.add_at("address", Code::InvalidValue, "a wildcard cannot be looked up").value(name);
            }
        }
        HostAddress::Ip(address) if is_of_the_link(address.ip()) => {
            let message =
                "answers on a machine's own link, as metadata services of clouds do: nothing is led there";
            out.add_at("address", Code::InvalidValue, message).value(address);
        }
        HostAddress::Ip(_) => {}
    }
}

fn is_of_the_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn check_unused(tls: &ExternalTls, out: &mut Findings) {
    let written = [
        ("sni", tls.sni.is_some()),
        ("caCertificates", tls.ca_certificates.is_some()),
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
    ];
    for (field, _) in written.into_iter().filter(|(_, is_set)| *is_set) {
        out.add_at(field, Code::Inconsistent, "has no effect with mode None").hint("write mode: Originate");
    }
}

fn check_tls(external: &ExternalService, tls: &ExternalTls, out: &mut Findings) {
    if external.ports.iter().all(|port| port.protocol == Protocol::Tls) && !external.ports.is_empty() {
        out.add_at(
            "mode",
            Code::Inconsistent,
            "on ports of protocol TLS it is the application that speaks TLS",
        )
        .hint("leave tls out, or give the port the protocol that is spoken within");
    }
    if external.is_on_demand() {
        out.not_supported("mode", "TLS of the proxy's own to several hosts of one ExternalService")
            .value("Originate")
            .hint("make an ExternalService for each host, or let the application speak TLS: protocol: TLS");
    } else if external.server_name(tls).is_none_or(Hostname::is_wildcard) {
        let (code, message) = match &tls.sni {
            Some(_) => (Code::InvalidValue, "a server name is that of one server"),
            None => (
                Code::Required,
                "of several hosts, say which name is asked for and must stand in the certificate",
            ),
        };
        out.add_at("sni", code, message);
    }
    if let Some(pem) = &tls.ca_certificates {
        check_authorities(pem, out);
    }
}

fn check_authorities(text: &str, out: &mut Findings) {
    if text.len() > CA_MAX {
        out.add_at("caCertificates", Code::TooLarge, format!("has more than {CA_MAX} bytes"))
            .value(text.len());
        return;
    }
    let mut found = 0;
    for (index, pem) in Pem::iter_from_buffer(text.as_bytes()).enumerate() {
        let flaw = match &pem {
            Err(error) => Some(format!("block {index} is no PEM: {error}")),
            // What is said of it is not shown: it may be a key.
            Ok(pem) if pem.label != "CERTIFICATE" => Some(format!("block {index} is not a certificate")),
            Ok(pem) => pem.parse_x509().err().map(|_| format!("block {index} is not a certificate of X.509")),
        };
        if let Some(flaw) = flaw {
            out.add_at("caCertificates", Code::InvalidValue, flaw);
        }
        found += 1;
    }
    if found == 0 {
        out.add_at("caCertificates", Code::InvalidValue, "holds no certificate")
            .hint("write it as PEM, from -----BEGIN CERTIFICATE----- on");
    }
}
