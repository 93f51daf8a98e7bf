//! What a joiner says about itself, read strictly: nothing of it decides who the joiner is.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use weft_api::text::shorten;
use weft_api::{Name, ServiceId, join};
use weft_policies::value::PeerAddress;

use crate::identity::tokens::{LabelPattern, TokenRecord, is_label_key, is_label_value};
use crate::presence::workloads::{Declared, DeclaredProxy, DeclaredUpstream};

const MAX_LABELS: usize = 32;
const MAX_PORTS: usize = 64;
const MAX_UPSTREAMS: usize = 128;
/// Longest path of a directory, in bytes.
const MAX_DIRECTORY: usize = 1024;

/// What is wrong with a declaration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeclarationError {
    /// A field that cannot be read.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field of the request.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A label that the token does not permit.
    #[error("the token does not permit the label {0}={1}; make one with `--allow-label {0}={1}`")]
    Label(String, String),
    /// An address outside of what the token permits.
    #[error(
        "the token does not permit the address {0}, only {1}; declare another --address, or make a token with \
         `--allow-address {0}`"
    )]
    Address(IpAddr, String),
    /// Nothing beside the application, which the token does not permit.
    #[error(
        "the token does not permit a workload without a proxy, which peers reach in plain text; make one with \
         `--allow-no-proxy`"
    )]
    NoProxy,
}

/// Reads a declaration within what a token permits. `source` is where the join came from; none when that is not known.
///
/// # Errors
/// At the first field that is invalid, or that the token does not permit.
pub(super) fn read(
    workload: &join::Workload,
    token: &TokenRecord,
    source: Option<IpAddr>,
) -> Result<Declared, DeclarationError> {
    Ok(Declared {
        address: address(&workload.address, token, source)?,
        app_ports: app_ports(&workload.app_ports)?,
        labels: labels(&workload.labels, &token.allow_labels)?,
        region: place("region", &workload.region)?,
        zone: place("zone", &workload.zone)?,
        upstreams: upstreams(&workload.upstreams)?,
        proxy: proxy(workload.proxy_type, token)?,
        inbound: listener("inbound", &workload.inbound)?,
        outbound: listener("outbound", &workload.outbound)?,
        client: workload.client,
        access_log_dir: directory(&workload.access_log_dir)?,
    })
}

/// Any machine's address, but loopback only from a joiner on this very machine: to all others it would be themselves.
fn address(text: &str, token: &TokenRecord, source: Option<IpAddr>) -> Result<IpAddr, DeclarationError> {
    let address: IpAddr = text.parse().map_err(|_| invalid("address", "write one IP address".to_owned()))?;
    let address = PeerAddress::try_new(address)
        .map_err(|error| invalid("address", format!("{address}: {error}")))?
        .ip();
    if address.is_loopback() && !source.is_some_and(|source| source.to_canonical().is_loopback()) {
        let reason = format!(
            "{address} is loopback, which is another machine to each peer; declare the address that peers reach with \
             --address"
        );
        return Err(invalid("address", reason));
    }
    let allowed = &token.allow_addresses;
    if !allowed.is_empty() && !allowed.iter().any(|range| range.contains(address)) {
        let ranges: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        return Err(DeclarationError::Address(address, ranges.join(", ")));
    }
    Ok(address)
}

fn app_ports(ports: &HashMap<String, u32>) -> Result<BTreeMap<String, u16>, DeclarationError> {
    at_most("app_ports", ports.len(), MAX_PORTS)?;
    let read = |(name, port): (&String, &u32)| {
        Name::try_new(name).map_err(|error| invalid("app_ports", error.to_string()))?;
        let number = u16::try_from(*port).ok().filter(|port| *port != 0);
        let number =
            number.ok_or_else(|| invalid("app_ports", format!("{name}={port} is no port number")))?;
        Ok((name.clone(), number))
    };
    ports.iter().map(read).collect()
}

fn labels(
    labels: &HashMap<String, String>,
    allowed: &[LabelPattern],
) -> Result<BTreeMap<String, String>, DeclarationError> {
    at_most("labels", labels.len(), MAX_LABELS)?;
    for (key, value) in labels {
        if !is_label_key(key) || !is_label_value(value) {
            return Err(invalid("labels", format!("{:?} is no label", shorten(&format!("{key}={value}")))));
        }
        if !allowed.iter().any(|pattern| pattern.permits(key, value)) {
            return Err(DeclarationError::Label(key.clone(), value.clone()));
        }
    }
    Ok(labels.clone().into_iter().collect())
}

fn upstreams(upstreams: &[join::Upstream]) -> Result<Vec<DeclaredUpstream>, DeclarationError> {
    at_most("upstreams", upstreams.len(), MAX_UPSTREAMS)?;
    let read = |upstream: &join::Upstream| {
        let service: ServiceId =
            upstream.service.parse().map_err(|error| invalid("upstreams", format!("{error}")))?;
        let port = upstream.port.clone();
        if Name::try_new(&port).is_err() && !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(invalid("upstreams", format!("{:?} is no port name or number", shorten(&port))));
        }
        let bind = listener("upstreams", &upstream.bind)?
            .ok_or_else(|| invalid("upstreams", format!("{service} has no IP:PORT to listen on")))?;
        Ok(DeclaredUpstream { service, port, bind })
    };
    upstreams.iter().map(read).collect()
}

fn proxy(value: i32, token: &TokenRecord) -> Result<DeclaredProxy, DeclarationError> {
    match join::ProxyType::try_from(value) {
        Ok(join::ProxyType::Weft) => Ok(DeclaredProxy::Weft),
        Ok(join::ProxyType::Envoy) => Ok(DeclaredProxy::Envoy),
        Ok(join::ProxyType::Grpc) => Ok(DeclaredProxy::Grpc),
        Ok(join::ProxyType::None) if token.allow_no_proxy => Ok(DeclaredProxy::None),
        Ok(join::ProxyType::None) => Err(DeclarationError::NoProxy),
        Ok(join::ProxyType::Unspecified) | Err(_) => {
            Err(invalid("proxy_type", "say which proxy stands beside the application".to_owned()))
        }
    }
}

fn place(field: &'static str, text: &str) -> Result<String, DeclarationError> {
    if is_label_value(text) {
        return Ok(text.to_owned());
    }
    Err(invalid(field, format!("{:?}: use at most 63 letters, digits, '-', '_' and '.'", shorten(text))))
}

fn listener(field: &'static str, text: &str) -> Result<Option<SocketAddr>, DeclarationError> {
    if text.is_empty() {
        return Ok(None);
    }
    let address: Option<SocketAddr> = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.map(Some).ok_or_else(|| invalid(field, format!("{:?} is not IP:PORT", shorten(text))))
}

/// A directory of the joiner's own machine, of which nothing is known here.
fn directory(text: &str) -> Result<Option<String>, DeclarationError> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_plain =
        text.split('/').all(|part| part != "." && part != "..") && !text.contains(char::is_control);
    if !text.starts_with('/') || !is_plain || text.len() > MAX_DIRECTORY {
        let reason = format!(
            "{:?}: write an absolute path without `..`, of at most {MAX_DIRECTORY} bytes",
            shorten(text)
        );
        return Err(invalid("access_log_dir", reason));
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

fn at_most(field: &'static str, count: usize, most: usize) -> Result<(), DeclarationError> {
    if count <= most {
        Ok(())
    } else {
        Err(invalid(field, format!("{count} are too many; the most is {most}")))
    }
}

fn invalid(field: &'static str, reason: String) -> DeclarationError {
    DeclarationError::Invalid { field, reason }
}
